//! Sends pending requests of one kind: as one batch, as several, or individually.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future, stream};
use leadsd_quota::{Caller, Permit};
use tokio::time::sleep;

use super::{
    batch_context::BatchContext,
    capabilities::PortalCapabilities,
    op::{BatchableOp, Member},
    rejection_scores::RejectionScores,
};
use crate::{
    leads::batch::{ItemOutcome, rejects_content},
    pipeline::{Layer, retry::may_retry},
};

/// Maximum number of concurrent individual requests after a batch.
const INDIVIDUAL_CONCURRENCY: usize = 8;

/// Maximum number of batches of one that are sent to learn whether larger ones can be matched. A rejected
/// one shows nothing, so the next one is of another caller.
const MAX_TESTS: usize = 3;

type BatchMembers<L, O> = Vec<Member<<O as BatchableOp<L>>::Input, <O as BatchableOp<L>>::Output>>;

/// Requests of one kind that were dispatched with a permit.
pub(super) struct BatchRun<L, O> {
    pub(super) kind: O,
    pub(super) inner: Arc<L>,
    pub(super) capabilities: Arc<PortalCapabilities>,
    pub(super) max_response_bytes: usize,
    pub(super) scores: Arc<RejectionScores>,
}

// === impl BatchRun ===

impl<L: Layer, O: BatchableOp<L>> BatchRun<L, O> {
    /// Sends the requests. The first HTTP request uses the permit.
    pub(super) async fn dispatch(&self, permit: Permit, mut members: BatchMembers<L, O>) {
        if members.len() < 2 {
            return self.dispatch_sized(Some(permit), members).await;
        }
        // The inputs of one caller are neighbours, so that dividing a batch separates callers.
        members.sort_by(|a, b| a.ctx.requester.caller.cmp(&b.ctx.requester.caller));
        let (mut permit, mut tested) = (Some(permit), None);
        for _ in 0..MAX_TESTS {
            if let Some(partition) = self.partition(&members) {
                return self.dispatch_split(permit.take(), members, partition).await;
            }
            // The response to a batch of one is unambiguous, and shows whether larger ones would be.
            let is_other = |member: &Member<O::Input, O::Output>| {
                tested.as_ref() != Some(&member.ctx.requester.caller.account())
            };
            let next = members.iter().position(is_other).unwrap_or_default();
            let test = members.remove(next);
            tested = Some(test.ctx.requester.caller.account());
            self.send_batch(permit.take(), vec![test]).await;
            if members.is_empty() {
                return;
            }
        }
        match self.partition(&members) {
            Some(partition) => self.dispatch_split(None, members, partition).await,
            None => drop(self.send_each(members).await),
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
            let more_requests = ctx.requests().saturating_sub(1);
            let mut rejected = Vec::new();
            let (mut individual, mut again, mut pause) = (Vec::new(), Vec::new(), Duration::ZERO);
            for (member, outcome) in members.into_iter().zip(outcomes) {
                match outcome {
                    ItemOutcome::RetryAlone => individual.push(member),
                    ItemOutcome::Resolved(Err(error)) if may_retry(&member.ctx, &error) => {
                        prior_attempts = error.upstream().attempts;
                        pause = error.retry_after().unwrap_or_default();
                        again.push(member);
                    }
                    ItemOutcome::Resolved(result) => {
                        let caller = &member.ctx.requester.caller;
                        match &result {
                            Ok(_) => self.scores.succeeded(caller),
                            Err(error) if more_requests > 0 && rejects_content(error) => {
                                rejected.push(caller.clone());
                            }
                            Err(_) => {}
                        }
                        member.respond(result);
                    }
                }
            }
            let calls = more_requests as usize + individual.len();
            let wait = if again.is_empty() { Duration::ZERO } else { pause };
            let (rejected_alone, ()) = tokio::join!(self.send_each(individual), sleep(wait));
            rejected.extend(rejected_alone);
            self.charge(calls, &rejected);
            if again.is_empty() {
                return;
            }
            members = again;
        }
    }

    /// Charges the calls that a batch took beyond its first to the callers whose inputs were rejected.
    fn charge(&self, calls: usize, rejected: &[Caller]) {
        for caller in rejected {
            self.scores.charge(caller, calls as f64 / rejected.len() as f64);
        }
    }

    /// Sends the requests individually. Returns the callers of those that HubSpot rejected.
    async fn send_each(&self, members: BatchMembers<L, O>) -> Vec<Caller> {
        let requests = stream::iter(members).map(|member| self.send_one(member));
        let rejected = requests.buffer_unordered(INDIVIDUAL_CONCURRENCY);
        rejected.filter_map(future::ready).collect().await
    }

    /// Sends a request individually. Returns its caller if HubSpot rejected it.
    async fn send_one(&self, member: Member<O::Input, O::Output>) -> Option<Caller> {
        if member.reply.is_closed() {
            return None;
        }
        let Member { ctx, input, dispatch, reply } = member;
        let result = self.kind.send_one(&self.inner, &ctx, &input, dispatch).await;
        self.kind.observe(&self.capabilities, &input, &result);
        let is_rejected = result.as_ref().is_err_and(rejects_content);
        // A cancelled request needs no result.
        let _ = reply.send(result);
        is_rejected.then(|| ctx.requester.caller.clone())
    }
}
