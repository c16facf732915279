//! HubSpot's rate limits, as true rolling windows.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::time::Timestamp;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// How many calls an account may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Calls in any ten seconds; search does not count.
    pub burst: usize,
    /// Length of that window.
    pub window: Duration,
    /// Whether a tenth of the burst is also enforced per second: seen by some, not documented.
    pub secondly: bool,
    /// Searches in any second.
    pub search_per_second: usize,
    /// Calls a day; the day is the account's, see `utc_offset_s`.
    pub daily: usize,
    /// How far the account's time zone is ahead of UTC, in seconds.
    pub utc_offset_s: i64,
    /// Whether searches count to the day.
    pub search_counts_daily: bool,
    /// Whether a 429 says how long to wait.
    pub retry_after: bool,
}

/// Calls made lately.
#[derive(Debug, Default)]
pub(super) struct Counted {
    general: VecDeque<Instant>,
    search: VecDeque<Instant>,
    today: usize,
    /// Days since 1970 where the account is.
    day: i64,
    pub(super) refused: u64,
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
            secondly: false,
            search_per_second: 5,
            daily: 625_000,
            utc_offset_s: 0,
            search_counts_daily: true,
            retry_after: false,
        }
    }
}

// === impl Counted ===

impl Counted {
    /// Counts a call, or says which limit it would break.
    pub(super) fn count(
        &mut self,
        limits: &Limits,
        search: bool,
        clock: Timestamp,
    ) -> Result<(), Reached> {
        let now = Instant::now();
        let local = clock.as_second() + limits.utc_offset_s;
        let day = local.div_euclid(DAY);
        if day != self.day {
            (self.day, self.today) = (day, 0);
        }
        let counts = !search || limits.search_counts_daily;
        let second = Duration::from_secs(1);
        let reached = if search {
            self.search.retain(|at| now.duration_since(*at) < second);
            full(&self.search, limits.search_per_second, second, now, "SECONDLY")
        } else {
            self.general.retain(|at| now.duration_since(*at) < limits.window);
            let in_second: VecDeque<Instant> = self
                .general
                .iter()
                .filter(|at| now.duration_since(**at) < second)
                .copied()
                .collect();
            full(&self.general, limits.burst, limits.window, now, "TEN_SECONDLY_ROLLING").or_else(
                || {
                    let per_second = limits.burst / 10;
                    limits
                        .secondly
                        .then(|| full(&in_second, per_second, second, now, "SECONDLY"))
                        .flatten()
                },
            )
        };
        let midnight = Duration::from_secs(u64::try_from(DAY - local.rem_euclid(DAY)).unwrap_or(0));
        let daily = Reached { policy: "DAILY", wait: midnight };
        let reached = reached.or_else(|| (counts && self.today >= limits.daily).then_some(daily));
        if let Some(reached) = reached {
            self.refused += 1;
            return Err(reached);
        }
        self.today += usize::from(counts);
        let window = if search { &mut self.search } else { &mut self.general };
        window.push_back(now);
        Ok(())
    }

    /// Calls left in the window and in the day.
    pub(super) fn remaining(&self, limits: &Limits) -> (usize, usize) {
        let left = limits.burst.saturating_sub(self.general.len());
        (left, limits.daily.saturating_sub(self.today))
    }
}

fn full(
    window: &VecDeque<Instant>,
    max: usize,
    length: Duration,
    now: Instant,
    policy: &'static str,
) -> Option<Reached> {
    if window.len() < max {
        return None;
    }
    let wait = window.front().map_or(length, |oldest| length - now.duration_since(*oldest));
    Some(Reached { policy, wait })
}
