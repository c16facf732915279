//! Writes. Each runs in a separate task, is audited, and is idempotent with a request id.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::{
    Service, distinct,
    labels::resolve_open,
    outcome::{Results, WriteResponse, lead, lost, upserted},
    record::WriteShape,
    validation::{Admission, admit_one},
};
use crate::leads::{
    audit::AuditEntry,
    batch::{self, BatchInput, BatchPlan, BatchProgress},
    context::CallContext,
    create::{self, IdempotencyTag, PendingCreate},
    error::Error,
    idempotency::{Content, RequestId, SoFar, StartedWrite, WriteId},
    labels::Labelled,
    lead::Lead,
    query::LeadId,
    request::{Outcome, Request, Response},
    validator::Writes,
    write::{CreateLead, Traced, UpdateLead, UpsertLead, Upserted},
};

/// Starts a write. A repeat with the same request id passes what is known from earlier calls.
type StartWrite = dyn FnOnce(Option<WriteResponse>) -> StartedWrite<WriteResponse> + Send;

/// A write before it starts.
pub(super) struct WriteCall {
    pub(super) entry: AuditEntry,
    /// `None` without a request id.
    pub(super) id: Option<WriteId>,
    pub(super) shape: WriteShape,
    /// Time at which the response so far is returned.
    pub(super) deadline: Instant,
}

impl Service {
    /// Creates one lead.
    pub async fn create(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        request: impl Into<Labelled<CreateLead>>,
    ) -> Result<Arc<Lead>, Error> {
        let request = request.into();
        let tag = IdempotencyTag::new(ctx, request_id.as_ref());
        let id = write_id(ctx, request_id, "create", &request);
        let (own, recovery) = (ctx.clone(), self.recovery.clone());
        let (validator, labels) = (Arc::clone(&self.validator), self.labels.clone());
        let write = move |previous: Option<WriteResponse>| async move {
            let request = match labels.resolve_one(&own, request).await {
                Ok(request) => request,
                Err(error) => return previous.unwrap_or(WriteResponse::Lead(Err(error))),
            };
            let unknown = previous.and_then(|previous| previous.into_lead().err());
            let is_checked = unknown.is_none() && validator.is_on(&own);
            let writes = is_checked.then(|| Writes::one(&request));
            let lead = match admit_one(&validator, &own, writes).await {
                Ok(doubts) => {
                    let lead = create::create_one(&own, request, tag, unknown, &recovery).await;
                    validator.observe(&own, &doubts, lead.as_ref().err());
                    lead
                }
                Err(error) => Err(error),
            };
            WriteResponse::Lead(lead)
        };
        let entry = AuditEntry::new(ctx, "CreateLead", 1);
        let (shape, deadline) = (WriteShape::Lead, ctx.deadline);
        let call = WriteCall { entry, id, shape, deadline };
        self.write_one(ctx, call, write).await?.into_lead()
    }

    /// Updates one lead.
    pub async fn update(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        request: impl Into<Labelled<UpdateLead>>,
    ) -> Result<Arc<Lead>, Error> {
        let request = request.into();
        let UpdateLead { id, id_property, .. } = &request.input;
        let lead_id = Some(id).filter(|_| id_property.is_none());
        let entry = AuditEntry::new(ctx, "UpdateLead", 1).about(lead_id.into_iter());
        let id = write_id(ctx, request_id, "update", &request);
        let own = ctx.clone();
        let (validator, labels) = (Arc::clone(&self.validator), self.labels.clone());
        let write = move |previous: Option<WriteResponse>| async move {
            let request = match labels.resolve_one(&own, request).await {
                Ok(request) => request,
                Err(error) => return previous.unwrap_or(WriteResponse::Lead(Err(error))),
            };
            let is_checked = previous.is_none() && validator.is_on(&own);
            let writes = is_checked.then(|| Writes::one(&request));
            let lead = match admit_one(&validator, &own, writes).await {
                Ok(doubts) => {
                    let response = own.portal.upstream.call(&own, Request::Update(request)).await;
                    let lead = response.and_then(Response::into_lead);
                    validator.observe(&own, &doubts, lead.as_ref().err());
                    lead
                }
                Err(error) => Err(error),
            };
            WriteResponse::Lead(lead)
        };
        let (shape, deadline) = (WriteShape::Lead, ctx.deadline);
        let call = WriteCall { entry, id, shape, deadline };
        self.write_one(ctx, call, write).await?.into_lead()
    }

