//! Reads response bodies up to a bound, counted after decompression.

use std::convert::Infallible;

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

/// Reason why a metered body could not be read.
#[derive(Debug)]
pub enum MeteredError<E> {
    /// The body could not be read.
    Body(BodyError),
    /// The meter rejected its size.
    Rejected(E),
}

/// Reads a body of at most `max` bytes.
pub async fn read(mut response: Response, max: usize) -> Result<Vec<u8>, BodyError> {
    let unmetered = |_| Ok::<(), Infallible>(());
    let mut body = Vec::new();
    match read_metered(&mut response, &mut body, max, unmetered).await {
        Ok(()) => Ok(body),
        Err(MeteredError::Body(error)) => Err(error),
        Err(MeteredError::Rejected(never)) => match never {},
    }
}

/// Reads a body of at most `max` bytes into `body`, which is empty. Calls `reserve` with the size of the
/// buffer before each growth of the buffer; an error ends the read. What has arrived stays in `body`.
pub async fn read_metered<E>(
    response: &mut Response,
    body: &mut Vec<u8>,
    max: usize,
    mut reserve: impl FnMut(usize) -> Result<(), E>,
) -> Result<(), MeteredError<E>> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok());
    let first = announced.unwrap_or(0).min(max).min(MAX_RESERVED);
    reserve(first).map_err(MeteredError::Rejected)?;
    body.reserve_exact(first);
    let broken = |error| MeteredError::Body(BodyError::Broken(error));
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        let length = body.len() + chunk.len();
        if length > max {
            return Err(MeteredError::Body(BodyError::TooLarge { max }));
        }
        if length > body.capacity() {
            let grown = body.capacity() + body.capacity() / 2;
            let capacity = length.max(grown.min(announced.unwrap_or(max)).min(max));
            reserve(capacity).map_err(MeteredError::Rejected)?;
            body.reserve_exact(capacity - body.len());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(())
}

/// Reads the body of an error response, up to `max` bytes and `deadline`. Calls `reserve` with the size of
/// the body before each growth.
///
/// The status and headers of an error response matter more than its body. `None` if the body is truncated,
/// oversized or late. Exception: a body that does not start like a JSON object is returned, because it
/// shows that a server other than the API responded.
pub async fn read_error(
    response: &mut Response,
    max: usize,
    deadline: Instant,
    mut reserve: impl FnMut(usize),
) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Ok(Ok(chunk)) = timeout_at(deadline, response.chunk()).await {
        let Some(chunk) = chunk else { return Some(body) };
        let fits = chunk.len().min(max - body.len());
        reserve(body.len() + fits);
        body.extend_from_slice(&chunk[..fits]);
        if fits < chunk.len() {
            break;
        }
    }
    let may_be_object = body.trim_ascii_start().first().is_none_or(|first| *first == b'{');
    (!may_be_object).then_some(body)
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

    #[tokio::test]
    async fn every_growth_of_the_buffer_is_metered_before_it() {
        let mut reserved = Vec::new();
        let mut four = response("four");
        let mut body = Vec::new();
        let read = read_metered(&mut four, &mut body, 4, |bytes| {
            reserved.push(bytes);
            Ok::<(), ()>(())
        });
        read.await.unwrap();
        assert_eq!(body, b"four");
        assert_eq!(reserved.last(), Some(&4));
        let mut four = response("four");
        let full = |bytes| if bytes > 3 { Err("full") } else { Ok(()) };
        let mut body = Vec::new();
        let rejected = read_metered(&mut four, &mut body, 4, full);
        assert!(matches!(rejected.await, Err(MeteredError::Rejected("full"))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_body_that_is_cut_counts_as_missing_unless_it_is_no_object() {
        let deadline = Instant::now() + Duration::from_secs(1);
        for (body, max, expected) in [
            ("", 2, Some("")),
            ("{}", 2, Some("{}")),
            ("{\"a\":1}", 3, None),
            ("<html>", 3, Some("<ht")),
        ] {
            let read = read_error(&mut response(body), max, deadline, |_| {}).await;
            assert_eq!(read.as_deref(), expected.map(str::as_bytes), "{body}");
        }
    }
}
