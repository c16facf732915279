//! Every lead operation of HubSpot with every parameter it takes, in each API version: what the RPC
//! answers, and the HTTP request that HubSpot got for it.

use std::collections::BTreeMap;

use leadsd::{fake::hubspot::Logged, grpc::pb};
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::harness::{TestApp, properties};

const VERSIONS: [(&str, &str); 3] = [
    ("2026-09", "/crm/objects/2026-09/leads"),
    ("2026-03", "/crm/objects/2026-03/leads"),
    ("v3", "/crm/v3/objects/leads"),
];

/// A service for a version, with a property of unique values and a lead that has one.
struct Setting {
    app: TestApp,
    base: &'static str,
    /// A lead called `Jane` whose `crm_key` is `k-1`.
    jane: String,
}

// === impl Setting ===

impl Setting {
    async fn new(version: &'static str, base: &'static str) -> Self {
        let app = TestApp::builder().api_version(version).start().await;
        app.hubspot.add_unique_property("crm_key");
        let properties = json!({"hs_lead_name": "Jane", "crm_key": "k-1"});
        let jane = app.hubspot.add_lead(&app.contact, &properties).unwrap();
        Self { app, base, jane }
    }

    /// The one request that HubSpot got; it must have had this method, path and status.
    #[track_caller]
    fn got(&self, method: &str, path: &str, status: u16) -> Logged {
        let mut log = self.app.hubspot.log();
        self.app.hubspot.clear_log();
        assert_eq!(log.len(), 1, "{log:?}");
        let got = log.remove(0);
        let wanted = (method, format!("{}{path}", self.base), status);
        assert_eq!((got.method.as_str(), got.path.clone(), got.status), wanted);
        got
    }
}

