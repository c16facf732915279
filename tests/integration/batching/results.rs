//! Every kind of call with every HubSpot response: batched and individual results are equal.

use futures_util::future::join_all;
use leadsd::grpc::pb;
use leadsd_hubspot_fake::Behaviour;
use serde_json::json;

use super::{
    calls::Ask,
    world::{Case, World, nothing},
};
use crate::harness::properties;

/// Assumed behaviour of HubSpot, and its alternatives.
const BEHAVIOURS: [fn(&mut Behaviour); 4] = [
    |_| {},
    |behaviour| {
        behaviour.echo_trace_ids = false;
        behaviour.property_errors_per_item = false;
        behaviour.partial_status = 200;
        behaviour.unique_clash_status = 400;
        behaviour.missing_contact_status = 404;
        behaviour.batch_archive_reports_unknown = true;
        behaviour.archive_unknown_status = 404;
        behaviour.not_found_category = true;
        behaviour.default_properties = vec!["hs_lead_name".into(), "hs_object_id".into()];
        behaviour.associations_shown = 1;
    },
    |behaviour| {
        behaviour.name_failed_inputs = false;
        behaviour.associations_per_kind = true;
        behaviour.changes_follow_merges = true;
    },
    |behaviour| {
        behaviour.echo_trace_ids = false;
        behaviour.name_failed_inputs = false;
        behaviour.default_properties = vec![];
        behaviour.associations_page = 1;
    },
];

type Make = fn(&mut World, &str) -> Vec<Ask>;

const CASES: [Make; 12] = [
    reads,
    reads_by_key,
    reads_by_record_id_as_property,
    reads_of_what_is_gone,
    reads_with_history,
    changes,
    changes_by_key,
    creates,
    creates_with_the_same_key,
    archives,
    upserts,
    reads_with_associations,
];

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn get(id: &str, properties: &[&str]) -> Ask {
    Ask::Get(pb::GetLeadRequest {
        id: id.to_owned(),
        properties: names(properties),
        ..Default::default()
    })
}

fn get_by(property: &str, id: &str, properties: &[&str]) -> Ask {
    Ask::Get(pb::GetLeadRequest {
        id: id.to_owned(),
        id_property: property.to_owned(),
        properties: names(properties),
        ..Default::default()
    })
}

fn change(id: &str, values: &[(&str, &str)]) -> Ask {
    Ask::Update(pb::UpdateLeadRequest {
        id: id.to_owned(),
        properties: properties(values),
        ..Default::default()
    })
}

fn change_by_key(id: &str, values: &[(&str, &str)]) -> Ask {
    Ask::Update(pb::UpdateLeadRequest {
        id: id.to_owned(),
        id_property: "crm_key".to_owned(),
        properties: properties(values),
        ..Default::default()
    })
}

fn create(contact: &str, values: &[(&str, &str)]) -> Ask {
    Ask::Create(pb::CreateLeadRequest {
        properties: properties(values),
        primary_contact_id: contact.to_owned(),
        ..Default::default()
    })
}

fn archive(id: &str) -> Ask {
    Ask::Archive(pb::ArchiveLeadRequest { id: id.to_owned(), ..Default::default() })
}

fn upsert(contact: &str, id: &str, values: &[(&str, &str)]) -> Ask {
    Ask::Upsert(pb::UpsertLeadRequest {
        id: id.to_owned(),
        id_property: "crm_key".to_owned(),
        properties: properties(values),
        primary_contact_id: contact.to_owned(),
        ..Default::default()
    })
}

fn reads(world: &mut World, _: &str) -> Vec<Ask> {
    let ids: Vec<String> = (0..4)
        .map(|_| world.lead(json!({"hs_lead_name": "Jane", "hs_lead_label": "HOT"})))
        .collect();
    let padded = format!("000{}", ids[0]);
    let shown = &["hs_lead_name", "hs_lead_label", "hubspot_owner_id", "no_such_property"];
    let mut asks: Vec<Ask> = ids.iter().map(|id| get(id, shown)).collect();
    asks.extend(["999999", "no number", &padded, "+5", &ids[0]].map(|id| get(id, shown)));
    asks.extend(ids.iter().take(3).map(|id| get(id, &[])));
    asks.push(get("999998", &[]));
    asks
}

