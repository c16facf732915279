//! Callers that upsert, archive, search, list and associate leads.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
};

use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use tonic::transport::Channel;

use crate::{
    callers::request,
    campaign::Campaign,
    world::{EXTERNAL_ID, REPLICAS},
};

/// Association type of further contacts: lead to contact, not primary.
const CONTACT: i32 = 608;

/// Pages of one list: the campaign creates more leads than its callers should list.
const PAGES: usize = 5;

// === impl Campaign ===

impl Campaign {
    /// Upserts by a unique property, at any replica. A repeat finds the lead of the first call.
    pub(super) async fn upserts(&self, caller: String) {
        let contact = &self.world.contact;
        let upsert = async |mut leads: LeadsServiceClient<Channel>, name: String, patience| {
            let message = pb::UpsertLeadRequest {
                id: name.clone(),
                id_property: EXTERNAL_ID.to_owned(),
                properties: BTreeMap::from([("hs_lead_name".to_owned(), name)]),
                primary_contact_id: contact.clone(),
                ..Default::default()
            };
            leads.upsert_lead(request(message, &caller, patience)).await
        };
        let check = |name: &str, response: pb::UpsertLeadResponse| {
            self.acknowledge(name, &response.lead.expect("a lead").id);
            Ok(())
        };
        self.repeat(&caller, None, upsert, check).await;
    }

    /// Archives leads that no other caller knows.
    pub(super) async fn archives(&self, caller: String) {
        let ids = RefCell::new(HashMap::new());
        let archive = async |mut leads: LeadsServiceClient<Channel>, name: String, patience| {
            let id =
                ids.borrow_mut().entry(name).or_insert_with_key(|name| self.add_lead(name)).clone();
            let message = pb::ArchiveLeadRequest { id, ..Default::default() };
            leads.archive_lead(request(message, &caller, patience)).await
        };
        let check = |name: &str, _: pb::ArchiveLeadResponse| {
            if self.world.hubspot.lead_names().iter().any(|live| live == name) {
                self.report(format!("{name}: archived, and still live"));
            }
            Ok(())
        };
        self.repeat(&caller, None, archive, check).await;
    }

    /// Adds a contact to a lead and removes it, at one replica, and lists the contacts after each.
    pub(super) async fn associations(&self, caller: String, replica: usize) {
        let lead = self.add_lead(&caller);
        let contact = self.world.hubspot.add_contact(&format!("{caller}@example.com"));
        // The writes alternate.
        let adds = |name: &str| name.ends_with(['1', '3', '5', '7', '9']);
        let change = async |mut leads: LeadsServiceClient<Channel>, name: String, patience| {
            let types = vec![pb::AssociationType { type_id: CONTACT, ..Default::default() }];
            let (lead_id, object_type, to_id) =
                (lead.clone(), "contacts".to_owned(), contact.clone());
            if adds(&name) {
                let message = pb::AssociateLeadRequest {
                    lead_id,
                    object_type,
                    to_id,
                    types,
                    ..Default::default()
                };
                leads.associate_lead(request(message, &caller, patience)).await?;
            } else {
                let message = pb::DissociateLeadRequest {
                    lead_id,
                    object_type,
                    to_id,
                    types,
                    ..Default::default()
                };
                leads.dissociate_lead(request(message, &caller, patience)).await?;
            }
            let message = pb::ListLeadAssociationsRequest {
                lead_id: lead.clone(),
                object_type: "contacts".to_owned(),
                ..Default::default()
            };
            leads.list_lead_associations(request(message, &caller, patience)).await
        };
        let check = |name: &str, response: pb::ListLeadAssociationsResponse| {
            let listed: BTreeSet<_> = response.objects.iter().map(|object| &object.id).collect();
            if !listed.contains(&self.world.contact) || listed.contains(&contact) != adds(name) {
                self.report(format!("{name}: adds {}, listed {listed:?}", adds(name)));
            }
            Ok(())
        };
        self.repeat(&caller, Some(replica), change, check).await;
    }

    /// Searches for one lead by its name.
    pub(super) async fn searches(&self, caller: String) {
        let id = self.add_lead(&caller);
        let search = async |mut leads: LeadsServiceClient<Channel>, _: String, patience| {
            let filter = pb::Filter {
                property_name: "hs_lead_name".to_owned(),
                operator: pb::FilterOperator::Eq.into(),
                value: caller.clone(),
                ..Default::default()
            };
            let group = pb::FilterGroup { filters: vec![filter] };
            let message =
                pb::SearchLeadsRequest { filter_groups: vec![group], ..Default::default() };
            leads.search_leads(request(message, &caller, patience)).await
        };
        let found = Cell::new(false);
        let check = |name: &str, response: pb::SearchLeadsResponse| {
            let ids: Vec<_> = response.leads.iter().map(|lead| lead.id.as_str()).collect();
            // The search index may lag behind the first time.
            if ids != [id.as_str()] && (found.get() || !ids.is_empty()) {
                self.report(format!("{name}: found {ids:?}, not {id}"));
            }
            found.set(found.get() || !ids.is_empty());
            Ok(())
        };
        self.repeat(&caller, None, search, check).await;
    }

    /// Lists the first leads of the portal: those that were acknowledged before appear once each.
    pub(super) async fn lists(&self, caller: String) {
        while !self.is_over() {
            let expected = self.acknowledged_ids();
            let (mut listed, mut page_token) = (BTreeSet::new(), String::new());
            for _ in 0..PAGES {
                let page = self.list_page(&caller, &page_token).await;
                for lead in page.leads {
                    let id: u64 = lead.id.parse().expect("a record id");
                    if !listed.insert(id) {
                        self.report(format!("{caller}: {id} is listed twice"));
                    }
                }
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            let last = listed.last().copied().unwrap_or_default();
            for id in expected.iter().filter_map(|id| id.parse::<u64>().ok()) {
                if id <= last && !listed.contains(&id) && !self.is_over() {
                    self.report(format!("{caller}: {id} is not listed"));
                }
            }
            tokio::time::sleep(self.time(500, 3_000)).await;
        }
    }

    /// One page of leads, as soon as a call succeeds. Empty at the end of the campaign.
    async fn list_page(&self, caller: &str, page_token: &str) -> pb::ListLeadsResponse {
        while !self.is_over() {
            let (replica, patience) = (self.below(REPLICAS), self.patience());
            let message =
                pb::ListLeadsRequest { page_token: page_token.to_owned(), ..Default::default() };
            let message = request(message, caller, patience);
            let call =
                async |mut leads: LeadsServiceClient<Channel>| leads.list_leads(message).await;
            match self.call(caller, replica, patience, call).await {
                Ok(page) => return page,
                Err(failed) => self.pause(&failed).await,
            }
        }
        pb::ListLeadsResponse::default()
    }

    /// Adds a lead to HubSpot that no other caller knows.
    fn add_lead(&self, name: &str) -> String {
        let lead = serde_json::json!({"hs_lead_name": name});
        self.world.hubspot.add_lead(&self.world.contact, &lead).expect("a valid lead")
    }
}
