//! Reads the head of a request and rejects ambiguous framing before hyper parses it.
//!
//! hyper accepts requests that other HTTP implementations read differently. Such requests have a bare
//! line feed, a content length beside a chunked body, or no host. A client could make a proxy in front
//! of the port pass on a request that the proxy has not seen.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

/// Maximum size of a head in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Capacity for the usual head.
const USUAL_HEAD: usize = 1_024;

/// Timeout for a head.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Reason why a head was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadError {
    /// The connection ended first.
    Closed,
    /// The head was not complete in time.
    Timeout,
    /// The head exceeds the maximum size.
    TooLarge,
    /// The head is ambiguous or not HTTP.
    Malformed(&'static str),
}

/// Progress of reading a head.
#[derive(Debug, Default)]
struct HeadScanner {
    /// Number of bytes that have been scanned.
    scanned: usize,
    line_start: usize,
    request_line: bool,
    is_http_1_0: bool,
    hosts: usize,
    lengths: usize,
    encodings: usize,
}

/// Reads until the head is complete. Returns everything that was read: the head, and perhaps the
/// beginning of the body.
pub(super) async fn read(socket: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, HeadError> {
    timeout(TIMEOUT, read_unbounded(socket)).await.unwrap_or(Err(HeadError::Timeout))
}

async fn read_unbounded(socket: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, HeadError> {
    let (mut bytes, mut scanner) = (Vec::with_capacity(USUAL_HEAD), HeadScanner::default());
    while !scanner.is_complete(&bytes)? {
        let free = MAX_HEAD - bytes.len();
        if free == 0 {
            return Err(HeadError::TooLarge);
        }
        let limit = u64::try_from(free).unwrap_or(u64::MAX);
        match (&mut *socket).take(limit).read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return Err(HeadError::Closed),
            Ok(_) => {}
        }
    }
    Ok(bytes)
}

// === impl HeadError ===

impl HeadError {
    /// Status, and text for the client; `None` if the client has disconnected.
    pub(super) fn response(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Closed => None,
            Self::Timeout => Some(("408 Request Timeout", "no complete request within 10 s")),
            Self::TooLarge => Some((
                "431 Request Header Fields Too Large",
                "the request line and the headers exceed 16 KiB",
            )),
            Self::Malformed(cause) => Some(("400 Bad Request", cause)),
        }
    }
}

// === impl HeadScanner ===

impl HeadScanner {
    /// Scans the bytes that were read since the last call; true if the head is complete and accepted.
    fn is_complete(&mut self, bytes: &[u8]) -> Result<bool, HeadError> {
        while let Some(&byte) = bytes.get(self.scanned) {
            let after_cr = self.scanned > 0 && bytes[self.scanned - 1] == b'\r';
            match byte {
                b'\n' if !after_cr => {
                    return Err(HeadError::Malformed("a line ends with a bare line feed"));
                }
                b'\n' => {
                    let line = &bytes[self.line_start..self.scanned - 1];
                    self.scanned += 1;
                    self.line_start = self.scanned;
                    if line.is_empty() {
                        return self.end().map(|()| true);
                    }
                    self.line(line)?;
                    continue;
                }
                _ if after_cr => {
                    return Err(HeadError::Malformed("a carriage return is inside a line"));
                }
                b'\r' | b'\t' => {}
                _ if byte.is_ascii_control() => {
                    return Err(HeadError::Malformed("the request is not HTTP"));
                }
                _ => {}
            }
            self.scanned += 1;
        }
        Ok(false)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), HeadError> {
        if !std::mem::replace(&mut self.request_line, true) {
            return self.first_line(line);
        }
        let malformed = HeadError::Malformed("a header is not NAME: VALUE");
        let colon = line.iter().position(|byte| *byte == b':').ok_or(malformed)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // A space before the colon or at the start of a line has had several meanings.
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(malformed);
        }
        if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
                return Err(HeadError::Malformed("the content-length is not a number"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.encodings += 1;
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(HeadError::Malformed("the transfer-encoding is not chunked"));
            }
        }
        Ok(())
    }

    /// Checks `GET /path HTTP/1.1`. Other forms of the target name a host or have no use here.
    fn first_line(&mut self, line: &[u8]) -> Result<(), HeadError> {
        let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let [method, target, version] = parts[..] else {
            return Err(HeadError::Malformed("the request line is not METHOD PATH VERSION"));
        };
        if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
            return Err(HeadError::Malformed("the method is not a word"));
        }
        if !target.starts_with(b"/") {
            return Err(HeadError::Malformed("the request target is not a path"));
        }
        self.is_http_1_0 = version == b"HTTP/1.0";
        if !self.is_http_1_0 && version != b"HTTP/1.1" {
            return Err(HeadError::Malformed("the version is neither HTTP/1.1 nor HTTP/1.0"));
        }
        Ok(())
    }

    fn end(&self) -> Result<(), HeadError> {
        let cause = if !self.request_line {
            "the request begins with an empty line"
        } else if self.hosts != 1 {
            "the request must have exactly one Host header"
        } else if self.lengths > 1 || self.encodings > 1 {
            "content-length or transfer-encoding is repeated"
        } else if self.lengths + self.encodings > 1 {
            "content-length and transfer-encoding exclude each other"
        } else if self.encodings > 0 && self.is_http_1_0 {
            "HTTP/1.0 has no transfer-encoding"
        } else {
            return Ok(());
        };
        Err(HeadError::Malformed(cause))
    }
}

/// True for the characters of a method or a header name (RFC 9110, `tchar`).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
