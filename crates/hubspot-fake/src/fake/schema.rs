//! Changes of the account's schema: properties, pipelines and owners.

use serde_json::Value;

use super::FakeHubspot;
use crate::{
    owners::StoredOwner,
    rules::ValidationRule,
    schema::{Property, StoredPipeline},
};

/// Id of the first owner. Ids of owners are not those of records.
const FIRST_OWNER: usize = 9_001;

// === impl FakeHubspot ===

impl FakeHubspot {
    /// Creates an owner; returns its id.
    pub fn add_owner(&self, email: &str) -> String {
        let mut account = self.account.lock();
        let id = (FIRST_OWNER + account.store.owners.len()).to_string();
        account.store.owners.insert(id.clone(), StoredOwner::new(email));
        id
    }

    /// Names an owner.
    pub fn name_owner(&self, id: &str, first_name: &str, last_name: &str) {
        if let Some(owner) = self.account.lock().store.owners.get_mut(id) {
            (owner.first_name, owner.last_name) = (first_name.to_owned(), last_name.to_owned());
        }
    }

    /// Deactivates the user of an owner.
    pub fn deactivate_owner(&self, id: &str) {
        if let Some(owner) = self.account.lock().store.owners.get_mut(id) {
            owner.is_active = false;
        }
    }

    /// Adds a property with unique values.
    pub fn add_unique_property(&self, name: &str) {
        let property = Property::unique();
        self.account.lock().store.properties.insert(name.to_owned(), property);
    }

    /// Adds a text property.
    pub fn add_text_property(&self, name: &str) {
        let property = Property::text();
        self.account.lock().store.properties.insert(name.to_owned(), property);
    }

    /// Requires a property on the form for new leads. Version 2026-09 then requires it as well.
    pub fn require_on_create(&self, name: &str) {
        if let Some(property) = self.account.lock().store.properties.get_mut(name) {
            property.required = true;
        }
    }

    /// Requires a property if another has this value. Version 2026-09 then requires it as well.
    pub fn require_when(&self, name: &str, when: &str, value: &str) {
        if let Some(property) = self.account.lock().store.properties.get_mut(name) {
            property.required_when = Some((when.to_owned(), value.to_owned()));
        }
    }

    /// Adds a validation rule of a property, such as `MAX_LENGTH` with the argument `10`.
    pub fn add_validation_rule(&self, name: &str, kind: &str, arguments: &[&str]) {
        if let Some(property) = self.account.lock().store.properties.get_mut(name) {
            let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
            property.rules.push(ValidationRule { kind: kind.to_owned(), arguments });
        }
    }

    /// Adds a property with this definition, in the JSON of the properties API: at least `name` and `type`.
    pub fn add_property(&self, definition: &Value) {
        let name = definition["name"].as_str().unwrap_or_default().to_owned();
        let property = Property::defined(definition);
        self.account.lock().store.properties.insert(name, property);
    }

    /// Removes a property. Leads keep its values.
    pub fn remove_property(&self, name: &str) {
        self.account.lock().store.properties.remove(name);
    }

    /// Adds a pipeline with stages: id and label of each.
    pub fn add_pipeline(&self, id: &str, label: &str, stages: &[(&str, &str)]) {
        let mut account = self.account.lock();
        let stages: Vec<(String, String)> =
            stages.iter().map(|(id, label)| ((*id).to_owned(), (*label).to_owned())).collect();
        let properties = &mut account.store.properties;
        if let Some(property) = properties.get_mut("hs_pipeline") {
            property.add_options([id.to_owned()]);
        }
        if let Some(property) = properties.get_mut("hs_pipeline_stage") {
            property.add_options(stages.iter().map(|(id, _)| id.clone()));
        }
        let pipeline = StoredPipeline { id: id.to_owned(), label: label.to_owned(), stages };
        account.store.pipelines.push(pipeline);
    }
}
