//! Rows of a Parquet file: columns with the types of the portal's schema.
//!
//! - `leaf`: values of one column of a row group. `value`: typed values of a lead.
//!
//! Rows are kept until they fill a row group, whose columns are then compressed one after another. The index
//! of the file is at its end, so a file that is not complete cannot be read or continued.

mod leaf;
mod value;

use std::{collections::BTreeMap, sync::Arc};

use parquet::{
    basic::{Compression, LogicalType, Repetition, TimeUnit, Type as PhysicalType, ZstdLevel},
    errors::ParquetError,
    file::{
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
    schema::types::{Type, TypePtr},
};

pub(super) use self::value::ColumnType;
use self::{
    leaf::Leaf,
    value::{associated_ids, date_days, millis, number},
};
use super::columns::{Column, Source};
use crate::grpc::pb::{self, typed_value::Kind};

/// Size of the values of a row group in bytes. The index of the file has an entry for each column of each
/// group.
const ROW_GROUP: usize = 16 << 20;

/// Level of zstd; its default in Parquet.
const ZSTD_LEVEL: i32 = 3;

/// Types of properties by name.
pub(super) type ColumnTypes = BTreeMap<String, ColumnType>;

/// Writer of a Parquet file.
#[derive(Debug)]
pub(super) struct ParquetRows {
    columns: Vec<TypedColumn>,
    writer: SerializedFileWriter<Vec<u8>>,
    /// Number of rows and size of the values of the current row group.
    rows: usize,
    bytes: usize,
    /// Number of values that have no place in the column of their property.
    pub(super) other_types: u64,
}

/// Column and its values in the current row group.
#[derive(Debug)]
struct TypedColumn {
    source: Source,
    kind: ColumnType,
    leaves: Vec<Leaf>,
}

// === impl ParquetRows ===

impl ParquetRows {
    /// A file with these columns. Properties without a type are text.
    pub(super) fn new(columns: Vec<Column>, types: &ColumnTypes) -> Result<Self, ParquetError> {
        let columns: Vec<(String, TypedColumn)> = columns
            .into_iter()
            .map(|Column { header, source }| {
                let kind = kind_of(&source, types);
                (header, TypedColumn { leaves: leaves_of(&source, kind), source, kind })
            })
            .collect();
        let fields: Result<Vec<TypePtr>, ParquetError> =
            columns.iter().map(|(header, column)| Ok(Arc::new(field(header, column)?))).collect();
        let schema = Type::group_type_builder("leads").with_fields(fields?).build()?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            // The index of pages would be kept in memory up to the end.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .set_created_by(format!("leadsd {}", env!("CARGO_PKG_VERSION")))
            .build();
        let writer = SerializedFileWriter::new(Vec::new(), schema.into(), properties.into())?;
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        Ok(Self { columns, writer, rows: 0, bytes: 0, other_types: 0 })
    }

    /// True if there is a column for a property.
    pub(super) fn has_column(&self, name: &str) -> bool {
        let is_own =
            |column: &TypedColumn| matches!(&column.source, Source::Property(own) if own == name);
        self.columns.iter().any(is_own)
    }

    /// Adds a lead. Appends the row group to `out` if it is full.
    pub(super) fn add(&mut self, out: &mut Vec<u8>, lead: &pb::Lead) -> Result<(), ParquetError> {
        for column in &mut self.columns {
            let before: usize = column.leaves.iter().map(Leaf::bytes).sum();
            self.other_types += u64::from(!column.add(lead));
            self.bytes += column.leaves.iter().map(Leaf::bytes).sum::<usize>() - before;
        }
        self.rows += 1;
        if self.bytes >= ROW_GROUP { self.end_group(out) } else { Ok(()) }
    }

    /// Appends the last rows and the index of the file.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), ParquetError> {
        if self.rows > 0 {
            self.end_group(out)?;
        }
        self.writer.finish()?;
        out.append(self.writer.inner_mut());
        Ok(())
    }

    fn end_group(&mut self, out: &mut Vec<u8>) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for leaf in self.columns.iter_mut().flat_map(|column| &mut column.leaves) {
            let Some(mut column) = group.next_column()? else { break };
            leaf.write(&mut column)?;
            column.close()?;
        }
        group.close()?;
        self.writer.flush()?;
        out.append(self.writer.inner_mut());
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}

// === impl TypedColumn ===

impl TypedColumn {
    /// Adds the value of a lead. False if it has none of the type of the column.
    fn add(&mut self, lead: &pb::Lead) -> bool {
        match (&self.source, self.leaves.as_mut_slice()) {
            (Source::Id, [leaf]) => leaf.push_text(Some(&lead.id)),
            (Source::CreateTime, [leaf]) => leaf.push_time(lead.create_time.and_then(millis)),
            (Source::UpdateTime, [leaf]) => leaf.push_time(lead.update_time.and_then(millis)),
            (Source::Associations(name), [leaf]) => {
                let list = lead.associations.get(name);
                leaf.push_texts(list.map(associated_ids));
            }
            (Source::History(name), [value, time, source_type, source_id]) => {
                let versions = lead.property_history.get(name).map(|history| &*history.versions);
                value.push_list(versions, |leaf, it| leaf.push_text_in(it.value.as_deref()));
                time.push_list(versions, |leaf, it| leaf.push_time_in(it.time.and_then(millis)));
                source_type
                    .push_list(versions, |leaf, it| leaf.push_text_in(Some(&it.source_type)));
                source_id.push_list(versions, |leaf, it| leaf.push_text_in(Some(&it.source_id)));
            }
            (Source::Property(name), [leaf]) => {
                let kind = lead.typed_properties.get(name).and_then(|value| value.kind.as_ref());
                return push_property(leaf, self.kind, kind);
            }
            // The leaves are those of the source.
            (_, _) => {}
        }
        true
    }
}

