//! Copies for checks of writes, which must not wait and must not rest on outdated copies.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    cache::{Answer, Schemas},
    load,
    part::{PartCopy, PartKey},
    state::PortalSchema,
};
use crate::leads::{CallContext, PortalName};

/// Copy that is young enough, and the time at which HubSpot was asked for it.
pub(in crate::leads) type CurrentCopy = (PartCopy, Instant);

// === impl Schemas ===

impl Schemas {
    /// The copy of a part, if it is at most `max_age` old and nothing contradicts it. Otherwise a read begins
    /// in the background, within the calls of the portal; the call neither waits for it nor pays for it.
    pub(in crate::leads) fn current(
        &self,
        ctx: &CallContext,
        key: &PartKey,
        max_age: Duration,
    ) -> Option<CurrentCopy> {
        let portal = self.0.portal(&ctx.portal.name);
        if let Some(copy) = portal.current(key, max_age) {
            return Some(copy);
        }
        match portal.ask(key, max_age) {
            Answer::Wait { started: Some((cost, load)), .. } => {
                load::start(&self.0, &portal, ctx, load, &cost);
            }
            Answer::Wait { started: None, .. } | Answer::Copy(_) | Answer::Failed(_) => {}
        }
        None
    }

    /// Reads a part again, within the calls of the portal, and waits for it for a short time. Returns the copy
    /// if it is newer than `judged`, the time of the copy that a write was judged by.
    pub(in crate::leads) async fn newer(
        &self,
        ctx: &CallContext,
        key: &PartKey,
        judged: Instant,
    ) -> Option<CurrentCopy> {
        let age = Instant::now().saturating_duration_since(judged);
        // A copy of the same moment is not newer.
        let max_age = age.saturating_sub(Duration::from_nanos(1));
        let _ = self.part(ctx, key.clone(), max_age).await;
        let portal = self.0.portal(&ctx.portal.name);
        let copy = portal.state.lock().part(key).copy.clone();
        copy.filter(|(_, at)| *at > judged)
    }

    /// The copy of a part, of any age.
    pub(in crate::leads) fn old(&self, portal: &PortalName, key: &PartKey) -> Option<CurrentCopy> {
        let portal = self.0.get(portal)?;
        let state = portal.state.lock();
        state.parts.get(key)?.copy.clone()
    }

    /// Notes that HubSpot accepted a write that contradicts the copy of a part. It is read again when it is
    /// asked for.
    pub(in crate::leads) fn contradict(&self, portal: &PortalName, key: &PartKey) {
        let Some(portal) = self.0.get(portal) else { return };
        if let Some(part) = portal.state.lock().parts.get_mut(key) {
            part.is_suspect = part.copy.is_some();
        }
    }
}

// === impl PortalSchema ===

impl PortalSchema {
    fn current(&self, key: &PartKey, max_age: Duration) -> Option<CurrentCopy> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let part = state.part(key);
        part.asked = Some(now);
        let copy = part.fresh(max_age, now)?;
        let (_, at) = part.copy.as_ref()?;
        Some((copy, *at))
    }
}
