//! Resolution of the published state for callers with different requirements.

use std::time::Duration;

use super::*;
use leadsd_base::secret::Secret;

fn active(generation: u64, expires_at: Option<Instant>) -> Option<ActiveToken> {
    let token = Token { secret: Secret::new("at"), generation, is_unproven: false };
    Some(ActiveToken { token, expires_at })
}

/// Generation of the token, or the error.
fn resolve(
    published: &Published,
    above: u64,
    now: Instant,
) -> Option<Result<u64, TokenUnavailable>> {
    let result = published.resolve(TokenRequirement { above }, now)?;
    Some(result.map(|token| token.generation))
}

#[test]
fn an_unexpired_token_is_returned_even_if_the_credential_is_suspended() {
    let now = Instant::now();
    let expires_at = Some(now + Duration::from_secs(1));
    let suspended = Some("why".into());
    let published = Published { active: active(1, expires_at), suspended, ..Published::default() };
    assert_eq!(resolve(&published, 0, now), Some(Ok(1)));
    let expired = Some(Err(TokenUnavailable::Suspended("why".to_owned())));
    assert_eq!(resolve(&published, 0, now + Duration::from_secs(1)), expired);
    assert_eq!(resolve(&published, 1, now), expired);
}

#[test]
fn without_a_token_the_caller_waits() {
    let now = Instant::now();
    assert_eq!(resolve(&Published::default(), 0, now), None);
    let published = Published { active: active(1, Some(now)), ..Published::default() };
    assert_eq!(resolve(&published, 0, now), None);
}

#[test]
fn a_replacement_has_a_higher_generation() {
    let now = Instant::now();
    let published = Published { active: active(2, None), ..Published::default() };
    assert_eq!(resolve(&published, 1, now), Some(Ok(2)));
    assert_eq!(resolve(&published, 2, now), None);
}

#[test]
fn no_replacement_is_an_answer_about_one_generation_for_a_while() {
    let now = Instant::now();
    let until = now + Duration::from_secs(10);
    let no_replacement = Some(NoReplacement { generation: 1, until });
    let rejected = Some(Err(TokenUnavailable::Rejected));
    let published = Published { active: active(1, None), no_replacement, ..Published::default() };
    assert_eq!(resolve(&published, 1, now), rejected);
    assert_eq!(resolve(&published, 1, until), None);
    assert_eq!(resolve(&published, 2, now), None);
    // It is so for a token that expires by itself as well.
    let published = Published { active: active(1, Some(until)), ..published };
    assert_eq!(resolve(&published, 1, now), rejected);
}
