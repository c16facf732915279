//! `[grpc.tls]`: certificate of the gRPC server, and CAs of client certificates.

use std::path::PathBuf;

use super::{check::Checker, raw};

/// Default of `client_auth`: every connection needs a client certificate.
pub(super) const CLIENT_AUTH: &str = "require";

/// `[grpc.tls]`: certificate files, reloaded when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with the certificate chain.
    pub cert_file: PathBuf,
    /// PEM file with the private key.
    pub key_file: PathBuf,
    /// CAs of client certificates; `None` if no client certificate is requested.
    pub client_ca: Option<ClientCa>,
}

/// Verification of client certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCa {
    /// PEM file with the CAs.
    pub file: PathBuf,
    /// True if a client certificate is required. Default true.
    pub required: bool,
}

// === impl Checker ===

impl Checker<'_> {
    pub(super) fn tls(&mut self, raw: raw::Tls) -> Option<Tls> {
        let raw::Tls { cert_file, key_file, client_ca_file, client_auth } = raw;
        let mut required = |key: &str, missing: bool| {
            if missing {
                self.add_error(&format!("grpc.tls.{key}"), "is required with [grpc.tls]");
            }
        };
        required("cert_file", cert_file.is_none());
        required("key_file", key_file.is_none());
        if client_auth.is_some() && client_ca_file.is_none() {
            self.add_error("grpc.tls.client_auth", "needs client_ca_file");
        }
        let client_auth = match client_auth.as_deref() {
            None | Some(CLIENT_AUTH) => Some(true),
            Some("optional") => Some(false),
            Some(_) => {
                self.add_error("grpc.tls.client_auth", "must be require or optional");
                None
            }
        };
        let required = client_auth?;
        Some(Tls {
            cert_file: cert_file?,
            key_file: key_file?,
            client_ca: client_ca_file.map(|file| ClientCa { file, required }),
        })
    }
}
