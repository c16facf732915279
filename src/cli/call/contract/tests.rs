//! Tests of the look-up of names in the contract.

use super::*;

#[test]
fn every_descriptor_set_is_decoded() {
    assert_eq!(pools().len(), 4);
    for service in [
        "leadsd.v1.LeadsService",
        "leadsd.v1.QuotaService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ] {
        assert!(services().any(|known| known.full_name() == service), "{service}");
    }
    for message in ["google.rpc.ErrorInfo", "google.rpc.RetryInfo", "google.rpc.BadRequest"] {
        assert!(find_message(message).is_some(), "{message}");
    }
}

#[test]
fn methods_are_found_by_short_and_full_names() {
    for name in [
        "GetLead",
        "LeadsService/GetLead",
        "LeadsService.GetLead",
        "leadsd.v1.LeadsService/GetLead",
        "/leadsd.v1.LeadsService/GetLead",
        "leadsd.v1.LeadsService.GetLead",
    ] {
        let found = find_method(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(method_name(&found), "leadsd.v1.LeadsService/GetLead", "{name}");
    }
    assert_eq!(method_name(&find_method("Check").unwrap()), "grpc.health.v1.Health/Check");
}

#[test]
fn errors_of_names_suggest_the_nearest_one() {
    for (name, expected) in [
        ("GetLeads", "has no method \"GetLeads\"; did you mean \"GetLead\"?;"),
        ("leadsd.v1.LeadsService/ListLead", "did you mean \"ListLeads\"?"),
        ("etLead", "did you mean \"GetLead\"?"),
        ("xyz", "leadsd has no method \"xyz\"; `leadsd call --list`"),
        ("", "leadsd has no method \"\"; `leadsd call --list`"),
        (
            "ServerReflectionInfo",
            "use grpc.reflection.v1.ServerReflection/ServerReflectionInfo or \
             grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ),
    ] {
        let error = find_method(name).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn types_are_described_like_methods() {
    assert!(matches!(find("GetLead"), Ok(Described::Method(_))));
    assert!(matches!(find("Filter"), Ok(Described::Message(_))));
    assert!(matches!(find("leadsd.v1.Lead"), Ok(Described::Message(_))));
    assert!(matches!(find("FilterOperator"), Ok(Described::Enum(_))));
    let error = find("Filtre").unwrap_err().to_string();
    assert!(error.contains("no method or type \"Filtre\"; did you mean \"Filter\"?"), "{error}");
}

#[test]
fn fields_are_found_by_both_names_and_errors_list_them() {
    let message = find_message("leadsd.v1.GetLeadRequest").unwrap();
    assert_eq!(find_field(&message, "id_property").unwrap().number(), 2);
    assert_eq!(find_field(&message, "idProperty").unwrap().number(), 2);
    let near = find_field(&message, "propertys").unwrap_err();
    assert_eq!(near, "is no field of GetLeadRequest; did you mean \"properties\"?");
    let far = find_field(&message, "zzz").unwrap_err();
    assert!(far.contains("it has id, id_property, properties"), "{far}");
    let empty = find_message("leadsd.v1.GetQuotaRequest").unwrap();
    assert!(find_field(&empty, "id").unwrap_err().ends_with("it has no fields"));
}

#[test]
fn every_method_and_field_of_leadsd_has_a_comment() {
    for method in methods().filter(|method| method.full_name().starts_with("leadsd.")) {
        assert!(summary(&method).ends_with('.'), "{}: {}", method.name(), summary(&method));
        for message in [method.input(), method.output()] {
            for field in message.fields() {
                let file = message.parent_file();
                let text = comment(file.file_descriptor_proto(), field.path());
                assert!(!text.is_empty(), "{}", field.full_name());
            }
        }
    }
    let method = find_method("GetLead").unwrap();
    assert_eq!(summary(&method), "Reads one lead by id or by a unique property.");
}
