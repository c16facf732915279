//! Verdicts about the writes of one call.

use std::sync::Arc;

use crate::leads::{
    charge::{MemoryAccount, MemoryCharge},
    error::{Error, FieldFault, Reason},
    memory::memory_of,
    schema::PartKey,
    validation::Violation,
};

/// Verdicts about the writes of one call. Writes that are not listed are valid, or were not checked.
#[derive(Debug, Default)]
pub(in crate::leads) struct Verdicts {
    /// Errors of the writes that are refused, by index, in order.
    refused: Vec<(usize, Error)>,
    /// Doubts about writes that are sent, by index, in order.
    doubted: Vec<(usize, Doubts)>,
    /// Memory of the errors.
    charge: Option<MemoryCharge>,
}

/// Violations of a write that is sent, because they are not certain.
#[derive(Debug, Default)]
pub(in crate::leads) struct Doubts(Vec<Violation>);

/// Builder of the errors of one call. Equal errors in a row share their texts.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    last: Option<Error>,
}

// === impl Verdicts ===

impl Verdicts {
    pub(super) fn new(account: &Arc<dyn MemoryAccount>) -> Self {
        Self { charge: Some(MemoryCharge::new(account)), ..Self::default() }
    }

    pub(super) fn refuse(&mut self, index: usize, error: Error) {
        if let Some(charge) = &mut self.charge {
            charge.set(charge.bytes() + memory_of(&error));
        }
        self.refused.push((index, error));
    }

    pub(super) fn doubt(&mut self, index: usize, doubts: Doubts) {
        self.doubted.push((index, doubts));
    }

    /// The verdict about a single write: its error, or the doubts with which it is sent.
    pub(in crate::leads) fn into_single(mut self) -> Result<Doubts, Error> {
        match self.refused.pop() {
            Some((_, error)) => Err(error),
            None => Ok(self.doubted.pop().map(|(_, doubts)| doubts).unwrap_or_default()),
        }
    }

    /// Errors of the writes that are refused, by index, in order.
    pub(in crate::leads) fn refused(&self) -> &[(usize, Error)] {
        &self.refused
    }

    /// Doubts about writes that are sent, by index, in order.
    pub(in crate::leads) fn doubted(&self) -> &[(usize, Doubts)] {
        &self.doubted
    }
}

// === impl Doubts ===

impl Doubts {
    pub(super) fn new(violations: Vec<Violation>) -> Self {
        Self(violations)
    }

    /// The violations that HubSpot's rejection confirms: those of the properties that it names.
    pub(super) fn confirmed_by(&self, error: &Error) -> impl Iterator<Item = &Violation> {
        let is_rejection = error.reason() == Reason::ValidationFailed;
        let is_named = move |violation: &&Violation| {
            let own = violation.fault.property();
            own.is_some() && error.fields().iter().any(|fault| fault.property() == own)
        };
        let all = self.0.iter().filter(move |_| is_rejection);
        all.filter(is_named)
    }

    /// Parts of the schema that HubSpot contradicts by accepting the write.
    pub(super) fn parts(&self) -> impl Iterator<Item = PartKey> {
        self.0.iter().map(Violation::part)
    }
}

// === impl Refusals ===

impl Refusals {
    /// The error of a write with these violations.
    pub(super) fn error(&mut self, violations: Vec<Violation>) -> Error {
        let faults: Vec<FieldFault> =
            violations.into_iter().map(|violation| violation.fault).collect();
        if let Some(last) = self.last.as_ref().filter(|last| last.fields() == faults) {
            return last.clone();
        }
        let error = Error::invalid(faults);
        self.last = Some(error.clone());
        error
    }
}
