//! Orders of searches that allow keyset windows.

use super::RECORD_ID;
use crate::leads::{
    lead::Lead,
    query::{
        Direction, Filter, FilterGroup, FilterOperator, MAX_FILTERS, MAX_FILTERS_IN_GROUP,
        SearchLeads, Sort,
    },
};
use leadsd_base::time::Timestamp;

/// Property with the time of the creation.
const CREATE_TIME: &str = "hs_createdate";

/// Property with the time of the last change.
const UPDATE_TIME: &str = "hs_lastmodifieddate";

/// Maximum length of the conditions of a search in characters of JSON, by HubSpot's documentation.
const MAX_CONDITION_CHARS: usize = 3_000;

/// Characters of JSON that a filter has beside its texts, and those of a window's filters in one group.
const FILTER_CHARS: usize = 80;
const WINDOW_CHARS: usize = 240;

/// Order of the results of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SearchOrder {
    pub(super) key: OrderKey,
    pub(super) direction: Direction,
}

/// Key that an order compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderKey {
    /// Record ids, which are distinct.
    RecordId,
    /// Times in this property, which may be equal.
    Time(&'static str),
}

// === impl SearchOrder ===

impl SearchOrder {
    /// Order of a sort, or of a search without one. `None` if it does not allow keyset windows.
    pub(super) fn from_sort(sort: Option<&Sort>) -> Option<Self> {
        let Some(Sort { property_name, direction }) = sort else {
            let key = OrderKey::Time(CREATE_TIME);
            return Some(Self { key, direction: Direction::Ascending });
        };
        let key = match property_name.as_str() {
            RECORD_ID => OrderKey::RecordId,
            CREATE_TIME => OrderKey::Time(CREATE_TIME),
            UPDATE_TIME => OrderKey::Time(UPDATE_TIME),
            _ => return None,
        };
        Some(Self { key, direction: *direction })
    }

    pub(super) fn sort(&self) -> Sort {
        let property_name = match self.key {
            OrderKey::RecordId => RECORD_ID,
            OrderKey::Time(name) => name,
        };
        Sort { property_name: property_name.to_owned(), direction: self.direction }
    }

    /// True if each filter group has room for the filters of a window: one on record ids, or two if leads of
    /// one time are read in the order of their ids.
    pub(super) fn has_room(&self, search: &SearchLeads) -> bool {
        let added = match self.key {
            OrderKey::RecordId => 1,
            OrderKey::Time(_) => 2,
        };
        let groups = &search.filter_groups;
        let sizes = || groups.iter().map(|group| group.filters.len() + added);
        let chars = text_chars(&search.query)
            + groups.iter().map(|group| group_chars(group) + WINDOW_CHARS).sum::<usize>();
        sizes().all(|size| size <= MAX_FILTERS_IN_GROUP)
            && sizes().sum::<usize>() <= MAX_FILTERS
            && chars <= MAX_CONDITION_CHARS
    }

    /// Milliseconds since 1970 of a lead's time in this order; its record id in an order of ids.
    pub(super) fn value(&self, lead: &Lead) -> Option<i64> {
        match self.key {
            OrderKey::RecordId => lead.id.parse().ok(),
            OrderKey::Time(name) => {
                let text = lead.properties.get(name)?;
                let time = text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond);
                time.or_else(|| text.parse().ok())
            }
        }
    }

    /// True if `a` may stand before `b`.
    pub(super) fn is_sorted(&self, a: i64, b: i64) -> bool {
        match self.direction {
            Direction::Ascending => a <= b,
            Direction::Descending => a >= b,
        }
    }
}

/// Upper bound of the characters of a group in JSON.
fn group_chars(group: &FilterGroup) -> usize {
    let chars = |filter: &Filter| {
        let Filter { property_name, operator: _, value, high_value, values } = filter;
        let values: usize = values.iter().map(|value| text_chars(value) + 3).sum();
        let texts = [Some(property_name), value.as_ref(), high_value.as_ref()];
        let texts: usize = texts.into_iter().flatten().map(|text| text_chars(text)).sum();
        texts + values + FILTER_CHARS
    };
    group.filters.iter().map(chars).sum()
}

/// Characters of a text in JSON: `"` and `\` have two, control characters six.
fn text_chars(text: &str) -> usize {
    let chars = |c: char| match c {
        '"' | '\\' => 2,
        c if c.is_control() => 6,
        _ => 1,
    };
    text.chars().map(chars).sum()
}

/// A filter with one operand.
pub(super) fn filter(name: &str, operator: FilterOperator, value: impl ToString) -> Filter {
    Filter {
        property_name: name.to_owned(),
        operator,
        value: Some(value.to_string()),
        high_value: None,
        values: Vec::new(),
    }
}
