//! Identification against a scripted HubSpot that returns no trace ids.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    leads::{
        Associated, AssociatedObject, Association, AssociationCategory, AssociationType, BatchItem,
        Lead,
    },
    pipeline::{
        scripted::{Recorded, Scripted, ScriptedUpstream},
        tests::{context, get, lead_id, unavailable},
    },
};

/// Properties that the results of a create show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    Written,
}

/// A create of a lead with this name for a contact.
fn input(trace: usize, name: &str, contact: &str) -> Traced<CreateLead> {
    let primary = AssociationType { category: AssociationCategory::HubspotDefined, type_id: 578 };
    Traced {
        trace_id: format!("trace-{trace}"),
        input: CreateLead {
            properties: BTreeMap::from([("hs_lead_name".to_owned(), name.to_owned())]),
            associations: vec![Association {
                to_id: lead_id(contact),
                types: vec![primary],
                position: None,
            }],
            contact: None,
            trace_id: None,
        },
    }
}

/// HubSpot whose lead 900 is that of the first input, 901 that of the second, and so on. Its responses are in
/// reverse order.
fn hubspot(inputs: &[Traced<CreateLead>], shown: Shown) -> Arc<ScriptedUpstream> {
    let leads: BTreeMap<String, CreateLead> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| ((900 + index).to_string(), input.input.clone()))
        .collect();
    let item = |id: &str, properties: BTreeMap<String, String>| BatchItem {
        lead: Lead { id: id.to_owned(), properties, ..Lead::default() },
        trace_id: None,
        created: None,
    };
    ScriptedUpstream::new(move |call: &Recorded| {
        let batch = |results| Ok(Response::Batch(BatchResponse { results, errors: Vec::new() }));
        if let Request::BatchRead(read) = &*call.request {
            let found = |id: &LeadId| {
                let mut item = item(id.as_str(), leads[id.as_str()].properties.clone());
                let is_unset = |name: &&String| !item.lead.properties.contains_key(*name);
                item.lead.unset_properties =
                    read.properties.iter().filter(is_unset).cloned().collect();
                item
            };
            return Scripted::now(batch(read.ids.iter().map(found).collect()));
        }
        if let Request::ReadAssociations { leads: ids, to } = &*call.request {
            assert_eq!(to, "contacts");
            let links = |id: &LeadId| {
                let object = |association: &Association| AssociatedObject {
                    id: association.to_id.to_string(),
                    kind: "lead_to_contact".to_owned(),
                    association_type: None,
                    label: None,
                };
                let objects = leads[id.as_str()].associations.iter().map(object).collect();
                let page = Associated { objects, next: None };
                Links { lead: id.to_string(), page, is_whole: true }
            };
            return Scripted::now(Ok(Response::Associations(ids.iter().map(links).collect())));
        }
        assert!(matches!(*call.request, Request::BatchCreate(_)), "{:?}", call.request);
        let shown = |lead: &CreateLead| match shown {
            Shown::Nothing => BTreeMap::new(),
            Shown::Written => lead.properties.clone(),
        };
        Scripted::now(batch(leads.iter().rev().map(|(id, lead)| item(id, shown(lead))).collect()))
    })
}

/// Sends a batch create; returns the trace ids of the results by record id.
async fn trace_ids(
    upstream: &Arc<ScriptedUpstream>,
    inputs: &[Traced<CreateLead>],
) -> BTreeMap<String, Option<String>> {
    let layer = IdentifyCreated::new(Arc::clone(upstream));
    let ctx = context(Duration::from_secs(60));
    let request = Arc::new(Request::BatchCreate(inputs.to_vec()));
    let response = layer.call(&ctx, request, Dispatch::new(&ctx)).await.unwrap();
    let results = response.into_batch().unwrap().results;
    assert_eq!(results.len(), inputs.len());
    results.into_iter().map(|item| (item.lead.id, item.trace_id)).collect()
}

