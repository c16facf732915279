//! Request ids of all replicas: claims an id before its write runs, and stores the result after it.
//!
//! - A claim has a lease that is renewed while the write runs. [`ClaimGuard`] ends it on every outcome.
//! - A claim whose lease has ended was made by a replica that was killed. Its write may have had effects,
//!   so what is not known of it is unknown, as after a lost response.
//! - While the store is unavailable, each exchange is bounded by
//!   [`EXCHANGE_TIMEOUT`](super::availability::EXCHANGE_TIMEOUT) and only one call a second waits for it.
//!   Then the ids of this replica count alone, and the scope of the call says so.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{
    future::{Either, select},
    pin_mut,
};
use leadsd_base::task;
use leadsd_quota::AccountKey;
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    WriteId,
    availability::Availability,
    record_allowance::RecordAllowance,
    request_id_store::{
        Claim, ClaimResponse, Ending, MAX_PARTS, PART_BYTES, RequestIdStore, StoredResult,
    },
    write::StoredResponse,
};
use crate::leads::request_id::RequestIdScope;

/// Time for which the store keeps a record.
pub(super) const TIME_TO_LIVE: Duration = Duration::from_secs(24 * 3_600);

/// Time after which the claim of a killed replica ends.
pub(super) const LEASE: Duration = Duration::from_secs(15);

/// Pause between renewals: two may fail before the lease ends.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(5);

/// First pause before a claim is tried again that another replica holds; it doubles.
const FIRST_POLL: Duration = Duration::from_millis(20);

/// Maximum pause between two attempts of a claim.
const MAX_POLL: Duration = Duration::from_millis(500);

/// Maximum number of claims and ends in progress. Together their responses take less than the connection
/// allows.
const MAX_EXCHANGES: usize = 512;

/// Maximum number of results being read in parts.
const MAX_READS: usize = 8;

/// Maximum time that a call waits for one of these places.
const QUEUE_TIMEOUT: Duration = Duration::from_millis(250);

/// Request ids of all replicas.
#[derive(Debug)]
pub(super) struct SharedRequestIds {
    store: Arc<dyn RequestIdStore>,
    availability: Availability,
    allowance: RecordAllowance,
    exchanges: Semaphore,
    reads: Semaphore,
}

/// Outcome of a claim.
pub(super) enum Claimed<A> {
    /// The write is to run, with what earlier writes have left.
    Granted(ClaimGuard, Option<A>),
    /// An earlier write has this final response.
    Final(A),
    /// The id has other content.
    OtherContent,
    /// Another replica holds the claim until the deadline.
    Held,
}

/// Claim of a write. Dropping it without an end marks the write as interrupted.
pub(super) struct ClaimGuard {
    shared: Arc<SharedRequestIds>,
    claim: Claim,
    account: AccountKey,
    /// True if the store has confirmed the claim, and no replica has replaced it.
    is_confirmed: bool,
    /// True if the store may have the claim.
    is_open: bool,
}

// === impl SharedRequestIds ===

impl SharedRequestIds {
    pub(super) fn new(store: Arc<dyn RequestIdStore>) -> Self {
        Self {
            store,
            availability: Availability::default(),
            allowance: RecordAllowance::new(),
            exchanges: Semaphore::new(MAX_EXCHANGES),
            reads: Semaphore::new(MAX_READS),
        }
    }

    /// True unless the last exchange failed.
    pub(super) fn is_up(&self) -> bool {
        self.availability.is_up()
    }

    /// Claims an id. Waits until `deadline` while another replica holds it.
    pub(super) async fn claim<A: StoredResponse>(
        self: &Arc<Self>,
        id: &WriteId,
        account: AccountKey,
        shape: A::Shape,
        deadline: Instant,
    ) -> Claimed<A> {
        let claim = id.claim();
        let shared = Arc::clone(self);
        let mut guard = ClaimGuard { shared, claim, account, is_confirmed: false, is_open: false };
        let (mut pause, mut was_held) = (FIRST_POLL, false);
        loop {
            guard.is_open = true;
            let claim = &guard.claim;
            let response = self.exchange(self.store.claim(claim)).await;
            guard.is_confirmed = response.as_ref().is_some_and(is_granted);
            let Some(response) = response else {
                // What another replica has begun may have had effects.
                return Claimed::Granted(guard, was_held.then(|| A::interrupted(shape, None)));
            };
            match response {
                ClaimResponse::New => return Claimed::Granted(guard, None),
                ClaimResponse::Open(result) => {
                    let earlier = self.read(&guard.claim, shape, result).await;
                    let earlier = earlier.unwrap_or_else(|| A::interrupted(shape, None));
                    return Claimed::Granted(guard, Some(earlier));
                }
                ClaimResponse::Interrupted(result) => {
                    let earlier = self.read(&guard.claim, shape, result).await;
                    return Claimed::Granted(guard, Some(A::interrupted(shape, earlier)));
                }
                ClaimResponse::Final(result) => {
                    guard.is_open = false;
                    let found = self.read(&guard.claim, shape, result).await;
                    return match found.filter(A::is_final) {
                        Some(response) => Claimed::Final(response),
                        None => Claimed::Granted(guard, Some(A::interrupted(shape, None))),
                    };
                }
                ClaimResponse::OtherContent => {
                    guard.is_open = false;
                    return Claimed::OtherContent;
                }
                // A newer or older replica knows the result.
                ClaimResponse::OtherVersion => {
                    guard.is_open = false;
                    return Claimed::Granted(guard, Some(A::interrupted(shape, None)));
                }
                ClaimResponse::Held => {
                    (guard.is_open, was_held) = (false, true);
                    if Instant::now() + pause >= deadline {
                        sleep_until(deadline).await;
                        return Claimed::Held;
                    }
                    sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                    pause = (pause * 2).min(MAX_POLL);
                }
            }
        }
    }

