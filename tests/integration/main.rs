//! The service as its callers see it: the public gRPC API in front of the fakes, over real sockets,
//! and real peers (OpenBao, grpcurl, buf, HubSpot's own clients) in the ignored tests.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test may panic, spawn and look at the real clock"
)]

mod bad_input;
mod batches;
mod credentials;
mod fake_hubspot;
mod faults;
mod harness;
mod operations;
mod reads_and_writes;
mod real_peers;
mod service;
mod switches;
