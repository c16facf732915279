//! Writes that are validated against the schema: with `validate_only`, and before they are sent.

use std::collections::BTreeMap;

use leadsd::grpc::pb::{self, schema_service_client::SchemaServiceClient};
use leadsd_hubspot_fake::{ApiError, ScriptedResponse};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{TestApp, cases, failure, properties, to_f64};

/// Options of the list property of the tests.
const INTERESTS: [&str; 4] = ["skiing", "sailing", "chess", "größe"];

/// Adds a property of each type to the account.
fn add_properties(app: &TestApp) {
    let options: Vec<_> =
        INTERESTS.iter().map(|value| json!({"value": value, "label": value})).collect();
    for definition in [
        json!({"name": "budget", "type": "number", "fieldType": "number"}),
        json!({"name": "is_vip", "type": "bool", "fieldType": "booleancheckbox"}),
        json!({"name": "close_date", "type": "date", "fieldType": "date"}),
        json!({"name": "interests", "type": "enumeration", "fieldType": "checkbox",
               "options": options}),
        json!({"name": "score", "type": "number", "fieldType": "calculation_equation",
               "calculated": true}),
    ] {
        app.hubspot.add_property(&definition);
    }
    app.hubspot.add_pipeline("777", "Partners", &[("778", "Talking"), ("779", "Signed")]);
    app.hubspot.add_unique_property("crm_key");
}

async fn started(mode: &str) -> TestApp {
    let app = TestApp::builder().set("HUBSPOT__VALIDATE", mode).start().await;
    add_properties(&app);
    app
}

/// Paths of HubSpot calls that write.
fn writes(app: &TestApp) -> Vec<String> {
    let calls = app.hubspot_calls().into_iter();
    calls.filter(|call| !call.starts_with("GET ")).collect()
}

fn invalid(app: &TestApp) -> pb::CreateLeadRequest {
    let mut request = app.create_request("Jane");
    request.properties.extend(properties(&[
        ("hs_lead_label", "hot"),
        ("hs_lead_nmae", "x"),
        ("hs_object_id", "7"),
        ("budget", "much"),
        ("is_vip", "yes"),
        ("close_date", "2026-02-30"),
        ("hs_next_activity_date", "soon"),
        ("interests", "skiing;golf"),
        ("score", "1"),
        ("hs_pipeline", "777"),
        ("hs_pipeline_stage", "new-stage-id"),
        ("hubspot_owner_id", "jane@example.com"),
    ]));
    request
}

/// Violations of a status, by field.
fn violations(status: &Status) -> BTreeMap<String, String> {
    let details = status.get_details_bad_request().expect("violations");
    details.field_violations.into_iter().map(|own| (own.field, own.description)).collect()
}

