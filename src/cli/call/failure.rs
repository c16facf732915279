//! Failures of a call and of single inputs of a batch, rendered for people and as JSON.
//!
//! A failure comes from the server with `google.rpc` details, or arises here, such as when no connection
//! can be made. Both have a canonical code, which decides the exit code.

use std::{fmt::Write as _, time::Duration};

use prost::Message as _;
use prost_reflect::DynamicMessage;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, RpcStatusExt as _};

use super::{
    contract::find_message,
    escape::one_line,
    render::json_line,
    tree::{FieldNames, Tree, tree},
};
use crate::grpc::code_name;

/// Beginning of tonic's error for a response message above the maximum size. Its code is OUT_OF_RANGE,
/// where other clients have RESOURCE_EXHAUSTED.
const TOO_LARGE: &str = "Error, decoded message length too large";

/// Failed call, or failed input of a batch.
#[derive(Debug)]
pub(in crate::cli) struct Failure {
    pub(in crate::cli) code: Code,
    message: String,
    /// Remedy of a failure that arose here.
    remedy: Option<&'static str>,
    /// Details of the server.
    status: Option<tonic_types::Status>,
    /// Value of `x-request-id` in the response.
    request_id: Option<String>,
}

// === impl Failure ===

impl Failure {
    /// Failure that arose here.
    pub(in crate::cli) fn local(
        code: Code,
        message: impl Into<String>,
        remedy: &'static str,
    ) -> Self {
        let (message, remedy) = (message.into(), Some(remedy));
        Self { code, message, remedy, status: None, request_id: None }
    }

    /// The deadline has passed without a response.
    pub(in crate::cli) fn deadline(limit: Duration) -> Self {
        let message = format!("no response within {limit:?}");
        let remedy = "raise --deadline; a write may have taken effect";
        Self::local(Code::DeadlineExceeded, message, remedy)
    }

    /// Failure from the status of a call. A status with a source arose in the connection.
    pub(in crate::cli) fn from_status(status: &Status, max_response: usize) -> Self {
        if status.code() == Code::OutOfRange && status.message().starts_with(TOO_LARGE) {
            return Self::local(
                Code::ResourceExhausted,
                format!("the response has a message of more than {max_response} bytes"),
                "raise --max-response-size, or ask for fewer leads or properties",
            );
        }
        if let Some(source) = std::error::Error::source(status) {
            let cause = innermost(source);
            // A broken connection, or one to a peer that does not speak HTTP/2, is UNAVAILABLE, as in gRPC
            // libraries of other languages.
            let is_broken = status.code() == Code::Unknown || cause.starts_with("connection error");
            let code = if is_broken { Code::Unavailable } else { status.code() };
            let message = format!("the connection failed: {cause}");
            let remedy = "check that the address is a gRPC port, and whether it needs --tls; a write \
                          may have taken effect";
            return Self::local(code, message, remedy);
        }
        let request_id = status.metadata().get("x-request-id").and_then(|id| id.to_str().ok());
        let details = tonic_types::Status::decode(status.details()).ok();
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            remedy: None,
            status: details.filter(|details| !details.details.is_empty()),
            request_id: request_id.map(str::to_owned),
        }
    }

    /// Failure of one input of a batch.
    pub(in crate::cli) fn from_input(status: tonic_types::Status) -> Self {
        Self {
            code: Code::from_i32(status.code),
            message: status.message.clone(),
            remedy: None,
            status: Some(status),
            request_id: None,
        }
    }

    /// Failure on several lines: code and message, then what helps to fix it.
    pub(in crate::cli) fn text(&self) -> String {
        let mut out = code_name(self.code).to_owned();
        if !self.message.is_empty() {
            out.push_str(": ");
            out.push_str(&one_line(&self.message));
        }
        out.push('\n');
        for (name, value) in self.facts() {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "  {name}: {}", one_line(&value));
        }
        out
    }

    /// Reason in the details, such as `LEAD_NOT_FOUND`; empty without one.
    pub(in crate::cli) fn reason(&self) -> String {
        let details = self.status.as_ref().map(valid_details);
        let info = details.as_ref().and_then(ErrorDetails::error_info);
        info.map(|info| info.reason.clone()).unwrap_or_default()
    }

    /// Time after which the service advises to repeat the call.
    pub(in crate::cli) fn retry_delay(&self) -> Option<Duration> {
        valid_details(self.status.as_ref()?).retry_info()?.retry_delay
    }

    /// Failure as JSON: `{"error": {"code": 5, "status": "NOT_FOUND", "message": ..., "details": [...]}}`.
    pub(super) fn json(&self) -> String {
        let status = self.status.clone().unwrap_or_default();
        let status = tonic_types::Status {
            code: self.code.into(),
            message: self.message.clone(),
            details: status.details,
        };
        let decoded = find_message("google.rpc.Status").and_then(|descriptor| {
            DynamicMessage::decode(descriptor, &*status.encode_to_vec()).ok()
        });
        let mut entries = match decoded.map(|status| tree(&status, FieldNames::Json)) {
            Some(Tree::Object(entries)) => entries,
            Some(_) | None => Vec::new(),
        };
        let name = Tree::Text(code_name(self.code).to_owned());
        entries.insert(entries.len().min(1), ("status".to_owned(), name));
        if let Some(id) = &self.request_id {
            entries.push(("requestId".to_owned(), Tree::Text(id.clone())));
        }
        json_line(&Tree::Object(vec![("error".to_owned(), Tree::Object(entries))]))
    }

    /// Names and values that follow the message.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        if let Some(status) = &self.status {
            details(&mut facts, &valid_details(status));
        }
        let has_id = facts.iter().any(|(name, _)| *name == "request id");
        if let Some(id) = self.request_id.as_ref().filter(|_| !has_id) {
            facts.push(("request id", id.clone()));
        }
        if let Some(remedy) = self.remedy {
            facts.push(("remedy", remedy.to_owned()));
        }
        facts
    }
}

