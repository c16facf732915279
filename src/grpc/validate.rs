//! Checks of single fields: what passes here is worth a HubSpot call. Every fault names the field
//! by its path in the request.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use uuid::Uuid;

use super::pb;
use crate::leads::{
    Association, AssociationCategory, AssociationType, CreateLead, Direction, Error, FieldFault,
    Filter, FilterGroup, FilterOperator, LeadId, RequestId, Selection, Sort, UpdateLead,
    UpsertLead,
};

/// Page size when the caller names none; HubSpot's own default.
const DEFAULT_PAGE_SIZE: u32 = 10;

/// Most leads on a page, or ids in a batch, with property history.
pub(crate) const MAX_PAGE_SIZE_WITH_HISTORY: u32 = 50;

/// HubSpot's limits of a search.
const MAX_FILTER_GROUPS: usize = 5;
const MAX_FILTERS_IN_GROUP: usize = 6;
const MAX_FILTERS: usize = 18;
const MAX_QUERY_CHARS: usize = 3_000;

/// Longest property name or object type: HubSpot's own is 100 characters.
const MAX_NAME_CHARS: usize = 100;

/// Longest trace id.
const MAX_TRACE_ID_CHARS: usize = 128;

/// The association of a lead with its primary contact.
const PRIMARY_CONTACT: AssociationType =
    AssociationType { category: AssociationCategory::HubspotDefined, type_id: 578 };

/// The property that HubSpot wants every lead to have.
const LEAD_NAME: &str = "hs_lead_name";

/// Most faults collected before the rest is left unread.
const MAX_FAULTS: usize = 16;

/// Collects what is wrong with a request.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<FieldFault>);

// === impl Faults ===

