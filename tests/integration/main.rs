//! The service as its callers see it: the public gRPC API in front of the fakes, over real sockets,
//! and real peers (OpenBao, grpcurl, buf, HubSpot's own clients) in the ignored tests.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test may panic, spawn and look at the real clock"
)]

mod abuse;
mod admin;
mod admission;
mod bad_input;
mod batches;
mod binary;
mod bombs;
mod callers;
mod chaos;
mod chart;
mod config;
mod contract;
mod credentials;
mod deadlines;
mod dev;
mod doctor;
mod documentation;
mod drain;
mod endings;
mod examples;
mod fairness;
mod fake_hubspot;
mod faults;
mod golden;
mod group_commit;
mod harness;
mod log_switch;
mod login;
mod logs;
mod metrics;
mod openbao;
mod operations;
mod outages;
mod pages;
mod pipes;
mod quota;
mod reads_and_writes;
mod real_peers;
mod refusals;
mod retries;
mod service;
mod shared_quota;
mod switches;
mod tls_front;
mod traces;
mod vault_contract;
mod walk;
mod wire;
