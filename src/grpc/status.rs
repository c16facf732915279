//! Builds every gRPC status: canonical code, message and `google.rpc` details.
//!
//! A status contains only the public part of an error; the internal part is logged.

use std::{collections::HashMap, time::Duration};

use http::HeaderMap;
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::leads::{Error, Reason};

/// `google.rpc.ErrorInfo.domain` of every error.
const DOMAIN: &str = "leadsd";

/// Maximum number of field violations in a status: details are sent in a header, and many clients limit
/// headers to 8 KiB.
const MAX_VIOLATIONS: usize = 16;

/// Maximum length in characters of a status message or violation, for the same reason.
const MAX_TEXT: usize = 512;

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
        Reason::CredentialRejected => Code::FailedPrecondition,
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
    }
}

/// Builds the status of a failed call. `error_docs_url` is the page that documents error reasons.
pub(crate) fn for_call(error: &Error, request_id: &str, error_docs_url: &str) -> Status {
    let mut details = details(error);
    details.set_request_info(request_id, "");
    if !error_docs_url.is_empty() {
        let reason = error.reason().as_str();
        let link = format!("{error_docs_url}#{}", reason.to_lowercase());
        details.add_help_link(format!("Cause and fix of {reason}"), link);
    }
    build(error, details)
}

/// Builds the trailers of a stream that ends because its connection is closing.
pub(crate) fn closing() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let (text, details) = ("the connection is closing; reconnect", ErrorDetails::new());
    let status = with_details(Code::Unavailable, text, details);
    // A constant ASCII message is a valid header.
    let _ = status.add_header(&mut trailers);
    trailers
}

/// Builds the status of one batch input.
pub(crate) fn for_item(error: &Error) -> tonic_types::Status {
    let status = build(error, details(error));
    // The details are a message encoded by with_error_details.
    tonic_types::Status::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

/// Builds the OK status of a batch input without other results.
pub(crate) fn ok() -> tonic_types::Status {
    tonic_types::Status { code: Code::Ok.into(), message: String::new(), details: Vec::new() }
}

/// Parses the status in response headers; `None` if they contain none.
#[expect(clippy::disallowed_methods, reason = "parses a status that tonic has built")]
pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers)
}

fn build(error: &Error, details: ErrorDetails) -> Status {
    with_details(code(error.reason()), shortened(error.message()), details)
}

#[expect(clippy::disallowed_methods, reason = "builds every status of the service")]
fn with_details(code: Code, text: impl Into<String>, details: ErrorDetails) -> Status {
    Status::with_error_details(code, text, details)
}

