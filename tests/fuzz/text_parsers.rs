//! Parsers of single texts: trace context, HubSpot headers, dates, secret paths, names, log
//! filters.

use http::{HeaderMap, HeaderName, HeaderValue};
use leadsd::telemetry::trace_context::TraceContext;
use leadsd::{config::duration, hubspot::RateLimits, leads::PortalName, telemetry};
use leadsd_base::time::{Zone, http_date};
use leadsd_credentials::SecretPath;

use crate::run::Run;

#[test]
fn text_parsers() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut run = Run::blocking("text_parsers");
    while let Some(mut random) = run.next() {
        for right in [
            TRACE,
            "Wed, 21 Oct 2026 07:28:00 GMT",
            "hubspot/default",
            "info,leadsd=debug,hyper[a{b=1}]=trace",
            "10ms",
            "Europe/Berlin",
        ] {
            let text = if random.one_in(4) { random.text() } else { random.mutated(right) };
            if let Some(context) = TraceContext::parse(&text) {
                let again = TraceContext::parse(&context.to_string());
                assert_eq!(
                    again.map(|again| again.trace_id()),
                    Some(context.trace_id()),
                    "{}",
                    run.failure(&text)
                );
            }
            let _ = http_date(&text);
            let _ = (duration(&text), Zone::parse(&text), telemetry::filter(&text).is_ok());
            let path = SecretPath::parse(&text);
            let name = PortalName::parse(&text);
            for clean in
                [path.as_ref().ok().map(SecretPath::as_str), name.as_ref().map(PortalName::as_str)]
                    .into_iter()
                    .flatten()
            {
                let leaves = clean.split('/').any(|part| part == "..")
                    || clean.contains(['%', '?', '#', '\0']);
                assert!(!leaves, "{}", run.failure(clean));
            }
        }
        let mut headers = HeaderMap::new();
        for name in ["max", "remaining", "interval-milliseconds", "daily", "daily-remaining"] {
            let name = HeaderName::try_from(format!("x-hubspot-ratelimit-{name}")).unwrap();
            let value = if random.one_in(2) { random.number().to_string() } else { random.text() };
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.insert(name, value);
            }
        }
        let _ = RateLimits::from_headers(&headers);
    }
}
