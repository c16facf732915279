//! `leadsd import`: creates or updates a lead for each row of a file.
//!
//! - `args`, `mapping`: options, and the fields that columns set. `exit`: help on exit codes.
//! - `reader`: rows of NDJSON and CSV. `chunk`: rows that are sent together.
//! - `sender`: batches, repeated with the same request id until each row has a result.
//! - `results`: the file with one line for each row, from which an import continues.
//!
//! The whole file is read once before anything is sent: a row that cannot be read or mapped ends the command
//! without effect. Memory is bounded by one chunk.

mod args;
mod chunk;
mod exit;
mod mapping;
mod reader;
mod results;
mod sender;

use std::{collections::BTreeSet, env::args_os, path::Path, pin::pin, time::Duration};

use tokio::{
    task::{block_in_place, yield_now},
    time::{Instant, MissedTickBehavior, interval},
};

pub(super) use self::args::Args;
use self::{
    chunk::{ChunkError, Chunks},
    mapping::{InvalidMapping, Mapping},
    reader::{InvalidFile, Rows},
    results::{Options, Results, ResultsError, Totals},
    sender::Sender,
};
use super::{
    call::{Exit, Failure, one_line},
    client::{DialError, InvalidTarget, Target},
    error::Error,
    file_kind::{NoFormat, kind},
    hardening::deny_debugging,
    invocation::resume_command,
    output::{print_last, print_line},
    progress::{Position, Progress, grouped, time_text},
    session::{Session, SessionError},
    signals::Signals,
};

/// Property whose value is the record id.
const RECORD_ID: &str = "hs_object_id";

/// Maximum size of a response in bytes: 1,000 results of a batch fit in 4 MiB.
const MAX_RESPONSE: usize = 64 << 20;

/// Interval at which progress is shown.
const TICK: Duration = Duration::from_millis(250);

