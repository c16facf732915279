//! HubSpot's rate limits, as true rolling windows.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use leadsd_base::time::Timestamp;

const SECONDS_OF_DAY: i64 = 86_400;

const SECOND: Duration = Duration::from_secs(1);

/// How many calls an account may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Calls of an app in any ten seconds; search does not count.
    pub burst: usize,
    /// Length of that window.
    pub window: Duration,
    /// What headers tell of the burst, where that is not what holds now: a change that is announced.
    pub announced: Option<usize>,
    /// Whether a tenth of the burst is also enforced per second: seen by some, not documented.
    pub secondly: bool,
    /// Searches of all apps in any second.
    pub search_per_second: usize,
    /// Calls a day.
    pub daily: usize,
    /// Whether searches count to the calls of a day.
    pub search_counts_daily: bool,
    /// Whether the calls of OAuth tokens count to the calls of a day.
    pub oauth_counts_daily: bool,
    /// How far the account's midnight is from that of UTC: the calls of a day start over at it.
    pub utc_offset_minutes: i32,
    /// Whether a 429 names its policy; some gateways' do not.
    pub name_policies: bool,
    /// Whether a 429 says how long to wait.
    pub retry_after: bool,
}

/// Calls made lately.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// By app: each has a limit of its own.
    general: HashMap<String, VecDeque<Instant>>,
    search: VecDeque<Instant>,
    /// Days since 1970 in the account's time zone.
    pub(super) day: i64,
    pub(super) today: usize,
    pub(super) passed: u64,
    pub(super) refused: u64,
}

/// What matters of a call to the limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) search: bool,
    pub(super) oauth: bool,
    /// The app that makes it.
    pub(super) app: &'a str,
}

/// Calls left in the window, in the second and in the day.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    pub(super) window: usize,
    pub(super) second: usize,
    pub(super) day: usize,
}

/// Which limit is reached, and when a call may pass again.
pub(super) struct Reached {
    pub(super) policy: &'static str,
    pub(super) wait: Duration,
}

// === impl Limits ===

impl Default for Limits {
    /// A static token in a Professional account.
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
    /// What headers tell of the burst.
    pub(super) fn told(&self) -> usize {
        self.announced.unwrap_or(self.burst)
    }

    /// The day in the account's time zone, and how long it lasts yet.
    pub(super) fn day(&self, now: Timestamp) -> (i64, Duration) {
        let local = now.as_second() + i64::from(self.utc_offset_minutes) * 60;
        let left = SECONDS_OF_DAY - local.rem_euclid(SECONDS_OF_DAY);
        (local.div_euclid(SECONDS_OF_DAY), Duration::from_secs(left.unsigned_abs()))
    }
}

// === impl Counted ===

impl Counted {
    /// Lets so much time pass for the windows.
    pub(super) fn advance(&mut self, by: Duration) {
        let windows = self.general.values_mut().chain([&mut self.search]);
        windows.flatten().for_each(|at| *at -= by);
    }

    /// Counts a call, or says which limit it would break.
    pub(super) fn count(
        &mut self,
        limits: &Limits,
        call: Call<'_>,
        clock: Timestamp,
    ) -> Result<(), Reached> {
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
            used_up.then_some(Reached { policy: "DAILY", wait })
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

    /// Counts calls of these apps without asking whether they fit.
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

    /// Calls that are left to an app.
    pub(super) fn left(&mut self, limits: &Limits, app: &str, clock: Timestamp) -> Left {
        let now = Instant::now();
        self.forget(limits, clock, now);
        let general = self.general.get(app);
        let used = general.map_or(0, VecDeque::len);
        let lately = general.map_or(0, |general| last_second(general, now));
        Left {
            window: limits.told().saturating_sub(used),
            second: (limits.told() / 10).saturating_sub(lately),
            day: limits.daily.saturating_sub(self.today),
        }
    }

    /// Drops what has left its window, and yesterday. Calls are counted one after the other, so the
    /// oldest are in front.
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
) -> Option<Reached> {
    (window.len() >= max).then(|| reached(window, max, length, now, policy))
}

/// A call may pass once fewer than `max` of those counted are in the window.
fn reached(
    counted: &VecDeque<Instant>,
    max: usize,
    length: Duration,
    now: Instant,
    policy: &'static str,
) -> Reached {
    let last = counted.len().checked_sub(max.max(1)).and_then(|index| counted.get(index));
    let wait = last.map_or(length, |last| length.saturating_sub(now.duration_since(*last)));
    Reached { policy, wait }
}