#[tokio::test]
async fn validate_only_names_every_violation_and_writes_nothing() {
    let app = started("off").await;
    let mut client = app.leads.clone();
    let request = pb::CreateLeadRequest { validate_only: true, ..invalid(&app) };
    let status = client.create_lead(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let found = violations(&status);
    let fields: Vec<String> = found
        .keys()
        .map(|field| field.trim_start_matches("properties[\"").trim_end_matches("\"]").to_owned())
        .collect();
    assert_eq!(
        fields,
        [
            "budget",
            "close_date",
            "hs_lead_label",
            "hs_lead_nmae",
            "hs_next_activity_date",
            "hs_object_id",
            "hs_pipeline_stage",
            "hubspot_owner_id",
            "interests",
            "is_vip",
            "score",
        ]
    );
    assert_eq!(
        found["properties[\"hs_lead_label\"]"],
        "is not an option of the property; did you mean HOT?; allowed: HOT, WARM, COLD"
    );
    assert_eq!(
        found["properties[\"hs_lead_nmae\"]"],
        "is not a property of leads; did you mean hs_lead_name?"
    );
    assert_eq!(
        found["properties[\"hs_pipeline_stage\"]"],
        "is not a stage of pipeline 777; allowed: 778, 779"
    );
    // The second call has the copies, so it costs nothing.
    let valid = pb::CreateLeadRequest { validate_only: true, ..app.create_request("Jane") };
    let mut valid = tonic::Request::new(valid);
    valid.metadata_mut().insert("x-request-id", "validated".parse().unwrap());
    let answer = client.create_lead(valid).await.unwrap();
    assert_eq!(answer.metadata().get("leadsd-quota-cost").unwrap(), "0");
    assert_eq!(answer.into_inner().lead, None);
    assert_eq!(writes(&app), [""; 0]);
    assert!(app.hubspot_calls().len() <= 4, "{:?}", app.hubspot_calls());
    assert_eq!(app.logs.events("leadsd::audit", "validated").len(), 0, "nothing is written");
}

#[tokio::test]
async fn every_write_of_one_lead_has_validate_only() {
    let app = started("off").await;
    let lead = app.lead("Jane");
    let mut client = app.leads.clone();
    let (wrong, right) = (properties(&[("budget", "much")]), properties(&[("budget", "10")]));
    for (values, is_valid) in [(&right, true), (&wrong, false)] {
        let mut create =
            pb::CreateLeadRequest { validate_only: true, ..app.create_request("Jane") };
        create.properties.extend(values.clone());
        assert_eq!(client.create_lead(create).await.is_ok(), is_valid);
        let update = pb::UpdateLeadRequest {
            id: lead.clone(),
            properties: values.clone(),
            validate_only: true,
            ..Default::default()
        };
        assert_eq!(client.update_lead(update).await.is_ok(), is_valid);
        let upsert = pb::UpsertLeadRequest {
            id: "k-1".to_owned(),
            id_property: "crm_key".to_owned(),
            properties: values.clone(),
            validate_only: true,
            ..Default::default()
        };
        assert_eq!(client.upsert_lead(upsert).await.is_ok(), is_valid);
    }
    let archive =
        pb::ArchiveLeadRequest { id: lead.clone(), validate_only: true, ..Default::default() };
    client.archive_lead(archive).await.unwrap();
    assert_eq!(writes(&app), [""; 0]);
    app.get(&lead).await.unwrap();
}

#[tokio::test]
async fn batches_with_validate_only_have_results_by_input() {
    let app = started("off").await;
    let lead = app.lead("Jane");
    let mut client = app.leads.clone();
    let (wrong, right) = (properties(&[("budget", "much")]), properties(&[("budget", "10")]));
    let inputs = vec![
        app.create_input("Jane", &[("budget", "10")]),
        app.create_input("Jane", &[("budget", "much"), ("is_vip", "yes")]),
        app.create_input("", &[]),
    ];
    let request = pb::BatchCreateLeadsRequest { inputs, validate_only: true, ..Default::default() };
    let results = client.batch_create_leads(request).await.unwrap().into_inner().results;
    let errors: Vec<_> = results
        .iter()
        .map(|result| match &result.outcome {
            None => "valid".to_owned(),
            Some(pb::lead_write_result::Outcome::Error(status)) => status.message.clone(),
            Some(pb::lead_write_result::Outcome::Lead(_)) => panic!("a lead was written"),
        })
        .collect();
    assert_eq!(errors[0], "valid");
    assert!(
        errors[1].starts_with("inputs[1].properties[\"budget\"]: is not a number"),
        "{errors:?}"
    );
    assert!(errors[1].contains("inputs[1].properties[\"is_vip\"]: must be true or false"));
    assert!(errors[2].starts_with("inputs[2].properties[\"hs_lead_name\"]"), "{errors:?}");
    let updates = vec![
        pb::LeadUpdate { id: lead.clone(), properties: right.clone(), ..Default::default() },
        pb::LeadUpdate { id: "8".to_owned(), properties: wrong.clone(), ..Default::default() },
    ];
    let request =
        pb::BatchUpdateLeadsRequest { inputs: updates, validate_only: true, ..Default::default() };
    let results = client.batch_update_leads(request).await.unwrap().into_inner().results;
    assert_eq!(results.iter().map(|own| own.outcome.is_none()).collect::<Vec<_>>(), [true, false]);
    let upsert = |id: &str, values: &BTreeMap<String, String>| pb::LeadUpsert {
        id: id.to_owned(),
        id_property: "crm_key".to_owned(),
        properties: values.clone(),
        ..Default::default()
    };
    let inputs = vec![upsert("a", &wrong), upsert("b", &right)];
    let request = pb::BatchUpsertLeadsRequest { inputs, validate_only: true, ..Default::default() };
    let results = client.batch_upsert_leads(request).await.unwrap().into_inner().results;
    assert_eq!(results.iter().map(|own| own.outcome.is_none()).collect::<Vec<_>>(), [false, true]);
    let request = pb::BatchArchiveLeadsRequest {
        ids: vec![lead.clone(), String::new()],
        validate_only: true,
        ..Default::default()
    };
    let results = client.batch_archive_leads(request).await.unwrap().into_inner().results;
    let codes: Vec<_> = results.into_iter().map(|own| own.status.unwrap().code).collect();
    assert_eq!(codes, [0, 3]);
    assert_eq!(writes(&app), [""; 0]);
    app.get(&lead).await.unwrap();
}

#[tokio::test]
async fn association_types_are_validated_singly_and_in_batches() {
    let app = started("off").await;
    let lead = app.lead("Jane");
    let label = i32::try_from(app.hubspot.add_contact_label("Decision maker")).unwrap();
    let mut client = app.leads.clone();
    let kind = |category: pb::AssociationCategory, type_id| pb::AssociationType {
        category: category.into(),
        type_id,
    };
    let user = |id| vec![kind(pb::AssociationCategory::UserDefined, id)];
    let defined = |id| vec![kind(pb::AssociationCategory::HubspotDefined, id)];
    let associate = |types| pb::AssociateLeadRequest {
        lead_id: lead.clone(),
        object_type: "contacts".to_owned(),
        to_id: app.contact.clone(),
        types,
        validate_only: true,
        ..Default::default()
    };
    client.associate_lead(associate(user(label))).await.unwrap();
    client.associate_lead(associate(defined(608))).await.unwrap();
    let status = client.associate_lead(associate(defined(580))).await.unwrap_err();
    assert!(violations(&status).contains_key("types[0].type_id"), "{status:?}");
    let inputs = [label, 9_999].map(|id| pb::LeadAssociation {
        lead_id: lead.clone(),
        to_id: app.contact.clone(),
        types: user(id),
        ..Default::default()
    });
    let request = pb::BatchDissociateLeadsRequest {
        object_type: "contacts".to_owned(),
        inputs: inputs.to_vec(),
        validate_only: true,
        ..Default::default()
    };
    let results = client.batch_dissociate_leads(request).await.unwrap().into_inner().results;
    let statuses: Vec<_> = results.into_iter().map(|own| own.status.unwrap()).collect();
    assert_eq!(statuses[0].code, 0);
    assert!(statuses[1].message.starts_with("inputs[1].types[0].type_id: "), "{statuses:?}");
    let dissociate = pb::DissociateLeadRequest {
        lead_id: lead.clone(),
        object_type: "contacts".to_owned(),
        to_id: app.contact.clone(),
        types: defined(609),
        validate_only: true,
        ..Default::default()
    };
    let status = client.dissociate_lead(dissociate).await.unwrap_err();
    assert!(violations(&status).contains_key("types[0].type_id"), "{status:?}");
    assert_eq!(writes(&app), [""; 0]);
}

#[tokio::test]
async fn enforce_refuses_before_hubspot_and_counts_it() {
    let app = started("enforce").await;
    let mut client = app.leads.clone();
    // Without a copy nothing is refused. The write reads the copy in the background.
    client.create_lead(app.create_request("Jane")).await.unwrap();
    let only = pb::CreateLeadRequest { validate_only: true, ..invalid(&app) };
    client.create_lead(only).await.unwrap_err();
    let before = writes(&app).len();
    for _ in 0..3 {
        let (code, reason, fields) = failure(client.create_lead(invalid(&app)).await);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
        assert_eq!(fields.len(), 11, "{fields:?}");
    }
    assert_eq!(writes(&app).len(), before);
    let refused = app.metric("leadsd_validated_writes_total{outcome=\"refused\"}").await;
    assert_eq!(refused, Some(3.0));
    let options = app.metric("leadsd_validation_violations_total{kind=\"option\"}").await;
    assert_eq!(options, Some(6.0));
    assert!(app.metric("leadsd_schema_bytes{}").await.unwrap() > 1_000.0);
}

#[tokio::test]
async fn a_property_that_is_added_meanwhile_is_accepted() {
    let app = started("enforce").await;
    let mut client = app.leads.clone();
    let warm = pb::CreateLeadRequest { validate_only: true, ..app.create_request("Jane") };
    client.create_lead(warm).await.unwrap();
    for name in ["added_first", "added_second", "added_third"] {
        app.hubspot.add_text_property(name);
        let mut request = app.create_request("Jane");
        request.properties.insert(name.to_owned(), "x".to_owned());
        client.create_lead(request).await.unwrap();
    }
    assert!(app.hubspot_calls().iter().filter(|call| call.starts_with("GET ")).count() <= 4);
}

#[tokio::test]
async fn a_portal_has_its_own_mode() {
    let app = TestApp::builder()
        .portals(&["default", "strict"])
        .set("PORTALS__STRICT__VALIDATE", "enforce")
        .start()
        .await;
    let invalid = |validate_only| {
        let mut request = app.create_request("Jane");
        request.properties.insert("hs_lead_label".to_owned(), "BOILING".to_owned());
        pb::CreateLeadRequest { validate_only, ..request }
    };
    for (portal, expected) in [("default", "VALIDATION_FAILED"), ("strict", "INVALID_REQUEST")] {
        for validate_only in [true, false] {
            let mut request = tonic::Request::new(invalid(validate_only));
            request.metadata_mut().insert("leadsd-portal", portal.parse().unwrap());
            let (_, reason, _) = failure(app.leads.clone().create_lead(request).await);
            let expected = if validate_only { "INVALID_REQUEST" } else { expected };
            assert_eq!(reason, expected, "{portal}");
        }
    }
}

#[tokio::test]
async fn a_status_with_many_violations_fits_in_the_headers_of_default_clients() {
    let app = started("off").await;
    let mut request = app.create_request("Jane");
    for number in 0..500 {
        request.properties.insert(format!("{}_{number}", "ü".repeat(90)), "x".to_owned());
    }
    request.validate_only = true;
    let status = app.leads.clone().create_lead(request).await.unwrap_err();
    let mut headers = http::HeaderMap::new();
    status.add_header(&mut headers).unwrap();
    let size: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(size <= 8_192, "{size} bytes");
    assert!(!violations(&status).is_empty());
}

/// A random value that HubSpot accepts.
fn valid_value(name: &str, random: &mut SmallRng) -> String {
    match name {
        "hs_lead_label" => (*["HOT", "WARM", "COLD"].choose(random).unwrap()).to_owned(),
        "hs_lead_type" => {
            (*["NEW_BUSINESS", "RE_ATTEMPTING", "UPSELL"].choose(random).unwrap()).to_owned()
        }
        "hs_pipeline_stage" => {
            (*["778", "779", "new-stage-id", "qualified-stage-id"].choose(random).unwrap())
                .to_owned()
        }
        "budget" | "hs_lead_pipeline_value" => match random.random_range(0..4) {
            0 => random.random::<i64>().to_string(),
            1 => random.random::<f64>().to_string(),
            2 => format!("-{}.50", random.random_range(0..u32::MAX)),
            _ => format!("{}e{}", random.random_range(1..9), random.random_range(0..30)),
        },
        "is_vip" => random.random::<bool>().to_string(),
        "close_date" => match random.random_range(0..2) {
            0 => format!(
                "{:04}-{:02}-{:02}",
                random.random_range(1900..2100),
                random.random_range(1..=12),
                random.random_range(1..=28)
            ),
            _ => (random.random_range(-20_000i64..60_000) * 86_400_000).to_string(),
        },
        "hs_next_activity_date" => match random.random_range(0..3) {
            0 => random.random_range(-2_000_000_000_000i64..4_000_000_000_000).to_string(),
            1 => format!("2026-{:02}-01T10:00:00+02:00", random.random_range(1..=12)),
            _ => format!(
                "2026-{:02}-{:02}",
                random.random_range(1..=12),
                random.random_range(1..=28)
            ),
        },
        "interests" => {
            let count = random.random_range(1..=INTERESTS.len());
            INTERESTS.sample(random, count).copied().collect::<Vec<_>>().join(";")
        }
        "rating" => {
            let places = random.random_range(0..=2);
            format!("{:.places$}", f64::from(random.random_range(-500i32..=1_000)) / 10.0)
        }
        "code" => {
            let letters = ['0', '7', '9'];
            let length = random.random_range(3..=12);
            (0..length).map(|_| *letters.choose(random).unwrap()).collect()
        }
        _ => {
            let letters = ['a', 'Z', ' ', 'ß', '漢', ';', ',', '\n', '"', '0'];
            let length = random.random_range(1..30);
            let text: String = (0..length).map(|_| *letters.choose(random).unwrap()).collect();
            format!("x{text}")
        }
    }
}

/// Properties of the random writes.
const NAMES: [&str; 15] = [
    "hs_lead_label",
    "hs_lead_type",
    "hs_pipeline_stage",
    "budget",
    "hs_lead_pipeline_value",
    "is_vip",
    "close_date",
    "hs_next_activity_date",
    "interests",
    "hs_lead_source",
    "hs_lead_disqualification_note",
    "hubspot_owner_id",
    "code",
    "rating",
    "odd",
];

/// Adds properties with validation rules, some of them of unknown types, and reads the rules.
async fn add_rules(app: &TestApp) {
    let rating = json!({"name": "rating", "type": "number", "fieldType": "number"});
    app.hubspot.add_property(&rating);
    for name in ["code", "odd"] {
        app.hubspot.add_text_property(name);
    }
    for (property, kind, argument) in [
        ("code", "MIN_LENGTH", "3"),
        ("code", "MAX_LENGTH", "12"),
        ("code", "ALPHANUMERIC", "NUMERIC_ONLY"),
        ("rating", "MIN_NUMBER", "-50"),
        ("rating", "MAX_NUMBER", "100"),
        ("rating", "DECIMAL", "2"),
        ("odd", "REGEX", "^never$"),
        ("odd", "RULE_OF_TOMORROW", "1"),
        ("odd", "MAX_LENGTH", "many"),
        ("odd", "ALPHANUMERIC", "RUNES_ONLY"),
        ("odd", "WHITESPACE", ""),
    ] {
        app.hubspot.add_validation_rule(property, kind, &[argument]);
    }
    let mut schema = SchemaServiceClient::connect(format!("http://{}", app.grpc)).await.unwrap();
    let request = pb::ListLeadPropertiesRequest { validation_rules: true, ..Default::default() };
    let listed = schema.list_lead_properties(request).await.unwrap().into_inner();
    assert_eq!(listed.validation_rules_error, None);
}

/// 100,000 valid writes in full runs: the fake accepts each, and none is refused.
#[tokio::test]
async fn no_valid_write_is_refused() {
    let app = TestApp::builder()
        .set("HUBSPOT__VALIDATE", "enforce")
        .set("QUOTA__BURST", "1000000")
        .start()
        .await;
    app.hubspot.limit(|limits| limits.burst = 1_000_000);
    add_properties(&app);
    let owner = app.hubspot.add_owner("ada@example.com");
    add_rules(&app).await;
    let mut client = app.leads.clone();
    let warm = pb::CreateLeadRequest { validate_only: true, ..app.create_request("Jane") };
    client.create_lead(warm).await.unwrap();
    let stages = pb::UpdateLeadRequest {
        id: "1".to_owned(),
        properties: properties(&[("hs_pipeline_stage", "778")]),
        validate_only: true,
        ..Default::default()
    };
    client.update_lead(stages).await.unwrap();
    let mut random = SmallRng::seed_from_u64(20);
    let (batches, size) = (cases(2, 100), cases(500, 1_000));
    for _ in 0..batches {
        let input = |_| {
            let mut values = BTreeMap::new();
            for name in NAMES {
                if random.random_bool(0.5) {
                    let value = match (name, random.random_bool(0.1)) {
                        (_, true) => String::new(),
                        ("hubspot_owner_id", false) => owner.clone(),
                        (name, false) => valid_value(name, &mut random),
                    };
                    values.insert(name.to_owned(), value);
                }
            }
            let mut input = app.create_input("Jane", &[]);
            input.properties.extend(values);
            input
        };
        let inputs: Vec<_> = (0..size).map(input).collect();
        let request = pb::BatchCreateLeadsRequest { inputs: inputs.clone(), ..Default::default() };
        let results = client.batch_create_leads(request).await.unwrap().into_inner().results;
        for (result, input) in results.iter().zip(&inputs) {
            let outcome = result.outcome.as_ref();
            let is_lead = matches!(outcome, Some(pb::lead_write_result::Outcome::Lead(_)));
            assert!(is_lead, "{:?}: {:?}", input.properties, result.outcome);
        }
    }
    let count = async |outcome: &str| {
        let name = format!("leadsd_validated_writes_total{{outcome=\"{outcome}\"}}");
        app.metric(&name).await.unwrap()
    };
    let (valid, unchecked) = (count("valid").await, count("unchecked").await);
    // A slow run may outlast the copies, which are then read again in the background.
    assert_eq!(valid + unchecked, to_f64(batches * size));
    assert!(valid > unchecked, "{valid} and {unchecked}");
}

/// Types of rules with their arguments.
type Rules = Vec<(String, Vec<String>)>;

#[tokio::test]
async fn rules_of_the_portal_are_listed_and_then_validated() {
    let app = started("enforce").await;
    app.hubspot.add_text_property("zip_code");
    app.hubspot.add_validation_rule("zip_code", "ALPHANUMERIC", &["NUMERIC_ONLY"]);
    app.hubspot.add_validation_rule("zip_code", "MAX_LENGTH", &["5"]);
    app.hubspot.add_validation_rule("budget", "MIN_NUMBER", &["1"]);
    app.hubspot.add_validation_rule("crm_key", "REGEX", &["^[a-z]+$"]);
    let mut client = app.leads.clone();
    let wrong = |value: &str| {
        let mut request = app.create_request("Jane");
        request.properties.insert("zip_code".to_owned(), value.to_owned());
        pb::CreateLeadRequest { validate_only: true, ..request }
    };
    // Rules that are not known are left to HubSpot.
    client.create_lead(wrong("123456")).await.unwrap();
    let mut schema = SchemaServiceClient::connect(format!("http://{}", app.grpc)).await.unwrap();
    let list = |validation_rules| pb::ListLeadPropertiesRequest {
        names: ["zip_code", "crm_key", "hs_lead_name"].map(str::to_owned).to_vec(),
        validation_rules,
        ..Default::default()
    };
    let plain = schema.list_lead_properties(list(false)).await.unwrap().into_inner();
    assert!(plain.properties.iter().all(|own| own.validation_rules.is_empty()));
    assert_eq!(plain.validation_rules_fetch_time, None);
    for _ in 0..3 {
        let listed = schema.list_lead_properties(list(true)).await.unwrap().into_inner();
        assert!(listed.validation_rules_fetch_time.is_some(), "{listed:?}");
        assert_eq!(listed.validation_rules_error, None);
        let rules: Vec<(String, Rules)> = listed
            .properties
            .into_iter()
            .map(|own| {
                let rule = |rule: pb::ValidationRule| (rule.r#type, rule.arguments);
                (own.name, own.validation_rules.into_iter().map(rule).collect())
            })
            .collect();
        let rule = |kind: &str, argument: &str| (kind.to_owned(), vec![argument.to_owned()]);
        let zip_code = vec![rule("ALPHANUMERIC", "NUMERIC_ONLY"), rule("MAX_LENGTH", "5")];
        assert_eq!(
            rules,
            [
                ("crm_key".to_owned(), vec![rule("REGEX", "^[a-z]+$")]),
                ("hs_lead_name".to_owned(), Vec::new()),
                ("zip_code".to_owned(), zip_code),
            ]
        );
    }
    for (value, expected) in [
        ("12345", None),
        ("", None),
        ("1234a", Some("may only have digits, by a rule of the portal")),
        ("123456", Some("is too long for a rule of the portal (limit 5 characters, has 6)")),
    ] {
        let result = client.create_lead(wrong(value)).await;
        let found =
            result.err().map(|status| violations(&status)["properties[\"zip_code\"]"].clone());
        assert_eq!(found.as_deref(), expected, "{value}");
    }
    let calls = app.hubspot_calls();
    assert!(calls.len() <= 4, "{calls:?}");
    assert_eq!(calls.iter().filter(|call| call.contains("property-validations")).count(), 1);
    // Without a call that confirms it, a write is sent, and HubSpot's rejection makes the violation certain.
    let sent = || pb::CreateLeadRequest { validate_only: false, ..wrong("1234567") };
    let (_, reason, fields) = failure(client.create_lead(sent()).await);
    assert_eq!(
        (reason.as_str(), fields),
        ("VALIDATION_FAILED", vec!["properties[\"zip_code\"]".to_owned()])
    );
    let (_, reason, _) = failure(client.create_lead(sent()).await);
    assert_eq!(reason, "INVALID_REQUEST");
    assert_eq!(writes(&app).len(), 1);
}

#[tokio::test]
async fn properties_are_listed_although_their_rules_cannot_be_read() {
    let app = started("off").await;
    let refused = ScriptedResponse::Reject(ApiError::Forbidden);
    app.hubspot.script("GET", "/property-validations/2026-09/0-136", refused);
    let mut schema = SchemaServiceClient::connect(format!("http://{}", app.grpc)).await.unwrap();
    let request = pb::ListLeadPropertiesRequest { validation_rules: true, ..Default::default() };
    let listed = schema.list_lead_properties(request).await.unwrap().into_inner();
    assert!(!listed.properties.is_empty());
    assert_eq!(listed.validation_rules_fetch_time, None);
    assert_eq!(listed.validation_rules_error.unwrap().code, Code::PermissionDenied as i32);
}
