//! Writes. Each runs in a separate task, is audited, and is idempotent with a request id.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::timeout_at;

use super::{
    Service, distinct,
    outcome::{WriteResponse, lead, lost, upserted},
    resumed::Resumed,
};
use crate::leads::{
    audit::AuditEntry,
    batch,
    context::CallContext,
    create::{self, IdempotencyTag, PendingCreate},
    error::{Error, Reason, SideEffect},
    idempotency::RequestId,
    lead::Lead,
    query::LeadId,
    request::Request,
    write::{CreateLead, Traced, UpdateLead, UpsertLead, Upserted},
};

/// Starts a write. A repeat with the same request id passes what is known from earlier calls.
type StartWrite = dyn FnOnce(Option<WriteResponse>) -> BoxFuture<'static, WriteResponse> + Send;

impl Service {
    /// Creates one lead.
    pub async fn create(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        request: CreateLead,
    ) -> Result<Arc<Lead>, Error> {
        let fingerprint = fingerprint("create", &request);
        let tag = IdempotencyTag::new(ctx, request_id.as_ref());
        let (own, recovery) = (ctx.clone(), self.recovery.clone());
        let write = move |previous: Option<WriteResponse>| async move {
            let unknown = previous.and_then(|previous| previous.into_lead().err());
            let lead = create::create_one(&own, request, tag, unknown, &recovery).await;
            WriteResponse::Lead(lead)
        };
        let entry = AuditEntry::new(ctx, "CreateLead", 1);
        self.write(ctx, entry, request_id, fingerprint, write).await?.into_lead()
    }

    /// Updates one lead.
    pub async fn update(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        request: UpdateLead,
    ) -> Result<Arc<Lead>, Error> {
        let fingerprint = fingerprint("update", &request);
        let id = Some(&request.id).filter(|_| request.id_property.is_none());
        let entry = AuditEntry::new(ctx, "UpdateLead", 1).about(id.into_iter());
        let own = ctx.clone();
        let write = move |_| async move {
            let response = own.portal.upstream.call(&own, Request::Update(request)).await;
            WriteResponse::Lead(match response {
                Ok(response) => response.into_lead(),
                Err(error) => Err(error),
            })
        };
        self.write(ctx, entry, request_id, fingerprint, write).await?.into_lead()
    }

    /// Archives one lead.
    pub async fn archive(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        id: LeadId,
    ) -> Result<(), Error> {
        let fingerprint = fingerprint("archive", &id);
        let entry = AuditEntry::new(ctx, "ArchiveLead", 1).about(std::iter::once(&id));
        let own = ctx.clone();
        let write = move |_| async move {
            let response = own.portal.upstream.call(&own, Request::Archive(id)).await;
            WriteResponse::Archived(response.map(drop))
        };
        self.write(ctx, entry, request_id, fingerprint, write).await?.into_archived()
    }

    /// Creates or updates one lead.
    pub async fn upsert(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        input: Traced<UpsertLead>,
    ) -> Result<Upserted, Error> {
        let fingerprint = fingerprint("upsert", &input.input);
        let entry = AuditEntry::new(ctx, "UpsertLead", 1);
        let (own, limits) = (ctx.clone(), self.limits);
        let write = move |_| async move {
            let request = |inputs| Request::Upsert { inputs, concurrency: limits.concurrency };
            let outcomes = batch::run(&own, &[input], limits.upsert_plan(), request).await;
            WriteResponse::Upserted(match outcomes.map(|outcomes| outcomes.into_iter().next()) {
                Ok(Some(outcome)) => upserted(outcome),
                Ok(None) => Err(lost()),
                Err(error) => Err(error),
            })
        };
        self.write(ctx, entry, request_id, fingerprint, write).await?.into_upserted()
    }

    /// Creates many leads. Returns one result per input, in input order.
    pub async fn batch_create(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        inputs: Vec<Traced<CreateLead>>,
    ) -> Result<Vec<Result<Arc<Lead>, Error>>, Error> {
        let fingerprint = fingerprint("batch_create", &contents(&inputs));
        let entry = AuditEntry::new(ctx, "BatchCreateLeads", inputs.len());
        let tag = IdempotencyTag::new(ctx, request_id.as_ref());
        let (own, limits) = (ctx.clone(), self.limits);
        let write = move |previous: Option<WriteResponse>| async move {
            let (resumed, open) = Resumed::new(previous.map(WriteResponse::into_leads), inputs);
            let open = open.into_iter().map(|(index, input)| PendingCreate {
                index,
                input,
                unknown: resumed.unknown(index),
            });
            let outcomes = create::create_many(&own, open.collect(), tag, limits).await;
            WriteResponse::Leads(resumed.merge(outcomes, lead))
        };
        self.write(ctx, entry, request_id, fingerprint, write).await?.into_leads()
    }

