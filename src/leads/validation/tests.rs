//! Tables of writes that HubSpot refuses, and properties of those that it accepts.

mod recorded;

use std::{collections::BTreeMap, sync::Arc};

use leadsd_base::time::Timestamp;
use proptest::prelude::*;

use super::{ViolationKind as Kind, draft::DraftKind, *};
use crate::leads::{
    AssociationCategory, AssociationChange, AssociationType, LeadId,
    schema::{
        AssociationTypeCopy, AssociationTypeDefinition, Pipeline, PipelineCopy, PipelineStage,
        PropertyCopy, PropertyDefinition, PropertyOption,
    },
    write::Association,
};

/// Types of the properties of the test portal: name, type, field type.
const PROPERTIES: [(&str, &str, &str); 19] = [
    ("hs_lead_name", "string", "text"),
    ("hs_lead_label", "enumeration", "select"),
    ("hs_lead_type", "enumeration", "radio"),
    ("hs_pipeline", "enumeration", "select"),
    ("hs_pipeline_stage", "enumeration", "radio"),
    ("hubspot_owner_id", "enumeration", "select"),
    ("hs_object_id", "number", "number"),
    ("hs_createdate", "datetime", "date"),
    ("hs_lead_is_open", "bool", "booleancheckbox"),
    ("hs_primary_contact_id", "number", "number"),
    ("hs_lead_pipeline_value", "number", "number"),
    ("hs_next_activity_date", "datetime", "date"),
    ("budget", "number", "number"),
    ("interests", "enumeration", "checkbox"),
    ("close_date", "date", "date"),
    ("is_vip", "bool", "booleancheckbox"),
    ("notes", "string", "textarea"),
    ("phone", "phone_number", "phonenumber"),
    ("crm_key", "string", "text"),
];

const READ_ONLY: [&str; 4] =
    ["hs_object_id", "hs_createdate", "hs_lead_is_open", "hs_primary_contact_id"];

const CALCULATED: &str = "hs_lead_is_open";

/// Options of the test portal: name, then value and label of each.
const OPTIONS: [(&str, &[(&str, &str)]); 3] = [
    ("hs_lead_label", &[("HOT", "Hot"), ("WARM", "Warm"), ("COLD", "Cold")]),
    ("hs_lead_type", &[("NEW_BUSINESS", "New business"), ("UPSELL", "Upsell")]),
    ("interests", &[("skiing", "Skiing"), ("sailing", "Sailing"), ("chess", "Chess")]),
];

fn properties() -> PropertyCopy {
    let option = |(value, label): &(&str, &str)| PropertyOption {
        value: (*value).to_owned(),
        label: (*label).to_owned(),
        ..PropertyOption::default()
    };
    let property = |(name, type_name, field_type): (&str, &str, &str)| {
        let options = OPTIONS.iter().find(|(own, _)| *own == name).map(|(_, options)| *options);
        PropertyDefinition {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            field_type: field_type.to_owned(),
            options: options.unwrap_or_default().iter().map(option).collect(),
            is_read_only: READ_ONLY.contains(&name),
            is_calculated: name == CALCULATED,
            has_unique_values: name == "crm_key",
            has_external_options: ["hubspot_owner_id", "hs_pipeline", "hs_pipeline_stage"]
                .contains(&name),
            ..PropertyDefinition::default()
        }
    };
    PropertyCopy::new(Timestamp::UNIX_EPOCH, PROPERTIES.map(property).to_vec())
}

fn pipelines() -> PipelineCopy {
    let stage = |(id, label): &(&str, &str)| PipelineStage {
        id: (*id).to_owned(),
        label: (*label).to_owned(),
        ..PipelineStage::default()
    };
    let pipeline = |id: &str, label: &str, stages: &[(&str, &str)]| Pipeline {
        id: id.to_owned(),
        label: label.to_owned(),
        display_order: 0,
        stages: stages.iter().map(stage).collect(),
    };
    let inbound = [("new-stage-id", "New"), ("connected-stage-id", "Connected")];
    let partners = [("9001", "New"), ("9002", "Signed")];
    let all = vec![
        pipeline("lead-pipeline-id", "Inbound", &inbound),
        pipeline("7001", "Partners", &partners),
    ];
    PipelineCopy::new(Timestamp::UNIX_EPOCH, all)
}

