//! `leadsd export`: writes all leads of a running service, or all that match, to a file.
//!
//! - `args`, `filter`: options. `exit`: help on exit codes.
//! - `source`: messages of ExportLeads across streams.
//! - `rows`, `columns`, `parquet`: leads as rows of a format.
//! - `output`: the partial file, and its name once it is complete. `state`: the position to resume from.
//!
//! Memory is bounded by one message, and one chunk or row group. A message is read when the rows of the one before
//! it were written.

mod args;
mod columns;
mod exit;
mod filter;
mod output;
mod parquet;
mod rows;
mod source;
mod state;

use std::{path::Path, pin::pin, time::Duration};

use tokio::{
    task::block_in_place,
    time::{Instant, MissedTickBehavior, interval},
};

pub(super) use self::args::Args;
use self::{
    output::{Output, OutputError},
    parquet::{ColumnType, ColumnTypes},
    rows::{RowError, Rows},
    source::{Source, property_definitions},
    state::{ALL, Paths, Selection, State},
};
use super::{
    call::Exit,
    error::Error,
    output::{print_line, print_progress},
    progress::{Position, Progress, grouped, time_text},
    quota_usage::QuotaUsage,
    session::{Session, SessionError},
    signals::Signals,
    stopped::Stopped,
};
use crate::{cli::file_kind::Format, grpc::pb};

/// Maximum time between two states. A process that is killed loses the leads of this time.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);

/// Effect of an export that ended before its first lead.
const NOTHING: &str = "Nothing was written.";

/// Interval at which progress is shown.
const TICK: Duration = Duration::from_millis(250);

/// Export that writes a file.
#[derive(Debug)]
struct Export {
    output: Output,
    /// `None` before the columns are known.
    rows: Option<Rows>,
    /// Types of properties, for Parquet.
    types: ColumnTypes,
    /// True if the file has what comes before the first row.
    has_begun: bool,
    state: State,
    position: Position,
    /// True if there are rows that the stored state does not name.
    is_dirty: bool,
    checkpointed: Option<Instant>,
    /// Number of leads of the stored state; `None` if none was stored.
    kept: Option<u64>,
}

/// Runs the command; returns its exit code.
pub(super) async fn run(args: Args) -> Result<u8, Error> {
    let mut signals = Signals::listen()?;
    let started = Instant::now();
    let out = args.out.clone();
    let prepared = tokio::select! {
        biased;
        signal = signals.received() => Err(Stopped::Signal(signal)),
        prepared = prepare(args) => prepared,
    };
    let (mut export, mut source) = match prepared {
        Ok(prepared) => prepared,
        Err(stopped) => return Ok(stopped.report(None, NOTHING).code()),
    };
    let mut progress = Progress::new("leads");
    let ended = export.receive(&mut source, &mut signals, &mut progress).await;
    source.close().await;
    let counts = export.state.counts;
    let exit = match ended {
        Ok(()) => match block_in_place(|| export.output.complete()) {
            Ok(bytes) => {
                progress.end();
                report_complete(&out, counts, bytes, started.elapsed());
                Exit::Ok
            }
            Err(error) => Stopped::from(error).report(None, NOTHING),
        },
        Err(stopped) => {
            let kept = block_in_place(|| export.keep(&stopped));
            progress.end();
            match kept {
                Ok(kept) => stopped.report(kept.map(kept_text), NOTHING),
                Err(error) => Stopped::from(error).report(None, NOTHING),
            }
        }
    };
    Ok(exit.code())
}

