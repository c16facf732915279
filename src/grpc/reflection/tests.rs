//! Each message of the protocol, with known and unknown names.

use prost_types::FileDescriptorSet;
use tonic_reflection::pb::v1::ExtensionRequest;

use super::*;
use crate::grpc::reflection_service::descriptor_sets;

fn index() -> ReflectionIndex {
    ReflectionIndex::new(descriptor_sets()).unwrap()
}

fn respond(request: MessageRequest) -> MessageResponse {
    respond_with(&index(), request)
}

fn respond_with(index: &ReflectionIndex, request: MessageRequest) -> MessageResponse {
    let request =
        ServerReflectionRequest { host: "host".to_owned(), message_request: Some(request) };
    let response = index.respond(request.clone(), &mut SentFiles::default());
    assert_eq!((response.valid_host.as_str(), response.original_request), ("host", Some(request)));
    response.message_response.unwrap()
}

#[track_caller]
fn file(response: MessageResponse) -> FileDescriptorProto {
    let MessageResponse::FileDescriptorResponse(response) = response else {
        panic!("no file: {response:?}");
    };
    FileDescriptorProto::decode(&response.file_descriptor_proto[0][..]).unwrap()
}

#[track_caller]
fn assert_error(response: MessageResponse, code: Code, text: &str) {
    let MessageResponse::ErrorResponse(error) = response else {
        panic!("no error: {response:?}");
    };
    assert_eq!((error.error_code, error.error_message.as_str()), (code.into(), text));
}

#[test]
fn all_services_of_the_server_are_listed_in_order() {
    let MessageResponse::ListServicesResponse(list) =
        respond(MessageRequest::ListServices(String::new()))
    else {
        panic!("no list");
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    let expected = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "leadsd.v1.LeadsService",
        "leadsd.v1.QuotaService",
        "leadsd.v1.SchemaService",
    ];
    assert_eq!(names, expected);
}

#[test]
fn files_are_found_by_name_with_all_their_imports() {
    let mut wanted = vec!["leadsd/v1/leads_service.proto".to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        let found = file(respond(MessageRequest::FileByFilename(name.clone())));
        assert_eq!(found.name(), name);
        if seen.insert(name) {
            wanted.extend(found.dependency);
        }
    }
    assert!(seen.len() > 2, "{seen:?}");
    let unknown = respond(MessageRequest::FileByFilename("nope.proto".to_owned()));
    assert_error(unknown, Code::NotFound, "file \"nope.proto\" not found");
}

#[test]
fn a_file_comes_with_its_transitive_imports_which_a_stream_gets_once() {
    let (index, mut sent) = (index(), SentFiles::default());
    let mut files = |symbol: &str| {
        let request = MessageRequest::FileContainingSymbol(symbol.to_owned());
        let request =
            ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let Some(MessageResponse::FileDescriptorResponse(response)) =
            index.respond(request, &mut sent).message_response
        else {
            panic!("no file of {symbol}");
        };
        let decode = |raw: &Vec<u8>| FileDescriptorProto::decode(&raw[..]).unwrap();
        response.file_descriptor_proto.iter().map(decode).collect::<Vec<_>>()
    };
    let first = files("leadsd.v1.LeadsService");
    assert_eq!(first[0].name(), "leadsd/v1/leads_service.proto", "the file itself is the first");
    let names: BTreeSet<_> = first.iter().map(|file| file.name().to_owned()).collect();
    assert_eq!(names.len(), first.len(), "each once");
    let imports: BTreeSet<_> = first.iter().flat_map(|file| file.dependency.clone()).collect();
    assert!(imports.len() > 2 && imports.is_subset(&names), "{imports:?} of {names:?}");
    // The file that is asked for is sent again, its imports are not.
    let again = files("leadsd.v1.LeadsService.GetLead");
    assert_eq!(again, first[..1]);
    let others = files("leadsd.v1.QuotaService");
    assert!(others.iter().all(|file| !names.contains(file.name())), "only new ones");
}

#[test]
fn files_are_found_by_each_kind_of_symbol() {
    for symbol in [
        "leadsd.v1.LeadsService",
        "leadsd.v1.LeadsService.GetLead",
        "leadsd.v1.GetLeadRequest",
        "leadsd.v1.GetLeadRequest.id",
        "leadsd.v1.ErrorReason",
        "leadsd.v1.ERROR_REASON_UNSPECIFIED",
        ".leadsd.v1.GetLeadRequest",
        "google.rpc.ErrorInfo",
        "grpc.health.v1.HealthCheckResponse.ServingStatus",
        "grpc.health.v1.HealthCheckResponse.SERVING",
    ] {
        let found = file(respond(MessageRequest::FileContainingSymbol(symbol.to_owned())));
        assert!(symbol.trim_start_matches('.').starts_with(found.package()), "{symbol}");
    }
    for unknown in ["", "leadsd", "leadsd.v1", "leadsd.v1.LeadsService.Nope", "nope"] {
        let response = respond(MessageRequest::FileContainingSymbol(unknown.to_owned()));
        assert_error(response, Code::NotFound, &format!("symbol {unknown:?} not found"));
    }
}

