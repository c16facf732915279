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
mod ca_rotation;
mod call;
mod call_outcomes;
mod cancellations;
mod chart;
mod client_targets;
mod config;
mod contacts;
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
mod export;
mod export_command;
mod export_formats;
mod export_memory;
mod fairness;
mod fake_hubspot;
mod field_siblings;
mod golden;
mod greedy_clients;
mod harness;
mod hostile_clients;
mod hostile_peers;
mod hubspot_answers;
mod hubspot_errors;
mod hubspot_variants;
mod import;
mod import_command;
mod incomplete_error_bodies;
mod labels;
mod live;
mod log_filter;
mod login;
mod logs;
mod markdown_blocks;
mod matching;
mod memory_limit;
mod metrics;
mod million;
mod non_grpc_requests;
mod openbao;
mod openbao_changes;
mod operations;
mod prometheus;
mod pseudo_terminal;
mod published_contract;
mod quota;
mod readiness;
mod real_peers;
mod refused_calls;
mod request_validation;
mod response_size;
mod retries;
mod rpcs;
mod schema;
mod service;
mod service_manager;
mod shared_quota;
mod shared_request_ids;
mod standard_streams;
mod terminal;
mod tls_front;
mod traces;
mod unix_socket;
mod upserts;
mod validation;
mod vault_contract;
mod vault_outages;
mod walk;
mod wire_formats;