    /// Updates many leads. Returns one result per input, in input order. No lead may occur twice.
    pub async fn batch_update(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        inputs: Vec<Traced<UpdateLead>>,
    ) -> Result<Vec<Result<Arc<Lead>, Error>>, Error> {
        let fingerprint = fingerprint("batch_update", &contents(&inputs));
        let entry = AuditEntry::new(ctx, "BatchUpdateLeads", inputs.len());
        let (own, limits) = (ctx.clone(), self.limits);
        let write = move |previous: Option<WriteResponse>| async move {
            let (resumed, open) = Resumed::new(previous.map(WriteResponse::into_leads), inputs);
            let open: Vec<_> = open.into_iter().map(|(_, input)| input).collect();
            let run = batch::run(&own, &open, limits.write_plan(), Request::BatchUpdate);
            WriteResponse::Leads(resumed.merge(run.await, lead))
        };
        self.write(ctx, entry, request_id, fingerprint, write).await?.into_leads()
    }

    /// Creates or updates many leads. Returns one result per input, in input order. No unique value
    /// may occur twice.
    pub async fn batch_upsert(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        inputs: Vec<Traced<UpsertLead>>,
    ) -> Result<Vec<Result<Upserted, Error>>, Error> {
        let fingerprint = fingerprint("batch_upsert", &contents(&inputs));
        let entry = AuditEntry::new(ctx, "BatchUpsertLeads", inputs.len());
        let (own, limits) = (ctx.clone(), self.limits);
        let write = move |previous: Option<WriteResponse>| async move {
            let (resumed, open) = Resumed::new(previous.map(WriteResponse::into_upserts), inputs);
            let open: Vec<_> = open.into_iter().map(|(_, input)| input).collect();
            let request = |inputs| Request::Upsert { inputs, concurrency: limits.concurrency };
            let run = batch::run(&own, &open, limits.upsert_plan(), request);
            WriteResponse::Upserts(resumed.merge(run.await, upserted))
        };
        self.write(ctx, entry, request_id, fingerprint, write).await?.into_upserts()
    }

    /// Archives many leads. Returns one result per id, in the order of the ids.
    pub async fn batch_archive(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        ids: Vec<LeadId>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let fingerprint = fingerprint("batch_archive", &ids);
        let entry = AuditEntry::new(ctx, "BatchArchiveLeads", ids.len()).about(ids.iter());
        let (own, limits) = (ctx.clone(), self.limits);
        let write = move |previous: Option<WriteResponse>| async move {
            let (resumed, open) = Resumed::new(previous.map(WriteResponse::into_archives), ids);
            let open: Vec<_> = open.into_iter().map(|(_, id)| id).collect();
            let (distinct, positions) = distinct(&open);
            let run = batch::run(&own, &distinct, limits.write_plan(), Request::BatchArchive);
            let outcomes = run.await.map(|outcomes| {
                positions.into_iter().map(|position| outcomes[position].clone()).collect()
            });
            WriteResponse::Archives(resumed.merge(outcomes, |outcome| outcome.map(drop)))
        };
        self.write(ctx, entry, request_id, fingerprint, write).await?.into_archives()
    }

    /// Runs a write through the idempotency store. The write itself keeps to the deadline of its
    /// call; a repeat waits for the first response until its own deadline.
    fn write<F>(
        &self,
        ctx: &CallContext,
        entry: AuditEntry,
        request_id: Option<RequestId>,
        fingerprint: u64,
        write: impl FnOnce(Option<WriteResponse>) -> F + Send + 'static,
    ) -> impl Future<Output = Result<WriteResponse, Error>> + Send
    where
        F: Future<Output = WriteResponse> + Send + 'static,
    {
        // Boxed once, so that no step below contains the whole future again.
        let write = Box::new(move |previous| write(previous).boxed());
        self.write_boxed(ctx, entry, request_id, fingerprint, write)
    }

    async fn write_boxed(
        &self,
        ctx: &CallContext,
        entry: AuditEntry,
        request_id: Option<RequestId>,
        fingerprint: u64,
        write: Box<StartWrite>,
    ) -> Result<WriteResponse, Error> {
        let portal = &ctx.portal.name;
        let repeat = entry.repeat();
        if let Some(error) = self.rejections.get(portal, fingerprint) {
            drop(entry);
            let response = Err(error);
            repeat.answered(&response);
            return response;
        }
        let response = self
            .idempotency
            .run(ctx, request_id, fingerprint, |previous| entry.run(write(previous)));
        let response = timeout_at(ctx.deadline, response).await.unwrap_or_else(|_| {
            Err(Error::new(
                Reason::DeadlineExceeded,
                "the deadline passed before the outcome of the write was known",
            )
            .with_side_effect(SideEffect::Possible))
        });
        repeat.answered(&response);
        let response = response?;
        if let Some(error) = response.single_error() {
            self.rejections.insert(portal, fingerprint, error);
        }
        Ok(response)
    }
}

/// The inputs without their trace ids, which differ between repeats of one request.
fn contents<T>(inputs: &[Traced<T>]) -> Vec<&T> {
    inputs.iter().map(|input| &input.input).collect()
}

fn fingerprint(kind: &str, request: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    kind.hash(&mut hasher);
    request.hash(&mut hasher);
    hasher.finish()
}
