//! Writes that share a batch only if their results can be matched with the inputs.

use super::*;

#[tokio::test(start_paused = true)]
async fn creates_share_a_batch_only_after_a_batch_of_one_echoed_its_trace_id() {
    let fixture = Fixture::ordinary();
    let names = ["Ada", "Grace", "Edsger", "Barbara"];
    assert_leads(fixture.queued(names.map(create)).await, names);
    assert_eq!(fixture.sent(), ["create 1", "create 3"]);
    let permits: Vec<_> = fixture.upstream.requests().iter().map(|sent| sent.has_permit).collect();
    assert_eq!(permits, [true, false]);
    sleep(2 * SECOND).await;
    assert_leads(fixture.queued(names.map(create)).await, names);
    assert_eq!(fixture.sent()[2..], ["create 4"]);
}

#[tokio::test(start_paused = true)]
async fn creates_are_sent_individually_if_nothing_identifies_their_results() {
    let fixture = Fixture::new(|sent| Scripted::now(without_trace_ids(&sent.request)));
    let names = ["Ada", "Grace", "Edsger"];
    assert_leads(fixture.queued(names.map(create)).await, names);
    assert_eq!(fixture.sent(), ["create 1", "create", "create"]);
    sleep(2 * SECOND).await;
    assert_leads(fixture.queued(names.map(create)).await, names);
    assert_eq!(fixture.sent()[3..], ["create", "create", "create"], "no batch is tried again");
}

#[tokio::test(start_paused = true)]
async fn creates_share_a_batch_by_a_property_that_is_returned_and_differs() {
    let fixture = Fixture::new(|sent| {
        let mut response = without_trace_ids(&sent.request);
        if let Ok(Response::Batch(batch)) = &mut response {
            for item in &mut batch.results {
                let name = item.lead.id.clone();
                item.lead.properties.insert("hs_lead_name".to_owned(), name);
            }
        }
        Scripted::now(response)
    });
    let ids = |results: Vec<Result<Response, Error>>| {
        results.into_iter().map(|result| lead_in(result).unwrap().id).collect::<Vec<_>>()
    };
    let names = ["Ada", "Grace", "Edsger", "Barbara"];
    assert_eq!(ids(fixture.queued(names.map(create)).await), names);
    assert_eq!(fixture.sent(), ["create 1", "create 3"]);
    sleep(2 * SECOND).await;
    let names = ["Ada", "Grace", "Ada", "Grace", "Ada"];
    assert_eq!(ids(fixture.queued(names.map(create)).await), names);
    assert_eq!(fixture.sent()[2..], ["create 2", "create 2", "create"]);
    let permits: Vec<_> = fixture.upstream.requests().iter().map(|sent| sent.has_permit).collect();
    assert_eq!(permits[2..], [true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn updates_of_one_lead_that_wait_at_the_same_time_do_not_share_a_batch() {
    // An upsert has found the lead that another caller updates by its record id.
    let fixture = Fixture::ordinary();
    let results = fixture.queued([update("7", "a"), update("8", "b"), update("7", "c")]).await;
    assert_leads(results, ["7", "8", "7"]);
    let mut sent = fixture.sent();
    sent.sort();
    assert_eq!(sent, ["update 2 leads", "update 7"]);
}

#[tokio::test(start_paused = true)]
async fn an_update_by_a_unique_value_shares_a_batch_once_trace_ids_are_known_to_be_echoed() {
    let fixture = Fixture::ordinary();
    fixture.queued(["a@x", "b@x"].map(update_by_email)).await;
    assert_eq!(fixture.sent(), ["update a@x", "update b@x"]);
    sleep(2 * SECOND).await;
    fixture.queued(["1", "2"].map(|id| update(id, "Ada"))).await;
    assert_eq!(fixture.sent()[2..], ["update 2 leads"]);
    sleep(2 * SECOND).await;
    assert_leads(fixture.queued(["a@x", "b@x"].map(update_by_email)).await, ["a@x", "b@x"]);
    assert_eq!(fixture.sent()[3..], ["update 2 leads"]);
}
