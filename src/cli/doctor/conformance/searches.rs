//! Facts about searches.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    Fact, Observations,
    account::{TestAccount, Tried, summary},
};

/// Pause between two searches: HubSpot allows five in a second.
const PAUSE: Duration = Duration::from_millis(400);

/// Lag that leadsd expects at most.
const EXPECTED_LAG: Duration = Duration::from_secs(30);

/// Time after which a lead counts as never found.
const MAX_LAG: Duration = Duration::from_secs(90);

/// Tries searches, and measures after which time they find a new lead.
pub(super) async fn of_new_lead(account: &TestAccount, seen: &mut Observations) -> Tried<()> {
    let (name, note) = (format!("name{}", account.mark()), format!("note{}", account.mark()));
    let mut lead = account.lead(&name);
    lead["properties"]["hs_lead_disqualification_note"] = json!(note);
    let created = account.post("", lead).await?;
    let Some(id) = created.body["id"].as_str() else {
        return Err(format!("cannot create a lead: {}", summary(&created)));
    };
    let since = Instant::now();
    let by_id = json!({"filterGroups": [{"filters": [
        {"propertyName": "hs_object_id", "operator": "EQ", "value": id}]}], "limit": 1});
    let mut tries = 0;
    loop {
        let found = account.post("search", by_id.clone()).await?;
        let text = format!("limits in the headers: {}", found.limits.max.is_some());
        seen.note(Fact::SearchLimits, found.limits.max.is_none(), text);
        let took = since.elapsed();
        if found.body["results"][0]["id"].as_str() == Some(id) {
            // A lead that the first search finds has no lag that could be measured.
            let lag = if tries == 0 { 0.0 } else { (took.as_secs_f64() * 10.0).ceil() / 10.0 };
            let text = format!("after {lag} s");
            seen.switch(Fact::SearchLag, took <= EXPECTED_LAG, json!(lag), text);
            by_text(account, seen, id, [&name, &note]).await?;
            break;
        }
        if took > MAX_LAG {
            seen.note(Fact::SearchLag, false, format!("not within {} s", MAX_LAG.as_secs()));
            break;
        }
        tries += 1;
        sleep(PAUSE).await;
    }
    let long = json!({"query": "x".repeat(3_001), "limit": 1});
    let answer = account.post("search", long).await?;
    seen.note(Fact::SearchBody, answer.status == 400, summary(&answer));
    let far = json!({"after": "10000", "limit": 1});
    let answer = account.post("search", far).await?;
    seen.note(Fact::SearchWindow, answer.status == 400, summary(&answer));
    Ok(())
}

/// Tries which of two properties the text of a search matches, by words that only this lead has.
async fn by_text(
    account: &TestAccount,
    seen: &mut Observations,
    id: &str,
    [name, note]: [&str; 2],
) -> Tried<()> {
    let mut found = [false; 2];
    for (word, is_found) in [name, note].into_iter().zip(&mut found) {
        let answer = account.post("search", json!({"query": word, "limit": 1})).await?;
        *is_found = answer.body["results"][0]["id"].as_str() == Some(id);
        sleep(PAUSE).await;
    }
    let [by_name, by_note] = found;
    let text = format!("by hs_lead_name: {by_name}, by hs_lead_disqualification_note: {by_note}");
    // The fake searches all properties if the list is empty.
    let searched: &[&str] = match found {
        [true, true] => &[],
        [true, false] => &["hs_lead_name"],
        [false, true] => &["hs_lead_disqualification_note"],
        [false, false] => &["hs_object_id"],
    };
    seen.switch(Fact::SearchQuery, found == [true, false], json!(searched), text);
    Ok(())
}
