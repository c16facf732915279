//! Facts about reads of leads.

use serde_json::{Value, json};

use super::{
    Fact, Observations,
    account::{NO_RECORD, TestAccount, Tried, summary},
};

/// Length of URLs that leadsd sends at most.
const EXPECTED_URL: usize = 8_000;

/// Lengths of URLs to try, each with the limit that the fake HubSpot has if a longer one is rejected.
const URL_LENGTHS: [(usize, usize); 4] =
    [(7_900, EXPECTED_URL), (8_500, 8_500), (15_900, 16_000), (16_500, 17_000)];

/// Tries reads that need no lead.
pub(super) async fn without_lead(account: &TestAccount, seen: &mut Observations) -> Tried<()> {
    let page = account.get("", &[("limit", "1")]).await?;
    let limits = page.limits;
    let text = format!("{:?} of {:?} calls left", limits.remaining, limits.max);
    seen.note(Fact::LimitHeaders, limits.max.is_some() && limits.remaining.is_some(), text);

    let missing = account.get(NO_RECORD, &[]).await?;
    seen.note(Fact::NotFound, missing.status == 404, summary(&missing));
    let category = missing.body["category"].as_str();
    let text = category.unwrap_or("no category").to_owned();
    let has_category = json!(category.is_some());
    seen.switch(Fact::NotFoundCategory, category.is_none(), has_category, text);
    let odd = account.get("leadsd-no-number", &[]).await?;
    seen.note(Fact::NotNumeric, odd.status == 404, summary(&odd));

    let history = [("limit", "51"), ("propertiesWithHistory", "hs_lead_name")];
    let page = account.get("", &history).await?;
    let refused = page.status == 400;
    seen.switch(Fact::HistoryPage, refused, json!(refused), summary(&page));
    longest_url(account, seen).await
}

/// Sends longer and longer URLs until one is 414.
async fn longest_url(account: &TestAccount, seen: &mut Observations) -> Tried<()> {
    let mut longest = 4_000;
    for (length, limit) in URL_LENGTHS {
        let names: Vec<String> = (0..length / 18).map(|n| format!("leadsd_pad_{n:04}")).collect();
        let answer = account.get("", &[("limit", "1"), ("properties", &names.join(","))]).await?;
        if answer.status == 414 {
            break;
        }
        longest = limit;
    }
    let text = format!("up to about {longest} characters are accepted");
    seen.switch(Fact::LongestUrl, longest == EXPECTED_URL, json!(longest), text);
    Ok(())
}

/// Tries reads of this lead.
pub(super) async fn of_lead(account: &TestAccount, seen: &mut Observations, id: &str) -> Tried<()> {
    let lead = account.get(id, &[]).await?;
    let names = names_of(&lead.body["properties"]);
    let text = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    seen.switch(Fact::DefaultProperties, names.is_empty(), json!(names), text);

    let selection = [("properties", "hs_lead_disqualification_note,leadsd_no_such_property")];
    let lead = account.get(id, &selection).await?;
    let values = &lead.body["properties"];
    let is_null = values.get("hs_lead_disqualification_note").is_some_and(Value::is_null);
    let is_absent = values.get("leadsd_no_such_property").is_none();
    let text = format!("null: {is_null}, absent: {is_absent}");
    seen.note(Fact::UnsetProperty, is_null && is_absent, text);

    let lead = account.get(id, &[("associations", "contacts")]).await?;
    match lead.body["associations"]["contacts"]["results"][0]["type"].as_str() {
        Some(name) => {
            let expected = name == "lead_to_contact";
            seen.switch(Fact::ContactAssociation, expected, json!(name), name);
        }
        None => {
            seen.unknown(Fact::ContactAssociation, "the lead has no association with a contact")
        }
    }
    let odd = account.get(id, &[("associations", "leadsd_widgets")]).await?;
    let ignored = json!(odd.status < 300);
    seen.switch(Fact::UnknownAssociation, odd.status == 400, ignored, summary(&odd));
    Ok(())
}

/// Names of an object, in order.
fn names_of(object: &Value) -> Vec<&str> {
    let mut names: Vec<&str> =
        object.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
}
