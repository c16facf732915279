//! Properties and pipelines of leads: validation and the schema endpoints.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    errors::Failure,
    http::{FakeRequest, FakeResponse},
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
}

#[derive(Debug, Clone)]
enum PropertyKind {
    Text,
    Number,
    Time,
    Options(Vec<String>),
}

/// Properties by name.
pub(super) type Schema = BTreeMap<String, Property>;

/// Properties of a new account.
pub(super) fn standard() -> Schema {
    let options =
        |list: &[&str]| PropertyKind::Options(list.iter().map(|&o| o.to_owned()).collect());
    let texts = [
        "hs_lead_name",
        "hubspot_owner_id",
        "hs_lead_source",
        "hs_lead_disqualification_reason",
        "hs_lead_disqualification_note",
    ];
    let read_only =
        ["hs_object_id", "hs_createdate", "hs_lastmodifieddate", "hs_primary_contact_id"];
    let writable = texts.map(|name| (name, PropertyKind::Text)).into_iter().chain([
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
        Self { kind, read_only: false, unique: false, required: false, required_when: None }
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
        matches!(self.kind, PropertyKind::Options(_))
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
        match &self.kind {
            PropertyKind::Text => None,
            PropertyKind::Number => value
                .parse::<f64>()
                .is_err()
                .then(|| (format!("{value} was not a valid number."), "INVALID_INTEGER")),
            PropertyKind::Time => {
                let valid = value.parse::<i64>().is_ok() || value.parse::<Timestamp>().is_ok();
                (!valid).then(|| (format!("{value} was not a valid date."), "INVALID_DATE"))
            }
            PropertyKind::Options(options) => {
                (!options.iter().any(|option| option == value)).then(|| {
                    let text = format!(
                        "{value} was not one of the allowed options: {}",
                        options.join(", ")
                    );
                    (text, "INVALID_OPTION")
                })
            }
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
            PropertyKind::Options(_) => ("enumeration", "select"),
        };
        let options: Vec<Value> = match &self.kind {
            PropertyKind::Options(options) => options
                .iter()
                .enumerate()
                .map(|(order, value)| {
                    json!({"label": value, "value": value, "hidden": false, "displayOrder": order,
                           "description": ""})
                })
                .collect(),
            PropertyKind::Text | PropertyKind::Number | PropertyKind::Time => Vec::new(),
        };
        json!({
            "name": name, "label": name, "type": kind, "fieldType": field, "description": "",
            "groupName": "leads", "options": options, "hasUniqueValue": self.unique,
            "calculated": false, "externalOptions": false, "hidden": false,
            "hubspotDefined": name.starts_with("hs_"), "displayOrder": -1, "formField": true,
            "modificationMetadata": {"archivable": false, "readOnlyDefinition": true,
                                     "readOnlyValue": self.read_only, "readOnlyOptions": false},
        })
    }
}

/// Serves the properties API: all properties, or one.
pub(super) fn properties(schema: &Schema, request: &FakeRequest) -> Result<FakeResponse, Failure> {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "") => {
            let all: Vec<Value> = schema.iter().map(|(name, own)| own.describe(name)).collect();
            Ok((StatusCode::OK, json!({ "results": all })))
        }
        ("GET", name) => {
            let own = schema.get(name).ok_or_else(|| Failure::not_found(true))?;
            Ok((StatusCode::OK, own.describe(name)))
        }
        _ => Err(Failure::validation("no such call")),
    }
}

/// Serves the pipelines API: all pipelines, one, or its stages.
pub(super) fn pipelines(request: &FakeRequest) -> Result<FakeResponse, Failure> {
    let times = json!({"createdAt": "2026-01-01T00:00:00.000Z",
                       "updatedAt": "2026-01-01T00:00:00.000Z"});
    let stages: Vec<Value> = STAGES
        .iter()
        .enumerate()
        .map(|(order, id)| {
            json!({"id": id, "label": id.trim_end_matches("-stage-id"), "displayOrder": order,
                   "metadata": {}, "writePermissions": "CRM_PERMISSIONS_ENFORCEMENT",
                   "archived": false, "createdAt": times["createdAt"],
                   "updatedAt": times["updatedAt"]})
        })
        .collect();
    let pipeline = json!({"id": PIPELINE, "label": "Lead pipeline", "displayOrder": 0,
        "archived": false, "stages": stages, "createdAt": times["createdAt"],
        "updatedAt": times["updatedAt"]});
    let body =
        match (request.method.as_str(), request.path.split('/').collect::<Vec<_>>().as_slice()) {
            ("GET", [""]) => json!({ "results": [pipeline] }),
            ("GET", [id]) if *id == PIPELINE => pipeline,
            ("GET", [id, "stages"]) if *id == PIPELINE => json!({ "results": stages }),
            ("GET", _) => return Err(Failure::not_found(true)),
            _ => return Err(Failure::validation("no such call")),
        };
    Ok((StatusCode::OK, body))
}

/// Plural name of an object type, given any of its names.
pub(super) fn plural(object: &str) -> &str {
    match object {
        "contact" | "0-1" => "contacts",
        "company" | "0-2" => "companies",
        other => other,
    }
}
