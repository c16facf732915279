//! Network building blocks shared by all clients.
//!
//! A client is built by [`http`], so that roots, timeouts and redirects are decided once. [`egress`] says
//! whether it goes through a proxy, [`trust`] which CAs it trusts, and [`tunnel`] opens connections for
//! clients that speak another protocol than HTTP/1.1. Responses are read by [`body`] and their JSON is bounded by [`json_size`], so that no peer decides how much
//! memory they take. [`certificate`] reads the expiry of a certificate, [`ca_files`] that of files with CAs. [`listen_address`] is for servers. If there is no response,
//! [`connect_error`] classifies the cause by its remedy: the name, the port, the certificate.
//!
//! Nothing here knows what a request means, and nothing here retries.

pub mod body;
pub mod ca_files;
pub mod certificate;
pub mod connect_error;
pub mod egress;
pub mod http;
pub mod json_size;
pub mod listen_address;
pub mod trust;
pub mod tunnel;
