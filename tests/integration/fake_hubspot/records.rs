//! Lead rules, paging, archived views, history, batches, and the APIs beside the leads.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Hub, VERSIONS, to};

#[tokio::test]
async fn lead_rules_return_the_recorded_error_bodies() {
    let hub = Hub::start().await;
    hub.fake.add_unique_property("crm_key");
    let taken = hub.add(&json!({"hs_lead_name": "Taken", "crm_key": "k"}));
    let create = |properties: Value| hub.lead(properties);
    let with = |name: &str, value: &str| create(json!({"hs_lead_name": "Jane", name: value}));
    for (body, code, name) in [
        (create(json!({})), "MISSING_REQUIRED_PROPERTY", "hs_lead_name"),
        (with("nope", "x"), "PROPERTY_DOESNT_EXIST", "nope"),
        (with("hs_object_id", "1"), "READ_ONLY_VALUE", "hs_object_id"),
        (with("hs_lead_label", "BOILING"), "INVALID_OPTION", "hs_lead_label"),
        (with("hs_lead_pipeline_value", "much"), "INVALID_INTEGER", "hs_lead_pipeline_value"),
        (with("hs_next_activity_date", "soon"), "INVALID_DATE", "hs_next_activity_date"),
    ] {
        let response = hub.post("", &body).await;
        response.is_error(400, "VALIDATION_ERROR");
        assert_eq!(response.codes(), [code]);
        assert_eq!(response.body["errors"][0]["context"]["propertyName"], json!([name]));
        let text = response.body["message"].as_str().unwrap();
        let list = text.strip_prefix("Property values were not valid: ").unwrap();
        let list: Value = serde_json::from_str(list).expect("the text carries a list");
        assert_eq!((list[0]["name"].as_str(), list[0]["error"].as_str()), (Some(name), Some(code)));
    }
    let bare = json!({"properties": {"hs_lead_name": "Jane"}});
    hub.post("", &bare).await.is_error(400, "VALIDATION_ERROR");
    for kind in [578, 608, 9_999] {
        let body = json!({"properties": {"hs_lead_name": "Jane"},
                          "associations": [to("424242", kind)]});
        let response = hub.post("", &body).await;
        response.is_error(400, "VALIDATION_ERROR");
        assert_eq!(response.body["subCategory"], "crm.associations.INVALID_IDENTIFIER");
        assert_eq!(response.body["context"]["INVALID_OBJECT_IDS"], json!(["424242"]));
    }
    for (status, category) in [(400, "VALIDATION_ERROR"), (409, "CONFLICT")] {
        hub.fake.behave(|behaviour| behaviour.unique_clash_status = status);
        let response = hub.post("", &with("crm_key", "K")).await;
        response.is_error(status, category);
        assert_eq!(response.body["context"]["existingId"], json!([taken]));
    }
    let response = hub.patch(&taken, json!({})).await;
    response.is_error(400, "VALIDATION_ERROR");
    assert_eq!(hub.fake.lead_names(), ["Taken"], "a refused create leaves nothing");
}

#[tokio::test]
async fn missing_name_error_depends_on_the_version() {
    for (version, base) in VERSIONS {
        for in_context in [true, false] {
            let hub = Hub::connect(base).await;
            hub.fake.behave(|behaviour| behaviour.missing_name_in_context = in_context);
            let response = hub.post("", &hub.lead(json!({}))).await;
            response.is_error(400, "VALIDATION_ERROR");
            if version != "2026-09" && in_context {
                assert_eq!(response.body["context"]["properties"], json!(["hs_lead_name"]));
            } else {
                assert_eq!(response.codes(), ["MISSING_REQUIRED_PROPERTY"]);
            }
        }
    }
}

#[tokio::test]
async fn created_lead_has_a_location_and_can_be_read() {
    for (_, base) in VERSIONS {
        let hub = Hub::connect(base).await;
        let made = hub.post("", &hub.lead(json!({"hs_lead_name": "Jane"}))).await;
        assert_eq!(made.status, 201);
        let id = made.body["id"].as_str().unwrap();
        assert_eq!(made.header("location"), Some(format!("{base}/{id}").as_str()));
        let ask = "?properties=hs_lead_name&properties=hs_lead_label,nope\
                   &associations=contacts&archived=false";
        let read = hub.get(&format!("/{id}{ask}")).await;
        assert_eq!(read.status, 200);
        assert_eq!(read.header("location"), None);
        assert_eq!(read.body["properties"]["hs_lead_name"], "Jane");
        let properties = read.body["properties"].as_object().unwrap();
        assert_eq!(properties.get("hs_lead_label"), Some(&Value::Null), "unset is null");
        assert!(!properties.contains_key("nope"), "unknown is absent");
        let contacts = &read.body["associations"]["contacts"]["results"];
        assert_eq!(*contacts, json!([{"id": hub.contact, "type": "lead_to_contact"}]));
        assert_eq!(read.body["archived"], false);
        assert!(read.body.get("archivedAt").is_none());
    }
}

