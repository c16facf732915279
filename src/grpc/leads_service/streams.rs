//! Streams: each RPC starts one, which then runs by itself.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::LeadsHandler;
use crate::grpc::{
    convert,
    export_stream::{self, ExportStream, SchemaParts},
    import_stream::{self, ImportStream},
    middleware::call_context::AuthorizedCall,
    pb,
};

// === impl LeadsHandler ===

impl LeadsHandler {
    /// Starts an export.
    pub(super) fn start_export(
        &self,
        request: Request<pb::ExportLeadsRequest>,
    ) -> Result<Response<ExportStream>, Status> {
        let (call, message) = AuthorizedCall::take_from(request)?;
        let state = Arc::clone(&call.state);
        let parts = SchemaParts { typed: message.typed, display: message.display };
        let stream = convert::export(message).and_then(|(export, token)| {
            let start = |context| self.service.export(context, export, &token);
            export_stream::start(call, self.max_response_bytes, &self.service, parts, start)
        });
        stream.map(Response::new).map_err(|error| state.fail(error))
    }

    /// Starts an import.
    pub(super) fn start_import(
        &self,
        request: Request<Streaming<pb::ImportLeadsRequest>>,
    ) -> Result<Response<ImportStream>, Status> {
        let (call, requests) = AuthorizedCall::take_from(request)?;
        let state = Arc::clone(&call.state);
        let stream = import_stream::start(call, requests, &self.service, self.max_response_bytes);
        stream.map(Response::new).map_err(|error| state.fail(error))
    }
}
