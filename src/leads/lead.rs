//! Leads and their parts.

use std::{cmp::Ordering, collections::BTreeMap};

use leadsd_base::time::Timestamp;

use super::association_type::AssociationType;

/// Lead in a HubSpot response; contains only the selected parts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lead {
    /// Record id.
    pub id: String,
    /// Values by internal property name.
    pub properties: BTreeMap<String, String>,
    /// Labels of values by internal property name, if the caller wants them.
    pub labels: BTreeMap<String, String>,
    /// Names of the properties that HubSpot returned without a value. It omits properties that do not
    /// exist.
    pub unset_properties: Vec<String>,
    /// Previous values by internal property name, newest first.
    pub property_history: BTreeMap<String, Vec<PropertyVersion>>,
    /// Associated records by object type.
    pub associations: BTreeMap<String, Associated>,
    /// Creation time.
    pub create_time: Option<Timestamp>,
    /// Time of the last change.
    pub update_time: Option<Timestamp>,
    /// True if the lead is archived.
    pub archived: bool,
    /// Time at which the lead was archived.
    pub archive_time: Option<Timestamp>,
    /// URL of the record in HubSpot's user interface.
    pub url: Option<String>,
    /// Warnings about the write that returned this lead.
    pub warnings: Vec<Warning>,
    /// True if everything but the id was dropped: the lead was written, and its result was too large.
    pub is_id_only: bool,
}

/// Value that a property had from a point in time on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PropertyVersion {
    /// The value; `None` if the property was cleared.
    pub value: Option<String>,
    /// Time at which the value was set.
    pub time: Option<Timestamp>,
    /// Type of the source, such as `INTEGRATION`.
    pub source_type: Option<String>,
    /// Id within the source type.
    pub source_id: Option<String>,
    /// Display name of the source.
    pub source_label: Option<String>,
    /// Id of the HubSpot user who set the value.
    pub updated_by_user_id: Option<i64>,
}

/// Associated records of one object type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Associated {
    /// The records, in the order of their ids.
    pub objects: Vec<AssociatedObject>,
    /// Cursor for further records; `None` if the list is complete.
    pub next: Option<String>,
}

/// One associated record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociatedObject {
    /// Record id.
    pub id: String,
    /// Name of the association type, such as `lead_to_contact`; empty if HubSpot sent none.
    pub kind: String,
    /// Association type; `None` if HubSpot sent only its name, or a category that is not known.
    pub association_type: Option<AssociationType>,
    /// Label of the association type, such as `Primary`; `None` if it has none.
    pub label: Option<String>,
}

/// Warning of HubSpot about a write that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Warning {
    /// Machine-readable kind of warning.
    pub category: Option<String>,
    /// Message.
    pub message: Option<String>,
    /// Details by name.
    pub context: BTreeMap<String, Vec<String>>,
}

// === impl Lead ===

impl Lead {
    /// Removes a property that was selected only to match the lead.
    pub fn remove_property(&mut self, name: &str) {
        self.properties.remove(name);
        self.unset_properties.retain(|unset| unset != name);
    }

    /// The lead reduced to its id.
    #[must_use]
    pub fn id_only(&self) -> Self {
        Self { id: self.id.clone(), is_id_only: true, ..Self::default() }
    }
}

// === impl AssociatedObject ===

impl AssociatedObject {
    /// Record with the name of its association type, as it is part of a lead.
    pub fn named(id: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { id: id.into(), kind: kind.into(), association_type: None, label: None }
    }

    /// Sort key of records: the numeric value of the id.
    pub fn by_record(&self, other: &Self) -> Ordering {
        let number = |object: &Self| object.id.parse::<u64>().unwrap_or(u64::MAX);
        number(self).cmp(&number(other)).then_with(|| self.id.cmp(&other.id))
    }
}
