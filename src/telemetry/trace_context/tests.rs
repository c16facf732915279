//! Parsing, formatting and sampling of trace contexts.

use proptest::prelude::*;

use super::*;

const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

#[test]
fn a_child_continues_the_trace_under_a_new_span() {
    let given = TraceContext::parse(GIVEN).unwrap();
    assert_eq!(given.to_string(), GIVEN);
    let child = given.child();
    assert_eq!(child.trace_id(), given.trace_id());
    assert_ne!(child.span_bytes(), given.span_bytes());
    assert!(child.is_sampled() && child.is_propagated());
    assert_eq!(child.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(!TraceContext::parse(&GIVEN.replace("-01", "-00")).unwrap().is_sampled());
    // Other flags are undefined and dropped.
    assert!(TraceContext::parse(&GIVEN.replace("-01", "-ff")).unwrap().is_sampled());
}

#[test]
fn a_malformed_traceparent_is_rejected() {
    let later = GIVEN.replacen("00", "cc", 1);
    assert!(TraceContext::parse(&later).is_some());
    assert!(TraceContext::parse(&format!("{later}-more")).is_some());
    for bad in [
        "",
        "00",
        &GIVEN[..54],
        &format!("{GIVEN}-more"),
        &format!("{later}more"),
        &GIVEN.replacen("00", "ff", 1),
        &GIVEN.to_uppercase(),
        &GIVEN.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
        &GIVEN.replace("00f067aa0ba902b7", &"0".repeat(16)),
        &GIVEN.replace('-', "_"),
        &GIVEN.replace("4b", "+b"),
    ] {
        assert_eq!(TraceContext::parse(bad), None, "{bad:?}");
    }
}

#[test]
fn tracestate_is_propagated_with_its_traceparent() {
    let both = [("traceparent", GIVEN), ("tracestate", "a=1"), ("tracestate", "b=2,c=3")];
    let context = TraceContext::from_headers(&headers(&both)).unwrap();
    assert_eq!(context.state(), Some("a=1,b=2,c=3"));
    let mut sent = HeaderMap::new();
    context.child().inject(&mut sent);
    assert_eq!(sent["tracestate"], "a=1,b=2,c=3");
    assert_eq!(TraceContext::from_headers(&sent).unwrap().trace_id(), context.trace_id());

    assert_eq!(TraceContext::from_headers(&headers(&[("tracestate", "a=1")])), None);
    let alone = TraceContext::from_headers(&headers(&[("traceparent", GIVEN)])).unwrap();
    assert_eq!(alone.state(), None);
    let long = format!("a={}", "x".repeat(MAX_STATE));
    let long = [("traceparent", GIVEN), ("tracestate", &long)];
    assert_eq!(TraceContext::from_headers(&headers(&long)).unwrap().state(), None);
}

#[test]
fn the_ratio_determines_the_fraction_of_sampled_traces() {
    let sampled =
        |ratio, traces| (0..traces).filter(|_| TraceContext::root(ratio).is_sampled()).count();
    assert_eq!((sampled(1.0, 1_000), sampled(0.0, 1_000)), (1_000, 0));
    let quarter = sampled(0.25, 10_000);
    assert!((2_200..2_800).contains(&quarter), "{quarter}");
    assert!(!TraceContext::root(1.0).is_propagated());
}

proptest! {
    #[test]
    fn garbage_never_panics(text in ".{0,70}") {
        let _ = TraceContext::parse(&text);
    }

    #[test]
    fn a_written_context_parses(ratio in 0.0..1.0_f64) {
        let context = TraceContext::root(ratio).propagated();
        prop_assert_eq!(TraceContext::parse(&context.to_string()), Some(context));
    }
}
