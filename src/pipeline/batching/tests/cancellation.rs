//! Callers that cancel while a request is queued, in flight or backing off.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_leaves_the_batch() {
    let fixture = Fixture::ordinary();
    fixture.use_permit();
    let (cancelled, first, second) = tokio::join!(
        timeout(SECOND / 2, fixture.call(get("1"))),
        fixture.call(get("2")),
        fixture.call(get("3")),
    );
    assert!(cancelled.is_err());
    assert_leads(vec![first, second], ["2", "3"]);
    assert_eq!(fixture.sent(), ["read 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_without_callers_is_not_sent_and_takes_no_permit() {
    let fixture = Fixture::ordinary();
    fixture.use_permit();
    let calls = gets(1..=3).map(|request| timeout(SECOND / 2, fixture.call(request)));
    assert!(join_all(calls).await.iter().all(Result::is_err));
    assert_eq!(fixture.usage(), (1, 0));
    sleep(SECOND).await;
    assert_eq!(fixture.upstream.count(), 0);
    assert_leads(vec![fixture.call(get("4")).await], ["4"]);
    assert_eq!(fixture.sent(), ["get 4"], "the permit is free at once");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_does_not_disturb_the_others_of_its_batch() {
    let fixture = Fixture::new(|sent| Scripted::after(5 * SECOND, ordinary(&sent.request)));
    fixture.use_permit();
    let (cancelled, first, second) = tokio::join!(
        timeout(3 * SECOND, fixture.call(get("1"))),
        fixture.call(get("2")),
        fixture.call(get("3")),
    );
    assert!(cancelled.is_err());
    assert_leads(vec![first, second], ["2", "3"]);
    assert_eq!(fixture.sent(), ["read 3"]);
    assert_eq!(fixture.upstream.in_progress(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_was_sent_releases_its_permit_although_all_callers_are_gone() {
    let fixture = Fixture::new(|sent| Scripted::after(5 * SECOND, ordinary(&sent.request)));
    fixture.use_permit();
    let calls = gets(1..=3).map(|request| timeout(3 * SECOND, fixture.call(request)));
    assert!(join_all(calls).await.iter().all(Result::is_err));
    assert_eq!(fixture.upstream.in_progress(), 1);
    sleep(MINUTE).await;
    assert_eq!((fixture.upstream.in_progress(), fixture.usage()), (0, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn an_input_whose_caller_is_gone_is_not_requested_again() {
    let fixture = Fixture::new(|sent| match &*sent.request {
        Request::BatchRead(_) => {
            Scripted::after(5 * SECOND, Ok(Response::Batch(BatchResponse::default())))
        }
        request => Scripted::now(ordinary(request)),
    });
    fixture.use_permit();
    let (cancelled, second) =
        tokio::join!(timeout(3 * SECOND, fixture.call(get("1"))), fixture.call(get("2")),);
    assert!(cancelled.is_err());
    assert_leads(vec![second], ["2"]);
    sleep(MINUTE).await;
    assert_eq!(fixture.sent(), ["read 2", "get 2"]);
}
