//! The parts of the service that the admin endpoints show.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use crate::{auth::Auth, grpc, pipeline, telemetry::spans::SpanSink, vault::Session};
use leadsd_base::time::Timestamp;
use leadsd_credentials::Credentials;
use leadsd_quota::Quota;

/// What still keeps the service from its work; nothing means ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Names of the conditions that are not met, such as `credential:default`.
    pub unmet: Vec<String>,
}

/// What is shown.
#[derive(Debug, Clone)]
pub struct Sources {
    /// What keeps the service from being ready.
    pub readiness: watch::Receiver<Readiness>,
    /// The portals' credentials.
    pub credentials: Arc<Credentials>,
    /// The Vault session.
    pub vault: Session,
    /// The portals, with counts of the requests that were sent to HubSpot.
    pub portals: Arc<pipeline::Portals>,
    /// What may be sent.
    pub quota: Arc<Quota>,
    /// What the gRPC server has in hand.
    pub grpc: grpc::ServerStats,
    /// What became of spans.
    pub spans: SpanSink,
    /// Who calls; `None` if callers have no identity.
    pub auth: Option<Arc<Auth>>,
    /// The certificates; `None` without TLS.
    pub tls: Option<Arc<grpc::Tls>>,
    /// When the service was put together.
    pub started: Timestamp,
}
