//! A stored lead and its representations in responses.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    Behaviour,
    schema::{Schema, plural},
    snapshot::{LeadSnapshot, Time, object},
};
use leadsd_base::time::Timestamp;

/// Association type of the primary company of a lead.
const PRIMARY_COMPANY: u64 = 580;

/// A stored lead.
#[derive(Debug, Clone)]
pub(super) struct StoredLead {
    pub(super) id: u64,
    pub(super) properties: BTreeMap<String, String>,
    history: Vec<(String, String, Timestamp)>,
    /// Object type, record id, association type.
    pub(super) associations: Vec<(&'static str, String, u64)>,
    /// Warnings of the last write.
    warnings: Vec<Value>,
    created: Timestamp,
    updated: Timestamp,
    pub(super) archived: Option<Timestamp>,
    /// Properties before the last write, which the search index shows until it catches up.
    indexed: Option<BTreeMap<String, String>>,
    written: Instant,
}

/// Parts of a lead that a read requested.
#[derive(Debug, Default)]
pub(super) struct Projection {
    pub(super) properties: Vec<String>,
    pub(super) history: Vec<String>,
    pub(super) associations: Vec<String>,
}

// === impl StoredLead ===

impl StoredLead {
    /// Moves the clock of the search index forward.
    pub(super) fn advance(&mut self, by: Duration) {
        self.written -= by;
    }