fn reads_by_key(world: &mut World, portal: &str) -> Vec<Ask> {
    let key = |number: u32| format!("{portal}-Key-{number}");
    (1..=6).for_each(|number| drop(world.keyed(&key(number))));
    let umlaut = format!("{portal}-Ä");
    world.keyed(&umlaut);
    let name = &["hs_lead_name"][..];
    let with_key = &["hs_lead_name", "crm_key"][..];
    vec![
        get_by("crm_key", &key(1), name),
        get_by("crm_key", &key(2), name),
        get_by("crm_key", &key(2).to_lowercase(), name),
        get_by("crm_key", &key(2).to_uppercase(), name),
        get_by("crm_key", &key(77), name),
        get_by("crm_key", &format!(" {} ", key(1)), name),
        get_by("crm_key", &umlaut, name),
        get_by("crm_key", &umlaut.to_lowercase(), name),
        get_by("crm_key", &key(3), with_key),
        get_by("crm_key", &key(4), with_key),
        get_by("crm_key", &key(5), &[]),
        get_by("crm_key", &key(6), &[]),
        get_by("hs_lead_name", "Jane", name),
        get_by("hs_lead_name", "Joan", name),
    ]
}

fn reads_by_record_id_as_property(world: &mut World, portal: &str) -> Vec<Ask> {
    let ids: Vec<String> =
        (0..4).map(|number| world.keyed(&format!("{portal}-{number}"))).collect();
    let name = &["hs_lead_name"];
    let by_id = |id: &String| get_by("hs_object_id", id, name);
    ids.iter().map(by_id).chain([get_by("hs_object_id", "999999", name)]).collect()
}

fn reads_of_what_is_gone(world: &mut World, portal: &str) -> Vec<Ask> {
    let ids: Vec<String> =
        (0..6).map(|number| world.keyed(&format!("{portal}-{number}"))).collect();
    world.both(|app| app.hubspot.archive(&ids[0]));
    world.both(|app| app.hubspot.archive(&ids[1]));
    world.both(|app| app.hubspot.merge(&ids[4], &ids[5]));
    let gone = |id: &String| {
        Ask::Get(pb::GetLeadRequest {
            id: id.clone(),
            archived: true,
            properties: names(&["hs_lead_name"]),
            ..Default::default()
        })
    };
    let here = |id: &String| get(id, &["hs_lead_name"]);
    ids.iter().map(gone).chain(ids.iter().map(here)).collect()
}

fn reads_with_history(world: &mut World, portal: &str) -> Vec<Ask> {
    let key = |number: u32| format!("{portal}-{number}");
    let ids: Vec<String> = (0..4).map(|number| world.keyed(&key(number))).collect();
    let history = |id: &str, property: &str, history: &[&str]| {
        Ask::Get(pb::GetLeadRequest {
            id: id.to_owned(),
            id_property: property.to_owned(),
            properties: names(&["hs_lead_name"]),
            properties_with_history: names(history),
            ..Default::default()
        })
    };
    let changed = &["hs_lead_name", "hs_lead_label"][..];
    vec![
        history(&ids[0], "", changed),
        history(&ids[1], "", changed),
        history("999999", "", changed),
        history(&key(2), "crm_key", changed),
        history(&key(3), "crm_key", changed),
        history(&key(2), "crm_key", &["crm_key"]),
        history(&key(3), "crm_key", &["crm_key"]),
    ]
}

fn changes(world: &mut World, portal: &str) -> Vec<Ask> {
    let ids: Vec<String> =
        (0..9).map(|number| world.keyed(&format!("{portal}-{number}"))).collect();
    world.both(|app| app.hubspot.archive(&ids[6]));
    world.both(|app| app.hubspot.merge(&ids[7], &ids[8]));
    vec![
        change(&ids[0], &[("hs_lead_name", "Renamed 1")]),
        change(&ids[1], &[("hs_lead_label", "HOT"), ("hs_lead_source", "")]),
        change(&ids[2], &[("no_such_property", "x")]),
        change(&ids[3], &[("hs_lead_label", "NO_SUCH_LABEL")]),
        change(&ids[4], &[("crm_key", &format!("{portal}-0"))]),
        change(&ids[5], &[("hs_object_id", "7"), ("hs_lead_pipeline_value", "no number")]),
        change("999999", &[("hs_lead_name", "Unknown")]),
        change("no number", &[("hs_lead_name", "Unknown")]),
        change(&ids[6], &[("hs_lead_name", "Gone")]),
        change(&ids[7], &[("hs_lead_name", "Merged")]),
        change(&format!("00{}", world.keyed(&format!("{portal}-10"))), &[("hs_lead_label", "HOT")]),
        change("999998", &[("no_such_property", "x")]),
        // 2026-09 normalizes the value and returns a warning.
        change(&world.keyed(&format!("{portal}-9")), &[("hs_next_activity_date", "4/1/2026")]),
    ]
}

