//! Contacts of new leads by e-mail address, over real sockets.

use leadsd::grpc::pb::{self, contact_reference::Key, lead_upsert_result, lead_write_result};
use leadsd_base::secret::SECRET_MARKER;
use leadsd_hubspot_fake::ScriptedResponse;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use crate::harness::{TestApp, failure, properties};

fn by_email(email: &str) -> Option<pb::ContactReference> {
    Some(pb::ContactReference { key: Some(Key::Email(email.to_owned())), ..Default::default() })
}

fn create(name: &str, contact: Option<pb::ContactReference>) -> pb::CreateLeadRequest {
    let properties = properties(&[("hs_lead_name", name)]);
    pb::CreateLeadRequest { properties, contact, ..Default::default() }
}

fn input(name: &str, contact: Option<pb::ContactReference>) -> pb::LeadCreate {
    let properties = properties(&[("hs_lead_name", name)]);
    pb::LeadCreate { properties, contact, ..Default::default() }
}

/// Contact of a lead that the fake has.
fn contact_of(app: &TestApp, lead: &str) -> String {
    let leads = app.hubspot.leads();
    let lead = leads.iter().find(|own| own["id"] == lead).expect("the lead");
    lead["associations"][0][1].as_str().expect("a contact").to_owned()
}

#[tokio::test]
async fn a_contact_by_address_costs_one_more_call_and_one_by_id_none_in_every_version() {
    for (version, path) in [
        ("2026-09", "POST /crm/objects/2026-09/contacts/batch/read"),
        ("2026-03", "POST /crm/objects/2026-03/contacts/batch/read"),
        ("v3", "POST /crm/v3/objects/contacts/batch/read"),
    ] {
        let app = TestApp::builder().api_version(version).start().await;
        let ada = app.hubspot.add_contact("ada@example.com");
        let mut leads = app.leads.clone();
        let request = create("by address", by_email("Ada@Example.com"));
        let answer = leads.create_lead(request).await.unwrap();
        assert_eq!(answer.metadata().get("leadsd-quota-cost").unwrap(), "2");
        let lead = answer.into_inner().lead.unwrap();
        assert_eq!(contact_of(&app, &lead.id), ada);
        let calls = app.hubspot_calls();
        assert_eq!(calls.len(), 2, "{calls:?}");
        assert!(calls[0].starts_with(path), "{calls:?}");
        let by_id =
            Some(pb::ContactReference { key: Some(Key::Id(ada.clone())), ..Default::default() });
        let answer = leads.create_lead(create("by id", by_id)).await.unwrap();
        assert_eq!(answer.metadata().get("leadsd-quota-cost").unwrap(), "1");
        assert_eq!(contact_of(&app, &answer.into_inner().lead.unwrap().id), ada);
    }
}

#[tokio::test]
async fn an_unknown_address_is_the_error_of_its_input() {
    for is_batched in [false, true] {
        let app = TestApp::builder().set("QUOTA__BATCHING", &is_batched.to_string()).start().await;
        app.hubspot.add_contact("ada@example.com");
        let inputs = vec![
            input("a", by_email("ada@example.com")),
            input("b", by_email("unknown@example.com")),
            input("c", by_email("not an address")),
            input("d", None),
        ];
        let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
        let answer = app.leads.clone().batch_create_leads(request).await.unwrap().into_inner();
        let fields: Vec<Option<String>> = answer
            .results
            .into_iter()
            .map(|result| match result.outcome.unwrap() {
                lead_write_result::Outcome::Lead(_) => None,
                lead_write_result::Outcome::Error(error) => {
                    assert_eq!(error.code, Code::InvalidArgument as i32);
                    Some(error.message.split(':').next().unwrap().to_owned())
                }
            })
            .collect();
        let fields: Vec<Option<&str>> = fields.iter().map(Option::as_deref).collect();
        assert_eq!(
            fields,
            [
                None,
                Some("inputs[1].contact.email"),
                Some("inputs[2].contact.email"),
                Some("inputs[3].primary_contact_id"),
            ]
        );
        let single = create("e", by_email("Unknown@example.com"));
        let status = app.leads.clone().create_lead(single).await.unwrap_err();
        let violations = status.get_error_details().bad_request().unwrap().clone();
        assert!(violations.field_violations[0].description.contains("unknown@example.com"));
        let (code, reason, fields) = failure(Err::<(), _>(status));
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
        assert_eq!(fields, ["contact.email"]);
    }
}

