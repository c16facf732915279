//! Tokens of keyset windows.

use proptest::prelude::*;

use super::*;
use crate::leads::Reason;

fn ids() -> impl Strategy<Value = Vec<u64>> {
    let ids = prop::collection::btree_set(1..=u64::MAX, 0..=MAX_TIES);
    ids.prop_map(|ids| ids.into_iter().collect())
}

fn bounds() -> impl Strategy<Value = KeysetBound> {
    prop_oneof![
        any::<u64>().prop_map(KeysetBound::Id),
        any::<i64>().prop_map(KeysetBound::BehindTime),
        (any::<i64>(), ids()).prop_map(|(millis, returned)| KeysetBound::Time { millis, returned }),
        (any::<i64>(), any::<u64>(), ids()).prop_map(|(millis, id, returned)| KeysetBound::Tie {
            millis,
            id,
            returned
        }),
    ]
}

fn token(request: &str, keyset: &Keyset) -> String {
    let (_, tokens) = Fingerprint::new(&request).search_position("").unwrap();
    let next = SearchPosition::Keyset(keyset.clone());
    tokens.next_token(Some(&next), 1).expect("a token").expect("a next page")
}

proptest! {
    #[test]
    fn every_keyset_round_trips_and_fits(
        bound in bounds(),
        sent in any::<u64>(),
        total in any::<u64>(),
    ) {
        let keyset = Keyset { sent, total, bound };
        let token = token("a", &keyset);
        prop_assert!(token.len() <= MAX_BYTES, "{}", token.len());
        let (position, _) = Fingerprint::new(&"a").search_position(&token).unwrap();
        prop_assert_eq!(position, SearchPosition::Keyset(keyset));
        let error = Fingerprint::new(&"b").search_position(&token).unwrap_err();
        prop_assert!(error.message().contains("another request"));
        // Another kind of request has no such positions.
        prop_assert!(Fingerprint::new(&"a").position(&token).is_err());
    }

    #[test]
    fn a_content_that_is_no_keyset_is_rejected_and_never_panics(
        content in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let token = Fingerprint::new(&"a").seal(KEYSET_VERSION, &content);
        if let Err(error) = Fingerprint::new(&"a").search_position(&token) {
            prop_assert_eq!(error.reason(), Reason::InvalidPageToken);
        }
    }
}

#[test]
fn tokens_of_earlier_versions_are_accepted() {
    let fingerprint = Fingerprint::new(&"a");
    let first = PagePosition::first(fingerprint);
    let token = first.next_token(Some("200"), 200, Cursor::Offset).unwrap().unwrap();
    let (position, tokens) = fingerprint.search_position(&token).unwrap();
    assert_eq!(position, SearchPosition::Offset(Some("200".to_owned())));
    let next = SearchPosition::Offset(Some("100".to_owned()));
    let error = tokens.next_token(Some(&next), 200).unwrap_err();
    assert_eq!(error.reason(), Reason::UpstreamInvalidResponse, "the cursor leads back");
    assert_eq!(tokens.next_token(None, 0), Ok(None));
}

#[test]
fn contents_with_too_many_ids_or_rests_are_rejected() {
    let too_many: Vec<u64> = (1..=MAX_TIES as u64 + 1).collect();
    let fingerprint = Fingerprint::new(&"a");
    let keyset = |bound| Keyset { sent: 0, total: 0, bound };
    let mut rest = content(&keyset(KeysetBound::Id(1)));
    rest.push(0);
    let mut zero = content(&keyset(KeysetBound::Time { millis: 1, returned: vec![1] }));
    zero.push(0);
    let many = content(&keyset(KeysetBound::Time { millis: 1, returned: too_many }));
    for content in [rest, zero, many, vec![9], Vec::new()] {
        let token = fingerprint.seal(KEYSET_VERSION, &content);
        let error = fingerprint.search_position(&token).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidPageToken, "{content:?}");
    }
}
