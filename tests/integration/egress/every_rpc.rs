//! One call of every RPC of leadsd. An RPC of the contract that is not called here fails the tests.

use std::collections::BTreeSet;

use leadsd_hubspot_fake::FakeHubspot;
use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::call::{leadsd_call, ran};

/// Requests that cause no HubSpot call.
const LOCAL: [&str; 3] =
    ["QuotaService/GetQuota", "QuotaService/WatchQuota", "SchemaService/ListPortals"];

/// RPCs in the order of the calls, with their requests. `$LEAD` is the id of the first lead, `$CONTACT` that
/// of its contact, and `$OTHER` that of another one.
const CALLS: [(&str, &str); 26] = [
    (
        "LeadsService/CreateLead",
        r#"{"properties": {"hs_lead_name": "Jane", "crm_key": "k-1"}, "primary_contact_id": "$CONTACT"}"#,
    ),
    ("LeadsService/GetLead", r#"{"id": "$LEAD", "properties": ["hs_lead_name"]}"#),
    ("LeadsService/UpdateLead", r#"{"id": "$LEAD", "properties": {"hs_lead_label": "HOT"}}"#),
    (
        "LeadsService/UpsertLead",
        r#"{"id_property": "crm_key", "id": "k-1", "properties": {"hs_lead_label": "COLD"}}"#,
    ),
    ("LeadsService/ListLeads", "{}"),
    ("LeadsService/SearchLeads", r#"{"query": "Jane"}"#),
    ("LeadsService/ExportLeads", "{}"),
    (
        "LeadsService/ImportLeads",
        r#"{"settings": {"import_id": "i-1"}} {"row": {"key": "r-1", "update": {"id": "$LEAD", "properties": {"hs_lead_label": "HOT"}}}}"#,
    ),
    (
        "LeadsService/AssociateLead",
        r#"{"lead_id": "$LEAD", "object_type": "contacts", "to_id": "$OTHER", "types": [{"type_id": 608}]}"#,
    ),
    ("LeadsService/ListLeadAssociations", r#"{"lead_id": "$LEAD", "object_type": "contacts"}"#),
    (
        "LeadsService/DissociateLead",
        r#"{"lead_id": "$LEAD", "object_type": "contacts", "to_id": "$OTHER"}"#,
    ),
    (
        "LeadsService/BatchCreateLeads",
        r#"{"inputs": [{"properties": {"hs_lead_name": "Joe"}, "primary_contact_id": "$CONTACT"}]}"#,
    ),
    ("LeadsService/BatchGetLeads", r#"{"ids": ["$LEAD"]}"#),
    (
        "LeadsService/BatchUpdateLeads",
        r#"{"inputs": [{"id": "$LEAD", "properties": {"hs_lead_label": "WARM"}}]}"#,
    ),
    (
        "LeadsService/BatchUpsertLeads",
        r#"{"inputs": [{"id_property": "crm_key", "id": "k-2", "properties": {"hs_lead_name": "Joan"}, "primary_contact_id": "$CONTACT"}]}"#,
    ),
    (
        "LeadsService/BatchAssociateLeads",
        r#"{"object_type": "contacts", "inputs": [{"lead_id": "$LEAD", "to_id": "$OTHER", "types": [{"type_id": 608}]}]}"#,
    ),
    (
        "LeadsService/BatchDissociateLeads",
        r#"{"object_type": "contacts", "inputs": [{"lead_id": "$LEAD", "to_id": "$OTHER"}]}"#,
    ),
    ("LeadsService/ArchiveLead", r#"{"id": "$LEAD"}"#),
    ("LeadsService/BatchArchiveLeads", r#"{"ids": ["$LEAD"]}"#),
    ("SchemaService/ListLeadProperties", "{}"),
    ("SchemaService/ListLeadPipelines", "{}"),
    ("SchemaService/ListOwners", "{}"),
    ("SchemaService/ListAssociationTypes", r#"{"to_object_types": ["contacts"]}"#),
    ("SchemaService/ListPortals", "{}"),
    ("QuotaService/GetQuota", "{}"),
    ("QuotaService/WatchQuota", "{}"),
];

/// Names of the RPCs of the contract, such as `LeadsService/GetLead`.
fn contract() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(leadsd::grpc::DESCRIPTORS).unwrap();
    let own = set.file.iter().filter(|file| file.package().starts_with("leadsd."));
    let methods = own.flat_map(|file| &file.service).flat_map(|service| {
        service.method.iter().map(|method| format!("{}/{}", service.name(), method.name()))
    });
    methods.collect()
}

#[test]
fn every_rpc_of_the_contract_is_called() {
    let called: BTreeSet<String> = CALLS.iter().map(|(rpc, _)| (*rpc).to_owned()).collect();
    assert_eq!(called.len(), CALLS.len());
    let contract = contract();
    let missing: Vec<&String> = contract.difference(&called).collect();
    assert!(missing.is_empty(), "add a request of {missing:?} to CALLS");
    assert_eq!(called, contract);
}

/// Calls every RPC of the service at this address, and asserts that each gets a result, and that HubSpot
/// receives a request for each that needs one. Those of `denied` lack a scope.
pub(super) async fn call_every_rpc(grpc: &str, hubspot: &FakeHubspot, denied: &[&str]) {
    let contact = hubspot.add_contact("jane@example.com");
    let other = hubspot.add_contact("joe@example.com");
    let mut lead = String::new();
    for (rpc, request) in CALLS {
        let request = request.replace("$CONTACT", &contact);
        let request = request.replace("$OTHER", &other).replace("$LEAD", &lead);
        hubspot.clear_log();
        let mut arguments = vec!["--address", grpc, "--json", rpc, &request];
        if ["QuotaService/WatchQuota", "LeadsService/ExportLeads", "LeadsService/ImportLeads"]
            .contains(&rpc)
        {
            arguments.extend(["--max-messages", "1"]);
        }
        let result = ran(leadsd_call(&arguments)).await;
        let calls = hubspot.log().len();
        assert_eq!(calls > 0, !LOCAL.contains(&rpc), "{rpc}: {calls} HubSpot calls");
        if denied.contains(&rpc) {
            assert!(result.code != Some(0) && result.err.contains("MISSING_SCOPES"), "{result:?}");
            continue;
        }
        let response = result.json();
        assert!(!response.to_string().contains("\"code\":"), "{rpc}: {response}");
        if rpc == "LeadsService/CreateLead" {
            response["lead"]["id"].as_str().unwrap().clone_into(&mut lead);
        }
    }
}