fn schema(dates: DateRules) -> SchemaView {
    let (properties, pipelines) = (Some(Arc::new(properties())), Some(Arc::new(pipelines())));
    SchemaView { properties, rules: None, pipelines, dates }
}

fn map(properties: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    properties.iter().map(own).collect()
}

fn violations(
    properties: &[(&str, &str)],
    identity: Option<(&str, &str)>,
    dates: DateRules,
) -> Vec<(String, ViolationKind, String)> {
    let properties = map(properties);
    let draft =
        Draft { kind: DraftKind::Upsert, properties: &properties, identity, associations: &[] };
    let found = check(&draft, &schema(dates), &mut Hints::default(), 16);
    let show = |own: Violation| (own.fault.field, own.kind, own.fault.description);
    found.into_iter().map(show).collect()
}

/// Values made for the documented error codes of HubSpot: PROPERTY_DOESNT_EXIST, READ_ONLY_VALUE, INVALID_OPTION,
/// INVALID_LONG and INVALID_INTEGER, INVALID_BOOLEAN, and INVALID_DATE. `recorded` has the recorded refusals.
const REFUSED: &[(&str, &str, Kind)] = &[
    ("hs_lead_nme", "Jane", Kind::UnknownProperty),
    ("HS_LEAD_NAME", "Jane", Kind::UnknownProperty),
    ("leadname", "Jane", Kind::UnknownProperty),
    ("firstname", "Jane", Kind::UnknownProperty),
    ("email", "jane@example.com", Kind::UnknownProperty),
    ("lifecyclestage", "lead", Kind::UnknownProperty),
    ("createdate", "2026-11-30", Kind::UnknownProperty),
    ("hs_lead_stage", "new", Kind::UnknownProperty),
    ("budget ", "1", Kind::UnknownProperty),
    ("größe", "1", Kind::UnknownProperty),
    ("hs_object_id", "12", Kind::ReadOnly),
    ("hs_object_id", "", Kind::ReadOnly),
    ("hs_createdate", "2026-11-30T10:00:00Z", Kind::ReadOnly),
    ("hs_lead_is_open", "true", Kind::ReadOnly),
    ("hs_primary_contact_id", "42", Kind::ReadOnly),
    ("hs_lead_label", "BOILING", Kind::Option),
    ("hs_lead_label", "hot", Kind::Option),
    ("hs_lead_label", "Hot", Kind::Option),
    ("hs_lead_label", " HOT", Kind::Option),
    ("hs_lead_label", "HOT;WARM", Kind::Option),
    ("hs_lead_label", "1", Kind::Option),
    ("hs_lead_type", "NEW BUSINESS", Kind::Option),
    ("hs_lead_type", "new_business", Kind::Option),
    ("hs_lead_type", "RENEWAL", Kind::Option),
    ("interests", "golf", Kind::Option),
    ("interests", "skiing;golf", Kind::Option),
    ("interests", "skiing,sailing", Kind::Option),
    ("interests", "Skiing", Kind::Option),
    ("interests", ";golf", Kind::Option),
    ("interests", "[\"skiing\"]", Kind::Option),
    ("budget", "much", Kind::Number),
    ("budget", "1,000", Kind::Number),
    ("budget", "1.000,50", Kind::Number),
    ("budget", "1 000", Kind::Number),
    ("budget", "10 EUR", Kind::Number),
    ("budget", "$10", Kind::Number),
    ("budget", "NaN", Kind::Number),
    ("budget", "Infinity", Kind::Number),
    ("budget", "0x10", Kind::Number),
    ("budget", "1e", Kind::Number),
    ("budget", "--1", Kind::Number),
    ("budget", "true", Kind::Number),
    ("budget", "null", Kind::Number),
    ("hs_lead_pipeline_value", "12.3.4", Kind::Number),
    ("is_vip", "yes", Kind::Boolean),
    ("is_vip", "1", Kind::Boolean),
    ("is_vip", "on", Kind::Boolean),
    ("is_vip", "truee", Kind::Boolean),
    ("close_date", "tomorrow", Kind::Date),
    ("close_date", "2026-02-30", Kind::Date),
    ("close_date", "2026-13-01", Kind::Date),
    ("close_date", "30 Nov 2026", Kind::Date),
    ("close_date", "2026-11", Kind::Date),
    ("close_date", "2026-W10", Kind::Date),
    ("hs_next_activity_date", "soon", Kind::DateTime),
    ("hs_next_activity_date", "2026-11-30T25:00:00Z", Kind::DateTime),
    ("hs_next_activity_date", "2026-11-31T10:00:00Z", Kind::DateTime),
    ("hs_next_activity_date", "10:00", Kind::DateTime),
    ("hs_next_activity_date", "1.7e12", Kind::DateTime),
    ("hubspot_owner_id", "jane@example.com", Kind::Owner),
    ("hubspot_owner_id", "Jane Doe", Kind::Owner),
    ("hs_pipeline", "Inbound", Kind::Pipeline),
    ("hs_pipeline", "1234567", Kind::Pipeline),
    ("hs_pipeline_stage", "New", Kind::Pipeline),
    ("hs_pipeline_stage", "new", Kind::Pipeline),
    ("hs_pipeline_stage", "9003", Kind::Pipeline),
];

