//! Page tokens of searches: with HubSpot's cursor, or with the bound of a keyset window.
//!
//! A keyset token has, behind version and fingerprint: the kind of its bound, the number of leads on earlier
//! pages, the number of all leads, and the bound. Numbers are 64 bits, big-endian. Lists of ids are ascending:
//! each is the difference to the one before in LEB128. Such a token leads forward by its content, so it needs
//! no hash of an earlier one.

use super::{Cursor, Fingerprint, MAX_BYTES, PagePosition, malformed, unusable};
use crate::leads::{Error, Keyset, KeysetBound, MAX_TIES, SearchPosition};

/// Version of the layout of keyset tokens, the first byte of each.
const KEYSET_VERSION: u8 = 3;

/// Kinds of bounds.
const ID: u8 = 0;
const TIME: u8 = 1;
const TIE: u8 = 2;
const BEHIND_TIME: u8 = 3;

/// Position of a page of a search, which issues the token of the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SearchTokens {
    fingerprint: Fingerprint,
    /// Position by HubSpot's cursor; the first page if a keyset is the position.
    offset: PagePosition,
}

/// Reads the content of a token.
struct Reader<'a>(&'a [u8]);

// === impl Fingerprint ===

impl Fingerprint {
    /// Decodes a token of a search, the empty one to the first page.
    pub(crate) fn search_position(
        self,
        token: &str,
    ) -> Result<(SearchPosition, SearchTokens), Error> {
        let keyset = if token.is_empty() { None } else { self.open(token, KEYSET_VERSION)? };
        let (position, offset) = match keyset {
            Some(content) => {
                let keyset = Reader(&content).keyset().ok_or_else(malformed)?;
                (SearchPosition::Keyset(keyset), PagePosition::first(self))
            }
            None => {
                let offset = self.position(token)?;
                (SearchPosition::Offset(offset.after().map(str::to_owned)), offset)
            }
        };
        Ok((position, SearchTokens { fingerprint: self, offset }))
    }
}

// === impl SearchTokens ===

impl SearchTokens {
    /// The token of the page after this one, which has this number of leads; `None` if `next` is. Errors if
    /// HubSpot's cursor cannot be followed.
    pub(crate) fn next_token(
        &self,
        next: Option<&SearchPosition>,
        leads: usize,
    ) -> Result<Option<String>, Error> {
        match next {
            None => Ok(None),
            Some(SearchPosition::Offset(cursor)) => {
                self.offset.next_token(cursor.as_deref(), leads, Cursor::Offset)
            }
            Some(SearchPosition::Keyset(keyset)) => {
                let token = self.fingerprint.seal(KEYSET_VERSION, &content(keyset));
                match token.len() <= MAX_BYTES {
                    true => Ok(Some(token)),
                    false => Err(unusable("the position of the next page is too long for a token")),
                }
            }
        }
    }
}

fn content(keyset: &Keyset) -> Vec<u8> {
    let Keyset { sent, total, bound } = keyset;
    let kind = match bound {
        KeysetBound::Id(_) => ID,
        KeysetBound::Time { .. } => TIME,
        KeysetBound::Tie { .. } => TIE,
        KeysetBound::BehindTime(_) => BEHIND_TIME,
    };
    let mut bytes = vec![kind];
    bytes.extend(sent.to_be_bytes());
    bytes.extend(total.to_be_bytes());
    match bound {
        KeysetBound::Id(id) => bytes.extend(id.to_be_bytes()),
        KeysetBound::BehindTime(millis) => bytes.extend(millis.to_be_bytes()),
        KeysetBound::Time { millis, returned } => {
            bytes.extend(millis.to_be_bytes());
            write_ids(&mut bytes, returned);
        }
        KeysetBound::Tie { millis, id, returned } => {
            bytes.extend(millis.to_be_bytes());
            bytes.extend(id.to_be_bytes());
            write_ids(&mut bytes, returned);
        }
    }
    bytes
}

/// Adds ascending ids.
fn write_ids(bytes: &mut Vec<u8>, ids: &[u64]) {
    let mut last = 0;
    for id in ids {
        prost::encoding::encode_varint(id - last, bytes);
        last = *id;
    }
}

// === impl Reader ===

impl Reader<'_> {
    /// `None` if the content is not that of a keyset.
    fn keyset(mut self) -> Option<Keyset> {
        let (kind, rest) = self.0.split_first()?;
        self.0 = rest;
        let (sent, total) = (self.number()?, self.number()?);
        let bound = match *kind {
            ID => KeysetBound::Id(self.number()?),
            TIME => KeysetBound::Time { millis: self.millis()?, returned: self.ids()? },
            TIE => {
                let (millis, id) = (self.millis()?, self.number()?);
                KeysetBound::Tie { millis, id, returned: self.ids()? }
            }
            BEHIND_TIME => KeysetBound::BehindTime(self.millis()?),
            _ => return None,
        };
        self.0.is_empty().then_some(Keyset { sent, total, bound })
    }

    fn bytes(&mut self) -> Option<[u8; 8]> {
        let (bytes, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn number(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_be_bytes)
    }

    fn millis(&mut self) -> Option<i64> {
        self.bytes().map(i64::from_be_bytes)
    }

    /// All ids of the rest, which are ascending.
    fn ids(&mut self) -> Option<Vec<u64>> {
        let mut ids = Vec::new();
        let mut last = 0_u64;
        while !self.0.is_empty() {
            let step = prost::encoding::decode_varint(&mut self.0).ok().filter(|step| *step > 0)?;
            last = last.checked_add(step)?;
            ids.push(last);
        }
        (ids.len() <= MAX_TIES).then_some(ids)
    }
}

#[cfg(test)]
mod tests;
