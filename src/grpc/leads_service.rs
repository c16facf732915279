//! LeadsService: each RPC converts the request, calls the domain and converts the result. Reads are
//! cancel-safe. Writes run in tasks of the domain and continue after the client has disconnected.

use std::{
    future::{Future, ready},
    sync::Arc,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either},
};
use tonic::{Request, Response, Status};

use super::{
    convert::{self, ResponseFit},
    middleware::call_context::AuthorizedCall,
    pb,
};
use crate::leads::{CallContext, Error, GetLead, LeadId, Service, Traced};

/// Handler of LeadsService over the use cases of the domain.
#[derive(Debug, Clone)]
pub(crate) struct LeadsHandler {
    pub(crate) service: Service,
    pub(crate) max_batch_inputs: usize,
    /// Maximum size of a response message in bytes.
    pub(crate) max_response_bytes: usize,
}

// === impl LeadsHandler ===

impl LeadsHandler {
    /// Runs the use case of a call and maps its error to a status. The metadata is dropped before the
    /// use case waits.
    fn run<In, Out, F>(
        &self,
        request: Request<In>,
        use_case: impl FnOnce(CallContext, In, ResponseFit) -> F,
    ) -> impl Future<Output = Result<Response<Out>, Status>> + Send
    where
        In: Send,
        Out: Send,
        F: Future<Output = Result<Out, Error>> + Send,
    {
        let (AuthorizedCall { context, state }, message) = match AuthorizedCall::take_from(request)
        {
            Ok(call) => call,
            Err(status) => return Either::Left(ready(Err(status))),
        };
        let fit = ResponseFit::new(Arc::clone(&state), self.max_response_bytes);
        // Not an async function, which would store the request while it waits.
        Either::Right(
            use_case(context, message, fit)
                .map(move |result| result.map(Response::new).map_err(|error| state.fail(error))),
        )
    }
}

/// Adds the id of the lead to a not-found error, since many clients show only the message.
fn with_id<T>(result: Result<T, Error>, id: &LeadId) -> Result<T, Error> {
    result.map_err(|error| error.with_lead_id(id.as_str()))
}

/// Adds the path of the input to the fields of an error that leadsd found after a lookup.
fn in_input<T>(result: Result<T, Error>, index: usize) -> Result<T, Error> {
    result.map_err(|error| error.with_field_prefix(&format!("inputs[{index}].")))
}

/// Clones the id of a read. Not in the future of the call, where the borrowed request would keep its space.
fn with_own_id(get: GetLead) -> (LeadId, GetLead) {
    (get.id.clone(), get)
}

fn trace_ids<T>(inputs: &[Traced<T>]) -> Vec<String> {
    inputs.iter().map(|input| input.trace_id.clone()).collect()
}

