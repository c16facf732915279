//! Plans of upserts, by the outcomes of their requests.

use super::*;
use crate::leads::{
    UpstreamFacts,
    association_type::{AssociationCategory, AssociationType},
};

const CONTACT: &str = "101";

fn id(text: &str) -> LeadId {
    LeadId::parse(text).unwrap()
}

fn types(kind: AssociationType) -> Vec<Association> {
    vec![Association { to_id: id(CONTACT), types: vec![kind], position: None }]
}

fn upsert(key: &str, associations: Vec<Association>) -> Traced<UpsertLead> {
    let properties = BTreeMap::from([("hs_lead_name".to_owned(), format!("Lead {key}"))]);
    let input = UpsertLead {
        id: id(key),
        id_property: Some("crm_key".to_owned()),
        properties,
        associations,
        contact: None,
    };
    Traced { trace_id: format!("trace of {key}"), input }
}

fn with_contact(key: &str) -> Traced<UpsertLead> {
    upsert(key, types(AssociationType::PRIMARY_CONTACT))
}

fn found(record: &str, key: &str) -> Outcome {
    let properties = BTreeMap::from([("crm_key".to_owned(), key.to_owned())]);
    let lead = Lead { id: record.to_owned(), properties, ..Lead::default() };
    Ok(Some(BatchItem { lead, trace_id: None, created: None }))
}

fn written(record: &str) -> Outcome {
    let lead = Lead { id: record.to_owned(), ..Lead::default() };
    Ok(Some(BatchItem { lead, trace_id: None, created: None }))
}

fn missing() -> Outcome {
    Err(Error::lead_not_found())
}

fn lost() -> Error {
    Error::new(Reason::WriteOutcomeUnknown, "the response is lost")
        .with_side_effect(SideEffect::Possible)
}

fn clash() -> Error {
    let upstream = UpstreamFacts { existing_id: Some("77".to_owned()), ..UpstreamFacts::default() };
    Error::new(Reason::AlreadyExists, "the value is taken").with_upstream(upstream)
}

/// Plan of one upsert with a contact, at the beginning of its first round.
fn plan() -> UpsertPlan {
    let mut plan = UpsertPlan::new(vec![with_contact("a")]);
    assert_eq!(plan.next_round(), Some(Duration::ZERO));
    plan
}

/// Record ids of the updates, and names of the creates.
fn planned(plan: &mut UpsertPlan) -> (Vec<String>, Vec<String>) {
    let Writes { updates, creates } = plan.writes();
    let updates = updates.into_iter().map(|(_, update)| update.input.id.to_string()).collect();
    let name =
        |(_, create): (usize, Traced<CreateLead>)| create.input.properties["hs_lead_name"].clone();
    (updates, creates.into_iter().map(name).collect())
}

/// The result of the only input: record id, created, and unique value.
fn result(plan: UpsertPlan) -> Result<(String, Option<bool>, Option<String>), Error> {
    plan.into_outcomes().remove(0).map(|item| {
        let BatchItem { lead, created, .. } = item.unwrap();
        (lead.id, created, lead.properties.get("crm_key").cloned())
    })
}

