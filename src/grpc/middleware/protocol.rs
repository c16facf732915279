//! Checks that a request is a gRPC request, before anything else is done for it.
//!
//! Other HTTP requests get an HTTP status without gRPC metadata, as from any HTTP server. Invalid gRPC
//! headers are errors of the call.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
    request::Parts,
};
use tonic::body::Body;

use super::deadline::parse_timeout;
use crate::{
    grpc::transport::decompress::Encoding,
    leads::{Error, FieldFault, Reason},
};

/// Header with the encodings that the server accepts.
pub(crate) const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Encodings that the server accepts.
pub(crate) const ACCEPTED_ENCODINGS: HeaderValue = HeaderValue::from_static("identity,gzip,zstd");

/// Header with the client's timeout.
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Header with the encoding of compressed request messages.
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Header with the content types that a request may have.
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// HTTP request that is not a gRPC request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotGrpc {
    /// The method is HEAD, whose response has no body.
    Head,
    /// The method is not POST.
    Method,
    /// The content type is not that of gRPC with protobuf messages.
    ContentType,
}

/// Headers of gRPC itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct GrpcHeaders {
    /// Timeout of the client; `None` if it sent none.
    pub(crate) timeout: Option<Duration>,
    /// Encoding of compressed messages; `None` if messages are not compressed.
    pub(crate) encoding: Option<Encoding>,
}

// === impl NotGrpc ===

impl NotGrpc {
    /// Checks method and content type. `None` if the request is a gRPC request.
    pub(crate) fn check(request: &Parts) -> Option<Self> {
        if request.method == Method::HEAD {
            Some(Self::Head)
        } else if request.method != Method::POST {
            Some(Self::Method)
        } else {
            let mut values = request.headers.get_all(CONTENT_TYPE).iter();
            let is_grpc = values.next().is_some_and(is_grpc) && values.next().is_none();
            (!is_grpc).then_some(Self::ContentType)
        }
    }

    /// Error of the call, for metrics and the log.
    pub(crate) fn error(self) -> Error {
        Error::new(Reason::Unimplemented, self.text())
    }

    /// Response in terms of HTTP.
    pub(crate) fn response(self) -> Response<Body> {
        let mut response = Response::new(match self {
            Self::Head => Body::empty(),
            Self::Method | Self::ContentType => Body::new(format!("{}\n", self.text())),
        });
        let (status, name, value) = match self {
            Self::Head | Self::Method => (StatusCode::METHOD_NOT_ALLOWED, ALLOW, "POST"),
            Self::ContentType => {
                let accepted = "application/grpc, application/grpc+proto";
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, ACCEPT_POST, accepted)
            }
        };
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(name, HeaderValue::from_static(value));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }

    fn text(self) -> &'static str {
        match self {
            Self::Head | Self::Method => "the HTTP method is not POST; this port serves gRPC",
            Self::ContentType => {
                "content-type is not application/grpc or application/grpc+proto; this port serves gRPC"
            }
        }
    }
}

// === impl GrpcHeaders ===

impl GrpcHeaders {
    /// Parses the headers of gRPC itself and removes them, since no later layer reads them.
    pub(crate) fn take(headers: &mut HeaderMap) -> Result<Self, Error> {
        let parsed = Self { timeout: timeout(headers)?, encoding: encoding(headers)? };
        headers.remove(GRPC_TIMEOUT);
        headers.remove(GRPC_ENCODING);
        Ok(parsed)
    }
}

/// Reports whether a content type is that of gRPC with protobuf messages, with or without parameters.
fn is_grpc(content_type: &HeaderValue) -> bool {
    const PLAIN: &[u8] = b"application/grpc";
    let value = content_type.as_bytes();
    if value == PLAIN {
        return true;
    }
    let media_type = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    media_type.eq_ignore_ascii_case(PLAIN)
        || media_type.eq_ignore_ascii_case(b"application/grpc+proto")
}

/// Timeout of the client; `None` if it sent none.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let mut values = headers.get_all(GRPC_TIMEOUT).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_none()
        && let Some(timeout) = parse_timeout(value)
    {
        return Ok(Some(timeout));
    }
    let description = "must be sent once, as one to eight digits and a unit (H, M, S, m, u or n)";
    Err(Error::invalid(vec![FieldFault::new(GRPC_TIMEOUT.as_str(), description)]))
}

