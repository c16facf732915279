//! `leadsd call --list` and `--describe`: methods and types with their comments in the proto.

use std::{collections::BTreeSet, fmt::Write as _};

use prost_reflect::{
    EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    prost_types::FileDescriptorProto,
};

use super::contract::{Described, comment, method_name, services, summary};

/// Column of the summaries in the list of methods.
const SUMMARY_COLUMN: usize = 24;

/// All methods by service, each with the first sentence of its comment.
pub(super) fn list() -> String {
    let mut out = String::new();
    for service in services() {
        if !out.is_empty() {
            out.push('\n');
        }
        push_line(&mut out, 0, service.full_name());
        for method in service.methods() {
            let line = format!("{:SUMMARY_COLUMN$}{}", method.name(), summary(&method));
            push_line(&mut out, 2, line.trim_end());
        }
    }
    out
}

/// A method with its request and response, or a type, with all types that it contains.
pub(super) fn describe(described: &Described) -> String {
    let mut out = String::new();
    let mut types = Types::default();
    match described {
        Described::Method(method) => {
            push_method(&mut out, method);
            types.add(Type::Message(method.input()));
            types.add(Type::Message(method.output()));
        }
        Described::Message(message) => types.add(Type::Message(message.clone())),
        Described::Enum(declared) => types.add(Type::Enum(declared.clone())),
    }
    let mut at = 0;
    // Each type can add others.
    while let Some(next) = types.all.get(at).cloned() {
        if !out.is_empty() {
            out.push('\n');
        }
        match next {
            Type::Message(message) => push_message(&mut out, &message, &mut types),
            Type::Enum(declared) => push_enum(&mut out, &declared),
        }
        at += 1;
    }
    out
}

/// Types to describe, each once, in the order of their first use.
#[derive(Debug, Default)]
struct Types {
    all: Vec<Type>,
    known: BTreeSet<String>,
}

#[derive(Debug, Clone)]
enum Type {
    Message(MessageDescriptor),
    Enum(EnumDescriptor),
}

// === impl Types ===

impl Types {
    fn add(&mut self, new: Type) {
        let name = match &new {
            Type::Message(message) => message.full_name(),
            Type::Enum(declared) => declared.full_name(),
        };
        // The types of Google are known, and have a text form or are shown as they are.
        let is_foreign = name.starts_with("google.");
        if !is_foreign && self.known.insert(name.to_owned()) {
            self.all.push(new);
        }
    }

    fn add_kind(&mut self, kind: &Kind) {
        if let Kind::Message(message) = kind {
            self.add(Type::Message(message.clone()));
        } else if let Kind::Enum(declared) = kind {
            self.add(Type::Enum(declared.clone()));
        }
    }
}

fn push_method(out: &mut String, method: &MethodDescriptor) {
    let stream = |is_stream| if is_stream { "stream of " } else { "" };
    push_line(out, 0, &method_name(method));
    let line = format!(
        "takes {}{}, returns {}{}",
        stream(method.is_client_streaming()),
        method.input().name(),
        stream(method.is_server_streaming()),
        method.output().name()
    );
    push_line(out, 2, &line);
    push_comment(out, 2, method.parent_file().file_descriptor_proto(), method.path());
}

fn push_message(out: &mut String, message: &MessageDescriptor, types: &mut Types) {
    let file = message.parent_file();
    let file = file.file_descriptor_proto();
    push_line(out, 0, message.full_name());
    push_comment(out, 2, file, message.path());
    for field in message.fields() {
        let alternative = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        let alternative = alternative.map(|oneof| format!(" (alternative: {})", oneof.name()));
        let label = type_label(&field, types);
        let line = format!("{}: {label}{}", field.name(), alternative.unwrap_or_default());
        push_line(out, 2, &line);
        push_comment(out, 6, file, field.path());
    }
}

fn push_enum(out: &mut String, declared: &EnumDescriptor) {
    let file = declared.parent_file();
    let file = file.file_descriptor_proto();
    push_line(out, 0, declared.full_name());
    push_comment(out, 2, file, declared.path());
    for value in declared.values() {
        push_line(out, 2, value.name());
        push_comment(out, 6, file, value.path());
    }
}