#[tokio::test]
async fn missing_records_return_the_recorded_shapes() {
    let hub = Hub::start().await;
    let response = hub.get("/999999").await;
    assert_eq!(
        (response.status, response.body["message"].as_str()),
        (404, Some("resource not found"))
    );
    assert!(response.body.get("category").is_none());
    let response = hub.get("/jane").await;
    response.is_error(404, "OBJECT_NOT_FOUND");
    assert_eq!(response.body["context"]["id"], json!(["jane"]));
    assert_eq!(hub.get("?archived=1").await.status, 404, "only true and false are known");
    let response = hub.send(Method::GET, "/crm/v3/objects/butterflies", &Value::Null).await;
    assert_eq!(response.status, 400);
    assert_eq!(response.body["message"], "Unable to infer object type from: butterflies");
    assert!(response.body.get("category").is_none());
    let response = hub.send(Method::GET, "/crm/v9/things", &Value::Null).await;
    assert_eq!((response.status, response.body), (404, Value::Null), "an HTML page");
    let long = hub.get(&format!("?properties={}", "x".repeat(8_001))).await;
    assert_eq!((long.status, long.body), (414, Value::Null));
    let same = hub.send(Method::GET, "/crm/objects/2026-09/0-136", &Value::Null).await;
    assert_eq!(same.status, 200, "the type id names leads too");
}

