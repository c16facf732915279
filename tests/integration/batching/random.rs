//! Random mixes of calls against accounts with random behaviour: batched and individual results are
//! equal.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use leadsd::grpc::pb;
use leadsd_hubspot_fake::Behaviour;
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};

use super::{
    calls::Ask,
    world::{Case, World, nothing},
};
use crate::harness::{cases, properties};

/// Plan of one call of a mix, before leads exist.
#[derive(Debug, Clone)]
enum Plan {
    Get {
        lead: Target,
        by_key: bool,
        shown: BTreeSet<usize>,
        history: bool,
        to: BTreeSet<usize>,
        archived: bool,
    },
    Create {
        key: bool,
        contact: bool,
        values: Vec<usize>,
    },
    Update {
        lead: Target,
        by_key: bool,
        values: Vec<usize>,
    },
    Archive {
        lead: Target,
    },
    Upsert {
        exists: bool,
        values: Vec<usize>,
    },
}

/// Target lead.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// Lead that other calls of the mix read as well.
    Shared(usize),
    Own(State),
    Unknown,
    NoNumber,
    Padded,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Live,
    Archived,
    Merged,
}

const PROPERTIES: [&str; 5] =
    ["hs_lead_name", "hs_lead_label", "crm_key", "hs_object_id", "no_such_property"];

const TYPES: [&str; 4] = ["contacts", "companies", "deals", "butterflies"];

const VALUES: [(&str, &str); 7] = [
    ("hs_lead_label", "HOT"),
    ("hs_lead_label", ""),
    ("hs_lead_source", "a \"source\" of \u{e4}"),
    ("hs_next_activity_date", "4/1/2026"),
    ("hs_lead_label", "NO_SUCH_LABEL"),
    ("no_such_property", "x"),
    ("hs_lead_pipeline_value", "no number"),
];

fn plan() -> impl Strategy<Value = Plan> {
    let state =
        prop_oneof![6 => Just(State::Live), 1 => Just(State::Archived), 1 => Just(State::Merged)];
    let own = prop_oneof![
        8 => state.prop_map(Target::Own),
        1 => Just(Target::Unknown),
        1 => Just(Target::NoNumber),
        1 => Just(Target::Padded),
    ];
    let read = prop_oneof![2 => (0..3_usize).prop_map(Target::Shared), 3 => own.clone()];
    // Most are valid.
    let values = || prop::collection::vec(prop_oneof![4 => 0..4_usize, 1 => 0..VALUES.len()], 1..3);
    let some = |of: usize| prop::collection::btree_set(0..of, 0..3);
    let linked = prop_oneof![2 => Just(BTreeSet::new()), 1 => some(TYPES.len())];
    let get = (
        read,
        any::<bool>(),
        some(PROPERTIES.len()),
        prop::bool::weighted(0.1),
        linked,
        prop::bool::weighted(0.1),
    );
    prop_oneof![
        4 => get.prop_map(|(lead, by_key, shown, history, to, archived)| {
            Plan::Get { lead, by_key, shown, history, to, archived }
        }),
        2 => (any::<bool>(), prop::bool::weighted(0.9), values())
            .prop_map(|(key, contact, values)| Plan::Create { key, contact, values }),
        2 => (own.clone(), prop::bool::weighted(0.3), values())
            .prop_map(|(lead, by_key, values)| Plan::Update { lead, by_key, values }),
        1 => own.prop_map(|lead| Plan::Archive { lead }),
        1 => (any::<bool>(), values()).prop_map(|(exists, values)| Plan::Upsert { exists, values }),
    ]
}

/// Switches of the account.
fn switches() -> impl Strategy<Value = [bool; 11]> {
    any::<[bool; 11]>()
}

fn behave(behaviour: &mut Behaviour, switches: [bool; 11]) {
    let [echo, per_item, partial, clash, contact, reports, gone, category, named, per_kind, follow] =
        switches;
    behaviour.echo_trace_ids = echo;
    behaviour.property_errors_per_item = per_item;
    behaviour.partial_status = if partial { 207 } else { 200 };
    behaviour.unique_clash_status = if clash { 409 } else { 400 };
    behaviour.missing_contact_status = if contact { 400 } else { 404 };
    behaviour.batch_archive_reports_unknown = reports;
    behaviour.archive_unknown_status = if gone { 204 } else { 404 };
    behaviour.not_found_category = category;
    behaviour.name_failed_inputs = named;
    behaviour.associations_per_kind = per_kind;
    behaviour.changes_follow_merges = follow;
}

/// Creates the leads of a mix, and its calls.
struct Maker<'a> {
    world: &'a mut World,
    portal: String,
    made: usize,
    shared: Vec<(String, String)>,
    company: String,
}

