//! Shapes of the contract's requests, and their agreement with the generated structs and the protos.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::FileDescriptorSet;

use super::*;
use crate::grpc::{DESCRIPTORS, pb};

const MAX_INPUTS: usize = 7_777;

fn sets() -> [FileDescriptorSet; 1] {
    [FileDescriptorSet::decode(DESCRIPTORS).unwrap()]
}

/// Shapes of all requests of the contract, with the names of their types.
fn shapes() -> (Shapes, Vec<(String, ShapeId)>) {
    let sets = sets();
    let mut builder = ShapesBuilder::new(&sets, MAX_INPUTS);
    let methods = sets[0].file.iter().flat_map(|file| &file.service).flat_map(|all| &all.method);
    let ids =
        methods.map(|method| (method.input_type().to_owned(), builder.add(method.input_type())));
    let ids = ids.collect();
    (builder.finish(), ids)
}

/// Repeated fields and maps that requests contain, as `Message.field`.
fn repeated_fields() -> BTreeSet<String> {
    let (sets, mut found) = (sets(), BTreeSet::new());
    let files = || sets[0].file.iter().filter(|file| file.package() == "leadsd.v1");
    let mut open: Vec<String> = files()
        .flat_map(|file| &file.service)
        .flat_map(|service| &service.method)
        .map(|method| method.input_type().to_owned())
        .collect();
    while let Some(name) = open.pop() {
        let short = name.trim_start_matches(".leadsd.v1.");
        let message = files().flat_map(|file| &file.message_type).find(|m| m.name() == short);
        let entries = message.into_iter().flat_map(|message| &message.nested_type);
        open.extend(
            entries.flat_map(|entry| &entry.field).map(|field| field.type_name().to_owned()),
        );
        for field in message.into_iter().flat_map(|message| &message.field) {
            if field.label() == prost_types::field_descriptor_proto::Label::Repeated {
                found.insert(format!("{short}.{}", field.name()));
            }
            open.push(field.type_name().to_owned());
        }
    }
    found
}

#[test]
fn every_repeated_field_of_a_request_has_a_maximum() {
    let listed: BTreeSet<_> = MAX_ITEMS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(listed, repeated_fields());
    assert_eq!(listed.len(), MAX_ITEMS.len());
}

/// Comment of a field in the protos.
fn comment(protos: &str, message: &str, field: &str) -> String {
    let body = protos.split(&format!("message {message} {{\n")).nth(1).unwrap();
    let body = body.split("\n}").next().unwrap();
    let mut comment = Vec::new();
    for line in body.lines().map(str::trim) {
        match line.strip_prefix("//") {
            Some(text) => comment.push(text.trim()),
            None if line.contains(&format!(" {field} = ")) => return comment.join(" "),
            None => comment.clear(),
        }
    }
    panic!("no field {message}.{field}");
}