impl Faults {
    pub(crate) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        if self.0.len() < MAX_FAULTS {
            self.0.push(FieldFault::new(field, description));
        }
    }

    /// Whether there is no use in looking further.
    fn is_full(&self) -> bool {
        self.0.len() >= MAX_FAULTS
    }

    /// The value, if there was no fault.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Error> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Error::invalid(self.0)),
        }
    }

    pub(crate) fn id(&mut self, field: &str, text: &str) -> Option<LeadId> {
        LeadId::parse(text).map_err(|description| self.add(field, description)).ok()
    }

    pub(crate) fn request_id(&mut self, text: &str) -> Option<RequestId> {
        if text.is_empty() {
            return None;
        }
        RequestId::parse(text).map_err(|description| self.add("request_id", description)).ok()
    }

    /// A property name or object type that may be left out.
    pub(crate) fn optional_name(&mut self, field: &str, text: &str) -> Option<String> {
        if text.is_empty() {
            return None;
        }
        self.name(&field, text)
    }

    /// `field` is written only where there is a fault.
    fn is_name(&mut self, field: &dyn fmt::Display, text: &str) -> bool {
        let fault = if text.is_empty() {
            "must not be empty"
        } else if text.chars().count() > MAX_NAME_CHARS {
            "must not be longer than 100 characters"
        } else if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == ',') {
            // Names are joined by commas on their way to HubSpot.
            "must not contain spaces, commas or control characters"
        } else {
            return true;
        };
        self.add(field.to_string(), fault);
        false
    }

    fn name(&mut self, field: &dyn fmt::Display, text: &str) -> Option<String> {
        self.is_name(field, text).then(|| text.to_owned())
    }

    pub(crate) fn names(&mut self, field: &str, names: Vec<String>) -> Vec<String> {
        let mut out: Vec<String> = Vec::with_capacity(names.len());
        for (index, name) in names.into_iter().enumerate() {
            if self.is_name(&format_args!("{field}[{index}]"), &name) && !out.contains(&name) {
                out.push(name);
            }
        }
        out
    }

    pub(crate) fn selection(
        &mut self,
        properties: Vec<String>,
        properties_with_history: Vec<String>,
        associations: Vec<String>,
    ) -> Selection {
        Selection {
            properties: self.names("properties", properties),
            properties_with_history: self.names("properties_with_history", properties_with_history),
            associations: self.names("associations", associations),
        }
    }

    pub(crate) fn page_size(&mut self, size: i32, max: u32) -> u32 {
        match u32::try_from(size) {
            Ok(0) => DEFAULT_PAGE_SIZE,
            Ok(size) if size <= max => size,
            Ok(_) => {
                self.add("page_size", format!("must not be over {max}"));
                max
            }
            Err(_) => {
                self.add("page_size", "must not be negative");
                max
            }
        }
    }

    /// Checks the number of inputs of a batch; false if they are not worth a look.
    pub(crate) fn inputs(&mut self, field: &str, count: usize, cap: usize) -> bool {
        if count == 0 {
            self.add(field, "must not be empty");
        } else if count > cap {
            self.add(field, format!("must not have more than {cap} entries, has {count}"));
        }
        (1..=cap).contains(&count)
    }

    pub(crate) fn ids(&mut self, ids: &[String]) -> Vec<LeadId> {
        let mut out = Vec::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            if self.is_full() {
                break;
            }
            out.extend(self.id(&format!("ids[{index}]"), id));
        }
        out
    }

    fn properties(
        &mut self,
        prefix: &str,
        properties: BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        for name in properties.keys() {
            self.name(&format_args!("{prefix}properties[{name:?}]"), name);
        }
        properties
    }

    /// A lead to create; `prefix` is the path of the message, ending in a dot, or empty.
    pub(crate) fn create(
        &mut self,
        prefix: &str,
        properties: BTreeMap<String, String>,
        primary_contact_id: &str,
        associations: &[pb::Association],
    ) -> Option<CreateLead> {
        let before = self.0.len();
        let properties = self.properties(prefix, properties);
        if properties.get(LEAD_NAME).is_none_or(|name| name.trim().is_empty()) {
            self.add(format!("{prefix}properties[\"{LEAD_NAME}\"]"), "must not be empty");
        }
        if primary_contact_id.is_empty() && associations.is_empty() {
            self.add(
                format!("{prefix}primary_contact_id"),
                "is required unless associations name a contact: a lead needs one",
            );
        }
        let mut out = Vec::with_capacity(associations.len() + 1);
        if !primary_contact_id.is_empty() {
            let to_id = self.id(&format!("{prefix}primary_contact_id"), primary_contact_id);
            out.extend(to_id.map(|to_id| Association { to_id, types: vec![PRIMARY_CONTACT] }));
        }
        for (index, association) in associations.iter().enumerate() {
            out.extend(self.association(&format!("{prefix}associations[{index}]"), association));
        }
        (self.0.len() == before).then_some(CreateLead { properties, associations: out })
    }

    fn association(&mut self, field: &str, association: &pb::Association) -> Option<Association> {
        let to_id = self.id(&format!("{field}.to_id"), &association.to_id);
        if association.types.is_empty() {
            self.add(format!("{field}.types"), "must not be empty");
        }
        let mut types = Vec::with_capacity(association.types.len());
        for (index, kind) in association.types.iter().enumerate() {
            types.extend(self.association_type(&format!("{field}.types[{index}]"), kind));
        }
        Some(Association { to_id: to_id?, types })
    }

    fn association_type(
        &mut self,
        field: &str,
        kind: &pb::AssociationType,
    ) -> Option<AssociationType> {
        use pb::AssociationCategory as Pb;
        let category = match Pb::try_from(kind.category) {
            Ok(Pb::Unspecified | Pb::HubspotDefined) => AssociationCategory::HubspotDefined,
            Ok(Pb::UserDefined) => AssociationCategory::UserDefined,
            Ok(Pb::IntegratorDefined) => AssociationCategory::IntegratorDefined,
            Ok(Pb::Work) => AssociationCategory::Work,
            Err(_) => {
                self.add(format!("{field}.category"), "is not a known category");
                return None;
            }
        };
        if kind.type_id < 1 {
            self.add(format!("{field}.type_id"), "must be greater than 0");
            return None;
        }
        Some(AssociationType { category, type_id: kind.type_id })
    }

    pub(crate) fn update(
        &mut self,
        prefix: &str,
        id: &str,
        id_property: &str,
        properties: BTreeMap<String, String>,
    ) -> Option<UpdateLead> {
        let before = self.0.len();
        let id = self.id(&format!("{prefix}id"), id);
        let id_property = self.optional_name(&format!("{prefix}id_property"), id_property);
        if properties.is_empty() {
            self.add(format!("{prefix}properties"), "must not be empty");
        }
        let properties = self.properties(prefix, properties);
        let update = UpdateLead { id: id?, id_property, properties };
        (self.0.len() == before).then_some(update)
    }

    pub(crate) fn upsert(
        &mut self,
        prefix: &str,
        id: &str,
        id_property: &str,
        properties: BTreeMap<String, String>,
    ) -> Option<UpsertLead> {
        let before = self.0.len();
        let id = self.id(&format!("{prefix}id"), id);
        let id_property = self.optional_name(&format!("{prefix}id_property"), id_property);
        let properties = self.properties(prefix, properties);
        let upsert = UpsertLead { id: id?, id_property, properties };
        (self.0.len() == before).then_some(upsert)
    }

    /// The caller's trace id, or a new one.
    pub(crate) fn trace_id(&mut self, field: &str, given: &str) -> String {
        if given.is_empty() {
            return Uuid::new_v4().to_string();
        }
        if given.len() > MAX_TRACE_ID_CHARS || !given.chars().all(|c| c.is_ascii_graphic()) {
            self.add(field, "must be 1 to 128 characters of printable ASCII without spaces");
        }
        given.to_owned()
    }

    /// Reports every key that stands more than once. Keys come with the field they are in.
    pub(crate) fn unique<K: std::hash::Hash + Eq>(
        &mut self,
        keys: impl IntoIterator<Item = (String, K)>,
    ) {
        let mut seen: HashMap<K, String> = HashMap::new();
        for (field, key) in keys {
            if self.is_full() {
                return;
            }
            match seen.get(&key) {
                Some(first) => self.add(field, format!("is the same as {first}")),
                None => {
                    seen.insert(key, field);
                }
            }
        }
    }

    pub(crate) fn query(&mut self, query: &str) {
        if query.chars().count() > MAX_QUERY_CHARS {
            self.add("query", "must not be longer than 3,000 characters");
        }
    }

    pub(crate) fn sort(&mut self, sorts: &[pb::Sort]) -> Option<Sort> {
        if sorts.len() > 1 {
            self.add("sorts", "must not have more than one entry: HubSpot sorts by one property");
        }
        let sort = sorts.first()?;
        let property_name = self.name(&"sorts[0].property_name", &sort.property_name)?;
        let direction = match pb::SortDirection::try_from(sort.direction) {
            Ok(pb::SortDirection::Unspecified | pb::SortDirection::Ascending) => {
                Direction::Ascending
            }
            Ok(pb::SortDirection::Descending) => Direction::Descending,
            Err(_) => {
                self.add("sorts[0].direction", "is not a known direction");
                return None;
            }
        };
        Some(Sort { property_name, direction })
    }

    pub(crate) fn filter_groups(&mut self, groups: &[pb::FilterGroup]) -> Vec<FilterGroup> {
        if groups.len() > MAX_FILTER_GROUPS {
            self.add("filter_groups", "must not have more than 5 entries");
        }
        if groups.iter().map(|group| group.filters.len()).sum::<usize>() > MAX_FILTERS {
            self.add("filter_groups", "must not have more than 18 filters in all");
        }
        let mut out = Vec::with_capacity(groups.len().min(MAX_FILTER_GROUPS));
        for (index, group) in groups.iter().take(MAX_FILTER_GROUPS).enumerate() {
            let field = format!("filter_groups[{index}].filters");
            if group.filters.is_empty() {
                self.add(&field, "must not be empty");
            }
            if group.filters.len() > MAX_FILTERS_IN_GROUP {
                self.add(&field, "must not have more than 6 entries");
            }
            let mut filters = Vec::with_capacity(group.filters.len().min(MAX_FILTERS_IN_GROUP));
            for (index, filter) in group.filters.iter().take(MAX_FILTERS_IN_GROUP).enumerate() {
                filters.extend(self.filter(&format!("{field}[{index}]"), filter));
            }
            out.push(FilterGroup { filters });
        }
        out
    }

    fn filter(&mut self, field: &str, filter: &pb::Filter) -> Option<Filter> {
        let property_name =
            self.name(&format_args!("{field}.property_name"), &filter.property_name);
        let operator = self.operator(field, filter.operator)?;
        let takes = Takes::of(operator);
        self.fits(field, "value", takes.value, !filter.value.is_empty(), operator);
        self.fits(field, "high_value", takes.high_value, !filter.high_value.is_empty(), operator);
        self.fits(field, "values", takes.values, !filter.values.is_empty(), operator);
        Some(Filter {
            property_name: property_name?,
            operator,
            value: takes.value.then(|| filter.value.clone()),
            high_value: takes.high_value.then(|| filter.high_value.clone()),
            values: filter.values.clone(),
        })
    }

    fn fits(
        &mut self,
        field: &str,
        name: &str,
        wanted: bool,
        given: bool,
        operator: FilterOperator,
    ) {
        let operator = operator.as_str();
        if wanted && !given {
            self.add(format!("{field}.{name}"), format!("must not be empty for {operator}"));
        } else if given && !wanted {
            self.add(format!("{field}.{name}"), format!("must be empty for {operator}"));
        }
    }

    fn operator(&mut self, field: &str, operator: i32) -> Option<FilterOperator> {
        use pb::FilterOperator as Pb;
        Some(match Pb::try_from(operator) {
            Ok(Pb::Eq) => FilterOperator::Eq,
            Ok(Pb::Neq) => FilterOperator::Neq,
            Ok(Pb::Lt) => FilterOperator::Lt,
            Ok(Pb::Lte) => FilterOperator::Lte,
            Ok(Pb::Gt) => FilterOperator::Gt,
            Ok(Pb::Gte) => FilterOperator::Gte,
            Ok(Pb::Between) => FilterOperator::Between,
            Ok(Pb::In) => FilterOperator::In,
            Ok(Pb::NotIn) => FilterOperator::NotIn,
            Ok(Pb::HasProperty) => FilterOperator::HasProperty,
            Ok(Pb::NotHasProperty) => FilterOperator::NotHasProperty,
            Ok(Pb::ContainsToken) => FilterOperator::ContainsToken,
            Ok(Pb::NotContainsToken) => FilterOperator::NotContainsToken,
            Ok(Pb::Unspecified) => {
                self.add(format!("{field}.operator"), "must be set");
                return None;
            }
            Err(_) => {
                self.add(format!("{field}.operator"), "is not a known operator");
                return None;
            }
        })
    }
}

/// Which value fields an operator takes.
struct Takes {
    value: bool,
    high_value: bool,
    values: bool,
}

// === impl Takes ===

impl Takes {
    fn of(operator: FilterOperator) -> Self {
        let (value, high_value, values) = match operator {
            FilterOperator::Between => (true, true, false),
            FilterOperator::In | FilterOperator::NotIn => (false, false, true),
            FilterOperator::HasProperty | FilterOperator::NotHasProperty => (false, false, false),
            FilterOperator::Eq
            | FilterOperator::Neq
            | FilterOperator::Lt
            | FilterOperator::Lte
            | FilterOperator::Gt
            | FilterOperator::Gte
            | FilterOperator::ContainsToken
            | FilterOperator::NotContainsToken => (true, false, false),
        };
        Self { value, high_value, values }
    }
}
