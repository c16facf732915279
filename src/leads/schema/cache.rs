//! Cache of the schemas of all portals.
//!
//! Memory is bounded per part, and in total: above [`MAX_BYTES`] the copies of the portals that were not
//! asked for the longest are dropped.

use std::{fmt, sync::Arc, time::Duration};

use leadsd_base::time::{Timestamp, WallClock};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{
    association_types::{AssociationTypeCopy, AssociationTypesResult, object_type},
    budget::Purpose,
    copies::{OwnerCopy, PipelineCopy, PropertyCopy},
    evidence,
    load::{self, Load},
    part::{PartCopy, PartKey},
    rules::RuleCopy,
    state::{PortalSchema, Shared},
};
use crate::leads::{CallContext, CostMeter, Error, PortalName, Reason};

/// Age of a copy up to which it is returned, unless the caller asks for another one.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(600);

/// Maximum memory of all copies, in bytes.
const MAX_BYTES: usize = 64 << 20;

/// Time for which a caller waits for a newer copy if there is an old one.
const REFRESH_WAIT: Duration = Duration::from_secs(3);

/// Schemas of all portals. Clones share them.
#[derive(Clone)]
pub struct Schemas(pub(super) Arc<Shared>);

/// Answer to a caller that asks for a part.
pub(super) enum Answer {
    Copy(PartCopy),
    Failed(Error),
    /// A read is in progress. `started` is its meter if this caller started it.
    Wait {
        ended: watch::Receiver<()>,
        started: Option<(Arc<CostMeter>, Load)>,
    },
}

// === impl Schemas ===

impl Schemas {
    /// Creates an empty cache. `clock` is the time of `fetch_time`.
    pub fn new(clock: Arc<dyn WallClock>) -> Self {
        Self::with_max_bytes(clock, MAX_BYTES)
    }

    pub(super) fn with_max_bytes(clock: Arc<dyn WallClock>, max_bytes: usize) -> Self {
        Self(Arc::new(Shared::new(clock, max_bytes)))
    }

    /// Current time, by the clock of `fetch_time`.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The lead properties of the call's portal, at most `max_age` old if HubSpot can be asked.
    pub async fn properties(
        &self,
        ctx: &CallContext,
        max_age: Duration,
    ) -> Result<Arc<PropertyCopy>, Error> {
        match self.part(ctx, PartKey::Properties, max_age).await? {
            PartCopy::Properties(copy) => Ok(copy),
            PartCopy::ValidationRules(_)
            | PartCopy::Pipelines(_)
            | PartCopy::Owners(_)
            | PartCopy::AssociationTypes(_) => Err(mismatch()),
        }
    }

    /// The validation rules of the lead properties of the call's portal, as
    /// [`properties`](Self::properties).
    pub async fn validation_rules(
        &self,
        ctx: &CallContext,
        max_age: Duration,
    ) -> Result<Arc<RuleCopy>, Error> {
        match self.part(ctx, PartKey::ValidationRules, max_age).await? {
            PartCopy::ValidationRules(copy) => Ok(copy),
            PartCopy::Properties(_)
            | PartCopy::Pipelines(_)
            | PartCopy::Owners(_)
            | PartCopy::AssociationTypes(_) => Err(mismatch()),
        }
    }

    /// The lead pipelines of the call's portal, as [`properties`](Self::properties).
    pub async fn pipelines(
        &self,
        ctx: &CallContext,
        max_age: Duration,
    ) -> Result<Arc<PipelineCopy>, Error> {
        match self.part(ctx, PartKey::Pipelines, max_age).await? {
            PartCopy::Pipelines(copy) => Ok(copy),
            PartCopy::Properties(_)
            | PartCopy::ValidationRules(_)
            | PartCopy::Owners(_)
            | PartCopy::AssociationTypes(_) => Err(mismatch()),
        }
    }

    /// The owners of the call's portal, as [`properties`](Self::properties).
    pub async fn owners(
        &self,
        ctx: &CallContext,
        max_age: Duration,
    ) -> Result<Arc<OwnerCopy>, Error> {
        match self.part(ctx, PartKey::Owners, max_age).await? {
            PartCopy::Owners(copy) => Ok(copy),
            PartCopy::Properties(_)
            | PartCopy::ValidationRules(_)
            | PartCopy::Pipelines(_)
            | PartCopy::AssociationTypes(_) => Err(mismatch()),
        }
    }

    /// The association types from leads to each object type, as [`properties`](Self::properties), in the
    /// given order. If HubSpot was not asked for a type yet and cannot be asked now, those that it defines
    /// for every portal. One slot serves all types: the one with the oldest copy is read first.
    pub async fn association_types(
        &self,
        ctx: &CallContext,
        to: &[String],
        max_age: Duration,
    ) -> Vec<AssociationTypesResult> {
        let mut order: Vec<(Option<Instant>, usize, PartKey)> = {
            let portal = self.0.portal(&ctx.portal.name);
            let state = portal.state.lock();
            let keys = to.iter().map(|to| PartKey::AssociationTypes(object_type(to).to_owned()));
            let keys = (0..).zip(keys);
            keys.map(|(index, key)| (state.read_at(&key), index, key)).collect()
        };
        order.sort_by_key(|(read_at, index, _)| (*read_at, *index));
        let mut lists = Vec::with_capacity(to.len());
        for (_, index, key) in order {
            let result = match self.part(ctx, key, max_age).await {
                Ok(PartCopy::AssociationTypes(copy)) => Ok(copy),
                Ok(
                    PartCopy::Properties(_)
                    | PartCopy::ValidationRules(_)
                    | PartCopy::Pipelines(_)
                    | PartCopy::Owners(_),
                ) => Err(mismatch()),
                Err(error) if error.reason() == Reason::RateLimited => {
                    let known = AssociationTypeCopy::hubspot_defined(object_type(&to[index]));
                    Ok(Arc::new(known))
                }
                Err(error) => Err(error),
            };
            lists.push((index, (to[index].clone(), result)));
        }
        lists.sort_by_key(|(index, _)| *index);
        lists.into_iter().map(|(_, list)| list).collect()
    }

