//! Responses of server reflection, by the descriptors of the server.
//!
//! The messages of v1 and v1alpha are equal on the wire, so one index serves both versions. Every error
//! is an `error_response` of its request, as the protocol demands: the stream goes on.
//!
//! A file comes with its transitive imports. As the protocol allows, imports that the stream has got already
//! are left out: a client that asks for every symbol gets each import once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
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
    files: HashMap<String, Arc<File>>,
    /// Files by the full names that they define: services, methods, messages, fields, enums, values.
    symbols: HashMap<String, Arc<File>>,
    /// Files by the extension fields that they define: extended message and field number.
    extensions: BTreeMap<(String, i32), Arc<File>>,
    messages: BTreeSet<String>,
    services: BTreeSet<String>,
}

/// A file descriptor.
#[derive(Debug)]
struct File {
    name: String,
    /// Names of the files that it imports.
    imports: Vec<String>,
    /// Serialized descriptor. Decoding and encoding it again would drop the options that prost does not know.
    raw: Vec<u8>,
}

/// Names of the files that a stream has got.
#[derive(Debug, Default)]
pub(crate) struct SentFiles(HashSet<String>);

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
                index.add(&file, raw);
            }
        }
        Ok(index)
    }

    /// Full names of all services, in order.
    pub(crate) fn services(&self) -> impl Iterator<Item = &String> {
        self.services.iter()
    }

    /// Response to one request of a stream, which has got the files in `sent`.
    pub(crate) fn respond(
        &self,
        request: ServerReflectionRequest,
        sent: &mut SentFiles,
    ) -> ServerReflectionResponse {
        let response = match &request.message_request {
            None => Err((Code::InvalidArgument, "the request has no message_request".to_owned())),
            Some(message) => self.respond_to(message, sent),
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

    fn respond_to(
        &self,
        request: &MessageRequest,
        sent: &mut SentFiles,
    ) -> Result<MessageResponse, (Code, String)> {
        let not_found = |what: String| (Code::NotFound, format!("{what} not found"));
        let file = match request {
            MessageRequest::FileByFilename(name) => {
                self.files.get(name).ok_or_else(|| not_found(format!("file {name:?}")))
            }
            MessageRequest::FileContainingSymbol(name) => self
                .symbols
                .get(without_dot(name))
                .ok_or_else(|| not_found(format!("symbol {name:?}"))),
            MessageRequest::FileContainingExtension(wanted) => {
                let extended = without_dot(&wanted.containing_type).to_owned();
                let key = (extended, wanted.extension_number);
                self.extensions.get(&key).ok_or_else(|| {
                    not_found(format!("extension {} of {:?}", key.1, wanted.containing_type))
                })
            }
            MessageRequest::AllExtensionNumbersOfType(message) => {
                let name = without_dot(message);
                if !self.messages.contains(name) {
                    return Err(not_found(format!("message {message:?}")));
                }
                let of_message = self.extensions.keys().filter(|(extended, _)| extended == name);
                return Ok(MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                    base_type_name: name.to_owned(),
                    extension_number: of_message.map(|(_, number)| *number).collect(),
                }));
            }
            MessageRequest::ListServices(_) => {
                let service = |name: &String| ServiceResponse { name: name.clone() };
                let service = self.services().map(service).collect();
                return Ok(MessageResponse::ListServicesResponse(ListServiceResponse { service }));
            }
        };
        let file_descriptor_proto = self.with_imports(file?, sent);
        Ok(MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
            file_descriptor_proto,
        }))
    }

    /// The serialized file, and those of its transitive imports that the stream has not got.
    fn with_imports(&self, file: &File, SentFiles(sent): &mut SentFiles) -> Vec<Vec<u8>> {
        sent.insert(file.name.clone());
        let (mut found, mut next) = (vec![file.raw.clone()], vec![file]);
        while let Some(file) = next.pop() {
            for import in file.imports.iter().filter_map(|name| self.files.get(name)) {
                if sent.insert(import.name.clone()) {
                    found.push(import.raw.clone());
                    next.push(import);
                }
            }
        }
        found
    }

    fn add(&mut self, descriptor: &FileDescriptorProto, raw: Vec<u8>) {
        let (name, imports) = (descriptor.name().to_owned(), descriptor.dependency.clone());
        let file = &Arc::new(File { name: name.clone(), imports, raw });
        if self.files.insert(name, Arc::clone(file)).is_some() {
            return;
        }
        let package = descriptor.package();
        for message in &descriptor.message_type {
            self.add_message(package, message, file);
        }
        for declared in &descriptor.enum_type {
            self.add_enum(package, declared, file);
        }
        self.add_extensions(package, &descriptor.extension, file);
        for service in &descriptor.service {
            let name = full_name(package, service.name());
            for method in &service.method {
                self.add_symbol(full_name(&name, method.name()), file);
            }
            self.services.insert(name.clone());
            self.add_symbol(name, file);
        }
    }

    fn add_message(&mut self, scope: &str, message: &DescriptorProto, file: &Arc<File>) {
        let name = full_name(scope, message.name());
        let fields = message.field.iter().map(FieldDescriptorProto::name);
        let oneofs = message.oneof_decl.iter().map(prost_types::OneofDescriptorProto::name);
        for member in fields.chain(oneofs) {
            self.add_symbol(full_name(&name, member), file);
        }
        for nested in &message.nested_type {
            self.add_message(&name, nested, file);
        }
        for declared in &message.enum_type {
            self.add_enum(&name, declared, file);
        }
        self.add_extensions(&name, &message.extension, file);
        self.messages.insert(name.clone());
        self.add_symbol(name, file);
    }

    /// Adds an enum. As in C++, its values are in the scope of the enum, not below it.
    fn add_enum(
        &mut self,
        scope: &str,
        declared: &prost_types::EnumDescriptorProto,
        file: &Arc<File>,
    ) {
        self.add_symbol(full_name(scope, declared.name()), file);
        for value in &declared.value {
            self.add_symbol(full_name(scope, value.name()), file);
        }
    }

    fn add_extensions(
        &mut self,
        scope: &str,
        extensions: &[FieldDescriptorProto],
        file: &Arc<File>,
    ) {
        for extension in extensions {
            self.add_symbol(full_name(scope, extension.name()), file);
            let extended = extension.extendee().trim_start_matches('.').to_owned();
            self.extensions.insert((extended, extension.number()), Arc::clone(file));
        }
    }

    fn add_symbol(&mut self, name: String, file: &Arc<File>) {
        self.symbols.insert(name, Arc::clone(file));
    }
}

/// Name without the dot that some clients put before full names.
fn without_dot(name: &str) -> &str {
    name.strip_prefix('.').unwrap_or(name)
}

/// Full name of something in a package, message or service.
fn full_name(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

#[cfg(test)]
mod tests;
