//! Contract that is compiled in: methods and message types by name. No call needs server reflection.

use std::sync::LazyLock;

use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, MessageDescriptor, MethodDescriptor,
    ServiceDescriptor,
};

use leadsd_base::nearest::nearest;

use crate::grpc;

/// Error of a name that stands for no method or type, or for several.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnknownName {
    #[error("leadsd has no method {name:?}{hint}; `leadsd call --list` shows all")]
    Method { name: String, hint: String },
    #[error("leadsd has no method or type {name:?}{hint}; `leadsd call --list` shows the methods")]
    MethodOrType { name: String, hint: String },
    #[error("several methods have the name {name:?}: use {}", all.join(" or "))]
    Ambiguous { name: String, all: Vec<String> },
}

/// Method, message type or enum of the contract.
#[derive(Debug)]
pub(super) enum Described {
    Method(MethodDescriptor),
    Message(MessageDescriptor),
    Enum(EnumDescriptor),
}

/// Descriptors of the contract with the details of errors, and of gRPC's services that leadsd serves.
fn pools() -> &'static [DescriptorPool] {
    static POOLS: LazyLock<Vec<DescriptorPool>> = LazyLock::new(|| {
        let sets = [
            grpc::DESCRIPTORS,
            grpc::health_list::descriptors(),
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        // The sets are compiled in, and a test decodes each.
        sets.into_iter().filter_map(|set| DescriptorPool::decode(set).ok()).collect()
    });
    &POOLS
}

/// All services, those of leadsd first.
pub(super) fn services() -> impl Iterator<Item = ServiceDescriptor> {
    pools().iter().flat_map(DescriptorPool::services)
}

/// All methods, those of leadsd first.
pub(super) fn methods() -> impl Iterator<Item = MethodDescriptor> {
    services().flat_map(|service| service.methods().collect::<Vec<_>>())
}

/// Full name of a method as in a path, such as `leadsd.v1.LeadsService/GetLead`.
pub(super) fn method_name(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

/// Shortest name of a method: with its service if several services have one of this name.
pub(super) fn completed_name(method: &MethodDescriptor) -> String {
    match find_method(method.name()) {
        Ok(_) => method.name().to_owned(),
        Err(_) => method_name(method),
    }
}

/// Finds a method by its name, with or without its service and package.
pub(super) fn find_method(name: &str) -> Result<MethodDescriptor, UnknownName> {
    let dotted = name.trim_start_matches('/').replace('/', ".");
    let ending = format!(".{dotted}");
    let is_match = |method: &MethodDescriptor| {
        let full = method.full_name();
        full == dotted || full.ends_with(&ending)
    };
    let mut found: Vec<_> = methods().filter(is_match).collect();
    match (found.pop(), found.is_empty()) {
        (Some(method), true) => Ok(method),
        (Some(last), false) => {
            let all = found.iter().chain([&last]).map(method_name).collect();
            Err(UnknownName::Ambiguous { name: name.to_owned(), all })
        }
        (None, _) => {
            let names: Vec<_> = methods().map(|method| method.name().to_owned()).collect();
            let hint = hint(short(&dotted), names.iter().map(String::as_str));
            Err(UnknownName::Method { name: name.to_owned(), hint })
        }
    }
}

/// Finds a method, message type or enum by its name, with or without its package.
pub(super) fn find(name: &str) -> Result<Described, UnknownName> {
    match find_method(name) {
        Ok(method) => return Ok(Described::Method(method)),
        Err(error @ UnknownName::Ambiguous { .. }) => return Err(error),
        Err(UnknownName::Method { .. } | UnknownName::MethodOrType { .. }) => {}
    }
    let ending = format!(".{name}");
    let is_match = |full: &str| full == name || full.ends_with(&ending);
    for pool in pools() {
        if let Some(message) = pool.all_messages().find(|message| is_match(message.full_name())) {
            return Ok(Described::Message(message));
        }
        if let Some(found) = pool.all_enums().find(|declared| is_match(declared.full_name())) {
            return Ok(Described::Enum(found));
        }
    }
    let mut names: Vec<_> = methods().map(|method| method.name().to_owned()).collect();
    names.extend(pools()[0].all_messages().map(|message| message.name().to_owned()));
    let hint = hint(short(name), names.iter().map(String::as_str));
    Err(UnknownName::MethodOrType { name: name.to_owned(), hint })
}

/// Finds a message type by its full name.
pub(super) fn find_message(full_name: &str) -> Option<MessageDescriptor> {
    pools().iter().find_map(|pool| pool.get_message_by_name(full_name))
}

/// Finds a field by its name in the proto or in JSON. The error is a predicate of the unknown name.
pub(super) fn find_field(
    message: &MessageDescriptor,
    name: &str,
) -> Result<FieldDescriptor, String> {
    let found = message.get_field_by_name(name);
    found.or_else(|| message.get_field_by_json_name(name)).ok_or_else(|| {
        let names: Vec<_> = message.fields().map(|field| field.name().to_owned()).collect();
        let hint = match hint(name, names.iter().map(String::as_str)) {
            hint if !hint.is_empty() => hint,
            _ if names.is_empty() => "; it has no fields".to_owned(),
            _ => format!("; it has {}", names.join(", ")),
        };
        format!("is no field of {}{hint}", message.name())
    })
}

/// Suggestion to append to an error about `name`; empty without a similar name.
pub(super) fn hint<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, candidates).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default()
}

/// Last segment of a dotted name.
fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Documentation of a descriptor: the comment before it in the proto; empty if it has none.
pub(super) fn comment(
    file: &prost_reflect::prost_types::FileDescriptorProto,
    path: &[i32],
) -> String {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    let location = locations.into_iter().find(|location| location.path == path);
    let text = location.map(|location| location.leading_comments()).unwrap_or_default();
    let lines: Vec<_> = text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    lines.join("\n").trim().to_owned()
}

/// First sentence of a method's documentation.
pub(super) fn summary(method: &MethodDescriptor) -> String {
    let file = method.parent_file();
    let text = comment(file.file_descriptor_proto(), method.path()).replace('\n', " ");
    match text.find(". ") {
        Some(end) => text[..=end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests;
