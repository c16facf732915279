//! Position of an export, and its resume token.
//!
//! A token is the base64url text of these bytes: version, digest of the request, source of the pages, last
//! record id, number of leads sent, HubSpot's list cursor, and a checksum. It has no secret of a process, so
//! every replica accepts it, also after a restart. A forged token gives no access beyond the caller's rights.
//!
//! Replicas of different versions compare the digests, so their bytes are fixed by [`VERSION`]: for each text
//! its length and its bytes, for each list its length and its elements in order. Numbers are 64 bits,
//! big-endian.

use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{ExportLeads, PageSource};
use crate::leads::{
    context::PortalName,
    error::{Error, FieldFault, Reason},
    query::{Filter, FilterGroup, Selection},
};

/// Version of the layout and of the digest, the first byte of every token.
const VERSION: u8 = 1;

/// Bytes of the digest of the request.
const DIGEST: usize = 16;

/// Bytes of the checksum.
const CHECKSUM: usize = 4;

/// Maximum length of a token in characters. HubSpot's cursors are far shorter.
const MAX_TOKEN: usize = 1_024;

/// Maximum length of a list cursor in bytes: what fits in a token.
pub(super) const MAX_CURSOR: usize = 640;

/// Place in an export.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ExportPosition {
    /// Record id of the last lead that was sent; 0 before the first.
    pub(super) last: u64,
    /// Number of leads that were sent.
    pub(super) exported: u64,
    /// HubSpot's cursor of the list page that has the next lead. `None` for the first page, and for a search.
    pub(super) after: Option<String>,
}

/// Identity of an export: portal, conditions and selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestDigest([u8; DIGEST]);

/// Adds values to a digest, without ambiguity of where they end.
struct RequestHasher(Context);

// === impl ExportPosition ===

