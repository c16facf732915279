//! The id of a call: the client's, or a new one.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use uuid::{Uuid, fmt::Hyphenated};

/// Id of a call, in and out.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum length of an id that is accepted from a client.
const MAX_LENGTH: usize = 128;

/// The client's id if it can be logged and returned, else a new one.
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
    fn a_clients_id_is_kept_if_it_fits() {
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
