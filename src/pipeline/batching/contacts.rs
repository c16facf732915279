//! Lookups of single contacts that share a batch.

use std::{collections::HashMap, slice, sync::Arc};

use leadsd_quota::Permit;

use super::{
    batch_context::BatchContext,
    capabilities::PortalCapabilities,
    merged::{form, send_merged},
    op::BatchableOp,
};
use crate::{
    hubspot::Operation,
    leads::{
        BatchItem, BatchResponse, CallContext, Error, Request,
        batch::{ItemOutcome, match_all},
        contacts::ContactEmail,
    },
    pipeline::{Dispatch, Layer},
};

/// Lookups by e-mail address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ContactBatch;

/// The response to the lookup of one contact, as HubSpot sends it.
pub(super) fn response(contact: BatchItem) -> BatchResponse {
    BatchResponse { results: vec![contact], errors: Vec::new() }
}

impl<L: Layer> BatchableOp<L> for ContactBatch {
    type Input = ContactEmail;
    type Output = BatchItem;

    async fn send_one(
        &self,
        inner: &L,
        ctx: &CallContext,
        email: &ContactEmail,
        dispatch: Dispatch,
    ) -> Result<BatchItem, Error> {
        let request = Arc::new(Request::FindContacts(vec![email.clone()]));
        let response = inner.call(ctx, request, dispatch).await?.into_batch()?;
        let missing = form(Operation::FindContacts).missing;
        let outcome = match_all(slice::from_ref(email), response, missing).pop();
        outcome.transpose()?.flatten().ok_or_else(Error::lead_not_found)
    }

    async fn send_batch(
        &self,
        inner: &L,
        _: &PortalCapabilities,
        ctx: &BatchContext,
        emails: &[ContactEmail],
        mut permit: Option<Permit>,
    ) -> Vec<ItemOutcome<BatchItem>> {
        let (distinct, positions) = distinct(emails);
        let send = |first: usize, emails: Vec<ContactEmail>| {
            let first = positions.iter().position(|position| *position == first);
            let ctx_of_part = ctx.part(first.unwrap_or_default());
            let dispatch = ctx.dispatch(permit.take());
            let request = Arc::new(Request::FindContacts(emails));
            async move { inner.call(&ctx_of_part, request, dispatch).await?.into_batch() }
        };
        // An address that occurs several times belongs to the caller of its first use.
        let mut owners = vec![0; distinct.len()];
        for (&position, &owner) in positions.iter().zip(ctx.owners()).rev() {
            owners[position] = owner;
        }
        let form = form(Operation::FindContacts);
        let found = send_merged(ctx, &owners, &distinct, form, send).await;
        let outcome = |position: usize| match found[position].clone() {
            ItemOutcome::Resolved(Ok(contact)) => {
                ItemOutcome::Resolved(contact.ok_or_else(Error::lead_not_found))
            }
            ItemOutcome::Resolved(Err(error)) => ItemOutcome::Resolved(Err(error)),
            ItemOutcome::RetryAlone => ItemOutcome::RetryAlone,
            ItemOutcome::RetryApart => ItemOutcome::RetryApart,
        };
        positions.iter().copied().map(outcome).collect()
    }
}

/// The distinct addresses, and for each given one its index among them.
fn distinct(emails: &[ContactEmail]) -> (Vec<ContactEmail>, Vec<usize>) {
    let mut seen: HashMap<&ContactEmail, usize> = HashMap::with_capacity(emails.len());
    let mut distinct = Vec::with_capacity(emails.len());
    let mut positions = Vec::with_capacity(emails.len());
    for email in emails {
        let position = *seen.entry(email).or_insert_with(|| {
            distinct.push(email.clone());
            distinct.len() - 1
        });
        positions.push(position);
    }
    (distinct, positions)
}
