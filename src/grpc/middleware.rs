//! Layers of every call around its handler.
//!
//! - [`protocol`] rejects requests that are not gRPC requests.
//! - [`observe`], the outermost layer, admits the call, builds its state, enforces its [`deadline`] and
//!   writes the [`access_log`].
//! - [`authz`] determines the caller and the portal ([`portals`]) from the headers.
//! - [`call_log_limit`] bounds the events that one origin writes to the log.
//! - [`call_context`] passes both to the handler.

pub(crate) mod access_log;
pub(crate) mod authz;
pub(crate) mod call_context;
pub(crate) mod call_log_limit;
pub(crate) mod call_policy;
pub(crate) mod deadline;
pub(crate) mod observe;
pub(crate) mod portals;
mod protocol;
pub(crate) mod request_id;
