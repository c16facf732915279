//! Services of the server, and dispatch of calls to them.

use std::{convert::Infallible, io, sync::Arc};

use http::{Request, Response};
use tokio::sync::watch;
use tonic::{
    body::Body,
    codec::CompressionEncoding,
    codegen::{BoxFuture, Service as _},
    service::Routes,
};
use tonic_reflection::pb::{
    v1::server_reflection_server::ServerReflectionServer as ReflectionV1,
    v1alpha::server_reflection_server::ServerReflectionServer as ReflectionV1Alpha,
};

use super::{
    health_list::ListingHealthServer,
    health_service::{HealthHandler, Serving},
    leads_service::LeadsHandler,
    methods::ServiceKind,
    middleware::observe::{RequestBody, Services},
    pb::{
        leads_service_server::LeadsServiceServer, quota_service_server::QuotaServiceServer,
        schema_service_server::SchemaServiceServer,
    },
    quota_service::QuotaHandler,
    reflection::ReflectionIndex,
    reflection_service::{ReflectionHandler, descriptor_sets},
    schema_service::SchemaHandler,
};

/// Services of the server. Those of this API are called directly, since a router would allocate per call.
#[derive(Debug)]
pub(crate) struct ServerServices {
    leads: LeadsServiceServer<LeadsHandler>,
    quota: QuotaServiceServer<QuotaHandler>,
    schema: SchemaServiceServer<SchemaHandler>,
    /// Services of gRPC itself.
    other: Routes,
}

// === impl ServerServices ===

impl ServerServices {
    pub(crate) fn new(
        leads: LeadsHandler,
        quota: QuotaHandler,
        schema: SchemaHandler,
        serving: watch::Receiver<Serving>,
        max_request_bytes: usize,
    ) -> io::Result<Self> {
        let mut leads = LeadsServiceServer::new(leads).max_decoding_message_size(max_request_bytes);
        let mut quota = QuotaServiceServer::new(quota).max_decoding_message_size(max_request_bytes);
        let mut schema =
            SchemaServiceServer::new(schema).max_decoding_message_size(max_request_bytes);
        // The request body decompresses: tonic sees uncompressed messages.
        for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
            leads = leads.send_compressed(encoding);
            quota = quota.send_compressed(encoding);
            schema = schema.send_compressed(encoding);
        }
        let index = ReflectionIndex::new(descriptor_sets()).map_err(io::Error::other)?;
        let health = HealthHandler::new(serving, index.services().cloned());
        let reflection = ReflectionHandler(Arc::new(index));
        let other = Routes::new(ListingHealthServer::new(health))
            .add_service(ReflectionV1::new(reflection.clone()))
            .add_service(ReflectionV1Alpha::new(reflection))
            .prepare();
        Ok(Self { leads, quota, schema, other })
    }
}

impl Services for ServerServices {
    fn call(
        &self,
        service: ServiceKind,
        request: Request<RequestBody>,
    ) -> BoxFuture<Response<Body>, Infallible> {
        match service {
            ServiceKind::Leads => self.leads.clone().call(request),
            ServiceKind::Quota => self.quota.clone().call(request),
            ServiceKind::Schema => self.schema.clone().call(request),
            ServiceKind::Other => Box::pin(self.other.clone().call(request.map(Body::new))),
        }
    }
}
