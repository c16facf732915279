//! Rate limits of the fake, as exact rolling windows.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use leadsd_base::time::Timestamp;

const SECONDS_OF_DAY: i64 = 86_400;

const SECOND: Duration = Duration::from_secs(1);

/// Rate limits of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of calls of an app per window; searches do not count.
    pub burst: usize,
    /// Length of the window.
    pub window: Duration,
    /// Limit that the headers report if it differs from `burst`, as after an announced change.
    pub announced: Option<usize>,
    /// True if a tenth of the burst is also enforced per second. Observed by some, not documented.
    pub secondly: bool,
    /// Maximum number of searches of all apps per second.
    pub search_per_second: usize,
    /// Maximum number of calls per day.
    pub daily: usize,
    /// True if searches count towards the daily limit.
    pub search_counts_daily: bool,
    /// True if calls with OAuth tokens count towards the daily limit.
    pub oauth_counts_daily: bool,
    /// UTC offset of the account. The daily count resets at its midnight.
    pub utc_offset_minutes: i32,
    /// True if a 429 names its policy; some gateways omit it.
    pub name_policies: bool,
    /// True if a 429 has `Retry-After`.
    pub retry_after: bool,
}

/// Calls counted in the current windows.
#[derive(Debug, Default)]
pub(super) struct CountedCalls {
    /// Calls by app: each app has a separate limit.
    general: HashMap<String, VecDeque<Instant>>,
    search: VecDeque<Instant>,
    /// Days since 1970 in the account's time zone.
    pub(super) day: i64,
    pub(super) today: usize,
    pub(super) passed: u64,
    pub(super) refused: u64,
}

/// Attributes of a call that decide which limits apply.
#[derive(Debug, Clone, Copy)]
pub(super) struct CountedCall<'a> {
    pub(super) search: bool,
    pub(super) oauth: bool,
    /// App that makes the call.
    pub(super) app: &'a str,
}

/// Remaining calls in the window, the second and the day.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remaining {
    pub(super) window: usize,
    pub(super) second: usize,
    pub(super) day: usize,
}

/// Exhausted limit, and the time until the next call passes.
pub(super) struct LimitExceeded {
    pub(super) policy: &'static str,
    pub(super) wait: Duration,
}

// === impl Limits ===

impl Default for Limits {
    /// Limits of a private app in a Professional account.
    fn default() -> Self {
        Self {
            burst: 190,
            window: Duration::from_secs(10),
            announced: None,
            secondly: false,
            search_per_second: 5,
            daily: 625_000,
            search_counts_daily: true,
            oauth_counts_daily: false,
            utc_offset_minutes: 0,
            name_policies: true,
            retry_after: false,
        }
    }
}

impl Limits {
    /// Limit that the headers report.
    pub(super) fn reported_burst(&self) -> usize {
        self.announced.unwrap_or(self.burst)
    }

    /// Day in the account's time zone, and the time until it ends.
    pub(super) fn day(&self, now: Timestamp) -> (i64, Duration) {
        let local = now.as_second() + i64::from(self.utc_offset_minutes) * 60;
        let left = SECONDS_OF_DAY - local.rem_euclid(SECONDS_OF_DAY);
        (local.div_euclid(SECONDS_OF_DAY), Duration::from_secs(left.unsigned_abs()))
    }
}

// === impl CountedCalls ===

impl CountedCalls {
    /// Moves the clock of the windows forward.
    pub(super) fn advance(&mut self, by: Duration) {
        let windows = self.general.values_mut().chain([&mut self.search]);
        windows.flatten().for_each(|at| *at -= by);
    }

    /// Counts a call. Errors if a limit is exhausted.
    pub(super) fn count(
        &mut self,
        limits: &Limits,
        call: CountedCall<'_>,
        clock: Timestamp,
    ) -> Result<(), LimitExceeded> {
        let now = Instant::now();
        self.forget(limits, clock, now);
        let in_day = (!call.search || limits.search_counts_daily)
            && (!call.oauth || limits.oauth_counts_daily);
        let general = self.general.entry(call.app.to_owned()).or_default();
        let reached = if call.search {
            full(&self.search, limits.search_per_second, SECOND, now, "SECONDLY")
        } else {
            full(general, limits.burst, limits.window, now, "TEN_SECONDLY_ROLLING").or_else(|| {
                let second = limits.burst / 10;
                let is_full = limits.secondly && last_second(general, now) >= second;
                is_full.then(|| reached(general, second, SECOND, now, "SECONDLY"))
            })
        };
        let reached = reached.or_else(|| {
            let (_, wait) = limits.day(clock);
            let used_up = in_day && self.today >= limits.daily;
            used_up.then_some(LimitExceeded { policy: "DAILY", wait })
        });
        if let Some(reached) = reached {
            self.refused += 1;
            return Err(reached);
        }
        self.today += usize::from(in_day);
        self.passed += 1;
        let window = if call.search { &mut self.search } else { general };
        window.push_back(now);
        Ok(())
    }

    /// Counts calls of these apps without enforcing limits.
    pub(super) fn use_up(
        &mut self,
        apps: impl Iterator<Item = String>,
        calls: usize,
        limits: &Limits,
        clock: Timestamp,
    ) {
        let now = Instant::now();
        self.forget(limits, clock, now);
        self.today += calls;
        for app in apps {
            self.general.entry(app).or_default().extend(std::iter::repeat_n(now, calls));
        }
    }

    /// Remaining calls of an app.
    pub(super) fn left(&mut self, limits: &Limits, app: &str, clock: Timestamp) -> Remaining {
        let now = Instant::now();
        self.forget(limits, clock, now);
        let general = self.general.get(app);
        let used = general.map_or(0, VecDeque::len);
        let lately = general.map_or(0, |general| last_second(general, now));
        Remaining {
            window: limits.reported_burst().saturating_sub(used),
            second: (limits.reported_burst() / 10).saturating_sub(lately),
            day: limits.daily.saturating_sub(self.today),
        }
    }

    /// Drops calls that left their window, and those of yesterday. Calls are counted in order, so
    /// the oldest are in front.
    fn forget(&mut self, limits: &Limits, clock: Timestamp, now: Instant) {
        let general = self.general.values_mut().map(|window| (window, limits.window));
        for (window, length) in general.chain([(&mut self.search, SECOND)]) {
            while window.front().is_some_and(|at| now.duration_since(*at) >= length) {
                window.pop_front();
            }
        }
        let (day, _) = limits.day(clock);
        if day != self.day {
            self.day = day;
            self.today = 0;
        }
    }
}

fn last_second(counted: &VecDeque<Instant>, now: Instant) -> usize {
    counted.len() - counted.partition_point(|at| now.duration_since(*at) >= SECOND)
}

fn full(
    window: &VecDeque<Instant>,
    max: usize,
    length: Duration,
    now: Instant,
    policy: &'static str,
) -> Option<LimitExceeded> {
    (window.len() >= max).then(|| reached(window, max, length, now, policy))
}

/// Reports an exhausted limit: a call passes once fewer than `max` calls are in the window.
fn reached(
    counted: &VecDeque<Instant>,
    max: usize,
    length: Duration,
    now: Instant,
    policy: &'static str,
) -> LimitExceeded {
    let last = counted.len().checked_sub(max.max(1)).and_then(|index| counted.get(index));
    let wait = last.map_or(length, |last| length.saturating_sub(now.duration_since(*last)));
    LimitExceeded { policy, wait }
}
