//! Typed values of a lead in the units of Parquet.

use std::collections::BTreeSet;

use leadsd_base::time::CivilDate;

use crate::grpc::pb::{self, typed_value::Kind};

/// Seconds of a day.
const DAY: i64 = 86_400;

/// Type of the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli::export) enum ColumnType {
    Text,
    /// Number of 64 bits with floating point.
    Number,
    Boolean,
    /// Milliseconds since 1970, in UTC.
    Time,
    /// Days since 1970.
    Date,
    /// List of text.
    List,
}

// === impl ColumnType ===

impl ColumnType {
    /// Type of the column of a property: the one that `typed` reads return for it.
    pub(in crate::cli::export) fn new(property: &pb::LeadProperty) -> Self {
        match (property.r#type.as_str(), property.field_type.as_str()) {
            ("number", _) => Self::Number,
            ("bool", _) | ("enumeration", "booleancheckbox") => Self::Boolean,
            ("datetime", _) => Self::Time,
            ("date", _) => Self::Date,
            ("enumeration", "checkbox") => Self::List,
            _ => Self::Text,
        }
    }
}

/// Number of a typed value. `None` for another type, and for a number without a finite form.
#[expect(clippy::cast_precision_loss, reason = "HubSpot's numbers are floating point as well")]
pub(super) fn number(kind: &Kind) -> Option<f64> {
    let number = match kind {
        Kind::Int64Value(number) => *number as f64,
        Kind::DecimalValue(text) => text.parse().ok()?,
        Kind::StringValue(_)
        | Kind::BoolValue(_)
        | Kind::TimestampValue(_)
        | Kind::DateValue(_)
        | Kind::EnumValues(_) => return None,
    };
    number.is_finite().then_some(number)
}

/// Milliseconds of a time.
pub(super) fn millis(time: prost_types::Timestamp) -> Option<i64> {
    time.seconds.checked_mul(1_000)?.checked_add(i64::from(time.nanos / 1_000_000))
}

/// Days of a date since 1970. `None` if it does not exist.
pub(super) fn date_days(date: pb::Date) -> Option<i32> {
    let pb::Date { year, month, day } = date;
    let day = i8::try_from(day).ok()?;
    let date = CivilDate::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, day).ok()?;
    let since = date.duration_since(CivilDate::new(1970, 1, 1).ok()?);
    i32::try_from(since.as_secs() / DAY).ok()
}

/// Ids of associated records. A record with several association types has several entries.
pub(super) fn associated_ids(list: &pb::AssociatedObjects) -> Vec<&str> {
    let mut known = BTreeSet::new();
    let ids = list.objects.iter().map(|object| object.id.as_str());
    ids.filter(|id| known.insert(*id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_units_of_parquet() {
        for (kind, expected) in [
            (Kind::Int64Value(-7), Some(-7.0)),
            (Kind::DecimalValue("12.50".into()), Some(12.5)),
            (Kind::DecimalValue("1e999".into()), None),
            (Kind::StringValue("7".into()), None),
        ] {
            assert_eq!(number(&kind), expected, "{kind:?}");
        }
        for ((year, month, day), expected) in [
            ((1970, 1, 1), Some(0)),
            ((1969, 12, 31), Some(-1)),
            ((2026, 2, 28), Some(20_512)),
            ((2026, 2, 29), None),
            ((70_000, 1, 1), None),
        ] {
            assert_eq!(date_days(pb::Date { year, month, day }), expected, "{year}-{month}-{day}");
        }
        let time = |seconds, nanos| prost_types::Timestamp { seconds, nanos };
        assert_eq!(millis(time(2, 5_999_999)), Some(2_005));
        assert_eq!(millis(time(-1, 500_000_000)), Some(-500));
        assert_eq!(millis(time(i64::MAX, 0)), None);
    }

    #[test]
    fn properties_have_the_types_of_the_schema() {
        for (kind, field, expected) in [
            ("string", "text", ColumnType::Text),
            ("phone_number", "phonenumber", ColumnType::Text),
            ("number", "number", ColumnType::Number),
            ("bool", "booleancheckbox", ColumnType::Boolean),
            ("enumeration", "booleancheckbox", ColumnType::Boolean),
            ("enumeration", "checkbox", ColumnType::List),
            ("enumeration", "select", ColumnType::Text),
            ("datetime", "date", ColumnType::Time),
            ("date", "date", ColumnType::Date),
            ("new_type", "", ColumnType::Text),
        ] {
            let property = pb::LeadProperty {
                r#type: kind.into(),
                field_type: field.into(),
                ..Default::default()
            };
            assert_eq!(ColumnType::new(&property), expected, "{kind} {field}");
        }
    }
}
