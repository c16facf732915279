//! Division of writes whose response would exceed the maximum size.

use super::*;

#[tokio::test(start_paused = true)]
async fn writes_whose_response_would_be_too_large_are_divided_among_requests() {
    // An update without large values is estimated at 2,048 bytes and a few.
    let upstream = ScriptedUpstream::new(|sent| Scripted::now(ordinary(&sent.request)));
    let fixture = Fixture::over(Arc::clone(&upstream), upstream, 5_000);
    let ids = ["1", "2", "3", "4", "5"];
    assert_leads(fixture.queued(ids.map(|id| update(id, "Ada"))).await, ids);
    let mut sent = fixture.sent();
    sent.sort();
    assert_eq!(sent, ["update 2 leads", "update 2 leads", "update 5"]);
    let permits = fixture.upstream.requests().iter().filter(|sent| sent.has_permit).count();
    assert_eq!(permits, 1, "the other requests acquire separate permits");
}

#[tokio::test(start_paused = true)]
async fn the_size_of_a_response_is_estimated_from_the_values_that_are_written() {
    // 2,048 bytes, the name of the property, and six bytes for each byte of the value.
    for (bytes, requests) in [(70, 1), (80, 2)] {
        let upstream = ScriptedUpstream::new(|sent| Scripted::now(ordinary(&sent.request)));
        let fixture = Fixture::over(Arc::clone(&upstream), upstream, 5_000);
        let value = "x".repeat(bytes);
        assert_leads(fixture.queued(["1", "2"].map(|id| update(id, &value))).await, ["1", "2"]);
        assert_eq!(fixture.upstream.requests().len(), requests, "{bytes} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn creates_whose_response_would_be_too_large_are_divided_as_well() {
    let upstream = ScriptedUpstream::new(|sent| Scripted::now(ordinary(&sent.request)));
    let fixture = Fixture::over(Arc::clone(&upstream), upstream, 5_000);
    let names = ["Ada", "Grace", "Edsger", "Barbara"];
    assert_leads(fixture.queued(names.map(create)).await, names);
    assert_eq!(fixture.upstream.requests().len(), 3, "one, two and one");
}
