//! Writes of associations. Each runs in a separate task, is audited, and is idempotent.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{
    Service, distinct,
    labels::resolve_open,
    outcome::{WriteResponse, lost},
    record::WriteShape,
    validation::{Admission, admit_one},
    writes::{WriteCall, send_open, started, write_id},
};
use crate::leads::{
    association_change::{AssociationChange, AssociationChangeKind, ChangeAssociations},
    audit::AuditEntry,
    batch::{self, BatchLimits, BatchProgress},
    context::CallContext,
    error::{Error, FieldFault, Reason},
    idempotency::RequestId,
    labels::Labelled,
    request::{Outcome, Request},
    validator::Writes,
};

/// Category of an error about records that do not exist.
const OBJECT_NOT_FOUND: &str = "OBJECT_NOT_FOUND";

/// Action of a call on associations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssociationAction {
    /// Adds association types.
    Associate,
    /// Removes association types, or all of them.
    Dissociate,
}

// === impl AssociationAction ===

impl AssociationAction {
    /// Names of the single and of the batch operation.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Associate => ("AssociateLead", "BatchAssociateLeads"),
            Self::Dissociate => ("DissociateLead", "BatchDissociateLeads"),
        }
    }

    fn kind(self, change: &AssociationChange) -> AssociationChangeKind {
        match self {
            Self::Associate => AssociationChangeKind::Create,
            Self::Dissociate if change.types.is_empty() => AssociationChangeKind::Remove,
            Self::Dissociate => AssociationChangeKind::RemoveTypes,
        }
    }
}

// === impl Service ===

impl Service {
    /// Makes or removes one association with a record of the object type `to`.
    pub async fn change_association(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        action: AssociationAction,
        to: String,
        change: impl Into<Labelled<AssociationChange>>,
    ) -> Result<(), Error> {
        let change = change.into();
        let (name, _) = action.names();
        let entry = AuditEntry::new(ctx, name, 1).about(std::iter::once(&change.input.lead));
        let id = write_id(ctx, request_id, name, &(&to, &change));
        let (own, limits, sent) = (ctx.clone(), self.limits, change.clone());
        let (validator, labels) = (Arc::clone(&self.validator), self.labels.clone());
        let write = move |previous: Option<WriteResponse>| async move {
            let sent = match labels.resolve_one(&own, sent).await {
                Ok(sent) => sent,
                Err(error) => return previous.unwrap_or(WriteResponse::Archived(Err(error))),
            };
            let is_checked = previous.is_none() && validator.is_on(&own);
            let writes = || Writes::Associations { to: &to, changes: vec![&sent] };
            let doubts = match admit_one(&validator, &own, is_checked.then(writes)).await {
                Ok(doubts) => doubts,
                Err(error) => return WriteResponse::Archived(Err(error)),
            };
            let kind = action.kind(&sent);
            let request = |changes| {
                Request::ChangeAssociations(ChangeAssociations { kind, to: to.clone(), changes })
            };
            let outcomes = batch::run(&own, &[sent], limits.write_plan(), request).await;
            let result = match outcomes.map(|outcomes| outcomes.into_iter().next()) {
                Ok(Some(outcome)) => changed(outcome),
                Ok(None) => Err(lost()),
                Err(error) => Err(error),
            };
            validator.observe(&own, &doubts, result.as_ref().err());
            WriteResponse::Archived(result)
        };
        let (shape, deadline) = (WriteShape::Archived, ctx.deadline);
        let call = WriteCall { entry, id, shape, deadline };
        let response = self.write_one(ctx, call, write).await;
        let response = response.and_then(WriteResponse::into_archived);
        response.map_err(|error| explained(&change.input, error))
    }

    /// Makes or removes associations with records of the object type `to`. Returns one result per change, in
    /// their order. Equal changes are made once.
    pub async fn change_associations(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        action: AssociationAction,
        to: String,
        changes: Vec<impl Into<Labelled<AssociationChange>>>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let changes: Vec<Labelled<AssociationChange>> =
            changes.into_iter().map(Into::into).collect();
        let (_, name) = action.names();
        let leads = changes.iter().map(|change| &change.input.lead);
        let entry = AuditEntry::new(ctx, name, changes.len()).about(leads);
        let (own, limits) = (ctx.ending_early(), self.limits);
        let (validator, labels) = (Arc::clone(&self.validator), self.labels.clone());
        let deadline = own.deadline;
        let id = write_id(ctx, request_id, name, &(&to, &changes));
        let (distinct, positions) = distinct(&changes);
        let shape = WriteShape::Archives(distinct.len());
        let write = Box::new(move |previous: Option<WriteResponse>| {
            let previous = previous.map(WriteResponse::into_archives);
            let (progress, open) = BatchProgress::resume(previous, distinct, changed);
            started(progress, WriteResponse::Archives, |progress| {
                let run = async move {
                    let (open, _charge) = resolve_open(&labels, &own, open, &progress).await;
                    let (open, admission) =
                        Admission::of_batch(&validator, &own, &to, open, &progress).await;
                    send(&own, action, &to, open, limits, &progress).await;
                    admission.observe(&validator, &own, &progress);
                };
                run.boxed()
            })
        });
        let call = WriteCall { entry, id, shape, deadline };
        let response = self.write(ctx, call, write).await?;
        let results = response.into_archives()?;
        let result = |(position, change): (usize, &Labelled<AssociationChange>)| {
            results[position].clone().map_err(|error| explained(&change.input, error))
        };
        Ok(positions.into_iter().zip(&changes).map(result).collect())
    }
}

/// Sends the open changes of a batch: those of each kind together.
async fn send(
    ctx: &CallContext,
    action: AssociationAction,
    to: &str,
    open: Vec<(usize, AssociationChange)>,
    limits: BatchLimits,
    progress: &BatchProgress<()>,
) {
    let (whole, typed): (Vec<_>, Vec<_>) =
        open.into_iter().partition(|(_, change)| change.types.is_empty());
    for open in [whole, typed] {
        let Some((_, first)) = open.first() else { continue };
        let kind = action.kind(first);
        let request = |changes| {
            Request::ChangeAssociations(ChangeAssociations { kind, to: to.to_owned(), changes })
        };
        send_open(ctx, open, limits.write_plan(), request, progress).await;
    }
}

fn changed(outcome: Outcome) -> Result<(), Error> {
    outcome.map(drop)
}

/// Says whether the lead or the record of a change does not exist, if HubSpot's error names one of them.
fn explained(change: &AssociationChange, error: Error) -> Error {
    if error.reason() != Reason::ValidationFailed {
        return error;
    }
    let upstream = error.upstream();
    let names = |id: &str| error.affected_inputs().ids.iter().any(|named| named == id);
    let (is_lead, is_record) = (names(change.lead.as_str()), names(change.to_id.as_str()));
    let is_missing = upstream.category.as_deref() == Some(OBJECT_NOT_FOUND);
    if is_missing && is_lead && !is_record {
        return Error::lead_not_found().with_upstream(upstream.clone());
    }
    if is_record && error.fields().is_empty() {
        let text = format!("{} cannot be associated: {}", change.to_id, error.message());
        return error.with_fields(vec![FieldFault::new("to_id", text)]);
    }
    error
}

#[cfg(test)]
mod tests;
