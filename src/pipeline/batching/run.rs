//! Sends pending requests of one kind: as one batch, as several, or individually.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future, stream};
use leadsd_quota::Permit;
use tokio::time::sleep;

use super::{
    batch_context::BatchContext,
    capabilities::PortalCapabilities,
    op::{BatchableOp, Member},
};
use crate::{
    leads::batch::ItemOutcome,
    pipeline::{Layer, retry::may_retry},
};

/// Maximum number of concurrent individual requests after a batch.
const INDIVIDUAL_CONCURRENCY: usize = 8;

type BatchMembers<L, O> = Vec<Member<<O as BatchableOp<L>>::Input, <O as BatchableOp<L>>::Output>>;

/// Requests of one kind that were dispatched with a permit.
pub(super) struct BatchRun<L, O> {
    pub(super) kind: O,
    pub(super) inner: Arc<L>,
    pub(super) capabilities: Arc<PortalCapabilities>,
    pub(super) max_response_bytes: usize,
}

// === impl BatchRun ===

impl<L: Layer, O: BatchableOp<L>> BatchRun<L, O> {
    /// Sends the requests. The first HTTP request uses the permit.
    pub(super) async fn dispatch(&self, permit: Permit, mut members: BatchMembers<L, O>) {
        if members.len() < 2 {
            return self.dispatch_sized(Some(permit), members).await;
        }
        if let Some(partition) = self.partition(&members) {
            return self.dispatch_split(Some(permit), members, partition).await;
        }
        // The response to a batch of one is unambiguous, and shows whether larger ones would be.
        let rest = members.split_off(1);
        self.send_batch(Some(permit), members).await;
        match self.partition(&rest) {
            Some(partition) => self.dispatch_split(None, rest, partition).await,
            None => self.send_each(rest).await,
        }
    }

    fn partition(&self, members: &BatchMembers<L, O>) -> Option<Vec<Option<usize>>> {
        let inputs: Vec<&O::Input> = members.iter().map(|member| &member.input).collect();
        self.kind.partition(&self.capabilities, &inputs)
    }

    /// Sends the requests in the batches that `partition` assigns, and the others individually.
    async fn dispatch_split(
        &self,
        mut permit: Option<Permit>,
        members: BatchMembers<L, O>,
        partition: Vec<Option<usize>>,
    ) {
        let mut batches: BTreeMap<usize, BatchMembers<L, O>> = BTreeMap::new();
        let mut individual = Vec::new();
        for (member, batch) in members.into_iter().zip(partition) {
            match batch {
                Some(number) => batches.entry(number).or_default().push(member),
                None => individual.push(member),
            }
        }
        let (batches, single): (Vec<_>, Vec<_>) =
            batches.into_values().partition(|batch| batch.len() > 1);
        individual.extend(single.into_iter().flatten());
        let batches: Vec<_> =
            batches.into_iter().map(|batch| self.dispatch_sized(permit.take(), batch)).collect();
        if let Some(first) = individual.first_mut() {
            first.dispatch.permit = permit.take();
        }
        tokio::join!(future::join_all(batches), self.send_each(individual));
    }

    /// Sends the requests in as many batches as their responses need to stay below the bound.
    async fn dispatch_sized(&self, mut permit: Option<Permit>, members: BatchMembers<L, O>) {
        let mut parts: Vec<BatchMembers<L, O>> = Vec::new();
        let mut bytes = usize::MAX;
        for member in members {
            let own = self.kind.response_bytes(&member.input);
            bytes = bytes.saturating_add(own);
            match parts.last_mut().filter(|_| bytes <= self.max_response_bytes) {
                Some(part) => part.push(member),
                None => {
                    bytes = own;
                    parts.push(vec![member]);
                }
            }
        }
        let parts: Vec<_> =
            parts.into_iter().map(|part| self.send_part(permit.take(), part)).collect();
        future::join_all(parts).await;
    }

    /// Sends a batch, or an individual request if there is only one.
    async fn send_part(&self, permit: Option<Permit>, mut members: BatchMembers<L, O>) {
        if members.len() > 1 {
            return self.send_batch(permit, members).await;
        }
        if let Some(mut member) = members.pop() {
            member.dispatch.permit = permit;
            self.send_one(member).await;
        }
    }

    /// Sends one batch, and sends it again for the callers that have time for another attempt where
    /// the deadline of others prevented one.
    async fn send_batch(&self, mut permit: Option<Permit>, mut members: BatchMembers<L, O>) {
        let mut prior_attempts = 0;
        loop {
            members.retain(|member| !member.reply.is_closed());
            let calls: Vec<_> = members
                .iter()
                .map(|member| (&member.ctx, member.dispatch.retry_deadline.earliest()))
                .collect();
            let Some(ctx) = BatchContext::new(&calls, prior_attempts) else { return };
            let inputs: Vec<O::Input> = members.iter().map(|member| member.input.clone()).collect();
            let outcomes = self
                .kind
                .send_batch(&self.inner, &self.capabilities, &ctx, &inputs, permit.take())
                .await;
            let (mut individual, mut again, mut pause) = (Vec::new(), Vec::new(), Duration::ZERO);
            for (member, outcome) in members.into_iter().zip(outcomes) {
                match outcome {
                    ItemOutcome::RetryAlone => individual.push(member),
                    ItemOutcome::Resolved(Err(error)) if may_retry(&member.ctx, &error) => {
                        prior_attempts = error.upstream().attempts;
                        pause = error.retry_after().unwrap_or_default();
                        again.push(member);
                    }
                    ItemOutcome::Resolved(result) => member.respond(result),
                }
            }
            if again.is_empty() {
                return self.send_each(individual).await;
            }
            tokio::join!(self.send_each(individual), sleep(pause));
            members = again;
        }
    }

    /// Sends the requests individually.
    async fn send_each(&self, members: BatchMembers<L, O>) {
        let requests = stream::iter(members).map(|member| self.send_one(member));
        requests.buffer_unordered(INDIVIDUAL_CONCURRENCY).collect::<()>().await;
    }

    async fn send_one(&self, member: Member<O::Input, O::Output>) {
        if member.reply.is_closed() {
            return;
        }
        let Member { ctx, input, dispatch, reply } = member;
        let result = self.kind.send_one(&self.inner, &ctx, &input, dispatch).await;
        self.kind.observe(&self.capabilities, &input, &result);
        // A cancelled request needs no result.
        let _ = reply.send(result);
    }
}
