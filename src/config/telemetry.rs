//! `[trace]` and `[log]`: settings of span export and logging.

use leadsd_base::net::egress::Egress;

use super::{check::Checker, raw};
use crate::telemetry::{self, LogFormat, LogSettings, TraceSettings};

// === impl Checker ===

impl Checker<'_> {
    pub(super) fn trace(&mut self, raw: raw::Trace, egress: &Egress) -> Option<TraceSettings> {
        let raw::Trace { otlp_endpoint, ca_file, headers_file, sample_ratio, service_name } = raw;
        let is_text = |text: &str| !text.trim().is_empty() && !text.chars().any(char::is_control);
        if !is_text(&service_name) {
            self.add_error("trace.service_name", "must not be empty or contain control characters");
        }
        if !(0.0..=1.0).contains(&sample_ratio) {
            self.add_error("trace.sample_ratio", "must be 0.0 to 1.0");
        }
        let otlp_endpoint = match otlp_endpoint.as_str() {
            "" => None,
            url => Some(self.url("trace.otlp_endpoint", url)?),
        };
        Some(TraceSettings {
            otlp_endpoint,
            ca_file,
            headers_file,
            sample_ratio,
            service_name,
            egress: egress.clone(),
        })
    }

    pub(super) fn log(&mut self, raw: raw::Log) -> Option<LogSettings> {
        let raw::Log { level, format } = raw;
        if let Err(telemetry::Error::Filter(why)) = telemetry::filter(&level) {
            let text = format!("must be a filter such as info or info,leadsd=debug: {why}");
            self.add_error("log.level", text);
        }
        let format = match format.as_str() {
            "json" => LogFormat::Json,
            "pretty" => LogFormat::Pretty,
            _ => {
                self.add_error("log.format", "must be json or pretty");
                return None;
            }
        };
        Some(LogSettings { level, format })
    }
}
