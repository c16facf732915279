//! Log layer, and the log filter, which can be replaced at run time.

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

use super::{
    json_lines::{JsonLines, JsonMembers},
    log_levels,
    log_target::LogTarget,
    log_writer::{LogWriter, LostLines},
    names::AUDIT_TARGET,
};

/// Targets whose events may contain secrets.
const SILENCED: [&str; 2] = ["rustify", "vaultrs"];

/// Filter in use; empty if logging is not set up.
static FILTER: ArcSwapOption<FilterHandle> = ArcSwapOption::const_empty();

/// Settings for the log on standard error.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Filter such as `info` or `info,leadsd=debug`. Default `info`.
    pub level: String,
    /// Format of a line. Default `json`.
    pub format: LogFormat,
}

/// Format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for reading at a terminal.
    Pretty,
}

/// Error of setting up logging or replacing the filter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is invalid. Contains the cause.
    #[error("log.level: {0}")]
    Filter(String),
    /// Logging is already set up in this process.
    #[error("logging is already set up")]
    AlreadySetUp,
    /// The writer thread cannot start.
    #[error("cannot start the log writer: {0}")]
    Writer(io::Error),
    /// Logging is not set up in this process.
    #[error("this process has no log filter")]
    NotSetUp,
}

/// Replaceable filter.
#[derive(Debug)]
struct FilterHandle {
    rules: ArcSwap<FilterRules>,
    text: ArcSwap<String>,
}

/// Filter, with rules that override it.
#[derive(Debug)]
struct FilterRules {
    filter: EnvFilter,
    /// True if a directive names a span. Otherwise the filter need not follow spans, which takes a lock for
    /// each.
    has_spans: bool,
    /// True if audit events are logged regardless of the filter.
    keeps_audit: bool,
}

/// Filter of the log layer.
#[derive(Debug, Clone)]
struct ReplaceableFilter(Arc<FilterHandle>);

/// Parses a log filter. Errors if it is invalid or names a silenced target.
pub fn filter(level: &str) -> Result<EnvFilter, Error> {
    if !level.is_ascii() {
        // The parser of EnvFilter panics on some non-ASCII text.
        return Err(Error::Filter("must be ASCII".to_owned()));
    }
    log_levels::check(level).map_err(Error::Filter)?;
    let mut targets = level.split(',').map(str::trim);
    if let Some(silent) = targets.find(|target| is_silent(target)) {
        return Err(Error::Filter(format!(
            "{silent}: this target is never logged, since its events may contain secrets"
        )));
    }
    let mut filter = EnvFilter::try_new(level).map_err(|error| Error::Filter(error.to_string()))?;
    for silent in SILENCED {
        let directive = format!("{silent}=off");
        filter = filter.add_directive(directive.parse().map_err(|_| Error::Filter(directive))?);
    }
    Ok(filter)
}

/// Builds the rules for a filter at startup. Audit events are kept unless the filter names their target.
fn rules(level: &str) -> Result<FilterRules, Error> {
    Ok(FilterRules {
        filter: filter(level)?,
        has_spans: level.contains('['),
        keeps_audit: !level.contains(AUDIT_TARGET),
    })
}

/// Builds the rules for a filter that replaces another one: audit events that are logged stay logged.
/// Errors if the filter demands otherwise.
fn replacing_rules(level: &str, current: &FilterRules) -> Result<FilterRules, Error> {
    let rules = rules(level)?;
    if !current.keeps_audit {
        return Ok(rules);
    }
    let named = level.split(',').map(str::trim).filter(|rule| rule.contains(AUDIT_TARGET));
    let keeps = |rule: &str| ["=info", "=debug", "=trace"].iter().any(|end| rule.ends_with(end));
    match named.clone().find(|rule| !keeps(&rule.to_ascii_lowercase())) {
        Some(rule) => Err(Error::Filter(format!(
            "{rule}: the audit trail cannot be switched off at run time; use at least info"
        ))),
        None => Ok(FilterRules { keeps_audit: true, ..rules }),
    }
}

fn is_silent(target: &str) -> bool {
    SILENCED.iter().any(|silent| target.starts_with(silent))
}

