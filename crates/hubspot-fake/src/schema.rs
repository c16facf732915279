//! Properties and pipelines of leads: validation and the schema endpoints.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    AccessToken, FakeAccount, READ, SCHEMAS,
    errors::Failure,
    http::{FakeRequest, FakeResponse},
    rules::ValidationRule,
};
use leadsd_base::time::Timestamp;

/// Default pipeline of an account.
pub(super) const PIPELINE: &str = "lead-pipeline-id";

/// Stages of the default pipeline, in order.
pub(super) const STAGES: [&str; 5] = [
    "new-stage-id",
    "attempting-stage-id",
    "connected-stage-id",
    "qualified-stage-id",
    "unqualified-stage-id",
];

/// Time at which pipelines and stages were created.
const CREATED: &str = "2026-01-01T00:00:00.000Z";

/// Definition of a lead property.
#[derive(Debug, Clone)]
pub(super) struct Property {
    kind: PropertyKind,
    read_only: bool,
    pub(super) unique: bool,
    /// Required on the form for new leads.
    pub(super) required: bool,
    /// Required if this property has this value.
    pub(super) required_when: Option<(String, String)>,
    /// Validation rules of the portal.
    pub(super) rules: Vec<ValidationRule>,
    /// Fields of the definition that differ from the default; null if there are none.
    definition: Value,
}

#[derive(Debug, Clone)]
enum PropertyKind {
    Text,
    Number,
    Time,
    Owner,
    Options(Vec<String>),
    /// Several options, separated by semicolons.
    Choices(Vec<String>),
    Flag,
    Date,
}

/// Pipeline with its stages: id and label of each.
#[derive(Debug, Clone)]
pub(super) struct StoredPipeline {
    pub(super) id: String,
    pub(super) label: String,
    pub(super) stages: Vec<(String, String)>,
}

/// Properties by name.
pub(super) type Schema = BTreeMap<String, Property>;

/// Properties of a new account.
pub(super) fn standard() -> Schema {
    let options =
        |list: &[&str]| PropertyKind::Options(list.iter().map(|&o| o.to_owned()).collect());
    let texts = [
        "hs_lead_name",
        "hs_lead_source",
        "hs_lead_disqualification_reason",
        "hs_lead_disqualification_note",
    ];
    let read_only = [
        "hs_object_id",
        "hs_createdate",
        "hs_lastmodifieddate",
        "hs_primary_contact_id",
        "hs_primary_company_id",
        "hs_merged_object_ids",
    ];
    let writable = texts.map(|name| (name, PropertyKind::Text)).into_iter().chain([
        ("hubspot_owner_id", PropertyKind::Owner),
        ("hs_lead_type", options(&["NEW_BUSINESS", "RE_ATTEMPTING", "UPSELL"])),
        ("hs_lead_label", options(&["HOT", "WARM", "COLD"])),
        ("hs_pipeline", options(&[PIPELINE])),
        ("hs_pipeline_stage", options(&STAGES)),
        ("hs_lead_pipeline_value", PropertyKind::Number),
        ("hs_next_activity_date", PropertyKind::Time),
    ]);
    let writable = writable.map(|(name, kind)| (name.to_owned(), Property::new(kind)));
    let read_only = read_only.map(|name| {
        let property = Property { read_only: true, ..Property::new(PropertyKind::Text) };
        (name.to_owned(), property)
    });
    writable.chain(read_only).collect()
}

// === impl Property ===

impl Property {
    fn new(kind: PropertyKind) -> Self {
        Self {
            kind,
            read_only: false,
            unique: false,
            required: false,
            required_when: None,
            rules: Vec::new(),
            definition: Value::Null,
        }
    }

    /// Creates the property of a definition in the JSON of the properties API.
    pub(super) fn defined(definition: &Value) -> Self {
        let options = || {
            let options = definition["options"].as_array().into_iter().flatten();
            options.filter_map(|option| option["value"].as_str().map(str::to_owned)).collect()
        };
        let kind = match (definition["type"].as_str(), definition["fieldType"].as_str()) {
            (Some("number"), _) => PropertyKind::Number,
            (Some("datetime"), _) => PropertyKind::Time,
            (Some("date"), _) => PropertyKind::Date,
            (Some("bool"), _) => PropertyKind::Flag,
            (Some("enumeration"), Some("checkbox")) => PropertyKind::Choices(options()),
            (Some("enumeration"), _) => PropertyKind::Options(options()),
            _ => PropertyKind::Text,
        };
        Self {
            read_only: definition["modificationMetadata"]["readOnlyValue"] == true
                || definition["calculated"] == true,
            unique: definition["hasUniqueValue"] == true,
            definition: definition.clone(),
            ..Self::new(kind)
        }
    }

    /// Adds options to an enumeration.
    pub(super) fn add_options(&mut self, more: impl IntoIterator<Item = String>) {
        if let PropertyKind::Options(options) | PropertyKind::Choices(options) = &mut self.kind {
            options.extend(more);
        }
    }

