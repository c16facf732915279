//! LeadsService: each RPC converts the request, calls the domain and converts the result. Reads are
//! cancel-safe. Writes run in tasks of the domain and continue after the client has disconnected.

use std::future::Future;

use tonic::{Request, Response, Status};

use super::{convert, middleware::call_context::AuthorizedCall, pb};
use crate::leads::{CallContext, Error, LeadId, Service, Traced};

/// Handler of LeadsService over the use cases of the domain.
#[derive(Debug, Clone)]
pub(crate) struct LeadsHandler {
    pub(crate) service: Service,
    pub(crate) max_batch_inputs: usize,
}

// === impl LeadsHandler ===

impl LeadsHandler {
    /// Runs the use case of a call and maps its error to a status. The metadata is dropped before the
    /// use case waits.
    async fn run<In, Out, F>(
        request: Request<In>,
        use_case: impl FnOnce(CallContext, In) -> F + Send,
    ) -> Result<Response<Out>, Status>
    where
        In: Send,
        F: Future<Output = Result<Out, Error>> + Send,
    {
        let (AuthorizedCall { context, state }, message) = AuthorizedCall::take_from(request)?;
        let result = use_case(context, message).await;
        result.map(Response::new).map_err(|error| state.fail(error))
    }
}

/// Adds the id of the lead to a not-found error, since many clients show only the message.
fn with_id<T>(result: Result<T, Error>, id: &LeadId) -> Result<T, Error> {
    result.map_err(|error| error.with_lead_id(id.as_str()))
}

fn trace_ids<T>(inputs: &[Traced<T>]) -> Vec<String> {
    inputs.iter().map(|input| input.trace_id.clone()).collect()
}

#[tonic::async_trait]
impl pb::leads_service_server::LeadsService for LeadsHandler {
    async fn get_lead(
        &self,
        request: Request<pb::GetLeadRequest>,
    ) -> Result<Response<pb::GetLeadResponse>, Status> {
        Self::run(request, |call, message| async move {
            let get = convert::get(message)?;
            let id = get.id.clone();
            let lead = with_id(self.service.get(&call, get).await, &id)?;
            Ok(pb::GetLeadResponse { lead: Some(convert::lead(lead)) })
        })
        .await
    }

    async fn list_leads(
        &self,
        request: Request<pb::ListLeadsRequest>,
    ) -> Result<Response<pb::ListLeadsResponse>, Status> {
        Self::run(request, |call, message| async move {
            let (list, fingerprint) = convert::list(message, &call.portal.name)?;
            let page = self.service.list(&call, list).await?;
            Ok(convert::list_response(page, fingerprint))
        })
        .await
    }

    async fn create_lead(
        &self,
        request: Request<pb::CreateLeadRequest>,
    ) -> Result<Response<pb::CreateLeadResponse>, Status> {
        Self::run(request, |call, message| async move {
            let (create, request_id) = convert::create(message)?;
            let lead = self.service.create(&call, request_id, create).await?;
            Ok(pb::CreateLeadResponse { lead: Some(convert::lead(lead)) })
        })
        .await
    }

    async fn update_lead(
        &self,
        request: Request<pb::UpdateLeadRequest>,
    ) -> Result<Response<pb::UpdateLeadResponse>, Status> {
        Self::run(request, |call, message| async move {
            let (update, request_id) = convert::update(message)?;
            let id = update.id.clone();
            let lead = with_id(self.service.update(&call, request_id, update).await, &id)?;
            Ok(pb::UpdateLeadResponse { lead: Some(convert::lead(lead)) })
        })
        .await
    }

    async fn archive_lead(
        &self,
        request: Request<pb::ArchiveLeadRequest>,
    ) -> Result<Response<pb::ArchiveLeadResponse>, Status> {
        Self::run(request, |call, message| async move {
            let (id, request_id) = convert::archive(&message)?;
            with_id(self.service.archive(&call, request_id, id.clone()).await, &id)?;
            Ok(pb::ArchiveLeadResponse {})
        })
        .await
    }

