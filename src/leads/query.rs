//! What can be read, and how: parsed at the edge, trusted from here on.

use std::fmt;

use super::lead::Lead;

/// Longest id that is sent to HubSpot, in bytes; unique properties hold at most this.
const MAX_ID_BYTES: usize = 255;

/// A record id, or a value of a unique property: not empty, no control characters, nothing that
/// could change the path of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeadId(String);

/// Which parts of a lead to answer with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Selection {
    /// Property names; none means HubSpot's default set.
    pub properties: Vec<String>,
    /// Properties to answer with their history.
    pub properties_with_history: Vec<String>,
    /// Object types to answer the associations to.
    pub associations: Vec<String>,
}

/// One lead.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GetLead {
    /// Which one.
    pub id: LeadId,
    /// The unique property that `id` is a value of.
    pub id_property: Option<String>,
    /// What of it.
    pub selection: Selection,
    /// From the recycle bin.
    pub archived: bool,
}

/// One page of all leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListLeads {
    /// 1 to 100.
    pub limit: u32,
    /// HubSpot's cursor.
    pub after: Option<String>,
    /// What of each lead.
    pub selection: Selection,
    /// The recycle bin instead.
    pub archived: bool,
}

/// Leads and where they go on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The leads.
    pub leads: Vec<Lead>,
    /// HubSpot's cursor for the next page.
    pub after: Option<String>,
}

/// One page of the leads that match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SearchLeads {
    /// Text condition; empty for none.
    pub query: String,
    /// Alternatives.
    pub filter_groups: Vec<FilterGroup>,
    /// Order; HubSpot takes one.
    pub sort: Option<Sort>,
    /// Property names; none means HubSpot's default set.
    pub properties: Vec<String>,
    /// 1 to 200.
    pub limit: u32,
    /// Offset into the results, as HubSpot's cursor.
    pub after: Option<String>,
}

/// Filters that must all match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilterGroup {
    /// 1 to 6.
    pub filters: Vec<Filter>,
}

/// A condition on one property. Which values are set fits the operator.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Internal name.
    pub property_name: String,
    /// How to compare.
    pub operator: FilterOperator,
    /// What to compare with.
    pub value: Option<String>,
    /// Upper bound of BETWEEN.
    pub high_value: Option<String>,
    /// Choices of IN and NOT_IN.
    pub values: Vec<String>,
}

/// HubSpot's thirteen operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are HubSpot's; the proto documents each")]
pub enum FilterOperator {
    Eq,
    Neq,
    Lt,
    Lte,
    Gt,
    Gte,
    Between,
    In,
    NotIn,
    HasProperty,
    NotHasProperty,
    ContainsToken,
    NotContainsToken,
}

/// Order of a search.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sort {
    /// Internal name.
    pub property_name: String,
    /// Which way.
    pub direction: Direction,
}

/// Direction of a sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// A page of matches.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SearchPage {
    /// The leads.
    pub leads: Vec<Lead>,
    /// HubSpot's cursor for the next page.
    pub after: Option<String>,
    /// How many match in all.
    pub total: u64,
}

/// Up to a hundred leads by id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BatchRead {
    /// 1 to 100 different ids.
    pub ids: Vec<LeadId>,
    /// The unique property that the ids are values of.
    pub id_property: Option<String>,
    /// Property names; none means HubSpot's default set.
    pub properties: Vec<String>,
    /// Properties to answer with their history.
    pub properties_with_history: Vec<String>,
    /// From the recycle bin.
    pub archived: bool,
}

// === impl LeadId ===

impl LeadId {
    /// Checks an id; the error says what is wrong with it and completes "the id ...".
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("must not be empty");
        }
        if text.len() > MAX_ID_BYTES {
            return Err("must not be longer than 255 bytes");
        }
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters");
        }
        if text.contains(['/', '\\', '?', '#']) {
            return Err("must not contain `/`, `\\`, `?` or `#`");
        }
        if text == "." || text == ".." {
            return Err("must not be `.` or `..`");
        }
        Ok(Self(text.to_owned()))
    }

    /// The id as text, not yet encoded for a URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LeadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl FilterOperator ===

impl FilterOperator {
    /// The name HubSpot gives it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "EQ",
            Self::Neq => "NEQ",
            Self::Lt => "LT",
            Self::Lte => "LTE",
            Self::Gt => "GT",
            Self::Gte => "GTE",
            Self::Between => "BETWEEN",
            Self::In => "IN",
            Self::NotIn => "NOT_IN",
            Self::HasProperty => "HAS_PROPERTY",
            Self::NotHasProperty => "NOT_HAS_PROPERTY",
            Self::ContainsToken => "CONTAINS_TOKEN",
            Self::NotContainsToken => "NOT_CONTAINS_TOKEN",
        }
    }
}
