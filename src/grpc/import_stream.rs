//! Stream of ImportLeads: passes rows to an import and its results to the client, and ends with a summary.
//!
//! The stream is polled when HTTP/2 has passed on what it got. So a client that does not read its results is
//! not read either, and neither is one whose rows fill the import.

use std::{future::pending, pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep_until},
};
use tonic::{Code, Status, Streaming};

use super::{
    convert::{self, ResponseFit},
    middleware::call_context::AuthorizedCall,
    pb::{self, import_leads_request, import_leads_response, import_result},
    status,
    transport::call_state::CallState,
};
use crate::leads::{
    CallContext, Error, Guard, Import, ImportResult, Reason, Service,
    import::{ImportEnd, ImportSummary, RowOutcome},
};

/// Messages of one call of ImportLeads.
pub(crate) type ImportStream =
    Pin<Box<dyn Stream<Item = Result<pb::ImportLeadsResponse, Status>> + Send>>;

/// Requests of one call.
type Requests = Streaming<pb::ImportLeadsRequest>;

/// Maximum time without a message of the client while no row is in progress.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum time for the results of rows after the replica or the connection begins to stop: less than the
/// default of `grpc.shutdown_grace`.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum time before the deadline of the call at which no further rows are read.
const MAX_READ_MARGIN: Duration = Duration::from_secs(10);

/// State of the stream.
struct ImportState {
    service: Service,
    /// Context of the import, until the settings arrive.
    context: Option<CallContext>,
    import: Option<Import>,
    requests: Requests,
    call: Arc<CallState>,
    closing: watch::Receiver<bool>,
    /// Time at which the stream ends, so that a client with this deadline receives its last message.
    until: Instant,
    /// Time from which no further rows are read.
    read_until: Instant,
    /// Time of the last message of the client, or of the last result.
    active: Instant,
    phase: Phase,
    max_response_bytes: usize,
}

/// Phase of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Messages are read.
    Reading,
    /// Rows are finished until a point in time. Then the stream ends in this way.
    Finishing(Instant, ImportEnd),
    Ended,
}

/// Next event of the stream.
#[expect(clippy::large_enum_variant, reason = "one event exists at a time and is moved once")]
enum Event {
    /// The replica or the connection begins to stop, or the deadline is near.
    Drain,
    /// The time for the results of rows has passed.
    TimeOut,
    Result(Result<Option<ImportResult>, Error>),
    Request(Result<Option<pb::ImportLeadsRequest>, Status>),
    /// The client has sent nothing for too long.
    Idle,
}

/// Starts the stream of a call.
pub(crate) fn start(
    call: AuthorizedCall,
    requests: Requests,
    service: &Service,
    max_response_bytes: usize,
) -> Result<ImportStream, Error> {
    let AuthorizedCall { context, state: call } = call;
    let slot = call.guard.start_import()?;
    // The slot is released when no row is left.
    let guard = Guard::new(&Arc::new((context.guard.clone(), slot)));
    let (now, until) = (Instant::now(), context.ending_early().deadline);
    let margin = (until.saturating_duration_since(now) / 10).min(MAX_READ_MARGIN);
    call.send_deadline.start_for_each_message();
    let state = ImportState {
        service: service.clone(),
        context: Some(CallContext { guard, ..context }),
        import: None,
        requests,
        closing: call.connection.closing.clone(),
        call,
        until,
        read_until: until - margin,
        active: now,
        phase: Phase::Reading,
        max_response_bytes,
    };
    Ok(Box::pin(stream::unfold(state, ImportState::next)))
}

// === impl ImportState ===

impl ImportState {
    async fn next(mut self) -> Option<(Result<pb::ImportLeadsResponse, Status>, Self)> {
        if self.phase == Phase::Ended {
            return None;
        }
        let message = loop {
            match self.step().await {
                Ok(Some(message)) => break Ok(message),
                Ok(None) => {}
                Err(status) => {
                    self.phase = Phase::Ended;
                    break Err(status);
                }
            }
        };
        Some((message, self))
    }

