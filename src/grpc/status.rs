//! Builds every gRPC status: canonical code, message and `google.rpc` details.
//!
//! A status contains only the public part of an error; the internal part is logged.

mod size;

use std::{collections::HashMap, time::Duration};

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{
    BadRequest, ErrorDetail, ErrorInfo, FieldViolation, Help, PreconditionFailure, QuotaFailure,
    RequestInfo, ResourceInfo, RetryInfo, StatusExt as _,
};

use self::size::{MAX_MESSAGE, MAX_STATUS, cut, encoded_message_size, status_size};
use crate::leads::{Error, FieldFault, Reason};

/// `google.rpc.ErrorInfo.domain` of every error.
const DOMAIN: &str = "leadsd";

/// Maximum number of field violations in a status. More do not fit in its header, and one batch input
/// should not take more of a response.
const MAX_VIOLATIONS: usize = 16;

/// Maximum length in bytes of a violation's field or description, and of the message of a batch input.
const MAX_TEXT: usize = 512;

/// Maximum length in bytes of the message of a shortened status.
const MAX_SHORT_TEXT: usize = 64;

/// Maximum length in bytes of a value in the metadata of `ErrorInfo`, such as HubSpot's correlation id.
const MAX_METADATA: usize = 128;

/// Message of a request that HTTP/2 rejects before its headers can be read.
const MALFORMED_REQUEST: &str = "HTTP/2 rejected the request as malformed: :authority must be HOST or HOST:PORT, :path and :scheme must be valid, and the body must have the length of content-length";

/// Key in the metadata of `ErrorInfo` with the number of details that were left out.
const OMITTED_DETAILS: &str = "omittedDetails";

/// Details of a status. They are left out from the end if they are too large: the violations from the
/// last one, then the link, and so on. `ErrorInfo` and `RetryInfo` always fit.
#[derive(Debug)]
struct Details {
    info: ErrorInfo,
    others: Vec<ErrorDetail>,
    violations: Vec<FieldViolation>,
    /// Number of details that were left out.
    omitted: usize,
}

/// Canonical code of a reason.
pub(crate) fn code(reason: Reason) -> Code {
    match reason {
        Reason::InvalidRequest
        | Reason::UnknownPortal
        | Reason::InvalidPageToken
        | Reason::RequestIdReused
        | Reason::ValidationFailed => Code::InvalidArgument,
        Reason::SearchWindowExceeded => Code::OutOfRange,
        Reason::LeadNotFound => Code::NotFound,
        Reason::AlreadyExists => Code::AlreadyExists,
        Reason::Conflict | Reason::BatchRejected => Code::Aborted,
        Reason::MissingScopes | Reason::UpstreamForbidden | Reason::CallerForbidden => {
            Code::PermissionDenied
        }
        Reason::Unauthenticated => Code::Unauthenticated,
        // Never UNAUTHENTICATED: the caller cannot fix it by logging in.
        Reason::CredentialRejected | Reason::WrongDataCenter => Code::FailedPrecondition,
        Reason::CredentialUnavailable
        | Reason::AccountLocked
        | Reason::AccountMigrating
        | Reason::UpstreamUnavailable
        | Reason::UpstreamInvalidResponse
        | Reason::AuthenticationUnavailable => Code::Unavailable,
        Reason::RateLimited
        | Reason::DailyLimitReached
        | Reason::Overloaded
        | Reason::ResponseTooLarge
        | Reason::RequestTooLarge => Code::ResourceExhausted,
        Reason::DeadlineExceeded => Code::DeadlineExceeded,
        Reason::WriteOutcomeUnknown => Code::Unknown,
        Reason::Internal => Code::Internal,
        Reason::Unimplemented => Code::Unimplemented,
    }
}

/// The gRPC code of an error: that of its reason, except for a write whose outcome is unknown and whose
/// repeat is safe. It has `RetryInfo` and is UNAVAILABLE, so that clients repeat it.
fn code_of(error: &Error) -> Code {
    if error.reason() == Reason::WriteOutcomeUnknown && error.retry_after().is_some() {
        return Code::Unavailable;
    }
    code(error.reason())
}

