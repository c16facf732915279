//! HTTP/2 connection as the transport of tonic's clients.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response, header::CONTENT_TYPE};
use hyper::{body::Incoming, client::conn::http2};
use tonic::body::Body;
use tower::Service;

/// Transport of calls over one connection. It never reconnects.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Channel(pub(super) http2::SendRequest<Body>);

// === impl Channel ===

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        // The connection queues requests by itself.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let response = self.0.send_request(request);
        Box::pin(async move { Ok(only_grpc(response.await?)) })
    }
}

/// Drops the body of a response that is not gRPC, such as the page of a proxy. The HTTP status decides its
/// code.
fn only_grpc(response: Response<Incoming>) -> Response<Body> {
    let content_type = response.headers().get(CONTENT_TYPE);
    let is_grpc =
        content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    response.map(|body| if is_grpc { Body::new(body) } else { Body::empty() })
}