#[tokio::test]
async fn lists_page_through_live_and_archived_leads() {
    let hub = Hub::start().await;
    let ids: Vec<String> =
        (0..7).map(|i| hub.add(&json!({"hs_lead_name": format!("lead {i}")}))).collect();
    for id in &ids[5..] {
        assert_eq!(hub.delete(id).await.status, 204);
        assert_eq!(hub.delete(id).await.status, 204, "archiving twice is archiving once");
    }
    assert_eq!(hub.delete("999999").await.status, 204);
    let first = hub.get("?limit=3").await;
    assert_eq!(first.ids(), ids[..3]);
    let after = first.body["paging"]["next"]["after"].as_str().unwrap();
    let second = hub.get(&format!("?limit=3&after={after}")).await;
    assert_eq!(second.ids(), ids[3..5]);
    assert!(second.body.get("paging").is_none(), "absent on the last page");
    let archived = hub.get("?archived=true").await;
    assert_eq!(archived.ids(), ids[5..]);
    assert!(archived.body["results"][0]["archivedAt"].is_string());
    assert_eq!(hub.get(&format!("/{}", ids[6])).await.status, 404);
    assert_eq!(hub.get(&format!("/{}?archived=true", ids[6])).await.status, 200);
    hub.get("?limit=101").await.is_error(400, "VALIDATION_ERROR");
    let response = hub.get("?limit=51&propertiesWithHistory=hs_lead_name").await;
    response.is_error(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn history_is_newest_first_and_empty_text_clears_a_property() {
    let hub = Hub::start().await;
    let id = hub.add(&json!({"hs_lead_name": "Jane", "hs_lead_label": "COLD"}));
    for label in ["HOT", ""] {
        assert_eq!(hub.patch(&id, json!({"hs_lead_label": label})).await.status, 200);
    }
    let ask = "?properties=hs_lead_label&propertiesWithHistory=hs_lead_label";
    let response = hub.get(&format!("/{id}{ask}")).await;
    assert_eq!(response.body["properties"]["hs_lead_label"], Value::Null);
    let versions = response.body["propertiesWithHistory"]["hs_lead_label"].as_array().unwrap();
    let values: Vec<_> = versions.iter().map(|version| version["value"].as_str()).collect();
    assert_eq!(values, [Some(""), Some("HOT"), Some("COLD")]);
    assert!(versions.iter().all(|version| version["timestamp"].is_string()));
}

#[tokio::test]
async fn batches_are_atomic_without_trace_ids_and_may_be_per_input_with_them() {
    let hub = Hub::start().await;
    hub.fake.behave(|behaviour| {
        behaviour.property_errors_per_item = true;
        behaviour.echo_trace_ids = true;
    });
    let good = || hub.lead(json!({"hs_lead_name": "Jane"}));
    let bad = || hub.lead(json!({"hs_lead_name": "Joan", "hs_lead_label": "BOILING"}));
    let traced = |mut input: Value, trace: &str| {
        input["objectWriteTraceId"] = json!(trace);
        input
    };
    let response = hub.post("/batch/create", &json!({"inputs": [good(), bad()]})).await;
    response.is_error(400, "VALIDATION_ERROR");
    assert!(hub.fake.lead_names().is_empty(), "nothing of it is created");

    let inputs = [traced(good(), "a"), traced(bad(), "b")];
    let response = hub.post("/batch/create", &json!({ "inputs": inputs })).await;
    assert_eq!((response.status, response.body["status"].as_str()), (207, Some("COMPLETE")));
    assert_eq!(response.body["results"][0]["objectWriteTraceId"], "a");
    assert_eq!(response.body["numErrors"], 1);
    assert_eq!(response.body["errors"][0]["context"]["objectWriteTraceId"], json!(["b"]));
    assert_eq!(hub.fake.lead_names(), ["Jane"]);

    let inputs = [traced(good(), "a"), traced(bad(), "a")];
    let response = hub.post("/batch/create", &json!({ "inputs": inputs })).await;
    response.is_error(400, "VALIDATION_ERROR");
    let response = hub.post("/batch/create", &json!({"inputs": [good()]})).await;
    assert_eq!(response.status, 201);
    assert!(response.body.get("errors").is_none() && response.body.get("numErrors").is_none());
    let many = vec![good(); 101];
    hub.post("/batch/create", &json!({ "inputs": many })).await.is_error(400, "VALIDATION_ERROR");
    hub.post("/batch/create", &json!({"inputs": []})).await.is_error(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn batches_report_missing_and_duplicate_ids() {
    let hub = Hub::start().await;
    let id = hub.add(&json!({"hs_lead_name": "Jane"}));
    let inputs = |ids: &[&str]| {
        let inputs: Vec<Value> = ids
            .iter()
            .map(|id| json!({"id": id, "properties": {"hs_lead_label": "HOT"}}))
            .collect();
        json!({ "inputs": inputs })
    };
    for call in ["read", "update"] {
        let response = hub.post(&format!("/batch/{call}"), &inputs(&["8", &id, "9"])).await;
        assert_eq!((response.status, response.ids()), (207, vec![id.clone()]), "{call}");
        let errors = response.body["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 1, "one entry for both");
        assert_eq!(errors[0]["category"], "OBJECT_NOT_FOUND");
        assert_eq!(errors[0]["context"]["ids"], json!(["8", "9"]));
    }
    let response = hub.post("/batch/update", &inputs(&[&id, &id])).await;
    response.is_error(400, "VALIDATION_ERROR");
    assert_eq!(response.body["context"]["ids"], json!([id]));
    let response = hub.post("/batch/archive", &inputs(&[&id, "9"])).await;
    assert_eq!((response.status, response.body), (204, Value::Null));
    assert!(hub.fake.lead_names().is_empty());
}

#[tokio::test]
async fn properties_and_pipelines_describe_themselves_in_every_version() {
    let hub = Hub::start().await;
    for (properties, pipelines) in [
        ("/crm/properties/2026-09/leads", "/crm/pipelines/2026-09/leads"),
        ("/crm/properties/2026-03/0-136", "/crm/pipelines/2026-03/0-136"),
        ("/crm/v3/properties/leads", "/crm/v3/pipelines/leads"),
    ] {
        let one = format!("{properties}/hs_lead_label");
        let response = hub.send(Method::GET, &one, &Value::Null).await;
        assert_eq!((response.status, response.body["type"].as_str()), (200, Some("enumeration")));
        let options = response.body["options"].as_array().unwrap();
        let values: Vec<_> = options.iter().map(|option| option["value"].as_str()).collect();
        assert_eq!(values, [Some("HOT"), Some("WARM"), Some("COLD")]);
        let all = hub.send(Method::GET, properties, &Value::Null).await;
        let names = all.body["results"].as_array().unwrap();
        let id = names.iter().find(|own| own["name"] == "hs_object_id").unwrap();
        assert_eq!(id["modificationMetadata"]["readOnlyValue"], true);
        let response = hub.send(Method::GET, pipelines, &Value::Null).await;
        let pipeline = &response.body["results"][0];
        assert_eq!(pipeline["id"], "lead-pipeline-id");
        assert_eq!(pipeline["stages"].as_array().unwrap().len(), 5);
    }
}

#[tokio::test]
async fn associations_are_read_added_and_removed_beside_the_record() {
    let hub = Hub::start().await;
    let id = hub.add(&json!({"hs_lead_name": "Jane"}));
    let company = hub.fake.add_company("Example Ltd");
    let one = format!("{}/{id}/associations", hub.base);
    let kinds = json!([{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 610}]);
    let response = hub.send(Method::PUT, &format!("{one}/companies/{company}"), &kinds).await;
    assert_eq!(response.status, 201);
    let response = hub.send(Method::GET, &format!("{one}/companies"), &Value::Null).await;
    assert_eq!(response.body["results"][0]["toObjectId"], company.as_str());
    for path in ["/crm/v4/associations/leads", "/crm/associations/2026-09/leads"] {
        let path = format!("{path}/contacts/batch/read");
        let body = json!({"inputs": [{"id": id}, {"id": "9"}]});
        let response = hub.send(Method::POST, &path, &body).await;
        assert_eq!(response.status, 207);
        let to = &response.body["results"][0]["to"][0];
        assert_eq!(to["toObjectId"], hub.contact.as_str());
        assert_eq!(to["associationTypes"][0]["typeId"], 578);
    }
    let contact = format!("{one}/contacts/{}", hub.contact);
    assert_eq!(hub.send(Method::DELETE, &contact, &Value::Null).await.status, 204);
    assert!(hub.fake.lead_names().is_empty(), "a lead without a primary association is deleted");
}
