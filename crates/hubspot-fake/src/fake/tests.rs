//! Responses of the fake to requests as HubSpot documents them, without sockets between the two.

use axum::{
    body::{Bytes, to_bytes},
    http::{HeaderMap, StatusCode, header},
};
use leadsd_base::time::SystemClock;

use super::*;
use crate::{NumErrors, OWNERS};

const LEADS: &str = "/crm/v3/objects/leads";

struct Client {
    fake: FakeHubspot,
    headers: HeaderMap,
}

/// Status, headers and JSON body of a response.
type Received = (StatusCode, HeaderMap, Value);

impl Client {
    async fn new() -> Self {
        let clock = Arc::new(SystemClock);
        let fake = FakeHubspot::start(([127, 0, 0, 1], 0).into(), clock).await.unwrap();
        let headers = bearer(fake.static_token(&[READ, WRITE]).expose());
        Self { fake, headers }
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Received {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        receive(&self.fake, method, path, query, &self.headers, bytes).await
    }

    async fn get(&self, path: &str) -> Received {
        self.send("GET", path, &Value::Null).await
    }

    async fn post(&self, path: &str, body: &Value) -> Received {
        self.send("POST", path, body).await
    }

    /// Creates a lead through the API; returns its id.
    async fn create(&self, name: &str) -> String {
        let contact = self.fake.add_contact(&format!("{name}@example.com"));
        let (status, _, body) = self.post(LEADS, &lead(name, &contact)).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body["id"].as_str().unwrap().to_owned()
    }
}

fn bearer(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())])
}

