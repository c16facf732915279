//! Shapes of request messages: the decoded size of each field, and the maximum number of its elements.
//!
//! The shapes are built once at startup from the descriptors. `transport::scan` checks messages
//! against them before they are decoded: two bytes on the wire can become a struct of a hundred bytes.

mod build;

use std::sync::Arc;

pub(crate) use self::build::ShapesBuilder;

/// Maximum depth of nested messages in a request.
pub(crate) const MAX_DEPTH: usize = 6;

/// Maximum number of repeated fields per message type.
pub(crate) const MAX_COUNTERS: usize = 4;

/// Maximum number of property names, or of properties of a lead. HubSpot permits 1,000 custom properties
/// per object type, beside its own.
pub(crate) const MAX_PROPERTIES: u32 = 2_000;

/// Maximum number of values of one property that is an enumeration.
const MAX_ENUM_VALUES: u32 = 1_000;

/// Maximum number of object types whose associations a read returns.
const MAX_OBJECT_TYPES: u32 = 100;

/// Maximum number of object types whose associations a batch read or a search returns: each takes one more
/// HubSpot call per hundred leads, of which HubSpot has a separate limit.
const MAX_BATCH_OBJECT_TYPES: u32 = 5;
/// Maximum number of object types whose association types a call lists.
const MAX_LISTED_OBJECT_TYPES: u32 = 16;

/// Maximum number of associations of a new lead.
const MAX_ASSOCIATIONS: u32 = 500;

/// Maximum number of types of one association.
const MAX_ASSOCIATION_TYPES: u32 = 100;

/// Maximum number of labels of one lead. Each is looked up in the schema.
const MAX_LABELS: u32 = 100;

/// Maximum number of operands of a filter. More do not fit in HubSpot's limit of 3,000 characters.
const MAX_FILTER_VALUES: u32 = 1_000;

/// Maximum number of filter groups of a search, by HubSpot's documentation.
pub(crate) const MAX_FILTER_GROUPS: u32 = 5;

/// Maximum number of filters per group, by HubSpot's documentation.
pub(crate) const MAX_FILTERS_IN_GROUP: u32 = 6;

/// Maximum number of sorts: HubSpot sorts by one property.
const MAX_SORTS: u32 = 1;

/// Maximum number of elements of a repeated field or map that is not listed here.
const DEFAULT_MAX_ITEMS: u32 = 100;

/// Maximum number of elements of each repeated field and map of the contract's requests. `None` is
/// `grpc.max_batch_inputs`.
const MAX_ITEMS: &[(&str, Option<u32>)] = &[
    ("AssociateLeadRequest.type_labels", Some(MAX_ASSOCIATION_TYPES)),
    ("AssociateLeadRequest.types", Some(MAX_ASSOCIATION_TYPES)),
    ("Association.type_labels", Some(MAX_ASSOCIATION_TYPES)),
    ("Association.types", Some(MAX_ASSOCIATION_TYPES)),
    ("BatchArchiveLeadsRequest.ids", None),
    ("BatchAssociateLeadsRequest.inputs", None),
    ("BatchCreateLeadsRequest.inputs", None),
    ("BatchDissociateLeadsRequest.inputs", None),
    ("BatchGetLeadsRequest.associations", Some(MAX_BATCH_OBJECT_TYPES)),
    ("BatchGetLeadsRequest.ids", None),
    ("BatchGetLeadsRequest.properties", Some(MAX_PROPERTIES)),
    ("BatchGetLeadsRequest.properties_with_history", Some(MAX_PROPERTIES)),
    ("BatchUpdateLeadsRequest.inputs", None),
    ("BatchUpsertLeadsRequest.inputs", None),
    ("CreateLeadRequest.associations", Some(MAX_ASSOCIATIONS)),
    ("CreateLeadRequest.labels", Some(MAX_LABELS)),
    ("CreateLeadRequest.properties", Some(MAX_PROPERTIES)),
    ("CreateLeadRequest.typed_properties", Some(MAX_PROPERTIES)),
    ("DissociateLeadRequest.type_labels", Some(MAX_ASSOCIATION_TYPES)),
    ("DissociateLeadRequest.types", Some(MAX_ASSOCIATION_TYPES)),
    ("EnumValues.values", Some(MAX_ENUM_VALUES)),
    ("ExportLeadsRequest.associations", Some(MAX_BATCH_OBJECT_TYPES)),
    ("ExportLeadsRequest.filter_groups", Some(MAX_FILTER_GROUPS)),
    ("ExportLeadsRequest.properties", Some(MAX_PROPERTIES)),
    ("ExportLeadsRequest.properties_with_history", Some(MAX_PROPERTIES)),
    ("Filter.values", Some(MAX_FILTER_VALUES)),
    ("FilterGroup.filters", Some(MAX_FILTERS_IN_GROUP)),
    ("GetLeadRequest.associations", Some(MAX_OBJECT_TYPES)),
    ("GetLeadRequest.properties", Some(MAX_PROPERTIES)),
    ("GetLeadRequest.properties_with_history", Some(MAX_PROPERTIES)),
    ("LeadAssociation.type_labels", Some(MAX_ASSOCIATION_TYPES)),
    ("LeadAssociation.types", Some(MAX_ASSOCIATION_TYPES)),
    ("LeadCreate.associations", Some(MAX_ASSOCIATIONS)),
    ("LeadCreate.labels", Some(MAX_LABELS)),
    ("LeadCreate.properties", Some(MAX_PROPERTIES)),
    ("LeadCreate.typed_properties", Some(MAX_PROPERTIES)),
    ("LeadUpdate.labels", Some(MAX_LABELS)),
    ("LeadUpdate.properties", Some(MAX_PROPERTIES)),
    ("LeadUpdate.typed_properties", Some(MAX_PROPERTIES)),
    ("LeadUpsert.associations", Some(MAX_ASSOCIATIONS)),
    ("LeadUpsert.labels", Some(MAX_LABELS)),
    ("LeadUpsert.properties", Some(MAX_PROPERTIES)),
    ("LeadUpsert.typed_properties", Some(MAX_PROPERTIES)),
    ("ListAssociationTypesRequest.to_object_types", Some(MAX_LISTED_OBJECT_TYPES)),
    ("ListLeadPropertiesRequest.names", Some(MAX_PROPERTIES)),
    ("ListLeadsRequest.associations", Some(MAX_OBJECT_TYPES)),
    ("ListLeadsRequest.properties", Some(MAX_PROPERTIES)),
    ("ListLeadsRequest.properties_with_history", Some(MAX_PROPERTIES)),
    ("NewContact.properties", Some(DEFAULT_MAX_ITEMS)),
    ("SearchLeadsRequest.associations", Some(MAX_BATCH_OBJECT_TYPES)),
    ("SearchLeadsRequest.filter_groups", Some(MAX_FILTER_GROUPS)),
    ("SearchLeadsRequest.properties", Some(MAX_PROPERTIES)),
    ("SearchLeadsRequest.sorts", Some(MAX_SORTS)),
    ("UpdateLeadRequest.labels", Some(MAX_LABELS)),
    ("UpdateLeadRequest.properties", Some(MAX_PROPERTIES)),
    ("UpdateLeadRequest.typed_properties", Some(MAX_PROPERTIES)),
    ("UpsertLeadRequest.associations", Some(MAX_ASSOCIATIONS)),
    ("UpsertLeadRequest.labels", Some(MAX_LABELS)),
    ("UpsertLeadRequest.properties", Some(MAX_PROPERTIES)),
    ("UpsertLeadRequest.typed_properties", Some(MAX_PROPERTIES)),
];

