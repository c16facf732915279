//! Maps association type ids (batch endpoint) to labels (single endpoint). The mapping is learned per
//! portal by reading one lead through both; what was not observed is not guessed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use leadsd_base::cache::TtlCache;
use parking_lot::Mutex;

use crate::leads::{Associated, AssociatedObject, AssociationType, Link, Links};

/// Time for which a label is valid: labels can be renamed.
const TTL: Duration = Duration::from_secs(600);

/// Time for which an object type is read individually after HubSpot rejected its batch.
const UNSUPPORTED_TTL: Duration = Duration::from_secs(600);

/// Maximum of that time, whatever HubSpot states.
const MAX_PAUSE: Duration = Duration::from_secs(86_400);

/// Time for which the observed lists of an object type are valid. Longer than that of labels, which
/// are observed more often.
const LISTS_TTL: Duration = Duration::from_secs(86_400);

/// Maximum memory of the labels of one portal, in bytes. Callers choose the object types.
const MAX_BYTES: u64 = 1 << 20;

/// Estimated number of combinations of association types: one takes about 250 bytes.
const ESTIMATED_COMBINATIONS: usize = 4_000;

/// Maximum number of object types of which something else is known.
const MAX_OBJECT_TYPES: usize = 1_000;

/// Memory of an entry besides its texts: key, expiry, and their places in the cache.
const ENTRY_OVERHEAD: usize = 160;

/// An object type, and a combination of association types in their order.
type Combination = (Arc<str>, Vec<AssociationType>);

/// The labels of one portal.
#[derive(Debug)]
pub(super) struct AssociationLabels {
    /// `None` if observations were inconsistent.
    labels: TtlCache<Combination, Option<Arc<[String]>>>,
    lists: TtlCache<Arc<str>, ObservedLists>,
    /// Object types that are not read in batches at present.
    suspended: TtlCache<Arc<str>, ()>,
    /// Held while an observation is compared with the previous one and replaces it.
    observing: Mutex<()>,
}

/// Observed lists of one object type in individual reads.
#[derive(Debug, Clone, Copy, Default)]
struct ObservedLists {
    /// True if a list without records is returned.
    shows_empty: Option<bool>,
    /// Length of the longest list that was returned.
    longest: usize,
}

/// The response of an individual read cannot be derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unknown;

// === impl AssociationLabels ===

impl Default for AssociationLabels {
    fn default() -> Self {
        Self {
            labels: TtlCache::weighted(MAX_BYTES, ESTIMATED_COMBINATIONS, TTL),
            lists: TtlCache::new(MAX_OBJECT_TYPES, LISTS_TTL),
            suspended: TtlCache::new(MAX_OBJECT_TYPES, MAX_PAUSE),
            observing: Mutex::default(),
        }
    }
}

impl AssociationLabels {
    /// True if the associations of many leads to this object type may be read in a batch.
    pub(super) fn is_supported(&self, to: &str) -> bool {
        self.suspended.get(to).is_none()
    }

    /// Suspends batches of this object type for the time that HubSpot states, or else a default.
    pub(super) fn suspend(&self, to: &str, time: Option<Duration>) {
        self.suspended.insert_for(time.unwrap_or(UNSUPPORTED_TTL), to.into(), ());
    }

    /// Renders the associations as an individual read would return them.
    pub(super) fn render(&self, to: &str, links: &Links) -> Result<Option<Associated>, Unknown> {
        let ObservedLists { shows_empty, longest } = self.lists.get(to).ok_or(Unknown)?;
        if !links.is_complete() {
            return Err(Unknown);
        }
        let records = links.records().ok_or(Unknown)?;
        if records.is_empty() {
            let shows = shows_empty.ok_or(Unknown)?;
            return Ok(shows.then(Associated::default));
        }
        let to: Arc<str> = to.into();
        let mut objects = Vec::with_capacity(records.len());
        for Link { id, types } in records {
            let combination = (Arc::clone(&to), sorted(types));
            let labels = self.labels.get(&combination).flatten().ok_or(Unknown)?;
            objects.extend(labels.iter().map(|kind| AssociatedObject::named(&id, kind)));
        }
        // A longer list might be truncated.
        if objects.len() > longest {
            return Err(Unknown);
        }
        objects.sort_by(AssociatedObject::by_record);
        Ok(Some(Associated { objects, next: None }))
    }

    /// Observes one lead that was read through both endpoints.
    pub(super) fn observe(&self, to: &str, links: &Links, shown: Option<&Associated>) {
        let _observing = self.observing.lock();
        let to: Arc<str> = to.into();
        let objects = shown.map(|shown| shown.objects.as_slice()).unwrap_or_default();
        let mut lists = self.lists.get(&to).unwrap_or_default();
        lists.longest = lists.longest.max(objects.len());
        let records = links.records();
        let is_whole = links.is_complete()
            && records.is_some()
            && shown.is_none_or(|shown| shown.next.is_none());
        let records = records.unwrap_or_default();
        let is_empty = records.is_empty() && objects.is_empty();
        if is_whole && is_empty {
            lists.shows_empty = Some(shown.is_some());
        }
        self.lists.insert(Arc::clone(&to), lists);
        if !is_whole || is_empty {
            return;
        }
        if shown.is_none() {
            // Returned under another name, or not at all.
            self.suspend(&to, None);
            return;
        }
        let mut labels: HashMap<&str, Vec<String>> = HashMap::new();
        for object in objects {
            labels.entry(&object.id).or_default().push(object.kind.clone());
        }
        let is_same = labels.len() == records.len()
            && records.iter().all(|link| labels.contains_key(link.id.as_str()));
        // Otherwise it changed between the two reads.
        if is_same {
            for Link { id, types } in records {
                let combination = (Arc::clone(&to), sorted(types));
                self.remember(combination, labels.remove(id.as_str()).unwrap_or_default());
            }
        }
    }

