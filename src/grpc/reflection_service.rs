//! `grpc.reflection.v1` and `v1alpha`. Each response is computed when the client takes it, so a stream
//! has no queue and no task.

use std::{pin::Pin, sync::Arc};

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _};
use prost::Message;
use tonic::{Request, Response, Status, Streaming};
use tonic_reflection::pb::{v1, v1alpha};

use super::{
    DESCRIPTORS, health_list,
    reflection::{ReflectionIndex, SentFiles},
};

/// Stream of responses.
type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

/// Both versions of the reflection service.
#[derive(Debug, Clone)]
pub(crate) struct ReflectionHandler(pub(crate) Arc<ReflectionIndex>);

/// Descriptors of all services of the server, and of the details of its errors.
pub(crate) fn descriptor_sets() -> [&'static [u8]; 4] {
    [DESCRIPTORS, health_list::descriptors(), v1::FILE_DESCRIPTOR_SET, v1alpha::FILE_DESCRIPTOR_SET]
}

// === impl ReflectionHandler ===

#[async_trait]
impl v1::server_reflection_server::ServerReflection for ReflectionHandler {
    type ServerReflectionInfoStream = Responses<v1::ServerReflectionResponse>;

    async fn server_reflection_info(
        &self,
        requests: Request<Streaming<v1::ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let index = Arc::clone(&self.0);
        let mut sent = SentFiles::default();
        let responses = requests.into_inner();
        let responses = responses.map(move |request| Ok(index.respond(request?, &mut sent)));
        Ok(Response::new(Box::pin(responses)))
    }
}

#[async_trait]
impl v1alpha::server_reflection_server::ServerReflection for ReflectionHandler {
    type ServerReflectionInfoStream = Responses<v1alpha::ServerReflectionResponse>;

    async fn server_reflection_info(
        &self,
        requests: Request<Streaming<v1alpha::ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let index = Arc::clone(&self.0);
        let mut sent = SentFiles::default();
        let responses = requests.into_inner().map(move |request| {
            let response = index.respond(transcoded(&request?), &mut sent);
            Ok(transcoded(&response))
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

/// The same message of the other version: both are equal on the wire.
fn transcoded<B: Message + Default>(message: &impl Message) -> B {
    let bytes = message.encode_to_vec();
    B::decode(&bytes[..]).expect("the versions differ in their package only")
}