/// Shapes of all message types that requests contain.
#[derive(Debug)]
pub(crate) struct Shapes(Box<[Shape]>);

/// Index of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ShapeId(u16);

/// Shape of the requests of one method.
#[derive(Debug, Clone)]
pub(crate) struct RequestShape {
    pub(crate) shapes: Arc<Shapes>,
    pub(crate) root: ShapeId,
}

/// Shape of a message type.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    /// Fields by number; `None` for numbers without a field.
    fields: Box<[Option<Field>]>,
    /// Maximum size of the decoded struct in bytes, without what it owns.
    size: usize,
}

/// Field of a message type.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    pub(crate) content: Content,
    /// `None` for a singular field.
    pub(crate) repeated: Option<Repeated>,
}

/// Content of a field, or of each of its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Number or boolean with this wire type.
    Scalar(WireType),
    /// String or bytes.
    Text,
    /// Message.
    Message(ShapeId),
}

/// Wire type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireType {
    Varint,
    Fixed64,
    Length,
    StartGroup,
    EndGroup,
    Fixed32,
}

/// Container of the elements of a repeated field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Repeated {
    /// Index of its counter within the message.
    pub(crate) counter: u8,
    /// Maximum number of elements.
    pub(crate) max: u32,
    pub(crate) container: Container,
}

/// Type of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    /// `Vec` with elements of this size in bytes.
    Vec(u32),
    /// `BTreeMap` with entries of this size in bytes.
    Map(u32),
}

// === impl Shapes ===

impl Shapes {
    /// Looks up a field by its number; `None` if the message type has no such field.
    pub(crate) fn field(&self, shape: ShapeId, number: u32) -> Option<&Field> {
        self.0.get(usize::from(shape.0))?.fields.get(number as usize)?.as_ref()
    }
}

// === impl WireType ===

impl WireType {
    /// Wire type in the low bits of a key; `None` if it is invalid.
    pub(crate) fn from_key(key: u32) -> Option<Self> {
        Some(match key & 7 {
            0 => Self::Varint,
            1 => Self::Fixed64,
            2 => Self::Length,
            3 => Self::StartGroup,
            4 => Self::EndGroup,
            5 => Self::Fixed32,
            _ => return None,
        })
    }
}

// === impl Container ===

impl Container {
    /// Number of bytes by which the container grows when it gets its `count`th element. A `Vec` doubles its
    /// capacity, starting with four elements. A node of a `BTreeMap` has up to eleven elements, and nodes
    /// that were split are half full.
    pub(crate) fn growth(self, count: u32) -> usize {
        /// Size of a node of a `BTreeMap` besides its eleven entries.
        const NODE: usize = 112;
        let node = |entry: u32| NODE + 11 * entry as usize;
        match (self, count) {
            (Self::Vec(size), 1) => 4 * size as usize,
            (Self::Vec(size), _) if count > 4 && (count - 1).is_power_of_two() => {
                (count as usize - 1) * size as usize
            }
            (Self::Map(entry), 1) => node(entry),
            (Self::Map(entry), 12) => 2 * node(entry),
            (Self::Map(entry), 13..) => node(entry) / 5,
            (Self::Vec(_) | Self::Map(_), _) => 0,
        }
    }
}

#[cfg(test)]
mod tests;
