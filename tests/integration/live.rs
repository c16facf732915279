//! Every operation against a HubSpot account: the fake, or a test account if `LEADSD_LIVE_TOKEN` is set
//! (`just live`). The tests archive what they create, also if they fail.

use std::{collections::BTreeSet, panic::AssertUnwindSafe};

use futures_util::{FutureExt as _, future::join_all};
use leadsd::grpc::pb;
use parking_lot::Mutex;
use pb::{lead_read_result, lead_upsert_result, lead_write_result};
use serde_json::json;
use tonic::Code;
use uuid::Uuid;

use crate::harness::{TestApp, eventually, failure, properties};

/// Id of no record.
const NO_RECORD: &str = "999999999999";

/// Service with an account.
struct Account {
    app: TestApp,
    contact: String,
    /// Property of leads with unique values; `None` if the account has none.
    unique: Option<String>,
    /// Word in the names of the created leads.
    mark: String,
    created: Mutex<Vec<String>>,
}

// === impl Account ===

impl Account {
    async fn connect() -> Self {
        let mark = format!("live{}", Uuid::new_v4().simple());
        let created = Mutex::default();
        let setting = |name: &str| std::env::var(format!("LEADSD_LIVE_{name}")).ok();
        let Some(token) = setting("TOKEN") else {
            let app = TestApp::start().await;
            app.hubspot.add_unique_property("crm_key");
            let (contact, unique) = (app.contact.clone(), Some("crm_key".to_owned()));
            return Self { app, contact, unique, mark, created };
        };
        let url = setting("URL").unwrap_or_else(|| "https://api.hubapi.com".to_owned());
        let version = setting("API_VERSION").unwrap_or_else(|| "2026-09".to_owned());
        let app = TestApp::builder()
            .set("HUBSPOT__BASE_URL", &url)
            .set("HUBSPOT__API_VERSION", &version)
            .secret("hubspot/default", json!({ "access_token": token }))
            .start()
            .await;
        let contact = setting("CONTACT").expect("LEADSD_LIVE_CONTACT is the id of a contact");
        Self { app, contact, unique: setting("UNIQUE_PROPERTY"), mark, created }
    }

    fn name(&self, what: &str) -> String {
        format!("{} {what}", self.mark)
    }

    fn input(&self, what: &str, more: &[(&str, &str)]) -> pb::LeadCreate {
        let mut properties = properties(more);
        properties.insert("hs_lead_name".to_owned(), self.name(what));
        let primary_contact_id = self.contact.clone();
        pb::LeadCreate { properties, primary_contact_id, ..Default::default() }
    }

    fn request(&self, what: &str) -> pb::CreateLeadRequest {
        let pb::LeadCreate { properties, primary_contact_id, .. } = self.input(what, &[]);
        pb::CreateLeadRequest { properties, primary_contact_id, ..Default::default() }
    }

    fn keep(&self, lead: Option<pb::Lead>) -> pb::Lead {
        let lead = lead.expect("a lead");
        self.created.lock().push(lead.id.clone());
        lead
    }

    async fn create(&self, what: &str) -> String {
        let created = self.app.leads.clone().create_lead(self.request(what)).await.unwrap();
        self.keep(created.into_inner().lead).id
    }

    async fn batch(&self, inputs: Vec<pb::LeadCreate>) -> Vec<Result<pb::Lead, i32>> {
        let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
        let results = self.app.leads.clone().batch_create_leads(request).await.unwrap();
        let told = |result: pb::LeadWriteResult| match result.outcome.unwrap() {
            lead_write_result::Outcome::Lead(lead) => Ok(self.keep(Some(lead))),
            lead_write_result::Outcome::Error(error) => Err(error.code),
        };
        results.into_inner().results.into_iter().map(told).collect()
    }

    async fn get(&self, id: &str) -> Result<pb::Lead, tonic::Status> {
        let request = pb::GetLeadRequest {
            id: id.to_owned(),
            properties: vec!["hs_lead_name".to_owned(), "hs_lead_disqualification_note".to_owned()],
            associations: vec!["contacts".to_owned()],
            ..Default::default()
        };
        let lead = self.app.leads.clone().get_lead(request).await?.into_inner().lead;
        Ok(lead.expect("a lead"))
    }

    async fn archive(&self, ids: Vec<String>) -> Vec<i32> {
        let request = pb::BatchArchiveLeadsRequest { ids, ..Default::default() };
        let answer = self.app.leads.clone().batch_archive_leads(request).await.unwrap();
        answer.into_inner().results.into_iter().map(|result| result.status.unwrap().code).collect()
    }
}

