//! Fuzz tests of all external input: requests, page tokens, responses of HubSpot and Vault, tokens
//! and keys of callers, headers, configuration. No input may cause a panic, a hang, a secret in the
//! log, or an INTERNAL error.
//!
//! `cargo test --test fuzz` takes some seconds and uses fixed seeds. `LEADSD_FUZZ_SECONDS=600 cargo
//! test --test fuzz -- --nocapture` takes ten minutes in total, one target after the other, and
//! uses random seeds. `LEADSD_FUZZ_SEED` reproduces one input of the target that is named:
//! `LEADSD_FUZZ_SEED=7 cargo test --test fuzz -- upstream_responses`.
//!
//! The test profile has overflow checks, so an integer overflow panics as well. Each failure that
//! was found has a named test, beside the code or in `regressions`: a seed yields another input as
//! soon as a target changes.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic, spawn, read its environment, look at the real clock and print, and \
              treats most wire types alike"
)]

mod caller_credentials;
mod configuration;
mod malformed_json;
mod messages;
mod page_tokens;
mod proxy;
mod random;
mod regressions;
mod requests;
mod run;
mod setup;
mod text_parsers;
mod upstream_responses;
mod vault_responses;