#[test]
fn leads_that_exist_are_updated_by_record_id_and_the_others_are_created() {
    let mut plan = UpsertPlan::new(["a", "b", "c"].map(with_contact).to_vec());
    plan.next_round().unwrap();
    let lookups = plan.lookups();
    let ids: Vec<&str> = lookups["crm_key"].iter().map(|(_, read)| read.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    plan.looked_up(0, missing());
    plan.looked_up(1, found("7", "B"));
    plan.looked_up(2, Err(Error::new(Reason::UpstreamUnavailable, "down")));
    let Writes { updates, creates } = plan.writes();
    let [(1, update)] = updates.as_slice() else { panic!("{updates:?}") };
    assert_eq!((update.input.id.as_str(), &update.input.id_property), ("7", &None));
    assert_eq!(update.trace_id, "trace of b");
    let [(0, create)] = creates.as_slice() else { panic!("{creates:?}") };
    assert_eq!(create.input.properties["crm_key"], "a");
    assert_eq!(create.input.associations, types(AssociationType::PRIMARY_CONTACT));
    plan.created(0, written("8"));
    plan.updated(1, written("7"));
    assert_eq!(plan.next_round(), None);
    assert!(plan.result_bytes() > 0);
    let mut outcomes = plan.into_outcomes();
    assert_eq!(outcomes.remove(2).unwrap_err().reason(), Reason::UpstreamUnavailable);
    let items: Vec<BatchItem> = outcomes.into_iter().map(|item| item.unwrap().unwrap()).collect();
    assert_eq!([items[0].created, items[1].created], [Some(true), Some(false)]);
    assert_eq!(items[1].lead.properties["crm_key"], "B", "the value that HubSpot has");
}

#[test]
fn a_new_lead_needs_a_contact_and_a_name() {
    let user_defined = AssociationType { category: AssociationCategory::UserDefined, type_id: 9 };
    let company = AssociationType { type_id: 580, ..AssociationType::CONTACT };
    let task = AssociationType { type_id: 646, ..AssociationType::CONTACT };
    let same_number = AssociationType { category: AssociationCategory::Work, type_id: 578 };
    for (associations, is_created) in [
        (Vec::new(), false),
        (types(company), false),
        (types(task), false),
        (types(same_number), false),
        ([types(company), types(AssociationType::CONTACT)].concat(), true),
        (types(AssociationType::PRIMARY_CONTACT), true),
        (types(user_defined), true),
    ] {
        let mut plan = UpsertPlan::new(vec![upsert("a", associations.clone())]);
        plan.next_round();
        plan.looked_up(0, missing());
        let (updates, creates) = planned(&mut plan);
        assert_eq!((updates.len(), creates.len()), (0, usize::from(is_created)));
        if !is_created {
            assert_eq!(plan.next_round(), None);
            let error = result(plan).unwrap_err();
            assert_eq!(error.reason(), Reason::InvalidRequest);
            assert_eq!(error.fields()[0].field, "primary_contact_id");
        }
        // A lead that exists needs neither.
        let mut plan = UpsertPlan::new(vec![upsert("a", associations)]);
        plan.next_round();
        plan.looked_up(0, found("7", "a"));
        assert_eq!(planned(&mut plan).0, ["7"]);
    }
    let mut nameless = with_contact("a");
    nameless.input.properties = BTreeMap::from([("hs_lead_label".to_owned(), "HOT".to_owned())]);
    let mut plan = UpsertPlan::new(vec![nameless]);
    plan.next_round();
    plan.looked_up(0, missing());
    assert!(planned(&mut plan).1.is_empty());
    assert_eq!(result(plan).unwrap_err().fields()[0].field, "properties[\"hs_lead_name\"]");
}

#[test]
fn a_create_that_another_client_was_ahead_of_becomes_an_update() {
    let mut plan = plan();
    plan.looked_up(0, missing());
    plan.writes();
    plan.created(0, Err(clash()));
    assert_eq!(plan.next_round(), Some(Duration::ZERO), "the other lead exists");
    plan.looked_up(0, found("7", "a"));
    assert_eq!(planned(&mut plan).0, ["7"]);
    plan.updated(0, written("7"));
    assert_eq!(plan.next_round(), None);
    assert_eq!(result(plan), Ok(("7".to_owned(), Some(false), Some("a".to_owned()))));
}

#[test]
fn a_clash_of_another_unique_property_is_the_result_and_changes_no_other_lead() {
    let mut plan = plan();
    plan.looked_up(0, missing());
    plan.writes();
    plan.created(0, Err(clash()));
    plan.next_round();
    plan.looked_up(0, missing());
    assert_eq!(planned(&mut plan), (Vec::new(), Vec::new()));
    assert_eq!(result(plan), Err(clash()));
}

#[test]
fn a_create_whose_response_is_lost_is_looked_up_before_it_is_sent_again() {
    let mut plan = plan();
    plan.looked_up(0, missing());
    plan.writes();
    plan.created(0, Err(lost()));
    assert_eq!(plan.next_round(), Some(FIRST_PAUSE));
    plan.looked_up(0, missing());
    assert_eq!(planned(&mut plan).1, ["Lead a"], "the first create was not processed");
    plan.created(0, Err(lost()));
    assert_eq!(plan.next_round(), Some(FIRST_PAUSE * 2));
    plan.looked_up(0, found("7", "a"));
    assert_eq!(planned(&mut plan).0, ["7"]);
    plan.updated(0, written("7"));
    assert_eq!(result(plan), Ok(("7".to_owned(), None, Some("a".to_owned()))));
}

#[test]
fn whether_a_lead_is_new_is_unknown_once_the_response_to_a_create_was_lost() {
    // The second create clashes: with the first one, or with that of another client.
    let mut clashing = plan();
    clashing.looked_up(0, missing());
    clashing.writes();
    clashing.created(0, Err(lost()));
    clashing.next_round();
    clashing.looked_up(0, missing());
    clashing.writes();
    clashing.created(0, Err(clash()));
    clashing.next_round();
    clashing.looked_up(0, found("7", "a"));
    clashing.writes();
    clashing.updated(0, written("7"));
    assert_eq!(result(clashing), Ok(("7".to_owned(), None, Some("a".to_owned()))));
    // The second create succeeds: the first one was not processed.
    let mut created = plan();
    created.looked_up(0, missing());
    created.writes();
    created.created(0, Err(lost()));
    created.next_round();
    created.looked_up(0, missing());
    created.writes();
    created.created(0, written("8"));
    assert_eq!(result(created), Ok(("8".to_owned(), Some(true), None)));
}

#[test]
fn an_outcome_that_stays_unknown_says_that_a_repeat_is_safe() {
    // The lookup fails.
    let mut failing = plan();
    failing.looked_up(0, missing());
    failing.writes();
    failing.created(0, Err(lost()));
    failing.next_round();
    failing.looked_up(0, Err(Error::new(Reason::UpstreamUnavailable, "down")));
    // Every create is lost, and never found.
    let mut endless = plan();
    let mut rounds = 1;
    loop {
        endless.looked_up(0, missing());
        endless.writes();
        endless.created(0, Err(lost()));
        if endless.next_round().is_none() {
            break;
        }
        rounds += 1;
    }
    assert_eq!(rounds, MAX_ROUNDS);
    for plan in [failing, endless] {
        let error = result(plan).unwrap_err();
        assert_eq!(error.reason(), Reason::WriteOutcomeUnknown);
        assert_eq!(error.side_effect(), SideEffect::Possible);
        assert_eq!(error.retry_after(), Some(RETRY_AFTER));
    }
}

#[test]
fn a_lead_that_vanishes_between_lookup_and_update_is_created() {
    let mut plan = plan();
    plan.looked_up(0, found("7", "a"));
    plan.writes();
    plan.updated(0, missing());
    assert_eq!(plan.next_round(), Some(Duration::ZERO));
    plan.looked_up(0, missing());
    assert_eq!(planned(&mut plan).1, ["Lead a"]);
    plan.created(0, written("8"));
    assert_eq!(result(plan), Ok(("8".to_owned(), Some(true), None)));
}

#[test]
fn two_values_of_one_lead_are_not_written_at_once() {
    // HubSpot may compare values in more ways than by case.
    let mut plan = UpsertPlan::new(vec![with_contact("a"), with_contact("a-")]);
    plan.next_round();
    plan.looked_up(0, found("7", "a"));
    plan.looked_up(1, found("7", "a"));
    assert_eq!(planned(&mut plan).0, ["7"]);
    plan.updated(0, written("7"));
    assert_eq!(plan.next_round(), None);
    let error = plan.into_outcomes().remove(1).unwrap_err();
    assert_eq!((error.reason(), &*error.fields()[0].field), (Reason::InvalidRequest, "id"));
}

#[test]
fn an_upsert_by_record_id_is_an_update_without_a_lookup() {
    let mut input = with_contact("7");
    input.input.id_property = None;
    let mut plan = UpsertPlan::new(vec![input]);
    plan.next_round();
    assert!(plan.lookups().is_empty());
    assert_eq!(planned(&mut plan).0, ["7"]);
    plan.updated(0, missing());
    assert_eq!(plan.next_round(), None, "a record id cannot be chosen");
    assert_eq!(result(plan).unwrap_err().reason(), Reason::LeadNotFound);
}

#[test]
fn a_lead_that_exists_is_left_unchanged_without_properties() {
    let mut input = with_contact("a");
    input.input.properties.clear();
    let mut plan = UpsertPlan::new(vec![input]);
    plan.next_round();
    plan.looked_up(0, found("7", "a"));
    assert_eq!(planned(&mut plan), (Vec::new(), Vec::new()));
    assert_eq!(result(plan), Ok(("7".to_owned(), Some(false), Some("a".to_owned()))));
}

#[test]
fn a_final_error_of_a_write_is_the_result() {
    let invalid = Error::new(Reason::ValidationFailed, "no such option");
    let mut created = plan();
    created.looked_up(0, missing());
    created.writes();
    created.created(0, Err(invalid.clone()));
    let mut updated = plan();
    updated.looked_up(0, found("7", "a"));
    updated.writes();
    updated.updated(0, Err(invalid.clone()));
    for mut plan in [created, updated] {
        assert_eq!(plan.next_round(), None);
        assert_eq!(result(plan), Err(invalid.clone()));
    }
}