/// Prepares the export: everything that can fail before something is sent, then the columns.
async fn prepare(args: Args) -> Result<(Export, Source), Stopped> {
    let (format, compression) = args.kind().map_err(Stopped::usage)?;
    let paths = Paths::new(&args.out);
    let selection = Selection::new(&args, format, compression);
    let earlier = match args.resume {
        true => State::load(&paths.state, &selection).map_err(Stopped::usage)?,
        false => None,
    };
    Output::check(&paths, args.resume, args.force)?;
    let session = Session::new(args.connect, args.max_response_size).await;
    let session = session.map_err(Stopped::usage)?;
    let mut state = earlier.unwrap_or_else(|| State::new(selection));
    let filters: Vec<_> = args.filters.iter().map(|condition| condition.to_filter()).collect();
    let filter_groups =
        if filters.is_empty() { Vec::new() } else { vec![pb::FilterGroup { filters }] };
    let request = pb::ExportLeadsRequest {
        query: state.selection.query.clone(),
        filter_groups,
        properties: state.selection.properties.clone(),
        properties_with_history: state.selection.history.clone(),
        associations: state.selection.associations.clone(),
        resume_token: state.resume_token.clone(),
        typed: format == Format::Parquet,
        display: false,
    };
    let has_begun = state.bytes > 0;
    let mut types = ColumnTypes::new();
    if !has_begun && format.has_columns() {
        (state.columns, types) = columns(&session, &state.selection).await?;
    }
    let has_rows = has_begun || !format.has_columns() || !state.columns.is_empty();
    let rows = has_rows.then(|| Rows::new(&state.selection, &state.columns, &types)).transpose()?;
    let output = Output::open(paths, compression, state.bytes)?;
    let export = Export {
        output,
        rows,
        types,
        has_begun,
        position: Position { done: state.counts.leads, ..Position::default() },
        is_dirty: false,
        checkpointed: None,
        kept: has_begun.then_some(state.counts.leads),
        state,
    };
    Ok((export, Source::new(session, request)))
}

/// Names of the properties with a column, if they are known before the first lead, and their types in
/// Parquet.
async fn columns(
    session: &Session,
    selection: &Selection,
) -> Result<(Vec<String>, ColumnTypes), SessionError> {
    let mut names: Vec<String> =
        selection.properties.iter().filter(|name| *name != ALL).cloned().collect();
    let has_all = names.len() < selection.properties.len();
    let mut types = ColumnTypes::new();
    if has_all || selection.format == Format::Parquet {
        for property in property_definitions(session).await? {
            types.insert(property.name.clone(), ColumnType::new(&property));
            if has_all {
                names.push(property.name);
            }
        }
    }
    Ok((names, types))
}

/// Names of the properties that a lead was read with.
fn selected(leads: &[pb::Lead]) -> Vec<String> {
    let lead = leads.iter().find(|lead| !lead.id_only);
    let mut names: Vec<String> = lead.map_or_else(Vec::new, |lead| {
        let values = lead.properties.keys().chain(lead.typed_properties.keys());
        values.chain(&lead.unset_properties).cloned().collect()
    });
    names.sort();
    names
}

fn report_complete(out: &Path, counts: state::Counts, bytes: u64, elapsed: Duration) {
    let leads = grouped(counts.leads);
    print_line(&format!(
        "Exported {leads} leads to {} ({} bytes) in {}",
        out.display(),
        grouped(bytes),
        time_text(elapsed)
    ));
    if counts.id_only > 0 {
        print_progress(&format!(
            "leadsd: {} leads are too large for a message: the file has only their ids",
            grouped(counts.id_only)
        ));
    }
    if counts.other_types > 0 {
        print_progress(&format!(
            "leadsd: {} values are not of the type of their property: the file has none for them",
            grouped(counts.other_types)
        ));
    }
    if counts.truncated > 0 {
        print_progress(&format!(
            "leadsd: {} lists of associated records are incomplete: ListLeadAssociations has the rest",
            grouped(counts.truncated)
        ));
    }
}

// === impl Export ===