    /// Evaluates HubSpot's error for a write: a copy that it contradicts is read again when it is asked
    /// for.
    pub fn observe(&self, portal: &PortalName, error: &Error) {
        if error.reason() != Reason::ValidationFailed || error.fields().is_empty() {
            return;
        }
        let Some(portal) = self.0.get(portal) else { return };
        evidence::observe(&mut portal.state.lock().parts, error);
    }

    /// Memory of all copies, in bytes.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// The copy of a part, at most `max_age` old if HubSpot can be asked.
    pub(in crate::leads) async fn part(
        &self,
        ctx: &CallContext,
        key: PartKey,
        max_age: Duration,
    ) -> Result<PartCopy, Error> {
        let portal = self.0.portal(&ctx.portal.name);
        let (ended, started) = match portal.ask(&key, max_age) {
            Answer::Copy(copy) => return Ok(copy),
            Answer::Failed(error) => return Err(error),
            Answer::Wait { ended, started } => (ended, started),
        };
        let cost = started.map(|(cost, load)| {
            load::start(&self.0, &portal, ctx, load, &cost);
            cost
        });
        let result = portal.wait(ctx, &key, ended).await;
        if let Some(cost) = cost {
            ctx.cost.add(cost.millionths());
        }
        result
    }
}

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schemas").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

// === impl PortalSchema ===

impl PortalSchema {
    /// Decides what a caller gets that asks for a part.
    pub(super) fn ask(&self, key: &PartKey, max_age: Duration) -> Answer {
        let now = Instant::now();
        let mut state = self.state.lock();
        let part = state.part(key);
        part.asked = Some(now);
        if let Some(copy) = part.fresh(max_age, now) {
            return Answer::Copy(copy);
        }
        if let Some(ended) = &part.in_progress {
            return Answer::Wait { ended: ended.clone(), started: None };
        }
        let (old, failure) = (part.old(), part.failure.as_ref());
        let paused = failure.filter(|failure| failure.retry_at > now);
        if let Some(failure) = paused {
            return old.map_or_else(|| Answer::Failed(failure.error(now, None)), Answer::Copy);
        }
        let purpose = match failure.is_some_and(|failure| failure.is_lasting()) {
            true => Purpose::LastingFailure,
            false => Purpose::Read,
        };
        let slot = state.budget.acquire(key, purpose, now);
        let part = state.part(key);
        match slot {
            Ok(slot) => {
                let (end, ended) = watch::channel(());
                part.in_progress = Some(ended.clone());
                let load = Load { key: key.clone(), slot, end };
                Answer::Wait { ended, started: Some((Arc::default(), load)) }
            }
            Err(wait) => match (old, &part.failure) {
                (Some(old), _) => Answer::Copy(old),
                (None, Some(failure)) => Answer::Failed(failure.error(now, Some(wait))),
                (None, None) => Answer::Failed(over_budget(wait)),
            },
        }
    }

    /// Waits until a read ends. If there is an old copy, a caller waits for a short time only.
    async fn wait(
        &self,
        ctx: &CallContext,
        key: &PartKey,
        mut ended: watch::Receiver<()>,
    ) -> Result<PartCopy, Error> {
        let has_copy = self.state.lock().part(key).copy.is_some();
        let until = match has_copy {
            true => ctx.ending_early().deadline.min(Instant::now() + REFRESH_WAIT),
            false => ctx.deadline,
        };
        // The sender is dropped when the read ends.
        let in_time = timeout_at(until, ended.changed()).await.is_ok();
        let now = Instant::now();
        let mut state = self.state.lock();
        let part = state.part(key);
        match (part.old(), &part.failure) {
            (Some(copy), _) => Ok(copy),
            (None, Some(failure)) if in_time => Err(failure.error(now, None)),
            (None, None) if in_time => {
                let text = "the read of the schema ended without a result; retry";
                Err(Error::new(Reason::UpstreamUnavailable, text))
            }
            (None, _) => {
                let text = "the deadline passed before HubSpot returned the schema";
                Err(Error::new(Reason::DeadlineExceeded, text))
            }
        }
    }
}

fn over_budget(wait: Duration) -> Error {
    let text =
        "the HubSpot calls for the schema of this portal are used up (limit 4 in 10 minutes)";
    Error::new(Reason::RateLimited, text).with_retry_after(wait)
}

fn mismatch() -> Error {
    Error::new(Reason::Internal, "internal error: copy does not belong to its part")
}