    /// Creates a text property with unique values.
    pub(super) fn unique() -> Self {
        Self { unique: true, ..Self::new(PropertyKind::Text) }
    }

    /// Creates a text property.
    pub(super) fn text() -> Self {
        Self::new(PropertyKind::Text)
    }

    /// True if values are compared exactly instead of ignoring case.
    pub(super) fn is_enumeration(&self) -> bool {
        matches!(
            self.kind,
            PropertyKind::Options(_) | PropertyKind::Choices(_) | PropertyKind::Owner
        )
    }

    /// True if a value is the id of an owner.
    pub(super) fn is_owner(&self) -> bool {
        matches!(self.kind, PropertyKind::Owner)
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.kind, PropertyKind::Text)
    }

    /// Validates a value; returns message and error code.
    pub(super) fn fault(&self, name: &str, value: &str) -> Option<(String, &'static str)> {
        if self.read_only {
            return Some((format!("\"{name}\" is a read only property"), "READ_ONLY_VALUE"));
        }
        if value.is_empty() {
            return None;
        }
        if let Some(text) = self.rules.iter().find_map(|rule| rule.fault(value)) {
            return Some((text, "PROPERTY_VALIDATION_RULE"));
        }
        match &self.kind {
            PropertyKind::Text | PropertyKind::Owner => None,
            PropertyKind::Number => value
                .parse::<f64>()
                .is_err()
                .then(|| (format!("{value} was not a valid number."), "INVALID_INTEGER")),
            PropertyKind::Time => {
                let valid = value.parse::<i64>().is_ok() || value.parse::<Timestamp>().is_ok();
                (!valid).then(|| (format!("{value} was not a valid date."), "INVALID_DATE"))
            }
            PropertyKind::Flag => (!["true", "false"].contains(&value))
                .then(|| (format!("{value} was not a valid boolean."), "INVALID_BOOLEAN")),
            PropertyKind::Date => {
                let is_date = format!("{value}T00:00:00Z").parse::<Timestamp>().is_ok();
                let valid = is_date || value.parse::<i64>().is_ok_and(|ms| ms % 86_400_000 == 0);
                (!valid).then(|| (format!("{value} was not a valid date."), "INVALID_DATE"))
            }
            PropertyKind::Choices(options) => value
                .split(';')
                .find(|choice| !options.iter().any(|option| option == choice))
                .map(|choice| (not_allowed(choice, options), "INVALID_OPTION")),
            PropertyKind::Options(options) => (!options.iter().any(|option| option == value))
                .then(|| (not_allowed(value, options), "INVALID_OPTION")),
        }
    }

    /// Timestamp that 2026-09 stores for a plain date; older versions reject the date.
    pub(super) fn normalised(&self, value: &str) -> Option<String> {
        if !matches!(self.kind, PropertyKind::Time) || self.fault("", value).is_none() {
            return None;
        }
        let date = match value.split('/').collect::<Vec<_>>().as_slice() {
            [month, day, year] => format!("{year}-{month:0>2}-{day:0>2}"),
            _ => value.to_owned(),
        };
        let time: Timestamp = format!("{date}T00:00:00Z").parse().ok()?;
        Some(format!("{time:.3}"))
    }

    fn describe(&self, name: &str) -> Value {
        let (kind, field) = match &self.kind {
            PropertyKind::Text => ("string", "text"),
            PropertyKind::Number => ("number", "number"),
            PropertyKind::Time => ("datetime", "date"),
            PropertyKind::Date => ("date", "date"),
            PropertyKind::Flag => ("bool", "booleancheckbox"),
            PropertyKind::Choices(_) => ("enumeration", "checkbox"),
            PropertyKind::Options(_) | PropertyKind::Owner => ("enumeration", "select"),
        };
        let options: Vec<Value> = match &self.kind {
            PropertyKind::Options(options) | PropertyKind::Choices(options) => options
                .iter()
                .enumerate()
                .map(|(order, value)| {
                    json!({"label": value, "value": value, "hidden": false, "displayOrder": order,
                           "description": ""})
                })
                .collect(),
            PropertyKind::Text
            | PropertyKind::Number
            | PropertyKind::Time
            | PropertyKind::Date
            | PropertyKind::Flag
            | PropertyKind::Owner => Vec::new(),
        };
        let mut described = json!({
            "name": name, "label": name, "type": kind, "fieldType": field, "description": "",
            "groupName": "leads", "options": options, "hasUniqueValue": self.unique,
            "calculated": false, "externalOptions": self.is_owner(), "hidden": false,
            "hubspotDefined": name.starts_with("hs_"), "displayOrder": -1, "formField": true,
            "modificationMetadata": {"archivable": false, "readOnlyDefinition": true,
                                     "readOnlyValue": self.read_only, "readOnlyOptions": false},
        });
        for (key, value) in self.definition.as_object().into_iter().flatten() {
            described[key] = value.clone();
        }
        described
    }
}