impl Export {
    /// Writes all messages to the end of the export.
    async fn receive(
        &mut self,
        source: &mut Source,
        signals: &mut Signals,
        progress: &mut Progress,
    ) -> Result<(), Stopped> {
        let quota = progress.is_bar().then(|| {
            QuotaUsage::start(source.channel(), source.origin().clone(), source.metadata().clone())
        });
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut next = pin!(source.next());
            let message = loop {
                tokio::select! {
                    biased;
                    signal = signals.received() => return Err(Stopped::Signal(signal)),
                    message = &mut next => break message?,
                    _ = ticks.tick() => {
                        self.position.note = quota.as_ref().map(QuotaUsage::text).unwrap_or_default();
                        progress.show(&self.position);
                        block_in_place(|| self.checkpoint_if_due())?;
                    }
                }
            };
            let is_complete = message.complete;
            block_in_place(|| self.write(message))?;
            if is_complete {
                progress.show(&self.position);
                return Ok(());
            }
        }
    }

    fn write(&mut self, message: pb::ExportLeadsResponse) -> Result<(), Stopped> {
        let pb::ExportLeadsResponse { leads, resume_token, progress, complete, labels_error: _ } =
            message;
        let rows = match &mut self.rows {
            Some(rows) => rows,
            None if leads.is_empty() && !complete => return Ok(()),
            none => {
                self.state.columns = selected(&leads);
                none.insert(Rows::new(&self.state.selection, &self.state.columns, &self.types)?)
            }
        };
        let buffer = self.output.rows();
        let length = buffer.len();
        let begun = if self.has_begun { Ok(()) } else { rows.begin(buffer) };
        let added = begun.and_then(|()| rows.add(buffer, &leads));
        let ended = added.and_then(|()| if complete { rows.end(buffer) } else { Ok(()) });
        if let Err(error) = ended {
            // No row of this message must remain: the token is that of the message before.
            buffer.truncate(length);
            return Err(error.into());
        }
        self.has_begun = true;
        self.output.added()?;
        self.is_dirty = true;
        self.state.counts.add(&leads);
        self.state.counts.other_types = rows.other_types();
        self.state.resume_token = resume_token;
        let progress = progress.unwrap_or_default();
        let remaining = progress.remaining_time.and_then(|time| time.try_into().ok());
        let total = progress.total.and_then(|total| u64::try_from(total).ok());
        self.position = Position {
            done: self.state.counts.leads,
            total,
            remaining,
            note: std::mem::take(&mut self.position.note),
        };
        self.checkpoint_if_due()?;
        Ok(())
    }

    /// Stores the first message at once, so that an export can be resumed from then on.
    fn checkpoint_if_due(&mut self) -> Result<(), OutputError> {
        let is_due = self.checkpointed.is_none_or(|at| at.elapsed() >= CHECKPOINT_INTERVAL)
            && self.state.selection.format.can_be_continued();
        if self.is_dirty && is_due { self.checkpoint() } else { Ok(()) }
    }

    fn checkpoint(&mut self) -> Result<(), OutputError> {
        self.output.checkpoint(&mut self.state)?;
        self.is_dirty = false;
        self.checkpointed = Some(Instant::now());
        self.kept = Some(self.state.counts.leads);
        Ok(())
    }

    /// Keeps what has arrived, so that the export can be resumed. Returns the number of leads; `None` if
    /// there is nothing to resume.
    fn keep(mut self, stopped: &Stopped) -> Result<Option<u64>, OutputError> {
        match stopped {
            // The partial file is in an unknown state behind the last checkpoint.
            Stopped::File(_) => return Ok(self.kept),
            Stopped::Usage(_) | Stopped::Failed(_) | Stopped::Lead(_) | Stopped::Signal(_) => {}
        }
        if self.is_dirty && self.state.selection.format.can_be_continued() {
            self.checkpoint()?;
        }
        if self.kept.is_none() {
            self.output.discard()?;
        }
        Ok(self.kept)
    }
}

// === impl Stopped ===

impl From<OutputError> for Stopped {
    fn from(error: OutputError) -> Self {
        if error.is_usage() { Self::usage(error) } else { Self::File(error.to_string()) }
    }
}

impl From<RowError> for Stopped {
    fn from(error: RowError) -> Self {
        Self::Lead(error.to_string())
    }
}

/// The sentence on the leads of a partial file.
fn kept_text(leads: u64) -> String {
    format!("Kept {} leads.", grouped(leads))
}
