//! Connections of the gRPC port from accept to close, and request and response bodies.
//!
//! The accept loop ([`accept`]) admits a connection ([`admission`]) and serves it ([`connection`]):
//! TLS handshake ([`tls`]), HTTP/2 preface ([`preface`]), calls, close. A [`connection::NewService`]
//! creates the service of a connection: this module knows no methods, callers or leads.

pub(crate) mod accept;
mod accept_errors;
pub(crate) mod admission;
mod authority;
mod call_guard;
mod call_limits;
pub(crate) mod call_state;
mod caller_accounts;
mod cancellation_limit;
pub(crate) mod conn_info;
pub(crate) mod connection;
mod connection_guard;
mod connection_limits;
mod connection_stage;
mod connection_stats;
pub(crate) mod decompress;
mod delegate_writes;
mod frame_scanner;
mod framing;
mod goaway;
mod held_messages;
pub(crate) mod identification;
mod lifetime;
mod limits;
mod listener;
mod memory_shedding;
mod preface;
pub(crate) mod prefetched_body;
mod receive_window;
pub(crate) mod request_body;
mod reset_status;
pub(crate) mod response_body;
mod scan;
mod send_deadline;
pub(crate) mod stream_executor;
pub(crate) mod tls;
mod unidentified;
mod unix_socket;

pub(crate) use self::unix_socket::check_unused;
pub use self::{
    admission::{AdmissionLimits, AdmissionSnapshot},
    connection::Lifetimes,
    limits::{CallerShare, LimitSnapshot},
    tls::{ServerTls, TlsError, TlsFiles, TlsStatus},
};
