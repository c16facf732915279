//! Search: the thirteen operators, its limits, its lag.

use std::time::Duration;

use serde_json::{Value, json};

use super::Hub;

fn filter(name: &str, operator: &str, rest: &Value) -> Value {
    let mut filter = rest.clone();
    filter["propertyName"] = json!(name);
    filter["operator"] = json!(operator);
    filter
}

fn one(filter: &Value) -> Value {
    json!({"filterGroups": [{"filters": [filter]}]})
}

#[tokio::test]
async fn each_operator_returns_exactly_the_matching_leads() {
    let hub = Hub::start().await;
    let jane = hub.add(&json!({"hs_lead_name": "Jane Doe", "hs_lead_label": "HOT",
        "hs_lead_pipeline_value": "50", "hs_next_activity_date": "2026-04-01T00:00:00Z"}));
    let joan = hub.add(&json!({"hs_lead_name": "Joan", "hs_lead_pipeline_value": "9",
        "hs_lead_source": "fair"}));
    let v = |value: &str| json!({ "value": value });
    let many = |values: &[&str]| json!({ "values": values });
    let none = json!({});
    let (money, name, label) = ("hs_lead_pipeline_value", "hs_lead_name", "hs_lead_label");
    let date = "hs_next_activity_date";
    let range = |low: &str, high: &str| json!({"value": low, "highValue": high});
    for (property, operator, rest, has_jane, has_joan) in [
        (name, "EQ", v("jane doe"), true, false),
        (label, "EQ", v("hot"), false, false),
        (label, "EQ", v("HOT"), true, false),
        (name, "NEQ", v("Joan"), true, false),
        (money, "LT", v("50"), false, true),
        (money, "LTE", v("50"), true, true),
        (money, "GT", v("9"), true, false),
        (money, "GTE", v("9"), true, true),
        (money, "BETWEEN", range("10", "100"), true, false),
        (date, "BETWEEN", range("1775000000000", "1775100000000"), true, false),
        (name, "IN", many(&["jane doe", "unknown"]), true, false),
        (name, "IN", many(&["Jane Doe"]), false, false),
        (label, "IN", many(&["HOT", "COLD"]), true, false),
        (name, "NOT_IN", many(&["jane doe"]), false, true),
        ("hs_lead_source", "HAS_PROPERTY", none.clone(), false, true),
        ("hs_lead_source", "NOT_HAS_PROPERTY", none, true, false),
        (name, "CONTAINS_TOKEN", v("doe"), true, false),
        (name, "CONTAINS_TOKEN", v("do"), false, false),
        (name, "CONTAINS_TOKEN", v("j*"), true, true),
        (name, "CONTAINS_TOKEN", v("*an"), false, true),
        (name, "NOT_CONTAINS_TOKEN", v("doe"), false, true),
        ("associations.contact", "EQ", v(&hub.contact), true, true),
        ("associations.contact", "EQ", v("1"), false, false),
    ] {
        let response = hub.post("/search", &one(&filter(property, operator, &rest))).await;
        let wanted: Vec<&str> = [(has_jane, jane.as_str()), (has_joan, joan.as_str())]
            .into_iter()
            .filter_map(|(has, id)| has.then_some(id))
            .collect();
        assert_eq!(response.ids(), wanted, "{property} {operator} {rest}");
        assert_eq!(response.body["total"], wanted.len());
    }
}

