//! Maps association type ids (batch endpoint) to labels (single endpoint). The mapping is learned per
//! portal by reading one lead through both; what was not observed is not guessed.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::leads::{Associated, AssociatedObject, AssociationType, Link, Links};

/// Time for which a label is valid: labels can be renamed.
const TTL: Duration = Duration::from_secs(600);

/// Time for which an object type is read individually after HubSpot rejected its batch.
const UNSUPPORTED_TTL: Duration = Duration::from_secs(600);

/// Maximum of that time, whatever HubSpot states.
const MAX_PAUSE: Duration = Duration::from_secs(86_400);

/// Maximum number of object types, and of combinations of association types for one of them. Callers
/// choose the object types.
const CAPACITY: usize = 64;

/// The labels of one portal, by object type.
#[derive(Debug, Default)]
pub(super) struct AssociationLabels(Mutex<HashMap<String, Known>>);

/// What is known of one object type.
#[derive(Debug, Default)]
struct Known {
    /// Labels of a combination of association types, and when they were observed. `None` if
    /// observations were inconsistent.
    shown: HashMap<Vec<AssociationType>, (Option<Vec<String>>, Instant)>,
    /// Whether an individual read returns a list without records.
    shows_empty: Option<bool>,
    /// Longest list that an individual read returned.
    longest: usize,
    /// Time until which batches are not used.
    suspended_until: Option<Instant>,
}

/// The response of an individual read cannot be derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unknown;

// === impl AssociationLabels ===

impl AssociationLabels {
    /// Whether the associations of many leads to this object type may be read in a batch.
    pub(super) fn is_supported(&self, to: &str) -> bool {
        let known = self.0.lock();
        match known.get(to) {
            Some(known) => known.suspended_until.is_none_or(|until| Instant::now() >= until),
            None => known.len() < CAPACITY,
        }
    }

    /// Suspends batches of this object type for the time that HubSpot states, or else a default.
    pub(super) fn suspend(&self, to: &str, time: Option<Duration>) {
        let until = Instant::now() + time.unwrap_or(UNSUPPORTED_TTL).min(MAX_PAUSE);
        self.0.lock().entry(to.to_owned()).or_default().suspended_until = Some(until);
    }

    /// Renders the associations as an individual read would return them.
    pub(super) fn render(&self, to: &str, links: &Links) -> Result<Option<Associated>, Unknown> {
        let all = self.0.lock();
        let known = all.get(to).ok_or(Unknown)?;
        if !links.is_complete {
            return Err(Unknown);
        }
        if links.records.is_empty() {
            let shows = known.shows_empty.ok_or(Unknown)?;
            return Ok(shows.then(Associated::default));
        }
        let mut objects = Vec::with_capacity(links.records.len());
        for Link { id, types } in &links.records {
            let (labels, since) = known.shown.get(&sorted(types)).ok_or(Unknown)?;
            let labels = labels.as_ref().filter(|_| since.elapsed() < TTL).ok_or(Unknown)?;
            let object = |kind: &String| AssociatedObject { id: id.clone(), kind: kind.clone() };
            objects.extend(labels.iter().map(object));
        }
        // A longer list might be truncated.
        if objects.len() > known.longest {
            return Err(Unknown);
        }
        objects.sort_by(AssociatedObject::by_record);
        Ok(Some(Associated { objects, next: None }))
    }

    /// Observes one lead that was read through both endpoints.
    pub(super) fn observe(&self, to: &str, links: &Links, shown: Option<&Associated>) {
        let mut all = self.0.lock();
        if all.len() >= CAPACITY && !all.contains_key(to) {
            return;
        }
        let known = all.entry(to.to_owned()).or_default();
        let objects = shown.map(|shown| shown.objects.as_slice()).unwrap_or_default();
        known.longest = known.longest.max(objects.len());
        if !links.is_complete || shown.is_some_and(|shown| shown.next.is_some()) {
            return;
        }
        if links.records.is_empty() && objects.is_empty() {
            known.shows_empty = Some(shown.is_some());
            return;
        }
        if shown.is_none() {
            // Returned under another name, or not at all.
            known.suspended_until = Some(Instant::now() + UNSUPPORTED_TTL);
            return;
        }
        let mut labels: HashMap<&str, Vec<String>> = HashMap::new();
        for object in objects {
            labels.entry(&object.id).or_default().push(object.kind.clone());
        }
        let is_same = labels.len() == links.records.len()
            && links.records.iter().all(|link| labels.contains_key(link.id.as_str()));
        // Otherwise it changed between the two reads.
        if is_same {
            for Link { id, types } in &links.records {
                known.remember(sorted(types), labels.remove(id.as_str()).unwrap_or_default());
            }
        }
    }
}

// === impl Known ===

impl Known {
    fn remember(&mut self, types: Vec<AssociationType>, labels: Vec<String>) {
        if self.shown.len() >= CAPACITY && !self.shown.contains_key(&types) {
            return;
        }
        let now = Instant::now();
        let before = self.shown.get(&types).filter(|(_, since)| since.elapsed() < TTL);
        let labels = match before {
            Some((before, _)) if before.as_ref() != Some(&labels) => None,
            Some(_) | None => Some(labels),
        };
        self.shown.insert(types, (labels, now));
    }
}

fn sorted(types: &[AssociationType]) -> Vec<AssociationType> {
    let mut types = types.to_vec();
    types.sort_unstable();
    types
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::leads::AssociationCategory;

    fn link(id: &str, types: &[i32]) -> Link {
        let category = AssociationCategory::HubspotDefined;
        let types = types.iter().map(|&type_id| AssociationType { category, type_id }).collect();
        Link { id: id.to_owned(), types }
    }

    fn links(records: Vec<Link>) -> Links {
        Links { lead: "1".to_owned(), records, is_complete: true }
    }

    fn shown(objects: &[(&str, &str)]) -> Associated {
        let object = |&(id, kind): &(&str, &str)| AssociatedObject {
            id: id.to_owned(),
            kind: kind.to_owned(),
        };
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
            Links { is_complete: false, ..other.clone() },
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
    async fn changed_and_truncated_lists_teach_nothing() {
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
        // An empty list that is not returned says how empty lists are rendered.
        labels.observe("deals", &links(Vec::new()), None);
        assert_eq!(labels.render("deals", &links(Vec::new())), Ok(None));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let labels = AssociationLabels::default();
        let one = links(vec![link("7", &[608])]);
        for type_of_record in 0..1_000 {
            labels.observe(&type_of_record.to_string(), &one, Some(&shown(&[("7", "plain")])));
        }
        for kind in 0..1_000 {
            labels.observe("0", &links(vec![link("7", &[kind])]), Some(&shown(&[("7", "plain")])));
        }
        let known = labels.0.lock();
        assert_eq!((known.len(), known["0"].shown.len()), (CAPACITY, CAPACITY));
    }
}
