//! Validation of external data before the machines see it.

use super::*;
use crate::{machine::intake::checked, store::StoreError};

fn read(secret: PortalSecret) -> Event {
    Event::SecretRead(Ok(VersionedSecret { version: 1, secret }))
}

fn answered(result: Result<TokenResponse, GrantError>) -> Event {
    Event::TokenAnswered { request: request("rt"), sent: Instant::now(), wall: wall(0), result }
}

#[test]
fn empty_values_make_a_secret_malformed() {
    let oauth = |client_id: &str, client_secret, refresh_token| PortalSecret::OAuth {
        client_id: client_id.to_owned(),
        client_secret: secret(client_secret),
        refresh_token: secret(refresh_token),
    };
    let table = [
        (PortalSecret::Static { access_token: secret("") }, "access_token"),
        (oauth("", "cs", "rt"), "client_id"),
        (oauth("app", "", "rt"), "client_secret"),
        (oauth("app", "cs", ""), "refresh_token"),
    ];
    for (secret, key) in table {
        let malformed = StoreError::Malformed(format!("`{key}` is empty"));
        assert_eq!(checked(read(secret), &[]), Event::SecretRead(Err(malformed)));
    }
    for complete in [oauth("app", "cs", "rt"), PortalSecret::Static { access_token: secret("pat") }]
    {
        assert_eq!(checked(read(complete.clone()), &[]), read(complete));
    }
}

#[test]
fn values_that_no_request_can_carry_make_a_secret_malformed() {
    let oauth = |client_id: &str, client_secret, refresh_token| PortalSecret::OAuth {
        client_id: client_id.to_owned(),
        client_secret: secret(client_secret),
        refresh_token: secret(refresh_token),
    };
    let token = |text| PortalSecret::Static { access_token: secret(text) };
    let table = [
        (token("pat-first\npat-second"), "access_token"),
        (token("pat-first pat-second"), "access_token"),
        (token("pat\0"), "access_token"),
        (token("pat\u{7f}"), "access_token"),
        (token("p\u{e4}t"), "access_token"),
        (oauth("a\tpp", "cs", "rt"), "client_id"),
        (oauth("app", "c\rs", "rt"), "client_secret"),
        (oauth("app", "cs", "rt-first\nrt-second"), "refresh_token"),
    ];
    for (secret, key) in table {
        let Event::SecretRead(Err(error)) = checked(read(secret), &[]) else { panic!("{key}") };
        let StoreError::Malformed(text) = &error else { panic!("{error:?}") };
        assert!(text.starts_with(&format!("`{key}` contains characters")), "{text}");
        assert!(!text.contains("first"), "no part of the value: {text}");
    }
    let spaced = oauth("my app", "c s", "r t");
    assert_eq!(checked(read(spaced.clone()), &[]), read(spaced), "RFC 6749 allows spaces");
}

#[test]
fn tokens_of_a_response_that_no_request_can_carry_are_not_taken() {
    let broken = TokenResponse { access_token: secret("at\n2"), ..response(None) };
    let Event::TokenAnswered { result, .. } = checked(answered(Ok(broken)), &[]) else { panic!() };
    let Err(GrantError::Unavailable(text)) = result else { panic!("{result:?}") };
    assert!(!text.contains("at\n2"), "{text}");
    let event = checked(answered(Ok(response(Some("rt\n2")))), &[]);
    let Event::TokenAnswered { result, .. } = event else { panic!() };
    assert_eq!(result, Ok(response(None)));
}

#[test]
fn empty_access_token_is_an_error_and_empty_refresh_token_is_absent() {
    let empty = TokenResponse { access_token: secret(""), ..response(Some("rt-2")) };
    let error = GrantError::Unavailable("the response has an empty token".to_owned());
    let Event::TokenAnswered { result, .. } = checked(answered(Ok(empty)), &[]) else { panic!() };
    assert_eq!(result, Err(error));
    let Event::TokenAnswered { result, .. } = checked(answered(Ok(response(Some("")))), &[]) else {
        panic!()
    };
    assert_eq!(result, Ok(response(None)));
    let event = answered(Ok(response(Some("rt-2"))));
    assert_eq!(checked(event.clone(), &[]), event);
}

#[test]
fn texts_that_quote_a_secret_are_redacted() {
    let known = secret("known");
    let redacted = || "[redacted]".to_owned();
    let table = [
        (StoreError::Unavailable("a known b".into()), StoreError::Unavailable(redacted())),
        (StoreError::Malformed("known".into()), StoreError::Malformed(redacted())),
        (StoreError::LoginRejected("known".into()), StoreError::LoginRejected(redacted())),
        (StoreError::Unavailable("other".into()), StoreError::Unavailable("other".into())),
        (StoreError::Denied, StoreError::Denied),
    ];
    for (error, expected) in table {
        let event = Event::SecretRead(Err(error.clone()));
        assert_eq!(checked(event, &[&known]), Event::SecretRead(Err(expected.clone())));
        let event = Event::VersionPolled(Err(error.clone()));
        assert_eq!(checked(event, &[&known]), Event::VersionPolled(Err(expected.clone())));
        let written =
            |result| Event::RefreshTokenWritten { refresh_token: secret("written"), result };
        assert_eq!(checked(written(Err(error)), &[&known]), written(Err(expected)));
    }
}

#[test]
fn the_secrets_of_the_call_itself_are_redacted_too() {
    let quoted = Event::RefreshTokenWritten {
        refresh_token: secret("written"),
        result: Err(StoreError::Unavailable("cannot write written".to_owned())),
    };
    let Event::RefreshTokenWritten { result, .. } = checked(quoted, &[]) else { panic!() };
    assert_eq!(result, Err(StoreError::Unavailable("[redacted]".to_owned())));
    for text in ["cs", "rt", "known", "ends with cs"] {
        let event = answered(Err(GrantError::Unavailable(text.to_owned())));
        let Event::TokenAnswered { result, .. } = checked(event, &[&secret("known")]) else {
            panic!()
        };
        assert_eq!(result, Err(GrantError::Unavailable("[redacted]".to_owned())));
    }
}

#[test]
fn an_empty_secret_is_quoted_by_no_text() {
    let event = Event::SecretRead(Err(StoreError::Unavailable("sealed".to_owned())));
    assert_eq!(checked(event.clone(), &[&secret("")]), event);
}

#[test]
fn only_what_looks_like_an_oauth_code_is_passed_on() {
    let longest = "a".repeat(40);
    let too_long = "a".repeat(41);
    let table = [
        ("invalid_grant", "invalid_grant"),
        (longest.as_str(), longest.as_str()),
        (too_long.as_str(), "unknown"),
        ("BAD_CLIENT_ID", "BAD_CLIENT_ID"),
        ("OAUTH2_DISABLED", "OAUTH2_DISABLED"),
        ("unsupported_grant_type", "unsupported_grant_type"),
        ("KNOWN1_TOKEN", "unknown"),
        ("2FA_REQUIRED", "unknown"),
        ("", "unknown"),
        ("pat-na1-1", "unknown"),
        ("rt-1 cs", "unknown"),
    ];
    for (code, expected) in table {
        let event = answered(Err(GrantError::Rejected { code: code.to_owned() }));
        let known = secret("KNOWN1");
        let Event::TokenAnswered { result, .. } = checked(event, &[&known]) else { panic!() };
        assert_eq!(result, Err(GrantError::Rejected { code: expected.to_owned() }));
    }
}
