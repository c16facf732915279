//! Tables from arguments to messages.

use prost::Message;

use super::*;
use crate::{cli::call::contract::find_message, grpc::pb};

fn assigned(message: &str, arguments: &[&str]) -> Result<DynamicMessage, String> {
    let descriptor = find_message(&format!("leadsd.v1.{message}")).expect("a message");
    let mut request = DynamicMessage::new(descriptor);
    let mut assignments = Assignments::new(&mut request);
    for argument in arguments {
        assignments.assign(argument).map_err(|error| error.to_string())?;
    }
    Ok(request)
}

#[track_caller]
fn check<M: Message + Default + PartialEq + std::fmt::Debug>(
    message: &str,
    arguments: &[&str],
    expected: &M,
) {
    let bytes = assigned(message, arguments).unwrap().encode_to_vec();
    assert_eq!(&M::decode(&*bytes).unwrap(), expected, "{arguments:?}");
}

#[test]
fn scalars_and_repeated_scalars_are_set() {
    let expected = pb::GetLeadRequest {
        id: "112".into(),
        properties: vec!["a".into(), "b=c".into()],
        archived: true,
        ..Default::default()
    };
    for arguments in [
        &["id=112", "properties=a", "properties=b=c", "archived=true"][..],
        &["id=112", "properties[0]=a", "properties[1]=b=c", "archived=true"],
        &["id:=\"112\"", "properties:=[\"a\", \"b=c\"]", "archived:=true"],
        &["properties=a", "properties:=[\"b=c\"]", "archived=true", "id=112"],
        &["properties=a", "properties:=\"b=c\"", "archived=true", "id=112"],
    ] {
        check("GetLeadRequest", arguments, &expected);
    }
}

