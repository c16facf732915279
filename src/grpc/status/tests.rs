//! Statuses of errors, and their agreement with the contract, the catalogue and the fixtures.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::{
    grpc::pb,
    leads::{FieldFault, LocalLimit, UpstreamFacts},
};

#[test]
fn details_carry_what_a_program_can_act_on() {
    let error = Error::new(Reason::RateLimited, "slow down")
        .with_retry_after(Duration::from_secs(10))
        .with_upstream(UpstreamFacts {
            http_status: Some(429),
            correlation_id: Some("c-1".to_owned()),
            policy_name: Some("TEN_SECONDLY_ROLLING".to_owned()),
            ..UpstreamFacts::default()
        })
        .with_internal("not for callers");
    let status = for_call(&error, "r-1", "https://example.com/errors");
    assert_eq!(status.code(), Code::ResourceExhausted);
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("RATE_LIMITED", "leadsd"));
    assert_eq!(info.metadata["correlationId"], "c-1");
    assert_eq!(info.metadata["httpStatus"], "429");
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(10)));
    assert_eq!(details.quota_failure().unwrap().violations[0].subject, "TEN_SECONDLY_ROLLING");
    assert_eq!(details.request_info().unwrap().request_id, "r-1");
    let help = &details.help().unwrap().links[0];
    assert_eq!(help.url, "https://example.com/errors#rate_limited");
    assert!(!format!("{status:?}").contains("not for callers"));
}

#[test]
fn the_contract_the_code_the_catalogue_and_the_fixtures_name_the_same_reasons() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let proto = read("proto/leadsd/v1/error_reason.proto");
    let catalogue = read("docs/ERRORS.md");
    for (index, reason) in Reason::ALL.into_iter().enumerate() {
        let name = reason.as_str();
        let value = pb::ErrorReason::from_str_name(&format!("ERROR_REASON_{name}"));
        assert_eq!(value.map(|value| value as usize), Some(index + 1), "{name}");
        let fixture: Fixture =
            serde_json::from_str(&read(&format!("tests/fixtures/errors/{name}.json"))).unwrap();
        assert_eq!(fixture.code, code_name(code(reason)), "{name}");
        assert_eq!((fixture.info.reason.as_str(), fixture.info.domain.as_str()), (name, DOMAIN));
        let known = [
            "httpStatus",
            "correlationId",
            "category",
            "subCategory",
            "policyName",
            "bucket",
            "requiredScopes",
            "existingId",
            "recordIds",
            "correctHublet",
            "attempts",
        ];
        assert!(fixture.info.metadata.keys().all(|key| known.contains(&key.as_str())), "{name}");
        let heading = format!("## {name}\n\n`{}`\n\n**Cause.** ", fixture.code);
        let at = catalogue.find(&heading).unwrap_or_else(|| panic!("{heading} in the catalogue"));
        let section = catalogue[at..].split("\n## ").next().unwrap();
        assert!(section.contains("**Fix.** "), "{name}");
        let sample = |text: &str| -> Info { serde_json::from_str(text.trim()).unwrap() };
        let to_proto = section.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
        assert_eq!(sample(to_proto), fixture.info, "{name}");
        let comment = proto.split(&format!("  ERROR_REASON_{name} = ")).next().unwrap();
        let sampled = comment.rsplit("// Sample:").next().unwrap();
        assert_eq!(sample(sampled.trim().trim_start_matches("//")), fixture.info, "{name}");
    }
    let files = std::fs::read_dir(root.join("tests/fixtures/errors")).unwrap().count();
    assert_eq!(files, Reason::ALL.len());
    assert_eq!(catalogue.matches("\n## ").count(), Reason::ALL.len());
    assert_eq!(proto.matches("  ERROR_REASON_").count(), Reason::ALL.len() + 1);
}

#[derive(serde::Deserialize)]
struct Fixture {
    code: String,
    info: Info,
}

#[derive(Debug, PartialEq, serde::Deserialize)]
struct Info {
    reason: String,
    domain: String,
    metadata: std::collections::BTreeMap<String, String>,
}