    /// Handles one event. Returns the message to send, if there is one.
    async fn step(&mut self) -> Result<Option<pb::ImportLeadsResponse>, Status> {
        if let Phase::Finishing(_, end) = self.phase
            && !self.has_rows()
        {
            return self.finish(end).map(Some);
        }
        match self.event().await {
            Event::Drain => {
                let by = self.until.min(Instant::now() + DRAIN_TIMEOUT);
                self.phase = Phase::Finishing(by, ImportEnd::Drained);
                Ok(None)
            }
            Event::TimeOut => self.finish(ImportEnd::Drained).map(Some),
            Event::Result(Ok(result)) => {
                self.active = Instant::now();
                if self.import.as_ref().is_some_and(Import::is_halted) {
                    self.phase = Phase::Finishing(self.until, ImportEnd::Stopped);
                }
                Ok(result.map(|result| self.build(result)))
            }
            Event::Result(Err(error)) => Err(self.fail(error)),
            Event::Request(request) => {
                self.active = Instant::now();
                self.on_request(request)?;
                Ok(None)
            }
            Event::Idle => {
                let text = format!(
                    "the client has sent nothing for {} s after row {}; send rows, or end the requests",
                    IDLE_TIMEOUT.as_secs(),
                    self.summary().rows
                );
                Err(self.fail(Error::new(Reason::DeadlineExceeded, text)))
            }
        }
    }

    async fn event(&mut self) -> Event {
        let has_rows = self.has_rows();
        let idle = self.active + IDLE_TIMEOUT;
        let Self { import, requests, closing, phase, read_until, .. } = self;
        let (is_reading, finish_by) = match *phase {
            Phase::Reading => (true, *read_until),
            Phase::Finishing(by, _) => (false, by),
            Phase::Ended => (false, Instant::now()),
        };
        let can_read = is_reading && import.as_ref().is_none_or(Import::has_room);
        select! {
            biased;
            // An error means that the connection was dropped.
            _ = closing.wait_for(|closing| *closing), if is_reading => Event::Drain,
            () = sleep_until(finish_by) => if is_reading { Event::Drain } else { Event::TimeOut },
            result = next_result(import.as_mut()), if has_rows => Event::Result(result),
            request = requests.message(), if can_read => Event::Request(request),
            () = sleep_until(idle), if can_read && !has_rows => Event::Idle,
        }
    }

    /// Handles a message of the client.
    fn on_request(
        &mut self,
        request: Result<Option<pb::ImportLeadsRequest>, Status>,
    ) -> Result<(), Status> {
        use import_leads_request::Content;
        let request = request.map_err(|status| self.on_broken_request(status))?;
        let Some(request) = request else {
            self.phase = Phase::Finishing(self.until, ImportEnd::Complete);
            return match &self.import {
                Some(_) => Ok(()),
                None => Err(self.invalid("the stream ended without settings", 0)),
            };
        };
        let number = self.summary().rows + 1;
        match (request.content, &mut self.import) {
            (Some(Content::Settings(settings)), None) => {
                let import = convert::import_settings(&settings).and_then(|settings| {
                    let context = self.context.take().ok_or_else(no_context)?;
                    self.service.import(context, settings)
                });
                self.import = Some(import.map_err(|error| self.call.fail(error))?);
                Ok(())
            }
            (Some(Content::Row(row)), Some(import)) => match convert::import_row(row) {
                Ok(row) => {
                    import.add(row);
                    Ok(())
                }
                Err(error) => {
                    let text = format!("row {number}: {}", error.message());
                    Err(self.fail(error.with_message(text)))
                }
            },
            (Some(Content::Settings(_)), Some(_)) => {
                Err(self.invalid("only the first message has settings", number))
            }
            (Some(Content::Row(_)), None) => {
                Err(self.invalid("the first message must have the settings", 0))
            }
            (None, _) => Err(self.invalid("the message has neither settings nor a row", number)),
        }
    }

