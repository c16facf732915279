//! `leadsd import`: creates or updates a lead for each row of a file.
//!
//! - `args`, `mapping`: options, and the fields that columns set. `exit`: help on exit codes.
//! - `reader`: rows of NDJSON and CSV. `inputs`: rows of ImportLeads.
//! - `backlog`: rows without a result, in memory and in the file. `sender`: streams that write them.
//! - `results`: the file with one line for each row, from which an import continues. `row_set`: its rows.
//!
//! The whole file is read once before anything is sent: a row that cannot be read or mapped ends the command
//! without effect. Memory is bounded by the rows without a result.

mod args;
mod backlog;
mod exit;
mod inputs;
mod mapping;
mod reader;
mod results;
mod row_set;
mod sender;

use std::{path::Path, pin::pin, time::Duration};

use tokio::{
    task::{block_in_place, yield_now},
    time::{Instant, MissedTickBehavior, interval},
};

pub(super) use self::args::Args;
use self::{
    backlog::Backlog,
    inputs::{InputError, Inputs},
    mapping::Mapping,
    reader::{InvalidFile, Rows},
    results::{Options, Results, ResultsError, Totals},
    sender::Sender,
};
use super::{
    call::Exit,
    error::Error,
    file_kind::kind,
    output::print_line,
    progress::{Position, Progress, grouped, time_text},
    session::Session,
    signals::Signals,
    stopped::Stopped,
};
use crate::grpc::pb;

/// Property whose value is the record id.
const RECORD_ID: &str = "hs_object_id";

/// Maximum size of a response message in bytes: one lead.
const MAX_RESPONSE: usize = 64 << 20;

/// Number of rows that are read in one go before a signal is handled.
const SCAN: u64 = 1_000;

/// Number of ticks between two syncs of the results.
const SYNC_TICKS: u32 = 4;

/// Effect of an import that ended before its first row.
const NOTHING: &str = "Nothing was sent.";

/// Interval at which progress is shown.
const TICK: Duration = Duration::from_millis(250);

/// Import that is ready.
struct Import {
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
        Err(stopped) => return Ok(stopped.report(None, NOTHING).code()),
    };
    let mut progress = Progress::new("rows");
    let ended = import.send_all(&mut signals, &mut progress).await;
    import.sender.close().await;
    let synced = block_in_place(|| import.results.sync()).map_err(Stopped::from);
    let ended = ended.and(synced);
    progress.end();
    let totals = import.results.totals;
    let exit = match ended {
        Ok(()) => {
            print_line(&summary(&totals, &results_file, started.elapsed()));
            if totals.failed > 0 { Exit::InputsFailed } else { Exit::Ok }
        }
        Err(stopped) => {
            let kept = format!("{} rows have results.", grouped(totals.rows));
            stopped.report(Some(kept), NOTHING)
        }
    };
    Ok(exit.code())
}

/// Prepares the import: everything that can fail before something is sent.
async fn prepare(args: Args) -> Result<Import, Stopped> {
    let (format, compression) = kind(&args.file, args.format).map_err(Stopped::usage)?;
    let results_file = args.results_file();
    let Args { file, map, id_property, contact_id, clear_empty, dry_run, resume, force, .. } = args;
    let create_contacts = args.create_contacts;
    let session = Session::new(args.connect, MAX_RESPONSE).await.map_err(Stopped::usage)?;
    let mapping = Mapping::new(&map, id_property.as_deref()).creating_contacts(create_contacts);
    let file_bytes = std::fs::metadata(&file).map(|metadata| metadata.len());
    let file_bytes = file_bytes.map_err(|source| InvalidFile::Read { file: file.clone(), source });
    let options = Options {
        file_bytes: file_bytes.map_err(Stopped::usage)?,
        id_property,
        contact_id,
        create_contacts,
        clear_empty,
        dry_run,
        map: map.iter().map(ToString::to_string).collect(),
    };
    let open = || {
        let rows = Rows::open(&file, format, compression).map_err(Stopped::usage)?;
        Ok::<_, Stopped>(Inputs::new(rows, mapping.clone(), &options))
    };
    let rows = scan(open()?, &mapping).await?;
    let results = block_in_place(|| Results::open(&results_file, &options, resume, force))?;
    let settings = pb::ImportSettings {
        import_id: results.import_id(),
        stop_on_error_ratio: args.stop_on_error_ratio.unwrap_or_default(),
        validate_only: dry_run,
        ..Default::default()
    };
    let backlog = Backlog::new(open()?, rows, results.rows().clone());
    let sender = Sender::new(session, settings, backlog);
    Ok(Import { results, sender, rows })
}

/// Reads a file to its end; returns the number of rows.
async fn scan(mut inputs: Inputs, mapping: &Mapping) -> Result<u64, Stopped> {
    let mut rows = 0;
    let mut read = || -> Result<bool, InputError> {
        for _ in 0..SCAN {
            if inputs.next()?.is_none() {
                return Ok(false);
            }
            rows += 1;
        }
        Ok(true)
    };
    while block_in_place(&mut read).map_err(Stopped::usage)? {
        // A signal ends the command here.
        yield_now().await;
    }
    mapping.check(inputs.columns()).map_err(Stopped::usage)?;
    Ok(rows)
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
    /// Sends all rows that have no results yet.
    async fn send_all(
        &mut self,
        signals: &mut Signals,
        progress: &mut Progress,
    ) -> Result<(), Stopped> {
        let started = (Instant::now(), self.results.totals.rows);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut until_sync = SYNC_TICKS;
        loop {
            let mut next = pin!(self.sender.next());
            let result = loop {
                tokio::select! {
                    biased;
                    signal = signals.received() => return Err(Stopped::Signal(signal)),
                    // Before the results, which may arrive without a pause.
                    _ = ticks.tick() => {
                        progress.show(&position(&self.results, self.rows, started));
                        until_sync -= 1;
                        if until_sync == 0 {
                            until_sync = SYNC_TICKS;
                            block_in_place(|| self.results.sync())?;
                        }
                    }
                    result = &mut next => break result?,
                }
            };
            match result {
                Some(result) => block_in_place(|| self.results.add(&result))?,
                None => break,
            }
        }
        progress.show(&position(&self.results, self.rows, started));
        Ok(())
    }
}

/// Position after the rows with results. `started` is the time and number of rows at the start.
fn position(results: &Results, total: u64, started: (Instant, u64)) -> Position {
    let (at, first) = started;
    let (done, elapsed) = (results.totals.rows, at.elapsed());
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

impl From<ResultsError> for Stopped {
    fn from(error: ResultsError) -> Self {
        if error.is_usage() { Self::usage(error) } else { Self::File(error.to_string()) }
    }
}
