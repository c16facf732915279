//! Idempotency of writes: the response to a `request_id` is stored, and returned again to every
//! repeat with the same id and content, while the first call still runs or after it.
//!
//! Every write runs in a task of its own, so that a caller that disconnects does not abort a write
//! that HubSpot may have seen; its outcome is stored all the same.
//!
//! The store belongs to this process and is bounded by weight and age: a repeat after [`TTL`] or at
//! another replica counts as a new call.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{
    context::PortalName,
    error::{Error, FieldFault, Reason, SideEffect},
};
use leadsd_base::task;

/// Time for which a response is stored: longer than any reasonable retry loop.
const TTL: Duration = Duration::from_secs(15 * 60);

/// Maximum number of leads in stored responses, over all ids: at about 1 KiB each, 50 MiB at most.
const MAX_WEIGHT: usize = 50_000;

/// Idempotency key of a write: printable ASCII, 1 to 128 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

/// The response to a write, as far as storing it is concerned.
pub(super) trait StoredResponse: Clone + Send + Sync + 'static {
    /// Memory that it holds, in leads.
    fn weight(&self) -> usize;

    /// Whether HubSpot may have acted on any part of the write. Only such a response is stored,
    /// because otherwise a repeat does nothing twice.
    fn may_have_effects(&self) -> bool;
}

/// Responses to writes by portal and request id.
#[derive(Debug)]
pub(super) struct IdempotencyStore<A> {
    kept: Arc<Mutex<Kept<A>>>,
}

#[derive(Debug)]
struct Kept<A> {
    entries: HashMap<Key, Entry<A>>,
    /// Finished entries, oldest first.
    order: VecDeque<(Instant, Key, usize)>,
    weight: usize,
}

type Key = (PortalName, RequestId);

#[derive(Debug)]
struct Entry<A> {
    fingerprint: u64,
    answer: watch::Receiver<Option<A>>,
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

impl<A> Default for IdempotencyStore<A> {
    fn default() -> Self {
        let kept = Kept { entries: HashMap::new(), order: VecDeque::new(), weight: 0 };
        Self { kept: Arc::new(Mutex::new(kept)) }
    }
}

impl<A: StoredResponse> IdempotencyStore<A> {
    /// Runs `write` to completion in a task of its own and returns its response. If the `request_id`
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
                let answer = write.await;
                sender.send_replace(Some(answer));
            })
            .detach();
            return answered(receiver).await;
        };
        let key = (portal.clone(), request_id);
        let receiver = self.join_or_start(key, fingerprint, portal, write)?;
        answered(receiver).await
    }

    fn join_or_start(
        &self,
        key: Key,
        fingerprint: u64,
        portal: &PortalName,
        write: impl Future<Output = A> + Send + 'static,
    ) -> Result<watch::Receiver<Option<A>>, Error> {
        let mut kept = self.kept.lock();
        kept.expire(Instant::now());
        if let Some(entry) = kept.entries.get(&key) {
            // A first call that panicked stores no response; its id is free again.
            let lost = entry.answer.has_changed().is_err() && entry.answer.borrow().is_none();
            if !lost {
                return if entry.fingerprint == fingerprint {
                    Ok(entry.answer.clone())
                } else {
                    Err(reused())
                };
            }
        }
        let (sender, receiver) = watch::channel(None);
        kept.entries.insert(key.clone(), Entry { fingerprint, answer: receiver.clone() });
        drop(kept);
        let shared = Arc::clone(&self.kept);
        task::spawn("write", portal.as_str(), async move {
            let answer = write.await;
            shared.lock().finished(key, &answer, Instant::now());
            sender.send_replace(Some(answer));
        })
        .detach();
        Ok(receiver)
    }
}

// === impl Kept ===

impl<A: StoredResponse> Kept<A> {
    fn finished(&mut self, key: Key, answer: &A, now: Instant) {
        if !answer.may_have_effects() {
            self.entries.remove(&key);
            return;
        }
        let weight = answer.weight().max(1);
        self.weight += weight;
        self.order.push_back((now, key, weight));
        self.expire(now);
    }

    fn expire(&mut self, now: Instant) {
        while let Some((since, _, _)) = self.order.front() {
            if self.weight <= MAX_WEIGHT && now.duration_since(*since) < TTL {
                return;
            }
            if let Some((_, key, weight)) = self.order.pop_front() {
                self.entries.remove(&key);
                self.weight -= weight;
            }
        }
    }
}

async fn answered<A: StoredResponse>(mut receiver: watch::Receiver<Option<A>>) -> Result<A, Error> {
    let answer = receiver.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
    answer.ok_or_else(|| {
        Error::new(Reason::Internal, "the write ended without an answer; its outcome is not known")
            .with_side_effect(SideEffect::Possible)
    })
}

fn reused() -> Error {
    let description = "was used before with other content; take a new id for a new request";
    Error::new(Reason::RequestIdReused, format!("request_id: {description}"))
        .with_fields(vec![FieldFault::new("request_id", description)])
}

#[cfg(test)]
mod tests;
