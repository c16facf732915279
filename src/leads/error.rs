//! Error of a call in terms of the domain: a reason for programs, a message for the caller, and
//! facts.
//!
//! Details for operators are separate in `internal`. An error also states whether HubSpot may have
//! acted, and the affected inputs of a batch.

mod heap_size;
mod reason;
mod redaction;

use std::{fmt, sync::Arc, time::Duration};

pub use self::reason::Reason;
use leadsd_quota::Rejected;

/// Maximum length in bytes of the message of a shortened error.
const MAX_SHORT_MESSAGE: usize = 256;

/// Possible effect of a failed request at HubSpot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SideEffect {
    /// No effect: the request was not sent, or HubSpot rejected it.
    None,
    /// Possible effect: the request was sent and no response proves the outcome.
    Possible,
}

/// Invalid field of the caller's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFault {
    /// Path in proto terms, such as `inputs[3].properties["hs_lead_label"]`.
    pub field: String,
    /// Reason why the value is invalid.
    pub description: String,
}

/// Facts about a failure from HubSpot's response that callers may see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamFacts {
    /// HTTP status.
    pub http_status: Option<u16>,
    /// HubSpot's id of the failed call; HubSpot's support asks for it.
    pub correlation_id: Option<String>,
    /// Category, such as `VALIDATION_ERROR`.
    pub category: Option<String>,
    /// Subcategory.
    pub sub_category: Option<String>,
    /// Name of the exhausted policy, such as `TEN_SECONDLY_ROLLING`.
    pub policy_name: Option<String>,
    /// Scopes of which at least one is required.
    pub required_scopes: Vec<String>,
    /// Id of the conflicting record.
    pub existing_id: Option<String>,
    /// Ids of the records that HubSpot's error names.
    pub record_ids: Vec<String>,
    /// HubSpot's name of the data centre that serves the account, such as `eu1`.
    pub correct_hublet: Option<String>,
    /// Number of attempts; 0 if HubSpot was not called.
    pub attempts: u32,
}

/// Inputs of a batch that an error is about, as far as HubSpot names them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AffectedInputs {
    /// Trace ids (`objectWriteTraceId`).
    pub trace_ids: Vec<String>,
    /// Record ids or unique values.
    pub ids: Vec<String>,
    /// Positions in the batch that was sent, from 0.
    pub positions: Vec<usize>,
    /// UUIDs anywhere in the error. One that is the trace id of an input names it.
    pub uuids: Vec<String>,
    /// Names of unknown properties: every input that has one is invalid.
    pub unknown_properties: Vec<String>,
}

/// Error of a call. Clones share its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Arc<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    reason: Reason,
    message: String,
    internal: Option<String>,
    fields: Vec<FieldFault>,
    upstream: UpstreamFacts,
    retry_after: Option<Duration>,
    side_effect: SideEffect,
    affected_inputs: AffectedInputs,
    local_limit: Option<LocalLimit>,
    /// Id of the lead that the call asked for.
    lead_id: Option<String>,
    is_deadline_limited: bool,
}

