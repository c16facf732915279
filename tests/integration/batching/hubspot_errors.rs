//! Every fault of HubSpot and of the connection, in a batched call: each caller gets the result of
//! an individual call, and the same leads are changed.

use std::time::Duration;

use futures_util::{StreamExt as _, future::join_all, stream};
use leadsd::grpc::pb;
use leadsd_hubspot_fake::{ApiError, ScriptedResponse};
use serde_json::json;

use super::{
    calls::{Ask, Failure, Seen, token},
    world::{CONCURRENT_CASES, Case, World, nothing, spare_of},
};
use crate::harness::{TestApp, cases, properties};

/// Number of calls in one batch.
const SHARE: usize = 3;

/// A body over the maximum size of these services.
const TOO_LARGE: usize = 70_000;

const KINDS: [fn(&mut World, &str) -> Vec<Ask>; 6] =
    [reads, reads_with_associations, changes, creates, archives, upserts];

fn reads(world: &mut World, portal: &str) -> Vec<Ask> {
    get(world, portal, &[])
}

fn reads_with_associations(world: &mut World, portal: &str) -> Vec<Ask> {
    get(world, portal, &["contacts"])
}

fn get(world: &mut World, portal: &str, associations: &[&str]) -> Vec<Ask> {
    let mut asks = Vec::new();
    for number in 0..SHARE {
        asks.push(Ask::Get(pb::GetLeadRequest {
            id: world.keyed(&format!("{portal}-{number}")),
            properties: vec!["hs_lead_name".to_owned()],
            associations: associations.iter().map(|&to| to.to_owned()).collect(),
            ..Default::default()
        }));
    }
    asks
}

fn changes(world: &mut World, portal: &str) -> Vec<Ask> {
    let mut change = |number: usize| {
        Ask::Update(pb::UpdateLeadRequest {
            id: world.keyed(&format!("{portal}-{number}")),
            properties: properties(&[("hs_lead_name", &format!("Changed {portal} {number}"))]),
            ..Default::default()
        })
    };
    (0..SHARE).map(&mut change).collect()
}

fn creates(world: &mut World, portal: &str) -> Vec<Ask> {
    let contact = world.both(|app| app.contact.clone());
    let create = |number: usize| {
        Ask::Create(pb::CreateLeadRequest {
            properties: properties(&[("hs_lead_name", &format!("New {portal} {number}"))]),
            primary_contact_id: contact.clone(),
            ..Default::default()
        })
    };
    (0..SHARE).map(create).collect()
}

fn archives(world: &mut World, portal: &str) -> Vec<Ask> {
    let mut archive = |number: usize| {
        let id = world.keyed(&format!("{portal}-{number}"));
        Ask::Archive(pb::ArchiveLeadRequest { id, ..Default::default() })
    };
    (0..SHARE).map(&mut archive).collect()
}

fn upserts(world: &mut World, portal: &str) -> Vec<Ask> {
    let mut upsert = |number: usize| {
        let key = format!("{portal}-{number}");
        world.keyed(&key);
        Ask::Upsert(pb::UpsertLeadRequest {
            id: key,
            id_property: "crm_key".to_owned(),
            properties: properties(&[("hs_lead_name", &format!("Changed {portal} {number}"))]),
            ..Default::default()
        })
    };
    (0..SHARE).map(&mut upsert).collect()
}

fn limited(policy: &'static str, seconds: Option<u64>) -> ScriptedResponse {
    let retry_after = seconds.map(Duration::from_secs);
    ScriptedResponse::Reject(ApiError::RateLimited { policy, retry_after })
}

fn refused(status: u16, body: &str) -> ScriptedResponse {
    ScriptedResponse::Reply(status, "application/json", body.to_owned())
}

