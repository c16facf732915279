//! Keyset windows: filters that select the leads behind a position, and the position behind a page.

use super::{
    PositionedPage, RECORD_ID, SearchPosition,
    order::{OrderKey, SearchOrder, filter},
    unusable,
};
use crate::leads::{
    error::Error,
    lead::Lead,
    query::{Direction, Filter, FilterGroup, FilterOperator, SearchLeads, SearchPage, Sort},
};

/// Maximum number of leads of one time that a position names. They fit in a page token, and a page has room
/// for others beside them.
pub const MAX_TIES: usize = 64;

/// Position behind the leads of earlier pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyset {
    /// Number of leads on earlier pages.
    pub sent: u64,
    /// Number of all leads that match, as the page before had it.
    pub total: u64,
    /// Bound of the window.
    pub bound: KeysetBound,
}

/// Bound of a keyset window. Times are in milliseconds since 1970. "Behind" is above in ascending order, and
/// below in descending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysetBound {
    /// Leads behind this record id.
    Id(u64),
    /// Leads at this time or behind it.
    Time {
        /// The time.
        millis: i64,
        /// Leads of this time that earlier pages have, in ascending order; at most [`MAX_TIES`].
        returned: Vec<u64>,
    },
    /// Leads of this time in ascending order of their ids, and those behind it on later pages.
    Tie {
        /// The time.
        millis: i64,
        /// Leads up to this id were read.
        id: u64,
        /// Leads with higher ids that earlier pages have, in ascending order; at most [`MAX_TIES`].
        returned: Vec<u64>,
    },
    /// Leads behind this time.
    BehindTime(i64),
}

/// Window from a position on.
pub(super) struct Window<'a> {
    pub(super) keyset: &'a Keyset,
    pub(super) order: &'a SearchOrder,
    /// Maximum number of leads on the page.
    pub(super) max: usize,
}

/// Lead with its record id and its time.
struct KeyedLead {
    id: u64,
    millis: i64,
    lead: Lead,
}

// === impl KeysetBound ===

impl KeysetBound {
    /// Leads in the window that earlier pages have.
    pub(super) fn returned(&self) -> &[u64] {
        match self {
            Self::Time { returned, .. } | Self::Tie { returned, .. } => returned,
            Self::Id(_) | Self::BehindTime(_) => &[],
        }
    }

    /// True if a search in this order has such bounds.
    pub(super) fn belongs_to(&self, order: &SearchOrder) -> bool {
        match (self, order.key) {
            (Self::Id(_), OrderKey::RecordId) => true,
            (Self::Time { .. } | Self::Tie { .. } | Self::BehindTime(_), OrderKey::Time(_)) => true,
            (Self::Id(_), OrderKey::Time(_))
            | (Self::Time { .. } | Self::Tie { .. } | Self::BehindTime(_), OrderKey::RecordId) => {
                false
            }
        }
    }
}

// === impl Keyset ===

impl Keyset {
    /// Adds the filters of the window to a search.
    pub(super) fn narrow(&self, order: &SearchOrder, search: &mut SearchLeads) {
        use FilterOperator::{Between, Gt, Gte, Lt, Lte};
        let is_ascending = order.direction == Direction::Ascending;
        let (behind, from) = if is_ascending { (Gt, Gte) } else { (Lt, Lte) };
        let property = search.sort.as_ref().map_or(RECORD_ID, |sort| &sort.property_name);
        let filters: Vec<Filter> = match &self.bound {
            KeysetBound::Id(id) => vec![filter(RECORD_ID, behind, id)],
            KeysetBound::Time { millis, .. } => vec![filter(property, from, millis)],
            KeysetBound::BehindTime(millis) => vec![filter(property, behind, millis)],
            KeysetBound::Tie { millis, id, .. } => {
                let high_value = Some(millis.to_string());
                let at = Filter { high_value, ..filter(property, Between, millis) };
                let (name, direction) = (RECORD_ID.to_owned(), Direction::Ascending);
                search.sort = Some(Sort { property_name: name, direction });
                vec![at, filter(RECORD_ID, Gt, id)]
            }
        };
        if search.filter_groups.is_empty() {
            search.filter_groups.push(FilterGroup { filters: Vec::new() });
        }
        for group in &mut search.filter_groups {
            group.filters.extend(filters.iter().cloned());
        }
    }
}