/// Limit of the service that rejected a request before HubSpot was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalLimit {
    /// Bucket of the portal's quota, by name.
    Quota(&'static str),
    /// Admission limit of the service, by name.
    Admission(&'static str),
    /// Queue of writes to one lead.
    WriteQueue,
    /// Open circuit breaker of the portal.
    CircuitBreaker,
}

// === impl FieldFault ===

impl FieldFault {
    /// Creates an invalid field.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }

    /// Creates an invalid property.
    pub fn for_property(name: &str, description: impl Into<String>) -> Self {
        Self::new(format!("properties[{name:?}]"), description)
    }

    /// Name of the property; `None` for other fields.
    pub fn property(&self) -> Option<&str> {
        self.field.strip_prefix("properties[\"")?.strip_suffix("\"]")
    }
}

// === impl Error ===

impl Error {
    /// Creates an error with a message for the caller. The `with_` methods add everything else.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            reason,
            message: message.into(),
            internal: None,
            fields: Vec::new(),
            upstream: UpstreamFacts::default(),
            retry_after: None,
            side_effect: SideEffect::None,
            affected_inputs: AffectedInputs::default(),
            local_limit: None,
            lead_id: None,
            is_deadline_limited: false,
        }))
    }

    /// Creates the error for an unknown lead.
    pub fn lead_not_found() -> Self {
        let upstream = UpstreamFacts {
            http_status: Some(404),
            category: Some("OBJECT_NOT_FOUND".to_owned()),
            ..UpstreamFacts::default()
        };
        Self::new(Reason::LeadNotFound, "HubSpot has no such lead").with_upstream(upstream)
    }

    /// Creates the error for a request with invalid fields; the message lists them.
    pub fn invalid(faults: Vec<FieldFault>) -> Self {
        let parts: Vec<_> =
            faults.iter().map(|fault| format!("{}: {}", fault.field, fault.description)).collect();
        Self::new(Reason::InvalidRequest, parts.join("; ")).with_fields(faults)
    }

    fn inner_mut(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// Adds a text for the log only.
    #[must_use]
    pub fn with_internal(mut self, internal: impl Into<String>) -> Self {
        self.inner_mut().internal = Some(internal.into());
        self
    }

    /// Replaces the message for the caller.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.inner_mut().message = message.into();
        self
    }

    /// Adds invalid fields.
    #[must_use]
    pub fn with_fields(mut self, fields: Vec<FieldFault>) -> Self {
        self.inner_mut().fields = fields;
        self
    }

    /// Adds facts from HubSpot's response.
    #[must_use]
    pub fn with_upstream(mut self, upstream: UpstreamFacts) -> Self {
        self.inner_mut().upstream = upstream;
        self
    }

    /// Adds the time to wait before a retry.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.inner_mut().retry_after = Some(wait);
        self
    }

    /// Sets the possible effect at HubSpot. Default: none.
    #[must_use]
    pub fn with_side_effect(mut self, side_effect: SideEffect) -> Self {
        self.inner_mut().side_effect = side_effect;
        self
    }

    /// Adds the number of attempts.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.inner_mut().upstream.attempts = attempts;
        self
    }

    /// Adds the id of the lead to a not-found error; other errors are unchanged. Errors
    /// that calls share have no id.
    #[must_use]
    pub fn with_lead_id(mut self, id: &str) -> Self {
        if self.0.reason == Reason::LeadNotFound {
            let inner = self.inner_mut();
            inner.message = format!("HubSpot has no lead {id}");
            inner.lead_id = Some(id.to_owned());
        }
        self
    }

    /// Adds a prefix to the fields of an error about an invalid request, and to the message, which
    /// lists them; other errors are unchanged.
    #[must_use]
    pub fn with_field_prefix(self, prefix: &str) -> Self {
        if self.0.reason != Reason::InvalidRequest {
            return self;
        }
        let fault = |FieldFault { field, description }: &FieldFault| {
            FieldFault::new(format!("{prefix}{field}"), description)
        };
        Self::invalid(self.fields().iter().map(fault).collect())
    }

    /// Id of the lead that does not exist, as the call asked for it; `None` for other errors.
    pub fn lead_id(&self) -> Option<&str> {
        self.0.lead_id.as_deref()
    }

    /// Adds the affected inputs of a batch.
    #[must_use]
    pub fn with_affected_inputs(mut self, affected_inputs: AffectedInputs) -> Self {
        self.inner_mut().affected_inputs = affected_inputs;
        self
    }

    /// Adds the limit of the service that rejected the request.
    #[must_use]
    pub fn with_local_limit(mut self, limit: LocalLimit) -> Self {
        self.inner_mut().local_limit = Some(limit);
        self
    }

    /// Limit of the service that rejected the request; `None` if HubSpot was called, or if another
    /// condition failed.
    pub fn local_limit(&self) -> Option<LocalLimit> {
        self.0.local_limit
    }

    /// Name of the local limit for callers; `None` for the circuit breaker, which is not a quota
    /// limit.
    pub fn bucket(&self) -> Option<&'static str> {
        match self.0.local_limit? {
            LocalLimit::Quota(name) | LocalLimit::Admission(name) => Some(name),
            LocalLimit::WriteQueue => Some("lead"),
            LocalLimit::CircuitBreaker => None,
        }
    }

    /// Marks the error: only the deadline prevented another attempt.
    #[must_use]
    pub fn deadline_limited(mut self) -> Self {
        self.inner_mut().is_deadline_limited = true;
        self
    }

    /// True if only the deadline prevented another attempt.
    pub fn is_deadline_limited(&self) -> bool {
        self.0.is_deadline_limited
    }

    /// Reason of the error.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// Message for the caller.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Text for the log, never for the caller.
    pub fn internal(&self) -> Option<&str> {
        self.0.internal.as_deref()
    }

    /// Invalid fields.
    pub fn fields(&self) -> &[FieldFault] {
        &self.0.fields
    }

    /// Facts from HubSpot's response.
    pub fn upstream(&self) -> &UpstreamFacts {
        &self.0.upstream
    }

    /// Time to wait before a retry; `None` if unknown.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// True if the error is known to be the result of the request: HubSpot evaluated the content and
    /// rejected it. After any other error the request may still succeed.
    pub fn is_final(&self) -> bool {
        self.0.reason.is_rejection() && self.0.side_effect == SideEffect::None
    }

    /// The error with the beginning of its message and without lists, to be kept in large numbers.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        let Inner { message, internal, fields, affected_inputs, .. } = self.inner_mut();
        message.truncate(message.floor_char_boundary(MAX_SHORT_MESSAGE));
        message.shrink_to_fit();
        (*internal, *fields) = (None, Vec::new());
        *affected_inputs = AffectedInputs::default();
        self
    }

    /// Possible effect at HubSpot.
    pub fn side_effect(&self) -> SideEffect {
        self.0.side_effect
    }

    /// Affected inputs of a batch.
    pub fn affected_inputs(&self) -> &AffectedInputs {
        &self.0.affected_inputs
    }
}

impl From<Rejected> for Error {
    /// Error of a call that got no permit.
    fn from(rejected: Rejected) -> Self {
        let bucket = rejected.bucket.as_str();
        let (reason, text) = match rejected.reason {
            leadsd_quota::Reason::Deadline => (
                Reason::RateLimited,
                format!(
                    "no permit of HubSpot's {bucket} limit is available before the deadline; retry later or extend it"
                ),
            ),
            leadsd_quota::Reason::ShortDeadline => {
                let text = "the deadline leaves less time than HubSpot usually takes to respond; extend it";
                return Self::new(Reason::DeadlineExceeded, text);
            }
            leadsd_quota::Reason::QueueFull => (
                Reason::Overloaded,
                format!(
                    "too many calls are queued for HubSpot's {bucket} limit; retry with backoff"
                ),
            ),
            leadsd_quota::Reason::Exhausted => {
                (Reason::DailyLimitReached, "HubSpot's daily limit is exhausted".to_owned())
            }
        };
        Self::new(reason, text)
            .with_retry_after(rejected.retry_after)
            .with_local_limit(LocalLimit::Quota(bucket))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.reason.as_str(), self.0.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;
