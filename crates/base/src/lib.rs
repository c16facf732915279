//! Foundations that know neither leads nor gRPC. Every other crate of the workspace may depend on this
//! one; it depends on none of them.
//!
//! | Module | Provides |
//! |---|---|
//! | [`cache`] | bounded cache whose entries expire |
//! | [`file_error`] | texts for files that cannot be read |
//! | [`memory`] | memory pressure: resident memory against the limit of the cgroup |
//! | [`nearest`] | suggestions for misspelt names |
//! | [`net`] | HTTP client builder, bounded bodies, classified connect errors |
//! | [`portal_name`] | the rule for names of portals |
//! | [`secret`] | secret text |
//! | [`supervise`] | restarts work that panicked |
//! | [`task`] | named background tasks |
//! | [`time`] | wall clock port and points in time |
//!
//! ```
//! use leadsd_base::{portal_name::PortalName, secret::Secret};
//!
//! assert_eq!(PortalName::parse("eu-1").unwrap().as_str(), "eu-1");
//! assert_eq!(format!("{:?}", Secret::new("token")), "[redacted]");
//! ```

pub mod cache;
pub mod file_error;
pub mod memory;
pub mod nearest;
pub mod net;
pub mod portal_name;
pub mod secret;
pub mod supervise;
pub mod task;
pub mod time;
