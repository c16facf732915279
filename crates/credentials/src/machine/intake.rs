//! Validates external data before any machine sees it: values that no request can carry, and error
//! texts that quote a secret.

use super::event::Event;
use crate::{
    source::{GrantError, TokenCheck, TokenResponse},
    store::{PortalSecret, StoreError, VersionedSecret},
};
use leadsd_base::secret::Secret;

/// Stands for an error text that quotes a secret.
const REDACTED: &str = "[redacted]";

/// Replaces invalid responses by errors, and error texts that quote one of `secrets` or the secrets
/// of the request by [`REDACTED`].
pub(super) fn checked(event: Event, secrets: &[&Secret]) -> Event {
    match event {
        Event::SecretRead(result) => Event::SecretRead(
            result.map_err(|error| store_error(error, secrets)).and_then(complete),
        ),
        Event::VersionPolled(result) => {
            Event::VersionPolled(result.map_err(|error| store_error(error, secrets)))
        }
        Event::RefreshTokenWritten { refresh_token, result } => {
            let mut secrets = secrets.to_vec();
            secrets.push(&refresh_token);
            let result = result.map_err(|error| store_error(error, &secrets));
            Event::RefreshTokenWritten { refresh_token, result }
        }
        Event::TokenAnswered { request, sent, wall, result } => {
            let mut secrets = secrets.to_vec();
            secrets.extend([&request.client_secret, &request.refresh_token]);
            let result = result.map_err(|error| grant_error(error, &secrets)).and_then(with_token);
            Event::TokenAnswered { request, sent, wall, result }
        }
        Event::TokenChecked { generation, result: TokenCheck::Inconclusive(text) } => {
            let result = TokenCheck::Inconclusive(redacted(text, secrets));
            Event::TokenChecked { generation, result }
        }
        event @ (Event::Tick { .. }
        | Event::Signalled(_)
        | Event::TokenChecked { .. }
        | Event::CallsLost
        | Event::Start(_)
        | Event::SecretAdopted { .. }
        | Event::SecretConfirmed
        | Event::SecretChecked
        | Event::PollFailed
        | Event::ReadFailed
        | Event::ReadRejected
        | Event::NoSecret { .. }
        | Event::SecretWanted { .. }
        | Event::CheckWanted(_)
        | Event::RefreshTokenRejected
        | Event::FallbackWanted
        | Event::ProofWanted(_)) => event,
    }
}

/// The secrets of a portal's secret.
pub(super) fn secrets_in(secret: &PortalSecret) -> Vec<&Secret> {
    match secret {
        PortalSecret::Static { access_token } => vec![access_token],
        PortalSecret::OAuth { client_secret, refresh_token, .. } => {
            vec![client_secret, refresh_token]
        }
    }
}

/// Rejects a secret with a value that cannot be sent: empty, or with control characters, such as a
/// token that was pasted in two lines. Its requests would fail like those of a broken connection.
fn complete(found: VersionedSecret) -> Result<VersionedSecret, StoreError> {
    let fault = match &found.secret {
        PortalSecret::Static { access_token } => {
            fault(access_token.expose(), is_token).map(|fault| ("access_token", fault))
        }
        PortalSecret::OAuth { client_id, client_secret, refresh_token } => [
            ("client_id", client_id.as_str()),
            ("client_secret", client_secret.expose()),
            ("refresh_token", refresh_token.expose()),
        ]
        .into_iter()
        .find_map(|(key, value)| Some((key, fault(value, is_printable)?))),
    };
    match fault {
        Some((key, fault)) => Err(StoreError::Malformed(format!("`{key}` {fault}"))),
        None => Ok(found),
    }
}

/// Fault of a value, as a predicate of its key; `None` if it can be sent. Quotes no part of the value.
fn fault(value: &str, is_valid: fn(&str) -> bool) -> Option<&'static str> {
    if value.is_empty() {
        Some("is empty")
    } else if is_valid(value) {
        None
    } else {
        Some("contains characters that a credential cannot have, such as a line break or a space")
    }
}

/// True for the characters of a bearer token: a header can carry no others.
fn is_token(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_graphic())
}

/// True for the characters that RFC 6749 allows in client credentials and refresh tokens.
fn is_printable(value: &str) -> bool {
    value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// Rejects a response without a usable access token, and drops an unusable refresh token.
fn with_token(response: TokenResponse) -> Result<TokenResponse, GrantError> {
    let unavailable = |text: &str| Err(GrantError::Unavailable(text.to_owned()));
    if response.access_token.is_empty() {
        return unavailable("the response has an empty token");
    }
    if !is_token(response.access_token.expose()) {
        return unavailable("the response has a token with characters that a token cannot have");
    }
    let usable = |token: &Secret| !token.is_empty() && is_printable(token.expose());
    Ok(TokenResponse { refresh_token: response.refresh_token.filter(usable), ..response })
}

fn store_error(error: StoreError, secrets: &[&Secret]) -> StoreError {
    match error {
        StoreError::LoginRejected(text) => StoreError::LoginRejected(redacted(text, secrets)),
        StoreError::Malformed(text) => StoreError::Malformed(redacted(text, secrets)),
        StoreError::Unavailable(text) => StoreError::Unavailable(redacted(text, secrets)),
        error @ (StoreError::NotFound | StoreError::Denied | StoreError::Conflict) => error,
    }
}

fn grant_error(error: GrantError, secrets: &[&Secret]) -> GrantError {
    match error {
        GrantError::Rejected { code } => GrantError::Rejected { code: oauth_code(code, secrets) },
        GrantError::Unavailable(text) => GrantError::Unavailable(redacted(text, secrets)),
        error @ GrantError::Throttled { .. } => error,
    }
}

fn redacted(text: String, secrets: &[&Secret]) -> String {
    let quotes = secrets.iter().any(|secret| !secret.is_empty() && text.contains(secret.expose()));
    if quotes { REDACTED.to_owned() } else { text }
}

/// The code if it has the form of one; other texts from outside are not passed on. A text with digits may quote
/// a secret.
fn oauth_code(code: String, secrets: &[&Secret]) -> String {
    let is_code = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let has_digit = code.contains(|c: char| c.is_ascii_digit());
    let quotes = |secret: &&Secret| !secret.is_empty() && code.contains(secret.expose());
    let has_form = code.len() <= 40
        && code.starts_with(|c: char| c.is_ascii_alphabetic())
        && code.chars().all(is_code)
        && !(has_digit && secrets.iter().any(quotes));
    if has_form { code } else { "unknown".to_owned() }
}
