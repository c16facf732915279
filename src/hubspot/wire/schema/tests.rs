//! Bodies of the schema endpoints, whole and damaged.

use super::*;
use crate::hubspot::wire::{UnreadableFields, parse};

fn read<T: DeserializeOwned>(body: &str) -> (WireResults<T>, u32) {
    let mut unreadable = UnreadableFields::default();
    let read = parse(body.as_bytes(), &mut unreadable).expect("a list");
    (read, unreadable.iter().map(|(_, count)| count).sum())
}

#[test]
fn properties_are_read_with_their_options_in_display_order() {
    let body = r#"{"results":[{"name":"hs_lead_label","label":"Label","type":"enumeration",
        "fieldType":"select","groupName":"leads","description":null,"hasUniqueValue":false,
        "options":[{"label":"Cold","value":"COLD","displayOrder":1,"hidden":true},
                   {"label":"Hot","value":"HOT","displayOrder":0,"hidden":false},
                   {"label":"Nothing","value":"","displayOrder":2}],
        "modificationMetadata":{"readOnlyValue":false},"unknownField":{"a":[1]}},
       {"name":"score","type":"number","calculated":true},
       {"name":"gone","type":"string","archived":true}]}"#;
    let (list, losses) = read::<WireProperty>(body);
    let Some(SchemaPage::Properties(all)) = list.into_properties() else { panic!("properties") };
    assert_eq!(losses, 0);
    assert_eq!(
        all.iter().map(|own| own.name.as_str()).collect::<Vec<_>>(),
        ["hs_lead_label", "score"]
    );
    let values: Vec<(&str, bool)> =
        all[0].options.iter().map(|own| (own.value.as_str(), own.is_hidden)).collect();
    assert_eq!(values, [("HOT", false), ("COLD", true)]);
    assert!(!all[0].is_read_only && all[1].is_read_only && all[1].is_calculated);
}

#[test]
fn an_unreadable_field_is_left_out_and_counted() {
    let body = r#"{"results":[{"name":"a","options":7},{"name":"b"},[1],{"name":"\ud800"},
        {"label":"without a name"}]}"#;
    let (list, losses) = read::<WireProperty>(body);
    let Some(SchemaPage::Properties(all)) = list.into_properties() else { panic!("properties") };
    assert_eq!(all.iter().map(|own| own.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(losses, 3);
}

#[test]
fn odd_fields_of_a_definition_cost_no_definition() {
    let body = r#"{"results":[{"name":"crm_key","type":"string","hidden":"false","calculated":7,
        "options":[{"value":1.5,"displayOrder":1.0},{"value":"b","displayOrder":"0"}]}]}"#;
    let (list, losses) = read::<WireProperty>(body);
    let Some(SchemaPage::Properties(all)) = list.into_properties() else { panic!("properties") };
    let values: Vec<&str> = all[0].options.iter().map(|own| own.value.as_str()).collect();
    assert_eq!((all[0].type_name.as_str(), values), ("string", vec!["1.5", "b"]));
    assert!(!all[0].is_hidden && !all[0].is_calculated);
    assert_eq!(losses, 2, "`calculated` and one `displayOrder`");
    let body = r#"{"results":[{"id":"p","label":"Inbound","stages":[
        {"id":"s1","label":"New","displayOrder":{},"metadata":{"isClosed":"false","x":[]}}]}]}"#;
    let (list, _) = read::<WirePipeline>(body);
    let Some(SchemaPage::Pipelines(all)) = list.into_pipelines() else { panic!("pipelines") };
    assert_eq!(all[0].stages[0].metadata["isClosed"], "false");
    let body = r#"{"results":[{"category":"USER_DEFINED","typeId":"42","label":{}}]}"#;
    let (list, _) = read::<WireLabel>(body);
    let Some(SchemaPage::AssociationTypes(all)) = list.into_association_types() else {
        panic!("labels")
    };
    assert_eq!(all[0].association_type.type_id, 42);
}

