//! Sends chunks of rows as batches, and repeats them until each row has a result.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use super::{
    chunk::Chunk,
    results::{RowResult, RowStatus},
};
use crate::{
    cli::{
        attempts::Attempts,
        call::Failure,
        client::Connection,
        session::{Session, SessionError},
    },
    grpc::{code_name, pb::leads_service_client::LeadsServiceClient},
};

/// Deadline of one batch. leadsd returns the results so far shortly before it.
const BATCH_DEADLINE: Duration = Duration::from_secs(120);

/// Time after the deadline that the service has to respond by itself.
const DEADLINE_GRACE: Duration = Duration::from_millis(500);

/// Codes of rows that a repeat may write.
const TRANSIENT: [Code; 4] =
    [Code::Unavailable, Code::ResourceExhausted, Code::DeadlineExceeded, Code::Aborted];

/// Sender of chunks.
#[derive(Debug)]
pub(super) struct Sender {
    session: Session,
    id_property: Option<String>,
    dry_run: bool,
    connection: Option<Connection>,
    attempts: Attempts,
}

// === impl Sender ===

impl Sender {
    pub(super) fn new(session: Session, id_property: Option<String>, dry_run: bool) -> Self {
        let attempts = Attempts::default();
        Self { session, id_property, dry_run, connection: None, attempts }
    }

    /// Sends a chunk; returns one result for each row. A repeat has the same request id, so that it writes
    /// no lead twice.
    pub(super) async fn send(
        &mut self,
        chunk: &Chunk,
        request_id: &str,
    ) -> Result<Vec<RowResult>, SessionError> {
        let mut settled = 0;
        loop {
            self.check_deadline()?;
            let sent = self.send_once(chunk, request_id).await;
            let failure = match sent {
                Ok(results) => {
                    self.attempts.started();
                    let open = results.iter().filter(|result| is_transient(result)).count();
                    if open == 0 {
                        self.attempts.progressed();
                        return Ok(results);
                    }
                    if results.len() - open > settled {
                        settled = results.len() - open;
                        self.attempts.progressed();
                    }
                    match self.attempts.after_end(false, rand::random()) {
                        Some(pause) => sleep(pause).await,
                        // A single row that fails again and again does not end the import.
                        None => {
                            self.attempts.progressed();
                            return match stalled(&results) {
                                Some(failure) => Err(SessionError::Failed(failure.into())),
                                None => Ok(results),
                            };
                        }
                    }
                    continue;
                }
                Err(SessionError::Failed(failure)) => failure,
                Err(error @ SessionError::Usage(_)) => return Err(error),
            };
            self.close().await;
            match self.attempts.after_failure(&failure, rand::random()) {
                Some(pause) => sleep(pause).await,
                None => return Err(SessionError::Failed(failure)),
            }
        }
    }

    pub(super) async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    async fn send_once(
        &mut self,
        chunk: &Chunk,
        request_id: &str,
    ) -> Result<Vec<RowResult>, SessionError> {
        if self.connection.is_none() {
            self.connection = Some(self.session.connect().await?);
        }
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        let origin = self.session.origin.clone();
        let client = LeadsServiceClient::with_origin(connection.channel(), origin);
        let mut client = client.max_decoding_message_size(self.session.max_response);
        let deadline = self.session.deadline.map_or(BATCH_DEADLINE, |(until, _)| {
            BATCH_DEADLINE.min(until.saturating_duration_since(Instant::now()))
        });
        let id = request_id.to_owned();
        let call = async {
            match &self.id_property {
                None => {
                    let mut request = self.session.request(chunk.creates(id, self.dry_run));
                    request.set_timeout(deadline);
                    let response = client.batch_create_leads(request).await?;
                    Ok(chunk.created(response.into_inner().results))
                }
                Some(property) => {
                    let message = chunk.upserts(property, id, self.dry_run);
                    let mut request = self.session.request(message);
                    request.set_timeout(deadline);
                    let response = client.batch_upsert_leads(request).await?;
                    Ok(chunk.upserted(response.into_inner().results))
                }
            }
        };
        let results = match timeout(deadline + DEADLINE_GRACE, call).await {
            Ok(results) => results.map_err(|status: Status| self.session.failure(&status))?,
            Err(_) => return Err(SessionError::Failed(Failure::deadline(deadline).into())),
        };
        if results.len() == chunk.inputs.len() {
            return Ok(results);
        }
        let message = "the service sent another number of results than of inputs";
        let failure = Failure::local(Code::Internal, message, "check that its version fits");
        Err(SessionError::Failed(failure.into()))
    }

    fn check_deadline(&self) -> Result<(), SessionError> {
        match self.session.deadline {
            Some((until, length)) if until <= Instant::now() => {
                let message = format!("the import did not end within {length:?}");
                let failure = Failure::local(Code::DeadlineExceeded, message, "resume it");
                Err(SessionError::Failed(failure.into()))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// True if a repeat may write the row.
fn is_transient(result: &RowResult) -> bool {
    result.status == RowStatus::Failed
        && TRANSIENT.iter().any(|code| code_name(*code) == result.code)
        && result.reason != "WRITE_OUTCOME_UNKNOWN"
}

/// Failure of the first row, if every row of a chunk may be written later: the rows of the chunks behind it
/// would fail as well, such as after HubSpot's daily limit.
fn stalled(results: &[RowResult]) -> Option<Failure> {
    let first = results.first().filter(|_| results.iter().all(is_transient))?;
    let code = TRANSIENT.iter().find(|code| code_name(**code) == first.code)?;
    let message = format!("row {}: {}", first.row, first.message);
    Some(Failure::local(*code, message, "resume the import later"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_ends_if_no_row_of_a_chunk_can_be_written_now() {
        let row = |row: u64, (status, code, reason): (RowStatus, &str, &str)| RowResult {
            row,
            status,
            id: String::new(),
            code: code.to_owned(),
            reason: reason.to_owned(),
            message: "later".to_owned(),
        };
        let limited = (RowStatus::Failed, "RESOURCE_EXHAUSTED", "DAILY_LIMIT_REACHED");
        let invalid = (RowStatus::Failed, "INVALID_ARGUMENT", "INVALID_REQUEST");
        let unknown = (RowStatus::Failed, "UNAVAILABLE", "WRITE_OUTCOME_UNKNOWN");
        let created = (RowStatus::Created, "", "");
        for (rows, transient, expected) in [
            (&[limited, limited][..], 2, Some(Code::ResourceExhausted)),
            (&[(RowStatus::Failed, "UNAVAILABLE", "X"), limited], 2, Some(Code::Unavailable)),
            (&[limited, invalid], 1, None),
            (&[limited, created], 1, None),
            (&[unknown], 0, None),
            (&[], 0, None),
        ] {
            let results: Vec<_> =
                (1..).zip(rows).map(|(number, parts)| row(number, *parts)).collect();
            let found = results.iter().filter(|result| is_transient(result)).count();
            assert_eq!(found, transient, "{rows:?}");
            assert_eq!(stalled(&results).map(|failure| failure.code), expected, "{rows:?}");
        }
    }
}