/// Builds the status of a failed call, which fits in the response headers that clients accept.
/// `error_docs_url` is the page that documents error reasons.
pub(crate) fn for_call(error: &Error, request_id: &str, error_docs_url: &str) -> Status {
    let mut details = Details::new(error);
    details.others.push(RequestInfo::new(request_id, "").into());
    if !error_docs_url.is_empty() {
        let reason = error.reason().as_str();
        let link = format!("{error_docs_url}#{}", reason.to_lowercase());
        details.others.push(Help::with_link(format!("Cause and fix of {reason}"), link).into());
    }
    let message = cut(error.message(), MAX_MESSAGE, encoded_message_size);
    loop {
        let status = with_details(code_of(error), &*message, details.to_vec());
        if status_size(&status) <= MAX_STATUS || !details.omit_last() {
            return status;
        }
    }
}

/// Builds the trailers of a stream that ends because its connection is closing.
pub(crate) fn closing() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let text = "the connection is closing; reconnect";
    let status = with_details(Code::Unavailable, text, Vec::new());
    // A constant ASCII message is a valid header.
    let _ = status.add_header(&mut trailers);
    trailers
}

/// Builds the headers of the response to a request that HTTP/2 rejects as malformed. No part of the request
/// is known, so they have no request id.
pub(crate) fn malformed_request() -> HeaderMap {
    let error = Error::new(Reason::InvalidRequest, MALFORMED_REQUEST);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let status = with_details(code_of(&error), error.message(), Details::new(&error).to_vec());
    // A constant ASCII message is a valid header.
    let _ = status.add_header(&mut headers);
    headers
}

/// Builds the status of one batch input.
pub(crate) fn for_item(error: &Error) -> tonic_types::Status {
    let message = shortened(error.message());
    item(&with_details(code_of(error), message, Details::new(error).to_vec()))
}

fn item(status: &Status) -> tonic_types::Status {
    // The details are a message encoded by with_error_details_vec.
    tonic_types::Status::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

/// Builds the shortest status of one batch input, for a response without room for the whole: code,
/// reason, and the beginning of the message.
pub(crate) fn for_item_short(error: &Error) -> tonic_types::Status {
    let text = error.message();
    let end = text.floor_char_boundary(MAX_SHORT_TEXT);
    let info = ErrorInfo::new(error.reason().as_str(), DOMAIN, HashMap::new());
    item(&with_details(code(error.reason()), &text[..end], vec![info.into()]))
}

/// Builds the OK status of a batch input without other results.
pub(crate) fn ok() -> tonic_types::Status {
    tonic_types::Status { code: Code::Ok.into(), message: String::new(), details: Vec::new() }
}

/// Builds the status of a health check of an unknown name. `grpc.health.v1` defines it, so it has no
/// reason of this API.
#[expect(clippy::disallowed_methods, reason = "builds every status of the service")]
pub(crate) fn unknown_health_service() -> Status {
    Status::not_found("the server has no service or portal of this name")
}

/// Parses the status in response headers; `None` if they contain none.
#[expect(clippy::disallowed_methods, reason = "parses a status that tonic has built")]
pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers)
}

#[expect(clippy::disallowed_methods, reason = "builds every status of the service")]
fn with_details(code: Code, text: impl Into<String>, details: Vec<ErrorDetail>) -> Status {
    Status::with_error_details_vec(code, text, details)
}

// === impl Details ===

impl Details {
    fn new(error: &Error) -> Self {
        let info = ErrorInfo::new(error.reason().as_str(), DOMAIN, metadata(error));
        let mut others = Vec::new();
        if let Some(wait) = error.retry_after() {
            others.push(RetryInfo::new(Some(wait.max(Duration::from_millis(1)))).into());
        }
        others.extend(of_reason(error));
        let violation = |fault: &FieldFault| {
            FieldViolation::new(shortened(&fault.field), shortened(&fault.description))
        };
        let violations: Vec<_> =
            error.fields().iter().take(MAX_VIOLATIONS).map(violation).collect();
        let omitted = error.fields().len() - violations.len();
        Self { info, others, violations, omitted }
    }

    /// Leaves out the last detail. False if none is left that may be.
    fn omit_last(&mut self) -> bool {
        let is_omitted = self.violations.pop().is_some()
            || self.others.pop_if(|detail| !matches!(detail, ErrorDetail::RetryInfo(_))).is_some();
        self.omitted += usize::from(is_omitted);
        is_omitted
    }

