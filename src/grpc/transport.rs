//! Connections of the gRPC port, from accept to close, and the bodies that travel on them.

pub(crate) mod admission;
pub(crate) mod call_state;
pub(crate) mod connection;
pub(crate) mod preface;
pub(crate) mod request_body;
pub(crate) mod response_body;
pub(crate) mod tls;
