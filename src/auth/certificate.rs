//! Reads the caller name of a certificate. The TLS handshake has already verified it.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::identity::{AuthMethod, Identity};

/// Identity of a certificate: the first URI of its subject alternative names (such as a SPIFFE id),
/// else the first DNS name. The common name is ignored.
pub fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let uri = certificate.valid_uri_names().next();
    let name = uri.or_else(|| certificate.valid_dns_names().next())?;
    // A wildcard does not identify one caller.
    Identity::new(name, AuthMethod::Certificate).filter(|_| !name.contains('*'))
}