#[test]
fn each_documented_refusal_of_a_value_is_found_with_its_field() {
    assert!(REFUSED.len() >= 50);
    for (name, value, kind) in REFUSED {
        let found = violations(&[(name, value)], None, DateRules::Lenient);
        let [(field, own, text)] = found.as_slice() else { panic!("{name} = {value}: {found:?}") };
        assert_eq!((field.as_str(), own), (format!("properties[{name:?}]").as_str(), kind));
        assert!(text.len() <= 512, "{name} = {value}: {} bytes", text.len());
    }
}

#[test]
fn a_text_that_is_too_long_is_found() {
    let long = "x".repeat(65_537);
    for name in ["notes", "hs_lead_name"] {
        let found = violations(&[(name, &long)], None, DateRules::Lenient);
        assert_eq!(found.iter().map(|(_, kind, _)| *kind).collect::<Vec<_>>(), [Kind::Length]);
    }
}

#[test]
fn versions_before_2026_09_refuse_more_dates() {
    for (name, value, kind) in [
        ("close_date", "2026-11-30T10:00:00Z", ViolationKind::Date),
        ("close_date", "1764496800001", ViolationKind::Date),
        ("close_date", "11/30/2026", ViolationKind::Date),
        ("hs_next_activity_date", "11/30/2026", ViolationKind::DateTime),
    ] {
        let found = violations(&[(name, value)], None, DateRules::Strict);
        assert_eq!(found.iter().map(|(_, kind, _)| *kind).collect::<Vec<_>>(), [kind], "{value}");
        assert_eq!(violations(&[(name, value)], None, DateRules::Lenient), [], "{value}");
    }
}

#[test]
fn descriptions_name_what_was_meant_and_what_is_allowed() {
    for (name, value, expected) in [
        ("hs_lead_nme", "x", "is not a property of leads; did you mean hs_lead_name?"),
        ("zzzz", "x", "is not a property of leads"),
        ("hs_object_id", "1", "is read-only"),
        ("hs_lead_is_open", "true", "is computed by HubSpot and cannot be written"),
        (
            "hs_lead_label",
            "hott",
            "is not an option of the property; did you mean HOT (Hot)?; allowed: HOT, WARM, COLD",
        ),
        (
            "interests",
            "chess;skiin",
            "has an entry that is not an option of the property; did you mean skiing (Skiing)?; \
             allowed: skiing, sailing, chess",
        ),
        (
            "hs_pipeline",
            "inbound",
            "is not a lead pipeline; did you mean lead-pipeline-id (Inbound)?; allowed: 7001, \
             lead-pipeline-id",
        ),
    ] {
        let found = violations(&[(name, value)], None, DateRules::Lenient);
        let texts: Vec<_> = found.iter().map(|(_, _, text)| text.as_str()).collect();
        assert_eq!(texts, [expected], "{name} = {value}");
    }
}