async fn receive(
    fake: &FakeHubspot,
    method: &str,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    bytes: Vec<u8>,
) -> Received {
    let body = Bytes::from(bytes);
    let response = serve::respond(&fake.account, method, path, query, headers, &body);
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    (parts.status, parts.headers, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn lead(name: &str, contact: &str) -> Value {
    let kind = json!({"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 578});
    json!({
        "properties": {"hs_lead_name": name},
        "associations": [{"to": {"id": contact}, "types": [kind]}],
    })
}

#[tokio::test]
async fn a_lead_is_created_read_updated_and_archived() {
    let client = Client::new().await;
    let id = client.create("Ada").await;
    let path = format!("{LEADS}/{id}");
    let (_, _, read) = client.get(&format!("{path}?properties=hs_lead_name")).await;
    assert_eq!(read["properties"]["hs_lead_name"], "Ada");

    let change = json!({"properties": {"hs_lead_name": "Grace"}});
    let (status, _, _) = client.send("PATCH", &path, &change).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(client.fake.lead_names(), ["Grace"]);

    let (status, ..) = client.send("DELETE", &path, &Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(client.get(&path).await.0, StatusCode::NOT_FOUND);
    assert_eq!(client.get(&format!("{path}?archived=true")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_invalid_create_has_no_effect() {
    let client = Client::new().await;
    let contact = client.fake.add_contact("ada@example.com");
    let mut unknown_property = lead("Ada", &contact);
    unknown_property["properties"]["no_such_property"] = json!("x");
    let without_contact = json!({"properties": {"hs_lead_name": "Ada"}});
    let unknown_contact = lead("Ada", "999");
    for invalid in [unknown_property, without_contact, unknown_contact, json!({"properties": {}})] {
        let (status, _, body) = client.post(LEADS, &invalid).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{invalid}");
        assert_eq!(body["category"], "VALIDATION_ERROR", "{invalid}");
    }
    assert!(client.fake.leads().is_empty());
}

#[tokio::test]
async fn a_batch_create_is_all_or_nothing_unless_a_switch_allows_errors_of_inputs() {
    let client = Client::new().await;
    let contact = client.fake.add_contact("ada@example.com");
    let invalid = json!({"properties": {"hs_lead_name": "Grace"}});
    let mut inputs = [lead("Ada", &contact), invalid];
    let path = format!("{LEADS}/batch/create");
    let (status, ..) = client.post(&path, &json!({ "inputs": inputs })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(client.fake.leads().is_empty());

    for (number, input) in inputs.iter_mut().enumerate() {
        input["objectWriteTraceId"] = json!(format!("trace-{number}"));
    }
    let (status, ..) = client.post(&path, &json!({ "inputs": inputs })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "trace ids alone do not change that");
    assert!(client.fake.leads().is_empty());

    client.fake.behave(|behaviour| {
        behaviour.property_errors_per_item = true;
        behaviour.echo_trace_ids = true;
    });
    let (status, _, body) = client.post(&path, &json!({ "inputs": inputs })).await;
    assert_eq!(status, StatusCode::MULTI_STATUS, "{body}");
    assert_eq!(body["results"][0]["objectWriteTraceId"], "trace-0");
    assert_eq!(body["errors"][0]["context"]["objectWriteTraceId"], json!(["trace-1"]));
    assert_eq!(client.fake.lead_names(), ["Ada"]);
}

/// Recorded on contacts: a conflict has an error of its input, and results have no trace ids.
#[tokio::test]
async fn a_conflict_fails_its_input_of_a_batch_create_with_trace_ids() {
    let client = Client::new().await;
    client.fake.add_unique_property("crm_key");
    let contact = client.fake.add_contact("ada@example.com");
    let input = |key: &str| {
        let mut input = lead(key, &contact);
        input["properties"]["crm_key"] = json!(key);
        input["objectWriteTraceId"] = json!(format!("trace-{key}"));
        input
    };
    let path = format!("{LEADS}/batch/create");
    for status in [400, 409] {
        client.fake.behave(|behaviour| behaviour.unique_clash_status = status);
        let taken = client.fake.add_lead(&contact, &input(&format!("a-{status}"))["properties"]);
        let taken = taken.unwrap();
        let inputs = ["a", "b"].map(|key| input(&format!("{key}-{status}")));
        let (code, _, body) = client.post(&path, &json!({ "inputs": inputs })).await;
        assert_eq!(code, StatusCode::MULTI_STATUS, "{body}");
        let context = &body["errors"][0]["context"];
        assert_eq!(context["objectWriteTraceId"], json!([format!("trace-a-{status}")]));
        assert_eq!(context["existingId"], json!([taken]));
        assert_eq!(body["results"].as_array().unwrap().len(), 1, "{body}");
        assert!(body["results"][0].get("objectWriteTraceId").is_none(), "{body}");
    }
}

/// Documented for the first version of the API; open for later ones.
#[tokio::test]
async fn a_revoked_refresh_token_ends_its_access_tokens_except_in_the_first_version() {
    for (method, version, ends) in [("DELETE", "v1", false), ("POST", "2026-09", true)] {
        let mut client = Client::new().await;
        let (id, secret, refresh) = client.fake.oauth_app();
        let (secret, refresh) = (secret.expose(), refresh.expose());
        let app = format!("client_id={id}&client_secret={secret}");
        let none = HeaderMap::new();
        let grant = format!("grant_type=refresh_token&{app}&refresh_token={refresh}");
        let grant = grant.into_bytes();
        let (_, _, token) =
            receive(&client.fake, "POST", "/oauth/2026-09/token", "", &none, grant).await;
        client.headers = bearer(token["access_token"].as_str().unwrap());
        let path = match version {
            "v1" => format!("/oauth/v1/refresh-tokens/{refresh}"),
            version => format!("/oauth/{version}/token/revoke"),
        };
        let body = format!("{app}&token={refresh}").into_bytes();
        let (status, ..) = receive(&client.fake, method, &path, "", &none, body).await;
        assert!(status.is_success(), "{version}: {status}");
        let expected = if ends { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
        assert_eq!(client.get(LEADS).await.0, expected, "{version}");
    }
}

#[tokio::test]
async fn a_merged_lead_is_read_as_its_survivor_once_for_all_of_its_ids() {
    let client = Client::new().await;
    let (old, new) = (client.create("Ada").await, client.create("Grace").await);
    client.fake.merge(&old, &new);
    let (status, _, read) = client.get(&format!("{LEADS}/{old}")).await;
    assert_eq!((status, &read["id"]), (StatusCode::OK, &json!(new)));
    let inputs = |ids: &[&String]| {
        let ids: Vec<_> = ids.iter().map(|id| json!({"id": id})).collect();
        json!({"inputs": ids, "properties": ["hs_merged_object_ids"]})
    };
    for (follows, ids, results, errors) in [
        (true, vec![&old, &new], 1, 0),
        (true, vec![&old], 1, 0),
        (false, vec![&old, &new], 1, 1),
        (false, vec![&old], 0, 1),
    ] {
        client.fake.behave(|behaviour| behaviour.batch_reads_follow_merges = follows);
        let (_, _, batch) = client.post(&format!("{LEADS}/batch/read"), &inputs(&ids)).await;
        let leads = batch["results"].as_array().unwrap();
        assert_eq!(leads.len(), results, "{batch}");
        for lead in leads {
            assert_eq!(lead["id"], json!(new));
            assert_eq!(lead["properties"]["hs_merged_object_ids"], json!(old));
        }
        assert_eq!(batch["errors"].as_array().map_or(0, Vec::len), errors, "{batch}");
    }
}

#[tokio::test]
async fn a_list_is_paged_in_order_of_ids() {
    let client = Client::new().await;
    let mut created = Vec::new();
    for name in ["Ada", "Grace", "Barbara"] {
        created.push(client.create(name).await);
    }
    let (_, _, first) = client.get(&format!("{LEADS}?limit=2")).await;
    let after = first["paging"]["next"]["after"].as_str().unwrap();
    let (_, _, second) = client.get(&format!("{LEADS}?limit=2&after={after}")).await;
    let pages = [&first, &second].map(|page| page["results"].as_array().unwrap().clone());
    let ids: Vec<_> = pages.concat().iter().map(|lead| lead["id"].clone()).collect();
    assert_eq!(ids, created);
    assert!(second.get("paging").is_none());
}

#[tokio::test]
async fn a_call_beyond_the_burst_limit_is_rejected_until_the_window_has_moved() {
    let client = Client::new().await;
    client.fake.limit(|limits| limits.burst = 2);
    let (status, headers, _) = client.get(LEADS).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["x-hubspot-ratelimit-max"], "2");
    assert_eq!(headers["x-hubspot-ratelimit-remaining"], "1");
    assert_eq!(client.get(LEADS).await.0, StatusCode::OK);
    let (status, _, body) = client.get(LEADS).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(body["policyName"], "TEN_SECONDLY_ROLLING");
    assert_eq!((client.fake.counted(), client.fake.rate_limited()), (2, 1));
    client.fake.advance(Duration::from_secs(10));
    assert_eq!(client.get(LEADS).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_token_needs_the_scope_of_the_call() {
    let client = Client::new().await;
    let reader = Client { headers: bearer(client.fake.static_token(&[READ]).expose()), ..client };
    assert_eq!(reader.get(LEADS).await.0, StatusCode::OK);
    let contact = reader.fake.add_contact("ada@example.com");
    let (status, _, body) = reader.post(LEADS, &lead("Ada", &contact)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(body["category"], "MISSING_SCOPES");
    let unknown = Client { headers: bearer("unknown"), ..reader };
    assert_eq!(unknown.get(LEADS).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_refresh_token_yields_access_tokens_that_expire() {
    let mut client = Client::new().await;
    client.fake.behave(|behaviour| behaviour.rotate_refresh_tokens = true);
    let (id, secret, refresh) = client.fake.oauth_app();
    let form = format!(
        "grant_type=refresh_token&client_id={id}&client_secret={}&refresh_token={}",
        secret.expose(),
        refresh.expose()
    );
    let grant = async |client: &Client| {
        let none = HeaderMap::new();
        receive(&client.fake, "POST", "/oauth/v1/token", "", &none, form.clone().into_bytes()).await
    };
    let (status, _, token) = grant(&client).await;
    assert_eq!(status, StatusCode::OK, "{token}");
    assert_ne!(token["refresh_token"], json!(refresh.expose()), "it is rotated");
    let (status, _, rejected) = grant(&client).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(rejected["status"], "BAD_REFRESH_TOKEN");

    client.headers = bearer(token["access_token"].as_str().unwrap());
    assert_eq!(client.get(LEADS).await.0, StatusCode::OK);
    client.fake.expire_tokens();
    let (status, _, body) = client.get(LEADS).await;
    assert_eq!(
        (status, &body["category"]),
        (StatusCode::UNAUTHORIZED, &json!("EXPIRED_AUTHENTICATION"))
    );
}

#[tokio::test]
async fn an_upsert_of_a_new_lead_fails_unless_a_lead_may_have_no_contact() {
    let client = Client::new().await;
    client.fake.add_unique_property("crm_key");
    client.create("Jane").await;
    let input = |key: &str| json!({"id": key, "idProperty": "crm_key", "properties": {"hs_lead_name": key}});
    let upsert = json!({ "inputs": [input("ext-900")] });
    let (status, _, body) = client.post(&format!("{LEADS}/batch/upsert"), &upsert).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert_eq!(client.fake.leads().len(), 1, "no contact is invented");
    client.fake.behave(|behaviour| behaviour.contactless_upserts = true);
    let bare = json!({"properties": {"hs_lead_name": "Bare"}});
    assert_eq!(client.post(LEADS, &bare).await.0, StatusCode::BAD_REQUEST, "a create needs one");
    let (status, _, body) = client.post(&format!("{LEADS}/batch/upsert"), &upsert).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(client.fake.leads()[1]["associations"], json!([]));
}

#[tokio::test]
async fn the_record_id_is_no_id_property_unless_the_switch_allows_it() {
    let client = Client::new().await;
    let id = client.create("Jane").await;
    let changed = json!({"properties": {"hs_lead_label": "HOT"}});
    let input =
        json!({"id": id, "idProperty": "hs_object_id", "properties": changed["properties"]});
    let path = format!("{LEADS}/{id}?idProperty=hs_object_id");
    for (accepted, expected) in [(false, StatusCode::BAD_REQUEST), (true, StatusCode::OK)] {
        client.fake.behave(|behaviour| behaviour.record_id_as_id_property = accepted);
        let read = json!({"inputs": [{"id": id}], "idProperty": "hs_object_id"});
        let batch = json!({ "inputs": [input] });
        for (method, path, body) in [
            ("GET", path.clone(), &Value::Null),
            ("PATCH", path.clone(), &changed),
            ("POST", format!("{LEADS}/batch/read"), &read),
            ("POST", format!("{LEADS}/batch/update"), &batch),
            ("POST", format!("{LEADS}/batch/upsert"), &batch),
        ] {
            let (status, _, answer) = client.send(method, &path, body).await;
            assert_eq!(status, expected, "{method} {path}: {answer}");
            if !accepted {
                assert_eq!(answer["message"], "property hs_object_id is not unique");
            }
        }
    }
}

#[tokio::test]
async fn a_lead_is_assigned_only_to_an_owner_that_exists() {
    let client = Client::new().await;
    let owner = client.fake.add_owner("sales@example.com");
    let id = client.create("Jane").await;
    let path = format!("{LEADS}/{id}");
    let assign = |owner: &str| json!({"properties": {"hubspot_owner_id": owner}});
    let traced = |owner: &str| json!({"id": id, "properties": {"hubspot_owner_id": owner}, "objectWriteTraceId": "t"});
    let batch = json!({ "inputs": [traced("7")] });
    client.fake.behave(|behaviour| behaviour.property_errors_per_item = true);
    let (status, _, body) = client.send("PATCH", &path, &assign("7")).await;
    assert_eq!(
        (status, &body["errors"][0]["code"]),
        (StatusCode::BAD_REQUEST, &json!("INVALID_OPTION"))
    );
    let (status, _, body) = client.post(&format!("{LEADS}/batch/update"), &batch).await;
    assert_eq!((status, body["numErrors"].as_u64()), (StatusCode::MULTI_STATUS, Some(1)), "{body}");
    for accepted in [&*owner, ""] {
        let (status, _, body) = client.send("PATCH", &path, &assign(accepted)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    client.fake.behave(|behaviour| behaviour.unknown_owners = true);
    let (status, ..) = client.send("PATCH", &path, &assign("7")).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn an_association_type_is_a_number_of_its_category() {
    let client = Client::new().await;
    let contact = client.fake.add_contact("ada@example.com");
    let company = client.fake.add_company("Example Ltd");
    let label = client.fake.add_contact_label("Decision maker");
    let kind =
        |category: &str, id: u64| json!({"associationCategory": category, "associationTypeId": id});
    for (category, id, to, is_created) in [
        ("HUBSPOT_DEFINED", 578, &contact, true),
        ("HUBSPOT_DEFINED", 608, &contact, true),
        ("USER_DEFINED", label, &contact, true),
        ("HUBSPOT_DEFINED", label, &contact, false),
        ("USER_DEFINED", 578, &contact, false),
        ("INTEGRATOR_DEFINED", 578, &contact, false),
        ("WORK", 578, &contact, false),
        ("HUBSPOT_DEFINED", 580, &company, false),
        // A label of contacts.
        ("USER_DEFINED", label, &company, false),
    ] {
        let mut lead = lead("Ada", to);
        lead["associations"][0]["types"] = json!([kind(category, id)]);
        let (status, _, body) = client.post(LEADS, &lead).await;
        assert_eq!(status == StatusCode::CREATED, is_created, "{category} {id}: {body}");
    }
    // Without a category, the number has no meaning.
    let mut bare = lead("Ada", &contact);
    bare["associations"][0]["types"] = json!([{"associationTypeId": 578}]);
    assert_eq!(client.post(LEADS, &bare).await.0, StatusCode::BAD_REQUEST);
    // Labels are listed and returned with their category.
    let (_, _, labels) = client.get("/crm/v4/associations/leads/contacts/labels").await;
    let defined = json!({"category": "USER_DEFINED", "typeId": label, "label": "Decision maker"});
    assert_eq!(labels["results"][2], defined);
    let lead = client.create("Jane").await;
    let path = format!("{LEADS}/{lead}/associations/contacts/{contact}");
    let kinds = json!([kind("USER_DEFINED", label)]);
    assert_eq!(client.send("PUT", &path, &kinds).await.0, StatusCode::CREATED);
    let inputs = json!({"inputs": [{ "id": lead }]});
    let path = "/crm/v4/associations/leads/contacts/batch/read";
    let (_, _, body) = client.post(path, &inputs).await;
    let to = body["results"][0]["to"].as_array().unwrap();
    let labelled = to.iter().find(|record| record["toObjectId"] == json!(contact)).unwrap();
    assert_eq!(labelled["associationTypes"], json!([defined]));
}

#[tokio::test]
async fn associations_of_unknown_object_types_are_rejected() {
    let client = Client::new().await;
    let id = client.create("Jane").await;
    let company = client.fake.add_company("Example Ltd");
    let link = json!([{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 610}]);
    let batch = json!({"inputs": [{ "id": id }]});
    for (method, path, body) in [
        ("GET", format!("{LEADS}/{id}?associations=contacts,widgets"), &Value::Null),
        ("GET", format!("{LEADS}?associations=widgets"), &Value::Null),
        ("GET", format!("{LEADS}/{id}/associations/widgets"), &Value::Null),
        ("PUT", format!("{LEADS}/{id}/associations/widgets/{company}"), &link),
        ("PUT", format!("{LEADS}/{id}/associations/default/widgets/{company}"), &Value::Null),
        ("DELETE", format!("{LEADS}/{id}/associations/widgets/{company}"), &Value::Null),
        ("GET", "/crm/v4/associations/leads/widgets/labels".to_owned(), &Value::Null),
        ("POST", "/crm/v4/associations/leads/widgets/batch/read".to_owned(), &batch),
    ] {
        let (status, _, answer) = client.send(method, &path, body).await;
        let text = answer["message"].as_str().unwrap_or_default();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{method} {path}");
        assert_eq!(text, "Unable to infer object type from: widgets", "{method} {path}");
    }
    // A task is a known object type, but the fake has none: no such record.
    let path = format!("{LEADS}/{id}/associations/default/tasks/{company}");
    let (status, _, answer) = client.send("PUT", &path, &Value::Null).await;
    assert_eq!(
        (status, &answer["category"]),
        (StatusCode::BAD_REQUEST, &json!("VALIDATION_ERROR"))
    );
    client.fake.behave(|behaviour| behaviour.ignore_unknown_associations = true);
    let (status, _, lead) =
        client.get(&format!("{LEADS}/{id}?associations=contacts,widgets")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(lead["associations"].as_object().unwrap().keys().collect::<Vec<_>>(), ["contacts"]);
}

#[tokio::test]
async fn owners_can_be_read_with_their_scope() {
    let client = Client::new().await;
    let owner = client.fake.add_owner("sales@example.com");
    let (status, _, body) = client.get("/crm/v3/owners").await;
    assert_eq!((status, &body["category"]), (StatusCode::FORBIDDEN, &json!("MISSING_SCOPES")));
    let headers = bearer(client.fake.static_token(&[OWNERS]).expose());
    for path in ["/crm/v3/owners", "/crm/owners/2026-09"] {
        let (status, _, body) = receive(&client.fake, "GET", path, "", &headers, Vec::new()).await;
        assert_eq!((status, &body["results"][0]["id"]), (StatusCode::OK, &json!(owner)));
        let path = format!("{path}/{owner}");
        let (status, _, body) = receive(&client.fake, "GET", &path, "", &headers, Vec::new()).await;
        assert_eq!((status, &body["email"]), (StatusCode::OK, &json!("sales@example.com")));
        let path = path.replace(&owner, "1");
        let (status, ..) = receive(&client.fake, "GET", &path, "", &headers, Vec::new()).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
}

#[test]
fn the_behaviour_is_the_same_after_it_was_written_as_json() {
    let other = Behaviour {
        echo_trace_ids: true,
        num_errors: NumErrors::Absent,
        default_properties: vec!["hs_lead_name".to_owned()],
        index_lag: Duration::from_millis(1_500),
        ..Behaviour::default()
    };
    for behaviour in [Behaviour::default(), other] {
        let json = serde_json::to_value(&behaviour).unwrap();
        assert_eq!(serde_json::from_value::<Behaviour>(json).unwrap(), behaviour);
    }
    let partial = json!({"index_lag": 0.25, "num_errors": "inputs"});
    let behaviour: Behaviour = serde_json::from_value(partial).unwrap();
    let expected = Behaviour {
        index_lag: Duration::from_millis(250),
        num_errors: NumErrors::Inputs,
        ..Behaviour::default()
    };
    assert_eq!(behaviour, expected);
    for odd in [json!({"no_such_switch": true}), json!({"index_lag": -1.0})] {
        assert!(serde_json::from_value::<Behaviour>(odd).is_err());
    }
}

/// docs/HUBSPOT_FACTS.md lists every switch with its evidence.
#[test]
fn every_switch_is_listed_with_its_evidence() {
    let page = include_str!("../../../../docs/HUBSPOT_FACTS.md");
    let source = include_str!("../behaviour.rs");
    let body = source.split_once("pub struct Behaviour {").unwrap().1.split_once("\n}").unwrap().0;
    let fields = body.lines().filter_map(|line| line.trim().strip_prefix("pub "));
    let switches: Vec<&str> = fields.filter_map(|field| Some(field.split_once(':')?.0)).collect();
    assert!(switches.len() > 30, "{switches:?}");
    for switch in &switches {
        let start = format!("| `{switch}` |");
        let row = page.lines().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("{switch} is not listed"));
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty()), "{row}");
    }
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let unknown: Vec<_> = rows.filter(|(name, _)| !switches.contains(name)).collect();
    assert!(unknown.is_empty(), "no switches: {unknown:?}");
}
