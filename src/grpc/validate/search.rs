//! Validates searches: filters, sort order and query.

use super::FieldFaults;
use crate::{
    grpc::{pb, shape},
    leads::{
        Direction, Filter, FilterGroup, FilterOperator, FilterPosition, MAX_FILTERS,
        MAX_FILTERS_IN_GROUP, Sort,
    },
};

/// Maximum number of filter groups.
const MAX_FILTER_GROUPS: usize = shape::MAX_FILTER_GROUPS as usize;

/// Maximum length of the query in characters, by HubSpot's documentation.
const MAX_QUERY_CHARS: usize = 3_000;

/// Value fields that an operator requires.
struct Operands {
    value: bool,
    high_value: bool,
    values: bool,
}

/// The filters whose operands are labels.
pub(crate) fn labelled_filters(groups: &[pb::FilterGroup]) -> Vec<FilterPosition> {
    let positions = groups.iter().enumerate().flat_map(|(group, own)| {
        let filters = own.filters.iter().enumerate().filter(|(_, own)| own.by_label);
        filters.map(move |(filter, _)| FilterPosition { group, filter })
    });
    positions.collect()
}

// === impl FieldFaults ===

impl FieldFaults {
    pub(crate) fn query(&mut self, query: &str) {
        if query.chars().count() > MAX_QUERY_CHARS {
            self.add("query", "must not be longer than 3,000 characters");
        }
    }

    pub(crate) fn sort(&mut self, sorts: &[pb::Sort]) -> Option<Sort> {
        if sorts.len() > 1 {
            self.add("sorts", "must not exceed 1 entry: HubSpot sorts by one property");
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
            self.add("filter_groups", "must not exceed 5 entries");
        }
        if groups.iter().map(|group| group.filters.len()).sum::<usize>() > MAX_FILTERS {
            self.add("filter_groups", "must not exceed 18 filters in all groups");
        }
        let mut out = Vec::with_capacity(groups.len().min(MAX_FILTER_GROUPS));
        for (index, group) in groups.iter().take(MAX_FILTER_GROUPS).enumerate() {
            let field = format!("filter_groups[{index}].filters");
            if group.filters.is_empty() {
                self.add(&field, "must not be empty");
            }
            if group.filters.len() > MAX_FILTERS_IN_GROUP {
                self.add(&field, "must not exceed 6 entries");
            }
            let mut filters = Vec::with_capacity(group.filters.len().min(MAX_FILTERS_IN_GROUP));
            for (index, filter) in group.filters.iter().take(MAX_FILTERS_IN_GROUP).enumerate() {
                filters.extend(self.filter(&format!("{field}[{index}]"), filter));
            }
            out.push(FilterGroup { filters });
        }
        out
    }

    /// Checks that each group has room for the filter on record ids that an export adds.
    pub(crate) fn room_for_window(&mut self, groups: &[FilterGroup]) {
        for (index, group) in groups.iter().enumerate() {
            if group.filters.len() == MAX_FILTERS_IN_GROUP {
                let field = format!("filter_groups[{index}].filters");
                self.add(field, "must not exceed 5 entries: an export adds one to each group");
            }
        }
        let filters: usize = groups.iter().map(|group| group.filters.len() + 1).sum();
        if filters > MAX_FILTERS {
            let description = "must not exceed 18 filters in all groups, with one that an export adds \
                               to each group";
            self.add("filter_groups", description);
        }
    }

    fn filter(&mut self, field: &str, filter: &pb::Filter) -> Option<Filter> {
        let property_name =
            self.name(&format_args!("{field}.property_name"), &filter.property_name);
        let operator = self.operator(field, filter.operator)?;
        let takes = Operands::for_operator(operator);
        self.operand(field, "value", takes.value, !filter.value.is_empty(), operator);
        self.operand(
            field,
            "high_value",
            takes.high_value,
            !filter.high_value.is_empty(),
            operator,
        );
        self.operand(field, "values", takes.values, !filter.values.is_empty(), operator);
        let takes_labels = matches!(
            operator,
            FilterOperator::Eq | FilterOperator::Neq | FilterOperator::In | FilterOperator::NotIn
        );
        if filter.by_label && !takes_labels {
            let description = format!("must be false for {}", operator.as_str());
            self.add(format!("{field}.by_label"), description);
        }
        Some(Filter {
            property_name: property_name?,
            operator,
            value: takes.value.then(|| filter.value.clone()),
            high_value: takes.high_value.then(|| filter.high_value.clone()),
            values: filter.values.clone(),
        })
    }

    fn operand(
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

// === impl Operands ===

impl Operands {
    fn for_operator(operator: FilterOperator) -> Self {
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