#[tokio::test]
async fn search_beyond_its_limits_is_rejected() {
    let hub = Hub::start().await;
    let has = filter("hs_lead_name", "HAS_PROPERTY", &json!({}));
    let groups = |sizes: &[usize]| {
        let groups: Vec<Value> =
            sizes.iter().map(|size| json!({"filters": vec![has.clone(); *size]})).collect();
        json!({ "filterGroups": groups })
    };
    let by = |name: &str| json!({"propertyName": name, "direction": "ASCENDING"});
    for (body, status) in [
        (groups(&[1; 5]), 200),
        (groups(&[1; 6]), 400),
        (groups(&[6]), 200),
        (groups(&[7]), 400),
        (groups(&[6, 6, 6]), 200),
        (groups(&[6, 6, 6, 1]), 400),
        (json!({"limit": 200}), 200),
        (json!({"limit": 201}), 400),
        (json!({"limit": 200, "after": "9800"}), 200),
        (json!({"limit": 200, "after": "9801"}), 400),
        (json!({"after": "10000"}), 400),
        (json!({"query": "x".repeat(2_900)}), 200),
        (json!({"query": "x".repeat(3_000)}), 400),
        (json!({"sorts": [by("hs_createdate")]}), 200),
        (json!({"sorts": ["-hs_createdate"]}), 200),
        (json!({"sorts": [by("hs_createdate"), by("hs_lead_name")]}), 400),
        (one(&filter("hs_lead_name", "LIKE", &json!({"value": "x"}))), 400),
        (one(&filter("hs_lead_name", "EQ", &json!({}))), 400),
        (one(&filter("hs_lead_name", "BETWEEN", &json!({"value": "x"}))), 400),
        (one(&filter("hs_lead_name", "IN", &json!({"value": "x"}))), 400),
    ] {
        let response = hub.post("/search", &body).await;
        assert_eq!(response.status, status, "{body}");
        if status == 400 {
            response.is_error(400, "VALIDATION_ERROR");
        }
    }
}

#[tokio::test]
async fn search_pages_by_offset_and_excludes_archived_leads() {
    let hub = Hub::start().await;
    let ids: Vec<String> =
        (0..5).map(|i| hub.add(&json!({"hs_lead_name": format!("lead {i}")}))).collect();
    hub.delete(&ids[4]).await;
    let first = hub.post("/search", &json!({"limit": 3})).await;
    assert_eq!(first.ids(), ids[..3]);
    assert_eq!(
        (&first.body["total"], &first.body["paging"]["next"]["after"]),
        (&json!(4), &json!("3"))
    );
    let second = hub.post("/search", &json!({"limit": 3, "after": "3"})).await;
    assert_eq!(second.ids(), [ids[3].clone()]);
    assert!(second.body.get("paging").is_none());
    assert!(second.body["results"][0].get("associations").is_none());
    let sorted = json!({"sorts": [{"propertyName": "hs_lead_name", "direction": "DESCENDING"}]});
    assert_eq!(hub.post("/search", &sorted).await.ids()[0], ids[3]);
    // The dates, which have a word that begins with 2 as well, are not searched.
    let query = json!({"query": "lead 2"});
    assert_eq!(hub.post("/search", &query).await.ids(), [ids[2].clone()]);
    hub.fake.behave(|behaviour| behaviour.searched_properties = Vec::new());
    assert_eq!(hub.post("/search", &query).await.ids(), ids[..4]);
}

#[tokio::test]
async fn search_index_lags_behind_writes() {
    let hub = Hub::start().await;
    let old = hub.add(&json!({"hs_lead_name": "Old", "hs_lead_label": "COLD"}));
    let lag = Duration::from_secs(60);
    hub.fake.behave(|behaviour| behaviour.index_lag = lag);
    hub.fake.advance(lag);
    let new = hub.add(&json!({"hs_lead_name": "New"}));
    hub.patch(&old, json!({"hs_lead_label": "HOT"})).await;
    let hot = one(&filter("hs_lead_label", "EQ", &json!({"value": "HOT"})));
    assert_eq!(hub.post("/search", &json!({})).await.ids(), std::slice::from_ref(&old));
    assert!(hub.post("/search", &hot).await.ids().is_empty(), "the old values are found");
    assert_eq!(hub.get(&format!("/{new}")).await.status, 200, "reads do not lag");
    hub.fake.advance(lag);
    assert_eq!(hub.post("/search", &json!({})).await.ids(), [old.clone(), new]);
    assert_eq!(hub.post("/search", &hot).await.ids(), [old]);
}
