//! Tables of tokens, keys, certificates and policies, with doubles for the clock and the secret store
//! and without sockets.

mod api_keys;
mod certificates;
mod policies;
mod refreshing;
mod tokens;

use std::sync::atomic::{AtomicI64, Ordering};

use leadsd_base::time::{Timestamp, WallClock};

/// Clock set by the test, in seconds since 1970.
#[derive(Debug)]
struct ManualClock(AtomicI64);

impl WallClock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

/// Time of the tests, in seconds since 1970.
const NOW: i64 = 1_800_000_000;