    async fn upsert_lead(
        &self,
        request: Request<pb::UpsertLeadRequest>,
    ) -> Result<Response<pb::UpsertLeadResponse>, Status> {
        Self::run(request, |call, message| async move {
            let (upsert, request_id) = convert::upsert(message)?;
            let done = self.service.upsert(&call, request_id, upsert).await?;
            let lead = Some(convert::lead(done.lead));
            Ok(pb::UpsertLeadResponse { lead, created: done.created })
        })
        .await
    }

    async fn search_leads(
        &self,
        request: Request<pb::SearchLeadsRequest>,
    ) -> Result<Response<pb::SearchLeadsResponse>, Status> {
        Self::run(request, |call, message| async move {
            let (search, fingerprint) = convert::search(message, &call.portal.name)?;
            let page = self.service.search(&call, search).await?;
            Ok(convert::search_response(page, fingerprint))
        })
        .await
    }

    async fn batch_get_leads(
        &self,
        request: Request<pb::BatchGetLeadsRequest>,
    ) -> Result<Response<pb::BatchGetLeadsResponse>, Status> {
        Self::run(request, |call, message| async move {
            let batch = convert::batch_get(message, self.max_batch_inputs)?;
            let ids = batch.ids.clone();
            let results = self.service.batch_get(&call, batch).await?.into_iter().zip(&ids);
            let results = results.map(|(result, id)| convert::read_result(with_id(result, id)));
            let results = results.collect();
            Ok(pb::BatchGetLeadsResponse { results })
        })
        .await
    }

    async fn batch_create_leads(
        &self,
        request: Request<pb::BatchCreateLeadsRequest>,
    ) -> Result<Response<pb::BatchCreateLeadsResponse>, Status> {
        Self::run(request, |call, message| async move {
            let (inputs, request_id) = convert::batch_create(message, self.max_batch_inputs)?;
            let traces = trace_ids(&inputs);
            let results = self.service.batch_create(&call, request_id, inputs).await?;
            let results = results.into_iter().zip(traces);
            let results = results.map(|(result, id)| convert::write_result(result, id)).collect();
            Ok(pb::BatchCreateLeadsResponse { results })
        })
        .await
    }

    async fn batch_update_leads(
        &self,
        request: Request<pb::BatchUpdateLeadsRequest>,
    ) -> Result<Response<pb::BatchUpdateLeadsResponse>, Status> {
        Self::run(request, |call, message| async move {
            let (inputs, request_id) = convert::batch_update(message, self.max_batch_inputs)?;
            let traces = trace_ids(&inputs);
            let ids: Vec<LeadId> = inputs.iter().map(|input| input.input.id.clone()).collect();
            let results = self.service.batch_update(&call, request_id, inputs).await?;
            let results = results.into_iter().zip(&ids).map(|(result, id)| with_id(result, id));
            let results = results.zip(traces);
            let results = results.map(|(result, id)| convert::write_result(result, id)).collect();
            Ok(pb::BatchUpdateLeadsResponse { results })
        })
        .await
    }

    async fn batch_upsert_leads(
        &self,
        request: Request<pb::BatchUpsertLeadsRequest>,
    ) -> Result<Response<pb::BatchUpsertLeadsResponse>, Status> {
        Self::run(request, |call, message| async move {
            let (inputs, request_id) = convert::batch_upsert(message, self.max_batch_inputs)?;
            let traces = trace_ids(&inputs);
            let results = self.service.batch_upsert(&call, request_id, inputs).await?;
            let results = results.into_iter().zip(traces);
            let results = results.map(|(result, id)| convert::upsert_result(result, id)).collect();
            Ok(pb::BatchUpsertLeadsResponse { results })
        })
        .await
    }

    async fn batch_archive_leads(
        &self,
        request: Request<pb::BatchArchiveLeadsRequest>,
    ) -> Result<Response<pb::BatchArchiveLeadsResponse>, Status> {
        Self::run(request, |call, message| async move {
            let (ids, request_id) = convert::batch_archive(&message, self.max_batch_inputs)?;
            let results = self.service.batch_archive(&call, request_id, ids.clone()).await?;
            let results = results.into_iter().zip(&ids);
            let results = results.map(|(result, id)| convert::archive_result(&with_id(result, id)));
            let results = results.collect();
            Ok(pb::BatchArchiveLeadsResponse { results })
        })
        .await
    }
}
