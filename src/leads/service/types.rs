//! Types of properties, from the copy of the schema.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::Service;
use crate::leads::{
    context::CallContext,
    schema::{DEFAULT_MAX_AGE, PartCopy, PartKey, PropertyCopy},
};

/// Maximum time for which a read waits for the types: without them its values are text.
const WAIT: Duration = Duration::from_secs(3);

// === impl Service ===

impl Service {
    /// The properties of the portal. If HubSpot does not return them in time, an old copy; `None` without one.
    pub async fn property_types(&self, ctx: &CallContext) -> Option<Arc<PropertyCopy>> {
        let until = ctx.ending_early().deadline.min(Instant::now() + WAIT);
        let read = self.schemas.properties(ctx, DEFAULT_MAX_AGE);
        match timeout_at(until, read).await {
            Ok(copy) => copy.ok(),
            Err(_) => match self.schemas.old(&ctx.portal.name, &PartKey::Properties)?.0 {
                PartCopy::Properties(copy) => Some(copy),
                PartCopy::ValidationRules(_)
                | PartCopy::Pipelines(_)
                | PartCopy::Owners(_)
                | PartCopy::AssociationTypes(_) => None,
            },
        }
    }
}
