//! Why a call failed, in the terms of the domain: a reason that programs can act on, a message for
//! the caller, and facts. What only operators may see is kept apart in `internal`. An error also says
//! whether HubSpot may have acted, and which inputs of a batch it is about.

mod reason;

use std::{fmt, time::Duration};

pub use self::reason::Reason;
use super::memory::HeapSize;
use leadsd_quota::Rejected;

/// Whether HubSpot may have acted on a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SideEffect {
    /// None: the request was never sent, or HubSpot rejected it.
    None,
    /// Possible: the request was sent and no response proves the outcome.
    Possible,
}

/// A field of the caller's request that is at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFault {
    /// Path in proto terms, such as `inputs[3].properties["hs_lead_label"]`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// What HubSpot said about a failure, as far as callers may see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamFacts {
    /// HTTP status.
    pub http_status: Option<u16>,
    /// HubSpot's id of the failed call; their support asks for it.
    pub correlation_id: Option<String>,
    /// Such as `VALIDATION_ERROR`.
    pub category: Option<String>,
    /// Finer category.
    pub sub_category: Option<String>,
    /// Such as `TEN_SECONDLY_ROLLING`.
    pub policy_name: Option<String>,
    /// Scopes of which one is missing.
    pub required_scopes: Vec<String>,
    /// Id of the record that stands in the way.
    pub existing_id: Option<String>,
    /// Attempts made, the last one included; 0 if HubSpot was not asked.
    pub attempts: u32,
}

/// Which inputs of a batch an error is about, as far as HubSpot says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AffectedInputs {
    /// `objectWriteTraceId`s.
    pub trace_ids: Vec<String>,
    /// Record ids or unique values.
    pub ids: Vec<String>,
    /// Names of properties that do not exist: every input that has one is at fault.
    pub unknown_properties: Vec<String>,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

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
    is_deadline_limited: bool,
}

