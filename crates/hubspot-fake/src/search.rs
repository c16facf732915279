//! Search of the fake: limits, operators and sort order.

use std::{cmp::Ordering, collections::BTreeMap};

use serde_json::Value;

use super::{
    errors::Failure,
    schema::{Property, Schema},
};
use leadsd_base::time::Timestamp;

/// Criteria of a search request, without the page.
pub(super) struct Search {
    groups: Vec<Vec<SearchFilter>>,
    query: String,
    /// Properties that the query matches; empty means all.
    searched: Vec<String>,
    sort: Option<(String, bool)>,
    pub(super) limit: usize,
    pub(super) after: usize,
}

struct SearchFilter {
    name: String,
    operator: String,
    value: String,
    high_value: String,
    values: Vec<String>,
}

// === impl Search ===

impl Search {
    pub(super) fn parse(body: &Value, searched: &[String]) -> Result<Self, Failure> {
        // Property names do not count.
        let conditions = [&body["query"], &body["filterGroups"]];
        if conditions.map(|part| part.to_string().chars().count()).iter().sum::<usize>() > 3_000 {
            return Err(Failure::validation("Query and filters are over 3000 characters"));
        }
        let mut groups = Vec::new();
        for group in list(&body["filterGroups"]) {
            let filters: Result<Vec<_>, _> =
                list(&group["filters"]).map(SearchFilter::parse).collect();
            groups.push(filters?);
        }
        let total: usize = groups.iter().map(Vec::len).sum();
        if groups.len() > 5 || total > 18 || groups.iter().any(|group| group.len() > 6) {
            return Err(Failure::validation("Too many filter groups or filters"));
        }
        if list(&body["sorts"]).count() > 1 {
            return Err(Failure::validation("Only one sort is allowed"));
        }
        let sort = list(&body["sorts"]).next().map(|sort| match sort.as_str() {
            Some(name) => (name.trim_start_matches('-').to_owned(), name.starts_with('-')),
            None => (text(&sort["propertyName"]), sort["direction"] == "DESCENDING"),
        });
        let limit = body["limit"].as_u64().unwrap_or(10);
        let after: u64 = text(&body["after"]).parse().unwrap_or(0);
        if limit > 200 || after + limit > 10_000 {
            return Err(Failure::validation("The page is outside of what a search can give"));
        }
        let limit = usize::try_from(limit).unwrap_or(0);
        let after = usize::try_from(after).unwrap_or(0);
        let query = text(&body["query"]).to_lowercase();
        Ok(Self { groups, query, searched: searched.to_vec(), sort, limit, after })
    }

    pub(super) fn matches(
        &self,
        properties: &BTreeMap<String, String>,
        contacts: &[String],
        schema: &Schema,
    ) -> bool {
        let searched =
            |name: &str| self.searched.is_empty() || self.searched.iter().any(|own| own == name);
        let words = || {
            let own = properties.iter().filter(|(name, _)| searched(name));
            own.flat_map(|(_, value)| tokens(value))
        };
        let found = self.query.is_empty()
            || tokens(&self.query).all(|wanted| words().any(|word| word.starts_with(&wanted)));
        let passes = |group: &Vec<SearchFilter>| {
            group.iter().all(|filter| filter.passes(properties, contacts, schema))
        };
        found && (self.groups.is_empty() || self.groups.iter().any(passes))
    }

    pub(super) fn order(
        &self,
        a: &BTreeMap<String, String>,
        b: &BTreeMap<String, String>,
    ) -> Ordering {
        let (name, descending) = match &self.sort {
            Some((name, descending)) => (name.as_str(), *descending),
            None => ("hs_object_id", false),
        };
        let value = |map: &BTreeMap<String, String>| map.get(name).cloned().unwrap_or_default();
        let order = compare(&value(a), &value(b));
        if descending { order.reverse() } else { order }
    }
}

// === impl SearchFilter ===

