//! Network building blocks shared by all clients: one client builder, bounded bodies, connect errors.

pub mod body;
pub mod connect_error;
pub mod http;
