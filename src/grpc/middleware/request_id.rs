//! Request id of a call: the client's `x-request-id`, or a generated one.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use uuid::{Uuid, fmt::Hyphenated};

/// Metadata key of the request id, in requests and responses.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum length in bytes of a client's request id.
const MAX_LENGTH: usize = 128;

/// Returns the client's request id if it is valid, else generates one.
pub(crate) fn request_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    match given.filter(|id| (1..=MAX_LENGTH).contains(&id.len())) {
        Some(id) => id.into(),
        None => (&*Uuid::new_v4().hyphenated().encode_lower(&mut [0; Hyphenated::LENGTH])).into(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_valid_request_id_of_the_client_is_kept() {
        let with = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(id).unwrap());
            request_id(&headers)
        };
        assert_eq!(&*with("abc-1"), "abc-1");
        assert_eq!(&*with(&"x".repeat(128)), "x".repeat(128));
        assert_eq!(with(&"x".repeat(129)).len(), 36);
        assert_eq!(with("").len(), 36);
        let new = request_id(&HeaderMap::new());
        assert!(Uuid::parse_str(&new).is_ok(), "{new}");
    }
}