/// The limit of the service itself that rejected a request: HubSpot was not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalLimit {
    /// A bucket of the portal's quota, by its name.
    Quota(&'static str),
    /// A limit on what the service has in progress, by its name.
    Admission(&'static str),
    /// The queue of writes to one lead.
    WriteQueue,
    /// The circuit breaker of the portal is open.
    CircuitBreaker,
}

// === impl FieldFault ===

impl FieldFault {
    /// A fault of `field`.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}

// === impl Error ===

impl Error {
    /// An error with a message for the caller. Everything else is added by the `with_` methods.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            reason,
            message: message.into(),
            internal: None,
            fields: Vec::new(),
            upstream: UpstreamFacts::default(),
            retry_after: None,
            side_effect: SideEffect::None,
            affected_inputs: AffectedInputs::default(),
            local_limit: None,
            is_deadline_limited: false,
        }))
    }

    /// HubSpot has no such lead.
    pub fn lead_not_found() -> Self {
        let upstream = UpstreamFacts {
            http_status: Some(404),
            category: Some("OBJECT_NOT_FOUND".to_owned()),
            ..UpstreamFacts::default()
        };
        Self::new(Reason::LeadNotFound, "HubSpot has no such lead").with_upstream(upstream)
    }

    /// A request that is wrong in one or more fields; the message names them all.
    pub fn invalid(faults: Vec<FieldFault>) -> Self {
        let parts: Vec<_> =
            faults.iter().map(|fault| format!("{}: {}", fault.field, fault.description)).collect();
        Self::new(Reason::InvalidRequest, parts.join("; ")).with_fields(faults)
    }

    /// Adds what only the log may say.
    #[must_use]
    pub fn with_internal(mut self, internal: impl Into<String>) -> Self {
        self.0.internal = Some(internal.into());
        self
    }

    /// Adds the fields at fault.
    #[must_use]
    pub fn with_fields(mut self, fields: Vec<FieldFault>) -> Self {
        self.0.fields = fields;
        self
    }

    /// Adds what HubSpot said.
    #[must_use]
    pub fn with_upstream(mut self, upstream: UpstreamFacts) -> Self {
        self.0.upstream = upstream;
        self
    }

    /// Adds when to try again.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Adds whether HubSpot has acted on the call; `No` when not said.
    #[must_use]
    pub fn with_side_effect(mut self, side_effect: SideEffect) -> Self {
        self.0.side_effect = side_effect;
        self
    }

    /// Adds how many attempts were made.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.0.upstream.attempts = attempts;
        self
    }

    /// Adds which inputs of a batch it is about.
    #[must_use]
    pub fn with_affected_inputs(mut self, affected_inputs: AffectedInputs) -> Self {
        self.0.affected_inputs = affected_inputs;
        self
    }

    /// Adds the limit of the service itself that rejected the request.
    #[must_use]
    pub fn with_local_limit(mut self, limit: LocalLimit) -> Self {
        self.0.local_limit = Some(limit);
        self
    }

    /// The limit of the service itself that rejected the request. `None` if HubSpot was asked, or
    /// another condition failed.
    pub fn local_limit(&self) -> Option<LocalLimit> {
        self.0.local_limit
    }

    /// Name of the local limit as callers see it. `None` for the circuit breaker, which is no limit
    /// of a quota.
    pub fn bucket(&self) -> Option<&'static str> {
        match self.0.local_limit? {
            LocalLimit::Quota(name) | LocalLimit::Admission(name) => Some(name),
            LocalLimit::WriteQueue => Some("lead"),
            LocalLimit::CircuitBreaker => None,
        }
    }

    /// Marks the error as one after which only the deadline prevented another attempt.
    #[must_use]
    pub fn deadline_limited(mut self) -> Self {
        self.0.is_deadline_limited = true;
        self
    }

    /// Whether only the deadline prevented another attempt.
    pub fn is_deadline_limited(&self) -> bool {
        self.0.is_deadline_limited
    }

    /// What a caller can act on.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// Text for the caller.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Text for the log; never for the caller.
    pub fn internal(&self) -> Option<&str> {
        self.0.internal.as_deref()
    }

    /// Fields at fault.
    pub fn fields(&self) -> &[FieldFault] {
        &self.0.fields
    }

    /// What HubSpot said.
    pub fn upstream(&self) -> &UpstreamFacts {
        &self.0.upstream
    }

    /// When to try again, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether HubSpot has acted on the call.
    pub fn side_effect(&self) -> SideEffect {
        self.0.side_effect
    }

    /// Which inputs of a batch it is about.
    pub fn affected_inputs(&self) -> &AffectedInputs {
        &self.0.affected_inputs
    }
}

impl From<Rejected> for Error {
    /// A call that got no permit.
    fn from(rejected: Rejected) -> Self {
        let bucket = rejected.bucket.as_str();
        let (reason, text) = match rejected.reason {
            leadsd_quota::Reason::Deadline => (
                Reason::RateLimited,
                format!("HubSpot's {bucket} limit leaves no call for this one before its deadline"),
            ),
            leadsd_quota::Reason::QueueFull => (
                Reason::Overloaded,
                format!("too many calls wait for HubSpot's {bucket} limit already"),
            ),
            leadsd_quota::Reason::Exhausted => {
                (Reason::DailyLimitReached, "HubSpot's daily limit is used up".to_owned())
            }
        };
        Self::new(reason, text)
            .with_retry_after(rejected.retry_after)
            .with_local_limit(LocalLimit::Quota(bucket))
    }
}

impl HeapSize for Error {
    fn heap_size(&self) -> usize {
        let Inner {
            reason: _,
            message,
            internal,
            fields,
            upstream,
            retry_after: _,
            side_effect: _,
            affected_inputs,
            local_limit: _,
            is_deadline_limited: _,
        } = &*self.0;
        let AffectedInputs { trace_ids, ids, unknown_properties } = affected_inputs;
        size_of::<Inner>()
            + message.heap_size()
            + internal.heap_size()
            + fields.heap_size()
            + upstream.heap_size()
            + [trace_ids, ids, unknown_properties].map(HeapSize::heap_size).iter().sum::<usize>()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.reason.as_str(), self.0.message)
    }
}

impl std::error::Error for Error {}