    fn to_vec(&self) -> Vec<ErrorDetail> {
        let Self { info, others, violations, omitted } = self;
        let mut info = info.clone();
        let mut violations = violations.clone();
        if *omitted > 0 {
            info.metadata.insert(OMITTED_DETAILS.to_owned(), omitted.to_string());
            if !violations.is_empty() {
                let text = format!("{omitted} more details were left out: the response is full");
                violations.push(FieldViolation::new("", text));
            }
        }
        let mut details = vec![info.into()];
        details.extend(others.iter().cloned());
        if !violations.is_empty() {
            details.push(BadRequest::new(violations).into());
        }
        details
    }
}

/// Builds the detail that errors of this reason have.
fn of_reason(error: &Error) -> Option<ErrorDetail> {
    match error.reason() {
        Reason::RateLimited | Reason::DailyLimitReached | Reason::Overloaded => {
            let policy = error.bucket().or_else(|| error.upstream().policy_name.as_deref());
            let policy = shortened(policy.unwrap_or("HubSpot rate limit"));
            Some(QuotaFailure::with_violation(policy, shortened(error.message())).into())
        }
        Reason::LeadNotFound => {
            let id = shortened(error.lead_id().unwrap_or_default());
            Some(ResourceInfo::new("crm.hubspot.com/Lead", id, "", "no such lead").into())
        }
        Reason::AlreadyExists => {
            let existing = shortened(error.upstream().existing_id.as_deref().unwrap_or_default());
            Some(ResourceInfo::new("crm.hubspot.com/Record", existing, "", "already exists").into())
        }
        Reason::CredentialRejected => {
            let description =
                "HubSpot must accept the credential that is stored in Vault for this portal";
            let failure = PreconditionFailure::with_violation("CREDENTIAL", "portal", description);
            Some(failure.into())
        }
        Reason::WrongDataCenter => {
            let description = "base_url of this portal must name the data centre of its account";
            let failure = PreconditionFailure::with_violation("DATA_CENTER", "portal", description);
            Some(failure.into())
        }
        Reason::InvalidRequest
        | Reason::UnknownPortal
        | Reason::InvalidPageToken
        | Reason::SearchWindowExceeded
        | Reason::RequestIdReused
        | Reason::ValidationFailed
        | Reason::Conflict
        | Reason::MissingScopes
        | Reason::UpstreamForbidden
        | Reason::CredentialUnavailable
        | Reason::AccountLocked
        | Reason::AccountMigrating
        | Reason::UpstreamUnavailable
        | Reason::UpstreamInvalidResponse
        | Reason::ResponseTooLarge
        | Reason::RequestTooLarge
        | Reason::DeadlineExceeded
        | Reason::WriteOutcomeUnknown
        | Reason::BatchRejected
        | Reason::Internal
        | Reason::Unauthenticated
        | Reason::CallerForbidden
        | Reason::AuthenticationUnavailable
        | Reason::Unimplemented => None,
    }
}

fn metadata(error: &Error) -> HashMap<String, String> {
    let upstream = error.upstream();
    let record_ids = (!upstream.record_ids.is_empty()).then(|| upstream.record_ids.join(" "));
    let scopes = (!upstream.required_scopes.is_empty()).then(|| upstream.required_scopes.join(" "));
    [
        ("httpStatus", upstream.http_status.map(|status| status.to_string())),
        ("correlationId", upstream.correlation_id.clone()),
        ("category", upstream.category.clone()),
        ("subCategory", upstream.sub_category.clone()),
        ("policyName", upstream.policy_name.clone()),
        ("bucket", error.bucket().map(str::to_owned)),
        ("requiredScopes", scopes),
        ("existingId", upstream.existing_id.clone()),
        ("recordIds", record_ids),
        ("correctHublet", upstream.correct_hublet.clone()),
        // A single attempt is not reported.
        ("attempts", (upstream.attempts > 1).then(|| upstream.attempts.to_string())),
    ]
    .into_iter()
    .filter_map(|(key, value)| {
        // Scopes have long names, and several can be required.
        let max = if key == "requiredScopes" { MAX_TEXT } else { MAX_METADATA };
        Some((key.to_owned(), cut(&value?, max, char::len_utf8).into_owned()))
    })
    .collect()
}

fn shortened(text: &str) -> String {
    cut(text, MAX_TEXT, char::len_utf8).into_owned()
}

#[cfg(test)]
mod tests;