#[test]
fn all_files_fit_into_one_pool_and_each_symbol_leads_to_the_file_that_others_import() {
    let index = index();
    let mut files: Vec<_> = index
        .files
        .values()
        .map(|file| FileDescriptorProto::decode(&file.raw[..]).unwrap())
        .collect();
    let mut pool = prost_reflect::DescriptorPool::new();
    while !files.is_empty() {
        let (ready, rest): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| {
            file.dependency.iter().all(|name| pool.get_file_by_name(name).is_some())
        });
        assert!(!ready.is_empty(), "missing imports of {rest:?}");
        for file in ready {
            let name = file.name().to_owned();
            pool.add_file_descriptor_proto(file).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        files = rest;
    }
    for (symbol, expected) in [
        ("google.rpc.Status", "google/rpc/status.proto"),
        ("google.rpc.ErrorInfo", "google/rpc/error_details.proto"),
    ] {
        let found = respond(MessageRequest::FileContainingSymbol(symbol.to_owned()));
        assert_eq!(file(found).name(), expected);
    }
}

#[test]
fn extensions_are_found_by_message_and_number() {
    let extension = FieldDescriptorProto {
        name: Some("note".to_owned()),
        number: Some(1_000),
        extendee: Some(".a.Base".to_owned()),
        ..FieldDescriptorProto::default()
    };
    let base = DescriptorProto { name: Some("Base".to_owned()), ..DescriptorProto::default() };
    let extended = FileDescriptorProto {
        name: Some("a.proto".to_owned()),
        package: Some("a".to_owned()),
        message_type: vec![base],
        extension: vec![extension],
        ..FileDescriptorProto::default()
    };
    let set = FileDescriptorSet { file: vec![extended] }.encode_to_vec();
    let index = ReflectionIndex::new([&set[..]]).unwrap();
    let find = |containing_type: &str, extension_number| {
        let containing_type = containing_type.to_owned();
        let request = ExtensionRequest { containing_type, extension_number };
        respond_with(&index, MessageRequest::FileContainingExtension(request))
    };
    assert_eq!(file(find("a.Base", 1_000)).name(), "a.proto");
    assert_eq!(file(find(".a.Base", 1_000)).name(), "a.proto");
    assert_error(find("a.Base", 7), Code::NotFound, "extension 7 of \"a.Base\" not found");
    let numbers = |name: &str| {
        respond_with(&index, MessageRequest::AllExtensionNumbersOfType(name.to_owned()))
    };
    let expected = ExtensionNumberResponse {
        base_type_name: "a.Base".to_owned(),
        extension_number: vec![1_000],
    };
    assert_eq!(numbers("a.Base"), MessageResponse::AllExtensionNumbersResponse(expected));
    assert_eq!(numbers(".a.Base"), numbers("a.Base"), "with the dot of full names");
    assert_error(numbers("a.Nope"), Code::NotFound, "message \"a.Nope\" not found");
    let found = respond_with(&index, MessageRequest::FileContainingSymbol("a.note".to_owned()));
    assert_eq!(file(found).name(), "a.proto");
}

#[test]
fn a_message_without_extensions_has_an_empty_list() {
    let message = "leadsd.v1.Lead".to_owned();
    let expected =
        ExtensionNumberResponse { base_type_name: message.clone(), extension_number: Vec::new() };
    let response = respond(MessageRequest::AllExtensionNumbersOfType(message));
    assert_eq!(response, MessageResponse::AllExtensionNumbersResponse(expected));
}

#[test]
fn a_request_without_a_message_is_an_error_of_that_request() {
    let response = index().respond(ServerReflectionRequest::default(), &mut SentFiles::default());
    let text = "the request has no message_request";
    assert_error(response.message_response.unwrap(), Code::InvalidArgument, text);
}

#[test]
fn options_that_prost_does_not_know_are_kept() {
    let unknown = [&b"\x0a\x07b.proto"[..], b"\xc2\x3e\x02hi"].concat();
    let set = RawFileSet { file: vec![unknown.clone()] }.encode_to_vec();
    let index = ReflectionIndex::new([&set[..]]).unwrap();
    let response = respond_with(&index, MessageRequest::FileByFilename("b.proto".to_owned()));
    let MessageResponse::FileDescriptorResponse(response) = response else { panic!("no file") };
    assert_eq!(response.file_descriptor_proto, [unknown]);
}
