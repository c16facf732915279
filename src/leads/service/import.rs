//! Imports: writes the rows of a stream, each as a single write with a request id, and holds a bounded number
//! of rows and bytes.
//!
//! A row counts until its result was taken. So a client that does not read its results stops being read.

mod row;

use std::{collections::VecDeque, future::pending, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, timeout};

use self::row::{RowEnd, RowRun};
use super::Service;
use crate::leads::{
    audit,
    charge::MemoryCharge,
    context::{CallContext, Guard},
    cost::CostMeter,
    error::{Error, FieldFault, Reason},
    import::{
        ImportCounts, ImportEnd, ImportRow, ImportSettings, ImportSummary, ImportTally, MAX_BYTES,
        MAX_ROWS, RECENT, RecentKeys, RowOutcome,
    },
    memory::memory_of,
    request_id::RequestId,
};

/// Memory of a row in progress beside its values, in bytes: its futures and its task, its places in queues and
/// in the store of request ids.
const ROW_OVERHEAD: usize = 8 << 10;

/// Bytes that are charged for each byte of the message of a row: the domain, a queue of the pipeline and
/// HubSpot's JSON hold its values, the first as maps.
const COPIES: usize = 4;

/// Pause before a row is charged again for which the caller has no memory left.
const MEMORY_POLL: Duration = Duration::from_millis(200);

/// Maximum time for which a row waits for memory while no other row is in progress.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(60);

/// Rows of one stream.
#[derive(Debug)]
pub struct Import {
    service: Service,
    ctx: CallContext,
    settings: ImportSettings,
    keys: RecentKeys,
    /// Memory of the keys.
    _charge: MemoryCharge,
    /// Rows in progress.
    running: FuturesUnordered<BoxFuture<'static, FinishedRow>>,
    /// Results that are known already.
    ready: VecDeque<FinishedRow>,
    /// Row for which there is no memory yet.
    waiting: Option<WaitingRow>,
    /// Memory of all of these.
    bytes: usize,
    tally: ImportTally,
    halt: Option<Halt>,
    /// End of the stream and its outcome in the audit event; `None` before.
    end: Option<(ImportEnd, &'static str)>,
}

/// Result of one row.
#[derive(Debug)]
pub struct ImportResult {
    /// Key of the row.
    pub key: String,
    /// Outcome, or the error of the row.
    pub outcome: Result<RowOutcome, Error>,
}

/// Row that is about to start.
#[derive(Debug)]
struct WaitingRow {
    number: u64,
    row: ImportRow,
    since: Instant,
}

/// Row that has ended.
#[derive(Debug)]
struct FinishedRow {
    number: u64,
    key: String,
    end: RowEnd,
    /// Bytes that the row had in progress.
    bytes: usize,
    /// Memory of the result.
    _charge: MemoryCharge,
}

/// Reason for which no further rows are read.
#[derive(Debug)]
enum Halt {
    /// Too many rows have failed.
    Stopped,
    /// The cause of a failure concerns all rows.
    Failed(Error),
}

// === impl Service ===

impl Service {
    /// Starts the rows of a stream. Errors if the caller has no memory left.
    pub fn import(&self, ctx: CallContext, settings: ImportSettings) -> Result<Import, Error> {
        let mut charge = MemoryCharge::new(&ctx.memory);
        charge.try_set(RecentKeys::BYTES)?;
        Ok(Import {
            service: self.clone(),
            ctx: CallContext { is_row: true, ..ctx },
            settings,
            keys: RecentKeys::default(),
            _charge: charge,
            running: FuturesUnordered::new(),
            ready: VecDeque::new(),
            waiting: None,
            bytes: 0,
            tally: ImportTally::default(),
            halt: None,
            end: None,
        })
    }

    /// Counts of imports.
    pub fn import_counts(&self) -> ImportCounts {
        self.imports.snapshot()
    }
}

// === impl Import ===

impl Import {
    /// True if a further row may be read.
    pub fn has_room(&self) -> bool {
        let rows = self.running.len() + self.ready.len();
        self.waiting.is_none() && rows < MAX_ROWS && self.bytes < MAX_BYTES
    }

    /// True if a row has no result yet, or its result was not taken.
    pub fn has_rows(&self) -> bool {
        self.waiting.is_some() || !self.ready.is_empty() || !self.running.is_empty()
    }

    /// True if no further row is to be read: too many have failed, or all would fail.
    pub fn is_halted(&self) -> bool {
        self.halt.is_some()
    }

    /// Counts so far.
    pub fn summary(&self) -> ImportSummary {
        self.tally.summary()
    }

    /// HubSpot calls so far.
    pub fn cost(&self) -> f64 {
        self.ctx.cost.requests()
    }

    /// Starts a row. Rows without memory wait: then there is no room until `next` has started this one.
    pub fn add(&mut self, row: ImportRow) {
        let number = self.tally.read();
        let id = self.settings.request_id(&row.key);
        let row = match self.keys.add(id) {
            true => row,
            false => {
                let description = format!(
                    "equals the key of an earlier row; keys must differ from those of the last \
                     {RECENT} rows"
                );
                let error = Error::invalid(vec![FieldFault::new("key", description)]);
                ImportRow { write: Err(error), ..row }
            }
        };
        self.waiting = Some(WaitingRow { number, row, since: Instant::now() });
        self.start_waiting();
    }