/// Error of the command line, a profile or a file; nothing was sent.
#[derive(Debug, thiserror::Error)]
enum UsageError {
    #[error(transparent)]
    Format(#[from] NoFormat),
    #[error(transparent)]
    File(#[from] InvalidFile),
    #[error(transparent)]
    Mapping(#[from] InvalidMapping),
    #[error(transparent)]
    Row(#[from] ChunkError),
    #[error(transparent)]
    Results(ResultsError),
    #[error(transparent)]
    Target(#[from] InvalidTarget),
    #[error(transparent)]
    Dial(DialError),
    #[error(transparent)]
    Process(#[from] Error),
}

/// End of an import that is not complete.
#[derive(Debug)]
enum Stopped {
    Usage(UsageError),
    Failed(Box<Failure>),
    /// The results cannot be written.
    Results(ResultsError),
    Signal(u8),
}

/// Import that is ready.
struct Import {
    chunks: Chunks,
    results: Results,
    sender: Sender,
    /// Number of all rows.
    rows: u64,
}

/// Runs the command; returns its exit code.
pub(super) async fn run(args: Args) -> Result<u8, Error> {
    let mut signals = Signals::listen()?;
    let started = Instant::now();
    let results_file = args.results_file();
    let prepared = tokio::select! {
        biased;
        signal = signals.received() => Err(Stopped::Signal(signal)),
        prepared = prepare(args) => prepared,
    };
    let mut import = match prepared {
        Ok(import) => import,
        Err(stopped) => return Ok(stopped.report(None).code()),
    };
    let mut progress = Progress::new("rows");
    let ended = import.send_all(&mut signals, &mut progress).await;
    import.sender.close().await;
    progress.end();
    let totals = import.results.totals;
    let exit = match ended {
        Ok(()) => {
            print_line(&summary(&totals, &results_file, started.elapsed()));
            if totals.failed > 0 { Exit::InputsFailed } else { Exit::Ok }
        }
        Err(stopped) => stopped.report(Some(totals.rows)),
    };
    Ok(exit.code())
}

/// Prepares the import: everything that can fail before something is sent.
async fn prepare(args: Args) -> Result<Import, Stopped> {
    let (format, compression) = kind(&args.file, args.format).map_err(UsageError::Format)?;
    let results_file = args.results_file();
    let Args { file, map, id_property, contact_id, clear_empty, dry_run, resume, force, .. } = args;
    let target = Target::new(args.connect).map_err(UsageError::Target)?;
    if target.has_token() {
        deny_debugging().map_err(UsageError::Process)?;
    }
    let session = Session::new(target, MAX_RESPONSE).await.map_err(UsageError::Target)?;
    let mapping = Mapping::new(&map, id_property.as_deref());
    let unreadable = |source| InvalidFile::Read { file: file.clone(), source };
    let file_bytes = std::fs::metadata(&file).map(|metadata| metadata.len());
    let options = Options {
        file_bytes: file_bytes.map_err(unreadable).map_err(UsageError::File)?,
        id_property: id_property.clone(),
        contact_id,
        clear_empty,
        dry_run,
        map: map.iter().map(ToString::to_string).collect(),
    };
    let open = || {
        let rows = Rows::open(&file, format, compression).map_err(UsageError::File)?;
        Ok::<_, UsageError>(Chunks::new(rows, mapping.clone(), &options))
    };
    let (rows, ends) = scan(open()?, &mapping).await?;
    let mut results = block_in_place(|| Results::open(&results_file, &options, resume, force))?;
    block_in_place(|| results.keep_chunks(|done| ends.contains(&done)))?;
    let sender = Sender::new(session, id_property, dry_run);
    Ok(Import { chunks: open()?, results, sender, rows })
}

/// Reads a file to its end; returns the number of rows, and those before each end of a chunk.
async fn scan(mut chunks: Chunks, mapping: &Mapping) -> Result<(u64, BTreeSet<u64>), UsageError> {
    let (mut rows, mut ends) = (0, BTreeSet::new());
    while let Some(chunk) = block_in_place(|| chunks.next())? {
        rows += chunk.inputs.len() as u64;
        ends.insert(rows);
        // A signal ends the command between two chunks.
        yield_now().await;
    }
    mapping.check(chunks.columns())?;
    Ok((rows, ends))
}

/// Totals in words, such as `1,000 rows: 990 created, 10 failed; results in leads.csv.results.ndjson`.
fn summary(totals: &Totals, results: &Path, elapsed: Duration) -> String {
    let parts: Vec<_> = [
        (totals.created, "created"),
        (totals.updated, "updated"),
        (totals.written, "written"),
        (totals.valid, "valid"),
        (totals.failed, "failed"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, name)| format!("{} {name}", grouped(count)))
    .collect();
    let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    format!(
        "{} rows{parts} in {}; results in {}",
        grouped(totals.rows),
        time_text(elapsed),
        results.display()
    )
}

// === impl Import ===

impl Import {
    /// Sends all chunks that have no results yet.
    async fn send_all(
        &mut self,
        signals: &mut Signals,
        progress: &mut Progress,
    ) -> Result<(), Stopped> {
        let started = (Instant::now(), self.results.rows());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Some(chunk) = block_in_place(|| self.chunks.next()).map_err(UsageError::Row)? {
            if chunk.first_row <= self.results.rows() {
                continue;
            }
            let request_id = self.results.request_id(chunk.first_row);
            let mut send = pin!(self.sender.send(&chunk, &request_id));
            let results = loop {
                tokio::select! {
                    biased;
                    signal = signals.received() => return Err(Stopped::Signal(signal)),
                    results = &mut send => break results?,
                    _ = ticks.tick() => progress.show(&position(&self.results, self.rows, started)),
                }
            };
            block_in_place(|| self.results.add(&results))?;
        }
        progress.show(&position(&self.results, self.rows, started));
        Ok(())
    }
}

/// Position after the rows with results. `started` is the time and number of rows at the start.
fn position(results: &Results, total: u64, started: (Instant, u64)) -> Position {
    let (at, first) = started;
    let (done, elapsed) = (results.rows(), at.elapsed());
    let sent = u32::try_from(done - first).ok().filter(|sent| *sent > 0);
    let left = u32::try_from(total - done).ok();
    let remaining = sent.zip(left).map(|(sent, left)| elapsed / sent * left);
    let note = match results.totals.failed {
        0 => String::new(),
        failed => format!("{} failed", grouped(failed)),
    };
    Position { done, total: Some(total), remaining, note }
}

// === impl Stopped ===

impl Stopped {
    /// Reports the end. `done` is the number of rows with results, if the import can be resumed.
    fn report(self, done: Option<u64>) -> Exit {
        let (text, exit) = match self {
            Self::Usage(error) => (one_line(&error.to_string()).into_owned(), Exit::Usage),
            Self::Failed(failure) => {
                (failure.text().trim_end().to_owned(), Exit::Failed(failure.code))
            }
            Self::Results(error) => (one_line(&error.to_string()).into_owned(), Exit::Output),
            Self::Signal(number) => ("interrupted".to_owned(), Exit::Signal(number)),
        };
        let resume = match (done, exit) {
            (_, Exit::Usage) => String::new(),
            (Some(rows), _) => format!(
                "\n{} rows have results. To continue:\n  {}",
                grouped(rows),
                resume_command(args_os())
            ),
            (None, _) => "\nNothing was sent.".to_owned(),
        };
        print_last(format!("leadsd: {text}{resume}"));
        exit
    }
}

impl From<UsageError> for Stopped {
    fn from(error: UsageError) -> Self {
        Self::Usage(error)
    }
}

impl From<ResultsError> for Stopped {
    fn from(error: ResultsError) -> Self {
        if error.is_usage() {
            Self::Usage(UsageError::Results(error))
        } else {
            Self::Results(error)
        }
    }
}

impl From<SessionError> for Stopped {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Usage(error) => Self::Usage(UsageError::Dial(error)),
            SessionError::Failed(failure) => Self::Failed(failure),
        }
    }
}