/// Type of a field, such as `map of string to string`.
fn type_label(field: &FieldDescriptor, types: &mut Types) -> String {
    let kind = field.kind();
    if let (true, Some(entry)) = (field.is_map(), kind.as_message()) {
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        types.add_kind(&value.kind());
        return format!("map of {} to {}", kind_label(&key.kind()), kind_label(&value.kind()));
    }
    types.add_kind(&kind);
    let repeated = if field.is_list() { "repeated " } else { "" };
    format!("{repeated}{}", kind_label(&kind))
}

fn kind_label(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => "time, such as 2026-01-31T12:00:00Z".to_owned(),
            "google.protobuf.Duration" => "duration, such as 1.5s or 10m".to_owned(),
            full if full.starts_with("google.") => full.to_owned(),
            _ => message.name().to_owned(),
        },
        Kind::Enum(declared) => declared.name().to_owned(),
        Kind::Double => "double".to_owned(),
        Kind::Float => "float".to_owned(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "int32".to_owned(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "int64".to_owned(),
        Kind::Uint32 | Kind::Fixed32 => "uint32".to_owned(),
        Kind::Uint64 | Kind::Fixed64 => "uint64".to_owned(),
        Kind::Bool => "bool".to_owned(),
        Kind::String => "string".to_owned(),
        Kind::Bytes => "bytes, in Base64".to_owned(),
    }
}

fn push_comment(out: &mut String, indent: usize, file: &FileDescriptorProto, path: &[i32]) {
    for line in comment(file, path).lines() {
        push_line(out, indent, line);
    }
}

fn push_line(out: &mut String, indent: usize, line: &str) {
    let indent = if line.is_empty() { 0 } else { indent };
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{:indent$}{line}", "");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::call::contract::find;

    #[test]
    fn the_list_has_every_method_with_a_summary() {
        let list = list();
        for line in [
            "leadsd.v1.LeadsService",
            "  GetLead                 Reads one lead by id or by a unique property.",
            "  WatchQuota              Streams the quota: immediately, and again after each interval.",
            "grpc.health.v1.Health",
        ] {
            assert!(list.lines().any(|known| known == line), "{line}\n{list}");
        }
    }

    #[test]
    fn a_method_is_described_with_all_its_types_once() {
        let text = describe(&find("SearchLeads").unwrap());
        let start = "leadsd.v1.LeadsService/SearchLeads\n  takes SearchLeadsRequest, returns \
                     SearchLeadsResponse\n  Finds leads by filters and text.";
        assert!(text.starts_with(start), "{text}");
        for part in [
            "\nleadsd.v1.SearchLeadsRequest\n  Request of SearchLeads.\n  query: string\n      Text",
            "\n  filter_groups: repeated FilterGroup\n",
            "\n  operator: FilterOperator\n      Comparison operator. Required.\n",
            "\nleadsd.v1.FilterOperator\n  Comparison operator of a filter.\n",
            "\n  FILTER_OPERATOR_EQ\n      Equal to `value`.\n",
            "\n  properties: map of string to string\n",
            "\n  property_history: map of string to PropertyHistory\n",
            "\n  create_time: time, such as 2026-01-31T12:00:00Z\n",
        ] {
            assert_eq!(text.matches(part).count(), 1, "{part}\n{text}");
        }
        assert!(!text.contains("\ngoogle."), "{text}");
        let watch = describe(&find("WatchQuota").unwrap());
        assert!(watch.contains("takes WatchQuotaRequest, returns stream of"), "{watch}");
    }

    #[test]
    fn types_are_described_alone_and_recursive_ones_end() {
        let text = describe(&find("LeadWriteResult").unwrap());
        assert!(text.contains("  error: google.rpc.Status (alternative: outcome)\n"), "{text}");
        let text = describe(&find("SortDirection").unwrap());
        assert!(text.contains("  SORT_DIRECTION_DESCENDING\n"), "{text}");
        let text = describe(&find("ServerReflectionRequest").unwrap());
        assert!(text.contains("repeated") || text.contains("string"), "{text}");
    }
}
