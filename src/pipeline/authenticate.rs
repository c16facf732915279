//! Adds the portal's access token, and replays a request once with another token after 401.

use std::{pin::pin, sync::Arc};

use futures_util::FutureExt as _;
use leadsd_credentials::{Handle, Token, TokenUnavailable};

use super::{Dispatch, Layer};
use crate::hubspot::Operation;
use crate::leads::{CallContext, Error, Reason, Request, Response, batch::rejects_content};

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

    /// Sends a request again that HubSpot rejected with the token of this generation. The 401 proves that
    /// HubSpot did not act on it.
    async fn replay(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        generation: u64,
        dispatch: Dispatch,
    ) -> Result<Response, Error> {
        let replacement = self.tokens.replacement_for(generation, ctx.deadline).await;
        let replacement = replacement.map_err(unavailable)?;
        let generation = replacement.generation;
        let dispatch = Dispatch { token: Some(replacement), ..dispatch };
        let result = self.inner.call(ctx, request, dispatch).await;
        if result.as_ref().is_err_and(is_unauthorized) {
            self.tokens.reject_replacement(generation);
            return Err(rejected());
        }
        self.confirm(generation, &result);
        result
    }

    /// Reports that HubSpot accepted the replacement of a rejected token, if the result shows it.
    fn confirm(&self, generation: u64, result: &Result<Response, Error>) {
        if shows_acceptance(result) {
            self.tokens.accept(generation);
        }
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
            let (generation, is_unproven) = (token.generation, token.is_unproven);
            dispatch.token = Some(token);
            let result = self.inner.call(ctx, Arc::clone(&request), dispatch).await;
            if !result.as_ref().is_err_and(is_unauthorized) {
                if is_unproven {
                    self.confirm(generation, &result);
                }
                return result;
            }
            if Operation::from(&*request).reads_schema() {
                // Sent once. Another token is obtained for the next call.
                let replacement = self.tokens.replacement_for(generation, ctx.deadline).await;
                return replacement.map_err(unavailable).and(result);
            }
            let dispatch = Dispatch { permit: None, token: None, retry_deadline, prior_attempts };
            // Boxed: every request would carry its size.
            Box::pin(self.replay(ctx, request, generation, dispatch)).await
        }
    }
}

/// True if HubSpot rejected the token: by status 401 with any body, or by an error object with a successful
/// status.
fn is_unauthorized(error: &Error) -> bool {
    let status = error.upstream().http_status;
    status == Some(UNAUTHORIZED)
        || error.reason() == Reason::CredentialRejected && status.is_some_and(is_success)
}

/// True if HubSpot acted on the request: it succeeded, or was rejected for its content.
fn shows_acceptance(result: &Result<Response, Error>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => error.upstream().http_status.is_some() && rejects_content(error),
    }
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

fn rejected() -> Error {
    Error::new(Reason::CredentialRejected, "HubSpot rejects the portal's credential")
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
        TokenUnavailable::Rejected => rejected(),
    }
}

#[cfg(test)]
mod tests;
