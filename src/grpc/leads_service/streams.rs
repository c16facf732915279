//! Streams: each RPC starts one, which then runs by itself.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::LeadsHandler;
use crate::{
    grpc::{
        convert,
        export_stream::{self, ExportStream, SchemaParts},
        import_stream::{self, ImportStream},
        middleware::call_context::AuthorizedCall,
        pb,
    },
    leads::Error,
};

// === impl LeadsHandler ===

impl LeadsHandler {
    /// Starts an export, whose labels are resolved first.
    pub(super) async fn start_export(
        &self,
        request: Request<pb::ExportLeadsRequest>,
    ) -> Result<Response<ExportStream>, Status> {
        let (call, message) = AuthorizedCall::take_from(request)?;
        let state = Arc::clone(&call.state);
        let stream = self.export_stream(call, message).await;
        stream.map(Response::new).map_err(|error| state.fail(error))
    }

    async fn export_stream(
        &self,
        call: AuthorizedCall,
        message: pb::ExportLeadsRequest,
    ) -> Result<ExportStream, Error> {
        let parts = SchemaParts { typed: message.typed, display: message.display };
        let (export, token) = convert::export(message)?;
        let export = self.service.resolve_export(&call.context, export).await?;
        let start = |context| self.service.export(context, export, &token);
        export_stream::start(call, self.max_response_bytes, &self.service, parts, start)
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
