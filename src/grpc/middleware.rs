//! What every call passes before and after its handler.
//!
//! [`observe`] is the outermost layer: it admits the call, builds its state, bounds its time
//! ([`deadline`]) and logs its end ([`access_log`]). [`authz`] finds the caller and the portal
//! ([`portals`]) from the headers alone. [`call_context`] hands both to the handler.

pub(crate) mod access_log;
pub(crate) mod authz;
pub(crate) mod call_context;
pub(crate) mod call_policy;
pub(crate) mod deadline;
pub(crate) mod observe;
pub(crate) mod portals;
pub(crate) mod request_id;
