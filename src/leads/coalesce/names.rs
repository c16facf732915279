//! What a single read calls associations. The associations of many leads are told in numbers of types,
//! those of one lead in names; which belongs to which is found out by reading one lead both ways, and
//! what has not been found out is not guessed.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::leads::{Associated, AssociatedObject, AssociationType, Link, Links};

/// How long a name is taken to hold: labels can be renamed.
const HOLDS: Duration = Duration::from_secs(600);

/// How long a type of record is read alone after HubSpot has refused to tell of many.
const REFUSED: Duration = Duration::from_secs(600);

/// The same at the most: until the end of a day.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Types of records, and combinations of associations to one, past which nothing more is learned.
/// Callers choose the first.
const MOST: usize = 64;

/// What is known in one portal, by type of record.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<HashMap<String, Known>>);

/// What is known of one type of record.
#[derive(Debug, Default)]
struct Known {
    /// What a single read shows of a record that is associated in these ways, and since when that is
    /// known. Nothing if it shows now this and now that.
    shown: HashMap<Vec<AssociationType>, (Option<Vec<String>>, Instant)>,
    /// Whether a single read shows a list where there is nothing to list.
    shows_empty: Option<bool>,
    /// Longest list that a single read has shown.
    longest: usize,
    /// Until when it is not asked for many.
    refused: Option<Instant>,
}

/// It is not known how a single read would show this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unknown;

// === impl Names ===

impl Names {
    /// Whether the associations of many leads to this type of record may be read at once.
    pub(super) fn may_ask(&self, to: &str) -> bool {
        let known = self.0.lock();
        match known.get(to) {
            Some(known) => known.refused.is_none_or(|until| Instant::now() >= until),
            None => known.len() < MOST,
        }
    }

    /// They may not, for as long as HubSpot says or for some time.
    pub(super) fn refuse(&self, to: &str, time: Option<Duration>) {
        let until = Instant::now() + time.unwrap_or(REFUSED).min(LONGEST);
        self.0.lock().entry(to.to_owned()).or_default().refused = Some(until);
    }

    /// What a single read would show.
    pub(super) fn show(&self, to: &str, links: &Links) -> Result<Option<Associated>, Unknown> {
        let all = self.0.lock();
        let known = all.get(to).ok_or(Unknown)?;
        if !links.is_whole {
            return Err(Unknown);
        }
        if links.records.is_empty() {
            let shows = known.shows_empty.ok_or(Unknown)?;
            return Ok(shows.then(Associated::default));
        }
        let mut objects = Vec::with_capacity(links.records.len());
        for Link { id, types } in &links.records {
            let (names, since) = known.shown.get(&sorted(types)).ok_or(Unknown)?;
            let names = names.as_ref().filter(|_| since.elapsed() < HOLDS).ok_or(Unknown)?;
            let object = |kind: &String| AssociatedObject { id: id.clone(), kind: kind.clone() };
            objects.extend(names.iter().map(object));
        }
        // A longer list might be cut.
        if objects.len() > known.longest {
            return Err(Unknown);
        }
        objects.sort_by(AssociatedObject::by_record);
        Ok(Some(Associated { objects, next: None }))
    }

    /// One lead was read both ways.
    pub(super) fn learn(&self, to: &str, links: &Links, shown: Option<&Associated>) {
        let mut all = self.0.lock();
        if all.len() >= MOST && !all.contains_key(to) {
            return;
        }
        let known = all.entry(to.to_owned()).or_default();
        let objects = shown.map(|shown| shown.objects.as_slice()).unwrap_or_default();
        known.longest = known.longest.max(objects.len());
        if !links.is_whole || shown.is_some_and(|shown| shown.next.is_some()) {
            return;
        }
        if links.records.is_empty() && objects.is_empty() {
            known.shows_empty = Some(shown.is_some());
            return;
        }
        if shown.is_none() {
            // Shown under another name, or not at all.
            known.refused = Some(Instant::now() + REFUSED);
            return;
        }
        let mut names: HashMap<&str, Vec<String>> = HashMap::new();
        for object in objects {
            names.entry(&object.id).or_default().push(object.kind.clone());
        }
        let is_same = names.len() == links.records.len()
            && links.records.iter().all(|link| names.contains_key(link.id.as_str()));
        // Else it has changed between the two reads.
        if is_same {
            for Link { id, types } in &links.records {
                known.remember(sorted(types), names.remove(id.as_str()).unwrap_or_default());
            }
        }
    }
}

