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

/// Over a double whose reads of more than `max` leads find the account that callers share full.
fn with_full_memory(max: usize) -> Fixture {
    let full = || {
        let full = Error::new(Reason::Overloaded, "the account is full");
        Err(full.with_local_limit(LocalLimit::Admission(MEMORY_LIMIT)))
    };
    Fixture::new(move |sent| {
        Scripted::now(match &*sent.request {
            Request::BatchRead(read) if read.ids.len() > max => full(),
            request => ordinary(request),
        })
    })
}

/// Results of reads of these leads by these callers, which queue together.
async fn read_by(fixture: &Fixture, calls: &[(&str, &str)]) -> Vec<Result<Response, Error>> {
    fixture.use_permit();
    join_all(calls.iter().map(|(id, caller)| {
        let ctx = context_of(caller, Priority::Interactive, MINUTE);
        async move { fixture.call_in(&ctx, get(id)).await }
    }))
    .await
}

#[tokio::test(start_paused = true)]
async fn reads_for_which_the_shared_account_has_no_room_are_sent_again_for_each_caller() {
    let fixture = with_full_memory(3);
    let calls = [("1", "a"), ("2", "a"), ("3", "a"), ("4", "b"), ("5", "b")];
    assert_leads(read_by(&fixture, &calls).await, ["1", "2", "3", "4", "5"]);
    let mut sent = fixture.sent();
    assert_eq!(sent.remove(0), "read 5");
    sent.sort();
    assert_eq!(sent, ["read 2", "read 3"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_shared_account_costs_three_more_requests_for_the_smallest_parts() {
    let fixture = with_full_memory(5);
    // One read of each of three callers, and two of each of two callers.
    let calls =
        [("1", "a"), ("2", "b"), ("3", "c"), ("4", "d"), ("5", "d"), ("6", "e"), ("7", "e")];
    let results = read_by(&fixture, &calls).await;
    let served: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(served, [true, true, true, false, false, false, false]);
    let failed = results.into_iter().filter_map(Result::err);
    failed.for_each(|error| assert_eq!(error.reason(), Reason::Overloaded));
    let mut sent = fixture.sent();
    sent.sort();
    assert_eq!(sent, ["get 1", "get 2", "get 3", "read 7"]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_own_account_has_no_room_gets_the_error_and_costs_no_more_requests() {
    let fixture = with_full_memory(1);
    for result in fixture.queued(gets(1..=5)).await {
        assert_eq!(result.unwrap_err().reason(), Reason::Overloaded);
    }
    assert_eq!(fixture.sent(), ["read 5"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_one_caller_is_charged_to_its_account_and_one_of_several_to_none_of_them() {
    let fixture = Fixture::ordinary();
    let own: Arc<dyn MemoryAccount> = TestAccount::new(1_000);
    fixture.use_permit();
    for (callers, is_own) in [(["a", "a"], true), (["a", "b"], false)] {
        let calls = callers.iter().zip(["1", "2"]).map(|(caller, id)| {
            let memory = Arc::clone(&own);
            let ctx = CallContext { memory, ..context_of(caller, Priority::Interactive, MINUTE) };
            let fixture = &fixture;
            async move { fixture.call_in(&ctx, get(id)).await }
        });
        assert_leads(join_all(calls).await, ["1", "2"]);
        let charged = &fixture.upstream.requests().pop().unwrap().memory;
        assert_eq!(Arc::ptr_eq(charged, &own), is_own, "{callers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_caller_of_a_batch_holds_its_part_of_the_response_until_it_releases_it() {
    const PART: usize = 40_000;
    let fixture = Fixture::new(|sent| {
        let parts = match &*sent.request {
            Request::BatchRead(read) => read.ids.len(),
            _ => 1,
        };
        Scripted::now(ordinary(&sent.request)).of_bytes(parts * PART)
    });
    fixture.use_permit();
    let memory: Arc<dyn MemoryAccount> = TestAccount::new(1 << 20);
    let contexts = ["a", "a", "b", "c"].map(|caller| {
        let memory = Arc::clone(&memory);
        CallContext { memory, ..context_of(caller, Priority::Interactive, MINUTE) }
    });
    let ids = ["1", "2", "3", "4"];
    let calls = contexts.iter().zip(ids).map(|(ctx, id)| fixture.call_in(ctx, get(id)));
    assert_leads(join_all(calls).await, ids);
    assert_eq!(fixture.sent(), ["read 4"]);
    for ctx in contexts {
        assert_eq!(ctx.cost.held_bytes(), PART);
        ctx.cost.release_memory();
        assert_eq!(ctx.cost.held_bytes(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_requested_individually_holds_nothing_of_the_batch() {
    const PART: usize = 40_000;
    let fixture = Fixture::new(|sent| match &*sent.request {
        Request::BatchRead(read) => {
            let mut read = read.clone();
            read.ids.retain(|id| id.as_str() != "2");
            Scripted::now(ordinary(&Request::BatchRead(read))).of_bytes(2 * PART)
        }
        request => Scripted::now(ordinary(request)),
    });
    fixture.use_permit();
    let contexts = ["a", "b", "c"].map(|caller| context_of(caller, Priority::Interactive, MINUTE));
    let ids = ["1", "2", "3"];
    let calls = contexts.iter().zip(ids).map(|(ctx, id)| fixture.call_in(ctx, get(id)));
    assert_leads(join_all(calls).await, ids);
    assert_eq!(fixture.sent(), ["read 3", "get 2"]);
    assert_eq!(contexts.map(|ctx| ctx.cost.held_bytes()), [PART, 0, PART]);
}