fn changes_by_key(world: &mut World, portal: &str) -> Vec<Ask> {
    let key = |number: u32| format!("{portal}-Key-{number}");
    let ids: Vec<String> = (0..6).map(|number| world.keyed(&key(number))).collect();
    let by_id = Ask::Update(pb::UpdateLeadRequest {
        id: ids[5].clone(),
        id_property: "hs_object_id".to_owned(),
        properties: properties(&[("hs_lead_label", "HOT")]),
        ..Default::default()
    });
    vec![
        change_by_key(&key(0), &[("hs_lead_source", "Changed 0")]),
        change_by_key(&key(1).to_uppercase(), &[("hs_lead_name", "Renamed 1")]),
        change_by_key(&key(2), &[("crm_key", &key(77))]),
        change_by_key(&key(3), &[("hs_lead_label", "NO_SUCH_LABEL")]),
        change_by_key(&key(99), &[("hs_lead_label", "HOT")]),
        // The same lead by its record id: the two never share a batch.
        change(&ids[0], &[("hs_lead_label", "COLD")]),
        change(&ids[4], &[("hs_lead_label", "COLD")]),
        by_id,
    ]
}

fn creates(world: &mut World, portal: &str) -> Vec<Ask> {
    let taken = format!("{portal}-taken");
    world.keyed(&taken);
    let contact = world.both(|app| app.contact.clone());
    let key = format!("{portal}-new");
    vec![
        create(&contact, &[("hs_lead_name", "New 1")]),
        create(&contact, &[("hs_lead_name", "New 2"), ("crm_key", &key)]),
        create(&contact, &[("hs_lead_name", "Same")]),
        create(&contact, &[("hs_lead_name", "Same")]),
        create(&contact, &[("hs_lead_name", "Clash"), ("crm_key", &taken)]),
        create(&contact, &[("hs_lead_name", "Bad"), ("no_such_property", "x")]),
        create(&contact, &[("hs_lead_name", "Bad"), ("hs_lead_label", "NO_SUCH_LABEL")]),
        create(&contact, &[("hs_lead_label", "HOT")]),
        create("987654", &[("hs_lead_name", "Without contact")]),
        create("no number", &[("hs_lead_name", "Without contact")]),
        create(&contact, &[("hs_lead_name", "Dated"), ("hs_next_activity_date", "4/1/2026")]),
    ]
}

fn creates_with_the_same_key(world: &mut World, portal: &str) -> Vec<Ask> {
    let contact = world.both(|app| app.contact.clone());
    let key = format!("{portal}-same");
    // One of them is first; the order is undefined.
    (0..4).map(|_| create(&contact, &[("hs_lead_name", "Same"), ("crm_key", &key)])).collect()
}

fn archives(world: &mut World, portal: &str) -> Vec<Ask> {
    let ids: Vec<String> =
        (0..6).map(|number| world.keyed(&format!("{portal}-{number}"))).collect();
    world.both(|app| app.hubspot.archive(&ids[3]));
    world.both(|app| app.hubspot.merge(&ids[4], &ids[5]));
    let padded = format!("0{}", ids[2]);
    let ids = [&ids[0], &ids[1], "999999", "no number", &padded, &ids[3], &ids[4], &ids[0]];
    ids.map(archive).to_vec()
}

