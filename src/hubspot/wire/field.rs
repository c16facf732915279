//! Fields of HubSpot's responses that could not be read.

/// Field of a response, the label of its count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseField {
    /// Record id.
    Id,
    /// One property, or all of them.
    Properties,
    /// Property history, or one of its values.
    PropertiesWithHistory,
    /// Associations, or one of them.
    Associations,
    /// Creation time.
    CreatedAt,
    /// Time of the last change.
    UpdatedAt,
    /// Archive flag.
    Archived,
    /// Time at which the lead was archived.
    ArchivedAt,
    /// URL of the record.
    Url,
    /// Warnings about a write.
    Warnings,
    /// Trace id of the input.
    ObjectWriteTraceId,
    /// Flag of a lead that an upsert created.
    New,
    /// One result as a whole.
    Results,
    /// One error of a batch.
    Errors,
    /// Number of results of a search.
    Total,
    /// A field with an unreadable name.
    Name,
}

/// Number of fields.
pub const FIELD_COUNT: usize = RESPONSE_FIELDS.len();

/// All fields, in the order of their discriminants.
pub const RESPONSE_FIELDS: [ResponseField; 16] = [
    ResponseField::Id,
    ResponseField::Properties,
    ResponseField::PropertiesWithHistory,
    ResponseField::Associations,
    ResponseField::CreatedAt,
    ResponseField::UpdatedAt,
    ResponseField::Archived,
    ResponseField::ArchivedAt,
    ResponseField::Url,
    ResponseField::Warnings,
    ResponseField::ObjectWriteTraceId,
    ResponseField::New,
    ResponseField::Results,
    ResponseField::Errors,
    ResponseField::Total,
    ResponseField::Name,
];

/// Number of values that could not be read in one response, by field. Takes no memory without any.
#[derive(Debug, Default)]
pub struct UnreadableFields(Option<Box<[u32; FIELD_COUNT]>>);

// === impl ResponseField ===

impl ResponseField {
    /// Name in HubSpot's JSON, and label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Properties => "properties",
            Self::PropertiesWithHistory => "propertiesWithHistory",
            Self::Associations => "associations",
            Self::CreatedAt => "createdAt",
            Self::UpdatedAt => "updatedAt",
            Self::Archived => "archived",
            Self::ArchivedAt => "archivedAt",
            Self::Url => "url",
            Self::Warnings => "warnings",
            Self::ObjectWriteTraceId => "objectWriteTraceId",
            Self::New => "new",
            Self::Results => "results",
            Self::Errors => "errors",
            Self::Total => "total",
            Self::Name => "name",
        }
    }
}

// === impl UnreadableFields ===

impl UnreadableFields {
    /// Counts one value.
    pub(super) fn count(&mut self, field: ResponseField) {
        let counts = self.0.get_or_insert_default();
        counts[field as usize] = counts[field as usize].saturating_add(1);
    }

    /// Fields with at least one unreadable value, and their number of values.
    pub fn iter(&self) -> impl Iterator<Item = (ResponseField, u32)> {
        let counts = self.0.iter().flat_map(|counts| RESPONSE_FIELDS.into_iter().zip(**counts));
        counts.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_in_the_order_of_their_discriminants_and_have_unique_labels() {
        for (index, field) in RESPONSE_FIELDS.into_iter().enumerate() {
            assert_eq!(field as usize, index);
            let same = RESPONSE_FIELDS.iter().filter(|other| other.as_str() == field.as_str());
            assert_eq!(same.count(), 1);
        }
    }

    #[test]
    fn unreadable_values_are_counted_by_field() {
        let mut fields = UnreadableFields::default();
        assert_eq!(fields.iter().count(), 0);
        [ResponseField::Url, ResponseField::Id, ResponseField::Url]
            .into_iter()
            .for_each(|field| fields.count(field));
        let counts: Vec<_> = fields.iter().collect();
        assert_eq!(counts, [(ResponseField::Id, 1), (ResponseField::Url, 2)]);
    }
}
