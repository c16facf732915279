//! Writes. Each runs in a separate task, is audited, and is idempotent with a request id.

use std::hash::{DefaultHasher, Hash, Hasher};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::timeout_at;

use super::{
    Service, distinct,
    outcome::{WriteResponse, lead, lost, upserted},
};
use crate::leads::{
    audit::AuditEntry,
    batch,
    context::CallContext,
    create::{self, IdempotencyTag},
    error::{Error, Reason, SideEffect},
    idempotency::RequestId,
    lead::Lead,
    query::LeadId,
    request::Request,
    write::{CreateLead, Traced, UpdateLead, UpsertLead, Upserted},
};

impl Service {
    /// Creates one lead.
    pub async fn create(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        request: CreateLead,
    ) -> Result<Lead, Error> {
        let fingerprint = fingerprint("create", &request);
        let tag = IdempotencyTag::new(ctx, request_id.as_ref());
        let (own, recovery) = (ctx.clone(), self.recovery.clone());
        let write = async move {
            WriteResponse::Lead(create::create_one(&own, request, tag, &recovery).await)
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
    ) -> Result<Lead, Error> {
        let fingerprint = fingerprint("update", &request);
        let id = Some(&request.id).filter(|_| request.id_property.is_none());
        let entry = AuditEntry::new(ctx, "UpdateLead", 1).about(id.into_iter());
        let own = ctx.clone();
        let write = async move {
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
        let write = async move {
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
        let own = ctx.clone();
        let write = async move {
            let outcomes = batch::run(&own, &[input], 1, 1, Request::BatchUpsert).await;
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
    ) -> Result<Vec<Result<Lead, Error>>, Error> {
        let fingerprint = fingerprint("batch_create", &contents(&inputs));
        let entry = AuditEntry::new(ctx, "BatchCreateLeads", inputs.len());
        let tag = IdempotencyTag::new(ctx, request_id.as_ref());
        let (own, concurrency) = (ctx.clone(), self.batch_concurrency);
        let write = async move {
            let outcomes = create::create_many(&own, inputs, tag, concurrency).await;
            WriteResponse::Leads(outcomes.map(|all| all.into_iter().map(lead).collect()))
        };
        self.write(ctx, entry, request_id, fingerprint, write).await?.into_leads()
    }

    /// Updates many leads. Returns one result per input, in input order. No lead may occur twice.
    pub async fn batch_update(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        inputs: Vec<Traced<UpdateLead>>,
    ) -> Result<Vec<Result<Lead, Error>>, Error> {
        let fingerprint = fingerprint("batch_update", &contents(&inputs));
        let entry = AuditEntry::new(ctx, "BatchUpdateLeads", inputs.len());
        let (own, concurrency) = (ctx.clone(), self.batch_concurrency);
        let write = async move {
            let run =
                batch::run(&own, &inputs, batch::MAX_CHUNK, concurrency, Request::BatchUpdate);
            WriteResponse::Leads(run.await.map(|all| all.into_iter().map(lead).collect()))
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
        let (own, concurrency) = (ctx.clone(), self.batch_concurrency);
        let write = async move {
            let run =
                batch::run(&own, &inputs, batch::MAX_CHUNK, concurrency, Request::BatchUpsert);
            WriteResponse::Upserts(run.await.map(|all| all.into_iter().map(upserted).collect()))
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
        let (own, concurrency) = (ctx.clone(), self.batch_concurrency);
        let write = async move {
            let (distinct, positions) = distinct(&ids);
            let run =
                batch::run(&own, &distinct, batch::MAX_CHUNK, concurrency, Request::BatchArchive);
            WriteResponse::Archives(run.await.map(|outcomes| {
                let archived = |position: usize| outcomes[position].clone().map(drop);
                positions.into_iter().map(archived).collect()
            }))
        };
        self.write(ctx, entry, request_id, fingerprint, write).await?.into_archives()
    }

    /// Runs a write through the idempotency store. The write itself keeps to the deadline of its
    /// call; a repeat waits for the first response until its own deadline.
    fn write(
        &self,
        ctx: &CallContext,
        entry: AuditEntry,
        request_id: Option<RequestId>,
        fingerprint: u64,
        write: impl Future<Output = WriteResponse> + Send + 'static,
    ) -> impl Future<Output = Result<WriteResponse, Error>> + Send {
        // Boxed once, so that no step below contains the whole future again.
        self.write_boxed(ctx, entry, request_id, fingerprint, write.boxed())
    }

    async fn write_boxed(
        &self,
        ctx: &CallContext,
        entry: AuditEntry,
        request_id: Option<RequestId>,
        fingerprint: u64,
        write: BoxFuture<'static, WriteResponse>,
    ) -> Result<WriteResponse, Error> {
        let portal = &ctx.portal.name;
        let repeat = entry.repeat();
        if let Some(error) = self.rejections.get(portal, fingerprint) {
            drop(entry);
            let response = Err(error);
            repeat.answered(&response);
            return response;
        }
        let response = self.idempotency.run(portal, request_id, fingerprint, entry.run(write));
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
