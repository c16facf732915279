//! Builds shapes from the descriptors of messages.

use std::collections::HashMap;

use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

use super::{
    Container, Content, DEFAULT_MAX_ITEMS, Field, MAX_COUNTERS, MAX_DEPTH, MAX_ITEMS, Repeated,
    Shape, ShapeId, Shapes, WireType,
};

/// Package of the contract.
const PACKAGE: &str = "leadsd.v1.";

/// Size in bytes of a `String`, a `Vec` or a `BTreeMap`, without what it owns.
const HANDLE: usize = size_of::<String>();

/// Builder of shapes. Message types are added with their first use.
#[derive(Debug)]
pub(crate) struct ShapesBuilder<'a> {
    types: HashMap<String, &'a DescriptorProto>,
    max_batch_inputs: u32,
    ids: HashMap<String, ShapeId>,
    shapes: Vec<Shape>,
}

// === impl ShapesBuilder ===

impl<'a> ShapesBuilder<'a> {
    /// Creates a builder of shapes of the message types in `sets`.
    pub(crate) fn new(sets: &'a [FileDescriptorSet], max_batch_inputs: usize) -> Self {
        let mut types = HashMap::new();
        for file in sets.iter().flat_map(|set| &set.file) {
            for message in &file.message_type {
                index(&mut types, file.package(), message);
            }
        }
        let max_batch_inputs = u32::try_from(max_batch_inputs).unwrap_or(u32::MAX);
        Self { types, max_batch_inputs, ids: HashMap::new(), shapes: Vec::new() }
    }

    /// Adds a message type by its full name, and those it contains. An unknown type has no fields.
    pub(crate) fn add(&mut self, name: &str) -> ShapeId {
        self.add_nested(name.trim_start_matches('.'), MAX_DEPTH)
    }

    /// Returns the shapes that were added.
    pub(crate) fn finish(self) -> Shapes {
        Shapes(self.shapes.into())
    }

    fn add_nested(&mut self, name: &str, depth: usize) -> ShapeId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        // The contract has a few dozen types.
        let id = ShapeId(u16::try_from(self.shapes.len()).unwrap_or(u16::MAX));
        self.shapes.push(Shape::default());
        // Known before its fields, which can have the same type.
        self.ids.insert(name.to_owned(), id);
        let descriptor = self.types.get(name).copied();
        // The scan rejects messages that are nested deeper.
        if let Some(descriptor) = descriptor.filter(|_| depth > 0) {
            self.shapes[usize::from(id.0)] = self.shape(name, descriptor, depth - 1);
        }
        id
    }

    fn shape(&mut self, name: &str, descriptor: &DescriptorProto, depth: usize) -> Shape {
        let numbers = descriptor.field.iter().map(FieldDescriptorProto::number);
        let max = numbers.max().and_then(|max| usize::try_from(max).ok()).unwrap_or(0);
        let mut fields = vec![None; max + 1];
        let (mut counters, mut size) = (0, 0);
        // Size of the largest field of each oneof.
        let mut oneofs = vec![0; descriptor.oneof_decl.len()];
        for field in &descriptor.field {
            let content = self.content(field, depth);
            let is_repeated = field.label() == Label::Repeated;
            let element = self.element_size(field.r#type(), content);
            let oneof = field.oneof_index.filter(|_| !field.proto3_optional());
            let oneof = oneof.and_then(|index| oneofs.get_mut(usize::try_from(index).ok()?));
            match (oneof, content) {
                _ if is_repeated => size += HANDLE,
                (Some(largest), _) => *largest = element.max(*largest),
                // An optional value has a discriminant.
                (None, Content::Message(_)) => size += element + 8,
                (None, Content::Scalar(_)) if field.proto3_optional() => size += 2 * element,
                (None, Content::Text | Content::Scalar(_)) => size += element,
            }
            let repeated = is_repeated.then(|| {
                let counter = counters;
                counters += 1;
                debug_assert!(usize::from(counter) < MAX_COUNTERS, "{name} has too many fields");
                let is_map = self.types.get(field.type_name().trim_start_matches('.')).is_some_and(
                    |entry| entry.options.as_ref().is_some_and(|options| options.map_entry()),
                );
                let element = u32::try_from(element).unwrap_or(u32::MAX);
                let container =
                    if is_map { Container::Map(element) } else { Container::Vec(element) };
                Repeated { counter, max: self.max_items(name, field.name()), container }
            });
            if let Some(slot) =
                usize::try_from(field.number()).ok().and_then(|number| fields.get_mut(number))
            {
                *slot = Some(Field { name: field.name().into(), content, repeated });
            }
        }
        // One that can be unset has a discriminant.
        size += oneofs.iter().filter(|size| **size > 0).map(|size| size + 8).sum::<usize>();
        Shape { fields: fields.into(), size: size.next_multiple_of(8) }
    }

    fn content(&mut self, field: &FieldDescriptorProto, depth: usize) -> Content {
        match field.r#type() {
            Type::String | Type::Bytes => Content::Text,
            Type::Message | Type::Group => {
                Content::Message(self.add_nested(field.type_name().trim_start_matches('.'), depth))
            }
            Type::Double | Type::Fixed64 | Type::Sfixed64 => Content::Scalar(WireType::Fixed64),
            Type::Float | Type::Fixed32 | Type::Sfixed32 => Content::Scalar(WireType::Fixed32),
            Type::Int64
            | Type::Uint64
            | Type::Int32
            | Type::Bool
            | Type::Uint32
            | Type::Enum
            | Type::Sint32
            | Type::Sint64 => Content::Scalar(WireType::Varint),
        }
    }

    /// Maximum size of an element in the decoded struct.
    fn element_size(&self, kind: Type, content: Content) -> usize {
        match content {
            Content::Text => HANDLE,
            Content::Message(id) => self.shapes[usize::from(id.0)].size,
            Content::Scalar(WireType::Fixed64) => 8,
            Content::Scalar(_) if matches!(kind, Type::Int64 | Type::Uint64 | Type::Sint64) => 8,
            Content::Scalar(_) => 4,
        }
    }

    fn max_items(&self, message: &str, field: &str) -> u32 {
        let listed = message.strip_prefix(PACKAGE).and_then(|message| {
            let name = format!("{message}.{field}");
            MAX_ITEMS.iter().find(|(listed, _)| *listed == name)
        });
        listed.map_or(DEFAULT_MAX_ITEMS, |(_, max)| max.unwrap_or(self.max_batch_inputs))
    }
}

/// Adds a message type and those nested in it by their full names.
fn index<'a>(
    types: &mut HashMap<String, &'a DescriptorProto>,
    scope: &str,
    message: &'a DescriptorProto,
) {
    let name = format!("{scope}.{}", message.name());
    for nested in &message.nested_type {
        index(types, &name, nested);
    }
    types.insert(name, message);
}