#[test]
fn owners_have_a_cursor_and_a_deactivated_user_is_not_active() {
    let body = r#"{"results":[{"id":7,"email":"a@example.com","userId":1,"userIdIncludingInactive":1},
        {"id":"8","email":null,"userId":null,"userIdIncludingInactive":2},
        {"id":"9","archived":true},{"id":"10"}],"paging":{"next":{"after":"10"}}}"#;
    let Some(SchemaPage::Owners { owners, after }) = read::<WireOwner>(body).0.into_owners() else {
        panic!("owners")
    };
    let active: Vec<(&str, bool)> =
        owners.iter().map(|own| (own.id.as_str(), own.is_active)).collect();
    assert_eq!(active, [("7", true), ("8", false), ("9", false), ("10", true)]);
    assert_eq!(after.as_deref(), Some("10"));
    let unreadable = r#"{"results":[{"id":"7"}],"paging":{"next":{"after":[]}}}"#;
    let mut losses = UnreadableFields::default();
    let list = parse::<WireResults<WireOwner>>(unreadable.as_bytes(), &mut losses);
    assert!(list.is_err(), "without its cursor, a list would end early");
}

#[test]
fn pipelines_and_labels_are_read_without_archived_stages_and_unknown_categories() {
    let body = r#"{"results":[{"id":"p","label":"Inbound","displayOrder":3,"stages":[
        {"id":"s1","label":"New","displayOrder":0,"metadata":{"leadState":"NEW","isClosed":false}},
        {"id":"s2","label":"Old","displayOrder":1,"archived":true}]}]}"#;
    let Some(SchemaPage::Pipelines(all)) = read::<WirePipeline>(body).0.into_pipelines() else {
        panic!("pipelines")
    };
    assert_eq!(all[0].stages.len(), 1);
    assert_eq!(all[0].stages[0].metadata["isClosed"], "false");
    let body = r#"{"results":[{"category":"USER_DEFINED","typeId":42,"label":"Decision maker"},
        {"category":"HUBSPOT_DEFINED","typeId":608,"label":null},
        {"category":"MADE_UP","typeId":1,"label":"x"}]}"#;
    let Some(SchemaPage::AssociationTypes(all)) =
        read::<WireLabel>(body).0.into_association_types()
    else {
        panic!("labels")
    };
    let labels: Vec<&str> = all.iter().map(|own| own.label.as_str()).collect();
    assert_eq!(labels, ["Decision maker", ""]);
}

#[test]
fn a_body_without_a_list_has_no_results() {
    for body in ["{}", r#"{"results":null}"#, r#"{"results":7}"#] {
        assert!(read::<WireProperty>(body).0.into_properties().is_none(), "{body}");
    }
}

#[test]
fn rules_are_read_by_property() {
    let body = r#"{"results":[
        {"propertyName":"age","propertyValidationRules":[
            {"ruleType":"MIN_NUMBER","ruleArguments":["1"],"shouldApplyNormalization":true},
            {"ruleType":"REGEX","ruleArguments":null},{"ruleArguments":["2"]}]},
        {"propertyName":"none"},{"propertyValidationRules":[]}]}"#;
    let (list, losses) = read::<WirePropertyRules>(body);
    let Some(SchemaPage::ValidationRules(all)) = list.into_rules() else { panic!("rules") };
    assert_eq!(losses, 0);
    let rule = |kind: &str, arguments: &[&str], is_normalized| ValidationRule {
        kind: kind.to_owned(),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        is_normalized,
    };
    let rules = vec![rule("MIN_NUMBER", &["1"], true), rule("REGEX", &[], false)];
    let properties = ["age", "none"].map(str::to_owned);
    let expected: Vec<PropertyRules> = properties
        .into_iter()
        .zip([rules, Vec::new()])
        .map(|(property, rules)| PropertyRules { property, rules })
        .collect();
    assert_eq!(all, expected);
}
