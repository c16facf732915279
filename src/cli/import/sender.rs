//! Results of an import across streams of ImportLeads: sends rows while it reads results, and connects again
//! with the rows that have no result after a stream has ended early or failed.
//!
//! A repeated row has the import and the key of the first attempt, of which the service makes its request id.

use std::time::Duration;

use futures_util::stream;
use tokio::{
    sync::mpsc::{self, OwnedPermit},
    task::block_in_place,
    time::{Instant, sleep_until},
};
use tonic::{Code, Streaming};

use super::{
    backlog::{Backlog, Repeats},
    results::RowResult,
};
use crate::{
    cli::{
        attempts::Attempts,
        call::Failure,
        client::Connection,
        session::{Session, SessionError},
        stopped::Stopped,
    },
    grpc::pb::{
        self, import_leads_request, import_leads_response::Content,
        leads_service_client::LeadsServiceClient,
    },
};

/// Name of the command in errors.
const COMMAND: &str = "import";

/// Rows between the file and the connection, beside those in the buffers of HTTP/2.
const QUEUE: usize = 16;

/// Maximum time for the next result. The service repeats a row for up to ten minutes.
const RESULT_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Streams of one import.
pub(super) struct Sender {
    session: Session,
    settings: pb::ImportSettings,
    backlog: Backlog,
    open: Option<OpenStream>,
    attempts: Attempts,
}

struct OpenStream {
    connection: Connection,
    /// `None` after the last row.
    requests: Option<mpsc::Sender<pb::ImportLeadsRequest>>,
    responses: Streaming<pb::ImportLeadsResponse>,
    repeats: Repeats,
    had_results: bool,
}

/// Message or end of a stream.
enum Received {
    Result(RowResult),
    /// All rows have results.
    Complete,
    /// The service has ended the stream early.
    Drained,
}

// === impl Sender ===

impl Sender {
    pub(super) fn new(session: Session, settings: pb::ImportSettings, backlog: Backlog) -> Self {
        let attempts = Attempts::default();
        Self { session, settings, backlog, open: None, attempts }
    }

    /// The next result. `None` once every row has one. Waits for another stream if one ends before.
    pub(super) async fn next(&mut self) -> Result<Option<RowResult>, Stopped> {
        loop {
            if self.open.is_none() && self.backlog.is_empty() {
                return Ok(None);
            }
            self.session.check_deadline(COMMAND)?;
            let failure = match self.exchange().await {
                Ok(Received::Result(result)) => return Ok(Some(result)),
                Ok(Received::Complete) => return Ok(None),
                Ok(Received::Drained) => None,
                Err(Stopped::Failed(failure)) => Some(failure),
                Err(stopped) => return Err(stopped),
            };
            let had_results = self.close().await;
            if self.backlog.is_empty() {
                return Ok(None);
            }
            self.session.check_deadline(COMMAND)?;
            self.attempts.wait(failure, had_results).await.map_err(Stopped::Failed)?;
        }
    }

    /// Closes the stream; true if it had results.
    pub(super) async fn close(&mut self) -> bool {
        let Some(OpenStream { connection, requests, responses, had_results, .. }) =
            self.open.take()
        else {
            return false;
        };
        drop((requests, responses));
        connection.close().await;
        had_results
    }

    /// Sends rows until a result or the end of the stream arrives.
    async fn exchange(&mut self) -> Result<Received, Stopped> {
        let Self { session, settings, backlog, open, attempts } = self;
        let open = match open {
            Some(open) => open,
            none => none.insert(OpenStream::start(session, settings, backlog).await?),
        };
        let late = Instant::now() + RESULT_TIMEOUT;
        loop {
            if !backlog.has_more(&open.repeats) {
                open.requests = None;
            }
            let has_room = open.requests.is_some() && backlog.has_room(&open.repeats);
            tokio::select! {
                biased;
                message = session.response(open.responses.message()) => {
                    let content = message?.map(|message| message.content);
                    attempts.started();
                    return on_content(content.flatten(), open, backlog, attempts);
                }
                permit = reserve(open.requests.clone()), if has_room => match permit {
                    Some(permit) => {
                        let row = block_in_place(|| backlog.next(&mut open.repeats));
                        // Rows were sent, so the end names what is kept.
                        let row = row.map_err(|error| Stopped::File(error.to_string()))?;
                        if let Some(row) = row {
                            permit.send(request(import_leads_request::Content::Row(row)));
                        }
                    }
                    // The stream has ended; its end is read next.
                    None => open.requests = None,
                },
                () = sleep_until(late) => {
                    let message = format!("no result within {RESULT_TIMEOUT:?}");
                    return Err(failed(Code::Unavailable, message, "resume it later"));
                }
            }
        }
    }
}

/// Handles a message; `None` is the end of the stream.
fn on_content(
    content: Option<Content>,
    open: &mut OpenStream,
    backlog: &mut Backlog,
    attempts: &mut Attempts,
) -> Result<Received, Stopped> {
    let summary = match content {
        Some(Content::Summary(summary)) => summary,
        Some(Content::Result(result)) => {
            open.had_results = true;
            attempts.progressed();
            let number = backlog.answer(&result.key).ok_or_else(|| {
                invalid(format!("a second result for the row {:?}, or one for no row", result.key))
            })?;
            return Ok(Received::Result(RowResult::new(number, result)));
        }
        None => return Ok(Received::Drained),
    };
    if summary.stopped {
        let message =
            format!("too many rows failed: {} of {} in this stream", summary.failed, summary.rows);
        let remedy = "see the results; start again with --force, or resume with a higher \
                      --stop-on-error-ratio";
        // Not a code after which the command connects again.
        return Err(failed(Code::FailedPrecondition, message, remedy));
    }
    match summary.complete {
        true if backlog.is_empty() => Ok(Received::Complete),
        true => Err(invalid("its summary before the results of all rows".to_owned())),
        false => Ok(Received::Drained),
    }
}

/// A place in the queue; `None` if the stream has ended.
async fn reserve(
    requests: Option<mpsc::Sender<pb::ImportLeadsRequest>>,
) -> Option<OwnedPermit<pb::ImportLeadsRequest>> {
    requests?.reserve_owned().await.ok()
}

fn request(content: import_leads_request::Content) -> pb::ImportLeadsRequest {
    pb::ImportLeadsRequest { content: Some(content) }
}

fn failed(code: Code, message: String, remedy: &'static str) -> Stopped {
    Stopped::Failed(Failure::local(code, message, remedy).into())
}

fn invalid(what: String) -> Stopped {
    failed(Code::Internal, format!("the service sent {what}"), "check that its version fits")
}

// === impl OpenStream ===

impl OpenStream {
    async fn start(
        session: &Session,
        settings: &pb::ImportSettings,
        backlog: &Backlog,
    ) -> Result<Self, SessionError> {
        let connection = session.connect().await?;
        let client = LeadsServiceClient::with_origin(connection.channel(), session.origin.clone());
        let mut client = client.max_decoding_message_size(session.max_response);
        let (requests, queue) = mpsc::channel(QUEUE);
        let first = request(import_leads_request::Content::Settings(settings.clone()));
        let queue = stream::unfold((Some(first), queue), |(first, mut queue)| async move {
            let next = match first {
                Some(first) => first,
                None => queue.recv().await?,
            };
            Some((next, (None, queue)))
        });
        let call = client.import_leads(session.request(queue));
        let responses = session.response(call).await?.into_inner();
        let (requests, repeats) = (Some(requests), backlog.repeats());
        Ok(Self { connection, requests, responses, repeats, had_results: false })
    }
}
