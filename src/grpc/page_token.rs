//! Page tokens: HubSpot's cursor with a fingerprint of its request. A malformed token, or one of another
//! request, is rejected without a HubSpot call.
//!
//! A token is neither secret nor signed: a forged token gives no access beyond the caller's rights.

use std::hash::{Hash, Hasher};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::leads::{Error, FieldFault, Reason};

/// Version of the token layout, the first byte of every token.
const VERSION: u8 = 1;

/// Maximum length of a token in characters. HubSpot's cursors are far shorter.
const MAX_BYTES: usize = 1024;

/// Fingerprint of a request: portal, kind and all fields except page size and page token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

/// FNV-1a hasher: stable across processes and builds, unlike the hashers of the standard library.
struct FnvHasher(u64);

// === impl Fingerprint ===

impl Fingerprint {
    pub(crate) fn new(request: &impl Hash) -> Self {
        let mut hasher = FnvHasher::new();
        request.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// Encodes the token of the page that starts at `after`.
    pub(crate) fn token(self, after: &str) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.0.to_be_bytes());
        bytes.extend(after.as_bytes());
        let sum = checksum(&bytes);
        bytes.extend(sum);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Decodes the cursor of a token; `None` for the empty token (first page).
    pub(crate) fn after(self, token: &str) -> Result<Option<String>, Error> {
        if token.is_empty() {
            return Ok(None);
        }
        let malformed =
            || invalid("is not a page token of this service; use next_page_token of a response");
        if token.len() > MAX_BYTES {
            return Err(malformed());
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| malformed())?;
        let (content, sum) = bytes.split_last_chunk::<4>().ok_or_else(malformed)?;
        let (version, content_after) = content.split_first().ok_or_else(malformed)?;
        if *sum != checksum(content) || *version != VERSION {
            return Err(malformed());
        }
        let (fingerprint, after) = content_after.split_first_chunk::<8>().ok_or_else(malformed)?;
        if u64::from_be_bytes(*fingerprint) != self.0 {
            return Err(invalid(
                "belongs to another request; between pages, only page_size may change",
            ));
        }
        let after = String::from_utf8(after.to_vec()).map_err(|_| malformed())?;
        Ok(Some(after))
    }
}

// === impl FnvHasher ===

impl FnvHasher {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for FnvHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut hasher = FnvHasher::new();
    hasher.write(bytes);
    let [a, b, c, d, ..] = hasher.finish().to_be_bytes();
    [a, b, c, d]
}

fn invalid(description: &str) -> Error {
    Error::new(Reason::InvalidPageToken, format!("page_token: {description}"))
        .with_fields(vec![FieldFault::new("page_token", description)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_of_another_request_is_rejected() {
        let token = Fingerprint::new(&"a").token("25");
        assert_eq!(Fingerprint::new(&"a").after(&token).unwrap().as_deref(), Some("25"));
        let error = Fingerprint::new(&"b").after(&token).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidPageToken);
        assert!(error.message().contains("another request"));
    }

    proptest! {
        #[test]
        fn every_cursor_round_trips(after in ".{0,40}", request in ".{0,20}") {
            let fingerprint = Fingerprint::new(&request);
            prop_assert_eq!(fingerprint.after(&fingerprint.token(&after)).unwrap(), Some(after));
        }

        #[test]
        fn garbage_is_rejected_and_never_panics(token in ".{1,60}") {
            prop_assert!(Fingerprint::new(&"a").after(&token).is_err());
        }

        #[test]
        fn a_changed_character_is_rejected(at in 0_usize..22, to in "[A-Za-z0-9_-]") {
            let fingerprint = Fingerprint::new(&"a");
            let token = fingerprint.token("123");
            let mut changed = token.clone();
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != token);
            // The last character may have unused bits; then the decoder rejects it.
            prop_assert!(fingerprint.after(&changed).is_err());
        }
    }
}