/// Filter in use; `None` if logging is not set up.
pub fn log_filter() -> Option<String> {
    FILTER.load().as_ref().map(|filter| filter.text.load().to_string())
}

/// Replaces the filter of the process.
pub fn set_log_filter(level: &str) -> Result<(), Error> {
    let handle = FILTER.load_full().ok_or(Error::NotSetUp)?;
    let rules = replacing_rules(level, &handle.rules.load())?;
    // Logged under the previous filter, since the new one may suppress it.
    warn!(log.filter = level, "Replaced the log filter");
    handle.rules.store(Arc::new(rules));
    handle.text.store(Arc::new(level.to_owned()));
    // Callsites cache their interest.
    tracing::callsite::rebuild_interest_cache();
    Ok(())
}

/// Starts the thread that writes log lines to standard error.
pub(super) fn start_writer() -> Result<LogWriter, Error> {
    let report = |lost: LostLines| {
        warn!(
            log.dropped = lost.total(),
            log.dropped_audit = lost.of_target(LogTarget::Audit),
            "Dropped log lines while standard error was blocked or failing"
        );
    };
    LogWriter::start(standard_error(), report).map_err(Error::Writer)
}

/// Standard error without the lock of the standard library. The thread would hold the lock while it is
/// blocked, and panic messages need it.
fn standard_error() -> Box<dyn Write + Send> {
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(File::from(descriptor)),
        Err(_) => Box::new(io::stderr()),
    }
}

/// Builds the layer that writes log lines. Its filter does not affect other layers.
pub(super) fn layer<S>(
    config: &LogSettings,
    writer: LogWriter,
) -> Result<impl Layer<S> + use<S>, Error>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let handle = Arc::new(FilterHandle {
        rules: ArcSwap::from_pointee(rules(&config.level)?),
        text: ArcSwap::from_pointee(config.level.clone()),
    });
    FILTER.store(Some(Arc::clone(&handle)));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    // Colors only at a terminal.
    let lines = if io::stderr().is_terminal() { lines } else { lines.with_ansi(false) };
    let lines = match config.format {
        // The innermost span identifies the call or task; outer spans add no information.
        LogFormat::Json => lines.fmt_fields(JsonMembers).event_format(JsonLines).boxed(),
        LogFormat::Pretty => lines.boxed(),
    };
    Ok(lines.with_filter(ReplaceableFilter(handle)))
}

// === impl FilterRules ===

impl FilterRules {
    /// Decision of the overriding rules; `None` if the filter decides.
    fn override_for(&self, metadata: &Metadata<'_>) -> Option<bool> {
        let is_audit = self.keeps_audit
            && metadata.target() == AUDIT_TARGET
            && *metadata.level() <= Level::INFO;
        if is_audit { Some(true) } else { is_silent(metadata.target()).then_some(false) }
    }
}

// === impl ReplaceableFilter ===

impl<S: Subscriber> Filter<S> for ReplaceableFilter {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        let rules = self.0.rules.load();
        // Required here as well: a span directive enables events of all targets inside the span.
        rules
            .override_for(metadata)
            .unwrap_or_else(|| Filter::enabled(&rules.filter, metadata, context))
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        let rules = self.0.rules.load();
        match rules.override_for(metadata) {
            Some(true) => Interest::always(),
            Some(false) => Interest::never(),
            None => Filter::<S>::callsite_enabled(&rules.filter, metadata),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let rules = self.0.rules.load();
        let hint = Filter::<S>::max_level_hint(&rules.filter);
        if rules.keeps_audit { hint.map(|hint| hint.max(LevelFilter::INFO)) } else { hint }
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let rules = self.0.rules.load();
        if rules.has_spans {
            Filter::on_new_span(&rules.filter, attributes, id, context);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let rules = self.0.rules.load();
        if rules.has_spans {
            Filter::on_record(&rules.filter, id, values, context);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let rules = self.0.rules.load();
        if rules.has_spans {
            Filter::on_enter(&rules.filter, id, context);
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let rules = self.0.rules.load();
        if rules.has_spans {
            Filter::on_exit(&rules.filter, id, context);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let rules = self.0.rules.load();
        if rules.has_spans {
            Filter::on_close(&rules.filter, id, context);
        }
    }
}