/// The trace id of each input by the record id of its lead.
fn own(inputs: &[Traced<CreateLead>]) -> BTreeMap<String, Option<String>> {
    let own = inputs.iter().enumerate();
    own.map(|(index, input)| ((900 + index).to_string(), Some(input.trace_id.clone()))).collect()
}

#[tokio::test(start_paused = true)]
async fn leads_of_results_without_values_are_read_and_identified() {
    let inputs: Vec<_> = (0..100).map(|n| input(n, &format!("Lead {n}"), "1")).collect();
    let upstream = hubspot(&inputs, Shown::Nothing);
    assert_eq!(trace_ids(&upstream, &inputs).await, own(&inputs));
    assert_eq!(upstream.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn leads_with_equal_values_are_identified_by_their_contacts() {
    for (shown, requests) in [(Shown::Nothing, 3), (Shown::Written, 2)] {
        let mut inputs: Vec<_> =
            (0..50).map(|n| input(n, "New lead", &(1_000 + n).to_string())).collect();
        inputs.extend((50..100).map(|n| input(n, &format!("Lead {n}"), "1")));
        let upstream = hubspot(&inputs, shown);
        let mut expected = own(&inputs);
        if shown == Shown::Written {
            // Values identify these.
            expected.iter_mut().skip(50).for_each(|(_, trace_id)| *trace_id = None);
        }
        assert_eq!(trace_ids(&upstream, &inputs).await, expected, "{shown:?}");
        assert_eq!(upstream.count(), requests, "{shown:?}");
        let Request::ReadAssociations { leads, .. } = &*upstream.requests()[requests - 1].request
        else {
            panic!("the contacts are read last")
        };
        assert_eq!(leads.len(), 50, "only those that values do not identify");
    }
}

#[tokio::test(start_paused = true)]
async fn equal_creates_are_interchangeable_and_none_gets_two_leads() {
    let inputs: Vec<_> = (0..3).map(|n| input(n, "Same", "1")).collect();
    let upstream = hubspot(&inputs, Shown::Nothing);
    let found = trace_ids(&upstream, &inputs).await;
    let mut found: Vec<String> = found.into_values().flatten().collect();
    found.sort();
    assert_eq!(found, ["trace-0", "trace-1", "trace-2"]);
}

/// Values of an equal pair are among those of every other create, so each lead may be that of the pair.
#[tokio::test(start_paused = true)]
async fn equal_creates_do_not_leave_those_unidentified_that_write_more() {
    for shown in [Shown::Nothing, Shown::Written] {
        let mut inputs: Vec<_> = (0..50).map(|n| input(n, "Same", "1")).collect();
        for (number, input) in inputs.iter_mut().enumerate().skip(2) {
            let source = ("hs_lead_source".to_owned(), format!("source {number}"));
            input.input.properties.extend([source]);
        }
        // An empty value sets nothing.
        inputs[1].input.properties.insert("hs_lead_label".to_owned(), String::new());
        let upstream = hubspot(&inputs, shown);
        let mut found = trace_ids(&upstream, &inputs).await;
        let pair: BTreeSet<_> =
            ["900", "901"].iter().map(|id| found.remove(*id).unwrap()).collect();
        let mut expected = own(&inputs);
        let own_pair: BTreeSet<_> =
            ["900", "901"].iter().map(|id| expected.remove(*id).unwrap()).collect();
        assert_eq!((pair, found), (own_pair, expected), "{shown:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn leads_of_other_contacts_are_not_given_to_a_create() {
    let inputs: Vec<_> = (0..2).map(|n| input(n, "Same", "1")).collect();
    // HubSpot has associated them with other contacts.
    let others: Vec<_> = (0..2).map(|n| input(n, "Same", "2")).collect();
    let upstream = hubspot(&others, Shown::Nothing);
    let found = trace_ids(&upstream, &inputs).await;
    assert!(found.into_values().all(|trace_id| trace_id.is_none()));
}

#[tokio::test(start_paused = true)]
async fn results_show_the_values_of_their_create_and_of_no_other() {
    let mut inputs = [input(0, "Ada", "1"), input(1, "Bob", "1")];
    inputs[1].input.properties.insert("hs_lead_label".to_owned(), "HOT".to_owned());
    for inputs in [&inputs[..], &inputs[1..]] {
        let upstream = hubspot(inputs, Shown::Nothing);
        let layer = IdentifyCreated::new(Arc::clone(&upstream));
        let ctx = context(Duration::from_secs(60));
        let request = Arc::new(Request::BatchCreate(inputs.to_vec()));
        let response = layer.call(&ctx, request, Dispatch::new(&ctx)).await.unwrap();
        for item in response.into_batch().unwrap().results {
            let own = inputs.iter().find(|input| Some(&input.trace_id) == item.trace_id.as_ref());
            let own = &own.expect("its create is known").input.properties;
            // HubSpot reports all selected properties, with and without a value.
            assert_eq!((&item.lead.properties, &*item.lead.unset_properties), (own, &[][..]));
            assert!(!item.lead.is_id_only);
        }
        assert_eq!(upstream.count(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn results_that_show_their_values_cost_no_further_request() {
    for inputs in [&[input(0, "Ada", "1")][..], &[input(0, "Ada", "1"), input(1, "Bob", "1")]] {
        let upstream = hubspot(inputs, Shown::Written);
        let found = trace_ids(&upstream, inputs).await;
        assert!(found.into_values().all(|trace_id| trace_id.is_none()), "the values identify them");
        assert_eq!(upstream.count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_leaves_created_leads_without_values_and_unidentified() {
    for (count, failing) in [(2, 1), (2, 2), (1, 1)] {
        let inputs: Vec<_> = (0..count).map(|n| input(n, "Same", "1")).collect();
        let double = hubspot(&inputs, Shown::Nothing);
        let script = Arc::clone(&double);
        let upstream = ScriptedUpstream::new(move |call| {
            if call.number == failing {
                return Scripted::now(Err(unavailable()));
            }
            script.respond(call)
        });
        let layer = IdentifyCreated::new(Arc::clone(&upstream));
        let ctx = context(Duration::from_secs(60));
        let request = Arc::new(Request::BatchCreate(inputs));
        let response = layer.call(&ctx, request, Dispatch::new(&ctx)).await.unwrap();
        for item in response.into_batch().unwrap().results {
            // The only result is that of the only create.
            assert_eq!((item.trace_id.is_some(), item.lead.is_id_only), (count == 1, count == 1));
        }
        assert_eq!(upstream.count(), failing + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn leads_are_identified_after_the_deadline_of_their_call() {
    let inputs: Vec<_> = (0..2).map(|n| input(n, &format!("Lead {n}"), "1")).collect();
    let double = hubspot(&inputs, Shown::Nothing);
    let script = Arc::clone(&double);
    let late = Duration::from_secs(61);
    let upstream = ScriptedUpstream::new(move |call| match call.number {
        0 => Scripted { delay: late, ..script.respond(call) },
        _ => script.respond(call),
    });
    assert_eq!(trace_ids(&upstream, &inputs).await, own(&inputs));
    let read = &upstream.requests()[1];
    assert_eq!(read.deadline - read.at, READ_TIME);
}

#[tokio::test(start_paused = true)]
async fn other_requests_and_errors_pass_through() {
    let upstream = ScriptedUpstream::sequence(vec![Err(unavailable()), Err(unavailable())]);
    let layer = IdentifyCreated::new(Arc::clone(&upstream));
    let ctx = context(Duration::from_secs(60));
    let create = Arc::new(Request::BatchCreate(vec![input(0, "Ada", "1")]));
    for request in [get("7"), create] {
        let error = layer.call(&ctx, request, Dispatch::new(&ctx)).await.unwrap_err();
        assert_eq!(error, unavailable());
    }
    assert_eq!(upstream.count(), 2);
}