    /// Archives one lead.
    pub async fn archive(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        lead: LeadId,
    ) -> Result<(), Error> {
        let entry = AuditEntry::new(ctx, "ArchiveLead", 1).about(std::iter::once(&lead));
        let id = write_id(ctx, request_id, "archive", &lead);
        let own = ctx.clone();
        let write = move |_| async move {
            let response = own.portal.upstream.call(&own, Request::Archive(lead)).await;
            WriteResponse::Archived(response.map(drop))
        };
        let (shape, deadline) = (WriteShape::Archived, ctx.deadline);
        let call = WriteCall { entry, id, shape, deadline };
        self.write_one(ctx, call, write).await?.into_archived()
    }

    /// Creates or updates one lead.
    pub async fn upsert(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        input: impl Into<Labelled<Traced<UpsertLead>>>,
    ) -> Result<Upserted, Error> {
        let input = input.into();
        let entry = AuditEntry::new(ctx, "UpsertLead", 1);
        let id = write_id(ctx, request_id, "upsert", &input);
        let (own, limits) = (ctx.clone(), self.limits);
        let (validator, labels) = (Arc::clone(&self.validator), self.labels.clone());
        let write = move |previous: Option<WriteResponse>| async move {
            let input = match labels.resolve_one(&own, input).await {
                Ok(input) => input,
                Err(error) => return previous.unwrap_or(WriteResponse::Upserted(Err(error))),
            };
            let is_checked = previous.is_none() && validator.is_on(&own);
            let writes = is_checked.then(|| Writes::one(&input));
            let doubts = match admit_one(&validator, &own, writes).await {
                Ok(doubts) => doubts,
                Err(error) => return WriteResponse::Upserted(Err(error)),
            };
            let request = |inputs| Request::Upsert { inputs, concurrency: limits.concurrency };
            let outcomes = batch::run(&own, &[input], limits.upsert_plan(), request).await;
            let result = match outcomes.map(|outcomes| outcomes.into_iter().next()) {
                Ok(Some(outcome)) => upserted(outcome),
                Ok(None) => Err(lost()),
                Err(error) => Err(error),
            };
            validator.observe(&own, &doubts, result.as_ref().err());
            WriteResponse::Upserted(result)
        };
        let (shape, deadline) = (WriteShape::Upserted, ctx.deadline);
        let call = WriteCall { entry, id, shape, deadline };
        self.write_one(ctx, call, write).await?.into_upserted()
    }

    /// Creates many leads. Returns one result per input, in input order.
    pub async fn batch_create(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        inputs: Vec<impl Into<Labelled<Traced<CreateLead>>>>,
    ) -> Result<Vec<Result<Arc<Lead>, Error>>, Error> {
        let inputs: Vec<Labelled<Traced<_>>> = inputs.into_iter().map(Into::into).collect();
        let entry = AuditEntry::new(ctx, "BatchCreateLeads", inputs.len());
        let shape = WriteShape::Leads(inputs.len());
        let tag = IdempotencyTag::new(ctx, request_id.as_ref());
        let id = write_id(ctx, request_id, "batch_create", &inputs);
        let (own, limits) = (ctx.ending_early(), self.limits);
        let (validator, labels) = (Arc::clone(&self.validator), self.labels.clone());
        let deadline = own.deadline;
        let write = Box::new(move |previous: Option<WriteResponse>| {
            let previous = previous.map(WriteResponse::into_leads);
            let (progress, open) = BatchProgress::resume(previous, inputs, lead);
            started(progress, WriteResponse::Leads, |progress| async move {
                let (open, _charge) = resolve_open(&labels, &own, open, &progress).await;
                let (open, admission) =
                    Admission::of_batch(&validator, &own, "", open, &progress).await;
                let pending = |(index, input)| {
                    let unknown = progress.unknown(index);
                    PendingCreate { index, input, unknown }
                };
                let pending: Vec<PendingCreate> = open.into_iter().map(pending).collect();
                create::create_many(&own, pending, tag, limits, &progress).await;
                admission.observe(&validator, &own, &progress);
            })
        });
        let call = WriteCall { entry, id, shape, deadline };
        self.write(ctx, call, write).await?.into_leads()
    }

