//! Cost of rejected inputs: callers whose inputs are rejected again and again do not slow others down.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use proptest::prelude::*;

use super::*;
use crate::pipeline::rate_limit::RateLimit;

/// Time for which throughput is counted.
const RUN: Duration = Duration::from_secs(40);

fn rejected() -> Error {
    Error::new(Reason::ValidationFailed, "one of the inputs is invalid")
}

fn is_bad(create: &crate::leads::CreateLead) -> bool {
    create.properties["hs_lead_name"].starts_with("bad")
}

/// HubSpot rejects a batch with an invalid input as a whole, and names no input.
fn atomic(sent: &Recorded) -> Scripted {
    let has_bad = match &*sent.request {
        Request::Create(create) => is_bad(create),
        Request::BatchCreate(inputs) => inputs.iter().any(|traced| is_bad(&traced.input)),
        _ => false,
    };
    let response = if has_bad { Err(rejected()) } else { ordinary(&sent.request) };
    Scripted::after(SECOND / 20, response)
}

/// Number of leads that 200 well-behaved calls at a time create in [`RUN`], beside `hostile` callers with
/// twenty calls each that are rejected.
async fn throughput(hostile: usize) -> usize {
    let upstream = ScriptedUpstream::new(atomic);
    let account = account(190, 10_000);
    let limited = RateLimit::new(Arc::clone(&upstream), Arc::clone(&account));
    let batching = Batching::new(limited, "default", account, LARGE, true);
    let created = AtomicUsize::new(0);
    let end = Instant::now() + RUN;
    let (batching, created_ref) = (&batching, &created);
    let caller = |name: String, lead: &'static str| async move {
        while Instant::now() < end {
            let ctx = context_of(&name, Priority::Interactive, MINUTE);
            let result = batching.call(&ctx, create(lead), Dispatch::new(&ctx)).await;
            if result.is_ok() && Instant::now() <= end {
                created_ref.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let good = (0..200).map(|number| caller(format!("good {}", number % 20), "good"));
    let bad =
        (0..hostile * 20).map(|number| caller(format!("hostile {}", number % hostile), "bad"));
    let run = async { tokio::join!(join_all(good), join_all(bad)) };
    let _ = timeout(RUN + MINUTE, run).await;
    created.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn callers_of_rejected_creates_leave_the_others_their_throughput() {
    let alone = throughput(0).await;
    let (one, five) = (throughput(1).await, throughput(5).await);
    // As restricted callers they get every fiftieth permit; the rest is the search for them.
    let leave = |beside: usize| beside * 100 / alone;
    assert!(leave(one) >= 95 && leave(five) >= 90, "{one} and {five} of {alone} leads");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_test_batch_is_followed_by_one_of_another_caller() {
    let fixture = Fixture::new(|sent| Scripted { delay: Duration::ZERO, ..atomic(sent) });
    fixture.use_permit();
    let call = |caller: &'static str, name: &'static str| {
        let ctx = context_of(caller, Priority::Interactive, MINUTE);
        let fixture = &fixture;
        async move { fixture.call_in(&ctx, create(name)).await }
    };
    let bad = join_all((0..5).map(|_| call("a", "bad")));
    let good = join_all((0..50).map(|_| call("b", "good")));
    let (bad, good) = tokio::join!(bad, good);
    assert!(bad.iter().all(Result::is_err));
    assert!(good.iter().all(Result::is_ok));
    let individual = fixture.sent().iter().filter(|sent| *sent == "create").count();
    assert!(individual <= 10, "the good ones share batches: {:?}", fixture.sent());
}

#[tokio::test(start_paused = true)]
async fn updates_that_the_response_does_not_mention_take_one_read() {
    let fixture = Fixture::new(|sent| {
        let response = match &*sent.request {
            Request::BatchUpdate(_) => Ok(Response::Batch(BatchResponse::default())),
            Request::BatchRead(read) => {
                let item = |id: &crate::leads::LeadId| {
                    let mut lead = lead(id.as_str());
                    lead.properties.insert("hs_lead_name".to_owned(), "new".to_owned());
                    BatchItem { lead, trace_id: None, created: None }
                };
                let results = read.ids.iter().map(item).collect();
                Ok(Response::Batch(BatchResponse { results, errors: Vec::new() }))
            }
            request => ordinary(request),
        };
        Scripted::now(response)
    });
    fixture.use_permit();
    let ids: Vec<String> = (1..=50).map(|id| id.to_string()).collect();
    let results = join_all(ids.iter().map(|id| fixture.call(update(id, "new")))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(fixture.upstream.count(), 2, "{:?}", fixture.sent());
}

/// How the double responds to a batch with invalid inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Rejects it as a whole, and names no input.
    Unnamed,
    /// Rejects it as a whole, and names the invalid inputs.
    Named,
    /// Writes the others, and has an error for each invalid input.
    PerItem,
    /// Writes the others, and leaves some of them out of its first response.
    Omitted { is_written: bool },
}

fn faults() -> impl Strategy<Value = Fault> {
    prop_oneof![
        3 => Just(Fault::Unnamed),
        2 => Just(Fault::Named),
        1 => Just(Fault::PerItem),
        2 => any::<bool>().prop_map(|is_written| Fault::Omitted { is_written }),
    ]
}

/// A double with leads that can be written, of which some reject every write. Counts its faulty responses.
#[derive(Debug)]
struct Faulty {
    fault: Fault,
    bad: BTreeSet<String>,
    omitted: BTreeSet<String>,
    written: parking_lot::Mutex<BTreeSet<String>>,
    has_omitted: AtomicBool,
    faults: AtomicUsize,
}

// === impl Faulty ===

impl Faulty {
    fn fail(&self, error: Error) -> Result<Response, Error> {
        self.faults.fetch_add(1, Ordering::Relaxed);
        Err(error)
    }

    fn respond(&self, request: &Request) -> Result<Response, Error> {
        let inputs = match request {
            Request::Update(update) if self.bad.contains(update.id.as_str()) => {
                return Err(rejected());
            }
            Request::BatchUpdate(inputs) => inputs,
            Request::BatchRead(read) => return Ok(Response::Batch(self.read(&read.ids))),
            request => return ordinary(request),
        };
        let ids: Vec<&str> = inputs.iter().map(|traced| traced.input.id.as_str()).collect();
        let bad: Vec<&str> = ids.iter().copied().filter(|id| self.bad.contains(*id)).collect();
        let named = AffectedInputs {
            ids: bad.iter().map(|id| (*id).to_owned()).collect(),
            ..AffectedInputs::default()
        };
        match self.fault {
            Fault::Unnamed if !bad.is_empty() => return self.fail(rejected()),
            Fault::Named if !bad.is_empty() => {
                return self.fail(rejected().with_affected_inputs(named));
            }
            Fault::Unnamed | Fault::Named | Fault::PerItem | Fault::Omitted { .. } => {}
        }
        let Ok(Response::Batch(mut response)) = ordinary(request) else { unreachable!() };
        response.results.retain(|item| !self.bad.contains(&item.lead.id));
        response.errors = bad.iter().map(|id| about_id(Reason::ValidationFailed, id)).collect();
        let mut written = self.written.lock();
        written.extend(response.results.iter().map(|item| item.lead.id.clone()));
        if let Fault::Omitted { is_written } = self.fault
            && ids.iter().any(|id| self.omitted.contains(*id))
            && !self.has_omitted.swap(true, Ordering::Relaxed)
        {
            self.faults.fetch_add(1, Ordering::Relaxed);
            response.results.retain(|item| !self.omitted.contains(&item.lead.id));
            if !is_written {
                written.retain(|id| !self.omitted.contains(id));
            }
        }
        Ok(Response::Batch(response))
    }

    fn read(&self, ids: &[crate::leads::LeadId]) -> BatchResponse {
        let written = self.written.lock();
        let item = |id: &crate::leads::LeadId| {
            let mut lead = lead(id.as_str());
            let value = if written.contains(id.as_str()) { "new" } else { "old" };
            lead.properties.insert("hs_lead_name".to_owned(), value.to_owned());
            BatchItem { lead, trace_id: None, created: None }
        };
        BatchResponse { results: ids.iter().map(item).collect(), errors: Vec::new() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_faulty_batch_costs_at_most_three_more_requests_and_each_call_gets_its_own_result(
        fault in faults(),
        count in 2..100_usize,
        callers in 1..30_usize,
        bad in prop::collection::btree_set(0..100_usize, 0..6),
        omitted in prop::collection::btree_set(0..100_usize, 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let text = |numbers: BTreeSet<usize>| -> BTreeSet<String> {
            numbers.into_iter().map(|number| (number + 1).to_string()).collect()
        };
        let faulty = Arc::new(Faulty {
            fault,
            bad: text(bad),
            omitted: text(omitted),
            written: parking_lot::Mutex::default(),
            has_omitted: AtomicBool::new(false),
            faults: AtomicUsize::new(0),
        });
        let (results, sent) = runtime.block_on(async {
            let double = Arc::clone(&faulty);
            let fixture = Fixture::new(move |sent| Scripted::now(double.respond(&sent.request)));
            fixture.use_permit();
            let call = |number: usize| {
                let name = format!("caller {}", number % callers);
                let ctx = context_of(&name, Priority::Interactive, MINUTE);
                let fixture = &fixture;
                async move { fixture.call_in(&ctx, update(&(number + 1).to_string(), "new")).await }
            };
            let results = join_all((0..count).map(call)).await;
            (results, fixture.sent())
        });
        for (number, result) in results.into_iter().enumerate() {
            let is_bad = faulty.bad.contains(&(number + 1).to_string());
            let reason = result.as_ref().err().map(Error::reason);
            prop_assert_eq!(reason, is_bad.then_some(Reason::ValidationFailed), "{}", number);
        }
        let faults = faulty.faults.load(Ordering::Relaxed);
        prop_assert!(sent.len() <= 1 + 3 * faults, "{faults} faults: {sent:?}");
        prop_assert!(faults <= 60, "{faults} faults: {sent:?}");
    }
}
