//! What is known of trace ids, and for how long.

use super::*;
use crate::leads::{BatchItem, Lead};

fn answer(trace_ids: &[Option<&str>]) -> Result<BatchAnswer, Error> {
    let item = |trace_id: &Option<&str>| BatchItem {
        lead: Lead::default(),
        trace_id: trace_id.map(str::to_owned),
        created: None,
    };
    Ok(BatchAnswer { results: trace_ids.iter().map(item).collect(), errors: Vec::new() })
}

fn stands(echo: &Echo) -> (bool, bool) {
    (echo.is_sure(), echo.may_be())
}

#[tokio::test(start_paused = true)]
async fn that_trace_ids_do_not_come_back_is_believed_for_a_time() {
    let echo = Echo::default();
    assert_eq!(stands(&echo), (false, true));
    echo.learn(&answer(&[]));
    assert_eq!(stands(&echo), (false, true), "nothing is learned from nothing");
    echo.learn(&answer(&[Some("a"), Some("b")]));
    assert_eq!(stands(&echo), (true, true));
    echo.learn(&answer(&[Some("a"), None]));
    assert_eq!(stands(&echo), (false, false), "one without is enough");
    echo.learn(&answer(&[Some("a")]));
    assert_eq!(stands(&echo), (false, false), "and one with is not");
    tokio::time::sleep(FORGET).await;
    assert_eq!(stands(&echo), (false, true));
    echo.learn(&answer(&[Some("a")]));
    assert_eq!(stands(&echo), (true, true));
}