/// Runs a scenario, and archives what it has created.
async fn with_account(scenario: impl AsyncFnOnce(&Account)) {
    let account = Account::connect().await;
    let outcome = AssertUnwindSafe(scenario(&account)).catch_unwind().await;
    let ids = account.created.lock().clone();
    if !ids.is_empty() {
        assert!(account.archive(ids).await.into_iter().all(|code| code == 0));
    }
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

#[tokio::test]
async fn a_lead_is_created_with_a_contact_and_read() {
    with_account(async |account| {
        let id = account.create("created").await;
        let lead = account.get(&id).await.unwrap();
        assert_eq!(lead.properties["hs_lead_name"], account.name("created"));
        assert_eq!(lead.unset_properties, ["hs_lead_disqualification_note"]);
        let contacts = &lead.associations["contacts"].objects;
        assert!(contacts.iter().any(|object| object.id == account.contact), "{contacts:?}");
        let (code, reason, _) = failure(account.get(NO_RECORD).await);
        assert_eq!((code, reason.as_str()), (Code::NotFound, "LEAD_NOT_FOUND"));
    })
    .await;
}

#[tokio::test]
async fn a_lead_is_updated_and_a_property_cleared() {
    with_account(async |account| {
        let id = account.create("updated").await;
        for value in ["a note", ""] {
            let update = pb::UpdateLeadRequest {
                id: id.clone(),
                properties: properties(&[("hs_lead_disqualification_note", value)]),
                object_write_trace_id: "live-1".to_owned(),
                ..Default::default()
            };
            account.app.leads.clone().update_lead(update).await.unwrap();
            let lead = account.get(&id).await.unwrap();
            let note = lead.properties.get("hs_lead_disqualification_note");
            assert_eq!(note.map_or("", String::as_str), value);
        }
    })
    .await;
}

#[tokio::test]
async fn an_archived_lead_is_returned_only_by_reads_of_archived_leads() {
    with_account(async |account| {
        let id = account.create("archived").await;
        let request = pb::ArchiveLeadRequest { id: id.clone(), ..Default::default() };
        for _ in 0..2 {
            account.app.leads.clone().archive_lead(request.clone()).await.unwrap();
        }
        assert_eq!(failure(account.get(&id).await).0, Code::NotFound);
        let request = pb::GetLeadRequest { id, archived: true, ..Default::default() };
        let lead = account.app.leads.clone().get_lead(request).await.unwrap().into_inner().lead;
        assert!(lead.unwrap().archived);
    })
    .await;
}

#[tokio::test]
async fn leads_are_listed_page_by_page() {
    with_account(async |account| {
        let first = account.create("first").await;
        let second = account.create("second").await;
        let (mut token, mut ids) = (String::new(), BTreeSet::new());
        for _ in 0..2 {
            let request =
                pb::ListLeadsRequest { page_size: 1, page_token: token, ..Default::default() };
            let page = account.app.leads.clone().list_leads(request).await.unwrap().into_inner();
            ids.extend(page.leads.into_iter().map(|lead| lead.id));
            token = page.next_page_token;
        }
        assert_eq!(ids.len(), 2, "{first} and {second} exist: {ids:?}");
    })
    .await;
}

#[tokio::test]
async fn a_search_finds_a_lead_once_the_index_has_it() {
    with_account(async |account| {
        let id = account.create("searched").await;
        eventually("the index has the lead", async || {
            let filter = pb::Filter {
                property_name: "hs_lead_name".to_owned(),
                operator: pb::FilterOperator::ContainsToken.into(),
                value: account.mark.clone(),
                ..Default::default()
            };
            let groups = vec![pb::FilterGroup { filters: vec![filter] }];
            let request = pb::SearchLeadsRequest { filter_groups: groups, ..Default::default() };
            let found = account.app.leads.clone().search_leads(request).await.unwrap();
            found.into_inner().leads.iter().any(|lead| lead.id == id)
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn many_leads_are_created_and_an_invalid_one_fails_alone() {
    with_account(async |account| {
        let bad = account.input("bad", &[("leadsd_no_such_property", "x")]);
        let nameless = pb::LeadCreate::default();
        let inputs = vec![account.input("b1", &[]), bad, account.input("b2", &[]), nameless];
        let made = account.batch(inputs).await;
        let invalid = Code::InvalidArgument as i32;
        assert_eq!(made[1].as_ref().err(), Some(&invalid));
        assert_eq!(made[3].as_ref().err(), Some(&invalid));
        for (index, name) in [(0, "b1"), (2, "b2")] {
            let lead = account.get(&made[index].as_ref().unwrap().id).await.unwrap();
            assert_eq!(lead.properties["hs_lead_name"], account.name(name));
        }
    })
    .await;
}

#[tokio::test]
async fn many_leads_are_read_in_the_order_of_their_ids() {
    with_account(async |account| {
        let inputs = (0..5).map(|number| account.input(&format!("r{number}"), &[])).collect();
        let made = account.batch(inputs).await.into_iter();
        let mut ids: Vec<String> = made.map(|lead| lead.unwrap().id).collect();
        ids.reverse();
        ids.insert(2, NO_RECORD.to_owned());
        let request = pb::BatchGetLeadsRequest { ids: ids.clone(), ..Default::default() };
        let read = account.app.leads.clone().batch_get_leads(request).await.unwrap().into_inner();
        for (id, result) in ids.iter().zip(read.results) {
            match result.outcome.unwrap() {
                lead_read_result::Outcome::Lead(lead) => assert_eq!(&lead.id, id),
                lead_read_result::Outcome::Error(error) => {
                    assert_eq!((id.as_str(), error.code), (NO_RECORD, Code::NotFound as i32));
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn many_leads_are_updated_and_an_unknown_one_fails_alone() {
    with_account(async |account| {
        let inputs = (0..3).map(|number| account.input(&format!("u{number}"), &[])).collect();
        let made = account.batch(inputs).await.into_iter();
        let mut ids: Vec<String> = made.map(|lead| lead.unwrap().id).collect();
        ids.push(NO_RECORD.to_owned());
        let renamed = properties(&[("hs_lead_name", &account.name("renamed"))]);
        let input = |id: &String| pb::LeadUpdate {
            id: id.clone(),
            properties: renamed.clone(),
            ..Default::default()
        };
        let inputs = ids.iter().map(input).collect();
        let request = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
        let answer = account.app.leads.clone().batch_update_leads(request).await.unwrap();
        for (id, result) in ids.iter().zip(answer.into_inner().results) {
            match result.outcome.unwrap() {
                lead_write_result::Outcome::Lead(lead) => assert_eq!(&lead.id, id),
                lead_write_result::Outcome::Error(error) => {
                    assert_eq!((id.as_str(), error.code), (NO_RECORD, Code::NotFound as i32));
                }
            }
        }
        let lead = account.get(&ids[0]).await.unwrap();
        assert_eq!(lead.properties["hs_lead_name"], account.name("renamed"));
    })
    .await;
}

#[tokio::test]
async fn leads_are_created_and_updated_by_their_unique_values() {
    with_account(async |account| {
        // Without LEADSD_LIVE_UNIQUE_PROPERTY there is nothing to try.
        let Some(unique) = &account.unique else { return };
        let input = |key: &str, name: &str| pb::LeadUpsert {
            id: format!("{} {key}", account.mark),
            id_property: unique.clone(),
            properties: properties(&[("hs_lead_name", &account.name(name))]),
            primary_contact_id: account.contact.clone(),
            ..Default::default()
        };
        for (keys, created) in [(["a", "b"], [true, true]), (["b", "c"], [false, true])] {
            let inputs = keys.iter().map(|key| input(key, "upserted")).collect();
            let request = pb::BatchUpsertLeadsRequest { inputs, ..Default::default() };
            let answer = account.app.leads.clone().batch_upsert_leads(request).await.unwrap();
            let told = answer.into_inner().results.into_iter().map(|result| {
                match result.outcome.unwrap() {
                    lead_upsert_result::Outcome::Lead(lead) => drop(account.keep(Some(lead))),
                    lead_upsert_result::Outcome::Error(error) => panic!("{error:?}"),
                }
                result.created
            });
            assert_eq!(told.collect::<Vec<_>>(), created);
        }
        let distinct: BTreeSet<String> = account.created.lock().iter().cloned().collect();
        assert_eq!(distinct.len(), 3);
    })
    .await;
}

#[tokio::test]
async fn many_leads_are_archived() {
    with_account(async |account| {
        let inputs = (0..3).map(|number| account.input(&format!("a{number}"), &[])).collect();
        let made = account.batch(inputs).await.into_iter();
        let ids: Vec<String> = made.map(|lead| lead.unwrap().id).collect();
        assert_eq!(account.archive(ids.clone()).await, [0, 0, 0]);
        for id in ids {
            assert_eq!(failure(account.get(&id).await).0, Code::NotFound);
        }
    })
    .await;
}

#[tokio::test]
async fn rejections_name_the_invalid_field() {
    with_account(async |account| {
        for property in ["leadsd_no_such_property", "hubspot_owner_id"] {
            let mut request = account.request("rejected");
            request.properties.insert(property.to_owned(), NO_RECORD.to_owned());
            let answer = account.app.leads.clone().create_lead(request).await;
            let (code, reason, fields) = failure(answer);
            assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "VALIDATION_FAILED"));
            assert_eq!(fields, [format!("properties[\"{property}\"]")]);
        }
        let mut request = account.request("rejected");
        request.primary_contact_id = NO_RECORD.to_owned();
        failure(account.app.leads.clone().create_lead(request).await);
    })
    .await;
}

#[tokio::test]
async fn a_repeated_request_id_creates_one_lead() {
    with_account(async |account| {
        let mut request = account.request("repeated");
        request.request_id = account.mark.clone();
        let mut ids = BTreeSet::new();
        for trace in ["repeat-1", "repeat-2"] {
            // The trace id is not a part of the content.
            request.object_write_trace_id = trace.to_owned();
            let created = account.app.leads.clone().create_lead(request.clone()).await.unwrap();
            ids.insert(account.keep(created.into_inner().lead).id);
        }
        assert_eq!(ids.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn each_of_fifty_callers_has_the_lead_that_it_created() {
    with_account(async |account| {
        let names: Vec<String> = (0..50).map(|number| format!("c{number}")).collect();
        let ids = join_all(names.iter().map(|name| account.create(name))).await;
        let reads = join_all(ids.iter().map(|id| account.get(id))).await;
        for (name, read) in names.iter().zip(reads) {
            assert_eq!(read.unwrap().properties["hs_lead_name"], account.name(name));
        }
    })
    .await;
}
