//! `List` of `grpc.health.v1.Health`, which tonic-health does not have yet.
//!
//! [`ListingHealthServer`] answers it beside the methods of tonic-health, and [`descriptors`] are those of
//! tonic-health with this method, for reflection and the table of methods.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, LazyLock},
    task::{Context, Poll},
};

use hyper::body::Body as HttpBody;
use prost::Message as _;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet, MessageOptions,
    MethodDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Service, StdError},
    server::{Grpc, NamedService, UnaryService},
};
use tonic_health::pb::{HealthCheckResponse, health_server::HealthServer};
use tonic_prost::ProstCodec;

use super::health_service::HealthHandler;

/// Path of the method.
const LIST: &str = "/grpc.health.v1.Health/List";

/// Package of the health service.
const PACKAGE: &str = "grpc.health.v1";

/// Request of `List`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct HealthListRequest {}

/// Response of `List`: the status of each service by its name.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HealthListResponse {
    #[prost(map = "string, message", tag = "1")]
    pub(crate) statuses: HashMap<String, HealthCheckResponse>,
}

/// The health service with all methods of its specification.
#[derive(Debug, Clone)]
pub(crate) struct ListingHealthServer {
    handler: Arc<HealthHandler>,
    others: HealthServer<HealthHandler>,
}

/// The method.
struct List(Arc<HealthHandler>);

// === impl ListingHealthServer ===

impl ListingHealthServer {
    pub(crate) fn new(handler: HealthHandler) -> Self {
        let handler = Arc::new(handler);
        Self { others: HealthServer::from_arc(Arc::clone(&handler)), handler }
    }
}

impl NamedService for ListingHealthServer {
    const NAME: &'static str = <HealthServer<HealthHandler> as NamedService>::NAME;
}

impl<B> Service<http::Request<B>> for ListingHealthServer
where
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
    B::Data: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if request.uri().path() != LIST {
            return self.others.call(request);
        }
        let list = List(Arc::clone(&self.handler));
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default());
            Ok(grpc.unary(list, request).await)
        })
    }
}

// === impl List ===

impl UnaryService<HealthListRequest> for List {
    type Response = HealthListResponse;
    type Future = Ready<Result<Response<HealthListResponse>, Status>>;

    fn call(&mut self, _: Request<HealthListRequest>) -> Self::Future {
        ready(Ok(Response::new(HealthListResponse { statuses: self.0.statuses() })))
    }
}

/// Serialized descriptors of the health service.
pub(crate) fn descriptors() -> &'static [u8] {
    static DESCRIPTORS: LazyLock<Vec<u8>> = LazyLock::new(|| {
        // The set is compiled in, and a test reads it.
        let mut set =
            FileDescriptorSet::decode(tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap_or_default();
        for file in &mut set.file {
            file.message_type.extend([
                DescriptorProto {
                    name: Some("HealthListRequest".to_owned()),
                    ..DescriptorProto::default()
                },
                list_response(),
            ]);
            for service in &mut file.service {
                service.method.push(MethodDescriptorProto {
                    name: Some("List".to_owned()),
                    input_type: Some(format!(".{PACKAGE}.HealthListRequest")),
                    output_type: Some(format!(".{PACKAGE}.HealthListResponse")),
                    ..MethodDescriptorProto::default()
                });
            }
        }
        set.encode_to_vec()
    });
    &DESCRIPTORS
}

/// Descriptor of [`HealthListResponse`].
fn list_response() -> DescriptorProto {
    let field = |name: &str, number, label: Label, kind: Type, type_name: Option<String>| {
        FieldDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            label: Some(label.into()),
            r#type: Some(kind.into()),
            type_name,
            json_name: Some(name.to_owned()),
            ..FieldDescriptorProto::default()
        }
    };
    let of_package = |name: &str| Some(format!(".{PACKAGE}.{name}"));
    let entry = DescriptorProto {
        name: Some("StatusesEntry".to_owned()),
        field: vec![
            field("key", 1, Label::Optional, Type::String, None),
            field("value", 2, Label::Optional, Type::Message, of_package("HealthCheckResponse")),
        ],
        options: Some(MessageOptions { map_entry: Some(true), ..MessageOptions::default() }),
        ..DescriptorProto::default()
    };
    let type_name = of_package("HealthListResponse.StatusesEntry");
    DescriptorProto {
        name: Some("HealthListResponse".to_owned()),
        field: vec![field("statuses", 1, Label::Repeated, Type::Message, type_name)],
        nested_type: vec![entry],
        ..DescriptorProto::default()
    }
}

#[cfg(test)]
mod tests;
