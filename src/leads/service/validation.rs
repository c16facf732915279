//! Validation of writes: alone, and of the open inputs of a batch before they are sent.

use super::{Service, outcome::Results};
use crate::leads::{
    association_change::AssociationChange,
    batch::BatchProgress,
    contacts::ContactByEmail,
    context::CallContext,
    error::Error,
    labels::{LabelTarget, Labelled},
    validator::{Doubts, Proposed, Validator, Verdicts, Writes},
    write::{CreateLead, Traced, UpdateLead, UpsertLead},
};

/// Writes that are validated and not sent.
#[derive(Debug)]
pub enum Validated {
    /// A new lead.
    Create(Labelled<CreateLead>),
    /// New leads.
    Creates(Vec<Labelled<Traced<CreateLead>>>),
    /// A lead to change.
    Update(Labelled<UpdateLead>),
    /// Leads to change.
    Updates(Vec<Labelled<Traced<UpdateLead>>>),
    /// Leads to create or change.
    Upserts(Vec<Labelled<Traced<UpsertLead>>>),
    /// Associations to make or remove.
    Associations {
        /// Object type of the records.
        to: String,
        /// The changes.
        changes: Vec<Labelled<AssociationChange>>,
    },
}

/// Inputs of a batch that are sent with doubts. Holds the charge of the errors of the others.
#[derive(Debug, Default)]
pub(super) struct Admission {
    verdicts: Verdicts,
    /// Indices of the validated inputs in the batch.
    indices: Vec<usize>,
}

// === impl Service ===

impl Service {
    /// Resolves the labels of writes and validates them against the schema of the portal, and sends nothing.
    /// Returns one result per write. Errors as a whole if the schema cannot be read.
    pub async fn validate(&self, ctx: &CallContext, writes: Validated) -> Results<()> {
        let refusals = refusals(ctx, &writes);
        let mut results = match writes {
            Validated::Create(write) => self.validate_all(ctx, "", vec![write]).await,
            Validated::Creates(writes) => self.validate_all(ctx, "", writes).await,
            Validated::Update(write) => self.validate_all(ctx, "", vec![write]).await,
            Validated::Updates(writes) => self.validate_all(ctx, "", writes).await,
            Validated::Upserts(writes) => self.validate_all(ctx, "", writes).await,
            Validated::Associations { to, changes } => self.validate_all(ctx, &to, changes).await,
        }?;
        for (index, refusal) in refusals {
            if let Some(result) = results.get_mut(index) {
                *result = Err(refusal);
            }
        }
        Ok(results)
    }

    /// Validates the write of a single lead. Errors if it is refused.
    pub async fn validate_one(&self, ctx: &CallContext, write: Validated) -> Result<(), Error> {
        self.validate(ctx, write).await?.into_iter().collect()
    }

    /// Validates writes of one kind. Without any that has ids for its labels, the schema is not read again.
    async fn validate_all<T: Proposed + LabelTarget>(
        &self,
        ctx: &CallContext,
        to: &str,
        writes: Vec<Labelled<T>>,
    ) -> Results<()> {
        let resolved = self.labels.resolve(ctx, writes).await;
        let named: Vec<&T> = resolved.results.iter().flatten().collect();
        if named.is_empty() {
            return Ok(resolved.results.into_iter().map(|result| result.map(drop)).collect());
        }
        let errors = self.validator.validate(ctx, &T::writes(named, to)).await?;
        let mut errors = errors.into_iter();
        let result = |result: Result<T, Error>| match result {
            Ok(_) => errors.next().flatten().map_or(Ok(()), Err),
            Err(error) => Err(error),
        };
        Ok(resolved.results.into_iter().map(result).collect())
    }
}

// === impl Admission ===

impl Admission {
    /// Validates the open inputs of a batch, and settles those that are refused. Returns the others. An input
    /// whose outcome is open from an earlier call is not validated: it may have been written. `to` is the
    /// object type of associations.
    pub(super) async fn of_batch<I: Proposed, T: Clone>(
        validator: &Validator,
        ctx: &CallContext,
        to: &str,
        mut open: Vec<(usize, I)>,
        progress: &BatchProgress<T>,
    ) -> (Vec<(usize, I)>, Self) {
        if !validator.is_on(ctx) {
            return (open, Self::default());
        }
        let (indices, verdicts) = {
            let is_checked = |(index, _): &&(usize, I)| progress.unknown(*index).is_none();
            let checked: Vec<&(usize, I)> = open.iter().filter(is_checked).collect();
            let indices: Vec<usize> = checked.iter().map(|(index, _)| *index).collect();
            let writes = I::writes(checked.iter().map(|(_, input)| input).collect(), to);
            let verdicts = validator.admit(ctx, &writes).await;
            (indices, verdicts)
        };
        let mut refused = verdicts.refused().iter().peekable();
        open.retain(|(index, _)| match refused.next_if(|(at, _)| indices[*at] == *index) {
            Some((_, error)) => {
                progress.settle_one(*index, Err(error.clone()), true);
                false
            }
            None => true,
        });
        (open, Self { verdicts, indices })
    }

    /// Takes the outcomes of the inputs that were sent with doubts.
    pub(super) fn observe<T: Clone>(
        &self,
        validator: &Validator,
        ctx: &CallContext,
        progress: &BatchProgress<T>,
    ) {
        if self.verdicts.doubted().is_empty() {
            return;
        }
        let results = progress.results();
        for (at, doubts) in self.verdicts.doubted() {
            let result = match &results {
                Ok(results) => results[self.indices[*at]].as_ref().err(),
                Err(error) => Some(error),
            };
            validator.observe(ctx, doubts, result);
        }
    }
}

/// Errors of writes that would create contacts, by index, if the caller may not do that.
fn refusals(ctx: &CallContext, writes: &Validated) -> Vec<(usize, Error)> {
    let contacts: Vec<Option<&ContactByEmail>> = match writes {
        Validated::Create(write) => vec![write.input.contact.as_ref()],
        Validated::Creates(writes) => {
            writes.iter().map(|own| own.input.input.contact.as_ref()).collect()
        }
        Validated::Upserts(writes) => {
            writes.iter().map(|own| own.input.input.contact.as_ref()).collect()
        }
        Validated::Update(_) | Validated::Updates(_) | Validated::Associations { .. } => Vec::new(),
    };
    let creates = |own: &ContactByEmail| own.create_if_missing.is_some();
    let indices = (0..).zip(contacts).filter(|(_, own)| own.is_some_and(creates));
    indices.filter_map(|(index, _)| Some((index, ctx.contact_refusal()?))).collect()
}

/// Validates a single write before it is sent, unless there are no `writes`. Errors if it is refused.
pub(super) async fn admit_one(
    validator: &Validator,
    ctx: &CallContext,
    writes: Option<Writes<'_>>,
) -> Result<Doubts, Error> {
    match writes {
        // Boxed, so that a write without validation has no place for it.
        Some(writes) => Box::pin(validator.admit(ctx, &writes)).await.into_single(),
        None => Ok(Doubts::default()),
    }
}
