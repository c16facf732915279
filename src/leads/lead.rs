//! The lead itself.

use std::{cmp::Ordering, collections::BTreeMap};

use leadsd_base::time::Timestamp;

/// A lead as HubSpot answered it; only what the call selected is filled.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lead {
    /// Record id.
    pub id: String,
    /// Values by internal property name; properties without a value are absent.
    pub properties: BTreeMap<String, String>,
    /// Earlier values by internal property name, newest first.
    pub property_history: BTreeMap<String, Vec<PropertyVersion>>,
    /// Associated records by object type.
    pub associations: BTreeMap<String, Associated>,
    /// When it was created.
    pub create_time: Option<Timestamp>,
    /// When it was last changed.
    pub update_time: Option<Timestamp>,
    /// Whether it is in the recycle bin.
    pub archived: bool,
    /// Since when it is there.
    pub archive_time: Option<Timestamp>,
    /// Its page in HubSpot's user interface.
    pub url: Option<String>,
    /// Remarks on the write that gave this answer.
    pub warnings: Vec<Warning>,
}

/// One value a property had.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PropertyVersion {
    /// The value; `None` when the property was cleared.
    pub value: Option<String>,
    /// When it was set.
    pub time: Option<Timestamp>,
    /// What set it, such as `INTEGRATION`.
    pub source_type: Option<String>,
    /// Id within the source type.
    pub source_id: Option<String>,
    /// Readable name of the source.
    pub source_label: Option<String>,
    /// HubSpot user who set it.
    pub updated_by_user_id: Option<i64>,
}

/// Associated records of one object type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Associated {
    /// The records, in the order of their ids.
    pub objects: Vec<AssociatedObject>,
    /// Where the list goes on, if it is cut.
    pub next: Option<String>,
}

/// One associated record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociatedObject {
    /// Record id.
    pub id: String,
    /// Kind of association, such as `lead_to_contact`.
    pub kind: String,
}

/// A remark of HubSpot on a write that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Warning {
    /// Machine-readable kind.
    pub category: Option<String>,
    /// Text.
    pub message: Option<String>,
    /// Facts by name.
    pub context: BTreeMap<String, Vec<String>>,
}

// === impl AssociatedObject ===

impl AssociatedObject {
    /// Order of records: that of the numbers that their ids are.
    pub fn by_record(&self, other: &Self) -> Ordering {
        let number = |object: &Self| object.id.parse::<u64>().unwrap_or(u64::MAX);
        number(self).cmp(&number(other)).then_with(|| self.id.cmp(&other.id))
    }
}