/// Details of a status. One that cannot be decoded does not hide the others.
fn valid_details(status: &tonic_types::Status) -> ErrorDetails {
    let alone =
        |detail: &Any| tonic_types::Status { details: vec![detail.clone()], ..Default::default() };
    let is_valid = |detail: &&Any| alone(detail).check_error_details().is_ok();
    let details = status.details.iter().filter(is_valid).cloned().collect();
    tonic_types::Status { details, ..Default::default() }.get_error_details()
}

/// Appends the details that are present.
fn details(facts: &mut Vec<(&'static str, String)>, details: &ErrorDetails) {
    if let Some(info) = details.error_info() {
        facts.push(("reason", info.reason.clone()));
    }
    for violation in details.bad_request().into_iter().flat_map(|bad| &bad.field_violations) {
        let text = match violation.field.as_str() {
            "" => violation.description.clone(),
            field => format!("{field}: {}", violation.description),
        };
        facts.push(("field", text));
    }
    for violation in details.quota_failure().into_iter().flat_map(|quota| &quota.violations) {
        facts.push(("quota", format!("{}: {}", violation.subject, violation.description)));
    }
    let preconditions = details.precondition_failure();
    for violation in preconditions.into_iter().flat_map(|failure| &failure.violations) {
        facts.push(("precondition", violation.description.clone()));
    }
    if let Some(resource) = details.resource_info() {
        facts.push(("resource", format!("{} {}", resource.resource_type, resource.resource_name)));
    }
    if let Some(wait) = details.retry_info().and_then(|retry| retry.retry_delay) {
        facts.push(("retry", format!("after {wait:?}")));
    }
    if let Some(info) = details.error_info() {
        let mut metadata: Vec<_> = info.metadata.iter().collect();
        metadata.sort();
        let text: Vec<_> =
            metadata.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !text.is_empty() {
            facts.push(("details", text.join(" ")));
        }
    }
    for link in details.help().into_iter().flat_map(|help| &help.links) {
        facts.push(("help", link.url.clone()));
    }
    if let Some(request) = details.request_info() {
        facts.push(("request id", request.request_id.clone()));
    }
}

/// Text of the innermost source, which names the root cause.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