impl ExportPosition {
    /// The token of this position of the request.
    pub(super) fn token(&self, request: RequestDigest, source: PageSource) -> String {
        let Self { last, exported, after } = self;
        let mut bytes = vec![VERSION];
        bytes.extend(request.0);
        bytes.push(source_byte(source));
        bytes.extend(last.to_be_bytes());
        bytes.extend(exported.to_be_bytes());
        bytes.extend(after.iter().flat_map(|after| after.as_bytes()));
        let sum = checksum(&bytes);
        bytes.extend(sum);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position of a token of this request; the beginning for an empty token.
    pub(super) fn parse(
        token: &str,
        request: RequestDigest,
        source: PageSource,
    ) -> Result<Self, Error> {
        if token.is_empty() {
            return Ok(Self::default());
        }
        let malformed =
            || invalid("is not a resume token of this service; use resume_token of a response");
        if token.len() > MAX_TOKEN {
            return Err(malformed());
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| malformed())?;
        let (checked, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or_else(malformed)?;
        if *sum != checksum(checked) {
            return Err(malformed());
        }
        let (version, content) = checked.split_first().ok_or_else(malformed)?;
        if *version != VERSION {
            return Err(invalid(
                "is of another version of leadsd; begin the export again, without a token",
            ));
        }
        let (digest, content) = content.split_first_chunk::<DIGEST>().ok_or_else(malformed)?;
        let (from, content) = content.split_first().ok_or_else(malformed)?;
        if *digest != request.0 || *from != source_byte(source) {
            return Err(invalid(
                "belongs to another request; portal, conditions and selection must be those of the \
                 stream that it comes from",
            ));
        }
        let (last, content) = content.split_first_chunk::<8>().ok_or_else(malformed)?;
        let (exported, after) = content.split_first_chunk::<8>().ok_or_else(malformed)?;
        let after = String::from_utf8(after.to_vec()).map_err(|_| malformed())?;
        Ok(Self {
            last: u64::from_be_bytes(*last),
            exported: u64::from_be_bytes(*exported),
            after: (!after.is_empty()).then_some(after),
        })
    }
}

// === impl RequestDigest ===

impl RequestDigest {
    pub(super) fn new(portal: &PortalName, request: &ExportLeads) -> Self {
        let ExportLeads { query, filter_groups, selection } = request;
        let Selection { properties, properties_with_history, associations } = selection;
        let mut hasher = RequestHasher(Context::new(&SHA256));
        hasher.text("export");
        hasher.text(portal.as_str());
        hasher.text(query);
        hasher.number(filter_groups.len() as u64);
        for FilterGroup { filters } in filter_groups {
            hasher.number(filters.len() as u64);
            filters.iter().for_each(|filter| hasher.filter(filter));
        }
        for names in [properties, properties_with_history, associations] {
            hasher.texts(names);
        }
        let whole = hasher.0.finish();
        let mut digest = [0; DIGEST];
        digest.copy_from_slice(&whole.as_ref()[..DIGEST]);
        Self(digest)
    }
}

// === impl RequestHasher ===

impl RequestHasher {
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    fn texts(&mut self, texts: &[String]) {
        self.number(texts.len() as u64);
        texts.iter().for_each(|text| self.text(text));
    }

    fn filter(&mut self, filter: &Filter) {
        let Filter { property_name, operator, value, high_value, values } = filter;
        self.text(property_name);
        self.text(operator.as_str());
        for value in [value, high_value] {
            self.number(u64::from(value.is_some()));
            self.text(value.as_deref().unwrap_or_default());
        }
        self.texts(values);
    }
}

fn source_byte(source: PageSource) -> u8 {
    match source {
        PageSource::List => 1,
        PageSource::Search => 2,
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&digest(&SHA256, bytes).as_ref()[..CHECKSUM]);
    sum
}

fn invalid(description: &str) -> Error {
    Error::new(Reason::InvalidPageToken, format!("resume_token: {description}"))
        .with_fields(vec![FieldFault::new("resume_token", description)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leads::query::FilterOperator;

    fn portal(name: &str) -> PortalName {
        PortalName::parse(name).expect("a valid name")
    }

    fn request() -> ExportLeads {
        let filter = Filter {
            property_name: "hs_lead_label".to_owned(),
            operator: FilterOperator::Eq,
            value: Some("HOT".to_owned()),
            high_value: None,
            values: Vec::new(),
        };
        let selection = Selection {
            properties: ["a", "bc"].map(str::to_owned).to_vec(),
            ..Selection::default()
        };
        let filter_groups = vec![FilterGroup { filters: vec![filter] }];
        ExportLeads { query: "jane".to_owned(), filter_groups, selection }
    }

    fn digest_of(request: &ExportLeads) -> RequestDigest {
        RequestDigest::new(&portal("default"), request)
    }

    #[test]
    fn a_token_returns_its_position() {
        let digest = digest_of(&request());
        for (source, after) in [
            (PageSource::Search, None),
            (PageSource::List, None),
            (PageSource::List, Some("512".to_owned())),
            (PageSource::List, Some("c".repeat(MAX_CURSOR))),
        ] {
            let position = ExportPosition { last: u64::MAX, exported: 7, after };
            let token = position.token(digest, source);
            assert!(token.len() <= MAX_TOKEN, "{}", token.len());
            assert_eq!(ExportPosition::parse(&token, digest, source), Ok(position));
        }
        let first = ExportPosition::parse("", digest, PageSource::List);
        assert_eq!(first, Ok(ExportPosition::default()));
    }

    #[test]
    fn the_bytes_of_a_token_are_the_same_in_every_process() {
        let position = ExportPosition { last: 512, exported: 3, after: None };
        let token = position.token(digest_of(&request()), PageSource::Search);
        assert_eq!(token, "AajBQB3Fb_TgqKwQJZnT0GwCAAAAAAAAAgAAAAAAAAAAA_sPXkg");
    }

    #[test]
    fn a_token_of_another_request_is_rejected() {
        let own = request();
        let token = ExportPosition::default().token(digest_of(&own), PageSource::Search);
        let mut others: Vec<ExportLeads> = (0..9).map(|_| own.clone()).collect();
        others[0].query.clear();
        others[1].filter_groups.clear();
        others[2].filter_groups[0].filters[0].value = Some("WARM".to_owned());
        others[3].filter_groups[0].filters[0].operator = FilterOperator::Neq;
        let filter = &mut others[4].filter_groups[0].filters[0];
        filter.high_value = filter.value.take();
        others[5].selection.properties = ["ab", "c"].map(str::to_owned).to_vec();
        others[6].selection.properties.reverse();
        others[7].selection.properties_with_history.push("a".to_owned());
        others[8].selection.associations.push("contacts".to_owned());
        for other in &others {
            let error = ExportPosition::parse(&token, digest_of(other), PageSource::Search);
            let error = error.expect_err("another request");
            assert_eq!(error.reason(), Reason::InvalidPageToken, "{other:?}");
            assert!(error.message().contains("belongs to another request"), "{error}");
        }
        let elsewhere = RequestDigest::new(&portal("eu"), &own);
        ExportPosition::parse(&token, elsewhere, PageSource::Search).expect_err("another portal");
        ExportPosition::parse(&token, digest_of(&own), PageSource::List).expect_err("a list");
    }

    #[test]
    fn a_changed_token_is_rejected() {
        let digest = digest_of(&request());
        let position = ExportPosition { last: 1, exported: 1, after: Some("1".to_owned()) };
        let token = position.token(digest, PageSource::List);
        let bytes = URL_SAFE_NO_PAD.decode(&token).expect("base64");
        for changed in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[changed] ^= 1;
            let token = URL_SAFE_NO_PAD.encode(&bytes);
            ExportPosition::parse(&token, digest, PageSource::List).expect_err("changed");
        }
        for text in ["x", "!!!!", &"A".repeat(MAX_TOKEN + 1), &token[..token.len() - 4]] {
            let error = ExportPosition::parse(text, digest, PageSource::List).unwrap_err();
            assert_eq!(error.reason(), Reason::InvalidPageToken, "{text}");
        }
    }

    #[test]
    fn a_token_of_a_later_version_says_so() {
        let digest = digest_of(&request());
        let mut bytes = vec![VERSION + 1, 1, 2, 3];
        bytes.extend(checksum(&bytes));
        let token = URL_SAFE_NO_PAD.encode(bytes);
        let error = ExportPosition::parse(&token, digest, PageSource::List).unwrap_err();
        assert!(error.message().contains("another version"), "{error}");
    }
}