impl Maker<'_> {
    /// A separate lead: record id and key.
    fn lead(&mut self) -> (String, String) {
        self.made += 1;
        let key = format!("{}-Key-{}", self.portal, self.made);
        let id = self.world.keyed(&key);
        if self.made.is_multiple_of(3) {
            self.world.both(|app| app.hubspot.associate(&id, &self.company, 580));
        }
        if self.made.is_multiple_of(4) {
            self.world.both(|app| app.hubspot.associate(&id, &app.contact, 608));
        }
        (id, key)
    }

    fn named(&mut self, target: Target, by_key: bool) -> (String, String) {
        let (id, key) = match target {
            Target::Shared(number) => self.shared[number].clone(),
            Target::Own(state) => {
                let (id, key) = self.lead();
                match state {
                    State::Live => {}
                    State::Archived => self.world.both(|app| app.hubspot.archive(&id)),
                    State::Merged => {
                        let (winner, _) = self.lead();
                        self.world.both(|app| app.hubspot.merge(&id, &winner));
                    }
                }
                (id, key)
            }
            Target::Unknown => ("99999999".to_owned(), "no such key".to_owned()),
            Target::NoNumber => ("no number".to_owned(), " ".to_owned()),
            Target::Padded => {
                let (id, key) = self.lead();
                (format!("00{id}"), key.to_uppercase())
            }
        };
        if by_key { (key, "crm_key".to_owned()) } else { (id, String::new()) }
    }

    fn call(&mut self, plan: Plan) -> Ask {
        let values = |values: &[usize]| {
            properties(&values.iter().map(|&value| VALUES[value]).collect::<Vec<_>>())
        };
        match plan {
            Plan::Get { lead, by_key, shown, history, to, archived } => {
                let (id, id_property) = self.named(lead, by_key);
                let history = history.then(|| "hs_lead_name".to_owned());
                Ask::Get(pb::GetLeadRequest {
                    id,
                    id_property,
                    properties: shown.iter().map(|&name| PROPERTIES[name].to_owned()).collect(),
                    properties_with_history: history.into_iter().collect(),
                    associations: to.iter().map(|&to| TYPES[to].to_owned()).collect(),
                    archived,
                    ..Default::default()
                })
            }
            Plan::Create { key, contact, values: chosen } => {
                self.made += 1;
                let mut values = values(&chosen);
                let name = format!("New {} {}", self.portal, self.made);
                values.insert("hs_lead_name".to_owned(), name);
                if key {
                    values
                        .insert("crm_key".to_owned(), format!("{}-New-{}", self.portal, self.made));
                }
                let own = self.world.both(|app| app.contact.clone());
                Ask::Create(pb::CreateLeadRequest {
                    properties: values,
                    primary_contact_id: if contact { own } else { "987654".to_owned() },
                    ..Default::default()
                })
            }
            Plan::Update { lead, by_key, values: chosen } => {
                let (id, id_property) = self.named(lead, by_key);
                let properties = values(&chosen);
                Ask::Update(pb::UpdateLeadRequest {
                    id,
                    id_property,
                    properties,
                    ..Default::default()
                })
            }
            Plan::Archive { lead } => {
                let (id, _) = self.named(lead, false);
                Ask::Archive(pb::ArchiveLeadRequest { id, ..Default::default() })
            }
            Plan::Upsert { exists, values: chosen } => {
                let (_, key) = self.lead();
                let mut properties = values(&chosen);
                properties.insert("hs_lead_name".to_owned(), format!("Upserted {key}"));
                let id = if exists { key } else { format!("{key}-new") };
                let id_property = "crm_key".to_owned();
                let primary_contact_id = self.world.both(|app| app.contact.clone());
                Ask::Upsert(pb::UpsertLeadRequest {
                    id,
                    id_property,
                    properties,
                    primary_contact_id,
                    ..Default::default()
                })
            }
        }
    }
}

/// One of many mixes.
fn pick<S: Strategy>(strategy: &S, runner: &mut TestRunner) -> S::Value {
    strategy.new_tree(runner).expect("nothing is filtered").current()
}

async fn world(switches: [bool; 11], mixes: Vec<Vec<Plan>>) -> (World, Vec<Case>) {
    let change = |behaviour: &mut Behaviour| behave(behaviour, switches);
    let mut world = World::start(mixes.len(), 0, &change, &[]).await;
    let company = world.both(|app| app.hubspot.add_company("Example Ltd"));
    let mut cases = Vec::new();
    for (portal, plans) in world.portals().into_iter().zip(mixes) {
        let company = company.clone();
        let mut maker = Maker {
            world: &mut world,
            portal: portal.clone(),
            made: 0,
            shared: Vec::new(),
            company,
        };
        maker.shared = (0..3).map(|_| maker.lead()).collect();
        let asks = plans.into_iter().map(|plan| maker.call(plan)).collect();
        cases.push(Case { note: format!("{switches:?}"), ..Case::new(&portal, asks) });
    }
    world.warm_up(&world.portals()).await;
    (world, cases)
}

#[tokio::test]
async fn random_mixes_have_equal_results_individually_and_batched() {
    let (worlds_tried, mixes_tried) = (cases(2, 4), cases(12, 40));
    let mut runner = TestRunner::new(Config::default());
    let mix = prop::collection::vec(plan(), 2..9);
    let mut worlds = Vec::new();
    for _ in 0..worlds_tried {
        let switches = pick(&switches(), &mut runner);
        let mixes = (0..mixes_tried).map(|_| pick(&mix, &mut runner)).collect();
        worlds.push(world(switches, mixes).await);
    }
    let compare = worlds.iter().map(|(world, cases)| world.compare(cases, &nothing));
    join_all(compare).await;
    let batches: usize = worlds.iter().map(|(world, _)| world.batches("")).sum();
    // The number depends on the returned trace ids.
    assert!(batches >= mixes_tried / 4, "{batches} batches of more than one");
}
