//! Logs, and the filter that says what of all events is logged: it can be changed while the service
//! runs.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
    os::fd::AsFd as _,
    sync::Arc,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tracing::{
    Level, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
    warn,
};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{Context, Filter},
    registry::LookupSpan,
};

use super::{log_writer::LogWriter, names::AUDIT_TARGET};

/// Targets that may hold secrets in their events.
const SILENT: [&str; 2] = ["rustify", "vaultrs"];

/// The filter in use, if the service writes logs.
static SWITCH: ArcSwapOption<Switch> = ArcSwapOption::const_empty();

/// Settings for the log on standard error.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Filter such as `info` or `info,leadsd=debug`. Default `info`.
    pub level: String,
    /// Default `json`; `pretty` is for people.
    pub format: LogFormat,
}

/// Format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// Why logging could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter does not parse.
    #[error("log.level: {0}")]
    Filter(String),
    /// Somebody has set up logging in this process before.
    #[error("logging is set up already")]
    Twice,
    /// The thread that writes the log cannot start.
    #[error("the log writer cannot start: {0}")]
    Writer(io::Error),
    /// Nobody has.
    #[error("this process has no log filter")]
    NotSetUp,
}

/// A filter that can be exchanged.
#[derive(Debug)]
struct Switch {
    chosen: ArcSwap<Chosen>,
    text: ArcSwap<String>,
}

/// What is logged, with what holds whatever a filter says.
#[derive(Debug)]
struct Chosen {
    filter: EnvFilter,
    /// Whether the audit trail goes on even if the filter says nothing of it.
    keeps_audit: bool,
}

/// The filter in use, as the layer sees it.
#[derive(Debug, Clone)]
struct Through(Arc<Switch>);

/// What of all events is logged. The silent stay silent, and a `level` that names one is an error.
pub fn filter(level: &str) -> Result<EnvFilter, Error> {
    if !level.is_ascii() {
        // The parser takes its text apart between any two bytes, and panics within a letter.
        return Err(Error::Filter("it has other characters than ASCII".to_owned()));
    }
    let mut targets = level.split(',').map(str::trim);
    if let Some(silent) = targets.find(|target| is_silent(target)) {
        return Err(Error::Filter(format!("{silent}: this may hold secrets and is never logged")));
    }
    let mut filter = EnvFilter::try_new(level).map_err(|error| Error::Filter(error.to_string()))?;
    for silent in SILENT {
        let directive = format!("{silent}=off");
        filter = filter.add_directive(directive.parse().map_err(|_| Error::Filter(directive))?);
    }
    Ok(filter)
}

/// The same, with the audit trail unless `level` names it.
fn choose(level: &str) -> Result<Chosen, Error> {
    Ok(Chosen { filter: filter(level)?, keeps_audit: !level.contains(AUDIT_TARGET) })
}

fn is_silent(target: &str) -> bool {
    SILENT.iter().any(|silent| target.starts_with(silent))
}

/// The filter in use; `None` if the service writes no logs.
pub fn log_filter() -> Option<String> {
    SWITCH.load().as_ref().map(|switch| switch.text.load().to_string())
}

/// Changes the filter, for the whole process.
pub fn set_log_filter(level: &str) -> Result<(), Error> {
    let switch = SWITCH.load_full().ok_or(Error::NotSetUp)?;
    let chosen = choose(level)?;
    // Before it is in force: it may be the last that is logged.
    warn!(log.filter = level, "Log filter changed");
    switch.chosen.store(Arc::new(chosen));
    switch.text.store(Arc::new(level.to_owned()));
    // What each place in the code was told about its being of interest no longer holds.
    tracing::callsite::rebuild_interest_cache();
    Ok(())
}

/// Starts the thread that writes log lines to standard error.
pub(super) fn start_writer() -> Result<LogWriter, Error> {
    let report = |lost| warn!(log.lost = lost, "Lost log lines while standard error was blocked");
    LogWriter::start(standard_error(), report).map_err(Error::Writer)
}

/// Standard error without the lock of the standard library, which the thread would hold while it is
/// blocked: a panic message waits for that lock.
fn standard_error() -> Box<dyn Write + Send> {
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(File::from(descriptor)),
        Err(_) => Box::new(io::stderr()),
    }
}

/// The layer that writes lines, with a filter of its own: other layers see all there is.
pub(super) fn layer<S>(
    config: &LogSettings,
    writer: LogWriter,
) -> Result<impl Layer<S> + use<S>, Error>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let switch = Arc::new(Switch {
        chosen: ArcSwap::from_pointee(choose(&config.level)?),
        text: ArcSwap::from_pointee(config.level.clone()),
    });
    SWITCH.store(Some(Arc::clone(&switch)));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    // Colours are for a terminal, not for a file or a collector.
    let lines = if io::stderr().is_terminal() { lines } else { lines.with_ansi(false) };
    let lines = match config.format {
        // The innermost span says which call or task it is about; those around it add nothing.
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Pretty => lines.boxed(),
    };
    Ok(lines.with_filter(Through(switch)))
}

// === impl Chosen ===

impl Chosen {
    /// Whether this is logged, if that is not for the filter to say.
    fn fixed(&self, metadata: &Metadata<'_>) -> Option<bool> {
        let is_audit = self.keeps_audit
            && metadata.target() == AUDIT_TARGET
            && *metadata.level() <= Level::INFO;
        if is_audit { Some(true) } else { is_silent(metadata.target()).then_some(false) }
    }
}

// === impl Through ===

impl<S: Subscriber> Filter<S> for Through {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        let chosen = self.0.chosen.load();
        // A filter of spans lets everything through that is within them, whatever its target.
        chosen.fixed(metadata).unwrap_or_else(|| Filter::enabled(&chosen.filter, metadata, context))
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        let chosen = self.0.chosen.load();
        match chosen.fixed(metadata) {
            Some(true) => Interest::always(),
            Some(false) => Interest::never(),
            None => Filter::<S>::callsite_enabled(&chosen.filter, metadata),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let chosen = self.0.chosen.load();
        let hint = Filter::<S>::max_level_hint(&chosen.filter);
        if chosen.keeps_audit { hint.map(|hint| hint.max(LevelFilter::INFO)) } else { hint }
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        Filter::on_new_span(&self.0.chosen.load().filter, attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        Filter::on_record(&self.0.chosen.load().filter, id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        Filter::on_enter(&self.0.chosen.load().filter, id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        Filter::on_exit(&self.0.chosen.load().filter, id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        Filter::on_close(&self.0.chosen.load().filter, id, context);
    }
}
