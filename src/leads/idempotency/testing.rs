//! Store of request ids in memory, in simulated time, with the faults of a real one.

use std::{
    collections::HashMap,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    Claim, ClaimResponse, ContentDigest, Ending, INLINE_BYTES, IdempotencyKey, PART_BYTES,
    RecordKey, RequestId, RequestIdStore, StoreUnavailable, StoredResult,
};
use crate::leads::PortalName;
use leadsd_quota::Caller;

/// Fault of the store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    None,
    /// Each exchange fails.
    Refuses,
    /// No exchange has a response or an effect.
    Hangs,
    /// Each response takes this long.
    Slow(Duration),
    /// Each exchange has its effect and no response.
    LosesResponses,
    /// Each claim has this response and no effect.
    Lies(ClaimResponse),
    /// Claims succeed, and results cannot be read.
    LosesParts,
}

/// Store of request ids in memory.
#[derive(Debug)]
pub(crate) struct InMemoryRequestIds {
    records: Mutex<HashMap<RecordKey, Record>>,
    fault: Mutex<Fault>,
    exchanges: AtomicUsize,
}

#[derive(Debug, Clone)]
struct Record {
    content: ContentDigest,
    claim: Option<(Uuid, Instant)>,
    result: Vec<u8>,
    is_final: bool,
    expires: Instant,
}

// === impl InMemoryRequestIds ===

impl InMemoryRequestIds {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            records: Mutex::default(),
            fault: Mutex::new(Fault::None),
            exchanges: AtomicUsize::new(0),
        })
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        *self.fault.lock() = fault;
    }

    /// Number of exchanges that were begun.
    pub(crate) fn exchanges(&self) -> usize {
        self.exchanges.load(Ordering::Relaxed)
    }

    /// Number of records that have not expired.
    pub(crate) fn len(&self) -> usize {
        let now = Instant::now();
        self.records.lock().values().filter(|record| record.expires > now).count()
    }

    /// Everything that is stored, as text.
    pub(crate) fn dump(&self) -> String {
        let records = self.records.lock();
        let texts = records.iter().map(|(key, record)| {
            let result = String::from_utf8_lossy(&record.result);
            let content = String::from_utf8_lossy(record.content.as_bytes()).into_owned();
            format!("{} {content} {result}\n", key.to_hex())
        });
        texts.collect()
    }

    /// Removes everything.
    pub(crate) fn lose_data(&self) {
        self.records.lock().clear();
    }

    /// Runs an exchange with the fault of the store.
    async fn exchange<T>(&self, run: impl FnOnce() -> T) -> Result<T, StoreUnavailable> {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        let fault = self.fault.lock().clone();
        match fault {
            Fault::None | Fault::Lies(_) | Fault::LosesParts => Ok(run()),
            Fault::Refuses => Err(StoreUnavailable("connection refused".to_owned())),
            Fault::Hangs => pending().await,
            Fault::Slow(time) => {
                sleep(time).await;
                Ok(run())
            }
            Fault::LosesResponses => {
                run();
                pending().await
            }
        }
    }

    fn try_claim(&self, claim: &Claim) -> ClaimResponse {
        let now = Instant::now();
        let mut records = self.records.lock();
        if records.get(&claim.key).is_some_and(|record| record.expires <= now) {
            records.remove(&claim.key);
        }
        let held = Some((claim.token, now + claim.lease));
        let Some(record) = records.get_mut(&claim.key) else {
            let record = Record {
                content: claim.content,
                claim: held,
                result: Vec::new(),
                is_final: false,
                expires: now + claim.time_to_live,
            };
            records.insert(claim.key, record);
            return ClaimResponse::New;
        };
        if record.content != claim.content {
            return ClaimResponse::OtherContent;
        }
        let result = match record.result.len() {
            0..=INLINE_BYTES => StoredResult { parts: 0, inline: record.result.clone() },
            bytes => StoredResult { parts: bytes.div_ceil(PART_BYTES), inline: Vec::new() },
        };
        if record.is_final {
            return ClaimResponse::Final(result);
        }
        if record.claim.is_some_and(|(_, until)| until > now) {
            return ClaimResponse::Held;
        }
        record.expires = now + claim.time_to_live;
        match std::mem::replace(&mut record.claim, held) {
            Some(_) => ClaimResponse::Interrupted(result),
            None => ClaimResponse::Open(result),
        }
    }

    fn try_end(&self, claim: &Claim, ending: Ending) -> bool {
        let now = Instant::now();
        let mut records = self.records.lock();
        let record = records.get_mut(&claim.key);
        let is_own = record.as_ref().is_none_or(|record| {
            record.claim.is_none_or(|(token, until)| token == claim.token || until <= now)
                && record.content == claim.content
                && !record.is_final
        });
        if !is_own {
            return false;
        }
        match (ending, record) {
            (Ending::Keep { result, is_final }, _) => {
                let (content, expires) = (claim.content, now + claim.time_to_live);
                let record = Record { content, claim: None, result, is_final, expires };
                records.insert(claim.key, record);
            }
            (Ending::Forget, _) => {
                records.remove(&claim.key);
            }
            (Ending::Interrupt, Some(record)) => record.claim = Some((claim.token, now)),
            (Ending::Interrupt, None) => {}
        }
        true
    }
}

