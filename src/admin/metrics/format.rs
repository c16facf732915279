//! Formats of `/metrics`: OpenMetrics for clients that ask for it, else Prometheus text.
//!
//! The encoder writes OpenMetrics. Prometheus text differs in the names of counters, in two types, and in
//! the end mark.

use std::fmt::Write as _;

/// Media type of OpenMetrics in an `Accept` header.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// Format of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) enum ScrapeFormat {
    OpenMetrics,
    PrometheusText,
}

// === impl ScrapeFormat ===

impl ScrapeFormat {
    /// The format that an `Accept` header prefers. Without a preference it is Prometheus text, which every
    /// client reads.
    pub(in crate::admin) fn negotiate(accept: &str) -> Self {
        let (mut open_metrics, mut text) = (0.0, 0.0_f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
            let quality: f32 = quality.unwrap_or(1.0);
            match name.as_str() {
                OPEN_METRICS => open_metrics = quality.max(open_metrics),
                "text/plain" | "text/*" | "*/*" => text = quality.max(text),
                _ => {}
            }
        }
        match open_metrics > 0.0 && open_metrics >= text {
            true => Self::OpenMetrics,
            false => Self::PrometheusText,
        }
    }

    /// Media type of the response.
    pub(in crate::admin) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::PrometheusText => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Converts a page of OpenMetrics to this format.
    pub(super) fn convert(self, page: String) -> String {
        match self {
            Self::OpenMetrics => page,
            Self::PrometheusText => prometheus_text(&page),
        }
    }
}

fn prometheus_text(page: &str) -> String {
    let mut out = String::with_capacity(page.len());
    // `HELP` comes before `TYPE`, which has the type that decides the name of both.
    let mut help = None;
    for line in page.lines() {
        if line.starts_with("# HELP ") {
            help = line.strip_prefix("# HELP ");
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                _ => ("", kind),
            };
            if let Some((_, text)) = help.take().and_then(|help: &str| help.split_once(' ')) {
                // Writing to a string does not fail.
                let _ = writeln!(out, "# HELP {name}{suffix} {text}");
            }
            let _ = writeln!(out, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with("# ") {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_header_selects_the_format() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
            application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in [
            prometheus,
            "application/openmetrics-text",
            "text/plain;q=0.1, Application/OpenMetrics-Text",
        ] {
            assert_eq!(ScrapeFormat::negotiate(accept), ScrapeFormat::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.2, text/plain;q=0.9",
            "application/openmetrics-text;q=x;q=0",
            "application/json",
            ",;,q=",
        ] {
            assert_eq!(ScrapeFormat::negotiate(accept), ScrapeFormat::PrometheusText, "{accept}");
        }
    }

    #[test]
    fn prometheus_text_names_counters_by_their_samples() {
        let page = "# HELP leadsd_calls Calls. With dots.\n# TYPE leadsd_calls counter\n\
            leadsd_calls_total{a=\"# TYPE x\"} 1\n# HELP leadsd_up Up.\n# TYPE leadsd_up gauge\n\
            # UNIT leadsd_up seconds\nleadsd_up 1.0\n# TYPE leadsd_build info\nleadsd_build_info 1\n\
            # HELP t_seconds Time.\n# TYPE t_seconds histogram\nt_seconds_bucket{le=\"+Inf\"} 1\n# EOF\n";
        let expected = "# HELP leadsd_calls_total Calls. With dots.\n\
            # TYPE leadsd_calls_total counter\nleadsd_calls_total{a=\"# TYPE x\"} 1\n\
            # HELP leadsd_up Up.\n# TYPE leadsd_up gauge\nleadsd_up 1.0\n\
            # TYPE leadsd_build_info gauge\nleadsd_build_info 1\n\
            # HELP t_seconds Time.\n# TYPE t_seconds histogram\nt_seconds_bucket{le=\"+Inf\"} 1\n";
        assert_eq!(ScrapeFormat::PrometheusText.convert(page.to_owned()), expected);
        assert_eq!(ScrapeFormat::OpenMetrics.convert(page.to_owned()), page);
    }
}
