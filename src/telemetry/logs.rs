//! Logs, and the filter that says what of all events is logged: it can be changed while the service
//! runs.

use std::{io::IsTerminal as _, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};
use tracing::{
    Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{Context, Filter},
    registry::LookupSpan,
};

use crate::config::{Log, LogFormat};

/// Targets that may hold secrets in their events.
const SILENT: [&str; 2] = ["rustify=off", "vaultrs=off"];

/// The filter in use, if the service writes logs.
static SWITCH: ArcSwapOption<Switch> = ArcSwapOption::const_empty();

/// Why logging could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter does not parse.
    #[error("log.level: {0}")]
    Filter(String),
    /// Somebody has set up logging in this process before.
    #[error("logging is set up already")]
    Twice,
    /// Nobody has.
    #[error("logs are not written by this service")]
    NotSetUp,
}

/// A filter that can be exchanged.
#[derive(Debug)]
struct Switch {
    filter: ArcSwap<EnvFilter>,
    text: ArcSwap<String>,
}

/// The filter in use, as the layer sees it.
#[derive(Debug, Clone)]
struct Through(Arc<Switch>);

/// What of all events is logged. Whatever `level` says, the silent stay silent.
pub fn filter(level: &str) -> Result<EnvFilter, Error> {
    if !level.is_ascii() {
        // The parser takes its text apart between any two bytes, and panics within a letter.
        return Err(Error::Filter("it has other characters than ASCII".to_owned()));
    }
    let mut filter = EnvFilter::try_new(level).map_err(|error| Error::Filter(error.to_string()))?;
    for silent in SILENT {
        let directive = silent.parse().map_err(|_| Error::Filter(silent.to_owned()))?;
        filter = filter.add_directive(directive);
    }
    Ok(filter)
}

/// The filter in use; `None` if the service writes no logs.
pub fn log_filter() -> Option<String> {
    SWITCH.load().as_ref().map(|switch| switch.text.load().to_string())
}

/// Changes the filter, for the whole process.
pub fn set_log_filter(level: &str) -> Result<(), Error> {
    let switch = SWITCH.load_full().ok_or(Error::NotSetUp)?;
    switch.filter.store(Arc::new(filter(level)?));
    switch.text.store(Arc::new(level.to_owned()));
    // What each place in the code was told about its being of interest no longer holds.
    tracing::callsite::rebuild_interest_cache();
    Ok(())
}

/// The layer that writes lines, with a filter of its own: other layers see all there is.
pub(super) fn layer<S>(config: &Log) -> Result<impl Layer<S> + use<S>, Error>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let switch = Arc::new(Switch {
        filter: ArcSwap::from_pointee(filter(&config.level)?),
        text: ArcSwap::from_pointee(config.level.clone()),
    });
    SWITCH.store(Some(Arc::clone(&switch)));
    // It would say on the same stderr that nothing can be written to it, and panic: when whoever reads
    // the log has gone, calls must be served all the same.
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    // Colours are for a terminal, not for a file or a collector.
    let lines = if std::io::stderr().is_terminal() { lines } else { lines.with_ansi(false) };
    let lines = match config.format {
        // The innermost span says which call or task it is about; those around it add nothing.
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Pretty => lines.boxed(),
    };
    Ok(lines.with_filter(Through(switch)))
}

// === impl Through ===

impl<S: Subscriber> Filter<S> for Through {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        Filter::enabled(&**self.0.filter.load(), metadata, context)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        Filter::<S>::callsite_enabled(&**self.0.filter.load(), metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::<S>::max_level_hint(&**self.0.filter.load())
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        Filter::on_new_span(&**self.0.filter.load(), attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        Filter::on_record(&**self.0.filter.load(), id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        Filter::on_enter(&**self.0.filter.load(), id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        Filter::on_exit(&**self.0.filter.load(), id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        Filter::on_close(&**self.0.filter.load(), id, context);
    }
}
