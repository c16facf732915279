//! LeadsService: each RPC converts the request, calls the domain and converts the result. Reads are
//! cancel-safe. Writes run in tasks of the domain and continue after the client has disconnected.
//! With `validate_only`, a write ends before its task begins.

mod associations;
mod batch_writes;
mod ids;
mod reads;
mod streams;
mod typed;

use std::{future::ready, iter::repeat_n, sync::Arc};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either},
};
use tonic::{Request, Response, Status, Streaming};

use self::{
    associations::AssociationWrite,
    ids::{with_id, with_own_id},
    reads::{display_list, display_page, displayed},
    typed::read,
};
use super::{
    convert::{self, InputField, ResponseFit},
    export_stream::ExportStream,
    import_stream::ImportStream,
    middleware::call_context::AuthorizedCall,
    pb,
};
use crate::leads::{AssociationAction, CallContext, Error, Service, Validated};

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
            let (typed, display) = (message.typed, message.display);
            let (id, get) = with_own_id(convert::get(message)?);
            let lead = read(service, &call, typed, &mut fit, service.get(&call, get)).await;
            let lead = with_id(lead, &id)?;
            let (lead, labels_error) = displayed(service, &call, display, lead).await;
            Ok(pb::GetLeadResponse { lead: Some(fit.read_lead(lead)?), labels_error })
        }))
    }

    async fn list_leads(
        &self,
        request: Request<pb::ListLeadsRequest>,
    ) -> Result<Response<pb::ListLeadsResponse>, Status> {
        self.run(request, |call, message, mut fit| async move {
            let (service, typed, display) = (&self.service, message.typed, message.display);
            let (list, position) = convert::list(message, &call.portal.name)?;
            let page = read(service, &call, typed, &mut fit, service.list(&call, list)).await?;
            let (page, labels_error) = display_list(service, &call, display, page).await;
            Ok(pb::ListLeadsResponse { labels_error, ..fit.list(page, &position)? })
        })
        .await
    }

    async fn create_lead(
        &self,
        request: Request<pb::CreateLeadRequest>,
    ) -> Result<Response<pb::CreateLeadResponse>, Status> {
        self.run_write(request, |call, message, mut fit| async move {
            let (validate_only, display) = (message.validate_only, message.display);
            let (create, request_id) = convert::create(message)?;
            if validate_only {
                self.service.validate_one(&call, Validated::Create(create)).await?;
                return Ok(pb::CreateLeadResponse::default());
            }
            let lead = self.service.create(&call, request_id, create).await?;
            let (lead, labels_error) = displayed(&self.service, &call, display, lead).await;
            Ok(pb::CreateLeadResponse { lead: Some(fit.written_lead(lead)), labels_error })
        })
        .await
    }

    async fn update_lead(
        &self,
        request: Request<pb::UpdateLeadRequest>,
    ) -> Result<Response<pb::UpdateLeadResponse>, Status> {
        self.run_write(request, |call, message, mut fit| async move {
            let (validate_only, display) = (message.validate_only, message.display);
            let (update, request_id) = convert::update(message)?;
            if validate_only {
                self.service.validate_one(&call, Validated::Update(update)).await?;
                return Ok(pb::UpdateLeadResponse::default());
            }
            let id = update.input.id.clone();
            let lead = with_id(self.service.update(&call, request_id, update).await, &id)?;
            let (lead, labels_error) = displayed(&self.service, &call, display, lead).await;
            Ok(pb::UpdateLeadResponse { lead: Some(fit.written_lead(lead)), labels_error })
        })
        .await
    }

    async fn archive_lead(
        &self,
        request: Request<pb::ArchiveLeadRequest>,
    ) -> Result<Response<pb::ArchiveLeadResponse>, Status> {
        self.run(request, |call, message, _| async move {
            let (id, request_id) = convert::archive(&message)?;
            if message.validate_only {
                return Ok(pb::ArchiveLeadResponse {});
            }
            with_id(self.service.archive(&call, request_id, id.clone()).await, &id)?;
            Ok(pb::ArchiveLeadResponse {})
        })
        .await
    }

    async fn upsert_lead(
        &self,
        request: Request<pb::UpsertLeadRequest>,
    ) -> Result<Response<pb::UpsertLeadResponse>, Status> {
        self.run_write(request, |call, message, mut fit| async move {
            let (validate_only, display) = (message.validate_only, message.display);
            let (upsert, request_id) = convert::upsert(message)?;
            if validate_only {
                self.service.validate_one(&call, Validated::Upserts(vec![upsert])).await?;
                return Ok(pb::UpsertLeadResponse::default());
            }
            let id = upsert.input.input.id.clone();
            let done = with_id(self.service.upsert(&call, request_id, upsert).await, &id)?;
            let (lead, labels_error) = displayed(&self.service, &call, display, done.lead).await;
            Ok(pb::UpsertLeadResponse {
                lead: Some(fit.written_lead(lead)),
                created: done.created == Some(true),
                created_unknown: done.created.is_none(),
                labels_error,
            })
        })
        .await
    }

    async fn list_lead_associations(
        &self,
        request: Request<pb::ListLeadAssociationsRequest>,
    ) -> Result<Response<pb::ListLeadAssociationsResponse>, Status> {
        self.run(request, |call, message, mut fit| async move {
            let (list, position) = convert::list_associations(message, &call.portal.name)?;
            let lead = list.lead.clone();
            let page = with_id(self.service.list_associations(&call, list).await, &lead)?;
            fit.associations(page, &position)
        })
        .await
    }

    async fn associate_lead(
        &self,
        request: Request<pb::AssociateLeadRequest>,
    ) -> Result<Response<pb::AssociateLeadResponse>, Status> {
        self.run(request, |call, message, _| async move {
            let write = AssociationWrite::new(AssociationAction::Associate, message.validate_only);
            let change = convert::associate(message)?;
            self.change_association(&call, write, change).await?;
            Ok(pb::AssociateLeadResponse {})
        })
        .await
    }

    async fn dissociate_lead(
        &self,
        request: Request<pb::DissociateLeadRequest>,
    ) -> Result<Response<pb::DissociateLeadResponse>, Status> {
        self.run(request, |call, message, _| async move {
            let write = AssociationWrite::new(AssociationAction::Dissociate, message.validate_only);
            let change = convert::dissociate(message)?;
            self.change_association(&call, write, change).await?;
            Ok(pb::DissociateLeadResponse {})
        })
        .await
    }

    async fn search_leads(
        &self,
        request: Request<pb::SearchLeadsRequest>,
    ) -> Result<Response<pb::SearchLeadsResponse>, Status> {
        self.run(request, |call, message, mut fit| async move {
            let (service, typed, display) = (&self.service, message.typed, message.display);
            let (search, associations, tokens) = convert::search(message, &call.portal.name)?;
            let page = service.search_page(&call, search, associations);
            let mut page = read(service, &call, typed, &mut fit, page).await?;
            let labels_error = display_page(service, &call, display, &mut page.leads).await;
            Ok(pb::SearchLeadsResponse { labels_error, ..fit.search(page, &tokens)? })
        })
        .await
    }

    type ExportLeadsStream = ExportStream;

    async fn export_leads(
        &self,
        request: Request<pb::ExportLeadsRequest>,
    ) -> Result<Response<ExportStream>, Status> {
        self.start_export(request).await
    }

    type ImportLeadsStream = ImportStream;

    async fn import_leads(
        &self,
        request: Request<Streaming<pb::ImportLeadsRequest>>,
    ) -> Result<Response<ImportStream>, Status> {
        self.start_import(request)
    }

    async fn batch_get_leads(
        &self,
        request: Request<pb::BatchGetLeadsRequest>,
    ) -> Result<Response<pb::BatchGetLeadsResponse>, Status> {
        self.run(request, |call, message, fit| self.batch_get(call, message, fit)).await
    }

    async fn batch_create_leads(
        &self,
        request: Request<pb::BatchCreateLeadsRequest>,
    ) -> Result<Response<pb::BatchCreateLeadsResponse>, Status> {
        self.run(request, |call, message, fit| self.batch_create(call, message, fit)).await
    }

    async fn batch_update_leads(
        &self,
        request: Request<pb::BatchUpdateLeadsRequest>,
    ) -> Result<Response<pb::BatchUpdateLeadsResponse>, Status> {
        self.run(request, |call, message, fit| self.batch_update(call, message, fit)).await
    }

    async fn batch_upsert_leads(
        &self,
        request: Request<pb::BatchUpsertLeadsRequest>,
    ) -> Result<Response<pb::BatchUpsertLeadsResponse>, Status> {
        self.run(request, |call, message, fit| self.batch_upsert(call, message, fit)).await
    }

    async fn batch_archive_leads(
        &self,
        request: Request<pb::BatchArchiveLeadsRequest>,
    ) -> Result<Response<pb::BatchArchiveLeadsResponse>, Status> {
        self.run(request, |call, message, mut fit| async move {
            let (mut inputs, request_id) = convert::batch_archive(&message, self.max_batch_inputs)?;
            fit.reserve(InputField::Ids.name(), repeat_n("", inputs.count()))?;
            let ids = inputs.take_valid();
            let results = match ids.is_empty() {
                true => Vec::new(),
                false if message.validate_only => vec![Ok(()); ids.len()],
                false => self.service.batch_archive(&call, request_id, ids.clone()).await?,
            };
            let results = results.into_iter().zip(&ids).map(|(result, id)| with_id(result, id));
            let results = inputs.merge(results).map(|result| fit.archive_result(result)).collect();
            Ok(pb::BatchArchiveLeadsResponse { results })
        })
        .await
    }

    async fn batch_associate_leads(
        &self,
        request: Request<pb::BatchAssociateLeadsRequest>,
    ) -> Result<Response<pb::BatchAssociateLeadsResponse>, Status> {
        self.run(request, |call, message, fit| async move {
            let batch = convert::batch_associate(&message, self.max_batch_inputs)?;
            let write = AssociationWrite::new(AssociationAction::Associate, message.validate_only);
            let results = self.change_associations(&call, fit, write, batch).await?;
            Ok(pb::BatchAssociateLeadsResponse { results })
        })
        .await
    }

    async fn batch_dissociate_leads(
        &self,
        request: Request<pb::BatchDissociateLeadsRequest>,
    ) -> Result<Response<pb::BatchDissociateLeadsResponse>, Status> {
        self.run(request, |call, message, fit| async move {
            let batch = convert::batch_dissociate(&message, self.max_batch_inputs)?;
            let write = AssociationWrite::new(AssociationAction::Dissociate, message.validate_only);
            let results = self.change_associations(&call, fit, write, batch).await?;
            Ok(pb::BatchDissociateLeadsResponse { results })
        })
        .await
    }
}
