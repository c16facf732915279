//! Validates external data before any machine sees it: empty values, and error texts that
//! quote a secret.

use super::event::Event;
use crate::{
    source::{GrantError, TokenResponse},
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
        event @ (Event::Tick { .. }
        | Event::Signalled(_)
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

/// Rejects a secret with an empty value: it cannot work and would be sent as an empty header or
/// parameter.
fn complete(found: VersionedSecret) -> Result<VersionedSecret, StoreError> {
    let empty = match &found.secret {
        PortalSecret::Static { access_token } => access_token.is_empty().then_some("access_token"),
        PortalSecret::OAuth { client_id, client_secret, refresh_token } => [
            ("client_id", client_id.is_empty()),
            ("client_secret", client_secret.is_empty()),
            ("refresh_token", refresh_token.is_empty()),
        ]
        .into_iter()
        .find_map(|(key, empty)| empty.then_some(key)),
    };
    match empty {
        Some(key) => Err(StoreError::Malformed(format!("`{key}` is empty"))),
        None => Ok(found),
    }
}

/// Rejects a response without an access token, and drops an empty refresh token.
fn with_token(response: TokenResponse) -> Result<TokenResponse, GrantError> {
    if response.access_token.is_empty() {
        return Err(GrantError::Unavailable("the response has an empty token".to_owned()));
    }
    let refresh_token = response.refresh_token.filter(|refresh_token| !refresh_token.is_empty());
    Ok(TokenResponse { refresh_token, ..response })
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
        GrantError::Rejected { code } => GrantError::Rejected { code: oauth_code(code) },
        GrantError::Unavailable(text) => GrantError::Unavailable(redacted(text, secrets)),
        error @ GrantError::Throttled { .. } => error,
    }
}

fn redacted(text: String, secrets: &[&Secret]) -> String {
    let quotes = secrets.iter().any(|secret| !secret.is_empty() && text.contains(secret.expose()));
    if quotes { REDACTED.to_owned() } else { text }
}

/// The code if it has the form of one; other texts from outside are not passed on.
fn oauth_code(code: String) -> String {
    let has_form = code.len() <= 40 && code.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    if has_form { code } else { "unknown".to_owned() }
}