/// Name of a code in `google.rpc.Code`.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// Size of the response headers of a failed call as HTTP/2 counts them.
fn header_list_size(status: Status, request_id: &str) -> usize {
    let mut response = status.into_http::<tonic::body::Body>();
    let headers = response.headers_mut();
    let long_id = HeaderValue::from_str(request_id).unwrap();
    headers.insert("x-request-id", long_id);
    headers.insert("leadsd-quota-cost", HeaderValue::from_static("18446744073709551615.123456"));
    headers.insert("date", HeaderValue::from_static("Mon, 30 Nov 2026 00:00:00 GMT"));
    headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity,gzip,zstd"));
    let size = |name: &str, value: &[u8]| name.len() + value.len() + 32;
    let headers = response.headers();
    let all = headers.iter().map(|(name, value)| size(name.as_str(), value.as_bytes()));
    all.sum::<usize>() + size(":status", b"200")
}

/// Checks a status against its error: what it has, and that it says what is left out.
fn assert_fits(error: &Error, request_id: &str, docs: &str) {
    let status = for_call(error, request_id, docs);
    let size = header_list_size(status.clone(), request_id);
    assert!(size <= 8_192, "{size} bytes: {status:?}");
    assert_eq!(status.code(), code_of(error));
    let details = status.check_error_details().unwrap();
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, error.reason().as_str());
    assert_eq!(details.retry_info().is_some(), error.retry_after().is_some());
    let shown = details.bad_request().map_or(0, |request| request.field_violations.len());
    let omitted: usize =
        info.metadata.get(OMITTED_DETAILS).map_or(0, |omitted| omitted.parse().unwrap());
    if omitted == 0 {
        assert_eq!(shown, error.fields().len());
        assert!(details.request_info().is_some());
        assert_eq!(details.help().is_some(), !docs.is_empty());
    } else if shown > 0 {
        // The last one says how many were left out; only violations were.
        assert_eq!(shown - 1 + omitted, error.fields().len());
        let last = details.bad_request().unwrap().field_violations.last().unwrap();
        assert!(last.description.starts_with(&format!("{omitted} more details were left out")));
        assert!(details.request_info().is_some());
    } else {
        assert!(omitted >= error.fields().len());
    }
    let whole = error.message();
    match status.message().strip_suffix('…') {
        Some(start) if status.message() != whole => {
            assert!(whole.starts_with(start) && start.len() * 9 > 1_000, "{start}");
        }
        Some(_) | None => assert_eq!(status.message(), whole),
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9 ._]{0,40}",
        "\\PC{0,60}",
        (any::<char>(), 0_usize..3_000).prop_map(|(char, n)| String::from(char).repeat(n)),
        "[漢字a ]{0,700}",
    ]
}

fn error() -> impl Strategy<Value = Error> {
    let option = || prop::option::of(text());
    let upstream = (
        prop::option::of(any::<u16>()),
        [option(), option(), option(), option(), option(), option()],
        prop::collection::vec(text(), 0..6),
        any::<u32>(),
    )
        .prop_map(|(http_status, texts, required_scopes, attempts)| {
            let [correlation_id, category, sub_category, policy_name, existing_id, correct_hublet] =
                texts;
            UpstreamFacts {
                http_status,
                correlation_id,
                category,
                sub_category,
                policy_name,
                required_scopes,
                existing_id,
                correct_hublet,
                record_ids: Vec::new(),
                attempts,
            }
        });
    let fault = (text(), text()).prop_map(|(field, why)| FieldFault::new(field, why));
    let wait = prop::option::of(any::<u64>().prop_map(Duration::from_nanos));
    let limit = prop::option::of(Just(LocalLimit::Admission("memory")));
    let reason = prop::sample::select(&Reason::ALL[..]);
    (reason, text(), prop::collection::vec(fault, 0..40), upstream, wait, limit).prop_map(
        |(reason, message, faults, upstream, wait, limit)| {
            let mut error = Error::new(reason, message).with_fields(faults).with_upstream(upstream);
            error = wait.into_iter().fold(error, Error::with_retry_after);
            limit.into_iter().fold(error, Error::with_local_limit)
        },
    )
}

