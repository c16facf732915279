//! Cost of rejected inputs: callers whose inputs are rejected again and again do not slow others down.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

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
    let batching = Batching::new(Arc::clone(&upstream), "default", account, LARGE, true);
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
    // As bulk they get every tenth permit; the rest is the time until they are isolated.
    let leave = |beside: usize| beside * 100 / alone;
    assert!(leave(one) >= 88 && leave(five) >= 80, "{one} and {five} of {alone} leads");
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