    /// Updates many leads. Returns one result per input, in input order. No lead may occur twice.
    pub async fn batch_update(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        inputs: Vec<impl Into<Labelled<Traced<UpdateLead>>>>,
    ) -> Result<Vec<Result<Arc<Lead>, Error>>, Error> {
        let inputs: Vec<Labelled<Traced<_>>> = inputs.into_iter().map(Into::into).collect();
        let entry = AuditEntry::new(ctx, "BatchUpdateLeads", inputs.len());
        let shape = WriteShape::Leads(inputs.len());
        let id = write_id(ctx, request_id, "batch_update", &inputs);
        let (own, limits) = (ctx.ending_early(), self.limits);
        let (validator, labels) = (Arc::clone(&self.validator), self.labels.clone());
        let deadline = own.deadline;
        let write = Box::new(move |previous: Option<WriteResponse>| {
            let previous = previous.map(WriteResponse::into_leads);
            let (progress, open) = BatchProgress::resume(previous, inputs, lead);
            started(progress, WriteResponse::Leads, |progress| async move {
                let (open, _charge) = resolve_open(&labels, &own, open, &progress).await;
                let (open, admission) =
                    Admission::of_batch(&validator, &own, "", open, &progress).await;
                send_open(&own, open, limits.write_plan(), Request::BatchUpdate, &progress).await;
                admission.observe(&validator, &own, &progress);
            })
        });
        let call = WriteCall { entry, id, shape, deadline };
        self.write(ctx, call, write).await?.into_leads()
    }

    /// Creates or updates many leads. Returns one result per input, in input order. No unique value
    /// may occur twice.
    pub async fn batch_upsert(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        inputs: Vec<impl Into<Labelled<Traced<UpsertLead>>>>,
    ) -> Result<Vec<Result<Upserted, Error>>, Error> {
        let inputs: Vec<Labelled<Traced<_>>> = inputs.into_iter().map(Into::into).collect();
        let entry = AuditEntry::new(ctx, "BatchUpsertLeads", inputs.len());
        let shape = WriteShape::Upserts(inputs.len());
        let id = write_id(ctx, request_id, "batch_upsert", &inputs);
        let (own, limits) = (ctx.ending_early(), self.limits);
        let (validator, labels) = (Arc::clone(&self.validator), self.labels.clone());
        let deadline = own.deadline;
        let write = Box::new(move |previous: Option<WriteResponse>| {
            let previous = previous.map(WriteResponse::into_upserts);
            let (progress, open) = BatchProgress::resume(previous, inputs, upserted);
            started(progress, WriteResponse::Upserts, |progress| async move {
                let (open, _charge) = resolve_open(&labels, &own, open, &progress).await;
                let (open, admission) =
                    Admission::of_batch(&validator, &own, "", open, &progress).await;
                let request = |inputs| Request::Upsert { inputs, concurrency: limits.concurrency };
                send_open(&own, open, limits.upsert_plan(), request, &progress).await;
                admission.observe(&validator, &own, &progress);
            })
        });
        let call = WriteCall { entry, id, shape, deadline };
        self.write(ctx, call, write).await?.into_upserts()
    }

