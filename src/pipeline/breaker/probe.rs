//! Probes: leadsd's own requests while the circuit is open.
//!
//! A probe has a separate deadline, independent of those of callers. It lists or searches one lead, or
//! archives none: the cheapest request that proves that HubSpot serves the portal, with token and permit
//! like any request. The next probe is sent while one waits, because HubSpot may have recovered in between.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use leadsd_quota::Requester;
use tokio::{
    select,
    time::{Instant, sleep_until, timeout_at},
};

use super::{CircuitScope, Gate};
use crate::{
    leads::{
        CallContext, CostMeter, Guard, ListLeads, Portal, RejectionSearch, Request, SearchLeads,
        Selection, Unlimited,
    },
    pipeline::{Dispatch, Layer},
    telemetry::trace_context::TraceContext,
};

/// Deadline of a probe. A HubSpot that takes longer serves no caller. With the pauses between probes it
/// bounds those in flight: five.
const DEADLINE: Duration = Duration::from_secs(12);

/// Sends probes until the circuit of `scope` is closed or its portal is dropped.
pub(super) async fn run<L: Layer>(gate: Weak<Gate<L>>, portal: Weak<Portal>, scope: CircuitScope) {
    let mut probes = FuturesUnordered::new();
    loop {
        let next = gate.upgrade().and_then(|gate| gate.circuits.get(scope).next_probe());
        let Some(next) = next else { return };
        select! {
            () = sleep_until(next) => {}
            Some(()) = probes.next() => continue,
        }
        let (Some(gate), Some(portal)) = (gate.upgrade(), portal.upgrade()) else { return };
        if gate.circuits.get(scope).begin_probe(Instant::now(), rand::random()) {
            probes.push(probe(gate, portal, scope));
        }
    }
}

/// Sends one probe. Its response closes the circuit on its way up through the monitor.
async fn probe<L: Layer>(gate: Arc<Gate<L>>, portal: Arc<Portal>, scope: CircuitScope) {
    let ctx = CallContext {
        portal,
        deadline: Instant::now() + DEADLINE,
        requester: Requester::internal(),
        request_id: "probe".into(),
        trace: TraceContext::root(0.0),
        cost: Arc::new(CostMeter::default()),
        search: RejectionSearch::default(),
        is_row: false,
        may_create_contacts: false,
        memory: Arc::new(Unlimited),
        guard: Guard::default(),
    };
    let request = match scope {
        CircuitScope::All | CircuitScope::Reads => Request::List(ListLeads {
            limit: 1,
            after: None,
            selection: Selection::default(),
            archived: false,
        }),
        CircuitScope::Searches => Request::Search(SearchLeads {
            query: String::new(),
            filter_groups: Vec::new(),
            sort: None,
            properties: Vec::new(),
            limit: 1,
            after: None,
        }),
        // Without inputs it has no effect, whether HubSpot accepts or rejects it.
        CircuitScope::Writes => Request::BatchArchive(Vec::new()),
    };
    let response = gate.inner.call(&ctx, Arc::new(request), Dispatch::new(&ctx));
    let failed = timeout_at(ctx.deadline, response).await.map_or(true, |result| result.is_err());
    if failed && ctx.cost.millionths() == 0 {
        gate.circuits.get(scope).close_on_trial();
    }
}
