//! Error details of a failed call or input, and retries.

use std::{collections::HashMap, fmt, time::Duration};

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{FieldViolation, StatusExt as _};

/// Maximum number of attempts of one call.
const ATTEMPTS: u32 = 5;

#[derive(Debug)]
pub struct Failure {
    pub code: Code,
    pub message: String,
    /// Reason from docs/ERRORS.md; empty if the call did not reach leadsd.
    pub reason: String,
    pub metadata: HashMap<String, String>,
    pub fields: Vec<FieldViolation>,
    /// Delay before a retry, if a retry can succeed.
    pub retry_after: Option<Duration>,
}

impl From<&Status> for Failure {
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
            fields: details
                .bad_request()
                .map(|bad| bad.field_violations.clone())
                .unwrap_or_default(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
        }
    }
}

/// Result of an input of a batch.
impl From<&tonic_types::Status> for Failure {
    fn from(status: &tonic_types::Status) -> Self {
        let details = status.encode_to_vec().into();
        Self::from(&Status::with_details(status.code.into(), &status.message, details))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {}", self.code, self.reason, self.message)?;
        self.fields.iter().try_for_each(|v| write!(f, " [{} {}]", v.field, v.description))?;
        // HubSpot's support asks for this id.
        self.metadata.get("correlationId").map_or(Ok(()), |id| write!(f, " (HubSpot's id: {id})"))
    }
}

/// Retries a call that is safe to repeat: a read, an update, an upsert, an archive, or a create whose
/// repeat leadsd recognizes ("Safe creates" in docs/USING.md). Waits for the stated delay, or else
/// with exponential backoff.
pub async fn retry<T>(mut call: impl AsyncFnMut() -> Result<T, Status>) -> Result<T, Status> {
    let mut pause = Duration::from_millis(200);
    for _ in 1..ATTEMPTS {
        let error = match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let failure = Failure::from(&error);
        let passes = failure.code == Code::Unavailable || failure.reason == "OVERLOADED";
        if !passes && failure.retry_after.is_none() {
            return Err(error);
        }
        let wait = failure.retry_after.unwrap_or(pause);
        tokio::time::sleep(wait + pause.mul_f64(rand::random())).await;
        pause *= 2;
    }
    call().await
}
