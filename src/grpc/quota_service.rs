//! QuotaService: how the quota of a portal stands, once or again and again.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tonic::{Request, Response, Status};

use super::{
    pb, status,
    transport::call_state::{CallState, Portals},
};
use crate::leads::{CallContext, Error, FieldFault, Reason};
use leadsd_quota::{Account, BucketSnapshot, CallerSnapshot, Quota};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
const MIN_INTERVAL: Duration = Duration::from_millis(100);
const MAX_INTERVAL: Duration = Duration::from_secs(3_600);

/// The generated service trait, over the portals' quotas.
#[derive(Debug, Clone)]
pub(crate) struct QuotaHandler {
    pub(crate) quota: Arc<Quota>,
    pub(crate) portals: Portals,
}

/// One WatchQuota under way.
struct WatchState {
    account: Arc<Account>,
    interval: Duration,
    facts: CallState,
    closing: watch::Receiver<bool>,
    has_begun: bool,
    is_over: bool,
}

type QuotaStream = Pin<Box<dyn Stream<Item = Result<pb::WatchQuotaResponse, Status>> + Send>>;

// === impl QuotaHandler ===

impl QuotaHandler {
    /// Finds out whose quota is meant.
    fn account<In>(&self, request: &Request<In>) -> Result<(Arc<Account>, CallState), Status> {
        let facts = request.extensions().get::<CallState>().cloned();
        let call = self.portals.call(request.metadata(), request.extensions());
        match (call, facts) {
            (Ok(call), Some(facts)) => {
                let CallContext { portal, .. } = call;
                Ok((self.quota.account(portal.as_str()), facts))
            }
            (Err(error), Some(facts)) => Err(facts.failed(error)),
            (_, None) => {
                let error = Error::new(Reason::Internal, "the call came past its layers");
                Err(status::of_call(&error, "", ""))
            }
        }
    }
}

#[tonic::async_trait]
impl pb::quota_service_server::QuotaService for QuotaHandler {
    async fn get_quota(
        &self,
        request: Request<pb::GetQuotaRequest>,
    ) -> Result<Response<pb::GetQuotaResponse>, Status> {
        let (account, _) = self.account(&request)?;
        Ok(Response::new(pb::GetQuotaResponse { quota: Some(to_proto(&account)) }))
    }

    type WatchQuotaStream = QuotaStream;

    async fn watch_quota(
        &self,
        request: Request<pb::WatchQuotaRequest>,
    ) -> Result<Response<QuotaStream>, Status> {
        let (account, facts) = self.account(&request)?;
        let interval = interval(request.into_inner()).map_err(|error| facts.failed(error))?;
        let closing = facts.line.closing.clone();
        let watch =
            WatchState { account, interval, facts, closing, has_begun: false, is_over: false };
        Ok(Response::new(Box::pin(stream::unfold(watch, WatchState::next))))
    }
}

// === impl WatchState ===

impl WatchState {
    async fn next(mut self) -> Option<(Result<pb::WatchQuotaResponse, Status>, Self)> {
        if self.is_over {
            return None;
        }
        if self.has_begun {
            match self.pause().await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.is_over = true;
                    return Some((Err(self.facts.failed(error)), self));
                }
            }
        }
        self.has_begun = true;
        Some((Ok(pb::WatchQuotaResponse { quota: Some(to_proto(&self.account)) }), self))
    }

    /// Waits; false if the connection is about to end.
    async fn pause(&mut self) -> Result<bool, Error> {
        select! {
            () = sleep(self.interval) => Ok(true),
            () = sleep_until(self.facts.deadline) => {
                Err(Error::new(Reason::DeadlineExceeded, "the deadline of the stream has passed"))
            }
            // An error means that the connection is gone.
            _ = self.closing.wait_for(|closing| *closing) => Ok(false),
        }
    }
}

fn interval(request: pb::WatchQuotaRequest) -> Result<Duration, Error> {
    let Some(interval) = request.interval else { return Ok(DEFAULT_INTERVAL) };
    let interval = Duration::try_from(interval).ok();
    interval.filter(|interval| (MIN_INTERVAL..=MAX_INTERVAL).contains(interval)).ok_or_else(|| {
        Error::invalid(vec![FieldFault::new("interval", "must be 100 ms to one hour")])
    })
}

fn to_proto(account: &Account) -> pb::Quota {
    let view = account.snapshot(Instant::now());
    pb::Quota {
        portal: view.portal.to_string(),
        buckets: view.buckets.into_iter().map(bucket).collect(),
    }
}

fn bucket(view: BucketSnapshot) -> pb::QuotaBucket {
    let remaining = view.remaining();
    pb::QuotaBucket {
        name: view.name.as_str().to_owned(),
        size: view.size.map(count),
        window: duration(view.window),
        used: count(view.used),
        remaining: remaining.map(count),
        reset: duration(view.reset),
        closed: duration(view.closed),
        waiting: view.waiting.try_into().unwrap_or(i64::MAX),
        callers: view.callers.into_iter().map(caller).collect(),
    }
}

fn caller(view: CallerSnapshot) -> pb::QuotaCaller {
    pb::QuotaCaller {
        caller: view.caller.as_str().to_owned(),
        shares: view.weight.try_into().unwrap_or(i32::MAX),
        used: view.used,
        waiting: view.waiting.try_into().unwrap_or(i64::MAX),
    }
}

fn duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

fn count(value: u64) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