    fn remember(&self, combination: Combination, labels: Vec<String>) {
        let labels: Option<Arc<[String]>> = match self.labels.get(&combination) {
            Some(before) if before.as_deref() != Some(labels.as_slice()) => None,
            Some(_) | None => Some(labels.into()),
        };
        let (to, types) = &combination;
        let of_label = |label: &String| size_of::<String>() + label.capacity();
        let bytes = ENTRY_OVERHEAD
            + to.len()
            + types.capacity() * size_of::<AssociationType>()
            + labels.iter().flat_map(|labels| labels.iter()).map(of_label).sum::<usize>();
        self.labels.insert_weighted(combination, labels, bytes as u64);
    }
}

fn sorted(mut types: Vec<AssociationType>) -> Vec<AssociationType> {
    types.sort_unstable();
    types
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::leads::{AssociationCategory, testing};

    fn link(id: &str, types: &[i32]) -> Link {
        let category = AssociationCategory::HubspotDefined;
        let types = types.iter().map(|&type_id| AssociationType { category, type_id }).collect();
        Link { id: id.to_owned(), types }
    }

    fn links(records: Vec<Link>) -> Links {
        testing::links("1", &records)
    }

    /// The associations with a type that HubSpot did not identify.
    fn unknown_type(mut links: Links) -> Links {
        links.page.objects[0].association_type = None;
        links
    }

    fn shown(objects: &[(&str, &str)]) -> Associated {
        let object = |&(id, kind): &(&str, &str)| AssociatedObject::named(id, kind);
        Associated { objects: objects.iter().map(object).collect(), next: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_combination_of_types_is_rendered_in_any_order_once_observed() {
        let labels = AssociationLabels::default();
        let pair = links(vec![link("7", &[608]), link("10", &[578, 608])]);
        let expected = shown(&[("7", "plain"), ("10", "primary"), ("10", "plain")]);
        assert_eq!(labels.render("contacts", &pair), Err(Unknown));
        labels.observe("contacts", &pair, Some(&expected));
        assert_eq!(labels.render("contacts", &pair), Ok(Some(expected.clone())));
        let other = links(vec![link("10", &[608, 578]), link("7", &[608])]);
        assert_eq!(labels.render("contacts", &other), Ok(Some(expected)));
        // Unknown: the combination, the length, an empty list, an incomplete list, another object type.
        for unknown in [
            links(vec![link("7", &[578])]),
            links((0..4).map(|id| link(&id.to_string(), &[608])).collect()),
            links(Vec::new()),
            Links { is_whole: false, ..other.clone() },
            unknown_type(other.clone()),
        ] {
            assert_eq!(labels.render("contacts", &unknown), Err(Unknown), "{unknown:?}");
        }
        assert_eq!(labels.render("companies", &other), Err(Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn inconsistent_and_expired_labels_are_not_rendered() {
        let labels = AssociationLabels::default();
        let one = links(vec![link("7", &[608])]);
        labels.observe("contacts", &one, Some(&shown(&[("7", "this")])));
        advance(TTL).await;
        assert_eq!(labels.render("contacts", &one), Err(Unknown));
        labels.observe("contacts", &one, Some(&shown(&[("7", "that")])));
        assert_eq!(labels.render("contacts", &one), Ok(Some(shown(&[("7", "that")]))));
        labels.observe("contacts", &one, Some(&shown(&[("7", "this")])));
        assert_eq!(labels.render("contacts", &one), Err(Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn changed_and_truncated_lists_are_not_learned() {
        let labels = AssociationLabels::default();
        let one = links(vec![link("7", &[608])]);
        labels.observe("contacts", &one, Some(&shown(&[("8", "plain")])));
        let cut = Associated { next: Some("8".to_owned()), ..shown(&[("7", "plain")]) };
        labels.observe("contacts", &one, Some(&cut));
        assert_eq!(labels.render("contacts", &one), Err(Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_type_that_individual_reads_do_not_return_is_not_batched() {
        let labels = AssociationLabels::default();
        let one = links(vec![link("7", &[608])]);
        labels.observe("0-1", &one, None);
        assert!(!labels.is_supported("0-1"));
        assert!(labels.is_supported("contacts"));
        advance(UNSUPPORTED_TTL).await;
        assert!(labels.is_supported("0-1"));
        // An omitted empty list shows how empty lists are rendered.
        labels.observe("deals", &links(Vec::new()), None);
        assert_eq!(labels.render("deals", &links(Vec::new())), Ok(None));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let labels = AssociationLabels::default();
        let one = links(vec![link("7", &[608])]);
        for type_of_record in 0..2 * MAX_OBJECT_TYPES {
            labels.observe(&type_of_record.to_string(), &one, Some(&shown(&[("7", "plain")])));
        }
        for kind in 0..2 * ESTIMATED_COMBINATIONS {
            let kind = i32::try_from(kind).unwrap();
            labels.observe("0", &links(vec![link("7", &[kind])]), Some(&shown(&[("7", "plain")])));
        }
        assert!(labels.labels.weight() <= MAX_BYTES);
        assert!(labels.lists.len() <= MAX_OBJECT_TYPES);
    }
}
