//! `leadsd doctor --conformance` against the fake with its default switches and with all others, and what
//! it leaves behind.

use std::time::Duration;

use leadsd_hubspot_fake::{
    Behaviour, CONTACTS_READ, FakeHubspot, Gate, NumErrors, OWNERS, READ, SCHEMAS,
    ScriptedResponse, WRITE,
};
use serde_json::{Value, json};

use super::{Said, World};
use crate::harness::LEADSD;
use leadsd_testkit::send_signal;

/// Number of contacts and of owners: more than HubSpot has on its largest page.
const RECORDS: usize = 510;

/// A world whose account has contacts, a company, owners, and a token that may read all of them and create
/// properties.
async fn world(version: &str) -> (World, String) {
    let mut world = World::new().await;
    world.hubspot_keys = format!("api_version = \"{version}\"");
    let token = world.hubspot.static_token(&[READ, WRITE, SCHEMAS, OWNERS, CONTACTS_READ]);
    world.vault.put("hubspot/default", json!({"access_token": token.expose()}));
    world.hubspot.limit(|limits| limits.burst = 10_000);
    world.hubspot.behave(|behaviour| *behaviour = strict());
    world.hubspot.add_company("Example Ltd");
    let contact = world.hubspot.add_contact("ada@example.com");
    world.hubspot.add_address(&contact, "lovelace@example.com");
    for number in 1..RECORDS {
        world.hubspot.add_contact(&format!("contact-{number}@example.com"));
    }
    for number in 0..RECORDS {
        world.hubspot.add_owner(&format!("owner-{number}@example.com"));
    }
    (world, contact)
}

/// Runs all facts; returns the report, and the switches that it wrote.
async fn run(world: &World, contact: &str) -> (Said, Value) {
    let file = world.folder.path().join("switches.json").display().to_string();
    let arguments = ["--conformance", "--portal", "default", "--yes", "--contact", contact];
    let said = world.diagnose_with(&[&arguments[..], &["--switches", &file]].concat()).await;
    let switches = std::fs::read(&file).map(|text| serde_json::from_slice(&text).unwrap());
    (said, switches.unwrap_or_default())
}

/// Facts with this result.
fn facts<'a>(said: &'a Said, result: &str) -> Vec<&'a str> {
    let facts = said.report["facts"].as_array().unwrap().iter();
    let facts = facts.filter(|fact| fact["result"] == result);
    facts.map(|fact| fact["fact"].as_str().unwrap()).collect()
}

/// Values of the switches as the fake has them.
fn switches_of(behaviour: &Behaviour, like: &Value) -> Value {
    let all = serde_json::to_value(behaviour).unwrap();
    let like = like["switches"].as_object().unwrap();
    like.keys().map(|name| (name.clone(), all[name].clone())).collect()
}

/// The default switches, with a search index that shows writes at once.
fn strict() -> Behaviour {
    Behaviour { index_lag: Duration::ZERO, ..Behaviour::default() }
}

/// The opposite of every switch that a run sees.
fn lenient(behaviour: &mut Behaviour) {
    *behaviour = Behaviour {
        echo_trace_ids: true,
        show_created: false,
        property_errors_per_item: true,
        partial_status: 200,
        batch_create_status: 200,
        num_errors: NumErrors::Inputs,
        unique_clash_status: 409,
        company_only_leads: true,
        contactless_leads: true,
        contactless_upserts: true,
        unknown_owners: true,
        missing_contact_status: 404,
        missing_name_in_context: false,
        upsert_without_id_property: true,
        record_id_as_id_property: true,
        batch_archive_reports_unknown: true,
        archive_unknown_status: 404,
        refuse_history_over_50: false,
        not_found_category: true,
        default_properties: vec!["hs_createdate".to_owned(), "hs_object_id".to_owned()],
        contact_association: "lead_to_person".to_owned(),
        ignore_unknown_associations: true,
        name_failed_inputs: false,
        changes_follow_merges: true,
        longest_url: 16_000,
        associations_per_kind: false,
        associations_shown: 500,
        associations_page: 100,
        report_missing_associations: false,
        association_errors_per_item: true,
        batch_reads_follow_merges: false,
        searched_properties: Vec::new(),
        contacts_left_out: true,
        further_addresses: true,
        owners_shown: 100,
        scopes_on_top: true,
        ..strict()
    };
}

