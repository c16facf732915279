//! Writes. Each runs in a separate task, is audited, and is idempotent with a request id.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::{
    Service, distinct,
    outcome::{WriteResponse, lead, lost, upserted},
};
use crate::leads::{
    audit::AuditEntry,
    batch::{self, BatchInput, BatchPlan, BatchProgress},
    context::CallContext,
    create::{self, IdempotencyTag, PendingCreate},
    error::Error,
    idempotency::{RequestId, SoFar, StartedWrite},
    lead::Lead,
    query::LeadId,
    request::{Outcome, Request},
    write::{CreateLead, Traced, UpdateLead, UpsertLead, Upserted},
};

/// Starts a write. A repeat with the same request id passes what is known from earlier calls.
type StartWrite = dyn FnOnce(Option<WriteResponse>) -> StartedWrite<WriteResponse> + Send;

/// Results of a batch, as a response holds them.
type Results<T> = Result<Vec<Result<T, Error>>, Error>;

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
        self.write_one(ctx, entry, request_id, fingerprint, write).await?.into_lead()
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
        self.write_one(ctx, entry, request_id, fingerprint, write).await?.into_lead()
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
        self.write_one(ctx, entry, request_id, fingerprint, write).await?.into_archived()
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
        self.write_one(ctx, entry, request_id, fingerprint, write).await?.into_upserted()
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
        let (own, limits) = (ctx.ending_early(), self.limits);
        let deadline = own.deadline;
        let write = Box::new(move |previous: Option<WriteResponse>| {
            let previous = previous.map(WriteResponse::into_leads);
            let (progress, open) = BatchProgress::resume(previous, inputs, lead);
            let pending = |(index, input)| {
                let unknown = progress.unknown(index);
                PendingCreate { index, input, unknown }
            };
            let pending: Vec<PendingCreate> = open.into_iter().map(pending).collect();
            started(progress, WriteResponse::Leads, |progress| async move {
                create::create_many(&own, pending, tag, limits, &progress).await;
            })
        });
        self.write(ctx, entry, request_id, fingerprint, deadline, write).await?.into_leads()
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
        let (own, limits) = (ctx.ending_early(), self.limits);
        let deadline = own.deadline;
        let write = Box::new(move |previous: Option<WriteResponse>| {
            let previous = previous.map(WriteResponse::into_leads);
            let (progress, open) = BatchProgress::resume(previous, inputs, lead);
            started(progress, WriteResponse::Leads, |progress| async move {
                send_open(&own, open, limits.write_plan(), Request::BatchUpdate, &progress).await;
            })
        });
        self.write(ctx, entry, request_id, fingerprint, deadline, write).await?.into_leads()
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
        let (own, limits) = (ctx.ending_early(), self.limits);
        let deadline = own.deadline;
        let write = Box::new(move |previous: Option<WriteResponse>| {
            let previous = previous.map(WriteResponse::into_upserts);
            let (progress, open) = BatchProgress::resume(previous, inputs, upserted);
            started(progress, WriteResponse::Upserts, |progress| async move {
                let request = |inputs| Request::Upsert { inputs, concurrency: limits.concurrency };
                send_open(&own, open, limits.upsert_plan(), request, &progress).await;
            })
        });
        self.write(ctx, entry, request_id, fingerprint, deadline, write).await?.into_upserts()
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
        let (own, limits) = (ctx.ending_early(), self.limits);
        let deadline = own.deadline;
        let (ids, positions) = distinct(&ids);
        let write = Box::new(move |previous: Option<WriteResponse>| {
            let previous = previous.map(WriteResponse::into_archives);
            let archived = |outcome: Outcome| outcome.map(drop);
            let (progress, open) = BatchProgress::resume(previous, ids, archived);
            started(progress, WriteResponse::Archives, |progress| async move {
                send_open(&own, open, limits.write_plan(), Request::BatchArchive, &progress).await;
            })
        });
        let response = self.write(ctx, entry, request_id, fingerprint, deadline, write).await?;
        let results = response.into_archives()?;
        Ok(positions.into_iter().map(|position| results[position].clone()).collect())
    }

    /// Runs a write of one lead through the idempotency store. The write itself keeps to the deadline of
    /// its call; a repeat waits for the first response until its own deadline.
    fn write_one<F>(
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
        let write = Box::new(move |previous| StartedWrite {
            run: write(previous).boxed(),
            so_far: SoFar::nothing(),
        });
        self.write(ctx, entry, request_id, fingerprint, ctx.deadline, write)
    }

    /// Runs a write through the idempotency store. At `deadline` the response so far is returned.
    async fn write(
        &self,
        ctx: &CallContext,
        entry: AuditEntry,
        request_id: Option<RequestId>,
        fingerprint: u64,
        deadline: Instant,
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
        let start = |previous| {
            let StartedWrite { run, so_far } = write(previous);
            StartedWrite { run: entry.run(run).boxed(), so_far }
        };
        let response = self.idempotency.run(ctx, request_id, fingerprint, deadline, start).await;
        repeat.answered(&response);
        let response = response?;
        if let Some(error) = response.single_error() {
            self.rejections.insert(portal, fingerprint, error);
        }
        Ok(response)
    }
}

/// A batch write with its progress. `send` sends what is open.
fn started<T, F>(
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
async fn send_open<I: BatchInput, T: Clone + Send>(
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