#[tokio::test]
async fn an_address_that_hubspot_does_not_mention_is_not_unknown() {
    let app = TestApp::start().await;
    app.hubspot.behave(|behaviour| behaviour.contacts_left_out = true);
    app.hubspot.add_contact("ada@example.com");
    let emails = ["ada@example.com", "missing@example.com", "absent@example.com"];
    let inputs = emails.map(|email| input("a", by_email(email))).to_vec();
    let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    let answer = app.leads.clone().batch_create_leads(request).await.unwrap().into_inner();
    let codes: Vec<Option<i32>> = answer
        .results
        .into_iter()
        .map(|result| match result.outcome.unwrap() {
            lead_write_result::Outcome::Lead(_) => None,
            lead_write_result::Outcome::Error(error) => Some(error.code),
        })
        .collect();
    let unavailable = Some(Code::Unavailable as i32);
    assert_eq!(codes, [None, unavailable, unavailable]);
    let single = create("b", by_email("missing@example.com"));
    let status = app.leads.clone().create_lead(single).await.unwrap_err();
    assert!(status.message().contains("missing@example.com"), "{}", status.message());
    let (code, reason, _) = failure(Err::<(), _>(status));
    assert_eq!((code, reason.as_str()), (Code::Unavailable, "UPSTREAM_INVALID_RESPONSE"));
    assert_eq!(app.hubspot.leads().len(), 1);
}

#[tokio::test]
async fn invalid_references_are_rejected_without_a_call() {
    let app = TestApp::start().await;
    let both = pb::CreateLeadRequest {
        primary_contact_id: app.contact.clone(),
        ..create("a", by_email("ada@example.com"))
    };
    let id = |id: &str| {
        Some(pb::ContactReference { key: Some(Key::Id(id.to_owned())), ..Default::default() })
    };
    for (request, field) in [
        (both, "contact"),
        (create("a", Some(pb::ContactReference::default())), "contact"),
        (create("a", by_email("")), "contact.email"),
        (create("a", by_email("ada@")), "contact.email"),
        (create("a", by_email("ada\u{200b}@example.com")), "contact.email"),
        (create("a", by_email(&format!("{}@x.de", "a".repeat(255)))), "contact.email"),
        (create("a", id("")), "contact.id"),
        (create("a", id("ada@example.com")), "contact.id"),
    ] {
        let (code, reason, fields) = failure(app.leads.clone().create_lead(request).await);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
        assert_eq!(fields, [field]);
    }
    assert_eq!(app.hubspot_calls(), [""; 0]);
}

#[tokio::test]
async fn an_upsert_looks_the_contact_of_a_new_lead_up_and_of_no_other() {
    let app = TestApp::start().await;
    app.hubspot.add_unique_property("crm_key");
    let ada = app.hubspot.add_contact("ada@example.com");
    let upsert = |key: &str, email: &str| pb::UpsertLeadRequest {
        id: key.to_owned(),
        id_property: "crm_key".to_owned(),
        properties: properties(&[("hs_lead_name", key)]),
        contact: by_email(email),
        ..Default::default()
    };
    let mut leads = app.leads.clone();
    let first = leads.upsert_lead(upsert("k-1", "ada@example.com")).await.unwrap().into_inner();
    assert!(first.created);
    assert_eq!(contact_of(&app, &first.lead.unwrap().id), ada);
    let is_lookup = |call: &String| call.contains("/contacts/");
    assert_eq!(app.hubspot_calls().iter().filter(|call| is_lookup(call)).count(), 1);
    let again = leads.upsert_lead(upsert("k-1", "unknown@example.com")).await.unwrap();
    assert!(!again.into_inner().created);
    assert_eq!(app.hubspot_calls().iter().filter(|call| is_lookup(call)).count(), 1);
    let inputs = ["ada@example.com", "unknown@example.com"].into_iter().zip(["k-2", "k-3"]);
    let inputs = inputs.map(|(email, key)| {
        let pb::UpsertLeadRequest { id, id_property, properties, contact, .. } = upsert(key, email);
        pb::LeadUpsert { id, id_property, properties, contact, ..Default::default() }
    });
    let request = pb::BatchUpsertLeadsRequest { inputs: inputs.collect(), ..Default::default() };
    let results = leads.batch_upsert_leads(request).await.unwrap().into_inner().results;
    assert!(results[0].created);
    let lead_upsert_result::Outcome::Error(error) = results[1].outcome.clone().unwrap() else {
        panic!("the contact is unknown");
    };
    assert!(error.message.starts_with("inputs[1].contact.email: "), "{}", error.message);
    let none = pb::UpsertLeadRequest { contact: None, ..upsert("k-4", "") };
    assert_eq!(failure(leads.upsert_lead(none).await).2, ["primary_contact_id"]);
}