impl SearchFilter {
    fn parse(filter: &Value) -> Result<Self, Failure> {
        let values = list(&filter["values"]).map(text).collect();
        let filter = Self {
            name: text(&filter["propertyName"]),
            operator: text(&filter["operator"]),
            value: text(&filter["value"]),
            high_value: text(&filter["highValue"]),
            values,
        };
        let fits = match filter.operator.as_str() {
            "EQ" | "NEQ" | "LT" | "LTE" | "GT" | "GTE" | "CONTAINS_TOKEN"
            | "NOT_CONTAINS_TOKEN" => !filter.value.is_empty(),
            "BETWEEN" => !filter.value.is_empty() && !filter.high_value.is_empty(),
            "IN" | "NOT_IN" => !filter.values.is_empty(),
            "HAS_PROPERTY" | "NOT_HAS_PROPERTY" => true,
            _ => false,
        };
        if filter.name.is_empty() || !fits {
            return Err(Failure::validation("A filter is incomplete or has no known operator"));
        }
        Ok(filter)
    }

    fn passes(
        &self,
        properties: &BTreeMap<String, String>,
        contacts: &[String],
        schema: &Schema,
    ) -> bool {
        if self.name == "associations.contact" {
            let is = |id: &String| *id == self.value || self.values.contains(id);
            return contacts.iter().any(is) == matches!(self.operator.as_str(), "EQ" | "IN");
        }
        let own = properties.get(&self.name).filter(|value| !value.is_empty());
        let Some(own) = own else {
            return matches!(
                self.operator.as_str(),
                "NEQ" | "NOT_IN" | "NOT_HAS_PROPERTY" | "NOT_CONTAINS_TOKEN"
            );
        };
        let property = schema.get(&self.name);
        let against = |value: &str| compare(own, value);
        let equal = |value: &str| {
            // Options are compared exactly, texts ignoring case.
            let exact = property.is_some_and(Property::is_enumeration);
            if exact { own == value } else { against(value) == Ordering::Equal }
        };
        // Values of text lists must be lower case: others match nothing.
        let lower = |value: &&String| {
            !property.is_some_and(Property::is_text) || **value == value.to_lowercase()
        };
        let in_list = || self.values.iter().filter(lower).any(|value| equal(value));
        match self.operator.as_str() {
            "EQ" => equal(&self.value),
            "NEQ" => !equal(&self.value),
            "LT" => against(&self.value).is_lt(),
            "LTE" => against(&self.value).is_le(),
            "GT" => against(&self.value).is_gt(),
            "GTE" => against(&self.value).is_ge(),
            "BETWEEN" => against(&self.value).is_ge() && against(&self.high_value).is_le(),
            "IN" => in_list(),
            "NOT_IN" => !in_list(),
            "HAS_PROPERTY" => true,
            "CONTAINS_TOKEN" => contains(own, &self.value),
            "NOT_CONTAINS_TOKEN" => !contains(own, &self.value),
            _ => false,
        }
    }
}

/// Compares numbers as numbers, times as times, and everything else as text ignoring case.
fn compare(a: &str, b: &str) -> Ordering {
    if let (Some(a), Some(b)) = (number(a), number(b)) {
        return a.partial_cmp(&b).unwrap_or(Ordering::Equal);
    }
    a.to_lowercase().cmp(&b.to_lowercase())
}

fn number(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let time: Timestamp = text.parse().ok()?;
    time.as_millisecond().to_string().parse().ok()
}

/// True if `token` matches a whole word; `*` matches any characters.
fn contains(text: &str, token: &str) -> bool {
    let token = token.to_lowercase();
    match (token.strip_prefix('*'), token.strip_suffix('*')) {
        (Some(_), Some(_)) => text.to_lowercase().contains(token.trim_matches('*')),
        (Some(end), None) => tokens(text).any(|word| word.ends_with(end)),
        (None, Some(start)) => tokens(text).any(|word| word.starts_with(start)),
        (None, None) => tokens(text).any(|word| word == token),
    }
}

fn tokens(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().into_iter()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
    }
}
