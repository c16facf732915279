//! QuotaService: returns the quota of a portal, once or as a stream.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tonic::{Request, Response, Status};

use super::{
    convert, middleware::call_context::AuthorizedCall, pb, transport::call_state::CallState,
};
use crate::leads::{Error, FieldFault, Reason};
use leadsd_quota::{Account, BucketSnapshot, CallerSnapshot, Quota};

/// Default interval between messages of a stream.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

/// Minimum interval, which bounds the load of a stream.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum interval.
const MAX_INTERVAL: Duration = Duration::from_secs(3_600);

/// Handler of QuotaService over the quotas of the portals.
#[derive(Debug, Clone)]
pub(crate) struct QuotaHandler {
    pub(crate) quota: Arc<Quota>,
}

/// State of a WatchQuota stream.
struct WatchState {
    account: Arc<Account>,
    interval: Duration,
    call: Arc<CallState>,
    closing: watch::Receiver<bool>,
    is_started: bool,
    is_ended: bool,
}

/// Event that ends the wait of a stream.
#[derive(Debug, PartialEq, Eq)]
enum Wake {
    /// The interval has passed.
    Interval,
    /// The deadline of the stream has passed.
    Deadline,
    /// The connection is closing.
    Closing,
}

type QuotaStream = Pin<Box<dyn Stream<Item = Result<pb::WatchQuotaResponse, Status>> + Send>>;

// === impl QuotaHandler ===

impl QuotaHandler {
    /// Quota account of the call's portal.
    fn account(&self, call: &AuthorizedCall) -> Arc<Account> {
        self.quota.account(call.context.portal.name.as_str())
    }
}

#[tonic::async_trait]
impl pb::quota_service_server::QuotaService for QuotaHandler {
    async fn get_quota(
        &self,
        request: Request<pb::GetQuotaRequest>,
    ) -> Result<Response<pb::GetQuotaResponse>, Status> {
        let (call, pb::GetQuotaRequest {}) = AuthorizedCall::take_from(request)?;
        let quota = to_proto(&self.account(&call));
        Ok(Response::new(pb::GetQuotaResponse { quota: Some(quota) }))
    }

    type WatchQuotaStream = QuotaStream;

    async fn watch_quota(
        &self,
        request: Request<pb::WatchQuotaRequest>,
    ) -> Result<Response<QuotaStream>, Status> {
        let (call, message) = AuthorizedCall::take_from(request)?;
        let account = self.account(&call);
        let call = call.state;
        let interval = interval(message).map_err(|error| call.fail(error))?;
        let closing = call.connection.closing.clone();
        let watch =
            WatchState { account, interval, call, closing, is_started: false, is_ended: false };
        Ok(Response::new(Box::pin(stream::unfold(watch, WatchState::next))))
    }
}

// === impl WatchState ===

impl WatchState {
    async fn next(mut self) -> Option<(Result<pb::WatchQuotaResponse, Status>, Self)> {
        if self.is_ended {
            return None;
        }
        if self.is_started {
            match self.wait().await {
                Wake::Interval => {}
                Wake::Closing => return None,
                Wake::Deadline => {
                    self.is_ended = true;
                    let text = "the deadline of the stream has passed";
                    let error = Error::new(Reason::DeadlineExceeded, text);
                    return Some((Err(self.call.fail(error)), self));
                }
            }
        }
        self.is_started = true;
        Some((Ok(pb::WatchQuotaResponse { quota: Some(to_proto(&self.account)) }), self))
    }

    async fn wait(&mut self) -> Wake {
        select! {
            () = sleep(self.interval) => Wake::Interval,
            () = sleep_until(self.call.deadline) => Wake::Deadline,
            // An error means that the connection was dropped.
            _ = self.closing.wait_for(|closing| *closing) => Wake::Closing,
        }
    }
}

fn interval(request: pb::WatchQuotaRequest) -> Result<Duration, Error> {
    let Some(interval) = request.interval else { return Ok(DEFAULT_INTERVAL) };
    let interval = convert::duration::from_proto(interval);
    interval.filter(|interval| (MIN_INTERVAL..=MAX_INTERVAL).contains(interval)).ok_or_else(|| {
        Error::invalid(vec![FieldFault::new("interval", "must be between 100 ms and 1 h")])
    })
}

fn to_proto(account: &Account) -> pb::Quota {
    let snapshot = account.snapshot(Instant::now());
    pb::Quota {
        portal: snapshot.portal.to_string(),
        buckets: snapshot.buckets.into_iter().map(bucket).collect(),
    }
}

fn bucket(snapshot: BucketSnapshot) -> pb::QuotaBucket {
    let remaining = snapshot.remaining();
    pb::QuotaBucket {
        name: snapshot.name.as_str().to_owned(),
        limit: snapshot.size.map(count),
        window: duration(snapshot.window),
        used: count(snapshot.used),
        remaining: remaining.map(count),
        reset: duration(snapshot.reset),
        backoff: duration(snapshot.closed),
        waiting: snapshot.waiting.try_into().unwrap_or(i64::MAX),
        callers: snapshot.callers.into_iter().map(caller).collect(),
    }
}

fn caller(snapshot: CallerSnapshot) -> pb::QuotaCaller {
    pb::QuotaCaller {
        caller: snapshot.caller.as_str().to_owned(),
        weight: snapshot.weight.try_into().unwrap_or(i32::MAX),
        used: snapshot.used,
        waiting: snapshot.waiting.try_into().unwrap_or(i64::MAX),
    }
}

fn duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

fn count(value: u64) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
