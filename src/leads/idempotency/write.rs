//! States of a write in the idempotency store: how it runs, its response so far, and its end.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::leads::{
    error::{Error, Reason, SideEffect},
    memory::HeapSize,
    request_id::RequestIdScope,
};

/// Response to a write that can be stored.
pub(in crate::leads) trait StoredResponse:
    HeapSize + Clone + Send + Sync + 'static
{
    /// Kind of the write and number of its inputs.
    type Shape: Copy + Send + Sync + 'static;

    /// True if HubSpot may have acted on any part of the write. Only such a response is stored;
    /// otherwise a repeat is safe.
    fn may_have_effects(&self) -> bool;

    /// True if every part of the write has its result. Otherwise a repeat runs the write again, with
    /// this response as the state so far.
    fn is_final(&self) -> bool;

    /// The part of the response that is kept: outcomes and ids, and small leads.
    #[must_use]
    fn compact(self) -> Self;

    /// Encodes outcomes and ids for the shared store. `None` if they cannot be encoded.
    fn to_record(&self, shape: Self::Shape) -> Option<Vec<u8>>;

    /// Decodes a record of a write of this shape. `None` if it is invalid.
    fn from_record(shape: Self::Shape, record: &[u8]) -> Option<Self>;

    /// State after a write that was interrupted: what is not final in `earlier` is unknown.
    fn interrupted(shape: Self::Shape, earlier: Option<Self>) -> Self;

    /// Takes for each input the more certain of two results.
    #[must_use]
    fn combine(self, other: Self) -> Self;
}

/// A write that is about to run.
pub(in crate::leads) struct StartedWrite<A> {
    /// Runs the write to its end.
    pub(in crate::leads) run: BoxFuture<'static, A>,
    /// Response so far, for calls whose deadline passes first.
    pub(in crate::leads) so_far: SoFar<A>,
}

/// Response so far of a write that runs.
pub(in crate::leads) struct SoFar<A>(Option<Arc<dyn Fn() -> A + Send + Sync>>);

/// End of a write, and the scope in which its repeats are recognized.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ended<A> {
    pub(super) result: Result<A, Error>,
    pub(super) scope: RequestIdScope,
}

/// State of a write that runs, for the calls that wait for it.
pub(super) struct Progress<A>(Option<Arc<Mutex<ProgressState<A>>>>);

struct ProgressState<A> {
    so_far: SoFar<A>,
    /// Scope if the write ended now.
    scope: RequestIdScope,
}

// === impl SoFar ===

impl<A> SoFar<A> {
    /// Creates a value for a write of which nothing is known before it ends.
    pub(in crate::leads) fn nothing() -> Self {
        Self(None)
    }

    /// Creates a value from a function that builds the response so far.
    pub(in crate::leads) fn new(response: impl Fn() -> A + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(response)))
    }

    pub(super) fn get(&self) -> Option<A> {
        self.0.as_ref().map(|response| response())
    }
}

impl<A> Clone for SoFar<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A> fmt::Debug for SoFar<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SoFar").field(&self.0.is_some()).finish()
    }
}

// === impl Progress ===

impl<A> Progress<A> {
    /// Progress of a write that has ended.
    pub(super) fn ended() -> Self {
        Self(None)
    }

    /// Progress of a write that begins.
    pub(super) fn started() -> Self {
        let state = ProgressState { so_far: SoFar::nothing(), scope: RequestIdScope::Replica };
        Self(Some(Arc::new(Mutex::new(state))))
    }

    /// Sets the response so far, and the scope if the write ended now.
    pub(super) fn set(&self, so_far: SoFar<A>, scope: RequestIdScope) {
        if let Some(state) = &self.0 {
            *state.lock() = ProgressState { so_far, scope };
        }
    }

    /// Response so far, if anything is known, and the scope.
    pub(super) fn get(&self) -> (Option<A>, RequestIdScope) {
        let Some(state) = &self.0 else { return (None, RequestIdScope::Replica) };
        let ProgressState { so_far, scope } = &*state.lock();
        (so_far.get(), *scope)
    }
}

impl<A> Clone for Progress<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A> fmt::Debug for Progress<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Progress").field(&self.0.is_some()).finish()
    }
}

// === impl Ended ===

impl<A: StoredResponse> Ended<A> {
    /// True if a repeat gets this result.
    pub(super) fn is_final(&self) -> bool {
        self.result.as_ref().map_or_else(Error::is_final, A::is_final)
    }
}

/// Waits for a value until `deadline`; `None` if it comes later. Errors if its task panicked.
pub(super) async fn wait<T: Clone>(
    mut receiver: watch::Receiver<Option<T>>,
    deadline: Instant,
) -> Option<Result<T, Error>> {
    let value = timeout_at(deadline, receiver.wait_for(Option::is_some)).await.ok()?;
    let value = value.ok().and_then(|found| found.clone());
    Some(value.ok_or_else(|| {
        Error::new(
            Reason::Internal,
            "internal error: the write ended without a response; its outcome is unknown",
        )
        .with_side_effect(SideEffect::Possible)
    }))
}

/// Error of a write of which nothing is known at the deadline.
pub(super) fn unknown_at_deadline() -> Error {
    let text = "the deadline passed before the outcome of the write was known";
    Error::new(Reason::DeadlineExceeded, text).with_side_effect(SideEffect::Possible)
}
