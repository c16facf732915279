//! Settings of all calls: methods, maximum deadlines, maximum message size.

use std::sync::Arc;

use super::{deadline::DeadlinePolicy, refusal_log::RefusalLog};
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
    /// Log of refused calls.
    pub(crate) refusals: RefusalLog,
    /// Sink for spans of sampled traces.
    pub(crate) spans: SpanSink,
}