fn query(got: &Logged) -> BTreeMap<String, String> {
    form_urlencoded::parse(got.query.as_bytes()).into_owned().collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    properties(pairs)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Each trace id is the caller's or a UUID; takes them out, so that the rest can be compared.
#[track_caller]
fn without_trace_ids(body: &Value) -> Value {
    let mut body = body.clone();
    let mut seen = Vec::new();
    for input in body["inputs"].as_array_mut().unwrap() {
        let trace_id = input.as_object_mut().unwrap().remove("objectWriteTraceId");
        let trace_id = trace_id.and_then(|id| id.as_str().map(str::to_owned)).expect("a trace id");
        assert!(!trace_id.is_empty() && !seen.contains(&trace_id));
        seen.push(trace_id);
    }
    body
}

#[tokio::test]
async fn list() {
    for (version, base) in VERSIONS {
        let setting = Setting::new(version, base).await;
        setting.app.lead("Ada");
        let mut leads = setting.app.leads.clone();
        let answer = leads.list_leads(pb::ListLeadsRequest::default()).await.unwrap().into_inner();
        assert_eq!((answer.leads.len(), answer.next_page_token.as_str()), (2, ""));
        let bare = query(&setting.got("GET", "", 200));
        assert!(bare.contains_key("limit"), "{bare:?}");
        assert_eq!(bare.get("archived").map(String::as_str), Some("false"));

        let mut request = pb::ListLeadsRequest {
            page_size: 1,
            properties: names(&["hs_lead_name", "crm_key"]),
            properties_with_history: names(&["hs_lead_name"]),
            associations: names(&["contacts", "companies"]),
            ..Default::default()
        };
        let first = leads.list_leads(request.clone()).await.unwrap().into_inner();
        assert_eq!(first.leads[0].properties["crm_key"], "k-1");
        assert_eq!(first.leads[0].property_history["hs_lead_name"].versions.len(), 1);
        assert_eq!(first.leads[0].associations["contacts"].objects.len(), 1);
        let expected = [
            ("limit", "1"),
            ("archived", "false"),
            ("properties", "hs_lead_name,crm_key"),
            ("propertiesWithHistory", "hs_lead_name"),
            ("associations", "contacts,companies"),
        ];
        assert_eq!(query(&setting.got("GET", "", 200)), pairs(&expected));
        request.page_token = first.next_page_token;
        let second = leads.list_leads(request).await.unwrap().into_inner();
        assert_eq!(second.leads[0].properties["hs_lead_name"], "Ada");
        assert_eq!(second.next_page_token, "");
        assert_eq!(query(&setting.got("GET", "", 200))["after"], setting.jane);

        let archived = pb::ListLeadsRequest { archived: true, ..Default::default() };
        assert!(leads.list_leads(archived).await.unwrap().into_inner().leads.is_empty());
        assert_eq!(query(&setting.got("GET", "", 200))["archived"], "true");
    }
}

#[tokio::test]
async fn get() {
    for (version, base) in VERSIONS {
        let setting = Setting::new(version, base).await;
        let request = pb::GetLeadRequest {
            id: "k-1".to_owned(),
            id_property: "crm_key".to_owned(),
            properties: names(&["hs_lead_name", "hs_lead_label"]),
            properties_with_history: names(&["crm_key"]),
            associations: names(&["contacts"]),
            archived: false,
        };
        let answer = setting.app.leads.clone().get_lead(request).await.unwrap().into_inner();
        let lead = answer.lead.unwrap();
        assert_eq!((lead.id.as_str(), lead.archived), (setting.jane.as_str(), false));
        assert_eq!(lead.properties["hs_lead_name"], "Jane");
        assert!(!lead.properties.contains_key("hs_lead_label"), "null is absent");
        assert_eq!(lead.property_history["crm_key"].versions[0].value.as_deref(), Some("k-1"));
        assert_eq!(lead.associations["contacts"].objects[0].id, setting.app.contact);
        let expected = [
            ("archived", "false"),
            ("idProperty", "crm_key"),
            ("properties", "hs_lead_name,hs_lead_label"),
            ("propertiesWithHistory", "crm_key"),
            ("associations", "contacts"),
        ];
        assert_eq!(query(&setting.got("GET", "/k-1", 200)), pairs(&expected));
    }
}

#[tokio::test]
async fn create() {
    for (version, base) in VERSIONS {
        let setting = Setting::new(version, base).await;
        let company = setting.app.hubspot.add_company("Example Ltd");
        let types = vec![pb::AssociationType {
            category: pb::AssociationCategory::HubspotDefined.into(),
            type_id: 610,
        }];
        let request = pb::CreateLeadRequest {
            properties: properties(&[("hs_lead_name", "Ada"), ("hs_lead_label", "HOT")]),
            primary_contact_id: setting.app.contact.clone(),
            associations: vec![pb::Association { to_id: company.clone(), types }],
            ..Default::default()
        };
        let answer = setting.app.leads.clone().create_lead(request).await.unwrap().into_inner();
        let lead = answer.lead.unwrap();
        assert_eq!(lead.properties["hs_lead_label"], "HOT");
        assert!(lead.create_time.is_some() && !lead.url.is_empty());
        let got = setting.got("POST", "", 201);
        let body = json!({
            "properties": {"hs_lead_name": "Ada", "hs_lead_label": "HOT"},
            "associations": [
                {"to": {"id": setting.app.contact}, "types": [
                    {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 578}]},
                {"to": {"id": company}, "types": [
                    {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 610}]},
            ],
        });
        assert_eq!((got.query.as_str(), got.body), ("", body));
    }
}

#[tokio::test]
async fn update() {
    for (version, base) in VERSIONS {
        let setting = Setting::new(version, base).await;
        let mut leads = setting.app.leads.clone();
        let mut request = pb::UpdateLeadRequest {
            id: setting.jane.clone(),
            properties: properties(&[("hs_lead_label", "HOT"), ("hs_lead_source", "")]),
            ..Default::default()
        };
        let lead = leads.update_lead(request.clone()).await.unwrap().into_inner().lead.unwrap();
        assert_eq!(lead.properties["hs_lead_label"], "HOT");
        let got = setting.got("PATCH", &format!("/{}", setting.jane), 200);
        let body = json!({"properties": {"hs_lead_label": "HOT", "hs_lead_source": ""}});
        assert_eq!((got.query.as_str(), got.body), ("", body));

        request.id = "k-1".to_owned();
        request.id_property = "crm_key".to_owned();
        let lead = leads.update_lead(request).await.unwrap().into_inner().lead.unwrap();
        assert_eq!(lead.id, setting.jane);
        let got = setting.got("PATCH", "/k-1", 200);
        assert_eq!(query(&got), pairs(&[("idProperty", "crm_key")]));
    }
}

#[tokio::test]
async fn archive() {
    for (version, base) in VERSIONS {
        let setting = Setting::new(version, base).await;
        for _ in 0..2 {
            let request = pb::ArchiveLeadRequest { id: setting.jane.clone(), ..Default::default() };
            setting.app.leads.clone().archive_lead(request).await.unwrap();
            let got = setting.got("DELETE", &format!("/{}", setting.jane), 204);
            assert_eq!((got.query.as_str(), got.body), ("", Value::Null));
        }
    }
}

#[tokio::test]
async fn batch_read() {
    for (version, base) in VERSIONS {
        let setting = Setting::new(version, base).await;
        let ada = setting.app.lead("Ada");
        let mut leads = setting.app.leads.clone();
        let mut request = pb::BatchGetLeadsRequest {
            ids: vec![ada.clone(), "999999".to_owned(), setting.jane.clone(), ada.clone()],
            properties: names(&["hs_lead_name"]),
            properties_with_history: names(&["hs_lead_name"]),
            ..Default::default()
        };
        let results = leads.batch_get_leads(request.clone()).await.unwrap().into_inner().results;
        let shown: Vec<String> = results
            .into_iter()
            .map(|result| match result.outcome.unwrap() {
                pb::lead_read_result::Outcome::Lead(lead) => {
                    lead.properties["hs_lead_name"].clone()
                }
                pb::lead_read_result::Outcome::Error(error) => error.code.to_string(),
            })
            .collect();
        assert_eq!(shown, ["Ada", "5", "Jane", "Ada"]);
        let got = setting.got("POST", "/batch/read", 207);
        let body = json!({
            "inputs": [{"id": ada}, {"id": "999999"}, {"id": setting.jane}],
            "properties": ["hs_lead_name"],
            "propertiesWithHistory": ["hs_lead_name"],
        });
        assert_eq!((query(&got), got.body), (pairs(&[("archived", "false")]), body));

        request.ids = names(&["k-1"]);
        request.id_property = "crm_key".to_owned();
        request.properties_with_history.clear();
        leads.batch_get_leads(request.clone()).await.unwrap();
        let body = setting.got("POST", "/batch/read", 200).body;
        assert_eq!(body["idProperty"], "crm_key");
        assert_eq!(body["inputs"], json!([{"id": "k-1"}]));
        request.archived = true;
        leads.batch_get_leads(request).await.unwrap();
        let got = setting.got("POST", "/batch/read", 207);
        assert_eq!(query(&got), pairs(&[("archived", "true")]));
    }
}

#[tokio::test]
async fn batch_create() {
    for (version, base) in VERSIONS {
        let setting = Setting::new(version, base).await;
        let app = &setting.app;
        let mut inputs = vec![app.create_input("Ada", &[]), app.create_input("Grace", &[])];
        inputs[1].object_write_trace_id = "mine".to_owned();
        let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
        let answer = app.leads.clone().batch_create_leads(request).await.unwrap().into_inner();
        assert_eq!(answer.results.len(), 2);
        assert_eq!(answer.results[1].object_write_trace_id, "mine");
        let got = setting.got("POST", "/batch/create", 201);
        assert_eq!(got.body["inputs"][1]["objectWriteTraceId"], "mine");
        let input = |name: &str| {
            json!({"properties": {"hs_lead_name": name}, "associations": [
                {"to": {"id": app.contact}, "types": [
                    {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 578}]}]})
        };
        let body = json!({"inputs": [input("Ada"), input("Grace")]});
        assert_eq!((got.query.as_str(), without_trace_ids(&got.body)), ("", body));
    }
}

#[tokio::test]
async fn batch_update() {
    for (version, base) in VERSIONS {
        let setting = Setting::new(version, base).await;
        let ada = setting.app.lead("Ada");
        let update = |id: &str, id_property: &str| pb::LeadUpdate {
            id: id.to_owned(),
            id_property: id_property.to_owned(),
            properties: properties(&[("hs_lead_label", "HOT")]),
            ..Default::default()
        };
        let inputs = vec![update("k-1", "crm_key"), update(&ada, "")];
        let request = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
        let answer = setting.app.leads.clone().batch_update_leads(request).await.unwrap();
        for result in answer.into_inner().results {
            let pb::lead_write_result::Outcome::Lead(lead) = result.outcome.unwrap() else {
                panic!("both succeed");
            };
            assert_eq!(lead.properties["hs_lead_label"], "HOT");
        }
        let got = setting.got("POST", "/batch/update", 200);
        let label = json!({"hs_lead_label": "HOT"});
        let body = json!({"inputs": [
            {"id": "k-1", "idProperty": "crm_key", "properties": label},
            {"id": ada, "properties": label},
        ]});
        assert_eq!((got.query.as_str(), without_trace_ids(&got.body)), ("", body));
    }
}

#[tokio::test]
async fn batch_upsert() {
    for (version, base) in VERSIONS {
        let setting = Setting::new(version, base).await;
        let upsert = |id: &str, name: &str| pb::LeadUpsert {
            id: id.to_owned(),
            id_property: "crm_key".to_owned(),
            properties: properties(&[("hs_lead_name", name)]),
            ..Default::default()
        };
        let inputs = vec![upsert("k-1", "Janet"), upsert("k-2", "Ada")];
        let request = pb::BatchUpsertLeadsRequest { inputs, ..Default::default() };
        let answer = setting.app.leads.clone().batch_upsert_leads(request).await.unwrap();
        let created: Vec<bool> =
            answer.into_inner().results.iter().map(|result| result.created).collect();
        assert_eq!(created, [false, true]);
        let got = setting.got("POST", "/batch/upsert", 200);
        let input = |id: &str, name: &str| json!({"id": id, "idProperty": "crm_key", "properties": {"hs_lead_name": name}});
        let body = json!({"inputs": [input("k-1", "Janet"), input("k-2", "Ada")]});
        assert_eq!((got.query.as_str(), without_trace_ids(&got.body)), ("", body));

        // The single upsert is a batch of one.
        let request = pb::UpsertLeadRequest {
            id: "k-2".to_owned(),
            id_property: "crm_key".to_owned(),
            properties: properties(&[("hs_lead_name", "Ada L.")]),
            object_write_trace_id: "mine".to_owned(),
            ..Default::default()
        };
        let one = setting.app.leads.clone().upsert_lead(request).await.unwrap().into_inner();
        assert!(!one.created);
        let mut wanted = input("k-2", "Ada L.");
        wanted["objectWriteTraceId"] = json!("mine");
        assert_eq!(setting.got("POST", "/batch/upsert", 200).body, json!({"inputs": [wanted]}));
    }
}

#[tokio::test]
async fn batch_archive() {
    for (version, base) in VERSIONS {
        for reports_unknown in [false, true] {
            let setting = Setting::new(version, base).await;
            setting
                .app
                .hubspot
                .behave(|behaviour| behaviour.batch_archive_reports_unknown = reports_unknown);
            let ids = vec![setting.jane.clone(), "999999".to_owned()];
            let request = pb::BatchArchiveLeadsRequest { ids, ..Default::default() };
            let answer = setting.app.leads.clone().batch_archive_leads(request).await.unwrap();
            let codes: Vec<i32> = answer
                .into_inner()
                .results
                .into_iter()
                .map(|result| result.status.unwrap().code)
                .collect();
            assert_eq!(codes, [0, 0], "what is not there is archived, as in the single call");
            let status = if reports_unknown { 207 } else { 204 };
            let got = setting.got("POST", "/batch/archive", status);
            let body = json!({"inputs": [{"id": setting.jane}, {"id": "999999"}]});
            assert_eq!((got.query.as_str(), got.body), ("", body));
        }
    }
}

#[tokio::test]
async fn search() {
    for (version, base) in VERSIONS {
        let setting = Setting::new(version, base).await;
        for name in ["Ada", "Adele"] {
            setting.app.lead(name);
        }
        let filter = |property: &str, operator: pb::FilterOperator| pb::Filter {
            property_name: property.to_owned(),
            operator: operator.into(),
            ..Default::default()
        };
        let between = pb::Filter {
            value: "1".to_owned(),
            high_value: "999999".to_owned(),
            ..filter("hs_object_id", pb::FilterOperator::Between)
        };
        let among = pb::Filter {
            values: names(&["new-stage-id"]),
            ..filter("hs_pipeline_stage", pb::FilterOperator::In)
        };
        let has = filter("crm_key", pb::FilterOperator::HasProperty);
        let mut request = pb::SearchLeadsRequest {
            query: "ad".to_owned(),
            filter_groups: vec![
                pb::FilterGroup { filters: vec![between, among] },
                pb::FilterGroup { filters: vec![has] },
            ],
            sorts: vec![pb::Sort {
                property_name: "hs_lead_name".to_owned(),
                direction: pb::SortDirection::Descending.into(),
            }],
            properties: names(&["hs_lead_name"]),
            page_size: 1,
            page_token: String::new(),
        };
        let mut leads = setting.app.leads.clone();
        let first = leads.search_leads(request.clone()).await.unwrap().into_inner();
        assert_eq!(first.total, 2);
        assert_eq!(first.leads[0].properties["hs_lead_name"], "Adele");
        let mut body = json!({
            "query": "ad",
            "filterGroups": [
                {"filters": [
                    {"propertyName": "hs_object_id", "operator": "BETWEEN", "value": "1",
                     "highValue": "999999"},
                    {"propertyName": "hs_pipeline_stage", "operator": "IN",
                     "values": ["new-stage-id"]},
                ]},
                {"filters": [{"propertyName": "crm_key", "operator": "HAS_PROPERTY"}]},
            ],
            "sorts": [{"propertyName": "hs_lead_name", "direction": "DESCENDING"}],
            "properties": ["hs_lead_name"],
            "limit": 1,
        });
        assert_eq!(setting.got("POST", "/search", 200).body, body);
        request.page_token = first.next_page_token;
        let second = leads.search_leads(request).await.unwrap().into_inner();
        assert_eq!(second.leads[0].properties["hs_lead_name"], "Ada");
        body["after"] = json!("1");
        assert_eq!(setting.got("POST", "/search", 200).body, body);
    }
}
