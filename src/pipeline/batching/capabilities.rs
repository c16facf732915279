//! Observed behaviour of HubSpot in one portal.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    OBSERVATION_TTL as TTL, association_labels::AssociationLabels, correlate::EchoedProperties,
    not_found_cache::NotFoundCache,
};
use crate::leads::{Error, Request, Response};

/// Capabilities of one portal.
#[derive(Debug, Default)]
pub(super) struct PortalCapabilities {
    pub(super) create: TraceIdEcho,
    pub(super) update: TraceIdEcho,
    pub(super) echoed_properties: EchoedProperties,
    pub(super) not_found: Arc<NotFoundCache>,
    pub(super) association_labels: AssociationLabels,
}

/// Echo of trace ids by one batch operation. It is not documented, and without it some results
/// cannot be matched.
#[derive(Debug, Default)]
pub(super) struct TraceIdEcho(Mutex<EchoState>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum EchoState {
    #[default]
    Unknown,
    Yes,
    /// Not returned at that time.
    No(Instant),
}

// === impl PortalCapabilities ===

impl PortalCapabilities {
    /// Observes the response to a batch.
    pub(super) fn observe(&self, request: &Request, result: &Result<Response, Error>) {
        match request {
            Request::BatchCreate(inputs) => {
                self.create.observe(result);
                self.echoed_properties.observe(inputs, result);
            }
            Request::BatchUpdate(_) => self.update.observe(result),
            Request::Get(_)
            | Request::List(_)
            | Request::Search(_)
            | Request::Create(_)
            | Request::Update(_)
            | Request::Archive(_)
            | Request::BatchRead(_)
            | Request::BatchArchive(_)
            | Request::Upsert { .. }
            | Request::ReadAssociations { .. }
            | Request::ListAssociations(_)
            | Request::ChangeAssociations(_)
            | Request::ReadSchema(_)
            | Request::FindContacts(_)
            | Request::CreateContacts(_) => {}
        }
    }
}

// === impl TraceIdEcho ===

impl TraceIdEcho {
    fn known(&self) -> EchoState {
        match *self.0.lock() {
            EchoState::No(since) if since.elapsed() >= TTL => EchoState::Unknown,
            known @ (EchoState::Unknown | EchoState::Yes | EchoState::No(_)) => known,
        }
    }

    /// True if trace ids are known to be returned.
    pub(super) fn is_confirmed(&self) -> bool {
        self.known() == EchoState::Yes
    }

    /// True if trace ids may be returned.
    pub(super) fn is_possible(&self) -> bool {
        !matches!(self.known(), EchoState::No(_))
    }

    /// Observes a response. A response without results proves nothing.
    pub(super) fn observe(&self, result: &Result<Response, Error>) {
        let Ok(Response::Batch(response)) = result else { return };
        if response.results.is_empty() {
            return;
        }
        let all = response.results.iter().all(|item| item.trace_id.is_some());
        let known = match self.known() {
            // One result without is enough: it could not be matched.
            _ if !all => EchoState::No(Instant::now()),
            EchoState::Unknown | EchoState::Yes => EchoState::Yes,
            known @ EchoState::No(_) => known,
        };
        *self.0.lock() = known;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leads::{BatchItem, BatchResponse, Lead, Reason};

    fn response(trace_ids: &[Option<&str>]) -> Result<Response, Error> {
        let item = |id: &Option<&str>| BatchItem {
            lead: Lead::default(),
            trace_id: id.map(str::to_owned),
            created: None,
        };
        let results = trace_ids.iter().map(item).collect();
        Ok(Response::Batch(BatchResponse { results, errors: Vec::new() }))
    }

    #[tokio::test(start_paused = true)]
    async fn one_result_without_a_trace_id_is_enough_to_doubt_the_echo() {
        let echo = TraceIdEcho::default();
        assert!(echo.is_possible() && !echo.is_confirmed());
        echo.observe(&response(&[]));
        echo.observe(&Err(Error::new(Reason::UpstreamUnavailable, "down")));
        assert!(echo.is_possible() && !echo.is_confirmed(), "nothing was observed");
        echo.observe(&response(&[Some("a"), Some("b")]));
        assert!(echo.is_confirmed());
        echo.observe(&response(&[Some("a"), None]));
        assert!(!echo.is_possible());
        echo.observe(&response(&[Some("a")]));
        assert!(!echo.is_possible(), "a later echo does not restore it before the TTL");
        tokio::time::sleep(TTL).await;
        assert!(echo.is_possible() && !echo.is_confirmed());
    }
}
