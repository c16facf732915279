//! Records of one account, and HubSpot's rules for leads.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};

use super::{
    Behaviour,
    associations::{Labels, association_type},
    errors::Failure,
    lead::StoredLead,
    owners::{self, Owners},
    schema::{self, PIPELINE, STAGES, Schema, StoredPipeline},
    snapshot::Snapshot,
};
use leadsd_base::time::Timestamp;

/// Property with the ids of the leads that were merged into a lead.
const MERGED_IDS: &str = "hs_merged_object_ids";

/// Records of the account.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) properties: Schema,
    pub(super) contacts: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) companies: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) owners: Owners,
    pub(super) pipelines: Vec<StoredPipeline>,
    pub(super) labels: Labels,
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
            owners: Owners::new(),
            pipelines: vec![StoredPipeline::standard()],
            labels: Labels::new(),
            leads: BTreeMap::new(),
            merged: BTreeMap::new(),
            by_value: HashMap::new(),
            next_id: 100,
        }
    }

    /// Records of the account.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            last_id: self.next_id,
            contacts: self.contacts.clone(),
            companies: self.companies.clone(),
            owners: owners::to_emails(&self.owners),
            leads: self.leads.values().map(StoredLead::snapshot).collect(),
            merged: self.merged.clone(),
        }
    }

    /// Replaces the records by those of a valid snapshot.
    pub(super) fn restore(&mut self, snapshot: Snapshot) {
        let Snapshot { last_id, contacts, companies, owners, leads, merged } = snapshot;
        (self.next_id, self.merged) = (last_id, merged);
        (self.contacts, self.companies) = (contacts, companies);
        self.owners = owners::from_emails(owners);
        self.by_value.clear();
        self.leads.clear();
        for lead in leads.into_iter().map(StoredLead::restored) {
            self.index(lead.id, &lead.properties);
            self.leads.insert(lead.id, lead);
        }
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Merges one lead into another.
    pub(super) fn merge(&mut self, merged_id: u64, surviving_id: u64) {
        let Some(merged) = self.leads.remove(&merged_id) else { return };
        self.merged.insert(merged_id, surviving_id);
        if let Some(lead) = self.leads.get_mut(&surviving_id) {
            let own = lead.properties.get(MERGED_IDS).cloned();
            let ids =
                [own, merged.properties.get(MERGED_IDS).cloned(), Some(merged_id.to_string())];
            let ids: Vec<String> = ids.into_iter().flatten().collect();
            lead.properties.insert(MERGED_IDS.to_owned(), ids.join(";"));
        }
    }

    /// Lead that a merged lead became.
    pub(super) fn survivor(&self, id: &str) -> Option<&StoredLead> {
        let mut id = *self.merged.get(&id.parse().ok()?)?;
        while let Some(next) = self.merged.get(&id) {
            id = *next;
        }
        self.leads.get(&id)
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

    /// True if no two leads have the same value of the property.
    pub(super) fn is_unique(&self, name: &str) -> bool {
        self.properties.get(name).is_some_and(|found| found.unique)
    }

    /// Checks the `idProperty` of a request. HubSpot does not accept that of the record id.
    pub(super) fn check_id_property(
        &self,
        name: Option<&str>,
        behaviour: &Behaviour,
    ) -> Result<(), Failure> {
        let Some(name) = name else { return Ok(()) };
        let is_record_id = name == "hs_object_id" && behaviour.record_id_as_id_property;
        if is_record_id || self.is_unique(name) {
            return Ok(());
        }
        Err(Failure::validation(format!("property {name} is not unique")))
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

    /// Error of the first create that fails a batch as a whole. Creates nothing.
    pub(super) fn check_creates(
        &mut self,
        inputs: &[Value],
        rules: &Rules<'_>,
        fails_all: impl Fn(&Failure) -> bool,
    ) -> Result<(), Failure> {
        let last_id = self.next_id;
        let mut failures = inputs.iter().filter_map(|input| self.create(input, rules).err());
        let failed = failures.find(fails_all);
        // New records have the highest ids. The index of unique values ignores leads that are gone.
        self.leads.split_off(&(last_id + 1));
        self.next_id = last_id;
        failed.map_or(Ok(()), Err)
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
            } else if property.is_owner() && !self.is_owner(value, behaviour) {
                let text = format!("{value} was not one of the allowed options");
                faults.push((name.clone(), text, "INVALID_OPTION"));
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

    /// True if a lead can be assigned to the owner; an empty id clears.
    fn is_owner(&self, id: &str, behaviour: &Behaviour) -> bool {
        id.is_empty() || behaviour.unknown_owners || self.owners.contains_key(id)
    }

    /// Object type of an association with an existing record; `None` if there is no such record.
    pub(super) fn associable(&self, object: &'static str, id: &str) -> Option<&'static str> {
        let records = if object == "contacts" { &self.contacts } else { &self.companies };
        records.contains_key(id).then_some(object)
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
                let Some((type_id, object)) = association_type(kind, &self.labels) else {
                    let text = "One or more associations are invalid";
                    return Err(Failure::association(text, &id));
                };
                let Some(object) = self.associable(object, &id) else {
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