    /// The error of requests that cannot be read.
    fn on_broken_request(&mut self, status: Status) -> Status {
        let rows = self.summary().rows;
        let (error, at) = match self.call.failure() {
            // The body of the request has rejected a message, perhaps before those in front of it were read.
            Some(error) => (error.clone(), format!("after row {rows}")),
            None if status.code() == Code::Internal => {
                let text =
                    format!("the request bytes are not a valid message: {}", status.message());
                (Error::new(Reason::InvalidRequest, text), format!("row {}", rows + 1))
            }
            // The client has disconnected.
            None => return status,
        };
        let text = format!("{at}: {}", error.message());
        self.fail(error.with_message(text))
    }

    fn invalid(&mut self, text: &str, number: u64) -> Status {
        let text = if number == 0 { text.to_owned() } else { format!("row {number}: {text}") };
        self.fail(Error::new(Reason::InvalidRequest, text))
    }

    fn fail(&mut self, error: Error) -> Status {
        if let Some(import) = &mut self.import {
            import.fail(&error);
        }
        self.call.fail(error)
    }

    fn has_rows(&self) -> bool {
        self.import.as_ref().is_some_and(Import::has_rows)
    }

    fn summary(&self) -> ImportSummary {
        self.import.as_ref().map(Import::summary).unwrap_or_default()
    }

    /// Ends the stream.
    fn finish(&mut self, end: ImportEnd) -> Result<pb::ImportLeadsResponse, Status> {
        self.phase = Phase::Ended;
        let mut cost = 0.0;
        if let Some(import) = &mut self.import {
            if let Err(error) = import.halted() {
                return Err(self.fail(error));
            }
            import.end(end);
            cost = import.cost();
        }
        let summary = self.summary();
        let unanswered = summary.rows - summary.answered();
        let ImportSummary { rows, created, updated, archived, validated, failed } = summary;
        let [rows, created, updated, archived, validated, failed, unanswered] =
            [rows, created, updated, archived, validated, failed, unanswered]
                .map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        let summary = pb::ImportSummary {
            rows,
            created,
            updated,
            archived,
            validated,
            failed,
            unanswered,
            complete: end == ImportEnd::Complete,
            drained: end == ImportEnd::Drained,
            stopped: end == ImportEnd::Stopped,
            quota_cost: cost,
        };
        let content = Some(import_leads_response::Content::Summary(summary));
        Ok(pb::ImportLeadsResponse { content })
    }

    /// Builds the message of a result and charges its memory.
    fn build(&self, result: ImportResult) -> pb::ImportLeadsResponse {
        let ImportResult { key, outcome } = result;
        let mut message = pb::ImportResult { key, ..pb::ImportResult::default() };
        match outcome {
            Ok(RowOutcome::Written { lead, created }) => {
                let mut fit = ResponseFit::new(Arc::clone(&self.call), self.max_response_bytes);
                message.outcome = Some(import_result::Outcome::Lead(fit.written_lead(lead)));
                message.created = created == Some(true);
                message.created_unknown = created.is_none();
            }
            Ok(RowOutcome::Archived | RowOutcome::Valid) => {}
            Err(error) => {
                message.outcome = Some(import_result::Outcome::Error(status::for_item(&error)));
            }
        }
        let content = Some(import_leads_response::Content::Result(message));
        pb::ImportLeadsResponse { content }
    }
}

async fn next_result(import: Option<&mut Import>) -> Result<Option<ImportResult>, Error> {
    match import {
        Some(import) => import.next().await,
        None => pending().await,
    }
}

/// Error of settings after the settings, which do not get here.
fn no_context() -> Error {
    Error::new(Reason::Internal, "internal error: call context missing")
}

#[cfg(test)]
mod tests;