/// Asserts that every lead is archived and no property is left.
fn assert_clean(hubspot: &FakeHubspot, created: usize) {
    assert_eq!(hubspot.lead_names(), Vec::<String>::new());
    assert!(hubspot.leads().len() >= created, "{}", hubspot.leads().len());
    let log = hubspot.log();
    let writes = |method: &str| {
        let of_properties = |call: &&leadsd_hubspot_fake::LoggedRequest| {
            call.path.contains("properties") && call.method == method && call.status < 300
        };
        log.iter().filter(of_properties).count()
    };
    assert_eq!(writes("POST"), writes("DELETE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fact_of_the_strict_fake_is_as_expected() {
    for version in ["2026-09", "2026-03", "v3"] {
        let (world, contact) = world(version).await;
        let (said, file) = run(&world, &contact).await;
        assert_eq!(said.code, Some(0), "{:#}", said.report);
        assert_eq!(facts(&said, "different"), Vec::<&str>::new(), "{version}");
        assert_eq!(facts(&said, "unknown"), Vec::<&str>::new(), "{version}");
        assert_eq!(facts(&said, "expected").len(), 64);
        assert_eq!(file["switches"], switches_of(&strict(), &file), "{version}");
        assert_clean(&world.hubspot, 7);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_the_lenient_fake_sets_the_switches_of_another() {
    let (world_1, contact) = world("v3").await;
    world_1.hubspot.behave(lenient);
    let (said, file) = run(&world_1, &contact).await;
    // leadsd works either way.
    assert_eq!(said.check_result("hubspot.conformance")["result"], "warn", "{:#}", said.report);
    let mut expected = strict();
    lenient(&mut expected);
    assert_eq!(file["switches"], switches_of(&expected, &file));
    let different = facts(&said, "different").len();
    // Each switch of the file has a fact that differs, except the lag of the search index.
    assert_eq!(different, file["switches"].as_object().unwrap().len() - 1, "{:#}", said.report);
    assert_clean(&world_1.hubspot, 11);

    let (world_2, contact) = world("v3").await;
    let same: Behaviour = serde_json::from_value(file["switches"].clone()).unwrap();
    world_2.hubspot.behave(|behaviour| *behaviour = same);
    let (_, again) = run(&world_2, &contact).await;
    assert_eq!(again["switches"], file["switches"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_cannot_be_tried_are_unknown_and_fail_no_check() {
    let mut world = World::new().await;
    world.hubspot_keys = "api_version = \"v3\"".to_owned();
    world.hubspot.limit(|limits| limits.burst = 10_000);
    // No company, no further contact, no scope for contacts, owners and a new property, no merge.
    world.hubspot.behave(|behaviour| behaviour.index_lag = Duration::from_millis(300));
    let contact = world.hubspot.add_contact("ada@example.com");
    world.hubspot.script("POST", "/merge", ScriptedResponse::empty(404));
    let (said, file) = run(&world, &contact).await;
    assert_eq!(said.check_result("hubspot.conformance")["result"], "ok", "{:#}", said.report);
    let unknown = facts(&said, "unknown");
    for fact in [
        "create.company_only",
        "unique.property",
        "upsert.new",
        "merged.update",
        "merged.batch_read",
        "get.associations_page",
        "associations.page",
        "contacts.unknown_address",
        "contacts.further_address",
        "owners.page",
    ] {
        assert!(unknown.contains(&fact), "{fact} in {unknown:?}");
    }
    let lag = file["switches"]["index_lag"].as_f64().unwrap();
    assert!(lag >= 0.3, "{lag}");
    assert_clean(&world.hubspot, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_asks_first() {
    let (world, _) = world("2026-09").await;
    for arguments in [&["--conformance", "--portal", "default"][..], &["--conformance", "--yes"]] {
        let output = tokio::task::block_in_place(|| world.run(arguments));
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
    }
    assert!(world.hubspot.log().is_empty(), "nothing was done");
}

#[tokio::test(flavor = "multi_thread")]
async fn leads_whose_response_is_lost_are_archived_too() {
    let (world, contact) = world("2026-09").await;
    world.hubspot.script("POST", "/batch/create", ScriptedResponse::DropAfter);
    let (said, _) = run(&world, &contact).await;
    let found = said.check_result("hubspot.conformance");
    assert!(found["cause"].as_str().unwrap().contains("ended early"), "{found}");
    assert_clean(&world.hubspot, 4);
    // The check names records that cannot be archived.
    world.hubspot.script_times(2, "POST", "/batch/archive", ScriptedResponse::empty(400));
    let (said, _) = run(&world, &contact).await;
    let found = said.check_result("hubspot.conformance");
    let left = world.hubspot.leads().into_iter().filter(|lead| lead["archived"] == false);
    let left: Vec<String> = left.map(|lead| lead["id"].as_str().unwrap().to_owned()).collect();
    assert!(!left.is_empty());
    for id in left {
        assert!(found["cause"].as_str().unwrap().contains(&id), "{id} in {found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_cleans_up() {
    let (world, contact) = world("2026-09").await;
    let gate = Gate::new();
    world.hubspot.script("POST", "/batch/create", ScriptedResponse::Held(gate.clone()));
    let arguments = ["--conformance", "--portal", "default", "--yes", "--contact", &contact];
    let mut command = std::process::Command::new(LEADSD);
    command.arg("doctor").arg("--config").arg(world.config()).args(arguments).env_clear();
    let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    while world.hubspot.in_flight() == 0 || world.hubspot.scripts_left() > 0 {
        tokio::task::yield_now().await;
    }
    send_signal(&child, "INT");
    gate.open();
    let output = tokio::task::block_in_place(|| child.wait_with_output()).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("ended early") && text.contains("interrupted"), "{text}");
    assert_clean(&world.hubspot, 4);
}