#[test]
fn a_stage_belongs_to_the_pipeline_of_the_write_or_to_any() {
    let kinds = |properties: &[(&str, &str)]| {
        let found = violations(properties, None, DateRules::Lenient);
        found.into_iter().map(|(field, _, text)| (field, text)).collect::<Vec<_>>()
    };
    let (pipeline, stage) = ("hs_pipeline", "hs_pipeline_stage");
    for valid in [
        &[(pipeline, "7001"), (stage, "9002")][..],
        &[(stage, "9002")],
        &[(stage, "new-stage-id")],
        &[(pipeline, "7001"), (stage, "")],
        &[(pipeline, ""), (stage, "9001")],
    ] {
        assert_eq!(kinds(valid), [], "{valid:?}");
    }
    let found = kinds(&[(pipeline, "7001"), (stage, "new-stage-id")]);
    let text = "is not a stage of pipeline 7001; did you mean 9001 (New)?; allowed: 9001, 9002";
    assert_eq!(found, [(r#"properties["hs_pipeline_stage"]"#.to_owned(), text.to_owned())]);
    // A stage of an unknown pipeline is not judged.
    assert_eq!(kinds(&[(pipeline, "8"), (stage, "9001")]).len(), 1);
}

#[test]
fn the_property_that_identifies_a_lead_has_unique_values() {
    let found = |name: &str, id: &str| {
        let found = violations(&[], Some((name, id)), DateRules::Lenient);
        found.into_iter().map(|(field, _, text)| format!("{field}: {text}")).collect::<Vec<_>>()
    };
    assert_eq!(found("crm_key", "any"), [""; 0]);
    assert_eq!(
        found("notes", "x"),
        ["id_property: has no unique values, so it identifies no lead; allowed: crm_key"]
    );
    assert_eq!(
        found("crm_kee", "x"),
        ["id_property: is not a property of leads; did you mean crm_key?; allowed: crm_key"]
    );
}

fn of_type(category: AssociationCategory, type_id: i32) -> AssociationType {
    AssociationType { category, type_id }
}

fn defined(types: &[i32]) -> Vec<AssociationType> {
    types.iter().map(|id| of_type(AssociationCategory::HubspotDefined, *id)).collect()
}

#[test]
fn association_types_of_a_new_lead_lead_from_leads_to_one_object_type() {
    let to = |types: Vec<AssociationType>, position| Association {
        to_id: LeadId::parse("7").unwrap(),
        types,
        position,
    };
    let user = vec![of_type(AssociationCategory::UserDefined, 609)];
    let associations = [
        to(defined(&[578]), None),
        to(defined(&[608, 578]), Some(0)),
        to(defined(&[609]), Some(1)),
        to(defined(&[608, 610]), Some(2)),
        to(defined(&[2_741]), Some(3)),
        to(user, Some(4)),
    ];
    let properties = map(&[("hs_lead_name", "Jane")]);
    let draft = Draft {
        kind: DraftKind::Create,
        properties: &properties,
        identity: None,
        associations: &associations,
    };
    let found = check(&draft, &schema(DateRules::Lenient), &mut Hints::default(), 16);
    let found: Vec<_> =
        found.iter().map(|own| format!("{}: {}", own.fault.field, own.fault.description)).collect();
    assert_eq!(
        found,
        [
            "associations[1].types[0].type_id: is the type from contacts to leads; the type from \
             leads is 608",
            "associations[2].types[1].type_id: is a type of companies, but type 608 of the same \
             association is one of contacts; a record has one object type",
        ]
    );
}

#[test]
fn association_types_of_a_change_are_those_of_the_object_type() {
    let definition = |category, type_id| AssociationTypeDefinition {
        association_type: of_type(category, type_id),
        label: String::new(),
        inverse_type_id: None,
    };
    let all = vec![
        definition(AssociationCategory::HubspotDefined, 578),
        definition(AssociationCategory::HubspotDefined, 608),
        definition(AssociationCategory::UserDefined, 21),
    ];
    let copy = AssociationTypeCopy::new(Timestamp::UNIX_EPOCH, all);
    let found = |to: &str, types: Vec<AssociationType>, copy: Option<&AssociationTypeCopy>| {
        let id = LeadId::parse("7").unwrap();
        let change = AssociationChange { lead: id.clone(), to_id: id, types };
        let found = check_change(to, &change, copy, &mut Hints::default(), 16);
        found
            .into_iter()
            .map(|own| format!("{}: {}", own.fault.field, own.fault.description))
            .collect::<Vec<_>>()
    };
    let user = |id| vec![of_type(AssociationCategory::UserDefined, id)];
    assert_eq!(found("contacts", defined(&[608, 578]), Some(&copy)), [""; 0]);
    assert_eq!(found("0-1", user(21), Some(&copy)), [""; 0]);
    assert_eq!(
        found("contact", user(22), Some(&copy)),
        ["types[0].type_id: is not a type of associations from leads to contacts; allowed: \
          USER_DEFINED 21, 578, 608"]
    );
    assert_eq!(
        found("contacts", defined(&[608, 21]), Some(&copy)),
        ["types[1].type_id: is a type of contacts with category USER_DEFINED"]
    );
    // Without a copy, only what HubSpot defines for every portal is known.
    assert_eq!(found("contacts", user(22), None), [""; 0]);
    assert_eq!(found("contacts", defined(&[2_741]), None), [""; 0]);
    assert_eq!(
        found("contacts", defined(&[580, 609]), None),
        [
            "types[0].type_id: is a type of companies, not of contacts",
            "types[1].type_id: is the type from contacts to leads; the type from leads is 608",
        ]
    );
}

#[test]
fn parts_without_a_complete_copy_are_not_checked() {
    let properties = map(&[
        ("unknown", "x"),
        ("hs_pipeline", "8"),
        ("hs_pipeline_stage", "8"),
        ("budget", "much"),
    ]);
    let draft = Draft {
        kind: DraftKind::Update,
        properties: &properties,
        identity: Some(("unknown", "x")),
        associations: &[],
    };
    let fields = |schema: &SchemaView| {
        let found = check(&draft, schema, &mut Hints::default(), 16);
        found.into_iter().map(|own| own.fault.field).collect::<Vec<_>>()
    };
    assert_eq!(fields(&SchemaView::default()), [""; 0]);
    let mut part = self::properties();
    part.is_complete = false;
    let incomplete = SchemaView { properties: Some(Arc::new(part)), ..SchemaView::default() };
    assert_eq!(fields(&incomplete), [r#"properties["budget"]"#]);
    let mut part = pipelines();
    part.is_complete = false;
    let incomplete = SchemaView { pipelines: Some(Arc::new(part)), ..SchemaView::default() };
    assert_eq!(fields(&incomplete), [""; 0]);
}

#[test]
fn the_number_of_violations_is_bounded() {
    let names: Vec<String> = (0..2_000).map(|number| format!("unknown_{number}")).collect();
    let properties: BTreeMap<String, String> =
        names.into_iter().map(|name| (name, String::new())).collect();
    let draft = Draft {
        kind: DraftKind::Update,
        properties: &properties,
        identity: None,
        associations: &[],
    };
    for max in [1, 4, 16] {
        let found = check(&draft, &schema(DateRules::Lenient), &mut Hints::default(), max);
        assert_eq!(found.len(), max);
    }
}

/// 20,000 writes if `LEADSD_TEST_CASES` is `full`, as in CI, and 1,000 by default.
#[expect(clippy::disallowed_methods, reason = "the environment selects how thorough a test run is")]
fn config() -> ProptestConfig {
    let is_full = std::env::var("LEADSD_TEST_CASES").is_ok_and(|cases| cases == "full");
    let cases = if is_full { 20_000 } else { 1_000 };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A value that HubSpot accepts for a property of this type.
fn valid_value(index: usize) -> BoxedStrategy<String> {
    let (name, type_name, field_type) = PROPERTIES[index];
    let options = OPTIONS.iter().find(|(own, _)| *own == name).map(|(_, options)| *options);
    match (name, type_name, options) {
        ("hubspot_owner_id", ..) => "[0-9]{1,12}".boxed(),
        ("hs_pipeline", ..) => Just("7001".to_owned()).boxed(),
        ("hs_pipeline_stage", ..) => {
            prop_oneof![Just("9001"), Just("9002")].prop_map_into().boxed()
        }
        (_, _, Some(options)) if field_type == "checkbox" => {
            proptest::sample::subsequence(options.to_vec(), 1..=options.len())
                .prop_map(|some| some.iter().map(|(value, _)| *value).collect::<Vec<_>>().join(";"))
                .boxed()
        }
        (_, _, Some(options)) => proptest::sample::select(options.to_vec())
            .prop_map(|(value, _)| value.to_owned())
            .boxed(),
        (_, "number", _) => prop_oneof![
            any::<i64>().prop_map(|number| number.to_string()),
            any::<f64>()
                .prop_filter("finite", |number| number.is_finite())
                .prop_map(|number| number.to_string()),
            "-?[0-9]{1,30}(\\.[0-9]{1,30})?",
            "[0-9]{1,3}[eE][+-]?[0-9]{1,2}",
        ]
        .boxed(),
        (_, "bool", _) => any::<bool>().prop_map(|flag| flag.to_string()).boxed(),
        (_, "date", _) => prop_oneof![
            (1i16..=9_999, 1u8..=12, 1u8..=28)
                .prop_map(|(year, month, day)| format!("{year:04}-{month:02}-{day:02}")),
            (-100_000i64..100_000).prop_map(|days| (days * 86_400_000).to_string()),
        ]
        .boxed(),
        (_, "datetime", _) => prop_oneof![
            (-60_000_000_000i64..250_000_000_000).prop_map(|seconds| Timestamp::from_second(
                seconds
            )
            .unwrap()
            .to_string()),
            any::<i64>().prop_map(|millis| millis.to_string()),
        ]
        .boxed(),
        _ => "\\PC{0,40}".boxed(),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_valid_write_has_a_violation(
        values in PROPERTIES.iter().enumerate()
            .map(|(index, _)| proptest::option::of(prop_oneof![
                9 => valid_value(index),
                1 => Just(String::new()),
            ]))
            .collect::<Vec<_>>(),
        lenient in any::<bool>(),
    ) {
        let written = PROPERTIES.iter().zip(values).filter_map(|((name, ..), value)| {
            Some(((*name).to_owned(), value.filter(|_| !READ_ONLY.contains(name))?))
        });
        let properties: BTreeMap<String, String> = written.collect();
        let dates = if lenient { DateRules::Lenient } else { DateRules::Strict };
        let draft = Draft {
            kind: DraftKind::Create,
            properties: &properties,
            identity: Some(("crm_key", "k")),
            associations: &[],
        };
        let found = check(&draft, &schema(dates), &mut Hints::default(), 16);
        prop_assert_eq!(found, Vec::new());
    }

    #[test]
    fn no_description_has_a_value_of_the_write(
        name in proptest::sample::select(PROPERTIES.map(|(name, ..)| name).to_vec()),
        secret in "[a-z]{6}@[a-z]{6}\\.example",
    ) {
        let properties = map(&[(name, &secret)]);
        let draft = Draft {
            kind: DraftKind::Update,
            properties: &properties,
            identity: None,
            associations: &[],
        };
        for own in check(&draft, &schema(DateRules::Strict), &mut Hints::default(), 16) {
            prop_assert!(!own.fault.description.contains(&secret));
            prop_assert!(own.fault.description.len() <= 512);
        }
    }
}
