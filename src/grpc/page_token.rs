//! Page tokens: HubSpot's cursor with a fingerprint of its request. A malformed token, or one of another
//! request, is rejected without a HubSpot call.
//!
//! A token also has what is needed to detect cursors that repeat, so that no response of HubSpot keeps a
//! caller in a loop: the number of pages so far, and a hash of one earlier cursor, by Brent's algorithm.
//!
//! A token is neither secret nor signed: a forged token gives no access beyond the caller's rights.

mod search;

use std::hash::{Hash, Hasher};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

pub(crate) use self::search::SearchTokens;
use crate::leads::{Error, FieldFault, Reason};

/// Version of the layout of tokens with a cursor of HubSpot, the first byte of each.
const VERSION: u8 = 2;

/// Maximum length of a token in characters, of those that are issued and those that are accepted. HubSpot's
/// cursors are far shorter.
const MAX_BYTES: usize = 1024;

/// Maximum number of empty pages in a row, each of which names a next one. HubSpot sends none.
const MAX_EMPTY_PAGES: u8 = 8;

/// Fingerprint of a request: portal, kind and all fields except page size and page token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

/// Position of a page in the pages of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PagePosition {
    fingerprint: Fingerprint,
    /// HubSpot's cursor of the page; `None` for the first page.
    after: Option<String>,
    /// Number of pages before this one.
    number: u32,
    /// Hash of the cursor of an earlier page: the latest one whose number is a power of two.
    mark: u64,
    /// Number of empty pages directly before this one.
    empty_pages: u8,
}

/// Kind of HubSpot's cursors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// Text without a known order, of a list.
    Opaque,
    /// Number of results before the page, of a search.
    Offset,
}

/// FNV-1a hasher: stable across processes and builds, unlike the hashers of the standard library.
struct FnvHasher(u64);

// === impl Fingerprint ===

impl Fingerprint {
    pub(crate) fn new(request: &impl Hash) -> Self {
        let mut hasher = FnvHasher::new();
        request.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// Decodes a token, the empty one to the first page.
    pub(crate) fn position(self, token: &str) -> Result<PagePosition, Error> {
        if token.is_empty() {
            return Ok(PagePosition::first(self));
        }
        let content = self.open(token, VERSION)?.ok_or_else(malformed)?;
        let content = content.as_slice();
        let (number, content) = content.split_first_chunk::<4>().ok_or_else(malformed)?;
        let (mark, content) = content.split_first_chunk::<8>().ok_or_else(malformed)?;
        let (empty_pages, after) = content.split_first().ok_or_else(malformed)?;
        let after = String::from_utf8(after.to_vec()).map_err(|_| malformed())?;
        Ok(PagePosition {
            fingerprint: self,
            after: Some(after),
            number: u32::from_be_bytes(*number),
            mark: u64::from_be_bytes(*mark),
            empty_pages: *empty_pages,
        })
    }

    /// Content of a token of this request, behind version and fingerprint. `None` if the token has another
    /// version. Errors if it is not a token of this request.
    fn open(self, token: &str, version: u8) -> Result<Option<Vec<u8>>, Error> {
        if token.len() > MAX_BYTES {
            return Err(malformed());
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| malformed())?;
        let (checked, sum) = bytes.split_last_chunk::<4>().ok_or_else(malformed)?;
        let (own, content) = checked.split_first().ok_or_else(malformed)?;
        if *sum != checksum(checked) {
            return Err(malformed());
        }
        if *own != version {
            return Ok(None);
        }
        let (fingerprint, content) = content.split_first_chunk::<8>().ok_or_else(malformed)?;
        if u64::from_be_bytes(*fingerprint) != self.0 {
            return Err(invalid(
                "belongs to another request; between pages, only page_size and typed may change",
            ));
        }
        Ok(Some(content.to_vec()))
    }

    /// Token of this request with a content.
    fn seal(self, version: u8, content: &[u8]) -> String {
        let mut bytes = vec![version];
        bytes.extend(self.0.to_be_bytes());
        bytes.extend(content);
        let sum = checksum(&bytes);
        bytes.extend(sum);
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

// === impl PagePosition ===

impl PagePosition {
    /// The first page of a request.
    pub(crate) fn first(fingerprint: Fingerprint) -> Self {
        Self { fingerprint, after: None, number: 0, mark: 0, empty_pages: 0 }
    }

    /// HubSpot's cursor of the page; `None` for the first page.
    pub(crate) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// The token of the page after this one, which has this number of leads; `None` if `next`, HubSpot's
    /// cursor, is. Errors if the cursor leads back to an earlier page or is too long for a token, or if the
    /// pages stay empty.
    pub(crate) fn next_token(
        &self,
        next: Option<&str>,
        leads: usize,
        cursor: Cursor,
    ) -> Result<Option<String>, Error> {
        let Some(next) = next else { return Ok(None) };
        let hash = hash(next);
        let is_back = match cursor {
            Cursor::Opaque => false,
            Cursor::Offset => {
                let offset = |text: &str| text.parse::<u64>().ok();
                let own = self.after().map_or(Some(0), offset);
                own.zip(offset(next)).is_some_and(|(own, next)| next <= own)
            }
        };
        let is_earlier = self.number > 0 && hash == self.mark;
        if is_back || is_earlier || self.after() == Some(next) {
            return Err(unusable(
                "HubSpot's cursor of the next page leads back to an earlier page",
            ));
        }
        let empty_pages = if leads == 0 { self.empty_pages.saturating_add(1) } else { 0 };
        if empty_pages > MAX_EMPTY_PAGES {
            return Err(unusable("HubSpot sends empty pages without an end"));
        }
        let number = self.number.saturating_add(1);
        let mark = if number.is_power_of_two() { hash } else { self.mark };
        let mut content = number.to_be_bytes().to_vec();
        content.extend(mark.to_be_bytes());
        content.push(empty_pages);
        content.extend(next.as_bytes());
        let token = self.fingerprint.seal(VERSION, &content);
        if token.len() > MAX_BYTES {
            return Err(unusable("HubSpot's cursor of the next page is too long"));
        }
        Ok(Some(token))
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

fn hash(text: &str) -> u64 {
    let mut hasher = FnvHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut hasher = FnvHasher::new();
    hasher.write(bytes);
    let [a, b, c, d, ..] = hasher.finish().to_be_bytes();
    [a, b, c, d]
}

fn malformed() -> Error {
    invalid("is not a page token of this service; use next_page_token of a response")
}

fn unusable(text: &str) -> Error {
    let text = format!("{text}; restart from the first page, and report it if it persists");
    Error::new(Reason::UpstreamInvalidResponse, text)
}

fn invalid(description: &str) -> Error {
    Error::new(Reason::InvalidPageToken, format!("page_token: {description}"))
        .with_fields(vec![FieldFault::new("page_token", description)])
}

#[cfg(test)]
mod tests;