/// Faults that do not depend on the content.
fn faults() -> Vec<ScriptedResponse> {
    let mut faults = vec![
        limited("TEN_SECONDLY_ROLLING", None),
        limited("TEN_SECONDLY_ROLLING", Some(4)),
        limited("SECONDLY", None),
        limited("DAILY", None),
        ScriptedResponse::Reject(ApiError::GatewayLimited),
        ScriptedResponse::Reject(ApiError::Locked { body: true }),
        ScriptedResponse::Reject(ApiError::Locked { body: false }),
        ScriptedResponse::Reject(ApiError::Migrating(Duration::from_secs(3_600))),
        ScriptedResponse::Reject(ApiError::Forbidden),
        ScriptedResponse::Reject(ApiError::Unauthenticated),
        ScriptedResponse::Reject(ApiError::Expired),
        refused(
            403,
            r#"{"category":"MISSING_SCOPES","message":"no","context":{"requiredGranularScopes":["s"]}}"#,
        ),
        ScriptedResponse::html(400),
        ScriptedResponse::html(403),
        ScriptedResponse::empty(500),
        ScriptedResponse::ExecutedWithStatus(502),
        ScriptedResponse::ExecutedWithStatus(504),
        ScriptedResponse::DropBefore,
        ScriptedResponse::DropAfter,
        ScriptedResponse::Truncated,
        ScriptedResponse::Delayed(Duration::from_millis(300)),
        ScriptedResponse::html(301),
        ScriptedResponse::html(530),
        refused(200, "[1,2]"),
        ScriptedResponse::html(200),
    ];
    faults.extend([500, 502, 503, 504, 521, 522, 523, 524, 525, 526].map(ScriptedResponse::html));
    // A short request that a proxy rejects as too long.
    faults.push(ScriptedResponse::html(414));
    faults
}

