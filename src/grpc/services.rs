//! Services of the server, and dispatch of calls to them.

use std::{convert::Infallible, io};

use http::{Request, Response};
use tonic::{
    body::Body,
    codec::CompressionEncoding,
    codegen::{BoxFuture, Service as _},
    service::Routes,
};
use tonic_health::pb::health_server::{Health, HealthServer};

use super::{
    DESCRIPTORS,
    leads_service::LeadsHandler,
    methods::ServiceKind,
    middleware::observe::{RequestBody, Services},
    pb::{leads_service_server::LeadsServiceServer, quota_service_server::QuotaServiceServer},
    quota_service::QuotaHandler,
};

/// Services of the server. Those of this API are called directly, since a router would allocate per call.
#[derive(Debug)]
pub(crate) struct ServerServices {
    leads: LeadsServiceServer<LeadsHandler>,
    quota: QuotaServiceServer<QuotaHandler>,
    /// Services of gRPC itself.
    other: Routes,
}

// === impl ServerServices ===

impl ServerServices {
    pub(crate) fn new(
        leads: LeadsHandler,
        quota: QuotaHandler,
        health: HealthServer<impl Health>,
        max_request_bytes: usize,
    ) -> io::Result<Self> {
        let mut leads = LeadsServiceServer::new(leads).max_decoding_message_size(max_request_bytes);
        let mut quota = QuotaServiceServer::new(quota).max_decoding_message_size(max_request_bytes);
        // The request body decompresses: tonic sees uncompressed messages.
        for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
            leads = leads.send_compressed(encoding);
            quota = quota.send_compressed(encoding);
        }
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let other = Routes::new(health)
            .add_service(reflection().build_v1().map_err(io::Error::other)?)
            .add_service(reflection().build_v1alpha().map_err(io::Error::other)?)
            .prepare();
        Ok(Self { leads, quota, other })
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
            ServiceKind::Other => Box::pin(self.other.clone().call(request.map(Body::new))),
        }
    }
}