    pub(super) fn new(
        id: u64,
        associations: Vec<(&'static str, String, u64)>,
        warnings: Vec<Value>,
        now: Timestamp,
    ) -> Self {
        let contact = associations.iter().find(|(kind, ..)| *kind == "contacts");
        let contact = contact.map(|(_, id, _)| ("hs_primary_contact_id", id.clone()));
        let company = associations.iter().find(|(.., id)| *id == PRIMARY_COMPANY);
        let company = company.map(|(_, id, _)| ("hs_primary_company_id", id.clone()));
        let own = [("hs_object_id", id.to_string()), ("hs_createdate", millis(now))];
        let properties = own.into_iter().chain(contact).chain(company);
        Self {
            id,
            properties: properties.map(|(name, value)| (name.to_owned(), value)).collect(),
            history: Vec::new(),
            associations,
            warnings,
            created: now,
            updated: now,
            archived: None,
            indexed: None,
            written: Instant::now(),
        }
    }

    /// Lead with its history. A restored lead is new to the search index.
    pub(super) fn snapshot(&self) -> LeadSnapshot {
        let version = |(name, value, at): &(String, String, Timestamp)| {
            (name.clone(), value.clone(), Time(*at))
        };
        let association =
            |(object, id, kind): &(&str, String, u64)| ((*object).to_owned(), id.clone(), *kind);
        LeadSnapshot {
            id: self.id,
            properties: self.properties.clone(),
            history: self.history.iter().map(version).collect(),
            associations: self.associations.iter().map(association).collect(),
            created: Time(self.created),
            updated: Time(self.updated),
            archived: self.archived.map(Time),
        }
    }

    pub(super) fn restored(lead: LeadSnapshot) -> Self {
        let LeadSnapshot { id, properties, history, associations, created, updated, archived } =
            lead;
        let history = history.into_iter().map(|(name, value, Time(at))| (name, value, at));
        let associations =
            associations.into_iter().map(|(name, id, kind)| (object(&name), id, kind));
        Self {
            id,
            properties,
            history: history.collect(),
            associations: associations.collect(),
            warnings: Vec::new(),
            created: created.0,
            updated: updated.0,
            archived: archived.map(|Time(at)| at),
            indexed: None,
            written: Instant::now(),
        }
    }

    /// Everything except timestamps.
    pub(super) fn dump(&self) -> Value {
        let times = ["hs_createdate", "hs_lastmodifieddate"];
        let properties: BTreeMap<&String, &String> =
            self.properties.iter().filter(|(name, _)| !times.contains(&name.as_str())).collect();
        let mut history: BTreeMap<&String, Vec<&String>> = BTreeMap::new();
        for (name, value, _) in &self.history {
            history.entry(name).or_default().push(value);
        }
        json!({"id": self.id.to_string(), "properties": properties, "history": history,
               "associations": self.associations, "archived": self.archived.is_some()})
    }

    pub(super) fn set(&mut self, name: &str, value: String, now: Timestamp) {
        self.history.insert(0, (name.to_owned(), value.clone(), now));
        self.updated = now;
        self.properties.insert("hs_lastmodifieddate".to_owned(), millis(now));
        if value.is_empty() {
            self.properties.remove(name);
        } else {
            self.properties.insert(name.to_owned(), value);
        }
    }

    pub(super) fn contacts(&self) -> Vec<String> {
        let contacts = self.associations.iter().filter(|(kind, ..)| *kind == "contacts");
        contacts.map(|(_, id, _)| id.clone()).collect()
    }

    /// Properties in the search index; `None` if the lead is not indexed yet.
    pub(super) fn in_index(&self, lag: Duration) -> Option<&BTreeMap<String, String>> {
        if self.written.elapsed() >= lag { Some(&self.properties) } else { self.indexed.as_ref() }
    }

    /// Representation in responses to reads. Requested properties without a value are null; unknown
    /// names are omitted.
    pub(super) fn show(&self, schema: &Schema, behaviour: &Behaviour, shown: &Projection) -> Value {
        let defaults = behaviour.default_properties.iter().map(String::as_str);
        let names = defaults.chain(shown.properties.iter().map(String::as_str));
        let properties: Map<String, Value> = names
            .filter(|name| schema.contains_key(*name))
            .map(|name| (name.to_owned(), json!(self.properties.get(name))))
            .collect();
        let mut body = json!({
            "id": self.id.to_string(),
            "properties": properties,
            "createdAt": millis(self.created),
            "updatedAt": millis(self.updated),
            "archived": self.archived.is_some(),
            "url": format!("https://app.hubspot.com/contacts/1/record/0-136/{}", self.id),
        });
        if let Some(archived) = self.archived {
            body["archivedAt"] = json!(millis(archived));
        }
        if !shown.history.is_empty() {
            body["propertiesWithHistory"] =
                shown.history.iter().map(|name| (name.clone(), self.versions(name))).collect();
        }
        if !shown.associations.is_empty() {
            body["associations"] = self.associated(&shown.associations, behaviour);
        }
        body
    }

    /// Representation in responses to writes: written properties and warnings.
    pub(super) fn show_written(
        &self,
        schema: &Schema,
        behaviour: &Behaviour,
        shown: &Projection,
    ) -> Value {
        let mut body = self.show(schema, behaviour, shown);
        if !self.warnings.is_empty() {
            body["warnings"] = json!(self.warnings);
        }
        body
    }

    /// Marks the start of a write: the search index keeps the properties from before.
    pub(super) fn begin_write(&mut self, warnings: Vec<Value>) {
        self.indexed = Some(self.properties.clone());
        self.written = Instant::now();
        self.warnings = warnings;
    }

    fn associated(&self, kinds: &[String], behaviour: &Behaviour) -> Value {
        let mut all = Map::new();
        for kind in kinds.iter().map(|kind| plural(kind)) {
            let mut shown: Vec<(&str, &str)> = Vec::new();
            for (_, id, type_id) in self.associations.iter().filter(|(own, ..)| *own == kind) {
                let name = match *type_id {
                    578 => behaviour.contact_association.as_str(),
                    608 if !behaviour.associations_per_kind => {
                        behaviour.contact_association.as_str()
                    }
                    608 => "lead_to_contact_unlabeled",
                    _ if kind == "contacts" => "lead_to_contact_labeled",
                    610 if behaviour.associations_per_kind => "lead_to_company_unlabeled",
                    _ => "lead_to_company",
                };
                if !shown.contains(&(id, name)) {
                    shown.push((id, name));
                }
            }
            shown.sort_by_key(|(id, _)| id.parse::<u64>().ok());
            let more = shown.get(behaviour.associations_shown).map(|(id, _)| (*id).to_owned());
            shown.truncate(behaviour.associations_shown);
            if shown.is_empty() {
                continue;
            }
            let results: Vec<Value> =
                shown.into_iter().map(|(id, name)| json!({"id": id, "type": name})).collect();
            let mut list = json!({ "results": results });
            if let Some(after) = more {
                list["paging"] = json!({"next": {"after": after, "link": ""}});
            }
            all.insert(kind.to_owned(), list);
        }
        Value::Object(all)
    }

    fn versions(&self, name: &str) -> Value {
        let own = self.history.iter().filter(|(changed, ..)| changed == name);
        own.map(|(_, value, at)| {
            json!({
                "value": value, "timestamp": millis(*at), "sourceType": "INTEGRATION",
                "sourceId": "1", "sourceLabel": "leadsd", "updatedByUserId": null,
            })
        })
        .collect()
    }
}

/// Formats a time with milliseconds, as HubSpot does.
pub(super) fn millis(time: Timestamp) -> String {
    format!("{time:.3}")
}
