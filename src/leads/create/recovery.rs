//! Joins creates of different calls whose responses were lost at the same time, such as those of one
//! batch. They are looked up and sent again together.

use std::{collections::HashMap, sync::Arc};

use futures_util::future;
use leadsd_base::task;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::sleep};

use super::resolve::{FIRST_BACKOFF, OpenCreate, resolve};
use crate::leads::{
    batch::{self, BatchLimits},
    charge::MemoryCharge,
    context::{CallContext, PortalName},
    cost::CostMeter,
    memory::memory_of,
    request::Outcome,
};

/// Creates that wait for their common lookup, by portal. Each belongs to a call in flight, whose number
/// admission control bounds.
#[derive(Debug, Clone, Default)]
pub(in crate::leads) struct CreateRecovery(Arc<Mutex<HashMap<PortalName, Vec<Waiting>>>>);

/// A create that waits for a lookup.
#[derive(Debug)]
struct Waiting {
    ctx: CallContext,
    create: OpenCreate,
    reply: oneshot::Sender<Outcome>,
}

// === impl CreateRecovery ===

impl CreateRecovery {
    /// Resolves a create together with others that are lost within [`FIRST_BACKOFF`]. A separate task
    /// resolves the group, so a caller that disconnects does not abort it.
    pub(super) async fn resolve(&self, ctx: &CallContext, create: OpenCreate) -> Outcome {
        let error = create.error.clone();
        let (reply, outcome) = oneshot::channel();
        let name = &ctx.portal.name;
        let is_first = {
            let mut all = self.0.lock();
            let group = all.entry(name.clone()).or_default();
            group.push(Waiting { ctx: ctx.clone(), create, reply });
            group.len() == 1
        };
        if is_first {
            let (waiting, name) = (self.clone(), name.clone());
            task::spawn("create recovery", ctx.portal.name.as_str(), async move {
                // Creates that are lost in this time join the group.
                sleep(FIRST_BACKOFF).await;
                waiting.resolve_group(&name).await;
            })
            .detach();
        }
        outcome.await.unwrap_or(Err(error))
    }

    async fn resolve_group(&self, name: &PortalName) {
        let mut group = self.0.lock().remove(name).unwrap_or_default();
        let mut chunks = Vec::new();
        while !group.is_empty() {
            let rest = group.split_off(group.len().min(batch::MAX_CHUNK));
            chunks.push(resolve_chunk(std::mem::replace(&mut group, rest)));
        }
        future::join_all(chunks).await;
    }
}

async fn resolve_chunk(chunk: Vec<Waiting>) {
    let Some(ctx) = shared_context(&chunk) else { return };
    let (creates, replies): (Vec<_>, Vec<_>) =
        chunk.into_iter().map(|waiting| (waiting.create, (waiting.reply, waiting.ctx))).unzip();
    // One lead for each caller: it is bounded where it becomes a response.
    let outcomes = resolve(&ctx, creates, BatchLimits::unlimited(1)).await;
    for ((reply, own), outcome) in replies.into_iter().zip(outcomes) {
        if let Ok(Some(item)) = &outcome {
            // Charged until the caller charges its response.
            let mut charge = MemoryCharge::new(&own.memory);
            charge.set(memory_of(&item.lead));
            own.cost.hold(charge);
        }
        // A cancelled call needs no outcome.
        let _ = reply.send(outcome);
    }
}

/// The context of the requests of a group: the latest deadline, and costs for all in equal parts.
fn shared_context(chunk: &[Waiting]) -> Option<CallContext> {
    let first = chunk.first()?;
    let deadline = chunk.iter().map(|waiting| waiting.ctx.deadline).max()?;
    let sharers = chunk.iter().map(|waiting| Arc::clone(&waiting.ctx.cost)).collect();
    let cost = Arc::new(CostMeter::shared_by(sharers));
    let memory = Arc::clone(&first.ctx.memory).shared();
    Some(CallContext { deadline, cost, memory, ..first.ctx.clone() })
}