/// Encoding of compressed messages; `None` if messages are not compressed.
fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>, Error> {
    let mut values = headers.get_all(GRPC_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match value.as_bytes() {
        _ if values.next().is_some() => {}
        b"identity" => return Ok(None),
        b"gzip" => return Ok(Some(Encoding::Gzip)),
        b"zstd" => return Ok(Some(Encoding::Zstd)),
        _ => {}
    }
    let text = "grpc-encoding must be sent once, as identity, gzip or zstd; other encodings are not supported";
    Err(Error::new(Reason::Unimplemented, text))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn checked(method: Method, content_types: &[&'static str]) -> Option<NotGrpc> {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = method;
        let pairs: Vec<_> = content_types.iter().map(|value| ("content-type", *value)).collect();
        parts.headers = headers(&pairs);
        NotGrpc::check(&parts)
    }

    #[test]
    fn only_post_requests_are_grpc() {
        let grpc = ["application/grpc"];
        assert_eq!(checked(Method::POST, &grpc), None);
        assert_eq!(checked(Method::HEAD, &grpc), Some(NotGrpc::Head));
        for method in [Method::GET, Method::PUT, Method::CONNECT, Method::OPTIONS, Method::DELETE] {
            assert_eq!(checked(method, &grpc), Some(NotGrpc::Method));
        }
        let custom = Method::from_bytes(b"post").unwrap();
        assert_eq!(checked(custom, &grpc), Some(NotGrpc::Method));
    }

    #[test]
    fn only_content_types_of_grpc_with_protobuf_are_accepted() {
        for accepted in [
            "application/grpc",
            "application/grpc+proto",
            "Application/GRPC",
            "APPLICATION/GRPC+PROTO",
            "application/grpc; charset=utf-8",
            "application/grpc+proto ;x=y",
            "application/grpc;",
        ] {
            assert_eq!(checked(Method::POST, &[accepted]), None, "{accepted}");
        }
        for rejected in [
            &[][..],
            &[""],
            &["text/plain"],
            &["application/json"],
            &["application/grpc-web"],
            &["application/grpc-web+proto"],
            &["application/grpc+json"],
            &["application/grpc+protobuf"],
            &["application/grpcs"],
            &["application/grpc, text/plain"],
            &["application/grpc", "text/plain"],
            &["application/grpc", "application/grpc"],
            &["text/plain; application/grpc"],
        ] {
            let found = checked(Method::POST, rejected);
            assert_eq!(found, Some(NotGrpc::ContentType), "{rejected:?}");
        }
    }

    #[test]
    fn responses_to_other_requests_say_what_is_accepted() {
        for (request, status, name, value) in [
            (NotGrpc::Head, 405, "allow", "POST"),
            (NotGrpc::Method, 405, "allow", "POST"),
            (NotGrpc::ContentType, 415, "accept-post", "application/grpc, application/grpc+proto"),
        ] {
            let response = request.response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()[name], value);
            assert!(!response.headers().contains_key("grpc-status"));
            assert_eq!(request.error().reason(), Reason::Unimplemented);
        }
    }

    #[test]
    fn timeouts_and_encodings_are_parsed_or_rejected() {
        let taken = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = headers(pairs);
            let parsed = GrpcHeaders::take(&mut headers);
            assert_eq!(headers.is_empty(), parsed.is_ok());
            parsed
        };
        assert_eq!(taken(&[]), Ok(GrpcHeaders::default()));
        let parsed = taken(&[("grpc-timeout", "5S"), ("grpc-encoding", "gzip")]).unwrap();
        assert_eq!(parsed.timeout, Some(Duration::from_secs(5)));
        assert_eq!(parsed.encoding, Some(Encoding::Gzip));
        let zstd = taken(&[("grpc-encoding", "zstd")]).unwrap();
        assert_eq!(zstd.encoding, Some(Encoding::Zstd));
        assert_eq!(taken(&[("grpc-encoding", "identity")]), Ok(GrpcHeaders::default()));
        let repeated = [("grpc-timeout", "5S"), ("grpc-timeout", "5S")];
        for timeouts in ["", "5", "-1S", "123456789S", "1.5S", "never", "5s", " 5S"]
            .map(|timeout| vec![("grpc-timeout", timeout)])
            .into_iter()
            .chain([repeated.to_vec()])
        {
            let error = taken(&timeouts).unwrap_err();
            assert_eq!(error.reason(), Reason::InvalidRequest, "{timeouts:?}");
            assert_eq!(error.fields()[0].field, "grpc-timeout");
            assert!(error.message().starts_with("grpc-timeout: must be"), "{error}");
        }
        for encodings in [
            &[("grpc-encoding", "br")][..],
            &[("grpc-encoding", "")],
            &[("grpc-encoding", "GZIP")],
            &[("grpc-encoding", "gzip,identity")],
            &[("grpc-encoding", "gzip"), ("grpc-encoding", "gzip")],
        ] {
            let error = taken(encodings).unwrap_err();
            assert_eq!(error.reason(), Reason::Unimplemented, "{encodings:?}");
        }
    }
}