// === impl Window ===

impl Window<'_> {
    /// Accepts the response to the request of this window.
    pub(super) fn accept(&self, page: SearchPage) -> Result<PositionedPage, Error> {
        let SearchPage { leads, after, total } = page;
        let has_more = after.is_some() || total > leads.len() as u64;
        if leads.is_empty() && has_more {
            return Err(unusable("HubSpot's search counts further leads and returns none"));
        }
        let Keyset { sent, total: known, bound } = self.keyset;
        let skipped = bound.returned().len() as u64;
        let total = match bound {
            // The window has only the leads of one time.
            KeysetBound::Tie { .. } => *known,
            KeysetBound::Id(_) | KeysetBound::Time { .. } | KeysetBound::BehindTime(_) => {
                (sent + total).saturating_sub(skipped)
            }
        };
        let (leads, bound) = match bound {
            KeysetBound::Id(id) => self.divide_ids(*id, leads, has_more)?,
            KeysetBound::Time { millis, returned } => {
                let leads = self.keyed(leads)?;
                self.check_times(&leads, |first| self.order.is_sorted(*millis, first))?;
                self.divide_times(*millis, returned, leads, has_more)
            }
            KeysetBound::BehindTime(millis) => {
                let leads = self.keyed(leads)?;
                self.check_times(&leads, |first| !self.order.is_sorted(first, *millis))?;
                self.divide_times(*millis, &[], leads, has_more)
            }
            KeysetBound::Tie { millis, id, returned } => {
                self.divide_tie(*millis, *id, returned, leads, has_more)?
            }
        };
        let sent = sent + leads.len() as u64;
        let next = bound.map(|bound| SearchPosition::Keyset(Keyset { sent, total, bound }));
        Ok(PositionedPage { leads, total, next })
    }

    /// Finds the position behind a page of HubSpot's offsets, which is not the last one. `Err` with the page
    /// if its leads do not show it.
    pub(super) fn split_first(
        order: &SearchOrder,
        sent: u64,
        is_first: bool,
        page: SearchPage,
    ) -> Result<PositionedPage, SearchPage> {
        let place = |lead: &Lead| Some((record_id(lead).ok()?, order.value(lead)?));
        let Some(places) = page.leads.iter().map(place).collect::<Option<Vec<_>>>() else {
            return Err(page);
        };
        let is_sorted = places.is_sorted_by(|(_, a), (_, b)| order.is_sorted(*a, *b));
        let Some(((_, first), (id, last))) = places.first().zip(places.last()) else {
            return Err(page);
        };
        // Leads of the time of the first one may be on the page before.
        let is_tied = order.key != OrderKey::RecordId && !is_first && first == last;
        if !is_sorted || is_tied {
            return Err(page);
        }
        let SearchPage { leads, total, .. } = page;
        let (leads, bound) = match order.key {
            OrderKey::RecordId => (leads, Some(KeysetBound::Id(*id))),
            OrderKey::Time(_) => {
                let leads = places.into_iter().zip(leads);
                let leads = leads.map(|((id, millis), lead)| KeyedLead { id, millis, lead });
                let keyset = Keyset { sent, total, bound: KeysetBound::Id(0) };
                let window = Window { keyset: &keyset, order, max: usize::MAX };
                window.divide_times(i64::MIN, &[], leads.collect(), true)
            }
        };
        let sent = sent + leads.len() as u64;
        let next = bound.map(|bound| SearchPosition::Keyset(Keyset { sent, total, bound }));
        Ok(PositionedPage { leads, total, next })
    }

    fn divide_ids(
        &self,
        bound: u64,
        leads: Vec<Lead>,
        has_more: bool,
    ) -> Result<(Vec<Lead>, Option<KeysetBound>), Error> {
        let ids = leads.iter().map(record_id).collect::<Result<Vec<_>, _>>()?;
        let is_behind = |a: &u64, b: &u64| match self.order.direction {
            Direction::Ascending => a < b,
            Direction::Descending => a > b,
        };
        if !ids.is_sorted_by(is_behind) || ids.first().is_some_and(|id| !is_behind(&bound, id)) {
            return Err(unusable("HubSpot's search is not in the order of record ids"));
        }
        let next = ids.last().filter(|_| has_more).map(|id| KeysetBound::Id(*id));
        Ok((leads, next))
    }

    /// Divides leads from a time on, of which earlier pages have some.
    fn divide_times(
        &self,
        millis: i64,
        returned: &[u64],
        mut leads: Vec<KeyedLead>,
        has_more: bool,
    ) -> (Vec<Lead>, Option<KeysetBound>) {
        leads.retain(|lead| returned.binary_search(&lead.id).is_err());
        let has_more = has_more || leads.len() > self.max;
        leads.truncate(self.max);
        let last = leads.last().map_or(millis, |lead| lead.millis);
        let is_last = |lead: &KeyedLead| lead.millis == last;
        let earlier = if last == millis { returned } else { &[] };
        let mut ties: Vec<u64> =
            leads.iter().filter(|lead| is_last(lead)).map(|it| it.id).collect();
        let has_progress = !ties.is_empty();
        ties.extend(earlier);
        ties.sort_unstable();
        let next = if has_progress && ties.len() <= MAX_TIES {
            KeysetBound::Time { millis: last, returned: ties }
        } else {
            // The page has too many leads of this time, or none that are new.
            if has_more {
                leads.retain(|lead| !is_last(lead));
            }
            KeysetBound::Tie { millis: last, id: 0, returned: earlier.to_vec() }
        };
        let leads = leads.into_iter().map(|keyed| keyed.lead).collect();
        (leads, has_more.then_some(next))
    }

    /// Divides leads of one time in the order of their ids.
    fn divide_tie(
        &self,
        millis: i64,
        bound: u64,
        returned: &[u64],
        leads: Vec<Lead>,
        has_more: bool,
    ) -> Result<(Vec<Lead>, Option<KeysetBound>), Error> {
        let ids = leads.iter().map(record_id).collect::<Result<Vec<_>, _>>()?;
        if !ids.is_sorted_by(|a, b| a < b) || ids.first().is_some_and(|id| *id <= bound) {
            return Err(unusable("HubSpot's search is not in the order of record ids"));
        }
        let read_to = ids.last().copied().unwrap_or(bound);
        let leads = ids.into_iter().zip(leads);
        let mut leads: Vec<_> =
            leads.filter(|(id, _)| returned.binary_search(id).is_err()).collect();
        let has_more = has_more || leads.len() > self.max;
        leads.truncate(self.max);
        let next = if has_more {
            let id = leads.last().map_or(read_to, |(id, _)| *id);
            let returned = returned.iter().copied().filter(|own| *own > id).collect();
            KeysetBound::Tie { millis, id, returned }
        } else {
            KeysetBound::BehindTime(millis)
        };
        Ok((leads.into_iter().map(|(_, lead)| lead).collect(), Some(next)))
    }

    fn keyed(&self, leads: Vec<Lead>) -> Result<Vec<KeyedLead>, Error> {
        let keyed = |lead: Lead| {
            let millis = self.order.value(&lead);
            let millis =
                millis.ok_or_else(|| unusable("HubSpot's search has a lead without its time"))?;
            Ok(KeyedLead { id: record_id(&lead)?, millis, lead })
        };
        leads.into_iter().map(keyed).collect()
    }

    /// Checks that leads are in the order of their times. `fits` checks the first one.
    fn check_times(&self, leads: &[KeyedLead], fits: impl Fn(i64) -> bool) -> Result<(), Error> {
        let is_sorted = leads.is_sorted_by(|a, b| self.order.is_sorted(a.millis, b.millis));
        if !is_sorted || leads.first().is_some_and(|first| !fits(first.millis)) {
            return Err(unusable("HubSpot's search is not in the order of the times"));
        }
        Ok(())
    }
}

fn record_id(lead: &Lead) -> Result<u64, Error> {
    let id = lead.id.parse().ok();
    id.ok_or_else(|| unusable("HubSpot's search has a lead whose record id is not a number"))
}
