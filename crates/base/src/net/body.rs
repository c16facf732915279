//! Reads response bodies up to a bound, counted after decompression.

use reqwest::Response;
use tokio::time::{Instant, timeout_at};

/// Maximum number of bytes reserved for a body before they arrive: a peer may announce more than it
/// sends.
const MAX_RESERVED: usize = 64 * 1024;

/// Reason why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The body is larger than the bound.
    #[error("the response body is larger than {max} bytes")]
    TooLarge {
        /// The bound.
        max: usize,
    },
    /// The connection broke, or the body cannot be decoded.
    #[error("the response body ended early")]
    Broken(#[source] reqwest::Error),
}

/// Reads a body of at most `max` bytes.
pub async fn read(mut response: Response, max: usize) -> Result<Vec<u8>, BodyError> {
    let length = response.content_length().and_then(|length| usize::try_from(length).ok());
    let mut body = Vec::with_capacity(length.unwrap_or(0).min(max).min(MAX_RESERVED));
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + chunk.len() > max {
            return Err(BodyError::TooLarge { max });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads the body of an error response, up to `max` bytes and `deadline`.
///
/// The status and headers of an error response matter more than its body. A truncated, oversized or late
/// body therefore counts as empty. Exception: a body that does not start like a JSON object is returned,
/// because it shows that another server than the API responded.
pub async fn read_error(mut response: Response, max: usize, deadline: Instant) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Ok(chunk)) = timeout_at(deadline, response.chunk()).await {
        let Some(chunk) = chunk else { return body };
        let fits = chunk.len().min(max - body.len());
        body.extend_from_slice(&chunk[..fits]);
        if fits < chunk.len() {
            break;
        }
    }
    let may_be_object = body.trim_ascii_start().first().is_none_or(|first| *first == b'{');
    if may_be_object { Vec::new() } else { body }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn response(body: &'static str) -> Response {
        http::Response::new(body).into()
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_bound_and_not_beyond() {
        assert_eq!(read(response("four"), 4).await.unwrap(), b"four");
        assert!(matches!(read(response("five!"), 4).await, Err(BodyError::TooLarge { max: 4 })));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_body_that_is_cut_counts_as_empty_unless_it_is_no_object() {
        let deadline = Instant::now() + Duration::from_secs(1);
        assert_eq!(read_error(response("{}"), 2, deadline).await, b"{}");
        assert_eq!(read_error(response("{\"a\":1}"), 3, deadline).await, b"");
        assert_eq!(read_error(response("<html>"), 3, deadline).await, b"<ht");
    }
}
