//! Snapshot of the records of an account, for storage between two runs.
//!
//! It has no tokens, apps, limits or property definitions.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use leadsd_base::time::Timestamp;

/// Object types that a lead can be associated with.
const OBJECTS: [&str; 2] = ["contacts", "companies"];

/// Records of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    pub(super) last_id: u64,
    pub(super) contacts: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) companies: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) owners: BTreeMap<String, String>,
    pub(super) leads: Vec<LeadSnapshot>,
    /// Ids of merged leads, and the ids of the surviving leads.
    pub(super) merged: BTreeMap<u64, u64>,
}

/// A lead with its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LeadSnapshot {
    pub(super) id: u64,
    pub(super) properties: BTreeMap<String, String>,
    pub(super) history: Vec<(String, String, Time)>,
    /// Object type, record id, association type.
    pub(super) associations: Vec<(String, String, u64)>,
    pub(super) created: Time,
    pub(super) updated: Time,
    pub(super) archived: Option<Time>,
}

/// Time as text of RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time(pub(super) Timestamp);

/// Error for a snapshot that is no account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSnapshot(String);

// === impl Time ===

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// Number of leads, archived ones included.
    pub fn leads(&self) -> usize {
        self.leads.len()
    }

    /// Ids of the contacts.
    pub fn contacts(&self) -> impl Iterator<Item = &str> {
        self.contacts.keys().map(String::as_str)
    }

    /// Ids of the owners.
    pub fn owners(&self) -> impl Iterator<Item = &str> {
        self.owners.keys().map(String::as_str)
    }

    /// Checks what the fake relies on: ids are used once and below the next one, and merges end at a lead.
    pub(super) fn check(&self) -> Result<(), InvalidSnapshot> {
        let invalid = |text: String| Err(InvalidSnapshot(text));
        let mut ids = BTreeSet::new();
        for lead in &self.leads {
            if !ids.insert(lead.id) {
                return invalid(format!("lead {} appears twice", lead.id));
            }
            let object =
                lead.associations.iter().find(|(object, ..)| !OBJECTS.contains(&object.as_str()));
            if let Some((object, ..)) = object {
                return invalid(format!("lead {} has an association with {object:?}", lead.id));
            }
        }
        let records = self.contacts.keys().chain(self.companies.keys());
        let highest = records.filter_map(|id| id.parse().ok()).chain(ids.iter().copied()).max();
        if highest.is_some_and(|highest| highest > self.last_id) {
            return invalid(format!("last_id {} is lower than the id of a record", self.last_id));
        }
        for merged in self.merged.keys() {
            let mut id = *merged;
            for _ in 0..=self.merged.len() {
                match self.merged.get(&id) {
                    Some(next) => id = *next,
                    None => break,
                }
            }
            if ids.contains(merged) || !ids.contains(&id) {
                return invalid(format!("the merge of lead {merged} does not end at a lead"));
            }
        }
        Ok(())
    }
}

/// Object type with static lifetime; the first one if the name is unknown.
pub(super) fn object(name: &str) -> &'static str {
    OBJECTS.into_iter().find(|object| *object == name).unwrap_or(OBJECTS[0])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::FakeHubspot;

    async fn account() -> FakeHubspot {
        let clock = std::sync::Arc::new(leadsd_base::time::SystemClock);
        FakeHubspot::start(([127, 0, 0, 1], 0).into(), clock).await.unwrap()
    }

    #[tokio::test]
    async fn a_restored_account_has_the_same_records_and_later_ids() {
        let first = account().await;
        first.add_unique_property("crm_key");
        let contacts = first.seed();
        first.add_owner("sales@example.com");
        let lead = first.add_lead(&contacts[0], &json!({"hs_lead_name": "n", "crm_key": "K"}));
        let other = first.add_lead(&contacts[1], &json!({"hs_lead_name": "o"})).unwrap();
        first.archive("108");
        first.merge(&other, &lead.unwrap());
        let text = serde_json::to_string(&first.snapshot()).unwrap();
        let second = account().await;
        second.add_unique_property("crm_key");
        second.seed();
        second.restore(serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(second.leads(), first.leads());
        assert_eq!(second.snapshot(), first.snapshot());
        let clash = second.add_lead(&contacts[0], &json!({"hs_lead_name": "m", "crm_key": "k"}));
        assert_eq!(clash, None, "unique values are still taken");
        assert_eq!(second.add_contact("a@example.com"), first.add_contact("a@example.com"));
    }

    #[tokio::test]
    async fn a_snapshot_that_is_no_account_changes_nothing() {
        let account = account().await;
        account.seed();
        let before = account.snapshot();
        let valid = serde_json::to_value(&before).unwrap();
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut snapshot = valid.clone();
            change(&mut snapshot);
            snapshot
        };
        let endless = json!({"1": 2, "2": 1});
        for (snapshot, expected) in [
            (changed(&|s| s["leads"][0]["id"] = s["leads"][1]["id"].clone()), "appears twice"),
            (changed(&|s| s["last_id"] = json!(3)), "last_id 3 is lower"),
            (changed(&|s| s["merged"] = endless.clone()), "does not end at a lead"),
            (changed(&|s| s["merged"] = json!({"1": 2})), "does not end at a lead"),
            (changed(&|s| s["leads"][0]["associations"] = json!([["deals", "1", 1]])), "deals"),
        ] {
            let snapshot: Snapshot = serde_json::from_value(snapshot).unwrap();
            let error = account.restore(snapshot).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(account.snapshot(), before);
        }
        for odd in [
            changed(&|s| s["leads"][0]["created"] = json!("yesterday")),
            changed(&|s| s["surprise"] = json!(1)),
        ] {
            assert!(serde_json::from_value::<Snapshot>(odd).is_err());
        }
    }
}
