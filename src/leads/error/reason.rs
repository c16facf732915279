//! Reasons of errors: stable public names that programs act on.

/// Reason of an error. Each reason is a stable public name and has one gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// A field of the request is invalid; HubSpot was not called. INVALID_ARGUMENT.
    InvalidRequest,
    /// `leadsd-portal` names no configured portal, or is missing although it is required.
    /// INVALID_ARGUMENT.
    UnknownPortal,
    /// The page token was not issued by leadsd, or belongs to another request. INVALID_ARGUMENT.
    InvalidPageToken,
    /// A search is limited to its first 10,000 results. OUT_OF_RANGE.
    SearchWindowExceeded,
    /// The `request_id` was used before with other content. INVALID_ARGUMENT.
    RequestIdReused,
    /// The lead does not exist. NOT_FOUND.
    LeadNotFound,
    /// HubSpot rejected the content: a property, an association, a filter. INVALID_ARGUMENT.
    ValidationFailed,
    /// Another record has this unique value. ALREADY_EXISTS.
    AlreadyExists,
    /// HubSpot reports a conflict with another change. ABORTED.
    Conflict,
    /// The portal's credential lacks a scope. PERMISSION_DENIED.
    MissingScopes,
    /// HubSpot forbids the call for another reason than scopes. PERMISSION_DENIED.
    UpstreamForbidden,
    /// The service currently has no usable HubSpot credential. UNAVAILABLE.
    CredentialUnavailable,
    /// HubSpot rejects the portal's credential. FAILED_PRECONDITION.
    CredentialRejected,
    /// HubSpot's short-term rate limit is exhausted. RESOURCE_EXHAUSTED.
    RateLimited,
    /// HubSpot's daily limit is exhausted. RESOURCE_EXHAUSTED.
    DailyLimitReached,
    /// A queue or a limit of the service is full. RESOURCE_EXHAUSTED.
    Overloaded,
    /// A bulk operation locks the account (423). UNAVAILABLE.
    AccountLocked,
    /// The account is moving between data centres (477). UNAVAILABLE.
    AccountMigrating,
    /// HubSpot is down, overloaded or unreachable. UNAVAILABLE.
    UpstreamUnavailable,
    /// HubSpot sent an invalid response. UNAVAILABLE.
    UpstreamInvalidResponse,
    /// HubSpot's response exceeds the configured maximum. RESOURCE_EXHAUSTED.
    ResponseTooLarge,
    /// The deadline passed. DEADLINE_EXCEEDED.
    DeadlineExceeded,
    /// A write was sent and its outcome is unknown. UNKNOWN.
    WriteOutcomeUnknown,
    /// HubSpot rejected a batch, and this input was not retried individually. ABORTED.
    BatchRejected,
    /// A fault of the service. INTERNAL.
    Internal,
    /// The message or the metadata of the request exceeds the configured maximum.
    /// RESOURCE_EXHAUSTED.
    RequestTooLarge,
    /// The caller is not authenticated. UNAUTHENTICATED.
    Unauthenticated,
    /// The caller is authenticated but not permitted. PERMISSION_DENIED.
    CallerForbidden,
    /// Callers cannot be authenticated yet. UNAVAILABLE.
    AuthenticationUnavailable,
    /// The service has no such method, or the call does not have the form of the method.
    /// UNIMPLEMENTED.
    Unimplemented,
    /// HubSpot serves the account in another data centre (488). FAILED_PRECONDITION.
    WrongDataCenter,
}

// === impl Reason ===

impl Reason {
    /// All reasons, in the order of their numbers in the contract.
    pub const ALL: [Self; 31] = [
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
        Self::Unimplemented,
        Self::WrongDataCenter,
    ];

    /// Public name, as in `google.rpc.ErrorInfo.reason`.
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
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::WrongDataCenter => "WRONG_DATA_CENTER",
        }
    }

    /// True if the content of the request was evaluated and rejected: the same request fails again.
    pub fn is_rejection(self) -> bool {
        match self {
            Self::InvalidRequest
            | Self::RequestIdReused
            | Self::LeadNotFound
            | Self::ValidationFailed
            | Self::AlreadyExists => true,
            Self::UnknownPortal
            | Self::InvalidPageToken
            | Self::SearchWindowExceeded
            | Self::Conflict
            | Self::MissingScopes
            | Self::UpstreamForbidden
            | Self::CredentialUnavailable
            | Self::CredentialRejected
            | Self::RateLimited
            | Self::DailyLimitReached
            | Self::Overloaded
            | Self::AccountLocked
            | Self::AccountMigrating
            | Self::UpstreamUnavailable
            | Self::UpstreamInvalidResponse
            | Self::ResponseTooLarge
            | Self::DeadlineExceeded
            | Self::WriteOutcomeUnknown
            | Self::BatchRejected
            | Self::Internal
            | Self::RequestTooLarge
            | Self::Unauthenticated
            | Self::CallerForbidden
            | Self::AuthenticationUnavailable
            | Self::Unimplemented
            | Self::WrongDataCenter => false,
        }
    }

    /// True if every request of the portal would fail for this reason, whatever its content, until an
    /// operator or time changes that.
    pub fn is_about_portal(self) -> bool {
        match self {
            Self::MissingScopes
            | Self::CredentialRejected
            | Self::DailyLimitReached
            | Self::WrongDataCenter => true,
            Self::InvalidRequest
            | Self::UnknownPortal
            | Self::InvalidPageToken
            | Self::SearchWindowExceeded
            | Self::RequestIdReused
            | Self::LeadNotFound
            | Self::ValidationFailed
            | Self::AlreadyExists
            | Self::Conflict
            | Self::UpstreamForbidden
            | Self::CredentialUnavailable
            | Self::RateLimited
            | Self::Overloaded
            | Self::AccountLocked
            | Self::AccountMigrating
            | Self::UpstreamUnavailable
            | Self::UpstreamInvalidResponse
            | Self::ResponseTooLarge
            | Self::DeadlineExceeded
            | Self::WriteOutcomeUnknown
            | Self::BatchRejected
            | Self::Internal
            | Self::RequestTooLarge
            | Self::Unauthenticated
            | Self::CallerForbidden
            | Self::AuthenticationUnavailable
            | Self::Unimplemented => false,
        }
    }
}
