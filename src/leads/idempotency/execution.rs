//! Execution of a write with a request id: alone or with the replicas that share its id, until its response
//! is kept.

use std::sync::Arc;

use leadsd_quota::AccountKey;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{
    ENTRY_OVERHEAD, IdempotencyEntry, IdempotencyKey, WriteId,
    digest::ContentDigest,
    kept::KeptResults,
    reused,
    shared::{Claimed, SharedRequestIds},
    write::{Ended, Progress, SoFar, StartedWrite, StoredResponse},
};
use crate::leads::{
    charge::MemoryCharge,
    error::{Error, Reason, SideEffect},
    memory::memory_of,
    request_id::RequestIdScope,
};

/// A write in progress. Dropping it frees the request id, so that a write that panics is not
/// remembered.
pub(super) struct WriteInProgress<A: StoredResponse> {
    pub(super) results: Arc<Mutex<KeptResults<A>>>,
    /// `None` once the response is stored.
    pub(super) key: Option<IdempotencyKey>,
    /// Account of the caller, whose share of the store the response takes.
    pub(super) account: AccountKey,
    pub(super) content: ContentDigest,
    pub(super) charge: Option<MemoryCharge>,
    /// Response of earlier calls, which is kept if this one learns nothing.
    pub(super) previous: Option<A>,
    pub(super) sender: watch::Sender<Option<Ended<A>>>,
}

/// A write whose request id all replicas know.
pub(super) struct SharedCall<A: StoredResponse> {
    pub(super) id: WriteId,
    pub(super) shape: A::Shape,
    pub(super) deadline: Instant,
}

// === impl WriteInProgress ===

impl<A: StoredResponse> WriteInProgress<A> {
    /// Keeps the response if a repeat needs it, and returns it to those that wait for it.
    pub(super) fn finish(mut self, ended: Ended<A>) {
        let previous = self.previous.take();
        if let Some(response) = ended.result.as_ref().ok().or(previous.as_ref())
            && response.may_have_effects()
            && let Some(key) = self.key.take()
            && let Some(charge) = self.charge.take()
        {
            let kept = response.clone().compact();
            let bytes = ENTRY_OVERHEAD + memory_of(&kept);
            let kept = Ended { result: Ok(kept), scope: ended.scope };
            let (_, receiver) = watch::channel(Some(kept));
            let (content, progress) = (self.content, Progress::ended());
            let entry = IdempotencyEntry { content, ended: receiver, progress };
            self.results.lock().keep((key, self.account.clone()), entry, bytes, charge);
        }
        // Before the response is known, so that a repeat after it runs the write again.
        self.free_id();
        self.sender.send_replace(Some(ended));
    }

    fn free_id(&mut self) {
        if let Some(key) = self.key.take() {
            self.results.lock().remove(&key);
        }
    }
}

impl<A: StoredResponse> Drop for WriteInProgress<A> {
    fn drop(&mut self) {
        self.free_id();
    }
}

// === impl SharedCall ===

impl<A: StoredResponse> SharedCall<A> {
    /// Runs the write, unless another replica has its result or runs it.
    pub(super) async fn run(
        self,
        shared: Arc<SharedRequestIds>,
        account: AccountKey,
        previous: Option<A>,
        write: impl FnOnce(Option<A>) -> StartedWrite<A> + Send,
        progress: Progress<A>,
    ) -> Ended<A> {
        let Self { id, shape, deadline } = self;
        let scope = RequestIdScope::Shared;
        // A write that does not run is dropped before its caller learns the result: it counts as a replay.
        let (mut claim, earlier) = match shared.claim(&id, account, shape, deadline).await {
            Claimed::Granted(claim, earlier) => (claim, earlier),
            Claimed::Final(response) => return Ended { result: Ok(response), scope },
            Claimed::OtherContent => return Ended { result: Err(reused()), scope },
            Claimed::Held => return Ended { result: Err(held()), scope },
        };
        let previous = match (previous, earlier) {
            (Some(own), Some(other)) => Some(own.combine(other)),
            (own, other) => own.or(other),
        };
        let StartedWrite { run, so_far } = write(previous);
        progress.set(so_far, claim.scope());
        let response = claim.renew_while(run).await;
        let known = response.clone();
        progress.set(SoFar::new(move || known.clone()), claim.scope());
        let scope = claim.end(&response, shape).await;
        Ended { result: Ok(response), scope }
    }
}

/// Error of a call whose deadline passes while another replica runs the write.
fn held() -> Error {
    let text =
        "the deadline passed while another replica runs the call with this request_id; repeat it";
    Error::new(Reason::DeadlineExceeded, text).with_side_effect(SideEffect::Possible)
}
