//! The records of one account and the rules that HubSpot has for leads.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{Behaviour, errors::Failure};
use crate::time::Timestamp;

/// A property of leads.
#[derive(Debug, Clone)]
pub(super) struct Property {
    kind: Kind,
    read_only: bool,
    pub(super) unique: bool,
}

#[derive(Debug, Clone)]
enum Kind {
    Text,
    Number,
    Time,
    Options(Vec<String>),
}

/// A lead as the account holds it.
#[derive(Debug, Clone)]
pub(super) struct Lead {
    pub(super) id: u64,
    pub(super) properties: BTreeMap<String, String>,
    history: Vec<(String, String, Timestamp)>,
    /// Object type, record id, association type.
    associations: Vec<(&'static str, String, u64)>,
    created: Timestamp,
    updated: Timestamp,
    pub(super) archived: Option<Timestamp>,
    /// What the search index still shows, until it has caught up.
    indexed: Option<BTreeMap<String, String>>,
    written: Instant,
    /// Of the last write.
    warnings: Vec<Value>,
}

/// A property that must be set where another has a certain value, as an administrator may demand.
#[derive(Debug)]
struct Condition {
    property: String,
    value: String,
    required: String,
}

/// What holds for one write.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) behaviour: Behaviour,
    pub(super) now: Timestamp,
    /// Whether it came by a path of 2026-09, whose rules are stricter.
    pub(super) modern: bool,
}

/// Everything in the account.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) properties: BTreeMap<String, Property>,
    pub(super) contacts: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) companies: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) leads: BTreeMap<u64, Lead>,
    conditions: Vec<Condition>,
    next_id: u64,
}

// === impl Store ===