    /// Reads and decodes a result. `None` if there is none, or it cannot be read.
    async fn read<A: StoredResponse>(
        &self,
        claim: &Claim,
        shape: A::Shape,
        result: StoredResult,
    ) -> Option<A> {
        let StoredResult { parts, mut inline } = result;
        if parts == 0 {
            return A::from_record(shape, &inline);
        }
        if parts > MAX_PARTS {
            return None;
        }
        let _read = timeout(QUEUE_TIMEOUT, self.reads.acquire()).await.ok()?.ok()?;
        for part in 0..parts {
            let bytes = self.exchange(self.store.read_part(&claim.key, part)).await?;
            inline.extend(bytes);
        }
        A::from_record(shape, &inline).filter(|_| inline.len() <= MAX_PARTS * PART_BYTES)
    }

    /// Makes an exchange. `None` if the store is unavailable, or if too many exchanges are in progress.
    async fn exchange<T>(
        &self,
        exchange: impl Future<Output = Result<T, super::StoreUnavailable>>,
    ) -> Option<T> {
        // A full queue does not mean that the store is unavailable.
        let _place = timeout(QUEUE_TIMEOUT, self.exchanges.acquire()).await.ok()?.ok()?;
        self.availability.exchange(exchange).await
    }
}

// === impl ClaimGuard ===

impl ClaimGuard {
    /// Scope in which a repeat is recognized if the write is interrupted now.
    pub(super) fn scope(&self) -> RequestIdScope {
        if self.is_confirmed { RequestIdScope::Shared } else { RequestIdScope::Replica }
    }

    /// Runs the write, and renews the lease meanwhile.
    pub(super) async fn renew_while<T>(&mut self, run: impl Future<Output = T>) -> T {
        let is_confirmed = self.is_confirmed;
        let renewals = async {
            if !is_confirmed {
                return;
            }
            loop {
                sleep(RENEWAL_INTERVAL).await;
                let renewal = self.shared.store.renew(&self.claim);
                if self.shared.exchange(renewal).await == Some(false) {
                    self.is_confirmed = false;
                    return;
                }
            }
        };
        pin_mut!(run);
        pin_mut!(renewals);
        match select(run, renewals).await {
            Either::Left((response, _)) => response,
            Either::Right(((), run)) => run.await,
        }
    }

    /// Stores the response, or removes the record if the write had no effect. Returns the scope in which a
    /// repeat is recognized.
    pub(super) async fn end<A: StoredResponse>(
        mut self,
        response: &A,
        shape: A::Shape,
    ) -> RequestIdScope {
        let has_effects = response.may_have_effects();
        let record =
            response.to_record(shape).filter(|record| record.len() <= MAX_PARTS * PART_BYTES);
        let (ending, is_stored) = match record {
            _ if !has_effects => (Ending::Forget, true),
            Some(result) if self.shared.allowance.take(&self.account, result.len()) => {
                (Ending::Keep { result, is_final: response.is_final() }, true)
            }
            Some(_) => (Ending::Forget, false),
            // Others must not take it for a new id.
            None => (Ending::Interrupt, false),
        };
        let ended = self.shared.exchange(self.shared.store.end(&self.claim, ending)).await;
        self.is_open = false;
        let is_shared = self.is_confirmed && is_stored && ended == Some(true);
        if is_shared { RequestIdScope::Shared } else { RequestIdScope::Replica }
    }
}

impl Drop for ClaimGuard {
    fn drop(&mut self) {
        // Without a runtime the lease ends by itself.
        if !self.is_open || Handle::try_current().is_err() {
            return;
        }
        let (shared, claim) = (Arc::clone(&self.shared), self.claim.clone());
        task::spawn("request id", "", async move {
            let interrupted = shared.store.end(&claim, Ending::Interrupt);
            // Otherwise the lease ends by itself.
            let _ = shared.exchange(interrupted).await;
        })
        .detach();
    }
}

impl fmt::Debug for ClaimGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClaimGuard")
            .field("is_confirmed", &self.is_confirmed)
            .finish_non_exhaustive()
    }
}

/// True if a claim is valid.
fn is_granted(response: &ClaimResponse) -> bool {
    match response {
        ClaimResponse::New | ClaimResponse::Open(_) | ClaimResponse::Interrupted(_) => true,
        ClaimResponse::Final(_)
        | ClaimResponse::Held
        | ClaimResponse::OtherContent
        | ClaimResponse::OtherVersion => false,
    }
}
