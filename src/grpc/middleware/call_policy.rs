//! What applies to all calls: the methods, the ceilings of deadlines, the maximum message.

use std::sync::Arc;

use super::deadline::DeadlinePolicy;
use crate::{grpc::methods::Methods, telemetry::spans::SpanSink};

/// What applies to all calls.
#[derive(Debug)]
pub(crate) struct CallPolicy {
    /// The methods that can be called.
    pub(crate) methods: Arc<Methods>,
    /// Ceilings of deadlines.
    pub(crate) deadlines: DeadlinePolicy,
    /// Maximum message, in bytes.
    pub(crate) max_message: usize,
    /// Page that explains the reasons of errors; empty for none.
    pub(crate) error_docs_url: Arc<str>,
    /// Receives the spans of sampled traces.
    pub(crate) spans: SpanSink,
}