#[tokio::test]
async fn a_missing_scope_is_named_and_contacts_by_id_work() {
    // The app has the scopes of leads only.
    let app = TestApp::builder().oauth().start().await;
    let mut leads = app.leads.clone();
    let status = leads.create_lead(create("a", by_email("ada@example.com"))).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let details = status.get_error_details();
    let metadata = &details.error_info().unwrap().metadata;
    assert_eq!(metadata["requiredScopes"], "crm.objects.contacts.read");
    assert!(status.message().contains("crm.objects.contacts.read"), "{}", status.message());
    let by_id =
        pb::ContactReference { key: Some(Key::Id(app.contact.clone())), ..Default::default() };
    leads.create_lead(create("a", Some(by_id))).await.unwrap();
}

#[tokio::test]
async fn a_lookup_is_repeated_while_hubspot_is_overloaded_and_its_error_writes_nothing() {
    let app = TestApp::builder().set("HUBSPOT__MAX_ATTEMPTS", "3").start().await;
    let ada = app.hubspot.add_contact("ada@example.com");
    let path = "/contacts/batch/read";
    app.hubspot.script("POST", path, ScriptedResponse::empty(503));
    let mut leads = app.leads.clone();
    let lead = leads.create_lead(create("a", by_email("ada@example.com"))).await.unwrap();
    assert_eq!(contact_of(&app, &lead.into_inner().lead.unwrap().id), ada);
    let html = ScriptedResponse::Reply(403, "text/html", "<html>denied</html>".to_owned());
    app.hubspot.script("POST", path, html);
    let (code, reason, _) =
        failure(leads.create_lead(create("b", by_email("ada@example.com"))).await);
    assert_eq!((code, reason.as_str()), (Code::Unavailable, "UPSTREAM_INVALID_RESPONSE"));
    assert_eq!(app.hubspot.leads().len(), 1);
}

#[tokio::test]
async fn a_further_address_is_found_if_hubspot_finds_it() {
    for (finds, is_created) in [(false, false), (true, true)] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| behaviour.further_addresses = finds);
        let ada = app.hubspot.add_contact("ada@example.com");
        app.hubspot.add_address(&ada, "lovelace@example.com");
        let created =
            app.leads.clone().create_lead(create("a", by_email("Lovelace@example.com"))).await;
        assert_eq!(created.is_ok(), is_created, "{created:?}");
    }
}

#[tokio::test]
async fn a_repeat_with_a_request_id_returns_the_first_lead_after_the_contact_is_gone() {
    let app = TestApp::start().await;
    let ada = app.hubspot.add_contact("ada@example.com");
    let request = |email: &str| pb::CreateLeadRequest {
        request_id: "r-1".to_owned(),
        ..create("a", by_email(email))
    };
    let mut leads = app.leads.clone();
    let first = leads.create_lead(request("ada@example.com")).await.unwrap().into_inner();
    app.hubspot.archive_contact(&ada);
    let again = leads.create_lead(request("ADA@example.com")).await.unwrap().into_inner();
    assert_eq!(first.lead.unwrap().id, again.lead.unwrap().id);
    let (_, reason, _) = failure(leads.create_lead(request("other@example.com")).await);
    assert_eq!(reason, "REQUEST_ID_REUSED");
}

