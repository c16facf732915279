//! Kinds of requests that can be batched, and pending requests.

use std::{fmt, hash::Hash};

use leadsd_quota::Permit;
use tokio::sync::oneshot;

use super::{batch_context::BatchContext, capabilities::PortalCapabilities, partition::Partition};
use crate::{
    leads::{CallContext, Error, batch},
    pipeline::{Dispatch, Layer},
};

/// A kind of request for which HubSpot has a batch. Requests of equal kinds share a batch.
pub(super) trait BatchableOp<L: Layer>:
    Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static
{
    /// Parts that differ among requests of one kind.
    type Input: Clone + fmt::Debug + Send + Sync + 'static;
    /// The result of one request.
    type Output: Clone + fmt::Debug + Send + 'static;

    /// Maximum number of requests in one batch.
    fn max_size(&self) -> usize {
        batch::MAX_CHUNK
    }

    /// Smallest batch that costs fewer HubSpot requests than individual requests.
    fn min_size(&self) -> usize {
        2
    }

    /// Estimated size of HubSpot's response about one input, in bytes. Zero if it does not matter.
    /// A response that exceeds the bound is a write whose outcome is lost.
    fn response_bytes(&self, _: &Self::Input) -> usize {
        0
    }

    /// Assigns the inputs to batches whose responses can be matched.
    fn partition(&self, _: &PortalCapabilities, inputs: &[&Self::Input]) -> Partition {
        Partition::known(vec![Some(0); inputs.len()])
    }

    /// Sends one request individually.
    fn send_one(
        &self,
        inner: &L,
        ctx: &CallContext,
        input: &Self::Input,
        dispatch: Dispatch,
    ) -> impl Future<Output = Result<Self::Output, Error>> + Send;

    /// Observes the result of a request that was sent individually after a batch.
    fn observe(&self, _: &PortalCapabilities, _: &Self::Input, _: &Result<Self::Output, Error>) {}

    /// Sends the requests as one batch, the first HTTP request with `permit`. Returns one outcome per
    /// input, in input order.
    fn send_batch(
        &self,
        inner: &L,
        capabilities: &PortalCapabilities,
        ctx: &BatchContext,
        inputs: &[Self::Input],
        permit: Option<Permit>,
    ) -> impl Future<Output = Vec<batch::ItemOutcome<Self::Output>>> + Send;
}

/// One pending request.
#[derive(Debug)]
pub(super) struct Member<I, T> {
    pub(super) ctx: CallContext,
    pub(super) input: I,
    pub(super) dispatch: Dispatch,
    pub(super) reply: oneshot::Sender<Result<T, Error>>,
}

// === impl Member ===

impl<I, T> Member<I, T> {
    /// Sends the result to the caller. A cancelled request needs none.
    pub(super) fn respond(self, result: Result<T, Error>) {
        let _ = self.reply.send(result);
    }
}