fn details(error: &Error) -> ErrorDetails {
    let mut details = ErrorDetails::new();
    details.set_error_info(error.reason().as_str(), DOMAIN, metadata(error));
    if !error.fields().is_empty() {
        let violation = |fault: &crate::leads::FieldFault| {
            FieldViolation::new(shortened(&fault.field), shortened(&fault.description))
        };
        let violations: Vec<_> =
            error.fields().iter().take(MAX_VIOLATIONS).map(violation).collect();
        details.set_bad_request(violations);
    }
    if let Some(wait) = error.retry_after() {
        details.set_retry_info(Some(wait.max(Duration::from_millis(1))));
    }
    let policy = error.bucket().or_else(|| error.upstream().policy_name.as_deref());
    match error.reason() {
        Reason::RateLimited | Reason::DailyLimitReached | Reason::Overloaded => {
            let policy = policy.unwrap_or("HubSpot rate limit");
            details.add_quota_failure_violation(policy, shortened(error.message()));
        }
        Reason::LeadNotFound => {
            details.set_resource_info("crm.hubspot.com/Lead", "", "", "no such lead");
        }
        Reason::AlreadyExists => {
            let existing = error.upstream().existing_id.as_deref().unwrap_or_default();
            details.set_resource_info("crm.hubspot.com/Record", existing, "", "already exists");
        }
        Reason::CredentialRejected => {
            let description =
                "HubSpot must accept the credential that is stored in Vault for this portal";
            details.add_precondition_failure_violation("CREDENTIAL", "portal", description);
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
        | Reason::AuthenticationUnavailable => {}
    }
    details
}

fn metadata(error: &Error) -> HashMap<String, String> {
    let upstream = error.upstream();
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
        // A single attempt is not reported.
        ("attempts", (upstream.attempts > 1).then(|| upstream.attempts.to_string())),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), shortened(&value?))))
    .collect()
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= MAX_TEXT {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(MAX_TEXT - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        grpc::pb,
        leads::{FieldFault, UpstreamFacts},
    };

    #[test]
    fn details_carry_what_a_program_can_act_on() {
        let error = Error::new(Reason::RateLimited, "slow down")
            .with_retry_after(Duration::from_secs(10))
            .with_upstream(UpstreamFacts {
                http_status: Some(429),
                correlation_id: Some("c-1".to_owned()),
                policy_name: Some("TEN_SECONDLY_ROLLING".to_owned()),
                ..UpstreamFacts::default()
            })
            .with_internal("not for callers");
        let status = for_call(&error, "r-1", "https://example.com/errors");
        assert_eq!(status.code(), Code::ResourceExhausted);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("RATE_LIMITED", "leadsd"));
        assert_eq!(info.metadata["correlationId"], "c-1");
        assert_eq!(info.metadata["httpStatus"], "429");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(10)));
        assert_eq!(details.quota_failure().unwrap().violations[0].subject, "TEN_SECONDLY_ROLLING");
        assert_eq!(details.request_info().unwrap().request_id, "r-1");
        let help = &details.help().unwrap().links[0];
        assert_eq!(help.url, "https://example.com/errors#rate_limited");
        assert!(!format!("{status:?}").contains("not for callers"));
    }

    #[test]
    fn the_contract_the_code_the_catalogue_and_the_fixtures_name_the_same_reasons() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
        let proto = read("proto/leadsd/v1/error_reason.proto");
        let catalogue = read("docs/ERRORS.md");
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            let name = reason.as_str();
            let value = pb::ErrorReason::from_str_name(&format!("ERROR_REASON_{name}"));
            assert_eq!(value.map(|value| value as usize), Some(index + 1), "{name}");
            let fixture: Fixture =
                serde_json::from_str(&read(&format!("tests/fixtures/errors/{name}.json"))).unwrap();
            assert_eq!(fixture.code, code_name(code(reason)), "{name}");
            assert_eq!(
                (fixture.info.reason.as_str(), fixture.info.domain.as_str()),
                (name, DOMAIN)
            );
            let known = [
                "httpStatus",
                "correlationId",
                "category",
                "subCategory",
                "policyName",
                "bucket",
                "requiredScopes",
                "existingId",
                "attempts",
            ];
            assert!(
                fixture.info.metadata.keys().all(|key| known.contains(&key.as_str())),
                "{name}"
            );
            let heading = format!("## {name}\n\n`{}`\n\n**Cause.** ", fixture.code);
            let at =
                catalogue.find(&heading).unwrap_or_else(|| panic!("{heading} in the catalogue"));
            let section = catalogue[at..].split("\n## ").next().unwrap();
            assert!(section.contains("**Fix.** "), "{name}");
            let sample = |text: &str| -> Info { serde_json::from_str(text.trim()).unwrap() };
            let to_proto = section.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
            assert_eq!(sample(to_proto), fixture.info, "{name}");
            let comment = proto.split(&format!("  ERROR_REASON_{name} = ")).next().unwrap();
            let sampled = comment.rsplit("// Sample:").next().unwrap();
            assert_eq!(sample(sampled.trim().trim_start_matches("//")), fixture.info, "{name}");
        }
        let files = std::fs::read_dir(root.join("tests/fixtures/errors")).unwrap().count();
        assert_eq!(files, Reason::ALL.len());
        assert_eq!(catalogue.matches("\n## ").count(), Reason::ALL.len());
        assert_eq!(proto.matches("  ERROR_REASON_").count(), Reason::ALL.len() + 1);
    }

    #[derive(serde::Deserialize)]
    struct Fixture {
        code: String,
        info: Info,
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Info {
        reason: String,
        domain: String,
        metadata: std::collections::BTreeMap<String, String>,
    }

    /// Name of a code in `google.rpc.Code`.
    fn code_name(code: Code) -> String {
        let mut name = String::new();
        for c in format!("{code:?}").chars() {
            if c.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(c.to_ascii_uppercase());
        }
        name
    }

    #[test]
    fn a_status_stays_small_whatever_is_wrong() {
        let faults =
            (0..5_000).map(|i| FieldFault::new(format!("inputs[{i}].id"), "x".repeat(9_000)));
        let status = for_call(&Error::invalid(faults.collect()), "r-1", "");
        assert_eq!(status.get_error_details().bad_request().unwrap().field_violations.len(), 16);
        assert!(status.details().len() < 16 * 1024, "{}", status.details().len());
        assert!(status.message().chars().count() <= MAX_TEXT);
    }

    #[test]
    fn an_item_has_the_same_status_as_a_call() {
        let error = Error::new(Reason::LeadNotFound, "HubSpot has no such lead");
        let item = for_item(&error);
        assert_eq!(item.code, i32::from(Code::NotFound));
        assert_eq!(item.message, "HubSpot has no such lead");
        assert_eq!(item.details.len(), 2);
    }
}
