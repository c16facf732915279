//! The reasons of errors: stable public names that programs act on.

/// What a caller can tell apart. Each reason is a stable public name and has one gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// A field of the request is wrong; found here, nothing was sent. INVALID_ARGUMENT.
    InvalidRequest,
    /// `leadsd-portal` names no configured portal, or is missing where it is needed.
    /// INVALID_ARGUMENT.
    UnknownPortal,
    /// The page token is not one of ours, or belongs to another request. INVALID_ARGUMENT.
    InvalidPageToken,
    /// A search cannot go past its first 10,000 results. OUT_OF_RANGE.
    SearchWindowExceeded,
    /// The `request_id` was used before with other content. INVALID_ARGUMENT.
    RequestIdReused,
    /// No such lead. NOT_FOUND.
    LeadNotFound,
    /// HubSpot refuses the content: a property, an association, a filter. INVALID_ARGUMENT.
    ValidationFailed,
    /// HubSpot has a record with this unique value already. ALREADY_EXISTS.
    AlreadyExists,
    /// HubSpot reports a conflict with another change. ABORTED.
    Conflict,
    /// The portal's credential lacks a scope. PERMISSION_DENIED.
    MissingScopes,
    /// HubSpot forbids it for another reason. PERMISSION_DENIED.
    UpstreamForbidden,
    /// The service has no usable HubSpot credential at the moment. UNAVAILABLE.
    CredentialUnavailable,
    /// HubSpot does not accept the portal's credential. FAILED_PRECONDITION.
    CredentialRejected,
    /// HubSpot's short-term rate limit is used up. RESOURCE_EXHAUSTED.
    RateLimited,
    /// HubSpot's daily limit is used up. RESOURCE_EXHAUSTED.
    DailyLimitReached,
    /// The service itself has too much to do. RESOURCE_EXHAUSTED.
    Overloaded,
    /// A bulk operation locks the account (423). UNAVAILABLE.
    AccountLocked,
    /// The account is moving between data centres (477). UNAVAILABLE.
    AccountMigrating,
    /// HubSpot is down, overloaded or not reachable. UNAVAILABLE.
    UpstreamUnavailable,
    /// HubSpot answered something that cannot be understood. UNAVAILABLE.
    UpstreamInvalidResponse,
    /// HubSpot's answer is larger than the configured bound. RESOURCE_EXHAUSTED.
    ResponseTooLarge,
    /// Time ran out. DEADLINE_EXCEEDED.
    DeadlineExceeded,
    /// A write was sent and its outcome is not known. UNKNOWN.
    WriteOutcomeUnknown,
    /// HubSpot refused a batch as a whole, and this input was not tried again alone. ABORTED.
    BatchRejected,
    /// A fault of the service itself. INTERNAL.
    Internal,
    /// The request is larger than the configured bound: message or metadata. RESOURCE_EXHAUSTED.
    RequestTooLarge,
    /// It is not known who calls. UNAUTHENTICATED.
    Unauthenticated,
    /// The caller is known and may not do this. PERMISSION_DENIED.
    CallerForbidden,
    /// It cannot be checked at the moment who calls. UNAVAILABLE.
    AuthenticationUnavailable,
}

// === impl Reason ===

impl Reason {
    /// All of them, in the order of their numbers in the contract.
    pub const ALL: [Self; 29] = [
        Self::InvalidRequest,
        Self::UnknownPortal,
        Self::InvalidPageToken,
        Self::SearchWindowExceeded,
        Self::RequestIdReused,
        Self::LeadNotFound,
        Self::ValidationFailed,
        Self::AlreadyExists,
        Self::Conflict,
        Self::MissingScopes,
        Self::UpstreamForbidden,
        Self::CredentialUnavailable,
        Self::CredentialRejected,
        Self::RateLimited,
        Self::DailyLimitReached,
        Self::Overloaded,
        Self::AccountLocked,
        Self::AccountMigrating,
        Self::UpstreamUnavailable,
        Self::UpstreamInvalidResponse,
        Self::ResponseTooLarge,
        Self::DeadlineExceeded,
        Self::WriteOutcomeUnknown,
        Self::BatchRejected,
        Self::Internal,
        Self::RequestTooLarge,
        Self::Unauthenticated,
        Self::CallerForbidden,
        Self::AuthenticationUnavailable,
    ];

    /// The public name, as in `google.rpc.ErrorInfo.reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::UnknownPortal => "UNKNOWN_PORTAL",
            Self::InvalidPageToken => "INVALID_PAGE_TOKEN",
            Self::SearchWindowExceeded => "SEARCH_WINDOW_EXCEEDED",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::LeadNotFound => "LEAD_NOT_FOUND",
            Self::ValidationFailed => "VALIDATION_FAILED",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::Conflict => "CONFLICT",
            Self::MissingScopes => "MISSING_SCOPES",
            Self::UpstreamForbidden => "UPSTREAM_FORBIDDEN",
            Self::CredentialUnavailable => "CREDENTIAL_UNAVAILABLE",
            Self::CredentialRejected => "CREDENTIAL_REJECTED",
            Self::RateLimited => "RATE_LIMITED",
            Self::DailyLimitReached => "DAILY_LIMIT_REACHED",
            Self::Overloaded => "OVERLOADED",
            Self::AccountLocked => "ACCOUNT_LOCKED",
            Self::AccountMigrating => "ACCOUNT_MIGRATING",
            Self::UpstreamUnavailable => "UPSTREAM_UNAVAILABLE",
            Self::UpstreamInvalidResponse => "UPSTREAM_INVALID_RESPONSE",
            Self::ResponseTooLarge => "RESPONSE_TOO_LARGE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::WriteOutcomeUnknown => "WRITE_OUTCOME_UNKNOWN",
            Self::BatchRejected => "BATCH_REJECTED",
            Self::Internal => "INTERNAL",
            Self::RequestTooLarge => "REQUEST_TOO_LARGE",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::CallerForbidden => "CALLER_FORBIDDEN",
            Self::AuthenticationUnavailable => "AUTHENTICATION_UNAVAILABLE",
        }
    }
}
