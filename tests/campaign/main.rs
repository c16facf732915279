//! Random faults of real processes: two replicas of the binary and a Redis, between a fake HubSpot and a
//! fake Vault behind networks that can be cut and stalled. Callers of all kinds write and read meanwhile.
//!
//! Each round has faults of several peers that begin and end at random times, and then a calm. The first
//! round has one of each peer. Whatever the faults were:
//! - no lead is created twice, and no acknowledged write is lost,
//! - no `request_id` is poisoned: a write that is repeated with it succeeds,
//! - thirty seconds after the last fault every write that was open has its result, and every patient call
//!   succeeds. Time in which the machine does not run the test does not count.
//! - no call fails with an error of another cause,
//! - memory, open files and tasks of a replica do not grow, and nothing is held once all calls have ended.
//!
//! `cargo test --test campaign -- --ignored --nocapture` takes a minute. `just campaign` takes twenty, with
//! a random seed. `LEADSD_TEST_CAMPAIGN_SECONDS` sets the time, and `LEADSD_TEST_SEED` the seed, which
//! determines the faults and the calls.
//!
//! `src/pipeline/tests/campaign.rs` is the campaign in simulated time: faster, and with more faults of
//! HubSpot. Here are the parts that simulated time leaves out: sockets, processes, Redis, credentials, and
//! the clock of the machine.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a test may panic, spawn, read its environment, look at the real clock and print"
)]

mod callers;
mod campaign;
mod faults;
mod lead_lives;
mod usage;
mod world;
