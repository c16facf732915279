//! Layers that every call passes before its handler.

pub(crate) mod authz;
pub(crate) mod observe;