    /// Archives many leads. Returns one result per id, in the order of the ids.
    pub async fn batch_archive(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        ids: Vec<LeadId>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let entry = AuditEntry::new(ctx, "BatchArchiveLeads", ids.len()).about(ids.iter());
        let (own, limits) = (ctx.ending_early(), self.limits);
        let deadline = own.deadline;
        let id = write_id(ctx, request_id, "batch_archive", &ids);
        let (ids, positions) = distinct(&ids);
        let shape = WriteShape::Archives(ids.len());
        let write = Box::new(move |previous: Option<WriteResponse>| {
            let previous = previous.map(WriteResponse::into_archives);
            let archived = |outcome: Outcome| outcome.map(drop);
            let (progress, open) = BatchProgress::resume(previous, ids, archived);
            started(progress, WriteResponse::Archives, |progress| async move {
                send_open(&own, open, limits.write_plan(), Request::BatchArchive, &progress).await;
            })
        });
        let call = WriteCall { entry, id, shape, deadline };
        let response = self.write(ctx, call, write).await?;
        let results = response.into_archives()?;
        Ok(positions.into_iter().map(|position| results[position].clone()).collect())
    }

    /// Runs a write of one lead through the idempotency store. The write itself keeps to the deadline of
    /// its call; a repeat waits for the first response until its own deadline.
    pub(super) fn write_one<F>(
        &self,
        ctx: &CallContext,
        call: WriteCall,
        write: impl FnOnce(Option<WriteResponse>) -> F + Send + 'static,
    ) -> impl Future<Output = Result<WriteResponse, Error>> + Send
    where
        F: Future<Output = WriteResponse> + Send + 'static,
    {
        // Boxed once, so that no step below contains the whole future again.
        let write = Box::new(move |previous| StartedWrite {
            run: write(previous).boxed(),
            so_far: SoFar::nothing(),
        });
        self.write(ctx, call, write)
    }

    /// Runs a write through the idempotency store. At `deadline` the response so far is returned.
    pub(super) async fn write(
        &self,
        ctx: &CallContext,
        call: WriteCall,
        write: Box<StartWrite>,
    ) -> Result<WriteResponse, Error> {
        let WriteCall { entry, id, shape, deadline } = call;
        let portal = &ctx.portal.name;
        let repeat = entry.repeat();
        let start = |previous| {
            let StartedWrite { run, so_far } = write(previous);
            StartedWrite { run: entry.run(run).boxed(), so_far }
        };
        let response = self.idempotency.run(ctx, id, shape, deadline, start).await;
        repeat.answered(&response);
        let response = response?;
        response.for_each_error(|error| {
            if !self.validator.agrees(portal, error) {
                self.schemas.observe(portal, error);
            }
        });
        Ok(response)
    }
}

/// A batch write with its progress. `send` sends what is open.
pub(super) fn started<T, F>(
    progress: BatchProgress<T>,
    response: fn(Results<T>) -> WriteResponse,
    send: impl FnOnce(Arc<BatchProgress<T>>) -> F,
) -> StartedWrite<WriteResponse>
where
    T: Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let progress = Arc::new(progress);
    let (sent, so_far) = (send(Arc::clone(&progress)), Arc::clone(&progress));
    let run = async move {
        sent.await;
        response(progress.results())
    };
    StartedWrite { run: run.boxed(), so_far: SoFar::new(move || response(so_far.results())) }
}

/// Sends the open inputs of a batch.
pub(super) async fn send_open<I: BatchInput, T: Clone + Send>(
    ctx: &CallContext,
    open: Vec<(usize, I)>,
    plan: BatchPlan,
    request: impl Fn(Vec<I>) -> Request + Sync,
    progress: &BatchProgress<T>,
) {
    let (positions, inputs): (Vec<usize>, Vec<I>) = open.into_iter().unzip();
    let sink = progress.part(&positions);
    batch::run_into(ctx, &inputs, plan, request, &sink).await;
}

/// Identifies a write with a request id, whose content is hashed for it.
pub(super) fn write_id(
    ctx: &CallContext,
    request_id: Option<RequestId>,
    operation: &str,
    content: &impl Content,
) -> Option<WriteId> {
    Some(WriteId::new(ctx, request_id?, operation, content))
}
