//! Foundations that know neither leads nor gRPC: supervised tasks, clocks, secret text, network errors.
//!
//! Every other crate of the workspace may depend on this one; it depends on none of them.

pub mod net;
pub mod secret;
pub mod task;
pub mod time;
