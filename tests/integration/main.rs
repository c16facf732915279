//! The service as its callers see it: the public gRPC API in front of the fakes, over real sockets,
//! and real peers (OpenBao, grpcurl, buf, HubSpot's own clients) in the ignored tests.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test may panic, spawn and look at the real clock"
)]

mod admin;
mod admin_requests;
mod admission;
mod authentication;
mod batches;
mod batching;
mod binary;
mod broken_connections;
mod call_outcomes;
mod chart;
mod config;
mod contract;
mod credentials;
mod deadlines;
mod decompression_limits;
mod dev;
mod doctor;
mod documentation;
mod drain;
mod egress;
mod examples;
mod fairness;
mod fake_hubspot;
mod golden;
mod greedy_clients;
mod harness;
mod hostile_clients;
mod hostile_peers;
mod hubspot_answers;
mod hubspot_errors;
mod hubspot_variants;
mod incomplete_error_bodies;
mod log_filter;
mod login;
mod logs;
mod markdown_blocks;
mod memory_limit;
mod metrics;
mod non_grpc_requests;
mod openbao;
mod operations;
mod quota;
mod real_peers;
mod refused_calls;
mod request_validation;
mod response_size;
mod retries;
mod rpcs;
mod service;
mod shared_quota;
mod standard_streams;
mod tls_front;
mod traces;
mod upserts;
mod vault_contract;
mod vault_outages;
mod walk;
mod wire_formats;