#[tonic::async_trait]
impl pb::leads_service_server::LeadsService for LeadsHandler {
    // Not an async function, which would store the request while it waits: most calls are reads.
    fn get_lead<'life0, 'async_trait>(
        &'life0 self,
        request: Request<pb::GetLeadRequest>,
    ) -> BoxFuture<'async_trait, Result<Response<pb::GetLeadResponse>, Status>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let service = &self.service;
        Box::pin(self.run(request, move |call, message, mut fit| async move {
            let (id, get) = with_own_id(convert::get(message)?);
            let lead = with_id(service.get(&call, get).await, &id)?;
            Ok(pb::GetLeadResponse { lead: Some(fit.read_lead(lead)?) })
        }))
    }

    async fn list_leads(
        &self,
        request: Request<pb::ListLeadsRequest>,
    ) -> Result<Response<pb::ListLeadsResponse>, Status> {
        self.run(request, |call, message, mut fit| async move {
            let (list, position) = convert::list(message, &call.portal.name)?;
            let page = self.service.list(&call, list).await?;
            fit.list(page, &position)
        })
        .await
    }

    async fn create_lead(
        &self,
        request: Request<pb::CreateLeadRequest>,
    ) -> Result<Response<pb::CreateLeadResponse>, Status> {
        self.run(request, |call, message, mut fit| async move {
            let (create, request_id) = convert::create(message)?;
            let lead = self.service.create(&call, request_id, create).await?;
            Ok(pb::CreateLeadResponse { lead: Some(fit.written_lead(lead)) })
        })
        .await
    }

    async fn update_lead(
        &self,
        request: Request<pb::UpdateLeadRequest>,
    ) -> Result<Response<pb::UpdateLeadResponse>, Status> {
        self.run(request, |call, message, mut fit| async move {
            let (update, request_id) = convert::update(message)?;
            let id = update.id.clone();
            let lead = with_id(self.service.update(&call, request_id, update).await, &id)?;
            Ok(pb::UpdateLeadResponse { lead: Some(fit.written_lead(lead)) })
        })
        .await
    }

    async fn archive_lead(
        &self,
        request: Request<pb::ArchiveLeadRequest>,
    ) -> Result<Response<pb::ArchiveLeadResponse>, Status> {
        self.run(request, |call, message, _| async move {
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
        self.run(request, |call, message, mut fit| async move {
            let (upsert, request_id) = convert::upsert(message)?;
            let done = self.service.upsert(&call, request_id, upsert).await?;
            let lead = Some(fit.written_lead(done.lead));
            Ok(pb::UpsertLeadResponse { lead, created: done.created })
        })
        .await
    }

    async fn search_leads(
        &self,
        request: Request<pb::SearchLeadsRequest>,
    ) -> Result<Response<pb::SearchLeadsResponse>, Status> {
        self.run(request, |call, message, mut fit| async move {
            let (search, position) = convert::search(message, &call.portal.name)?;
            let page = self.service.search(&call, search).await?;
            fit.search(page, &position)
        })
        .await
    }

    async fn batch_get_leads(
        &self,
        request: Request<pb::BatchGetLeadsRequest>,
    ) -> Result<Response<pb::BatchGetLeadsResponse>, Status> {
        self.run(request, |call, message, mut fit| async move {
            let batch = convert::batch_get(message, self.max_batch_inputs)?;
            fit.reserve("ids", batch.ids.iter().map(|_| ""))?;
            let ids = batch.ids.clone();
            let results = self.service.batch_get(&call, batch).await?.into_iter().zip(&ids);
            let results = results.map(|(result, id)| fit.read_result(result, id)).collect();
            Ok(pb::BatchGetLeadsResponse { results })
        })
        .await
    }

    async fn batch_create_leads(
        &self,
        request: Request<pb::BatchCreateLeadsRequest>,
    ) -> Result<Response<pb::BatchCreateLeadsResponse>, Status> {
        self.run(request, |call, message, mut fit| async move {
            let (inputs, request_id) = convert::batch_create(message, self.max_batch_inputs)?;
            let traces = trace_ids(&inputs);
            fit.reserve("inputs", traces.iter().map(String::as_str))?;
            let results = self.service.batch_create(&call, request_id, inputs).await?;
            let results = results.into_iter().zip(traces);
            let results = results.map(|(result, id)| fit.write_result(result, id)).collect();
            Ok(pb::BatchCreateLeadsResponse { results })
        })
        .await
    }

    async fn batch_update_leads(
        &self,
        request: Request<pb::BatchUpdateLeadsRequest>,
    ) -> Result<Response<pb::BatchUpdateLeadsResponse>, Status> {
        self.run(request, |call, message, mut fit| async move {
            let (inputs, request_id) = convert::batch_update(message, self.max_batch_inputs)?;
            let traces = trace_ids(&inputs);
            fit.reserve("inputs", traces.iter().map(String::as_str))?;
            let ids: Vec<LeadId> = inputs.iter().map(|input| input.input.id.clone()).collect();
            let results = self.service.batch_update(&call, request_id, inputs).await?;
            let results = results.into_iter().zip(&ids).map(|(result, id)| with_id(result, id));
            let results = results.zip(traces);
            let results = results.map(|(result, id)| fit.write_result(result, id)).collect();
            Ok(pb::BatchUpdateLeadsResponse { results })
        })
        .await
    }

    async fn batch_upsert_leads(
        &self,
        request: Request<pb::BatchUpsertLeadsRequest>,
    ) -> Result<Response<pb::BatchUpsertLeadsResponse>, Status> {
        self.run(request, |call, message, mut fit| async move {
            let (inputs, request_id) = convert::batch_upsert(message, self.max_batch_inputs)?;
            let traces = trace_ids(&inputs);
            fit.reserve("inputs", traces.iter().map(String::as_str))?;
            let results = self.service.batch_upsert(&call, request_id, inputs).await?;
            let results = results.into_iter().enumerate();
            let results = results.map(|(index, result)| in_input(result, index)).zip(traces);
            let results = results.map(|(result, id)| fit.upsert_result(result, id)).collect();
            Ok(pb::BatchUpsertLeadsResponse { results })
        })
        .await
    }

    async fn batch_archive_leads(
        &self,
        request: Request<pb::BatchArchiveLeadsRequest>,
    ) -> Result<Response<pb::BatchArchiveLeadsResponse>, Status> {
        self.run(request, |call, message, mut fit| async move {
            let (ids, request_id) = convert::batch_archive(&message, self.max_batch_inputs)?;
            fit.reserve("ids", ids.iter().map(|_| ""))?;
            let results = self.service.batch_archive(&call, request_id, ids.clone()).await?;
            let results = results.into_iter().zip(&ids);
            let results = results.map(|(result, id)| fit.archive_result(result, id)).collect();
            Ok(pb::BatchArchiveLeadsResponse { results })
        })
        .await
    }
}
