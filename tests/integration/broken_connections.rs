//! Connections to HubSpot that break at any byte: no create is duplicated, and each outcome is
//! either known or reported as unknown.

use std::collections::BTreeMap;

use leadsd::grpc::pb;
use leadsd_testkit::{ChaosProxy, Direction};
use tonic::Code;

use crate::harness::{TestApp, cases};

/// Number of concurrent pairs: most of a run is waiting.
const WORKERS: usize = 16;

/// Offset of the cut: the `n`-th of `runs` runs cuts at its share of all offsets.
#[derive(Clone, Copy)]
struct Story {
    inputs: usize,
    /// True if the portal has a property for request ids.
    known: bool,
    runs: usize,
}

// === impl Story ===

impl Story {
    /// Number of runs per pair of service and fake; bounds the size of the fake's store.
    fn runs_per_app(self) -> usize {
        if self.inputs == 1 { 100 } else { 20 }
    }
}

/// Starts the service behind a proxy to the fake.
async fn app(story: Story) -> (TestApp, ChaosProxy) {
    let proxy = ChaosProxy::start().await;
    let url = format!("http://{}", proxy.address());
    let mut builder = TestApp::builder().set("HUBSPOT__BASE_URL", &url);
    if story.known {
        builder = builder.set("PORTALS__DEFAULT__REQUEST_ID_PROPERTY", "leadsd_request_id");
    }
    let app = builder.start().await;
    proxy.connect_to(app.hubspot.address());
    app.hubspot.add_unique_property("leadsd_request_id");
    // Many calls in a short time; limits are tested elsewhere.
    app.hubspot.limit(|limits| limits.burst = 1_000_000);
    (app, proxy)
}

/// Makes one call with unique names; returns the success of each input.
async fn call(app: &TestApp, story: Story, run: usize) -> Vec<Result<(), Code>> {
    let name = |index: usize| format!("run {run} input {index}");
    if story.inputs == 1 {
        let answer = app.leads.clone().create_lead(app.create_request(&name(0))).await;
        return vec![answer.map(drop).map_err(|status| status.code())];
    }
    let inputs = (0..story.inputs).map(|index| app.create_input(&name(index), &[])).collect();
    let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    match app.leads.clone().batch_create_leads(request).await {
        Err(status) => vec![Err(status.code()); story.inputs],
        Ok(answer) => {
            let results = answer.into_inner().results;
            let result = |result: pb::LeadWriteResult| match result.outcome.expect("always one") {
                pb::lead_write_result::Outcome::Lead(_) => Ok(()),
                pb::lead_write_result::Outcome::Error(error) => Err(Code::from(error.code)),
            };
            results.into_iter().map(result).collect()
        }
    }
}

/// Number of leads in the fake by name.
fn counted(app: &TestApp) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in app.hubspot.lead_names() {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// Runs every `WORKERS`-th group of runs, starting with `worker`.
async fn work(story: Story, worker: usize) -> usize {
    // Number of bytes of a call in each direction.
    let (measured, proxy) = app(story).await;
    call(&measured, story, 0).await;
    let before = proxy.passed();
    call(&measured, story, 1).await;
    let after = proxy.passed();
    let lengths = [after[0] - before[0], after[1] - before[1]];
    drop(measured);
    let mut cuts = 0;
    for group in (worker..story.runs.div_ceil(story.runs_per_app())).step_by(WORKERS) {
        let (app, proxy) = app(story).await;
        // Opens the connection, so that only the call itself is cut.
        call(&app, story, usize::MAX).await;
        let runs =
            group * story.runs_per_app()..((group + 1) * story.runs_per_app()).min(story.runs);
        for run in runs.clone() {
            let offset = run * (lengths[0] + lengths[1]) / story.runs;
            let (direction, after) = match offset.checked_sub(lengths[0]) {
                None => (Direction::Request, offset),
                Some(offset) => (Direction::Response, offset),
            };
            proxy.cut_after(direction, after);
            let results = call(&app, story, run).await;
            cuts += usize::from(proxy.cancel_cut());
            // A response resets the circuit breaker; ten consecutive cuts would open it.
            app.get("1").await.expect_err("there is no such lead");
            let counts = counted(&app);
            for (index, result) in results.into_iter().enumerate() {
                let made = counts.get(&format!("run {run} input {index}")).copied().unwrap_or(0);
                assert!(made <= 1, "{direction:?} cut after {after}: made {made} times");
                match result {
                    Ok(()) => assert_eq!(made, 1, "{direction:?} cut after {after}: not made"),
                    Err(Code::Unknown) if !story.known => {}
                    Err(Code::Unavailable) if !story.known => {
                        assert_eq!(
                            made, 0,
                            "{direction:?} cut after {after}: made, and not said so"
                        );
                    }
                    Err(code) => panic!("{direction:?} cut after {after}: {code:?}"),
                }
            }
        }
    }
    cuts
}

/// Executes all runs; returns the number of cut connections.
async fn run_story(story: Story) -> usize {
    let workers = (0..WORKERS).map(|worker| tokio::spawn(work(story, worker)));
    let cuts = futures_util::future::join_all(workers).await;
    cuts.into_iter().map(|cuts| cuts.expect("no panic")).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_on_broken_connections_are_never_duplicated() {
    for known in [true, false] {
        for (inputs, runs) in [(1, cases(64, 200)), (100, cases(8, 32))] {
            let cuts = run_story(Story { inputs, known, runs }).await;
            assert!(cuts > runs * 5 / 8, "{cuts} of {runs}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "5,000 runs take minutes"]
async fn creates_survive_a_cut_at_every_byte() {
    for known in [true, false] {
        // As many runs as a call has bytes. A batch has a hundred inputs alike: a run for each tenth
        // of an input.
        for (inputs, runs) in [(1, 2_000), (100, 500)] {
            let cuts = run_story(Story { inputs, known, runs }).await;
            assert!(cuts > runs * 5 / 8, "{cuts} of {runs}");
        }
    }
}