// === impl Known ===

impl Known {
    fn remember(&mut self, types: Vec<AssociationType>, names: Vec<String>) {
        if self.shown.len() >= MOST && !self.shown.contains_key(&types) {
            return;
        }
        let now = Instant::now();
        let before = self.shown.get(&types).filter(|(_, since)| since.elapsed() < HOLDS);
        let names = match before {
            Some((before, _)) if before.as_ref() != Some(&names) => None,
            Some(_) | None => Some(names),
        };
        self.shown.insert(types, (names, now));
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
        Links { lead: "1".to_owned(), records, is_whole: true }
    }

    fn shown(objects: &[(&str, &str)]) -> Associated {
        let object = |&(id, kind): &(&str, &str)| AssociatedObject {
            id: id.to_owned(),
            kind: kind.to_owned(),
        };
        Associated { objects: objects.iter().map(object).collect(), next: None }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_both_ways_once_is_known_whatever_the_order() {
        let names = Names::default();
        let pair = links(vec![link("7", &[608]), link("10", &[578, 608])]);
        let expected = shown(&[("7", "plain"), ("10", "primary"), ("10", "plain")]);
        assert_eq!(names.show("contacts", &pair), Err(Unknown));
        names.learn("contacts", &pair, Some(&expected));
        assert_eq!(names.show("contacts", &pair), Ok(Some(expected.clone())));
        let other = links(vec![link("10", &[608, 578]), link("7", &[608])]);
        assert_eq!(names.show("contacts", &other), Ok(Some(expected)));
        // Nobody knows of this combination, of so many, of none, or of another type of record.
        for unknown in [
            links(vec![link("7", &[578])]),
            links((0..4).map(|id| link(&id.to_string(), &[608])).collect()),
            links(Vec::new()),
            Links { is_whole: false, ..other.clone() },
        ] {
            assert_eq!(names.show("contacts", &unknown), Err(Unknown), "{unknown:?}");
        }
        assert_eq!(names.show("companies", &other), Err(Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn what_shows_now_this_and_now_that_and_what_is_old_is_not_known() {
        let names = Names::default();
        let one = links(vec![link("7", &[608])]);
        names.learn("contacts", &one, Some(&shown(&[("7", "this")])));
        advance(HOLDS).await;
        assert_eq!(names.show("contacts", &one), Err(Unknown));
        names.learn("contacts", &one, Some(&shown(&[("7", "that")])));
        assert_eq!(names.show("contacts", &one), Ok(Some(shown(&[("7", "that")]))));
        names.learn("contacts", &one, Some(&shown(&[("7", "this")])));
        assert_eq!(names.show("contacts", &one), Err(Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_learned_from_what_changed_in_between_or_is_cut() {
        let names = Names::default();
        let one = links(vec![link("7", &[608])]);
        names.learn("contacts", &one, Some(&shown(&[("8", "plain")])));
        let cut = Associated { next: Some("8".to_owned()), ..shown(&[("7", "plain")]) };
        names.learn("contacts", &one, Some(&cut));
        assert_eq!(names.show("contacts", &one), Err(Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_single_read_does_not_show_by_its_name_is_not_asked_for_many() {
        let names = Names::default();
        let one = links(vec![link("7", &[608])]);
        names.learn("0-1", &one, None);
        assert!(!names.may_ask("0-1"));
        assert!(names.may_ask("contacts"));
        advance(REFUSED).await;
        assert!(names.may_ask("0-1"));
        // None of nothing says how nothing is shown.
        names.learn("deals", &links(Vec::new()), None);
        assert_eq!(names.show("deals", &links(Vec::new())), Ok(None));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let names = Names::default();
        let one = links(vec![link("7", &[608])]);
        for type_of_record in 0..1_000 {
            names.learn(&type_of_record.to_string(), &one, Some(&shown(&[("7", "plain")])));
        }
        for kind in 0..1_000 {
            names.learn("0", &links(vec![link("7", &[kind])]), Some(&shown(&[("7", "plain")])));
        }
        let known = names.0.lock();
        assert_eq!((known.len(), known["0"].shown.len()), (MOST, MOST));
    }
}
