//! Adds the portal's access token, and replays a request once with another token after 401.

use std::{pin::pin, sync::Arc};

use futures_util::FutureExt as _;
use leadsd_credentials::{Handle, Rejection, Token, TokenUnavailable};

use super::{Dispatch, Layer};
use crate::leads::{CallContext, Error, Reason, Request, Response};

/// HTTP status of a rejected token.
const UNAUTHORIZED: u16 = 401;

/// The authentication layer of one portal.
#[derive(Debug)]
pub(super) struct Authenticate<L> {
    inner: L,
    tokens: Handle,
}

// === impl Authenticate ===

impl<L: Layer> Authenticate<L> {
    /// Sends the tokens of `tokens` with every request to `inner`.
    pub(super) fn new(inner: L, tokens: Handle) -> Self {
        Self { inner, tokens }
    }

    /// Returns the token, at once if there is one. While it is awaited, the permit of the request is
    /// released. If several calls share the request, waiting ends at the earliest of their
    /// deadlines.
    async fn token(&self, ctx: &CallContext, dispatch: &mut Dispatch) -> Result<Token, Error> {
        let until = dispatch.retry_deadline.earliest().min(ctx.deadline);
        let mut token = pin!(self.tokens.token(until));
        if let Some(token) = token.as_mut().now_or_never() {
            return token.map_err(unavailable);
        }
        drop(dispatch.permit.take());
        token.await.map_err(|error| {
            let is_limited =
                matches!(error, TokenUnavailable::DeadlineExceeded(_)) && until < ctx.deadline;
            let error = unavailable(error);
            if is_limited { error.deadline_limited() } else { error }
        })
    }
}

impl<L: Layer> Layer for Authenticate<L> {
    #[expect(clippy::manual_async_fn, reason = "an async function stores its arguments twice")]
    fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        mut dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        async move {
            let token = self.token(ctx, &mut dispatch).await?;
            let (retry_deadline, prior_attempts) =
                (dispatch.retry_deadline.clone(), dispatch.prior_attempts);
            dispatch.token = Some(token.clone());
            let rejected = match self.inner.call(ctx, Arc::clone(&request), dispatch).await {
                Ok(response) => return Ok(response),
                Err(error) => rejection(&error).ok_or(error)?,
            };
            // A 401 proves that HubSpot did not act on the request.
            let token = self.tokens.replacement_for(&token, rejected, ctx.deadline).await;
            let token = Some(token.map_err(unavailable)?);
            let replay = Dispatch { permit: None, token, retry_deadline, prior_attempts };
            match self.inner.call(ctx, request, replay).await {
                Err(error) if rejection(&error).is_some() => Err(Error::new(
                    Reason::CredentialRejected,
                    "HubSpot rejects the portal's credential",
                )),
                result => result,
            }
        }
    }
}

/// Kind of rejection of the token; `None` if the error is not a 401.
fn rejection(error: &Error) -> Option<Rejection> {
    let upstream = error.upstream();
    if upstream.http_status != Some(UNAUTHORIZED) {
        return None;
    }
    Some(match upstream.category.as_deref() {
        Some("EXPIRED_AUTHENTICATION") => Rejection::Expired,
        Some(_) | None => Rejection::Invalid,
    })
}

fn unavailable(error: TokenUnavailable) -> Error {
    match error {
        TokenUnavailable::DeadlineExceeded(waiting_for) => Error::new(
            Reason::CredentialUnavailable,
            "the service has no usable HubSpot credential for this portal yet",
        )
        .with_internal(waiting_for),
        TokenUnavailable::Suspended(why) => Error::new(
            Reason::CredentialUnavailable,
            "the portal's HubSpot credential is suspended; the operator must replace it",
        )
        .with_internal(why),
        TokenUnavailable::Rejected => {
            Error::new(Reason::CredentialRejected, "HubSpot rejects the portal's credential")
        }
    }
}

#[cfg(test)]
mod tests;
