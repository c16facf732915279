//! Microservice `leadsd`: HubSpot CRM leads for every service of a company, over gRPC.
//!
//! Dependencies point inward: `grpc -> leads <- hubspot -> credentials <- vault`. Only `app` connects
//! ports with their implementations. docs/ARCHITECTURE.md follows one call through the modules.

pub mod admin;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod grpc;
pub mod hubspot;
pub mod leads;
pub mod pipeline;
pub mod request_ids;
pub mod telemetry;
pub mod vault;