fn not_allowed(value: &str, options: &[String]) -> String {
    format!("{value} was not one of the allowed options: {}", options.join(", "))
}

// === impl StoredPipeline ===

impl StoredPipeline {
    /// Pipeline of a new account.
    pub(super) fn standard() -> Self {
        let stage = |id: &str| (id.to_owned(), id.trim_end_matches("-stage-id").to_owned());
        let (id, label) = (PIPELINE.to_owned(), "Lead pipeline".to_owned());
        Self { id, label, stages: STAGES.map(stage).to_vec() }
    }

    fn show(&self, order: usize) -> Value {
        json!({"id": self.id, "label": self.label, "displayOrder": order, "archived": false,
               "stages": self.show_stages(), "createdAt": CREATED, "updatedAt": CREATED})
    }

    fn show_stages(&self) -> Vec<Value> {
        let show = |(order, (id, label)): (usize, &(String, String))| {
            json!({"id": id, "label": label, "displayOrder": order, "metadata": {},
                   "writePermissions": "CRM_PERMISSIONS_ENFORCEMENT", "archived": false,
                   "createdAt": CREATED, "updatedAt": CREATED})
        };
        self.stages.iter().enumerate().map(show).collect()
    }
}

/// Serves the properties API: reads all properties or one, and creates and archives text properties.
pub(super) fn properties(
    schema: &mut Schema,
    request: &FakeRequest,
    token: &AccessToken,
    scopes_on_top: bool,
) -> Result<FakeResponse, Failure> {
    if request.method == "GET" && !token.scopes.iter().any(|own| own == READ) {
        return Err(Failure::missing_scope(READ, scopes_on_top));
    }
    if request.method != "GET" && !token.scopes.iter().any(|own| own == SCHEMAS) {
        return Err(Failure::missing_scope(SCHEMAS, false));
    }
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "") => {
            let all: Vec<Value> = schema.iter().map(|(name, own)| own.describe(name)).collect();
            Ok((StatusCode::OK, json!({ "results": all })))
        }
        ("GET", name) => {
            let own = schema.get(name).ok_or_else(|| Failure::not_found(true))?;
            Ok((StatusCode::OK, own.describe(name)))
        }
        ("POST", "") => {
            let name = request.body["name"].as_str().unwrap_or_default();
            if name.is_empty() || schema.contains_key(name) || request.body["type"] != "string" {
                return Err(Failure::validation("A new name and the type string are required"));
            }
            let unique = request.body["hasUniqueValue"] == true;
            let own = Property { unique, ..Property::text() };
            let described = own.describe(name);
            schema.insert(name.to_owned(), own);
            Ok((StatusCode::CREATED, described))
        }
        ("DELETE", name) => {
            schema.remove(name);
            Ok((StatusCode::NO_CONTENT, Value::Null))
        }
        _ => Err(Failure::validation("no such call")),
    }
}

// === impl FakeAccount ===

impl FakeAccount {
    /// Serves the pipelines API: all pipelines, one, or its stages.
    pub(super) fn pipelines(
        &self,
        request: &FakeRequest,
        token: &AccessToken,
    ) -> Result<FakeResponse, Failure> {
        if !token.scopes.iter().any(|own| own == READ) {
            return Err(Failure::missing_scope(READ, self.behaviour.scopes_on_top));
        }
        let find = |id: &str| {
            let mut all = self.store.pipelines.iter().enumerate();
            all.find(|(_, own)| own.id == id).ok_or_else(|| Failure::not_found(true))
        };
        let segments: Vec<&str> = request.path.split('/').collect();
        let body = match (request.method.as_str(), segments.as_slice()) {
            ("GET", [""]) => {
                let all = self.store.pipelines.iter().enumerate();
                let all: Vec<Value> = all.map(|(order, own)| own.show(order)).collect();
                json!({ "results": all })
            }
            ("GET", [id]) => find(id).map(|(order, own)| own.show(order))?,
            ("GET", [id, "stages"]) => json!({ "results": find(id)?.1.show_stages() }),
            ("GET", _) => return Err(Failure::not_found(true)),
            _ => return Err(Failure::validation("no such call")),
        };
        Ok((StatusCode::OK, body))
    }
}

/// Plural name of an object type, given any of its names.
pub(super) fn plural(object: &str) -> &str {
    match object {
        "contact" | "0-1" => "contacts",
        "company" | "0-2" => "companies",
        "deal" | "0-3" => "deals",
        "ticket" | "0-5" => "tickets",
        "call" | "0-48" => "calls",
        "email" | "0-49" => "emails",
        "meeting" | "0-47" => "meetings",
        "note" | "0-46" => "notes",
        "task" | "0-27" => "tasks",
        "communication" | "0-18" => "communications",
        "feedback_submission" | "0-19" => "feedback_submissions",
        other => other,
    }
}
