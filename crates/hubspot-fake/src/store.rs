//! Records of one account, and HubSpot's rules for leads.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};

use super::{
    Behaviour,
    errors::Failure,
    lead::StoredLead,
    schema::{self, PIPELINE, STAGES, Schema},
};
use leadsd_base::time::Timestamp;

/// Records of the account.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) properties: Schema,
    pub(super) contacts: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) companies: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) leads: BTreeMap<u64, StoredLead>,
    /// Ids of merged leads, and the ids of the surviving leads.
    merged: BTreeMap<u64, u64>,
    /// Leads that have or had a unique value, by property and lower-case value.
    by_value: HashMap<(String, String), BTreeSet<u64>>,
    next_id: u64,
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
            by_value: HashMap::new(),
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
    pub(super) fn survivor(&self, id: &str) -> Option<&StoredLead> {
        self.leads.get(self.merged.get(&id.parse().ok()?)?)
    }

    /// Finds a lead by record id or unique property, in the live or the archived view.
    pub(super) fn find(
        &self,
        id: &str,
        id_property: Option<&str>,
        archived: bool,
    ) -> Option<&StoredLead> {
        let in_view = |lead: &&StoredLead| lead.archived.is_some() == archived;
        match id_property.filter(|name| *name != "hs_object_id") {
            None => self.leads.get(&id.parse().ok()?).filter(in_view),
            Some(name) => {
                let ids = self.by_value.get(&(name.to_owned(), id.to_ascii_lowercase()))?;
                let has_value = |lead: &&StoredLead| {
                    let own = lead.properties.get(name);
                    own.is_some_and(|own| own.eq_ignore_ascii_case(id))
                };
                let leads = ids.iter().filter_map(|id| self.leads.get(id));
                leads.filter(in_view).find(has_value)
            }
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
        let mut lead = StoredLead::new(id, associations, warnings, now);
        self.index(id, &properties);
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
        self.index(id, &properties);
        let lead = self.leads.get_mut(&id).ok_or_else(missing)?;
        lead.begin_write(warnings);
        for (name, value) in properties {
            lead.set(&name, value, now);
        }
        Ok(())
    }

    /// Adds the unique values of a lead to the index.
    fn index(&mut self, id: u64, properties: &BTreeMap<String, String>) {
        for (name, value) in properties {
            if self.properties.get(name).is_some_and(|own| own.unique) {
                let key = (name.clone(), value.to_ascii_lowercase());
                self.by_value.entry(key).or_default().insert(id);
            }
        }
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
        let has_company = behaviour.company_only_leads && has("companies");
        if has("contacts") || has_company || (behaviour.contactless_leads && out.is_empty()) {
            return Ok(out);
        }
        Err(Failure::validation("A lead must be associated with a contact when it is created"))
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
