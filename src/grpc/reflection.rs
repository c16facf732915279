//! Responses of server reflection, by the descriptors of the server.
//!
//! The messages of v1 and v1alpha are equal on the wire, so one index serves both versions. Every error
//! is an `error_response` of its request, as the protocol demands: the stream goes on.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use prost::Message as _;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};
use tonic::Code;
use tonic_reflection::pb::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

/// Index over file descriptors.
#[derive(Debug, Default)]
pub(crate) struct ReflectionIndex {
    /// Serialized file descriptors, by file name. Decoding and encoding them again would drop the options
    /// that prost does not know.
    files: HashMap<String, Arc<[u8]>>,
    /// Files by the full names that they define: services, methods, messages, fields, enums, values.
    symbols: HashMap<String, Arc<[u8]>>,
    /// Files by the extension fields that they define: extended message and field number.
    extensions: BTreeMap<(String, i32), Arc<[u8]>>,
    messages: BTreeSet<String>,
    services: BTreeSet<String>,
}

/// A serialized `FileDescriptorSet`, split into its files.
#[derive(prost::Message)]
struct RawFileSet {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

// === impl ReflectionIndex ===

impl ReflectionIndex {
    /// Indexes serialized file descriptor sets. A file that is in several sets counts once.
    pub(crate) fn new<'a>(
        sets: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, prost::DecodeError> {
        let mut index = Self::default();
        for set in sets {
            for raw in RawFileSet::decode(set)?.file {
                let file = FileDescriptorProto::decode(&raw[..])?;
                index.add(&file, &raw.into());
            }
        }
        Ok(index)
    }

    /// Full names of all services, in order.
    pub(crate) fn services(&self) -> impl Iterator<Item = &String> {
        self.services.iter()
    }

    /// Response to one request of a stream.
    pub(crate) fn respond(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        let response = match &request.message_request {
            None => Err((Code::InvalidArgument, "the request has no message_request".to_owned())),
            Some(message) => self.respond_to(message),
        };
        let response = response.unwrap_or_else(|(code, error_message)| {
            MessageResponse::ErrorResponse(ErrorResponse { error_code: code.into(), error_message })
        });
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            original_request: Some(request),
            message_response: Some(response),
        }
    }

    fn respond_to(&self, request: &MessageRequest) -> Result<MessageResponse, (Code, String)> {
        let not_found = |what: String| (Code::NotFound, format!("{what} not found"));
        let file = match request {
            MessageRequest::FileByFilename(name) => {
                self.files.get(name).ok_or_else(|| not_found(format!("file {name:?}")))
            }
            MessageRequest::FileContainingSymbol(name) => self
                .symbols
                .get(name.strip_prefix('.').unwrap_or(name))
                .ok_or_else(|| not_found(format!("symbol {name:?}"))),
            MessageRequest::FileContainingExtension(wanted) => {
                let key = (wanted.containing_type.clone(), wanted.extension_number);
                self.extensions.get(&key).ok_or_else(|| {
                    not_found(format!("extension {} of {:?}", key.1, wanted.containing_type))
                })
            }
            MessageRequest::AllExtensionNumbersOfType(message) => {
                if !self.messages.contains(message) {
                    return Err(not_found(format!("message {message:?}")));
                }
                let of_message = self.extensions.keys().filter(|(extended, _)| extended == message);
                return Ok(MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                    base_type_name: message.clone(),
                    extension_number: of_message.map(|(_, number)| *number).collect(),
                }));
            }
            MessageRequest::ListServices(_) => {
                let service = |name: &String| ServiceResponse { name: name.clone() };
                let service = self.services().map(service).collect();
                return Ok(MessageResponse::ListServicesResponse(ListServiceResponse { service }));
            }
        };
        let file_descriptor_proto = vec![file?.to_vec()];
        Ok(MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
            file_descriptor_proto,
        }))
    }

    fn add(&mut self, file: &FileDescriptorProto, raw: &Arc<[u8]>) {
        if self.files.insert(file.name().to_owned(), Arc::clone(raw)).is_some() {
            return;
        }
        let package = file.package();
        for message in &file.message_type {
            self.add_message(package, message, raw);
        }
        for declared in &file.enum_type {
            self.add_enum(package, declared, raw);
        }
        self.add_extensions(package, &file.extension, raw);
        for service in &file.service {
            let name = full_name(package, service.name());
            for method in &service.method {
                self.add_symbol(full_name(&name, method.name()), raw);
            }
            self.services.insert(name.clone());
            self.add_symbol(name, raw);
        }
    }

    fn add_message(&mut self, scope: &str, message: &DescriptorProto, raw: &Arc<[u8]>) {
        let name = full_name(scope, message.name());
        let fields = message.field.iter().map(FieldDescriptorProto::name);
        let oneofs = message.oneof_decl.iter().map(prost_types::OneofDescriptorProto::name);
        for member in fields.chain(oneofs) {
            self.add_symbol(full_name(&name, member), raw);
        }
        for nested in &message.nested_type {
            self.add_message(&name, nested, raw);
        }
        for declared in &message.enum_type {
            self.add_enum(&name, declared, raw);
        }
        self.add_extensions(&name, &message.extension, raw);
        self.messages.insert(name.clone());
        self.add_symbol(name, raw);
    }

    /// Adds an enum. As in C++, its values are in the scope of the enum, not below it.
    fn add_enum(
        &mut self,
        scope: &str,
        declared: &prost_types::EnumDescriptorProto,
        raw: &Arc<[u8]>,
    ) {
        self.add_symbol(full_name(scope, declared.name()), raw);
        for value in &declared.value {
            self.add_symbol(full_name(scope, value.name()), raw);
        }
    }

    fn add_extensions(
        &mut self,
        scope: &str,
        extensions: &[FieldDescriptorProto],
        raw: &Arc<[u8]>,
    ) {
        for extension in extensions {
            self.add_symbol(full_name(scope, extension.name()), raw);
            let extended = extension.extendee().trim_start_matches('.').to_owned();
            self.extensions.insert((extended, extension.number()), Arc::clone(raw));
        }
    }

    fn add_symbol(&mut self, name: String, raw: &Arc<[u8]>) {
        self.symbols.insert(name, Arc::clone(raw));
    }
}

/// Full name of something in a package, message or service.
fn full_name(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

#[cfg(test)]
mod tests;
