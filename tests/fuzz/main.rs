//! What comes from outside, wrong in every way that dice can make it: requests, page tokens, what
//! HubSpot and Vault answer, tokens and keys of callers, headers, configuration. Nothing may panic,
//! hang, log a secret, or blame the caller's nonsense on the service.
//!
//! `cargo test --test fuzz` takes some seconds and rolls the same dice each time.
//! `LEADSD_FUZZ_SECONDS=600 cargo test --test fuzz -- --nocapture` takes ten minutes in total, one
//! target after the other, and rolls others. `LEADSD_FUZZ_SEED` makes one input again, of the target
//! that is named: `LEADSD_FUZZ_SEED=7 cargo test --test fuzz -- answers`.
//!
//! The build is the one for tests, so that an overflow of a number panics as well. What was found is
//! kept as tests with names, beside the code that was at fault or in `found`: a seed stands for
//! another input as soon as a target changes.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic, spawn, read its environment, look at the real clock and print, and \
              treats most wire types alike"
)]

mod answers;
mod callers;
mod configuration;
mod dice;
mod found;
mod json;
mod messages;
mod pages;
mod proxy;
mod requests;
mod run;
mod texts;
mod vault;
mod world;