#[test]
fn the_comment_of_every_repeated_field_states_its_maximum() {
    let read = |name: &str| {
        let path = format!("{}/proto/leadsd/v1/{name}.proto", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    };
    let protos = ["lead", "search", "leads_service", "schema_service", "export"].map(read).concat();
    for (name, max) in MAX_ITEMS {
        let (message, field) = name.split_once('.').unwrap();
        let comment = comment(&protos, message, field);
        let stated = match max {
            None => "at most `grpc.max_batch_inputs`".to_owned(),
            Some(1) => "at most one entry".to_owned(),
            Some(MAX_FILTERS_IN_GROUP) => "1 to 6 filters".to_owned(),
            Some(MAX_PROPERTIES) => "t most 2,000".to_owned(),
            Some(MAX_FILTER_VALUES) => "t most 1,000".to_owned(),
            Some(max) => format!("t most {max}"),
        };
        assert!(comment.contains(&stated), "{name}: {stated:?} in {comment:?}");
    }
}

#[test]
fn sizes_are_not_less_than_those_of_the_generated_structs() {
    let (shapes, ids) = shapes();
    let size = |name: &str| {
        let id = ids.iter().find(|(found, _)| found.ends_with(name)).unwrap().1;
        shapes.0[usize::from(id.0)].size
    };
    macro_rules! compare {
        ($($name:ident),*) => {$(
            let (estimate, real) = (size(concat!(".", stringify!($name))), size_of::<pb::$name>());
            assert!((real..=real + real / 2 + 16).contains(&estimate), "{estimate}, {real}");
        )*};
    }
    compare!(GetLeadRequest, ListLeadsRequest, CreateLeadRequest, UpdateLeadRequest);
    compare!(SearchLeadsRequest, BatchGetLeadsRequest, BatchCreateLeadsRequest, GetQuotaRequest);
    for (path, real) in [
        (&["BatchCreateLeadsRequest", "inputs"][..], size_of::<pb::LeadCreate>()),
        (&["BatchUpdateLeadsRequest", "inputs"], size_of::<pb::LeadUpdate>()),
        (&["BatchUpsertLeadsRequest", "inputs"], size_of::<pb::LeadUpsert>()),
        (&["CreateLeadRequest", "associations"], size_of::<pb::Association>()),
        (&["CreateLeadRequest", "associations", "types"], size_of::<pb::AssociationType>()),
        (&["SearchLeadsRequest", "filter_groups"], size_of::<pb::FilterGroup>()),
        (&["SearchLeadsRequest", "filter_groups", "filters"], size_of::<pb::Filter>()),
        (&["SearchLeadsRequest", "sorts"], size_of::<pb::Sort>()),
    ] {
        let mut id = ids.iter().find(|(name, _)| name.ends_with(path[0])).unwrap().1;
        let mut container = None;
        for name in &path[1..] {
            let fields = shapes.0[usize::from(id.0)].fields.iter().flatten();
            let field = fields.clone().find(|field| *field.name == **name).unwrap();
            container = field.repeated.map(|repeated| repeated.container);
            if let Content::Message(inner) = field.content {
                id = inner;
            }
        }
        let Some(Container::Vec(size)) = container else { panic!("{path:?}: {container:?}") };
        let size = size as usize;
        assert!((real..=2 * real + 16).contains(&size), "{path:?}: {size}, {real}");
    }
}

#[test]
fn batches_have_the_configured_maximum() {
    let (shapes, ids) = shapes();
    for (name, number) in [("BatchGetLeadsRequest", 1), ("BatchCreateLeadsRequest", 1)] {
        let id = ids.iter().find(|(found, _)| found.ends_with(name)).unwrap().1;
        let field = shapes.field(id, number).unwrap();
        assert_eq!(field.repeated.unwrap().max as usize, MAX_INPUTS);
        assert!(shapes.field(id, 99).is_none() && shapes.field(id, u32::MAX).is_none());
    }
}

/// Number of levels of messages in a message of this type.
fn depth(files: &FileDescriptorSet, name: &str) -> usize {
    let short = name.trim_start_matches(".leadsd.v1.");
    let mut messages = files.file.iter().flat_map(|file| &file.message_type);
    let Some(message) = messages.find(|message| message.name() == short) else {
        // The entry of a map, or an enum.
        return usize::from(!name.is_empty());
    };
    let inner = message.field.iter().map(|field| depth(files, field.type_name()));
    // The values of maps are in entries.
    let entries = message.nested_type.iter().flat_map(|entry| &entry.field);
    let values = entries.map(|field| 1 + depth(files, field.type_name()));
    1 + inner.chain(values).max().unwrap_or(0)
}

#[test]
fn no_request_is_nested_deeper_than_the_scan_follows() {
    let [files] = sets();
    let methods = files.file.iter().flat_map(|file| &file.service).flat_map(|all| &all.method);
    let deepest = methods.map(|method| depth(&files, method.input_type())).max().unwrap();
    assert!(deepest <= MAX_DEPTH, "{deepest} levels");
}

/// Reports whether a message of this type has repeated fields, at any depth.
fn has_repeated(shapes: &Shapes, id: ShapeId) -> bool {
    shapes.0[usize::from(id.0)].fields.iter().flatten().any(|field| match field.content {
        Content::Message(inner) => field.repeated.is_some() || has_repeated(shapes, inner),
        Content::Scalar(_) | Content::Text => field.repeated.is_some(),
    })
}

#[test]
fn the_scan_knows_which_messages_occurred() {
    let (shapes, _) = shapes();
    let mut merged = BTreeSet::new();
    for shape in &shapes.0 {
        for (number, field) in shape.fields.iter().enumerate() {
            let Some(field) = field else { continue };
            let Content::Message(id) = field.content else { continue };
            if field.repeated.is_none() && has_repeated(&shapes, id) {
                assert!(number < 64, "the scan has a bit for 64 numbers, not for {}", field.name);
                merged.insert(field.name.to_string());
            }
        }
    }
    let expected = [
        "contact",
        "create",
        "create_if_missing",
        "enum_values",
        "row",
        "update",
        "upsert",
        "value",
    ];
    assert_eq!(merged, expected.map(str::to_owned).into());
}

#[test]
fn a_vec_grows_as_the_standard_library_does() {
    let mut vec: Vec<[u8; 48]> = Vec::new();
    let mut charged = 0;
    for count in 1..=10_000 {
        vec.push([0; 48]);
        charged += Container::Vec(48).growth(count);
        assert_eq!(charged, vec.capacity() * 48);
    }
}