fn upserts(world: &mut World, portal: &str) -> Vec<Ask> {
    let key = |number: u32| format!("{portal}-Key-{number}");
    (0..6).for_each(|number| drop(world.keyed(&key(number))));
    let contact = world.both(|app| app.contact.clone());
    let upsert = |id: &str, values: &[(&str, &str)]| upsert(&contact, id, values);
    let without = Ask::Upsert(pb::UpsertLeadRequest {
        id: key(7),
        id_property: "crm_key".to_owned(),
        properties: properties(&[("hs_lead_name", "No contact")]),
        ..Default::default()
    });
    vec![
        upsert(&key(0), &[("hs_lead_name", "Changed 0")]),
        upsert(&key(1).to_uppercase(), &[("hs_lead_name", "Changed 1")]),
        upsert(&key(2), &[("no_such_property", "x")]),
        upsert(&key(3), &[("hs_lead_label", "NO_SUCH_LABEL")]),
        upsert(&key(10), &[("hs_lead_name", "New")]),
        upsert(&key(11), &[("hs_lead_label", "HOT")]),
        // Sequentially: the second finds the lead of the first.
        upsert(&key(12), &[("hs_lead_name", "Twice")]),
        upsert(&key(12), &[("hs_lead_name", "Twice")]),
        without,
    ]
}

fn reads_with_associations(world: &mut World, portal: &str) -> Vec<Ask> {
    let company = world.both(|app| app.hubspot.add_company("Example Ltd"));
    let contacts: Vec<String> =
        (0..3).map(|_| world.both(|app| app.hubspot.add_contact("grace@example.com"))).collect();
    let ids: Vec<String> =
        (0..12).map(|number| world.keyed(&format!("{portal}-{number}"))).collect();
    world.both(|app| {
        for id in &ids[2..6] {
            app.hubspot.associate(id, &company, 580);
        }
        for id in &ids[4..8] {
            app.hubspot.associate(id, &contacts[0], 608);
        }
        // Two association types with one record, and many records.
        app.hubspot.associate(&ids[8], &company, 580);
        app.hubspot.associate(&ids[8], &company, 610);
        contacts.iter().for_each(|contact| app.hubspot.associate(&ids[9], contact, 608));
        app.hubspot.archive(&ids[10]);
        app.hubspot.merge(&ids[11], &ids[0]);
    });
    let get = |id: &str, associations: &[&str]| {
        Ask::Get(pb::GetLeadRequest {
            id: id.to_owned(),
            properties: names(&["hs_lead_name"]),
            associations: names(associations),
            ..Default::default()
        })
    };
    let by_key = |number: usize| {
        Ask::Get(pb::GetLeadRequest {
            id: format!("{portal}-{number}"),
            id_property: "crm_key".to_owned(),
            properties: names(&["hs_lead_name"]),
            associations: names(&["contacts"]),
            ..Default::default()
        })
    };
    let both = &["contacts", "companies"][..];
    let mut asks: Vec<Ask> = ids.iter().map(|id| get(id, both)).collect();
    asks.extend(["999999", "no number"].map(|id| get(id, both)));
    asks.extend((0..6).map(by_key));
    asks.extend(ids.iter().take(4).map(|id| get(id, &["butterflies"])));
    asks.extend(ids.iter().take(4).map(|id| get(id, &["contact"])));
    asks.extend(ids.iter().take(4).map(|id| get(id, &["deals"])));
    asks.extend(ids.iter().take(4).map(|id| get(id, &["contacts", "companies", "deals", "notes"])));
    asks
}

/// Twice in the same portal: the second run uses what the first one learned.
const ROUNDS: usize = 2;

#[tokio::test]
async fn results_are_equal_for_individual_and_batched_calls() {
    let mut worlds = Vec::new();
    for behave in BEHAVIOURS {
        let mut world = World::start(CASES.len(), 0, &behave, &[]).await;
        let mut rounds: [Vec<Case>; ROUNDS] = Default::default();
        for (round, cases) in rounds.iter_mut().enumerate() {
            for (make, portal) in CASES.iter().zip(world.portals()) {
                let asks = make(&mut world, &format!("{portal}-{round}"));
                cases.push(Case::new(&portal, asks));
            }
        }
        world.warm_up(&world.portals()).await;
        worlds.push((world, rounds));
    }
    for round in 0..ROUNDS {
        let compare = worlds.iter().map(|(world, rounds)| world.compare(&rounds[round], &nothing));
        join_all(compare).await;
        let (as_thought, _) = &worlds[0];
        for path in ["read", "create", "update", "archive"] {
            let batches = as_thought.batches(&format!("/leads/batch/{path}"));
            assert!(batches > 0, "single calls left together by batch/{path}");
        }
        assert!(as_thought.batches("/leads/contacts/batch/read") > 0);
    }
}
