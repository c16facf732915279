//! Rate limit layer: waits for a permit of the portal's quota, one for every HTTP request.

use std::{future::ready, sync::Arc};

use futures_util::future::Either;
use leadsd_quota::Account;
use tokio::time::Instant;

use super::{Dispatch, Layer, late_to_send};
use crate::{
    hubspot::Operation,
    leads::{CallContext, Error, Request, Response},
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
    fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        mut dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        if ctx.deadline <= Instant::now() {
            return Either::Left(Either::Left(ready(Err(late_to_send()))));
        }
        if dispatch.permit.is_some() {
            return Either::Left(Either::Right(self.inner.call(ctx, request, dispatch)));
        }
        // Boxed, because requests that have a permit would carry its size.
        Either::Right(Box::pin(async move {
            let bucket = Operation::from(&*request).spec().bucket();
            let until = ctx.permit_deadline();
            dispatch.permit = Some(self.account.acquire(bucket, &ctx.requester, until).await?);
            self.inner.call(ctx, request, dispatch).await
        }))
    }
}

#[cfg(test)]
mod tests;
