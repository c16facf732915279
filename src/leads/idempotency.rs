//! Idempotency of writes: the response to a `request_id` is stored. Repeats with the same id and
//! content return it, also while the first call still runs.
//!
//! Every write runs in a separate task, so that a caller that disconnects does not abort a write
//! that HubSpot may have seen; its outcome is stored.
//!
//! The store belongs to this process and is bounded in bytes and in age: a repeat after [`TTL`] or at
//! another replica counts as a new call.

use std::{future::Future, sync::Arc, time::Duration};

use leadsd_base::{
    cache::{Lookup, TtlCache},
    task,
};
use tokio::sync::watch;

use super::{
    context::PortalName,
    error::{Error, FieldFault, Reason, SideEffect},
    memory::{HeapSize, memory_of},
};

/// Time for which a response is stored: longer than any reasonable retry loop.
const TTL: Duration = Duration::from_secs(15 * 60);

/// Maximum memory of the stored responses of all portals, in bytes. One response takes at most half
/// of it, which is more than the largest batch request can write.
const MAX_BYTES: u64 = 64 << 20;

/// Estimated number of entries: the response to a single write takes about 2 KiB.
const ESTIMATED_ENTRIES: usize = 30_000;

/// Memory of an entry besides its response: key, channel, and their places in the cache.
const ENTRY_OVERHEAD: usize = 512;

/// Idempotency key of a write: printable ASCII, 1 to 128 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

/// Response to a write that can be stored.
pub(super) trait StoredResponse: HeapSize + Clone + Send + Sync + 'static {
    /// True if HubSpot may have acted on any part of the write. Only such a response is stored;
    /// otherwise a repeat is safe.
    fn may_have_effects(&self) -> bool;
}

/// Responses to writes by portal and request id.
#[derive(Debug)]
pub(super) struct IdempotencyStore<A>(Arc<Entries<A>>);

type Entries<A> = TtlCache<IdempotencyKey, IdempotencyEntry<A>>;

type IdempotencyKey = (PortalName, RequestId);

/// Write that runs or has ended.
#[derive(Debug, Clone)]
struct IdempotencyEntry<A> {
    fingerprint: u64,
    response: watch::Receiver<Option<A>>,
}

/// A write in progress. Dropping it frees the request id, so that a write that panics is not
/// remembered.
struct WriteInProgress<A: StoredResponse> {
    entries: Arc<Entries<A>>,
    /// `None` once the response is stored.
    key: Option<IdempotencyKey>,
    entry: IdempotencyEntry<A>,
    sender: watch::Sender<Option<A>>,
}

// === impl RequestId ===

impl RequestId {
    /// Parses an id. The error completes the sentence "the id ...".
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > 128 {
            return Err("must not be longer than 128 characters");
        }
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err("must be printable ASCII without spaces");
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl IdempotencyStore ===

impl<A: StoredResponse> Default for IdempotencyStore<A> {
    fn default() -> Self {
        Self(Arc::new(TtlCache::weighted(MAX_BYTES, ESTIMATED_ENTRIES, TTL)))
    }
}

impl<A: StoredResponse> IdempotencyStore<A> {
    /// Runs `write` to completion in a separate task and returns its response. If the `request_id`
    /// is known, returns the response of the first call instead.
    ///
    /// Cancel-safe: the write continues without its caller.
    pub(super) async fn run(
        &self,
        portal: &PortalName,
        request_id: Option<RequestId>,
        fingerprint: u64,
        write: impl Future<Output = A> + Send + 'static,
    ) -> Result<A, Error> {
        let Some(request_id) = request_id else {
            let (sender, receiver) = watch::channel(None);
            task::spawn("write", portal.as_str(), async move {
                sender.send_replace(Some(write.await));
            })
            .detach();
            return response(receiver).await;
        };
        let key = (portal.clone(), request_id);
        response(self.join_or_start(key, fingerprint, write)?).await
    }

    fn join_or_start(
        &self,
        key: IdempotencyKey,
        fingerprint: u64,
        write: impl Future<Output = A> + Send + 'static,
    ) -> Result<watch::Receiver<Option<A>>, Error> {
        let (sender, receiver) = watch::channel(None);
        let make = || IdempotencyEntry { fingerprint, response: receiver };
        match self.0.get_or_pin_with(key.clone(), make) {
            Lookup::Existing(entry) if entry.fingerprint == fingerprint => Ok(entry.response),
            Lookup::Existing(_) => Err(reused()),
            Lookup::Inserted(entry) => {
                let receiver = entry.response.clone();
                let owner = key.0.clone();
                let entries = Arc::clone(&self.0);
                let write_in_progress = WriteInProgress { entries, key: Some(key), entry, sender };
                task::spawn("write", owner.as_str(), async move {
                    let write_in_progress = write_in_progress;
                    let response = write.await;
                    write_in_progress.finish(response);
                })
                .detach();
                Ok(receiver)
            }
        }
    }
}

// === impl WriteInProgress ===

impl<A: StoredResponse> WriteInProgress<A> {
    /// Stores the response if a repeat needs it, and returns it to those that wait for it.
    fn finish(mut self, response: A) {
        if response.may_have_effects()
            && let Some(key) = self.key.take()
        {
            let bytes = ENTRY_OVERHEAD + memory_of(&response);
            self.entries.insert_weighted(key, self.entry.clone(), bytes as u64);
        }
        // Before the response is known, so that a repeat after it runs the write again.
        self.free_id();
        self.sender.send_replace(Some(response));
    }

    fn free_id(&mut self) {
        if let Some(key) = self.key.take() {
            self.entries.remove(&key);
        }
    }
}

impl<A: StoredResponse> Drop for WriteInProgress<A> {
    fn drop(&mut self) {
        self.free_id();
    }
}

async fn response<A: StoredResponse>(mut receiver: watch::Receiver<Option<A>>) -> Result<A, Error> {
    let response = receiver.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
    response.ok_or_else(|| {
        Error::new(
            Reason::Internal,
            "internal error: the write ended without a response; its outcome is unknown",
        )
        .with_side_effect(SideEffect::Possible)
    })
}

fn reused() -> Error {
    let description = "was used before with other content; use a new id for a new request";
    Error::new(Reason::RequestIdReused, format!("request_id: {description}"))
        .with_fields(vec![FieldFault::new("request_id", description)])
}

#[cfg(test)]
mod tests;