impl Store {
    pub(super) fn new() -> Self {
        let mut properties = BTreeMap::new();
        let mut add = |names: &[&str], kind: Kind, read_only: bool| {
            for name in names {
                let property = Property { kind: kind.clone(), read_only, unique: false };
                properties.insert((*name).to_owned(), property);
            }
        };
        let options = |list: &[&str]| Kind::Options(list.iter().map(|&o| o.to_owned()).collect());
        add(
            &[
                "hs_lead_name",
                "hubspot_owner_id",
                "hs_lead_source",
                "hs_lead_disqualification_note",
            ],
            Kind::Text,
            false,
        );
        add(&["hs_lead_type"], options(&["NEW_BUSINESS", "RE_ATTEMPTING", "UPSELL"]), false);
        add(&["hs_lead_label"], options(&["HOT", "WARM", "COLD"]), false);
        add(&["hs_pipeline"], options(&["lead-pipeline-id"]), false);
        let stages = ["new-stage-id", "attempting-stage-id", "connected-stage-id"];
        let stages = [&stages[..], &["qualified-stage-id", "unqualified-stage-id"]].concat();
        add(&["hs_pipeline_stage"], options(&stages), false);
        add(&["hs_lead_pipeline_value"], Kind::Number, false);
        add(&["hs_next_activity_date"], Kind::Time, false);
        add(
            &["hs_object_id", "hs_createdate", "hs_lastmodifieddate", "hs_primary_contact_id"],
            Kind::Text,
            true,
        );
        Self {
            properties,
            contacts: BTreeMap::new(),
            companies: BTreeMap::new(),
            leads: BTreeMap::new(),
            conditions: Vec::new(),
            next_id: 100,
        }
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn add_unique_property(&mut self, name: &str) {
        let property = Property { kind: Kind::Text, read_only: false, unique: true };
        self.properties.insert(name.to_owned(), property);
    }

    /// From now on `required` must be set where `property` has `value`.
    pub(super) fn require(&mut self, property: &str, value: &str, required: &str) {
        self.conditions.push(Condition {
            property: property.to_owned(),
            value: value.to_owned(),
            required: required.to_owned(),
        });
    }

    /// Finds a lead by record id or unique property, in the live or the archived view.
    pub(super) fn find(
        &self,
        id: &str,
        id_property: Option<&str>,
        archived: bool,
    ) -> Option<&Lead> {
        let in_view = |lead: &&Lead| lead.archived.is_some() == archived;
        match id_property.filter(|name| *name != "hs_object_id") {
            None => self.leads.get(&id.parse().ok()?).filter(in_view),
            Some(name) => self.leads.values().filter(in_view).find(|lead| {
                let own = lead.properties.get(name);
                own.is_some_and(|own| own.eq_ignore_ascii_case(id))
            }),
        }
    }

    /// Whether a property may name records.
    pub(super) fn is_unique(&self, name: &str) -> bool {
        name == "hs_object_id" || self.properties.get(name).is_some_and(|found| found.unique)
    }

    pub(super) fn create(&mut self, input: &Value, terms: &Terms) -> Result<u64, Failure> {
        let Terms { behaviour, now, modern } = terms;
        let now = *now;
        let mut properties = texts(&input["properties"]);
        if properties.get("hs_lead_name").is_none_or(|name| name.trim().is_empty()) {
            return Err(if *modern {
                Failure::properties(&[(
                    "hs_lead_name".to_owned(),
                    "A value for Lead Name must be provided".to_owned(),
                    "MISSING_REQUIRED_PROPERTY",
                )])
            } else {
                Failure::required("hs_lead_name")
            });
        }
        let warnings = self.normalize(&mut properties, *modern);
        self.check(&properties, None, terms)?;
        let associations = self.associations(&input["associations"], behaviour)?;
        let id = self.next_id();
        let mut lead = Lead {
            id,
            properties: BTreeMap::new(),
            history: Vec::new(),
            associations,
            created: now,
            updated: now,
            archived: None,
            indexed: None,
            written: Instant::now(),
            warnings,
        };
        lead.properties.insert("hs_object_id".to_owned(), id.to_string());
        lead.properties.insert("hs_createdate".to_owned(), millis(now));
        let contact = lead.associations.iter().find(|(kind, ..)| *kind == "contacts");
        if let Some((_, contact, _)) = contact {
            lead.properties.insert("hs_primary_contact_id".to_owned(), contact.clone());
        }
        let stage = ("hs_pipeline_stage".to_owned(), "new-stage-id".to_owned());
        let pipeline = ("hs_pipeline".to_owned(), "lead-pipeline-id".to_owned());
        for (name, value) in [pipeline, stage].into_iter().chain(properties) {
            lead.set(&name, value, now);
        }
        self.leads.insert(id, lead);
        Ok(id)
    }

    pub(super) fn update(
        &mut self,
        id: u64,
        properties: &Value,
        terms: &Terms,
    ) -> Result<(), Failure> {
        let mut properties = texts(properties);
        if properties.is_empty() {
            let text = "No properties found to update, please provide at least one.";
            return Err(Failure::validation(text));
        }
        let warnings = self.normalize(&mut properties, terms.modern);
        self.check(&properties, Some(id), terms)?;
        let lead = self.leads.get_mut(&id).ok_or_else(Failure::not_found)?;
        lead.indexed = Some(lead.properties.clone());
        lead.written = Instant::now();
        lead.warnings = warnings;
        for (name, value) in properties {
            lead.set(&name, value, terms.now);
        }
        Ok(())
    }

    /// Since 2026-09 a date is taken for a time of day as well; says what it was made into.
    fn normalize(&self, properties: &mut BTreeMap<String, String>, modern: bool) -> Vec<Value> {
        let mut warnings = Vec::new();
        for (name, value) in properties.iter_mut().filter(|_| modern) {
            let is_time = self.properties.get(name).is_some_and(|p| matches!(p.kind, Kind::Time));
            let midnight = format!("{value}T00:00:00Z");
            if is_time
                && value.parse::<Timestamp>().is_err()
                && midnight.parse::<Timestamp>().is_ok()
            {
                warnings.push(json!({
                    "category": "PROPERTY_VALUE_NORMALIZED",
                    "message": format!("The value of {name} was normalized"),
                    "context": {"propertyName": [name], "rawValue": [value],
                                "normalizedValue": [midnight]},
                }));
                *value = midnight;
            }
        }
        warnings
    }

    /// What administrators demand beyond the definitions; enforced since 2026-09 only.
    fn unmet(&self, properties: &BTreeMap<String, String>, own: Option<u64>) -> Option<Failure> {
        let value = |name: &str| {
            let stored = || self.leads.get(&own?)?.properties.get(name);
            properties.get(name).or_else(stored).filter(|value| !value.is_empty())
        };
        let unmet = self.conditions.iter().find(|condition| {
            value(&condition.property) == Some(&condition.value)
                && value(&condition.required).is_none()
        })?;
        let name = unmet.required.clone();
        let text = format!("A value for {name} must be provided");
        Some(Failure::properties(&[(name, text, "MISSING_CONDITIONAL_REQUIRED_PROPERTY")]))
    }

    /// Checks values against the property definitions and for clashes.
    pub(super) fn check(
        &self,
        properties: &BTreeMap<String, String>,
        own: Option<u64>,
        terms: &Terms,
    ) -> Result<(), Failure> {
        let mut faults = Vec::new();
        for (name, value) in properties {
            let Some(property) = self.properties.get(name) else {
                let text = format!("Property \"{name}\" does not exist");
                faults.push((name.clone(), text, "PROPERTY_DOESNT_EXIST"));
                continue;
            };
            if let Some((text, code)) = property.fault(name, value) {
                faults.push((name.clone(), text, code));
            }
        }
        if !faults.is_empty() {
            return Err(Failure::properties(&faults));
        }
        if let Some(failure) = self.unmet(properties, own).filter(|_| terms.modern) {
            return Err(failure);
        }
        for (name, value) in properties {
            if !self.is_unique(name) || value.is_empty() {
                continue;
            }
            let existing = self.find(value, Some(name), false).filter(|lead| Some(lead.id) != own);
            if let Some(existing) = existing {
                let id = existing.id.to_string();
                return Err(Failure::unique(terms.behaviour.unique_clash_status, name, value, &id));
            }
        }
        Ok(())
    }

    fn associations(
        &self,
        associations: &Value,
        behaviour: &Behaviour,
    ) -> Result<Vec<(&'static str, String, u64)>, Failure> {
        let mut out = Vec::new();
        for association in associations.as_array().into_iter().flatten() {
            let to = &association["to"]["id"];
            let id = to.as_str().map_or_else(|| to.to_string(), str::to_owned);
            for kind in association["types"].as_array().into_iter().flatten() {
                let type_id = kind["associationTypeId"].as_u64().unwrap_or(0);
                let (object, exists) = match type_id {
                    578 | 608 => ("contacts", self.contacts.contains_key(&id)),
                    580 | 610 => ("companies", self.companies.contains_key(&id)),
                    _ => {
                        return Err(Failure::association(
                            "One or more associations are invalid",
                            &id,
                        ));
                    }
                };
                if !exists {
                    let text = "One or more associations are invalid";
                    return Err(Failure::association(text, &id));
                }
                out.push((object, id.clone(), type_id));
            }
        }
        let has = |wanted: &str| out.iter().any(|(object, ..)| *object == wanted);
        if has("contacts") || (behaviour.company_only_leads && has("companies")) {
            return Ok(out);
        }
        Err(Failure::validation("A lead must be associated with a contact when it is created"))
    }
}

// === impl Property ===

impl Property {
    fn fault(&self, name: &str, value: &str) -> Option<(String, &'static str)> {
        if self.read_only {
            return Some((format!("\"{name}\" is a read only property"), "READ_ONLY_VALUE"));
        }
        if value.is_empty() {
            return None;
        }
        match &self.kind {
            Kind::Text => None,
            Kind::Number => value
                .parse::<f64>()
                .is_err()
                .then(|| (format!("{value} was not a valid number."), "INVALID_INTEGER")),
            Kind::Time => {
                let valid = value.parse::<i64>().is_ok() || value.parse::<Timestamp>().is_ok();
                (!valid).then(|| (format!("{value} was not a valid date."), "INVALID_DATE"))
            }
            Kind::Options(options) => (!options.iter().any(|option| option == value)).then(|| {
                let text =
                    format!("{value} was not one of the allowed options: {}", options.join(", "));
                (text, "INVALID_OPTION")
            }),
        }
    }
}

// === impl Lead ===

impl Lead {
    fn set(&mut self, name: &str, value: String, now: Timestamp) {
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

    /// What the search index shows of it; nothing while it is new.
    pub(super) fn in_index(&self, lag: Duration) -> Option<&BTreeMap<String, String>> {
        if self.written.elapsed() >= lag { Some(&self.properties) } else { self.indexed.as_ref() }
    }

    /// As the API shows it, warnings of the last write included. Requested properties without a value are null, unknown names absent.
    pub(super) fn show(
        &self,
        known: &BTreeMap<String, Property>,
        properties: &[String],
        history: &[String],
        associations: &[String],
    ) -> Value {
        let mut shown = Map::new();
        for name in ["hs_createdate", "hs_lastmodifieddate", "hs_object_id"] {
            shown.insert(name.to_owned(), json!(self.properties.get(name)));
        }
        for name in properties.iter().filter(|name| known.contains_key(*name)) {
            shown.insert(name.clone(), json!(self.properties.get(name)));
        }
        let mut body = json!({
            "id": self.id.to_string(),
            "properties": shown,
            "createdAt": millis(self.created),
            "updatedAt": millis(self.updated),
            "archived": self.archived.is_some(),
            "url": format!("https://app.hubspot.com/contacts/1/record/0-136/{}", self.id),
        });
        if !self.warnings.is_empty() {
            body["warnings"] = json!(self.warnings);
        }
        if let Some(archived) = self.archived {
            body["archivedAt"] = json!(millis(archived));
        }
        if !history.is_empty() {
            body["propertiesWithHistory"] =
                history.iter().map(|name| (name.clone(), self.versions(name))).collect();
        }
        if !associations.is_empty() {
            let mut all = Map::new();
            for kind in associations {
                let of_kind = self.associations.iter().filter(|(object, ..)| object == kind);
                let results: Vec<Value> = of_kind
                    .map(|(object, id, _)| {
                        let kind = if *object == "contacts" {
                            "lead_to_contact"
                        } else {
                            "lead_to_company"
                        };
                        json!({"id": id, "type": kind})
                    })
                    .collect();
                if !results.is_empty() {
                    all.insert(kind.clone(), json!({ "results": results }));
                }
            }
            body["associations"] = Value::Object(all);
        }
        body
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

fn texts(value: &Value) -> BTreeMap<String, String> {
    let object = value.as_object().into_iter().flatten();
    object
        .map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            (name.clone(), text)
        })
        .collect()
}

/// With milliseconds, as HubSpot writes times.
fn millis(time: Timestamp) -> String {
    format!("{time:.3}")
}
