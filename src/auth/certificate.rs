//! Reads caller name and expiry of a certificate. The TLS handshake has already verified it.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::identity::{AuthMethod, Identity};
use leadsd_base::time::Timestamp;

/// DER tag of a sequence.
const SEQUENCE: u8 = 0x30;

/// DER tag of the optional version of a certificate.
const VERSION: u8 = 0xa0;

/// DER tag of a time with two digits for the year.
const UTC_TIME: u8 = 0x17;

/// DER tag of a time with four digits for the year.
const GENERALIZED_TIME: u8 = 0x18;

/// Reader of a DER encoding.
struct DerReader<'a>(&'a [u8]);

/// Identity of a certificate: the first URI of its subject alternative names (such as a SPIFFE id),
/// else the first DNS name. The common name is ignored.
pub fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let uri = certificate.valid_uri_names().next();
    let name = uri.or_else(|| certificate.valid_dns_names().next())?;
    // A wildcard does not identify one caller.
    Identity::new(name, AuthMethod::Certificate).filter(|_| !name.contains('*'))
}

/// Expiry of the certificate; `None` if it cannot be parsed.
pub fn expires(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let mut outer = DerReader(certificate.as_ref());
    let mut certificate = DerReader(outer.value(SEQUENCE)?);
    let mut to_be_signed = DerReader(certificate.value(SEQUENCE)?);
    if to_be_signed.tag() == Some(VERSION) {
        to_be_signed.next()?;
    }
    let (_serial, _algorithm, _issuer) =
        (to_be_signed.next()?, to_be_signed.next()?, to_be_signed.next()?);
    let mut validity = DerReader(to_be_signed.value(SEQUENCE)?);
    let _not_before = validity.next()?;
    let (tag, text) = validity.next()?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// Parses a time of RFC 5280: `YYMMDDHHMMSSZ` up to 2049, `YYYYMMDDHHMMSSZ` from then on.
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (century, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) if digits < "50" => ("20", digits),
        (UTC_TIME, 12) => ("19", digits),
        (GENERALIZED_TIME, 14) => digits.split_at_checked(2)?,
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2);
    let (year, month, day) = (part(0)?, part(2)?, part(4)?);
    let (hour, minute, second) = (part(6)?, part(8)?, part(10)?);
    format!("{century}{year}-{month}-{day}T{hour}:{minute}:{second}Z").parse().ok()
}

// === impl DerReader ===

impl<'a> DerReader<'a> {
    fn tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Tag and content of the next element.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first & 0x80 != 0 {
            let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if bytes.is_empty() || bytes.len() > 4 {
                return None;
            }
            length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = after;
        }
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((tag, content))
    }

    /// Content of the next element; `None` if it has another tag.
    fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}