    /// The next result. `None` if a row ended without one, since it is to be repeated in another stream. Errors
    /// if the caller has no memory for a row. Waits forever if there are no rows. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<ImportResult>, Error> {
        loop {
            if let Some(finished) = self.ready.pop_front() {
                return Ok(self.take(finished));
            }
            if self.waiting.is_none() {
                match self.running.next().await {
                    Some(finished) => return Ok(self.take(finished)),
                    None => pending().await,
                }
            }
            if self.running.is_empty() {
                tokio::time::sleep(MEMORY_POLL).await;
            } else if let Ok(Some(finished)) = timeout(MEMORY_POLL, self.running.next()).await {
                let result = self.take(finished);
                self.start_waiting();
                return Ok(result);
            }
            if let Some(error) = self.start_waiting() {
                return Err(error);
            }
        }
    }

    /// Ends the stream. Has no effect if it has ended.
    pub fn end(&mut self, end: ImportEnd) {
        let outcome = match end {
            ImportEnd::Complete => "OK",
            ImportEnd::Drained => "DRAINED",
            ImportEnd::Stopped => "STOPPED",
            ImportEnd::Failed => "FAILED",
            ImportEnd::Cancelled => "CANCELLED",
        };
        self.end.get_or_insert((end, outcome));
    }

    /// Ends the stream with an error, which names the row in which it occurred.
    pub fn fail(&mut self, error: &Error) {
        self.end.get_or_insert_with(|| (ImportEnd::Failed, error.reason().as_str()));
    }

    /// The end of a halted stream whose rows have results. Errors if all rows would fail.
    pub fn halted(&self) -> Result<(), Error> {
        match &self.halt {
            Some(Halt::Failed(error)) => Err(error.clone()),
            Some(Halt::Stopped) | None => Ok(()),
        }
    }

    /// Starts the waiting row, if there is memory for it. Returns the error after which it waits no longer.
    fn start_waiting(&mut self) -> Option<Error> {
        let WaitingRow { number, row, since } = self.waiting.take()?;
        let bytes = ROW_OVERHEAD + COPIES * row.bytes;
        let mut charge = MemoryCharge::new(&self.ctx.memory);
        let rejected = charge.try_set(bytes).err();
        match rejected {
            None => {}
            // It fits later.
            Some(error) if error.reason() == Reason::Overloaded => {
                let is_late = self.running.is_empty() && since.elapsed() >= MEMORY_TIMEOUT;
                self.waiting = Some(WaitingRow { number, row, since });
                return is_late.then(|| in_row(number, error));
            }
            Some(error) => {
                let ImportRow { key, .. } = row;
                self.settle(number, key, 0, RowEnd::Answered(Err(error)));
                return None;
            }
        }
        let ImportRow { key, write, bytes: _ } = row;
        self.bytes += bytes;
        match write {
            Err(error) => self.settle(number, key, bytes, RowEnd::Answered(Err(error))),
            Ok(write) => {
                let run = RowRun {
                    service: self.service.clone(),
                    id: RequestId::from_uuid(self.settings.request_id(&key)),
                    validate_only: self.settings.validate_only,
                    ctx: self.row_context(charge),
                    write,
                };
                let memory = Arc::clone(&self.ctx.memory);
                let run = async move {
                    let end = run.run().await;
                    let mut charge = MemoryCharge::new(&memory);
                    charge.set(size_of_result(&end));
                    FinishedRow { number, key, end, bytes, _charge: charge }
                };
                self.running.push(run.boxed());
            }
        }
        None
    }

    fn settle(&mut self, number: u64, key: String, bytes: usize, end: RowEnd) {
        let charge = MemoryCharge::new(&self.ctx.memory);
        self.ready.push_back(FinishedRow { number, key, end, bytes, _charge: charge });
    }

    /// Context of a row, which holds its charge until its write has ended.
    fn row_context(&self, charge: MemoryCharge) -> CallContext {
        let held = Arc::new((self.ctx.guard.clone(), charge));
        let cost = Arc::new(CostMeter::shared_by(vec![Arc::clone(&self.ctx.cost)]));
        CallContext { cost, guard: Guard::new(&held), ..self.ctx.clone() }
    }

    fn take(&mut self, finished: FinishedRow) -> Option<ImportResult> {
        let FinishedRow { number, key, end, bytes, _charge } = finished;
        self.bytes -= bytes;
        let outcome = match end {
            RowEnd::Answered(outcome) => outcome,
            RowEnd::Open => return None,
            RowEnd::AllFail(error) => {
                self.halt.get_or_insert_with(|| Halt::Failed(in_row(number, error)));
                return None;
            }
        };
        self.service.imports.on_row(self.tally.add(&outcome));
        if self.tally.exceeds(self.settings.stop) {
            self.halt.get_or_insert(Halt::Stopped);
        }
        Some(ImportResult { key, outcome })
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        let (end, outcome) = self.end.unwrap_or((ImportEnd::Cancelled, "CANCELLED"));
        self.service.imports.on_end(end);
        audit::imported(&self.ctx, outcome, &self.tally);
    }
}

/// The error of a stream, with the number of the row in which it occurred.
fn in_row(number: u64, error: Error) -> Error {
    let text = format!("row {number}: {}", error.message());
    error.with_message(text)
}

fn size_of_result(end: &RowEnd) -> usize {
    match end {
        RowEnd::Answered(Ok(RowOutcome::Written { lead, .. })) => memory_of(&**lead),
        RowEnd::Answered(Ok(RowOutcome::Archived | RowOutcome::Valid)) | RowEnd::Open => 0,
        RowEnd::Answered(Err(error)) | RowEnd::AllFail(error) => memory_of(error),
    }
}

#[cfg(test)]
mod tests;
