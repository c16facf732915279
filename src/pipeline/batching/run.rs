//! Sends pending requests of one kind: as one batch, as several, or individually.

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future, stream};
use leadsd_quota::{Account, AccountKey, BucketName, Permit, Priority, Requester};
use tokio::time::sleep;

use super::{
    batch_context::BatchContext,
    capabilities::PortalCapabilities,
    op::{BatchableOp, Member},
    partition::Partition,
    rejection_scores::RejectionScores,
};
use crate::{
    leads::{
        Error,
        batch::{ItemOutcome, rejects_content},
    },
    pipeline::{Layer, retry::may_retry},
};

/// Maximum number of concurrent individual requests after a batch.
const INDIVIDUAL_CONCURRENCY: usize = 8;

/// Maximum number of batches of one that are sent to learn whether larger ones can be matched: one for each
/// kind of value that can identify a result. A rejected one shows nothing, so the next one is of another
/// caller.
const MAX_TESTS: usize = 4;

/// Maximum number of callers whose inputs are requested separately because the account that callers share
/// had no room for the response: as many requests as a rejection costs.
const MAX_UNREAD: usize = 3;

type BatchMembers<L, O> = Vec<Member<<O as BatchableOp<L>>::Input, <O as BatchableOp<L>>::Output>>;

/// Requests of one kind that were dispatched with a permit.
pub(super) struct BatchRun<L, O> {
    pub(super) kind: O,
    pub(super) inner: Arc<L>,
    pub(super) capabilities: Arc<PortalCapabilities>,
    pub(super) max_response_bytes: usize,
    pub(super) account: Arc<Account>,
    pub(super) scores: Arc<RejectionScores>,
}

// === impl BatchRun ===

impl<L: Layer, O: BatchableOp<L>> BatchRun<L, O> {
    /// Sends the requests. The first HTTP request uses the permit.
    pub(super) async fn dispatch(&self, permit: Permit, mut members: BatchMembers<L, O>) {
        if members.len() < 2 {
            return self.dispatch_sized(Some(permit), members).await;
        }
        // A caller may have lost its place in shared batches after its request was queued.
        let is_isolated = |own: &mut Member<O::Input, O::Output>| {
            self.scores.isolated(&own.ctx.requester).is_some()
        };
        if !self.scores.is_empty() && is_shared(&members) {
            let apart: Vec<_> = members.extract_if(.., is_isolated).collect();
            if members.is_empty() {
                return self.send_apart(Some(permit), apart).await;
            }
            let shared = Box::pin(self.dispatch_shared(permit, members));
            tokio::join!(shared, self.send_apart(None, apart));
            return;
        }
        self.dispatch_shared(permit, members).await;
    }

