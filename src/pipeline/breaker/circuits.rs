//! The circuits of one portal: one for all requests, and one each for searches, reads and writes of leads.
//!
//! HubSpot's search, or its writes, can hang while HubSpot responds to everything else. Those responses
//! show that HubSpot is up, so the circuit for all requests stays closed, and each search or write would
//! wait until its deadline.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::circuit::{Circuit, Health};
use crate::hubspot::Operation;

/// The requests that a circuit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitScope {
    /// All requests.
    All,
    /// Searches. The circuits of one kind of request open only if these hang: a request that HubSpot fails
    /// may be one that it cannot run, and must not affect those of other callers.
    Searches,
    /// Reads of leads and of their associations.
    Reads,
    /// Writes of leads and of their associations.
    Writes,
}

/// State of one circuit for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerStats {
    /// The requests that the circuit is for.
    pub scope: CircuitScope,
    /// Number of times that it opened.
    pub opened: u64,
    /// True if it is open now.
    pub is_open: bool,
}

/// All scopes, in the order of their values.
const ALL: [CircuitScope; SCOPES] =
    [CircuitScope::All, CircuitScope::Searches, CircuitScope::Reads, CircuitScope::Writes];

/// Number of scopes.
pub(super) const SCOPES: usize = 4;

/// The circuits of one portal.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Circuits {
    circuits: [Circuit; SCOPES],
    opened: [AtomicU64; SCOPES],
}

// === impl CircuitScope ===

impl CircuitScope {
    /// Name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Searches => "searches",
            Self::Reads => "reads",
            Self::Writes => "writes",
        }
    }

    /// Scopes of an operation, `All` first.
    pub(super) fn of(operation: Operation) -> &'static [Self] {
        match operation {
            Operation::Search => &[Self::All, Self::Searches],
            Operation::Get
            | Operation::List
            | Operation::BatchRead
            | Operation::ReadAssociations
            | Operation::ListAssociations => &[Self::All, Self::Reads],
            Operation::Create
            | Operation::Update
            | Operation::Archive
            | Operation::BatchCreate
            | Operation::BatchUpdate
            | Operation::BatchArchive
            | Operation::CreateAssociations
            | Operation::ArchiveAssociations
            | Operation::ArchiveAssociationTypes => &[Self::All, Self::Writes],
            // Few requests, to other parts of HubSpot.
            Operation::ListProperties
            | Operation::ListPipelines
            | Operation::ListOwners
            | Operation::ListAssociationTypes
            | Operation::ListValidationRules
            | Operation::FindContacts
            | Operation::CreateContacts => &[Self::All],
        }
    }
}

// === impl Circuits ===

impl Circuits {
    /// The circuit of a scope.
    pub(super) fn get(&self, scope: CircuitScope) -> &Circuit {
        &self.circuits[scope as usize]
    }

    /// The circuits of an operation.
    pub(super) fn of(&self, operation: Operation) -> impl Iterator<Item = &Circuit> {
        CircuitScope::of(operation).iter().map(|scope| self.get(*scope))
    }

    /// Admits a request. Errors with the scope of an open circuit and the time to wait.
    pub(super) fn admit(
        &self,
        operation: Operation,
        now: Instant,
    ) -> Result<(), (CircuitScope, Duration)> {
        CircuitScope::of(operation).iter().try_for_each(|scope| {
            self.get(*scope).admit(now, rand::random).map_err(|pause| (*scope, pause))
        })
    }

    /// Records the verdict of a request in one scope. Returns true if it opened the circuit.
    pub(super) fn record(&self, scope: CircuitScope, health: Health, now: Instant) -> bool {
        let circuit = self.get(scope);
        let is_all = scope == CircuitScope::All;
        let has_opened = match health {
            Health::Down if !is_all => {
                circuit.silence().on_response();
                false
            }
            // HubSpot responds to nothing.
            Health::Overdue if !is_all && self.get(CircuitScope::All).is_open() => false,
            Health::Up | Health::Down | Health::Overdue => {
                circuit.record(health, now, rand::random)
            }
        };
        if has_opened {
            self.opened[scope as usize].fetch_add(1, Ordering::Relaxed);
        }
        has_opened
    }

    /// The first circuit that holds an operation back because HubSpot is silent.
    pub(super) fn holding(&self, operation: Operation) -> Option<&Circuit> {
        self.of(operation).find(|circuit| circuit.silence().holds() && !circuit.is_open())
    }

    /// State of all circuits.
    pub(in crate::pipeline) fn stats(&self) -> [BreakerStats; SCOPES] {
        ALL.map(|scope| {
            let opened = self.opened[scope as usize].load(Ordering::Relaxed);
            BreakerStats { scope, opened, is_open: self.get(scope).is_open() }
        })
    }
}
