//! Parts of the service that the admin endpoints report on.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use crate::{auth::Authenticator, grpc, pipeline, telemetry::spans::SpanSink, vault::Session};
use leadsd_base::{net::ca_files::CaFiles, time::Timestamp};
use leadsd_credentials::Credentials;
use leadsd_quota::Quota;

/// Readiness of the service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReadinessReport {
    /// Conditions that are not met, such as `credential:default`; empty if ready.
    pub unmet: Vec<String>,
    /// Portals without a usable credential. They do not keep the service from being ready unless they
    /// are in `unmet`.
    pub unusable: Vec<String>,
}

/// Handles to the parts of the service.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Readiness of the service.
    pub readiness: watch::Receiver<ReadinessReport>,
    /// Credentials of the portals.
    pub credentials: Arc<Credentials>,
    /// Vault session.
    pub vault: Session,
    /// Portals, with statistics of HubSpot calls.
    pub portals: Arc<pipeline::Portals>,
    /// Quotas of the portals.
    pub quota: Arc<Quota>,
    /// Metrics of the gRPC server.
    pub grpc: grpc::ServerStats,
    /// Sink of trace spans.
    pub spans: SpanSink,
    /// Authenticator; `None` without authentication.
    pub auth: Option<Arc<Authenticator>>,
    /// TLS certificates; `None` without TLS.
    pub tls: Option<Arc<grpc::ServerTls>>,
    /// Files with private CAs.
    pub ca_files: Arc<CaFiles>,
    /// Start time of the service.
    pub started: Timestamp,
}