#[test]
fn keys_of_text_maps_are_the_rest_of_the_path() {
    let expected = pb::CreateLeadRequest {
        properties: [("hs_lead_name", "Ada"), ("a.b", ""), ("c[0]", "x=y")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        primary_contact_id: "7".into(),
        ..Default::default()
    };
    for arguments in [
        &["properties.hs_lead_name=Ada", "properties.a.b=", "properties.c[0]=x=y"][..],
        &["properties[hs_lead_name]=Ada", "properties[a.b]=", "properties.c[0]=x=y"],
        &["properties:={\"hs_lead_name\": \"Ada\", \"a.b\": \"\"}", "properties.c[0]:=\"x=y\""],
    ] {
        let arguments = [arguments, &["primaryContactId=7"]].concat();
        check("CreateLeadRequest", &arguments, &expected);
    }
}

#[test]
fn nested_messages_are_set_by_path_or_json() {
    let filter = |name: &str, value: &str| pb::Filter {
        property_name: name.into(),
        operator: pb::FilterOperator::Eq.into(),
        value: value.into(),
        ..Default::default()
    };
    let expected = pb::SearchLeadsRequest {
        filter_groups: vec![
            pb::FilterGroup { filters: vec![filter("a", "1"), filter("b", "2")] },
            pb::FilterGroup { filters: vec![filter("c", "3")] },
        ],
        sorts: vec![pb::Sort { property_name: "d".into(), direction: 2 }],
        page_size: 5,
        ..Default::default()
    };
    for arguments in [
        &[
            "filter_groups[0].filters[0].property_name=a",
            "filter_groups[0].filters[0].operator=EQ",
            "filter_groups[0].filters[0].value=1",
            "filter_groups[0].filters[1].property_name=b",
            "filter_groups[0].filters[1].operator=FILTER_OPERATOR_EQ",
            "filter_groups[0].filters[1].value=2",
            "filterGroups[1].filters[0].propertyName=c",
            "filterGroups[1].filters[0].operator=1",
            "filterGroups[1].filters[0].value=3",
            "sorts[0].property_name=d",
            "sorts[0].direction=DESCENDING",
            "page_size=5",
        ][..],
        &[
            r#"filter_groups[0].filters:=[{"property_name": "a", "operator": "EQ", "value": "1"}]"#,
            r#"filter_groups[0].filters:={"property_name": "b", "operator": "EQ", "value": "2"}"#,
            r#"filter_groups:={"filters": [{"property_name": "c", "operator": 1, "value": "3"}]}"#,
            r#"sorts[0]:={"property_name": "d"}"#,
            "sorts[0].direction=2",
            "page_size:=5",
        ],
    ] {
        check("SearchLeadsRequest", arguments, &expected);
    }
    let interval = prost_types::Duration { seconds: 0, nanos: 250_000_000 };
    let expected = pb::WatchQuotaRequest { interval: Some(interval) };
    for arguments in [
        &["interval=250ms"][..],
        &["interval=0.25s"],
        &["interval.nanos=250000000"],
        &["interval:=\"0.25s\""],
    ] {
        check("WatchQuotaRequest", arguments, &expected);
    }
}

#[test]
fn entries_of_message_maps_are_set_by_key_and_field() {
    for arguments in [
        ["associations.contacts.objects[0].id=7", "property_history.x.versions[0].value=HOT"],
        ["associations[contacts].objects[0].id=7", "property_history[x].versions[0].value=HOT"],
    ] {
        let bytes = assigned("Lead", &arguments).unwrap().encode_to_vec();
        let lead = pb::Lead::decode(&*bytes).unwrap();
        assert_eq!(lead.associations["contacts"].objects[0].id, "7", "{arguments:?}");
        assert_eq!(
            lead.property_history["x"].versions[0].value.as_deref(),
            Some("HOT"),
            "{arguments:?}"
        );
    }
}

#[test]
fn errors_name_the_field_and_the_remedy() {
    for (message, arguments, expected) in [
        ("GetLeadRequest", &["112"][..], "\"112\": is no FIELD=VALUE, no JSON object"),
        (
            "GetLeadRequest",
            &["propertys=a"],
            "propertys: is no field of GetLeadRequest; did you mean \"properties\"?",
        ),
        ("GetLeadRequest", &["=a"], ": is no field of GetLeadRequest"),
        ("GetLeadRequest", &["id=1", "id=2"], "id: is set twice"),
        ("GetLeadRequest", &["id.x=1"], "id: is no message, and has no \".x\""),
        ("GetLeadRequest", &["id[0]=1"], "id: is no message, and has no \"[0]\""),
        ("GetLeadRequest", &["archived=yes"], "archived: \"yes\" is not true or false"),
        ("GetLeadRequest", &["id:=x"], "id: is no valid JSON after `:=`: "),
        ("GetLeadRequest", &["id:=1"], "id: must be text, and is a number"),
        (
            "GetLeadRequest",
            &["properties[1]=a"],
            "properties: has 0 elements so far: the next index is 0, not \"1\"",
        ),
        (
            "GetLeadRequest",
            &["properties[18446744073709551616]=a"],
            "properties: has 0 elements so far: the next index is 0",
        ),
        ("GetLeadRequest", &["properties[]=a"], "properties: has 0 elements so far"),
        ("GetLeadRequest", &["properties[0=a"], "properties: is repeated: name an element"),
        ("GetLeadRequest", &["properties.a=b"], "properties: is repeated: name an element"),
        ("GetLeadRequest", &["properties[0]=a", "properties[0]=b"], "properties[0]: is set twice"),
        (
            "CreateLeadRequest",
            &["properties=a"],
            "properties: is a map: set an entry, such as properties.NAME=VALUE",
        ),
        ("CreateLeadRequest", &["properties.=a"], "properties: needs a key after the dot"),
        ("CreateLeadRequest", &["properties.a=b", "properties.a=c"], "properties.a: is set twice"),
        (
            "SearchLeadsRequest",
            &["filter_groups=x"],
            "filter_groups: is repeated: name an element, such as filter_groups[0]",
        ),
        (
            "SearchLeadsRequest",
            &["filter_groups[0]=x"],
            "filter_groups[0]: is a message: set its fields, such as filter_groups[0].filters",
        ),
        (
            "SearchLeadsRequest",
            &["filter_groups[0].filters[0].operator=EQUAL"],
            "filter_groups[0].filters[0].operator: \"EQUAL\" is no value of FilterOperator",
        ),
        (
            "SearchLeadsRequest",
            &["filter_groups[0].filters[0].value:={}"],
            "filter_groups[0].filters[0].value: must be text, and is an object",
        ),
        (
            "SearchLeadsRequest",
            &["sorts[0]:={\"property\": 1}"],
            "sorts[0].property: is no field of Sort; did you mean \"property_name\"?",
        ),
        ("WatchQuotaRequest", &["interval=soon"], "interval: \"soon\" is not a duration"),
        (
            "LeadWriteResult",
            &["lead.id=1", "error.code=1"],
            "error: is an alternative to lead: set only one of them",
        ),
    ] {
        let error = assigned(message, arguments).unwrap_err();
        assert!(error.starts_with(expected), "{arguments:?}: {error}");
    }
}