/// The capture of logs fails a test whose lines contain the marker.
#[tokio::test]
async fn no_address_is_logged() {
    let app = TestApp::start().await;
    let known = format!("{SECRET_MARKER}-known@example.com");
    app.hubspot.add_contact(&known);
    let mut leads = app.leads.clone();
    leads.create_lead(create("a", by_email(&known))).await.unwrap();
    let unknown = format!("{SECRET_MARKER}-unknown@example.com");
    for email in [unknown, format!("{SECRET_MARKER}@"), format!("{SECRET_MARKER}\n@x.de")] {
        let mut request = Request::new(create("b", by_email(&email)));
        request.metadata_mut().insert("x-request-id", "contact-1".parse().unwrap());
        assert_eq!(leads.create_lead(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    app.hubspot.script("POST", "/contacts/batch/read", ScriptedResponse::DropBefore);
    let broken = leads.create_lead(create("a", by_email(&known))).await.unwrap_err();
    assert_eq!(broken.code(), Code::Unavailable);
    app.logs.assert_clean();
}

/// Contact that is created if HubSpot has none.
fn creating(email: &str) -> Option<pb::ContactReference> {
    let properties = properties(&[("firstname", "Ada")]);
    let mut contact = by_email(email);
    contact.as_mut().unwrap().create_if_missing = Some(pb::NewContact { properties });
    contact
}

#[tokio::test]
async fn a_missing_contact_is_created_before_its_lead_in_every_version() {
    for (version, path) in [
        ("2026-09", "POST /crm/objects/2026-09/contacts/batch/create"),
        ("2026-03", "POST /crm/objects/2026-03/contacts/batch/create"),
        ("v3", "POST /crm/v3/objects/contacts/batch/create"),
    ] {
        let app = TestApp::builder().api_version(version).start().await;
        let mut leads = app.leads.clone();
        let before = app.hubspot.contacts().len();
        let validated = pb::CreateLeadRequest {
            validate_only: true,
            ..create("not written", creating("New@example.com"))
        };
        leads.create_lead(validated).await.unwrap();
        assert_eq!(app.hubspot.contacts().len(), before);
        let first = app.hubspot_calls().len();
        for (name, cost) in [("first", "3"), ("second", "2")] {
            let answer =
                leads.create_lead(create(name, creating("New@example.com"))).await.unwrap();
            assert_eq!(answer.metadata().get("leadsd-quota-cost").unwrap(), cost);
        }
        let calls = app.hubspot_calls();
        assert!(calls[first + 1].starts_with(path), "{calls:?}");
        assert_eq!(app.hubspot.contacts().len(), before + 1);
        app.stop().await;
    }
}

#[tokio::test]
async fn batches_and_upserts_create_missing_contacts_and_a_rejected_one_fails_alone() {
    let app = TestApp::start().await;
    app.hubspot.add_unique_property("crm_key");
    let mut leads = app.leads.clone();
    let before = app.hubspot.contacts().len();
    let inputs = vec![
        input("a", creating("a@example.com")),
        input("b", creating("b@example.com")),
        input("c", creating("A@example.com")),
        input("d", by_email("d@example.com")),
    ];
    let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    let results = leads.batch_create_leads(request).await.unwrap().into_inner().results;
    let is_created = |result: &pb::LeadWriteResult| {
        matches!(result.outcome, Some(lead_write_result::Outcome::Lead(_)))
    };
    let created: Vec<bool> = results.iter().map(is_created).collect();
    assert_eq!(created, [true, true, true, false], "{results:?}");
    assert_eq!(app.hubspot.contacts().len(), before + 2);
    let upsert = pb::UpsertLeadRequest {
        id: "k-1".to_owned(),
        id_property: "crm_key".to_owned(),
        properties: properties(&[("hs_lead_name", "u")]),
        contact: creating("u@example.com"),
        ..Default::default()
    };
    leads.upsert_lead(upsert.clone()).await.unwrap();
    let again = pb::UpsertLeadRequest { contact: creating("v@example.com"), ..upsert };
    leads.upsert_lead(again).await.unwrap();
    assert_eq!(app.hubspot.contacts().len(), before + 3, "the lead exists");
    let by_id = pb::ContactReference {
        key: Some(Key::Id(app.contact.clone())),
        create_if_missing: Some(pb::NewContact::default()),
    };
    let mut twice = creating("w@example.com");
    let own = twice.as_mut().unwrap().create_if_missing.as_mut().unwrap();
    own.properties.insert("email".to_owned(), "x@example.com".to_owned());
    for (contact, field) in [
        (Some(by_id), "contact.create_if_missing"),
        (twice, r#"contact.create_if_missing.properties["email"]"#),
    ] {
        assert_eq!(failure(leads.create_lead(create("e", contact)).await).2, [field]);
    }
}

#[tokio::test]
async fn concurrent_creates_for_one_new_address_create_one_contact() {
    let app = TestApp::start().await;
    let before = app.hubspot.contacts().len();
    let calls =
        (0..20).map(|number| {
            let mut leads = app.leads.clone();
            async move {
                leads.create_lead(create(&number.to_string(), creating("one@example.com"))).await
            }
        });
    let results = futures_util::future::join_all(calls).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(app.hubspot.contacts().len(), before + 1);
    assert_eq!(app.hubspot.leads().len(), 20);
}

#[tokio::test]
async fn a_lost_response_to_a_creation_leaves_one_contact_and_one_lead() {
    let app = TestApp::start().await;
    let before = app.hubspot.contacts().len();
    app.hubspot.script("POST", "/contacts/batch/create", ScriptedResponse::DropAfter);
    let request = create("a", creating("lost@example.com"));
    app.leads.clone().create_lead(request).await.unwrap();
    assert_eq!(app.hubspot.contacts().len(), before + 1);
    assert_eq!(app.hubspot.leads().len(), 1);
}

#[tokio::test]
async fn a_missing_scope_for_new_contacts_is_named() {
    let app = TestApp::start().await;
    let path = "/contacts/batch/create";
    let body = serde_json::json!({
        "status": "error", "category": "MISSING_SCOPES", "message": "scopes are missing",
        "correlationId": "c-1",
        "errors": [{"message": "One or more of the following scopes are required.",
                    "context": {"requiredGranularScopes": ["crm.objects.contacts.write"]}}],
    });
    app.hubspot.script(
        "POST",
        path,
        ScriptedResponse::Reply(403, "application/json", body.to_string()),
    );
    let request = create("a", creating("new@example.com"));
    let status = app.leads.clone().create_lead(request).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("crm.objects.contacts.write"), "{}", status.message());
    assert_eq!(app.hubspot.leads().len(), 0);
}

#[tokio::test]
async fn rows_of_an_import_create_contacts_and_each_one_has_an_audit_event() {
    use pb::{import_leads_request::Content, import_row::Write};
    let app = TestApp::start().await;
    let before = app.hubspot.contacts().len();
    let settings = pb::ImportSettings { import_id: "i-1".to_owned(), ..Default::default() };
    let row = |key: &str, email: &str| {
        let write = Some(Write::Create(input(key, creating(email))));
        Content::Row(pb::ImportRow { key: key.to_owned(), write })
    };
    let rows = [row("a", "a@example.com"), row("b", "b@example.com"), row("c", "A@example.com")];
    let contents = std::iter::once(Content::Settings(settings)).chain(rows);
    let messages: Vec<_> =
        contents.map(|content| pb::ImportLeadsRequest { content: Some(content) }).collect();
    let mut request = Request::new(futures_util::stream::iter(messages));
    request.metadata_mut().insert("x-request-id", "import-1".parse().unwrap());
    let mut responses = app.leads.clone().import_leads(request).await.unwrap().into_inner();
    while let Some(response) = responses.message().await.unwrap() {
        if let Some(pb::import_leads_response::Content::Result(result)) = response.content {
            assert!(result.created, "{result:?}");
        }
    }
    assert_eq!(app.hubspot.leads().len(), 3);
    assert_eq!(app.hubspot.contacts().len(), before + 2);
    let events = app.logs.events("leadsd::audit", "import-1");
    let created = events.iter().filter(|event| event.contains("CreateContact"));
    assert_eq!(created.count(), 2, "{events:?}");
}
