//! `[grpc.tls]`: certificates of the gRPC server and of its callers.

use std::path::PathBuf;

use super::{check::Checker, raw};

/// `[grpc.tls]`: certificates, read again when their files change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with the certificate chain.
    pub cert_file: PathBuf,
    /// PEM file with its key.
    pub key_file: PathBuf,
    /// What callers' certificates are checked against; none asks for no certificates.
    pub client_ca: Option<ClientCa>,
}

/// How callers' certificates are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCa {
    /// PEM file with the CAs that may sign them.
    pub file: PathBuf,
    /// Whether a caller without a certificate gets no connection. Default yes.
    pub required: bool,
}

// === impl Checker ===

impl Checker<'_> {
    pub(super) fn tls(&mut self, raw: raw::Tls) -> Option<Tls> {
        let raw::Tls { cert_file, key_file, client_ca_file, client_auth } = raw;
        let mut required = |key: &str, missing: bool| {
            if missing {
                self.fault(&format!("grpc.tls.{key}"), "is required with [grpc.tls]");
            }
        };
        required("cert_file", cert_file.is_none());
        required("key_file", key_file.is_none());
        if client_auth.is_some() && client_ca_file.is_none() {
            self.fault("grpc.tls.client_auth", "needs client_ca_file");
        }
        let client_auth = match client_auth.as_deref() {
            None | Some("require") => Some(true),
            Some("optional") => Some(false),
            Some(_) => {
                self.fault("grpc.tls.client_auth", "must be require or optional");
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
