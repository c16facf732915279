//! The limits of one account, behind its mutex.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leadsd_base::time::{Timestamp, Zone};
use tokio::time::Instant;

use crate::{
    bucket::Bucket,
    bucket_name::BucketName,
    daily::Daily,
    limiter::{Limiter, Next},
    observation::{Baseline, Observation, RateLimited, RetryTime},
    rejected::{Reason, Rejected},
    requester::Requester,
    settings::Settings,
    snapshot::{BucketCounters, BucketSnapshot},
    waiting::Waiting,
};

/// Maximum time for which a 429 closes a limit: a day, the longest window there is. Longer times are
/// mistakes.
const MAX_CLOSED: Duration = Duration::from_secs(86_400);

/// The same moment by both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) wall: Timestamp,
}

/// The limits of one account.
#[derive(Debug)]
pub(super) struct State {
    burst: Limiter,
    search: Limiter,
    daily: Daily,
    /// Requests rejected because the daily limit is exhausted.
    exhausted: u64,
    /// Calls that are sent and have not ended.
    in_flight: u64,
}

/// Next step for a queue.
#[derive(Debug)]
pub(super) enum QueueStep {
    /// Step of the limiter.
    Next(Next),
    /// Rejections of all requests: the daily limit is exhausted.
    Exhausted(Vec<(Waiting, Rejected)>),
}

// === impl State ===

impl State {
    pub(super) fn new(
        settings: &Settings,
        zone: Zone,
        weights: Arc<BTreeMap<String, u32>>,
        now: Instant,
    ) -> Self {
        let (ledger, concurrency) = (settings.ledger.as_ref(), settings.max_concurrency);
        let burst = Bucket::burst(settings.burst, settings.burst_window).shared(ledger, now);
        let search = Bucket::secondly(settings.search_per_second).shared(ledger, now);
        Self {
            burst: Limiter::new(BucketName::Burst, burst, Arc::clone(&weights), concurrency),
            search: Limiter::new(BucketName::Search, search, weights, concurrency),
            daily: Daily::new(settings.daily, zone),
            exhausted: 0,
            in_flight: 0,
        }
    }

    /// The limiter of a bucket. The daily limit has none: every call counts against it.
    pub(super) fn limiter(&mut self, bucket: BucketName) -> &mut Limiter {
        match bucket {
            BucketName::Search => &mut self.search,
            BucketName::Burst | BucketName::Daily => &mut self.burst,
        }
    }

    /// Rejects a request if the daily limit is exhausted.
    pub(super) fn check_daily(&mut self, now: Now) -> Result<(), Rejected> {
        let Some(remaining) = self.daily.exhausted_for(now.wall) else { return Ok(()) };
        Err(self.exhausted(remaining, now.instant))
    }

    /// Acquires a slot if one is free and no request waits for it.
    pub(super) fn try_take(
        &mut self,
        bucket: BucketName,
        requester: &Requester,
        deadline: Instant,
        now: Now,
    ) -> Result<Option<u64>, Rejected> {
        self.check_daily(now)?;
        let slot = self.limiter(bucket).try_take(requester, deadline, now.instant)?;
        if slot.is_some() {
            self.daily.take(now.wall);
        }
        Ok(slot)
    }

    /// Acquires a slot for the requests of a queue that are served next.
    pub(super) fn next(&mut self, bucket: BucketName, now: Now) -> QueueStep {
        if self.limiter(bucket).queue.is_empty() {
            return QueueStep::Next(Next::OnEvent);
        }
        if let Some(remaining) = self.daily.exhausted_for(now.wall) {
            let all = self.limiter(bucket).queue.drain().into_iter();
            let all = all.map(|waiting| (waiting, self.exhausted(remaining, now.instant)));
            return QueueStep::Exhausted(all.collect());
        }
        let next = self.limiter(bucket).next(now.instant);
        match &next {
            Next::Batch(..) => self.daily.take(now.wall),
            Next::Late(..) | Next::At(_) | Next::OnEvent => {}
        }
        QueueStep::Next(next)
    }

    /// Records that the call of a slot is sent now.
    pub(super) fn mark_sent(
        &mut self,
        bucket: BucketName,
        slot: u64,
        leads: usize,
        now: Instant,
    ) -> Baseline {
        self.in_flight += 1;
        let limiter = self.limiter(bucket);
        limiter.counts.permits += 1;
        limiter.counts.leads += leads as u64;
        limiter.bucket.mark_sent(slot, now);
        limiter.bucket.baseline()
    }

    /// Applies the limits in the response to the call of a slot.
    pub(super) fn observe(
        &mut self,
        bucket: BucketName,
        slot: u64,
        (observation, baseline): (Observation, Baseline),
        now: Now,
    ) {
        let Observation { limit, daily, daily_remaining, rate_limited } = observation;
        if let (Some(size), Some(remaining)) = (daily, daily_remaining) {
            self.daily.observe(size, remaining, self.in_flight.saturating_sub(1));
        }
        let limiter = self.limiter(bucket);
        match bucket {
            BucketName::Burst => limiter.bucket.observe(limit, slot, baseline, now.instant),
            // Responses to searches announce the burst limit, which does not count searches.
            BucketName::Search | BucketName::Daily => {}
        }
        match rate_limited {
            None => limiter.bucket.on_accepted(slot, now.instant),
            Some(RateLimited::Bucket(retry)) => {
                limiter.counts.upstream_429 += 1;
                let retry = match retry {
                    RetryTime::Stated(wait) => RetryTime::Stated(wait.min(MAX_CLOSED)),
                    RetryTime::Window(window) => RetryTime::Window(window.min(MAX_CLOSED)),
                };
                limiter.bucket.on_429(slot, retry, now.instant);
            }
            Some(RateLimited::Daily) => {
                limiter.counts.upstream_429 += 1;
                self.daily.close(now.wall);
            }
        }
    }

    /// Records that the call of a slot ended, with a response or without.
    pub(super) fn finish(
        &mut self,
        bucket: BucketName,
        slot: u64,
        has_response: bool,
        now: Instant,
    ) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.limiter(bucket).finish(slot, has_response, now);
    }

    /// Records that a slot was not used.
    pub(super) fn release(&mut self, bucket: BucketName, slot: u64, now: Instant) {
        self.daily.release();
        self.limiter(bucket).release(slot, now);
    }

    /// Rejection for a daily limit that is exhausted for this long.
    fn exhausted(&mut self, remaining: Duration, now: Instant) -> Rejected {
        self.exhausted += 1;
        let retry_after = remaining + self.burst.jitter(now);
        Rejected { bucket: BucketName::Daily, reason: Reason::Exhausted, retry_after }
    }

    /// Read models of all limits.
    pub(super) fn snapshot(&mut self, now: Now) -> Vec<BucketSnapshot> {
        let rest_of_day = self.daily.rest_of_day(now.wall);
        let daily = BucketSnapshot {
            name: BucketName::Daily,
            size: self.daily.size(),
            window: rest_of_day,
            used: self.daily.used(),
            reset: rest_of_day,
            closed: Duration::ZERO,
            waiting: 0,
            callers: Vec::new(),
            counts: BucketCounters { exhausted: self.exhausted, ..BucketCounters::default() },
            ledger: None,
        };
        vec![self.burst.snapshot(now.instant), self.search.snapshot(now.instant), daily]
    }
}