#[async_trait]
impl RequestIdStore for InMemoryRequestIds {
    async fn claim(&self, claim: &Claim) -> Result<ClaimResponse, StoreUnavailable> {
        let lie = match &*self.fault.lock() {
            Fault::Lies(response) => Some(response.clone()),
            Fault::None
            | Fault::Refuses
            | Fault::Hangs
            | Fault::Slow(_)
            | Fault::LosesResponses
            | Fault::LosesParts => None,
        };
        self.exchange(|| lie.unwrap_or_else(|| self.try_claim(claim))).await
    }

    async fn read_part(&self, key: &RecordKey, part: usize) -> Result<Vec<u8>, StoreUnavailable> {
        if *self.fault.lock() == Fault::LosesParts {
            return Err(StoreUnavailable("connection reset".to_owned()));
        }
        self.exchange(|| {
            let records = self.records.lock();
            let result = records.get(key).map(|record| record.result.as_slice());
            result.and_then(|bytes| bytes.chunks(PART_BYTES).nth(part)).unwrap_or(b"").to_vec()
        })
        .await
    }

    async fn renew(&self, claim: &Claim) -> Result<bool, StoreUnavailable> {
        self.exchange(|| {
            let mut records = self.records.lock();
            let Some(record) = records.get_mut(&claim.key) else { return false };
            let is_own = record.claim.is_some_and(|(token, _)| token == claim.token);
            if is_own {
                record.claim = Some((claim.token, Instant::now() + claim.lease));
            }
            is_own
        })
        .await
    }

    async fn end(&self, claim: &Claim, ending: Ending) -> Result<bool, StoreUnavailable> {
        self.exchange(|| self.try_end(claim, ending)).await
    }
}

/// Claims on this many ids, each with this many contents.
pub(crate) fn claims(ids: usize, contents: usize) -> Vec<Claim> {
    let key = |id: usize| IdempotencyKey {
        caller: Caller::new("web"),
        portal: PortalName::parse("default").expect("a valid name"),
        request_id: RequestId::parse(&id.to_string()).expect("a valid id"),
    };
    let claim = |(id, content): (usize, usize)| Claim {
        key: RecordKey::new(&key(id)),
        content: ContentDigest::new(&key(id), "test", &content.to_string()),
        token: Uuid::new_v4(),
        lease: Duration::from_secs(1),
        time_to_live: Duration::from_secs(3_600),
    };
    (0..ids).flat_map(|id| (0..contents).map(move |content| (id, content))).map(claim).collect()
}
