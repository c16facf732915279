//! Rate limit layer: waits for a permit of the portal's quota, one for every HTTP request.

use std::sync::Arc;

use leadsd_quota::Account;
use tokio::time::Instant;

use super::{Dispatch, Layer};
use crate::{
    hubspot::Operation,
    leads::{CallContext, Error, Reason, Request, Response},
};

/// The rate limit layer of one portal.
#[derive(Debug)]
pub(super) struct RateLimit<L> {
    inner: L,
    account: Arc<Account>,
}

// === impl RateLimit ===

impl<L> RateLimit<L> {
    /// Limits requests to `inner` by the quota of `account`.
    pub(super) fn new(inner: L, account: Arc<Account>) -> Self {
        Self { inner, account }
    }
}

impl<L: Layer> Layer for RateLimit<L> {
    #[expect(clippy::manual_async_fn, reason = "an async function stores its arguments twice")]
    fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        mut dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        async move {
            if ctx.deadline <= Instant::now() {
                let text = "the deadline passed before the request was sent to HubSpot";
                return Err(Error::new(Reason::DeadlineExceeded, text));
            }
            if dispatch.permit.is_none() {
                let bucket = Operation::from(&*request).spec().bucket();
                let until = ctx.permit_deadline();
                dispatch.permit = Some(self.account.acquire(bucket, &ctx.requester, until).await?);
            }
            self.inner.call(ctx, request, dispatch).await
        }
    }
}

#[cfg(test)]
mod tests;
