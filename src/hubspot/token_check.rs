//! Checks an access token at HubSpot.
//!
//! HubSpot counts a check as a call, so it takes a permit of the portal's quota. Without one the quota would
//! count it as the usage of another client and leave a share of the limit to that client.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{
    endpoints,
    error_body::{ErrorBody, correlation_id},
    error_mapping,
    http_client::{RawResponse, SendError, send_once},
    limits::RateLimits,
};
use crate::config;
use leadsd_base::{net::egress::Egress, secret::Secret};
use leadsd_credentials::TokenCheck;
use leadsd_quota::{Account, BucketName, Requester};

/// Maximum size of a response in bytes: the account information has a few hundred.
const MAX_BYTES: usize = 64 * 1024;

/// Maximum time to wait for a permit. A check decides readiness, so an exhausted quota must not delay it for
/// longer. A second passes while the first call to a portal has no response, and with several replicas the
/// permit takes two exchanges with the ledger.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Request that checks a token: the account information, which every kind of token may read. Its response
/// has no personal data.
#[derive(Debug, Clone)]
pub(super) struct TokenChecker {
    url: Url,
    /// Maximum duration of the request.
    request_timeout: Duration,
}

// === impl TokenChecker ===

impl TokenChecker {
    pub(super) fn new(config: &config::Hubspot) -> Self {
        let version = endpoints::account_info_version(config.api_version);
        Self {
            url: endpoints::url(&config.base_url, &["account-info", version, "details"]),
            request_timeout: config.request_timeout,
        }
    }

    /// Sends the request once, with a permit of `account`. Inconclusive if no permit is free in time: then
    /// HubSpot would reject the request for its limits.
    pub(super) async fn check(
        &self,
        http: &reqwest::Client,
        egress: &Egress,
        account: &Arc<Account>,
        token: &Secret,
    ) -> TokenCheck {
        let request = http.get(self.url.clone()).bearer_auth(token.expose());
        self.send_with_permit(account, send_once(request, egress, MAX_BYTES)).await
    }

    async fn send_with_permit(
        &self,
        account: &Arc<Account>,
        send: impl Future<Output = Result<RawResponse, SendError>>,
    ) -> TokenCheck {
        // Half of the timeout is for the response.
        let wait = PERMIT_TIMEOUT.min(self.request_timeout / 2);
        let until = Instant::now() + wait;
        let requester = Requester::internal();
        // The deadline includes the response: the quota rejects a request without time for it.
        let permit = account.acquire(BucketName::Burst, &requester, until + self.request_timeout);
        let Ok(Ok(mut permit)) = timeout_at(until, permit).await else {
            return TokenCheck::Inconclusive(format!(
                "the quota had no permit within {} s",
                wait.as_secs_f32()
            ));
        };
        permit.mark_sent(0);
        let result = send.await;
        let (status, headers, body) = match &result {
            Ok(RawResponse { status, headers, body }) => (*status, headers, Some(body.as_slice())),
            Err(SendError::Body { status, headers, .. }) => (*status, headers, None),
            Err(SendError::Connect(error)) => {
                return TokenCheck::Inconclusive(format!("HubSpot {error}"));
            }
        };
        let rejection = (status == StatusCode::TOO_MANY_REQUESTS)
            .then(|| error_mapping::rate_limited(headers, body.unwrap_or_default()));
        permit.observe(RateLimits::from_headers(headers).observation(rejection.as_ref()));
        result_of(status, headers, body)
    }
}

/// Result of a response; the body is `None` if it is incomplete or too large.
///
/// Only a 401 is a rejection. Calls report a missing scope or a locked account. Proxies, firewalls and
/// Cloudflare in front of HubSpot send the same statuses, and 530, which is an outage of Cloudflare or a
/// malformed token: what HubSpot may not have sent has no result.
fn result_of(status: StatusCode, headers: &HeaderMap, body: Option<&[u8]>) -> TokenCheck {
    let inconclusive =
        |text: &str| TokenCheck::Inconclusive(format!("HTTP status {}{text}", status.as_u16()));
    let has_id = correlation_id(headers).is_some();
    let (is_foreign, is_from_hubspot) = match body.map(ErrorBody::parse) {
        Some(body) => (body.is_foreign, body.is_from_hubspot() || has_id && !body.is_foreign),
        None => (!has_id, has_id),
    };
    match status {
        StatusCode::UNAUTHORIZED if !is_foreign => TokenCheck::Rejected,
        StatusCode::FORBIDDEN if is_from_hubspot => TokenCheck::Accepted,
        status if status.is_success() && !is_foreign => TokenCheck::Accepted,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            inconclusive(" of a proxy or firewall instead of HubSpot")
        }
        status if status.is_success() => inconclusive(" without HubSpot's JSON"),
        _ => inconclusive(""),
    }
}

#[cfg(test)]
mod tests;
