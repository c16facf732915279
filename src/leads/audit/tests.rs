//! The events of writes, as the log has them.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use leadsd_testkit::LogCapture;
use tracing::dispatcher::DefaultGuard;
use tracing_subscriber::EnvFilter;

use super::*;
use crate::leads::testing::RecordingUpstream;

struct Written(Tally);

// === impl Written ===

impl Tallied for Written {
    fn tally(&self) -> Tally {
        let Tally { ids, done, failed, error } = &self.0;
        Tally { ids: ids.clone(), done: *done, failed: failed.clone(), error: *error }
    }
}

fn capture(level: &str) -> (LogCapture, DefaultGuard) {
    let logs = LogCapture::default();
    let filter = EnvFilter::new(format!("leadsd::audit={level}"));
    let guard = tracing::dispatcher::set_default(&logs.dispatch(filter));
    (logs, guard)
}

fn context() -> CallContext {
    RecordingUpstream::new(|_, _| Err(rejected())).context(None)
}

fn rejected() -> Error {
    Error::new(Reason::ValidationFailed, "the value is invalid")
}

/// A tally of these results.
fn tally(results: &[Result<&str, Error>]) -> Tally {
    let mut tally = Tally::default();
    for result in results {
        tally.add(&result.clone().map(str::to_owned), |id| Some(id));
    }
    tally
}

/// The only event so far.
fn only(logs: &LogCapture) -> String {
    let events = logs.events("leadsd::audit", "call-1");
    assert_eq!(events.len(), 1, "{events:#?}");
    events[0].clone()
}

#[track_caller]
fn assert_has(event: &str, fields: &[&str]) {
    for field in fields {
        assert!(event.contains(field), "no {field} in {event}");
    }
}

async fn write(operation: &'static str, ids: &[&str], inputs: usize, tally: Tally) {
    let ids: Vec<_> = ids.iter().map(|id| LeadId::parse(id).expect("a valid id")).collect();
    let entry = AuditEntry::new(&context(), operation, inputs).about(ids.iter());
    entry.run(std::future::ready(Written(tally))).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_is_one_event_with_its_caller_and_its_lead() {
    let (logs, _guard) = capture("info");
    write("UpdateLead", &["7"], 1, tally(&[Ok("7")])).await;
    let event = only(&logs);
    assert_has(
        &event,
        &[
            "audit.operation=\"UpdateLead\"",
            "audit.outcome=\"OK\"",
            "audit.replayed=false",
            "audit.inputs=1",
            "caller=\"web\"",
            "caller.authenticated=false",
            "portal=\"default\"",
            "lead.id=\"7\"",
        ],
    );
    assert!(!event.contains("audit.outcomes"), "{event}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_has_its_reason_and_the_lead_that_the_request_names() {
    let (logs, _guard) = capture("info");
    write("ArchiveLead", &["7"], 1, tally(&[Err(rejected())])).await;
    assert_has(&only(&logs), &["audit.outcome=\"VALIDATION_FAILED\"", "lead.id=\"7\""]);
}

#[tokio::test(start_paused = true)]
async fn the_event_of_a_batch_counts_outcomes_and_ids_follow_at_debug() {
    let results = [Ok("1"), Err(rejected()), Ok("3"), Err(rejected())];
    for (level, events) in [("info", 1), ("debug", 2)] {
        let (logs, _guard) = capture(level);
        write("BatchCreateLeads", &[], 4, tally(&results)).await;
        let written = logs.events("leadsd::audit", "call-1");
        assert_eq!(written.len(), events, "{written:#?}");
        assert_has(
            &written[0],
            &[
                "audit.outcome=\"PARTIAL\"",
                "audit.inputs=4",
                "audit.outcomes=\"OK=2 VALIDATION_FAILED=2\"",
            ],
        );
        assert!(!written[0].contains("lead.id"), "{}", written[0]);
        if let Some(ids) = written.get(1) {
            assert_has(ids, &["lead.ids=\"1,3\"", "audit.operation=\"BatchCreateLeads\""]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_ids_of_a_batch_archive_are_those_of_the_request_unless_some_failed() {
    let (logs, _guard) = capture("debug");
    let archived = || Tally { done: 2, ..Tally::default() };
    write("BatchArchiveLeads", &["1", "2"], 2, archived()).await;
    assert_has(&logs.events("leadsd::audit", "call-1")[1], &["lead.ids=\"1,2\""]);

    let (logs, _guard) = capture("debug");
    let failed = BTreeMap::from([("VALIDATION_FAILED", 1)]);
    write("BatchArchiveLeads", &["1", "2"], 2, Tally { done: 1, failed, ..Tally::default() }).await;
    only(&logs);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_panics_has_an_unknown_outcome() {
    let (logs, _guard) = capture("info");
    let entry = AuditEntry::new(&context(), "CreateLead", 1);
    let write = async { panic!("the write panics") };
    let written = AssertUnwindSafe(entry.run::<Written>(write)).catch_unwind();
    assert!(written.await.is_err());
    assert_has(&only(&logs), &["audit.outcome=\"WRITE_OUTCOME_UNKNOWN\"", "audit.replayed=false"]);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_a_separate_event_with_the_first_outcome() {
    let (logs, _guard) = capture("info");
    let entry = AuditEntry::new(&context(), "CreateLead", 1);
    let repeat = entry.repeat();
    drop(entry);
    repeat.answered(&Ok(Written(tally(&[Ok("7")]))));
    let event = only(&logs);
    assert_has(&event, &["audit.outcome=\"OK\"", "audit.replayed=true", "lead.id=\"7\""]);

    let (logs, _guard) = capture("info");
    let entry = AuditEntry::new(&context(), "CreateLead", 1);
    let repeat = entry.repeat();
    drop(entry);
    repeat.answered::<Written>(&Err(rejected()));
    assert_has(&only(&logs), &["audit.outcome=\"VALIDATION_FAILED\"", "audit.replayed=true"]);
}

#[tokio::test(start_paused = true)]
async fn the_first_call_is_no_repeat() {
    let (logs, _guard) = capture("info");
    let entry = AuditEntry::new(&context(), "CreateLead", 1);
    let repeat = entry.repeat();
    entry.run(std::future::ready(Written(tally(&[Ok("7")])))).await;
    repeat.answered(&Ok(Written(tally(&[Ok("7")]))));
    assert_has(&only(&logs), &["audit.replayed=false"]);
}

#[test]
fn a_forbidden_write_is_an_event_with_the_reason() {
    let (logs, _guard) = capture("info");
    refused("CreateLead", &Caller::new("web"), None, "call-1", Reason::CallerForbidden);
    let event = only(&logs);
    assert_has(
        &event,
        &["audit.operation=\"CreateLead\"", "audit.outcome=\"CALLER_FORBIDDEN\"", "caller=\"web\""],
    );
    assert!(!event.contains("portal="), "{event}");
}
