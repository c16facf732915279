//! Who is believed and who is not: tables of tokens, keys, certificates and policies, with doubles for
//! the clock and the secret store, and never a socket.

mod api_keys;
mod certificates;
mod policies;
mod refreshing;
mod tokens;

use std::sync::atomic::{AtomicI64, Ordering};

use leadsd_base::time::{Timestamp, WallClock};

/// A clock that goes where it is put, in seconds since 1970.
#[derive(Debug)]
struct Stopped(AtomicI64);

impl WallClock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

/// Some moment, in seconds since 1970.
const NOW: i64 = 1_800_000_000;
