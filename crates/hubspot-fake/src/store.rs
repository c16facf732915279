//! Records of one account, and HubSpot's rules for leads.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    Behaviour,
    errors::Failure,
    schema::{self, PIPELINE, STAGES, Schema, plural},
};
use leadsd_base::time::Timestamp;

/// A stored lead.
#[derive(Debug, Clone)]
pub(super) struct Lead {
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

/// Records of the account.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) properties: Schema,
    pub(super) contacts: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) companies: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) leads: BTreeMap<u64, Lead>,
    /// Ids of merged leads, and the ids of the surviving leads.
    merged: BTreeMap<u64, u64>,
    next_id: u64,
}

/// Parts of a lead that a read requested.
#[derive(Debug, Default)]
pub(super) struct Projection {
    pub(super) properties: Vec<String>,
    pub(super) history: Vec<String>,
    pub(super) associations: Vec<String>,
}

/// Validation rules of a write.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    pub(super) behaviour: &'a Behaviour,
    pub(super) now: Timestamp,
    /// True for the stricter rules of 2026-09.
    pub(super) modern: bool,
}

// === impl Store ===

impl Store {
    pub(super) fn new() -> Self {
        Self {
            properties: schema::standard(),
            contacts: BTreeMap::new(),
            companies: BTreeMap::new(),
            leads: BTreeMap::new(),
            merged: BTreeMap::new(),
            next_id: 100,
        }
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Merges one lead into another.
    pub(super) fn merge(&mut self, loser: u64, winner: u64) {
        if self.leads.remove(&loser).is_some() {
            self.merged.insert(loser, winner);
        }
    }

    /// Lead that a merged lead became.
    pub(super) fn survivor(&self, id: &str) -> Option<&Lead> {
        self.leads.get(self.merged.get(&id.parse().ok()?)?)
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

    /// True if values of the property identify records.
    pub(super) fn is_unique(&self, name: &str) -> bool {
        name == "hs_object_id" || self.properties.get(name).is_some_and(|found| found.unique)
    }

    pub(super) fn create(&mut self, input: &Value, rules: &Rules<'_>) -> Result<u64, Failure> {
        let Rules { behaviour, now, modern } = *rules;
        let mut properties = texts(&input["properties"]);
        if !modern && behaviour.missing_name_in_context && !has(&properties, "hs_lead_name") {
            return Err(Failure::required("hs_lead_name"));
        }
        let required = self.properties.iter().filter(|(name, own)| {
            (*name == "hs_lead_name" || (modern && own.required)) && !has(&properties, name)
        });
        let missing: Vec<_> =
            required.map(|(name, _)| missing_value(name, "MISSING_REQUIRED_PROPERTY")).collect();
        if !missing.is_empty() {
            return Err(Failure::properties(&missing));
        }
        let warnings = self.normalise(&mut properties, modern);
        let defaults = [("hs_pipeline", PIPELINE), ("hs_pipeline_stage", STAGES[0])];
        for (name, value) in defaults {
            properties.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        self.check(&properties, None, behaviour)?;
        self.check_conditions(&properties, modern)?;
        let associations = self.associations(&input["associations"], behaviour)?;
        let id = self.next_id();
        let mut lead = Lead::new(id, associations, warnings, now);
        for (name, value) in properties {
            lead.set(&name, value, now);
        }
        self.leads.insert(id, lead);
        Ok(id)
    }

    pub(super) fn update(
        &mut self,
        id: u64,
        properties: &Value,
        rules: &Rules<'_>,
    ) -> Result<(), Failure> {
        let Rules { behaviour, now, modern } = *rules;
        let mut properties = texts(properties);
        if properties.is_empty() {
            let text = "No properties found to update, please provide at least one.";
            return Err(Failure::validation(text));
        }
        let warnings = self.normalise(&mut properties, modern);
        self.check(&properties, Some(id), behaviour)?;
        let missing = || Failure::not_found(behaviour.not_found_category);
        let mut after = self.leads.get(&id).ok_or_else(missing)?.properties.clone();
        after.extend(properties.clone());
        self.check_conditions(&after, modern)?;
        let lead = self.leads.get_mut(&id).ok_or_else(missing)?;
        lead.indexed = Some(lead.properties.clone());
        lead.written = Instant::now();
        lead.warnings = warnings;
        for (name, value) in properties {
            lead.set(&name, value, now);
        }
        Ok(())
    }

    /// Rewrites dates as 2026-09 does; returns a warning for each.
    fn normalise(&self, properties: &mut BTreeMap<String, String>, modern: bool) -> Vec<Value> {
        let mut warnings = Vec::new();
        for (name, value) in properties.iter_mut().filter(|_| modern) {
            let own = self.properties.get(name);
            let Some(normal) = own.and_then(|own| own.normalised(value)) else { continue };
            warnings.push(json!({
                "category": "PROPERTY_VALUE_NORMALIZED",
                "message": format!("The value of {name} was normalized"),
                "context": {"propertyName": [name], "rawValue": [&*value],
                            "normalizedValue": [&normal]},
            }));
            *value = normal;
        }
        warnings
    }

    /// Checks conditionally required properties (2026-09 only).
    fn check_conditions(
        &self,
        properties: &BTreeMap<String, String>,
        modern: bool,
    ) -> Result<(), Failure> {
        let unmet = self.properties.iter().filter(|(name, own)| {
            let request = own.required_when.as_ref();
            let applies = request.is_some_and(|(when, value)| properties.get(when) == Some(value));
            modern && applies && !has(properties, name)
        });
        let faults: Vec<_> = unmet
            .map(|(name, _)| missing_value(name, "MISSING_CONDITIONAL_REQUIRED_PROPERTY"))
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(Failure::properties(&faults)) }
    }

    /// Validates values, and checks that unique values are unused.
    pub(super) fn check(
        &self,
        properties: &BTreeMap<String, String>,
        own: Option<u64>,
        behaviour: &Behaviour,
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
        for (name, value) in properties {
            if !self.is_unique(name) || value.is_empty() {
                continue;
            }
            let existing = self.find(value, Some(name), false).filter(|lead| Some(lead.id) != own);
            if let Some(existing) = existing {
                let id = existing.id.to_string();
                return Err(Failure::unique(behaviour.unique_clash_status, name, value, &id));
            }
        }
        Ok(())
    }

    /// Object type of an association with an existing record.
    pub(super) fn associable(&self, type_id: u64, id: &str) -> Option<&'static str> {
        match type_id {
            578 | 608 => self.contacts.contains_key(id).then_some("contacts"),
            580 | 610 => self.companies.contains_key(id).then_some("companies"),
            _ => None,
        }
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
                if ![578, 608, 580, 610].contains(&type_id) {
                    let text = "One or more associations are invalid";
                    return Err(Failure::association(text, &id));
                }
                let Some(object) = self.associable(type_id, &id) else {
                    return Err(Failure::no_such_record(behaviour.missing_contact_status, &id));
                };
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

// === impl Lead ===

impl Lead {
    /// Moves the clock of the search index forward.
    pub(super) fn advance(&mut self, by: Duration) {
        self.written -= by;
    }

    fn new(
        id: u64,
        associations: Vec<(&'static str, String, u64)>,
        warnings: Vec<Value>,
        now: Timestamp,
    ) -> Self {
        let contact = associations.iter().find(|(kind, ..)| *kind == "contacts");
        let contact = contact.map(|(_, id, _)| ("hs_primary_contact_id", id.clone()));
        let own = [("hs_object_id", id.to_string()), ("hs_createdate", millis(now))];
        let properties = own.into_iter().chain(contact);
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

    /// Properties in the search index; `None` if the lead is not indexed yet.
    pub(super) fn in_index(&self, lag: Duration) -> Option<&BTreeMap<String, String>> {
        if self.written.elapsed() >= lag { Some(&self.properties) } else { self.indexed.as_ref() }
    }

    /// Representation in responses to reads. Requested properties without a value are null; unknown
    /// names are omitted.
    pub(super) fn show(&self, schema: &Schema, behaviour: &Behaviour, shown: &Projection) -> Value {
        let defaults = behaviour.default_properties.iter().copied();
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

    fn associated(&self, kinds: &[String], behaviour: &Behaviour) -> Value {
        let mut all = Map::new();
        for kind in kinds.iter().map(|kind| plural(kind)) {
            let mut shown: Vec<(&str, &str)> = Vec::new();
            for (_, id, type_id) in self.associations.iter().filter(|(own, ..)| *own == kind) {
                let name = match type_id {
                    578 => behaviour.contact_association,
                    608 if !behaviour.associations_per_kind => behaviour.contact_association,
                    608 => "lead_to_contact_unlabeled",
                    610 if behaviour.associations_per_kind => "lead_to_company_unlabeled",
                    _ => "lead_to_company",
                };
                if !shown.contains(&(id, name)) {
                    shown.push((id, name));
                }
            }
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

fn texts(value: &Value) -> BTreeMap<String, String> {
    let object = value.as_object().into_iter().flatten();
    object
        .map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other
                @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                    other.to_string()
                }
            };
            (name.clone(), text)
        })
        .collect()
}

fn has(properties: &BTreeMap<String, String>, name: &str) -> bool {
    properties.get(name).is_some_and(|value| !value.trim().is_empty())
}

fn missing_value(name: &str, code: &'static str) -> (String, String, &'static str) {
    (name.to_owned(), format!("A value for {name} must be provided"), code)
}

/// Formats a time with milliseconds, as HubSpot does.
pub(super) fn millis(time: Timestamp) -> String {
    format!("{time:.3}")
}
