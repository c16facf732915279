//! Values of one column of a row group, with the levels that say which are missing and which begin a list.

use parquet::{
    data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type},
    errors::ParquetError,
    file::writer::SerializedColumnWriter,
};

use super::value::ColumnType;

/// Memory of a text beside its bytes.
const TEXT_OVERHEAD: usize = 64;

/// Memory of the levels of an entry.
const LEVELS: usize = 4;

/// Definition levels of a value in a list: no list, a list without entries, an entry.
const NO_LIST: i16 = 0;
const EMPTY_LIST: i16 = 1;
const ENTRY: i16 = 2;

/// Values of one column.
#[derive(Debug)]
pub(super) struct Leaf {
    values: Values,
    form: Form,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    bytes: usize,
}

#[derive(Debug)]
enum Values {
    Text(Vec<ByteArray>),
    Number(Vec<f64>),
    Boolean(Vec<bool>),
    Time(Vec<i64>),
    Date(Vec<i32>),
}

/// Levels of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// None.
    Required,
    /// Definition level 1 for a value.
    Optional,
    /// Definition and repetition levels of a list of values.
    List,
    /// The same of an optional field of an entry, whose value has definition level 3.
    Field,
}

// === impl Leaf ===

impl Leaf {
    pub(super) fn required_text() -> Self {
        Self::with_form(ColumnType::Text, Form::Required)
    }

    /// Values of a type, of which any can be missing.
    pub(super) fn optional(kind: ColumnType) -> Self {
        let form = if kind == ColumnType::List { Form::List } else { Form::Optional };
        Self::with_form(kind, form)
    }

    /// Optional fields of the entries of a list.
    pub(super) fn in_list(kind: ColumnType) -> Self {
        Self::with_form(kind, Form::Field)
    }

    fn with_form(kind: ColumnType, form: Form) -> Self {
        let values = match kind {
            ColumnType::Text | ColumnType::List => Values::Text(Vec::new()),
            ColumnType::Number => Values::Number(Vec::new()),
            ColumnType::Boolean => Values::Boolean(Vec::new()),
            ColumnType::Time => Values::Time(Vec::new()),
            ColumnType::Date => Values::Date(Vec::new()),
        };
        Self { values, form, definitions: Vec::new(), repetitions: Vec::new(), bytes: 0 }
    }

    /// Memory of the values.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push_null(&mut self) {
        self.level(0, 0);
    }

    pub(super) fn push_text(&mut self, text: Option<&str>) {
        self.level(i16::from(text.is_some()), 0);
        self.text(text);
    }

    pub(super) fn push_number(&mut self, number: Option<f64>) {
        self.level(i16::from(number.is_some()), 0);
        if let (Values::Number(values), Some(number)) = (&mut self.values, number) {
            values.push(number);
            self.bytes += size_of::<f64>();
        }
    }

    pub(super) fn push_boolean(&mut self, value: bool) {
        self.level(1, 0);
        if let Values::Boolean(values) = &mut self.values {
            values.push(value);
            self.bytes += size_of::<bool>();
        }
    }

    pub(super) fn push_date(&mut self, days: Option<i32>) {
        self.level(i16::from(days.is_some()), 0);
        if let (Values::Date(values), Some(days)) = (&mut self.values, days) {
            values.push(days);
            self.bytes += size_of::<i32>();
        }
    }

    pub(super) fn push_time(&mut self, millis: Option<i64>) {
        self.level(i16::from(millis.is_some()), 0);
        self.time(millis);
    }

    /// Adds a list of text. `None` for no list.
    pub(super) fn push_texts(&mut self, texts: Option<Vec<&str>>) {
        self.push_list(texts.as_deref(), |leaf, text| {
            leaf.text(Some(text));
            ENTRY
        });
    }

    /// Adds a list. `add` adds the value of an entry, and returns its definition level.
    pub(super) fn push_list<T>(
        &mut self,
        entries: Option<&[T]>,
        add: impl Fn(&mut Self, &T) -> i16,
    ) {
        match entries {
            None => self.level(NO_LIST, 0),
            Some([]) => self.level(EMPTY_LIST, 0),
            Some(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    let definition = add(self, entry);
                    self.level(definition, i16::from(index > 0));
                }
            }
        }
    }

    /// Adds a text of an entry; returns its definition level.
    pub(super) fn push_text_in(&mut self, text: Option<&str>) -> i16 {
        self.text(text);
        ENTRY + i16::from(text.is_some())
    }

    /// Adds a time of an entry; returns its definition level.
    pub(super) fn push_time_in(&mut self, millis: Option<i64>) -> i16 {
        self.time(millis);
        ENTRY + i16::from(millis.is_some())
    }

    /// Writes the values, and removes them.
    pub(super) fn write(
        &mut self,
        column: &mut SerializedColumnWriter<'_>,
    ) -> Result<(), ParquetError> {
        let (definitions, repetitions) = match self.form {
            Form::Required => (None, None),
            Form::Optional => (Some(&*self.definitions), None),
            Form::List | Form::Field => (Some(&*self.definitions), Some(&*self.repetitions)),
        };
        match &mut self.values {
            Values::Text(values) => {
                column.typed::<ByteArrayType>().write_batch(values, definitions, repetitions)?;
                values.clear();
            }
            Values::Number(values) => {
                column.typed::<DoubleType>().write_batch(values, definitions, repetitions)?;
                values.clear();
            }
            Values::Boolean(values) => {
                column.typed::<BoolType>().write_batch(values, definitions, repetitions)?;
                values.clear();
            }
            Values::Time(values) => {
                column.typed::<Int64Type>().write_batch(values, definitions, repetitions)?;
                values.clear();
            }
            Values::Date(values) => {
                column.typed::<Int32Type>().write_batch(values, definitions, repetitions)?;
                values.clear();
            }
        }
        self.definitions.clear();
        self.repetitions.clear();
        self.bytes = 0;
        Ok(())
    }

    fn level(&mut self, definition: i16, repetition: i16) {
        if self.form != Form::Required {
            self.definitions.push(definition);
            self.bytes += LEVELS;
        }
        if matches!(self.form, Form::List | Form::Field) {
            self.repetitions.push(repetition);
        }
    }

    fn text(&mut self, text: Option<&str>) {
        if let (Values::Text(values), Some(text)) = (&mut self.values, text) {
            values.push(ByteArray::from(text.as_bytes().to_vec()));
            self.bytes += text.len() + TEXT_OVERHEAD;
        }
    }

    fn time(&mut self, millis: Option<i64>) {
        if let (Values::Time(values), Some(millis)) = (&mut self.values, millis) {
            values.push(millis);
            self.bytes += size_of::<i64>();
        }
    }
}
