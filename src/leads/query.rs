//! Read requests: validated at the edge, trusted from here on.

use std::fmt;

use super::lead::Lead;

/// Maximum length of an id in bytes: unique properties hold at most this.
const MAX_ID_BYTES: usize = 255;

/// Characters that change the path of a URL, even if they are percent-encoded: gateways decode them.
const PATH_CHARACTERS: [char; 4] = ['/', '\\', '?', '#'];

/// Maximum number of filters per group, by HubSpot's documentation.
pub const MAX_FILTERS_IN_GROUP: usize = 6;

/// Maximum number of filters in all groups, by HubSpot's documentation.
pub const MAX_FILTERS: usize = 18;

/// Record id, or value of a unique property: not empty, without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeadId(String);

/// Parts of a lead to return.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Selection {
    /// Property names; empty means HubSpot's default properties.
    pub properties: Vec<String>,
    /// Properties to return with their history.
    pub properties_with_history: Vec<String>,
    /// Object types whose associations to return.
    pub associations: Vec<String>,
}

/// Request for one lead.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GetLead {
    /// Id of the lead.
    pub id: LeadId,
    /// Unique property that `id` is a value of; `None` for the record id.
    pub id_property: Option<String>,
    /// Parts to return.
    pub selection: Selection,
    /// True: reads an archived lead.
    pub archived: bool,
}

/// Request for one page of all leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListLeads {
    /// Page size: 1 to 100.
    pub limit: u32,
    /// HubSpot's cursor; `None` for the first page.
    pub after: Option<String>,
    /// Parts to return of each lead.
    pub selection: Selection,
    /// True: lists archived leads.
    pub archived: bool,
}

/// Page of leads.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The leads.
    pub leads: Vec<Lead>,
    /// HubSpot's cursor for the next page; `None` on the last page.
    pub after: Option<String>,
}

/// Request for one page of a search.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SearchLeads {
    /// Text condition; empty for none.
    pub query: String,
    /// Filter groups; alternatives.
    pub filter_groups: Vec<FilterGroup>,
    /// Sort order; HubSpot accepts one entry.
    pub sort: Option<Sort>,
    /// Property names; none means HubSpot's default set.
    pub properties: Vec<String>,
    /// Page size: 1 to 200.
    pub limit: u32,
    /// Offset into the results, as HubSpot's cursor.
    pub after: Option<String>,
}

/// Filters that must all match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilterGroup {
    /// Filters: 1 to 6.
    pub filters: Vec<Filter>,
}

/// Condition on one property. The operator determines which values are set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Internal name of the property.
    pub property_name: String,
    /// Comparison operator.
    pub operator: FilterOperator,
    /// Operand.
    pub value: Option<String>,
    /// Upper bound of BETWEEN.
    pub high_value: Option<String>,
    /// Operands of IN and NOT_IN.
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

/// Sort order of a search.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sort {
    /// Internal name.
    pub property_name: String,
    /// Direction of the sort.
    pub direction: Direction,
}

/// Direction of a sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Smallest value first.
    Ascending,
    /// Largest value first.
    Descending,
}

/// Page of a search.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SearchPage {
    /// The leads.
    pub leads: Vec<Lead>,
    /// HubSpot's cursor for the next page.
    pub after: Option<String>,
    /// Total number of matching leads.
    pub total: u64,
}

/// Request for one page of the records that a lead is associated with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListAssociations {
    /// Record id of the lead.
    pub lead: LeadId,
    /// Object type of the records, such as `contacts`.
    pub to: String,
    /// Maximum number of records: 1 to 500.
    pub limit: u32,
    /// HubSpot's cursor of the page; `None` for the first page.
    pub after: Option<String>,
}

/// Request for 1 to 100 leads by id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BatchRead {
    /// Distinct ids: 1 to 100.
    pub ids: Vec<LeadId>,
    /// Unique property that the ids are values of; `None` for record ids.
    pub id_property: Option<String>,
    /// Property names; none means HubSpot's default set.
    pub properties: Vec<String>,
    /// Properties to return with their history.
    pub properties_with_history: Vec<String>,
    /// From the recycle bin.
    pub archived: bool,
}

// === impl LeadId ===

impl LeadId {
    /// Validates an id that may become a part of a URL. The error completes the sentence "the id ...".
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let id = Self::parse_for_body(text)?;
        if text.contains(PATH_CHARACTERS) {
            return Err(
                "must not contain `/`, `\\`, `?` or `#`; use the batch call, which accepts them",
            );
        }
        if !id.fits_url() {
            return Err("must not be `.` or `..`; use the batch call, which accepts it");
        }
        Ok(id)
    }

    /// Validates an id that is sent only in the body of a request. The error completes the sentence "the
    /// id ...".
    pub fn parse_for_body(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("must not be empty");
        }
        if text.len() > MAX_ID_BYTES {
            return Err("must not be longer than 255 bytes");
        }
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters");
        }
        Ok(Self(text.to_owned()))
    }

    /// True if the id can be a segment of a URL's path.
    pub fn fits_url(&self) -> bool {
        !self.0.contains(PATH_CHARACTERS) && self.0 != "." && self.0 != ".."
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
    /// Name in HubSpot's API.
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

#[cfg(test)]
mod tests;