proptest! {
    #[test]
    fn the_status_of_any_error_fits_in_the_headers_that_clients_accept(
        error in error(),
        request_id in "[!-~]{1,128}",
        docs in prop_oneof![Just(String::new()), "https://[a-z./]{0,40}", "[a-z]{5000}"],
    ) {
        assert_fits(&error, &request_id, &docs);
    }
}

#[test]
fn large_errors_of_every_reason_fit() {
    let upstream = |text: &str| UpstreamFacts {
        http_status: Some(u16::MAX),
        correlation_id: Some(text.to_owned()),
        category: Some(text.to_owned()),
        sub_category: Some(text.to_owned()),
        policy_name: Some(text.to_owned()),
        required_scopes: vec![text.to_owned(); 20],
        existing_id: Some(text.to_owned()),
        correct_hublet: Some(text.to_owned()),
        record_ids: vec![text.to_owned(); 20],
        attempts: u32::MAX,
    };
    for char in ["x", " ", "漢", "\u{10ffff}", "\n"] {
        for reason in Reason::ALL {
            for faults in [0, 1, 20] {
                let text = char.repeat(9_000);
                let faults = (0..faults)
                    .map(|at| FieldFault::new(format!("inputs[{at}].{text}"), text.clone()));
                let error = Error::new(reason, text.clone())
                    .with_fields(faults.collect())
                    .with_retry_after(Duration::MAX)
                    .with_upstream(upstream(&text));
                assert_fits(&error, &"r".repeat(128), &text);
            }
        }
    }
}

#[test]
fn a_rejection_by_hubspot_with_many_options_keeps_its_first_violations() {
    let options = (0..60).map(|at| format!("option_{at}")).collect::<Vec<_>>().join(", ");
    let faults = (0..16).map(|at| {
        FieldFault::new(format!("properties[\"p_{at}\"]"), format!("v was not among: {options}"))
    });
    let error = Error::new(Reason::ValidationFailed, "not valid").with_fields(faults.collect());
    assert_fits(&error, "r-1", "");
    let details = for_call(&error, "r-1", "").get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    assert!(violations.len() > 5, "{violations:?}");
    assert_eq!(violations[0].field, "properties[\"p_0\"]");
    assert!(details.request_info().is_some());
    let message = Error::new(Reason::ValidationFailed, "漢".repeat(500));
    assert_fits(&message, "r-1", "");
    assert!(for_call(&message, "r-1", "").message().starts_with(&"漢".repeat(100)));
}

#[test]
fn an_unknown_outcome_whose_repeat_is_safe_is_unavailable() {
    let unknown = Error::new(Reason::WriteOutcomeUnknown, "unknown");
    assert_eq!(for_call(&unknown, "r-1", "").code(), Code::Unknown);
    let repeatable = unknown.with_retry_after(Duration::from_secs(2));
    assert_eq!(for_call(&repeatable, "r-1", "").code(), Code::Unavailable);
}

#[test]
fn a_batch_input_has_at_most_sixteen_violations_and_says_how_many_more() {
    let faults = (0..20).map(|at| FieldFault::new(format!("properties[{at}]"), "漢".repeat(400)));
    let error =
        Error::new(Reason::ValidationFailed, "漢".repeat(400)).with_fields(faults.collect());
    let item = for_item(&error);
    assert!(item.message.len() <= MAX_TEXT);
    let status = with_details(code_of(&error), "", Details::new(&error).to_vec());
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    assert_eq!(violations.len(), 17);
    assert!(violations[16].description.starts_with("4 more details"));
    assert!(violations.iter().all(|violation| violation.description.len() <= MAX_TEXT));
}

#[test]
fn an_item_has_the_same_status_as_a_call() {
    let error = Error::new(Reason::LeadNotFound, "HubSpot has no such lead");
    let item = for_item(&error);
    assert_eq!(item.code, i32::from(Code::NotFound));
    assert_eq!(item.message, "HubSpot has no such lead");
    assert_eq!(item.details.len(), 2);
}
