//! Network building blocks shared by all clients.

pub mod connect_error;
