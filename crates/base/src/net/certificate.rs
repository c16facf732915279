//! Reads the expiry of a certificate. No signature is verified.

use rustls::pki_types::CertificateDer;

use crate::time::Timestamp;

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

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_expiry_of_a_certificate_is_parsed_before_and_after_2050() {
        for ((year, month, day), text) in [
            ((1999, 12, 31), "1999-12-31T00:00:00Z"),
            ((2030, 2, 28), "2030-02-28T00:00:00Z"),
            ((2049, 12, 31), "2049-12-31T00:00:00Z"),
            ((2050, 1, 1), "2050-01-01T00:00:00Z"),
            ((4096, 1, 1), "4096-01-01T00:00:00Z"),
        ] {
            let mut params = CertificateParams::default();
            params.not_before = date_time_ymd(1975, 1, 1);
            params.not_after = date_time_ymd(year, month, day);
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            assert_eq!(expires(certificate.der()).unwrap().to_string(), text);
        }
        assert_eq!(expires(&CertificateDer::from(vec![])), None);
    }
}
