//! One row of an import: its write, which is repeated after a transient error.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::leads::{
    context::CallContext,
    error::{Error, Reason},
    export::{PageRetries, PageRetry},
    import::{RowOutcome, RowWrite},
    rejection_search::RejectionSearch,
    request_id::RequestId,
    service::{Service, Validated},
};

/// Timeout for one attempt, with its time in the queue for quota.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);

/// A row in progress.
pub(super) struct RowRun {
    pub(super) service: Service,
    pub(super) ctx: CallContext,
    pub(super) id: RequestId,
    pub(super) validate_only: bool,
    pub(super) write: RowWrite,
}

/// End of a row.
#[derive(Debug)]
pub(super) enum RowEnd {
    /// The row has a result.
    Answered(Result<RowOutcome, Error>),
    /// The deadline of the stream leaves no time for a repeat.
    Open,
    /// The row failed for a cause that concerns all rows.
    AllFail(Error),
}

// === impl RowRun ===

impl RowRun {
    /// Writes the row. Repeats are safe: they have the request id of the first attempt.
    pub(super) async fn run(self) -> RowEnd {
        let mut retries = PageRetries::default();
        loop {
            let error = match self.attempt().await {
                Ok(outcome) => return RowEnd::Answered(Ok(outcome)),
                Err(error) => error,
            };
            let pause = match retries.decide(&cause(&error), Instant::now(), rand::random()) {
                PageRetry::After(pause) => pause,
                PageRetry::Smaller | PageRetry::Stop if concerns_all(error.reason()) => {
                    return RowEnd::AllFail(error);
                }
                PageRetry::Smaller | PageRetry::Stop => {
                    let error = match self.write.lead_id() {
                        Some(id) => error.with_lead_id(id.as_str()),
                        None => error,
                    };
                    return RowEnd::Answered(Err(error));
                }
            };
            if Instant::now() + pause >= self.ctx.deadline {
                return RowEnd::Open;
            }
            sleep(pause).await;
        }
    }

    async fn attempt(&self) -> Result<RowOutcome, Error> {
        let deadline = self.ctx.deadline.min(Instant::now() + ATTEMPT_TIMEOUT);
        let ctx = &CallContext { deadline, search: RejectionSearch::default(), ..self.ctx.clone() };
        if self.validate_only {
            return self.validate(ctx).await.map(|()| RowOutcome::Valid);
        }
        let (service, id) = (&self.service, Some(self.id.clone()));
        match self.write.clone() {
            RowWrite::Create(create) => {
                let lead = service.create(ctx, id, create).await?;
                Ok(RowOutcome::Written { lead, created: Some(true) })
            }
            RowWrite::Update(update) => {
                let lead = service.update(ctx, id, update).await?;
                Ok(RowOutcome::Written { lead, created: Some(false) })
            }
            RowWrite::Upsert(upsert) => {
                let done = service.upsert(ctx, id, upsert).await?;
                Ok(RowOutcome::Written { lead: done.lead, created: done.created })
            }
            RowWrite::Archive(lead) => {
                service.archive(ctx, id, lead).await?;
                Ok(RowOutcome::Archived)
            }
        }
    }

    async fn validate(&self, ctx: &CallContext) -> Result<(), Error> {
        let write = match &self.write {
            RowWrite::Create(create) => Validated::Create(create.clone()),
            RowWrite::Update(update) => Validated::Update(update.clone()),
            RowWrite::Upsert(upsert) => Validated::Upserts(vec![upsert.clone()]),
            // Its id has a valid form.
            RowWrite::Archive(_) => return Ok(()),
        };
        self.service.validate_one(ctx, write).await
    }
}

/// The error by which a repeat is decided. A create whose lead could not be looked up is repeated after the
/// stated time, since a repeat looks it up first.
fn cause(error: &Error) -> Error {
    match (error.reason(), error.retry_after()) {
        (Reason::WriteOutcomeUnknown, Some(pause)) => {
            Error::new(Reason::UpstreamUnavailable, error.message()).with_retry_after(pause)
        }
        (_, _) => error.clone(),
    }
}

/// True if an error for this reason concerns all rows.
fn concerns_all(reason: Reason) -> bool {
    matches!(reason, Reason::DailyLimitReached | Reason::CredentialRejected)
}