    /// Sends requests of callers that share batches.
    async fn dispatch_shared(&self, permit: Permit, mut members: BatchMembers<L, O>) {
        // The inputs of one caller are neighbours, and so are those of callers with rejected inputs:
        // dividing a batch separates them from the others.
        members.sort_by_cached_key(|member| {
            let caller = &member.ctx.requester.caller;
            (self.scores.is_suspect(caller), caller.clone())
        });
        let Partition { batches, unknown } = self.partition(&members);
        if batches.iter().all(Option::is_none) {
            return self.learn(Some(permit), members).await;
        }
        // What can share a batch does not wait for the others.
        let (mut known, mut known_batches, mut open) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (member, batch)) in members.into_iter().zip(batches).enumerate() {
            if unknown.binary_search(&index).is_ok() {
                open.push(member);
            } else {
                known.push(member);
                known_batches.push(batch);
            }
        }
        let known = self.dispatch_split(Some(permit), known, known_batches);
        tokio::join!(known, self.learn(None, open));
    }

    /// Sends requests of which some may share a batch after a batch of one.
    async fn learn(&self, mut permit: Option<Permit>, mut members: BatchMembers<L, O>) {
        let mut tested = None;
        for _ in 0..MAX_TESTS {
            let Partition { batches, unknown } = self.partition(&members);
            let Some(&first) = unknown.first() else {
                return self.dispatch_split(permit.take(), members, batches).await;
            };
            // The response to a batch of one is unambiguous, and shows whether larger ones would be.
            let is_other = |index: &usize| {
                tested.as_ref() != Some(&members[*index].ctx.requester.caller.account())
            };
            let next = unknown.into_iter().find(is_other).unwrap_or(first);
            let test = members.remove(next);
            tested = Some(test.ctx.requester.caller.account());
            self.send_batch(permit.take(), vec![test]).await;
            if members.is_empty() {
                return;
            }
        }
        let Partition { batches, .. } = self.partition(&members);
        self.dispatch_split(None, members, batches).await;
    }

    fn partition(&self, members: &BatchMembers<L, O>) -> Partition {
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
            let Some(ctx) = BatchContext::new(&calls, &self.scores, prior_attempts) else { return };
            let inputs: Vec<O::Input> = members.iter().map(|member| member.input.clone()).collect();
            let outcomes = self
                .kind
                .send_batch(&self.inner, &self.capabilities, &ctx, &inputs, permit.take())
                .await;
            let mut more_requests = ctx.requests().saturating_sub(1) as usize;
            let mut rejected = Vec::new();
            let (mut individual, mut apart, mut again) = (Vec::new(), Vec::new(), Vec::new());
            let (mut unread, mut pause) = (Vec::new(), Duration::ZERO);
            let is_result =
                |outcome: &&ItemOutcome<_>| matches!(outcome, ItemOutcome::Resolved(Ok(_)));
            let mut results = outcomes.iter().filter(is_result).count();
            for (member, outcome) in members.into_iter().zip(outcomes) {
                match outcome {
                    ItemOutcome::RetryAlone => individual.push(member),
                    ItemOutcome::RetryApart => apart.push(member),
                    ItemOutcome::Resolved(Err(error)) if ctx.lacks_shared_memory(&error) => {
                        unread.push((member, error));
                    }
                    ItemOutcome::Resolved(Err(error)) if may_retry(&member.ctx, &error) => {
                        prior_attempts = error.upstream().attempts;
                        pause = error.retry_after().unwrap_or_default();
                        again.push(member);
                    }
                    ItemOutcome::Resolved(result) => {
                        let requester = &member.ctx.requester;
                        match &result {
                            Ok(_) => {
                                self.scores.succeeded(&requester.caller);
                                // Charged until the caller charges its response.
                                ctx.whole().cost.give_part(results, &member.ctx.cost);
                                results -= 1;
                            }
                            Err(error) if more_requests > 0 && rejects_content(error) => {
                                rejected.push(requester.clone());
                            }
                            Err(_) => {}
                        }
                        member.respond(result);
                    }
                }
            }
            // What is sent again needs nothing of this response.
            ctx.whole().cost.release_memory();
            if !apart.is_empty() {
                let culprits: Vec<_> = apart.iter().map(|own| own.ctx.requester.clone()).collect();
                self.charge(std::mem::take(&mut more_requests), &culprits);
            }
            // The callers of these requests did not cause the failure, so they are not charged above. Their
            // batches are charged to their accounts.
            apart.extend(select_unread(unread));
            // A caller has paid for the requests of a batch that it does not share.
            let calls = if ctx.is_shared() { more_requests + individual.len() } else { 0 };
            let wait = if again.is_empty() { Duration::ZERO } else { pause };
            let (individual, apart) = (self.send_each(individual), self.send_apart(None, apart));
            let (rejected_alone, (), ()) = tokio::join!(individual, apart, sleep(wait));
            rejected.extend(rejected_alone);
            self.charge(calls, &rejected);
            if again.is_empty() {
                return;
            }
            members = again;
        }
    }

    /// Charges the calls that a batch took beyond its first to the callers whose inputs were rejected:
    /// as a score, and as permits that others paid for.
    fn charge(&self, calls: usize, rejected: &[Requester]) {
        let inputs = |account: &AccountKey| {
            rejected.iter().filter(|requester| requester.caller.account() == *account).count()
        };
        // Each score grows by all of them: the search for that account alone would take about as many.
        for requester in rejected {
            let calls = calls as f64 / inputs(&requester.caller.account()) as f64;
            self.scores.charge(&requester.caller, calls);
        }
        self.account.charge(BucketName::Burst, rejected, calls);
    }

    /// Sends the requests of each caller as a separate batch. Boxed, because it sends batches itself.
    fn send_apart(
        &self,
        mut permit: Option<Permit>,
        mut members: BatchMembers<L, O>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        members.sort_by(|a, b| a.ctx.requester.caller.cmp(&b.ctx.requester.caller));
        let mut batches: Vec<BatchMembers<L, O>> = Vec::new();
        for mut member in members {
            if let Some(requester) = self.scores.isolated(&member.ctx.requester) {
                member.ctx.requester = requester;
            }
            let account = member.ctx.requester.caller.account();
            let is_same =
                |own: &&mut BatchMembers<L, O>| own[0].ctx.requester.caller.account() == account;
            match batches.last_mut().filter(is_same) {
                Some(batch) => batch.push(member),
                None => batches.push(vec![member]),
            }
        }
        let batches = batches.into_iter().map(|batch| self.send_part(permit.take(), batch));
        let batches: Vec<_> = batches.collect();
        Box::pin(async move { drop(future::join_all(batches).await) })
    }

    /// Sends the requests individually. Returns the requesters of those that HubSpot rejected.
    async fn send_each(&self, members: BatchMembers<L, O>) -> Vec<Requester> {
        let requests = stream::iter(members).map(|member| self.send_one(member));
        let rejected = requests.buffer_unordered(INDIVIDUAL_CONCURRENCY);
        rejected.filter_map(future::ready).collect().await
    }

    /// Sends a request individually. Returns its requester if HubSpot rejected it.
    async fn send_one(&self, member: Member<O::Input, O::Output>) -> Option<Requester> {
        if member.reply.is_closed() {
            return None;
        }
        let Member { mut ctx, input, dispatch, reply } = member;
        if let Some(requester) = self.scores.isolated(&ctx.requester) {
            ctx.requester = requester;
        }
        let result = self.kind.send_one(&self.inner, &ctx, &input, dispatch).await;
        self.kind.observe(&self.capabilities, &input, &result);
        let is_rejected = result.as_ref().is_err_and(rejects_content);
        if is_rejected && ctx.requester.priority == Priority::Restricted {
            self.scores.on_rejected(&ctx.requester);
        }
        // A cancelled request needs no result.
        let _ = reply.send(result);
        is_rejected.then_some(ctx.requester)
    }
}

/// Selects the requests to send again of those whose response was not read: the smallest parts of a batch.
/// The others get the error, because their responses fill the memory.
fn select_unread<I, T>(mut members: Vec<(Member<I, T>, Error)>) -> Vec<Member<I, T>> {
    let account = |member: &Member<I, T>| member.ctx.requester.caller.account();
    let mut sizes: BTreeMap<AccountKey, usize> = BTreeMap::new();
    members.iter().for_each(|(member, _)| *sizes.entry(account(member)).or_default() += 1);
    let mut smallest: Vec<_> = sizes.into_iter().map(|(account, size)| (size, account)).collect();
    smallest.sort();
    smallest.truncate(MAX_UNREAD);
    let is_other = |(member, _): &mut (Member<I, T>, Error)| {
        smallest.iter().all(|(_, small)| *small != account(member))
    };
    for (member, error) in members.extract_if(.., is_other) {
        member.respond(Err(error));
    }
    members.into_iter().map(|(member, _)| member).collect()
}

/// True if the requests are those of several callers.
fn is_shared<I, T>(members: &[Member<I, T>]) -> bool {
    let account = |member: &Member<I, T>| member.ctx.requester.caller.account();
    members.windows(2).any(|two| account(&two[0]) != account(&two[1]))
}
