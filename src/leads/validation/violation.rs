//! Violations of the schema.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::leads::{error::FieldFault, schema::PartKey};

/// Rule that a write violates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ViolationKind {
    /// The portal has no such property.
    UnknownProperty,
    /// The property cannot be written.
    ReadOnly,
    /// The property that identifies the lead has no unique values, or does not exist.
    IdProperty,
    /// The value is no option of the property.
    Option,
    /// The value is no number.
    Number,
    /// The value is neither `true` nor `false`.
    Boolean,
    /// The value is no date.
    Date,
    /// The value is no point in time.
    DateTime,
    /// The text is too long.
    Length,
    /// The value is no id of an owner.
    Owner,
    /// The value is no pipeline, or no stage of the pipeline.
    Pipeline,
    /// The value violates a validation rule of the portal.
    Rule,
    /// The association type does not belong to the association.
    AssociationType,
}

/// Violation of the schema by one field of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::leads) struct Violation {
    /// The rule.
    pub(in crate::leads) kind: ViolationKind,
    /// The field, and the reason for the caller.
    pub(in crate::leads) fault: FieldFault,
    /// Object type of the record that an association change is about.
    object_type: Option<String>,
    /// True if the rule is the same in every portal.
    is_universal: bool,
    /// Name of the property and value that HubSpot would reject, hashed.
    confirmation: Confirmation,
}

/// Identity of a violation that HubSpot's rejection of a write confirms: the rule, the property, and the value
/// if the rule depends on it. Hashed, so that no value is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::leads) struct Confirmation(u64);

// === impl ViolationKind ===

impl ViolationKind {
    /// All kinds.
    pub const ALL: [Self; 13] = [
        Self::UnknownProperty,
        Self::ReadOnly,
        Self::IdProperty,
        Self::Option,
        Self::Number,
        Self::Boolean,
        Self::Date,
        Self::DateTime,
        Self::Length,
        Self::Owner,
        Self::Pipeline,
        Self::Rule,
        Self::AssociationType,
    ];

    /// Value of the label `kind` in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownProperty => "unknown_property",
            Self::ReadOnly => "read_only",
            Self::IdProperty => "id_property",
            Self::Option => "option",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::Length => "length",
            Self::Owner => "owner",
            Self::Pipeline => "pipeline",
            Self::Rule => "rule",
            Self::AssociationType => "association_type",
        }
    }

    /// True if another value of the same property may be valid although it looks alike: options and stages
    /// can be added.
    fn depends_on_value(self) -> bool {
        match self {
            Self::Option | Self::Pipeline | Self::Rule | Self::AssociationType => true,
            Self::UnknownProperty
            | Self::ReadOnly
            | Self::IdProperty
            | Self::Number
            | Self::Boolean
            | Self::Date
            | Self::DateTime
            | Self::Length
            | Self::Owner => false,
        }
    }
}

// === impl Violation ===

impl Violation {
    /// Creates the violation of a field. `name` and `value` are what HubSpot rejects.
    pub(super) fn new(
        kind: ViolationKind,
        field: impl Into<String>,
        (name, value): (&str, &str),
        description: impl Into<String>,
    ) -> Self {
        let fault = FieldFault::new(field, description);
        let confirmation = Confirmation::new(kind, name, value);
        Self { kind, fault, object_type: None, is_universal: false, confirmation }
    }

    /// Creates the violation of a property.
    pub(super) fn of_property(
        kind: ViolationKind,
        name: &str,
        value: &str,
        description: impl Into<String>,
    ) -> Self {
        let field = FieldFault::for_property(name, "").field;
        Self::new(kind, field, (name, value), description)
    }

    /// The violation by a record of this object type.
    #[must_use]
    pub(super) fn with_object_type(self, object_type: &str) -> Self {
        Self { object_type: Some(object_type.to_owned()), ..self }
    }

    /// The violation of a rule that is the same in every portal, whatever its schema.
    #[must_use]
    pub(super) fn universal(self) -> Self {
        Self { is_universal: true, ..self }
    }

    /// True if the violation follows from no copy of a schema.
    pub(in crate::leads) fn is_universal(&self) -> bool {
        self.is_universal
    }

    /// Part of the schema that the violation follows from.
    pub(in crate::leads) fn part(&self) -> PartKey {
        match (self.kind, &self.object_type) {
            (ViolationKind::AssociationType, Some(to)) => PartKey::AssociationTypes(to.clone()),
            (ViolationKind::Pipeline, _) => PartKey::Pipelines,
            (ViolationKind::Rule, _) => PartKey::ValidationRules,
            (
                ViolationKind::UnknownProperty
                | ViolationKind::ReadOnly
                | ViolationKind::IdProperty
                | ViolationKind::Option
                | ViolationKind::Number
                | ViolationKind::Boolean
                | ViolationKind::Date
                | ViolationKind::DateTime
                | ViolationKind::Length
                | ViolationKind::Owner
                | ViolationKind::AssociationType,
                _,
            ) => PartKey::Properties,
        }
    }

    /// Identity of the violation, which HubSpot's rejection of the write confirms.
    pub(in crate::leads) fn confirmation(&self) -> Confirmation {
        self.confirmation
    }
}

// === impl Confirmation ===

impl Confirmation {
    fn new(kind: ViolationKind, name: &str, value: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (kind, name).hash(&mut hasher);
        if kind.depends_on_value() {
            value.hash(&mut hasher);
        }
        Self(hasher.finish())
    }
}
