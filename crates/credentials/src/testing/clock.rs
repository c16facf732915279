//! A wall clock that follows tokio's paused time and can be set.

use std::sync::{Mutex, MutexGuard};

use tokio::time::Instant;

use leadsd_base::time::{Timestamp, WallClock};

/// More reads than this at one instant mean a busy loop.
const MAX_READS_AT_ONCE: u32 = 5_000;

/// A wall clock that follows tokio's, plus an offset.
#[derive(Debug)]
pub struct TestClock(Mutex<ClockState>);

#[derive(Debug)]
struct ClockState {
    started: Instant,
    offset_s: i64,
    panics: u32,
    /// Time of the last read, and number of reads at that time.
    last_read: (Instant, u32),
    saw_busy_loop: bool,
}

// === impl TestClock ===

impl TestClock {
    /// Sets the clock forward, or back.
    pub fn jump(&self, seconds: i64) {
        self.state().offset_s += seconds;
    }

    /// True if the clock was read over and over without time passing.
    pub fn saw_busy_loop(&self) -> bool {
        self.state().saw_busy_loop
    }

    /// Makes the next `times` reads panic, and with them the task that reads.
    pub fn panic_next(&self, times: u32) {
        self.state().panics = times;
    }

    fn state(&self) -> MutexGuard<'_, ClockState> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Default for TestClock {
    fn default() -> Self {
        let started = Instant::now();
        let last_read = (started, 0);
        Self(Mutex::new(ClockState {
            started,
            offset_s: 0,
            panics: 0,
            last_read,
            saw_busy_loop: false,
        }))
    }
}

impl WallClock for TestClock {
    fn now(&self) -> Timestamp {
        let mut state = self.state();
        let now = Instant::now();
        let reads = if state.last_read.0 == now { state.last_read.1 + 1 } else { 0 };
        state.last_read = (now, reads);
        if reads > MAX_READS_AT_ONCE {
            state.saw_busy_loop = true;
            panic!("the clock double was read in a busy loop");
        }
        if state.panics > 0 {
            state.panics -= 1;
            panic!("the clock double was set to panic");
        }
        let elapsed = i64::try_from(state.started.elapsed().as_secs()).unwrap_or(i64::MAX);
        let seconds = 1_800_000_000_i64.saturating_add(state.offset_s).saturating_add(elapsed);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
    }
}
