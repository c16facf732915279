//! Tokens round trip, foreign ones are rejected, and no sequence of cursors is endless.

use proptest::prelude::*;

use super::*;

fn first(request: &str) -> PagePosition {
    PagePosition::first(Fingerprint::new(&request))
}

fn token(request: &str, after: &str) -> String {
    first(request).next_token(Some(after), 1, Cursor::Opaque).unwrap().unwrap()
}

/// Follows the cursors that `next` returns for the cursor of a page. Returns the number of pages until
/// the end or an error; `None` if there are more than a thousand.
fn pages(
    cursor: Cursor,
    leads: usize,
    next: impl Fn(Option<&str>) -> Option<String>,
) -> Option<usize> {
    let fingerprint = Fingerprint::new(&"list");
    let mut position = PagePosition::first(fingerprint);
    for number in 1..1_000 {
        match position.next_token(next(position.after()).as_deref(), leads, cursor) {
            Ok(Some(token)) => position = fingerprint.position(&token).unwrap(),
            Ok(None) => return Some(number),
            Err(error) => {
                assert_eq!(error.reason(), Reason::UpstreamInvalidResponse);
                return Some(number);
            }
        }
    }
    None
}

#[test]
fn a_token_of_another_request_is_rejected() {
    let token = token("a", "25");
    assert_eq!(Fingerprint::new(&"a").position(&token).unwrap().after(), Some("25"));
    let error = Fingerprint::new(&"b").position(&token).unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidPageToken);
    assert!(error.message().contains("another request"));
}

#[test]
fn every_token_that_is_issued_is_accepted() {
    let fingerprint = Fingerprint::new(&"list");
    let mut longest = 0;
    for length in 1..1_100 {
        let cursor = "x".repeat(length);
        match PagePosition::first(fingerprint).next_token(Some(&cursor), 1, Cursor::Opaque) {
            Ok(token) => {
                let position = fingerprint.position(&token.unwrap()).unwrap();
                assert_eq!(position.after(), Some(cursor.as_str()));
                longest = length;
            }
            Err(error) => assert_eq!(error.reason(), Reason::UpstreamInvalidResponse, "{length}"),
        }
    }
    assert_eq!(longest, MAX_BYTES * 3 / 4 - 26, "1,024 characters are 768 bytes, 26 of them fixed");
}

#[test]
fn a_cursor_that_repeats_ends_the_pages() {
    let constant = |_: Option<&str>| Some("7".to_owned());
    assert_eq!(pages(Cursor::Opaque, 1, constant), Some(2));
    assert_eq!(pages(Cursor::Offset, 1, constant), Some(2));
    assert_eq!(pages(Cursor::Offset, 1, |_| Some("0".to_owned())), Some(1), "no advance");
    let back = |after: Option<&str>| Some(if after.is_none() { "200" } else { "100" }.to_owned());
    assert_eq!(pages(Cursor::Offset, 1, back), Some(2));
}

#[test]
fn empty_pages_have_an_end() {
    let forward = |after: Option<&str>| {
        Some((after.map_or(0, |after| after.parse::<u32>().unwrap()) + 1).to_string())
    };
    assert_eq!(pages(Cursor::Opaque, 0, forward), Some(usize::from(MAX_EMPTY_PAGES) + 1));
    assert_eq!(pages(Cursor::Opaque, 1, forward), None, "an ordinary list goes on");
    assert_eq!(pages(Cursor::Offset, 1, forward), None);
    assert_eq!(pages(Cursor::Opaque, 1, |_| None), Some(1));
}

proptest! {
    #[test]
    fn cursors_that_run_in_a_circle_are_detected(start in 0_usize..40, length in 1_usize..40) {
        let next = |after: Option<&str>| {
            let own = after.map_or(0, |after| after.parse::<usize>().unwrap());
            let next = if own + 1 == start + length { start } else { own + 1 };
            Some(next.to_string())
        };
        let pages = pages(Cursor::Opaque, 1, next);
        prop_assert!(pages.is_some_and(|pages| pages <= 3 * (start + length) + 3), "{pages:?}");
    }

    #[test]
    fn every_cursor_round_trips(after in ".{0,40}", request in ".{0,20}") {
        let position = Fingerprint::new(&request.as_str()).position(&token(&request, &after)).unwrap();
        prop_assert_eq!(position.after(), Some(after.as_str()));
    }

    #[test]
    fn garbage_is_rejected_and_never_panics(token in ".{1,60}") {
        prop_assert!(Fingerprint::new(&"a").position(&token).is_err());
    }

    #[test]
    fn a_changed_character_is_rejected(at in 0_usize..38, to in "[A-Za-z0-9_-]") {
        let token = token("a", "123");
        let mut changed = token.clone();
        changed.replace_range(at..=at, &to);
        prop_assume!(changed != token);
        // The last character may have unused bits; then the decoder rejects it.
        prop_assert!(Fingerprint::new(&"a").position(&changed).is_err());
    }
}