/// Rejections that may depend on the content: each call of the batch is repeated individually, and
/// rejected as well.
fn refusals() -> Vec<ScriptedResponse> {
    let duplicate = r#"{"status":"error","category":"VALIDATION_ERROR","message":"Duplicate IDs found in batch input"}"#;
    vec![
        ScriptedResponse::empty(400),
        refused(400, duplicate),
        refused(404, r#"{"status":"error","message":"resource not found"}"#),
        refused(409, r#"{"status":"error","category":"CONFLICT","message":"a conflict"}"#),
        ScriptedResponse::html(404),
    ]
}

/// One fault or rejection for all calls of a case.
struct Fault {
    script: ScriptedResponse,
    also_alone: bool,
}

/// A separate portal for each individual call, so that faults do not affect each other.
async fn compare(faults: Vec<Fault>, settings: &[(&str, &str)]) {
    let mut world = World::start(KINDS.len() * faults.len(), SHARE - 1, &|_| {}, settings).await;
    let mut portals = world.portals().into_iter();
    let mut cases = Vec::new();
    let mut cold = Vec::new();
    for make in KINDS {
        for fault in &faults {
            let portal = portals.next().expect("one for each");
            let asks = make(&mut world, &portal);
            if matches!(asks[0], Ask::Create(_) | Ask::Upsert(_)) {
                cold.push(portal.clone());
            }
            cases.push((fault, Case::new(&portal, asks)));
        }
    }
    world.warm_up(&cold).await;
    let alone = stream::iter(&cases).map(|(fault, case)| alone(&world, fault, case));
    let together = stream::iter(&cases).map(|(fault, case)| together(&world, fault, case));
    let (alone, together): (Vec<_>, Vec<_>) = tokio::join!(
        alone.buffered(CONCURRENT_CASES).collect(),
        together.buffered(CONCURRENT_CASES).collect(),
    );
    for (((fault, case), alone), together) in cases.iter().zip(&alone).zip(&together) {
        for ((ask, expected), got) in case.asks.iter().zip(alone).zip(together) {
            // The header of an individual create names the lead, and so does what arrives of a body.
            if matches!((&fault.script, ask), (ScriptedResponse::Truncated, Ask::Create(_))) {
                assert!(matches!(expected, Seen::Lead(lead) if lead.id_only), "{expected:?}");
                let is_known = matches!(got, Seen::Lead(_));
                let is_unknown = |failure: &Failure| failure.reason == "WRITE_OUTCOME_UNKNOWN";
                let is_unknown = matches!(got, Seen::Failed(failure) if is_unknown(failure));
                assert!(is_known || is_unknown, "{got:?}");
                continue;
            }
            assert_eq!(got, expected, "{:?}: {ask:?}", fault.script);
        }
    }
    world.compare_accounts();
}

async fn alone(world: &World, fault: &Fault, case: &Case) -> Vec<Seen> {
    let asks = case.asks.iter().enumerate().map(|(number, ask)| async move {
        let portal = spare_of(&case.portal, number);
        let (method, path) = ask.alone();
        let token = token(&world.alone, &portal);
        world.alone.hubspot.script_of(token, method, &path, fault.script.clone());
        ask.send(&world.alone, &portal).await.seen
    });
    join_all(asks).await
}

async fn together(world: &World, fault: &Fault, case: &Case) -> Vec<Seen> {
    let prepare = |app: &TestApp, case: &Case| {
        let token = token(app, &case.portal);
        app.hubspot.script_of(token, "POST", case.asks[0].together(), fault.script.clone());
        for (method, path) in case.asks.iter().map(Ask::alone).filter(|_| fault.also_alone) {
            app.hubspot.script_of(token, method, &path, fault.script.clone());
        }
    };
    let outcome = world.ask_together(case, &prepare).await;
    outcome.answers.into_iter().map(|answer| answer.seen).collect()
}

fn shared(script: ScriptedResponse) -> Fault {
    Fault { script, also_alone: false }
}

#[tokio::test]
async fn error_of_a_batch_equals_that_of_an_individual_call() {
    // By default a sample.
    let faults = faults().into_iter().step_by(cases(6, 1)).map(shared);
    let refusals = refusals().into_iter().step_by(cases(3, 1));
    let refusals = refusals.map(|script| Fault { script, also_alone: true });
    let settings = [("HUBSPOT__MAX_RESPONSE_SIZE", "64KiB")];
    compare(faults.chain(refusals).collect(), &settings).await;
}

#[tokio::test]
async fn oversized_batch_response_is_read_individually() {
    let settings = [("HUBSPOT__MAX_RESPONSE_SIZE", "64KiB")];
    let mut world = World::start(4, 0, &|_| {}, &settings).await;
    let long = "x".repeat(TOO_LARGE / 3);
    let contact = world.both(|app| app.contact.clone());
    let mut asks: [Vec<Ask>; 4] = Default::default();
    for number in 0..8 {
        let values = properties(&[("hs_lead_name", "Joan"), ("hs_lead_source", &long)]);
        asks[0].push(Ask::Get(pb::GetLeadRequest {
            id: world.lead(json!({"hs_lead_name": "Jane", "hs_lead_source": long})),
            properties: vec!["hs_lead_source".to_owned()],
            ..Default::default()
        }));
        asks[1].push(Ask::Update(pb::UpdateLeadRequest {
            id: world.lead(json!({"hs_lead_name": "Jane"})),
            properties: values.clone(),
            ..Default::default()
        }));
        asks[2].push(Ask::Create(pb::CreateLeadRequest {
            properties: values.clone(),
            primary_contact_id: contact.clone(),
            ..Default::default()
        }));
        asks[3].push(Ask::Upsert(pb::UpsertLeadRequest {
            id: format!("long-{number}"),
            id_property: "crm_key".to_owned(),
            properties: values,
            primary_contact_id: contact.clone(),
            ..Default::default()
        }));
    }
    world.warm_up(&world.portals()).await;
    let portals = world.portals().into_iter();
    let cases: Vec<Case> =
        portals.zip(asks).map(|(portal, asks)| Case::new(&portal, asks)).collect();
    world.compare(&cases, &nothing).await;
}