/// Adds the value of a property. False if the column has no place for it.
fn push_property(leaf: &mut Leaf, column: ColumnType, kind: Option<&Kind>) -> bool {
    match (column, kind) {
        (ColumnType::Text, Some(Kind::StringValue(text))) => leaf.push_text(Some(text)),
        (ColumnType::Number, Some(kind @ (Kind::Int64Value(_) | Kind::DecimalValue(_)))) => {
            let number = number(kind);
            leaf.push_number(number);
            return number.is_some();
        }
        (ColumnType::Boolean, Some(Kind::BoolValue(value))) => leaf.push_boolean(*value),
        (ColumnType::Time, Some(Kind::TimestampValue(time))) => {
            let time = millis(*time);
            leaf.push_time(time);
            return time.is_some();
        }
        (ColumnType::Date, Some(Kind::DateValue(date))) => {
            let days = date_days(*date);
            leaf.push_date(days);
            return days.is_some();
        }
        (ColumnType::List, Some(Kind::EnumValues(values))) => {
            leaf.push_texts(Some(values.values.iter().map(String::as_str).collect()));
        }
        (_, kind) => {
            leaf.push_null();
            return kind.is_none();
        }
    }
    true
}

/// Type of the values of a column.
fn kind_of(source: &Source, types: &ColumnTypes) -> ColumnType {
    match source {
        Source::Property(name) => types.get(name).copied().unwrap_or(ColumnType::Text),
        Source::Id => ColumnType::Text,
        Source::CreateTime | Source::UpdateTime => ColumnType::Time,
        Source::Associations(_) | Source::History(_) => ColumnType::List,
    }
}

/// Empty leaves of a column.
fn leaves_of(source: &Source, kind: ColumnType) -> Vec<Leaf> {
    match source {
        Source::Id => vec![Leaf::required_text()],
        Source::History(_) => vec![
            Leaf::in_list(ColumnType::Text),
            Leaf::in_list(ColumnType::Time),
            Leaf::in_list(ColumnType::Text),
            Leaf::in_list(ColumnType::Text),
        ],
        Source::Property(_) | Source::CreateTime | Source::UpdateTime | Source::Associations(_) => {
            vec![Leaf::optional(kind)]
        }
    }
}

/// Field of the schema.
fn field(header: &str, column: &TypedColumn) -> Result<Type, ParquetError> {
    match &column.source {
        Source::Id => primitive(header, ColumnType::Text, Repetition::REQUIRED),
        Source::History(_) => {
            let fields = [
                ("value", ColumnType::Text),
                ("time", ColumnType::Time),
                ("source_type", ColumnType::Text),
                ("source_id", ColumnType::Text),
            ]
            .map(|(name, kind)| primitive(name, kind, Repetition::OPTIONAL).map(Arc::new));
            let fields = fields.into_iter().collect::<Result<_, _>>()?;
            let element = Type::group_type_builder("element")
                .with_repetition(Repetition::REQUIRED)
                .with_fields(fields);
            list(header, element.build()?)
        }
        Source::Property(_) | Source::CreateTime | Source::UpdateTime | Source::Associations(_) => {
            match column.kind {
                ColumnType::List => {
                    list(header, primitive("element", ColumnType::Text, Repetition::REQUIRED)?)
                }
                kind @ (ColumnType::Text
                | ColumnType::Number
                | ColumnType::Boolean
                | ColumnType::Time
                | ColumnType::Date) => primitive(header, kind, Repetition::OPTIONAL),
            }
        }
    }
}

fn primitive(name: &str, kind: ColumnType, repetition: Repetition) -> Result<Type, ParquetError> {
    let (physical, logical) = match kind {
        ColumnType::Text | ColumnType::List => {
            (PhysicalType::BYTE_ARRAY, Some(LogicalType::String))
        }
        ColumnType::Number => (PhysicalType::DOUBLE, None),
        ColumnType::Boolean => (PhysicalType::BOOLEAN, None),
        ColumnType::Time => {
            (PhysicalType::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS)))
        }
        ColumnType::Date => (PhysicalType::INT32, Some(LogicalType::Date)),
    };
    Type::primitive_type_builder(name, physical)
        .with_repetition(repetition)
        .with_logical_type(logical)
        .build()
}

/// Optional list, in the form that the specification requires.
fn list(name: &str, element: Type) -> Result<Type, ParquetError> {
    let repeated = Type::group_type_builder("list")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![Arc::new(element)])
        .build()?;
    Type::group_type_builder(name)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(Some(LogicalType::List))
        .with_fields(vec![Arc::new(repeated)])
        .build()
}

#[cfg(test)]
mod tests;
