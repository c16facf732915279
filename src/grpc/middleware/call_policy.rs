//! Settings of all calls: methods, maximum deadlines, maximum message size.

use std::sync::Arc;

use super::{call_log_limit::CallLogLimit, deadline::DeadlinePolicy};
use crate::{grpc::methods::Methods, telemetry::spans::SpanSink};

/// Settings of all calls.
#[derive(Debug)]
pub(crate) struct CallPolicy {
    /// Methods of the server.
    pub(crate) methods: Arc<Methods>,
    /// Maximum deadlines.
    pub(crate) deadlines: DeadlinePolicy,
    /// Maximum size of a request message in bytes.
    pub(crate) max_message: usize,
    /// URL of the page that documents error reasons; empty if there is none.
    pub(crate) error_docs_url: Arc<str>,
    /// Limits of access events.
    pub(crate) log_limits: AccessLogLimits,
    /// Sink for spans of sampled traces.
    pub(crate) spans: SpanSink,
}

/// Limits of the access events of one origin.
#[derive(Debug)]
pub(crate) struct AccessLogLimits {
    /// Limit of refused calls.
    pub(crate) refused: CallLogLimit,
    /// Limit of other calls while the log is behind.
    pub(crate) others: CallLogLimit,
}
