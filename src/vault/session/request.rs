//! Requests with the token of a session: what a 403 means, and when it ends the token.

use std::time::Duration;

use reqwest::Method;
use tokio::time::{Instant, sleep, timeout_at};
use vaultrs::api::token::requests::LookupTokenSelfRequest;

use super::Session;
use crate::vault::{client::VaultClient, error::Error, kv2::Mount, response::VaultResponse};
use leadsd_base::secret::Secret;

/// Time after a login in which a node of the cluster may not know the token yet: performance standbys and
/// replicas learn of it later than the active node. Within this time a denied token is tried again;
/// another login would only yield an even younger token.
pub(in crate::vault) const UNKNOWN_TOKEN_PATIENCE: Duration = Duration::from_secs(5);

/// Pause before a token that may not be known yet is tried again.
pub(in crate::vault) const UNKNOWN_TOKEN_PAUSE: Duration = Duration::from_millis(250);

/// Number of tokens that a request is tried with.
const MAX_TOKENS: usize = 2;

/// Meaning of a response with status 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vault) enum Denial {
    /// Vault knows the token: its policy denies the request.
    ByPolicy,
    /// The token is so young that a node may not know it yet: try it again after
    /// [`UNKNOWN_TOKEN_PAUSE`].
    NotKnownYet,
    /// Vault does not know the token.
    UnknownToken,
}

// === impl Denial ===

impl Denial {
    /// Classifies a 403 by the result of [`look_up`] for the token, which may be unknown to a node until
    /// `young_until`. An error of the lookup other than a 403 is returned: the token may be valid.
    pub(in crate::vault) fn classify(
        lookup: Result<(), Error>,
        young_until: Instant,
    ) -> Result<Self, Error> {
        match lookup {
            Ok(()) => Ok(Self::ByPolicy),
            Err(Error::Denied) if Instant::now() < young_until => Ok(Self::NotKnownYet),
            Err(Error::Denied) => Ok(Self::UnknownToken),
            Err(error) => Err(error),
        }
    }
}

/// Requests whether Vault knows the token. Errors with [`Error::Denied`] if it does not, or if neither
/// request is allowed.
///
/// A token without the policy `default` may not look itself up, and Vault responds as for an unknown
/// token. It may request its mounts: no policy is needed for that, only a capability below the mount.
pub(in crate::vault) async fn look_up(
    client: &VaultClient,
    token: &Secret,
    mount: &Mount,
) -> Result<(), Error> {
    let lookup = client.call(Some(token), &LookupTokenSelfRequest {}).await?;
    match lookup.success().map(drop) {
        Err(Error::Denied) => {}
        result => return result,
    }
    let found = client.send(Some(token), Method::GET, &mount.info_path(), None).await?;
    match found.success().map(drop) {
        // A server without this endpoint tells nothing about the token.
        Err(Error::NotFound | Error::Invalid) => Err(Error::Denied),
        result => result,
    }
}

// === impl Session ===

impl Session {
    /// Sends a request with the current token; waits for a token until `deadline`.
    ///
    /// After status 403 `look_up` decides:
    /// - Vault knows the token: the policy denies the request, and the response is returned.
    /// - Vault does not know a young token: the request is repeated with it.
    /// - Vault does not know an older token, such as after a restart in dev mode: the session logs in
    ///   again, and the request is repeated once.
    /// - The older token replaced one that Vault did not know either, and no request with it succeeded:
    ///   another login would not help. The response is returned, and the token is kept.
    /// - The lookup fails with another error: the token may be valid and is kept.
    pub(in crate::vault) async fn request<S, L>(
        &self,
        deadline: Instant,
        send: impl Fn(Secret) -> S,
        look_up: impl Fn(Secret) -> L,
    ) -> Result<VaultResponse, Error>
    where
        S: Future<Output = Result<VaultResponse, Error>>,
        L: Future<Output = Result<(), Error>>,
    {
        let mut tokens = 1;
        loop {
            let (token, generation) = self.token(deadline).await?;
            let response = send(token.secret.clone()).await?;
            if response.status() != 403 {
                if matches!(response.status(), 200..=299 | 404) {
                    token.history.accept();
                }
                return Ok(response);
            }
            match Denial::classify(look_up(token.secret).await, token.young_until)? {
                Denial::ByPolicy => {
                    token.history.accept();
                    return Ok(response);
                }
                Denial::NotKnownYet => {
                    if timeout_at(deadline, sleep(UNKNOWN_TOKEN_PAUSE)).await.is_err() {
                        return Err(Error::Unavailable("the token is not known yet".to_owned()));
                    }
                }
                Denial::UnknownToken if token.history.is_denied_again() => return Ok(response),
                Denial::UnknownToken => {
                    self.report_denied(generation);
                    if tokens == MAX_TOKENS {
                        return Ok(response);
                    }
                    tokens += 1;
                }
            }
        }
    }
}
