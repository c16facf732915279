//! Labels in copies of a schema, as tables.

use leadsd_base::time::Timestamp;

use super::*;
use crate::leads::{
    AssociationCategory,
    schema::{AssociationTypeDefinition, Owner, PipelineStage, PropertyOption},
};

fn pipeline(id: &str, label: &str, stages: &[(&str, &str)]) -> Pipeline {
    let stage = |(id, label): &(&str, &str)| PipelineStage {
        id: (*id).to_owned(),
        label: (*label).to_owned(),
        ..PipelineStage::default()
    };
    Pipeline {
        id: id.to_owned(),
        label: label.to_owned(),
        display_order: 0,
        stages: stages.iter().map(stage).collect(),
    }
}

fn owner(id: &str, email: &str, is_active: bool) -> Owner {
    Owner { id: id.to_owned(), email: email.to_owned(), is_active, ..Owner::default() }
}

fn property(name: &str, field_type: &str, options: &[(&str, &str)]) -> PropertyDefinition {
    let option = |(value, label): &(&str, &str)| PropertyOption {
        value: (*value).to_owned(),
        label: (*label).to_owned(),
        ..PropertyOption::default()
    };
    PropertyDefinition {
        name: name.to_owned(),
        field_type: field_type.to_owned(),
        options: options.iter().map(option).collect(),
        has_external_options: name == "second_owner",
        ..PropertyDefinition::default()
    }
}

fn association_type(type_id: i32, label: &str) -> AssociationTypeDefinition {
    let category = AssociationCategory::UserDefined;
    AssociationTypeDefinition {
        association_type: AssociationType { category, type_id },
        label: label.to_owned(),
        inverse_type_id: None,
    }
}

fn copies(pipelines: Vec<Pipeline>) -> SchemaCopies {
    let time = Timestamp::UNIX_EPOCH;
    let properties = vec![
        property("hs_lead_label", "select", &[("HOT", "Hot lead"), ("WARM", "Warm")]),
        property(
            "interests",
            "checkbox",
            &[
                ("1", "Skiing"),
                ("2", "Chess"),
                ("3", "Sailing; boats"),
                ("4", "Twice"),
                ("5", "Twice"),
            ],
        ),
        property("budget", "number", &[]),
        property("second_owner", "select", &[]),
    ];
    let owners = vec![
        owner("1", "Ada@example.com", true),
        owner("2", "grace@example.com", false),
        owner("3", "grace@example.com", true),
        owner("4", "alan@example.com", false),
        owner("5", "joan@example.com", true),
        owner("6", "joan@example.com", true),
    ];
    let types = vec![
        association_type(7, "Decision maker"),
        association_type(8, ""),
        association_type(9, "Buyer"),
        association_type(10, "buyer"),
    ];
    let mut copies = SchemaCopies::default();
    for (key, copy) in [
        (PartKey::Properties, PartCopy::Properties(Arc::new(PropertyCopy::new(time, properties)))),
        (PartKey::Pipelines, PartCopy::Pipelines(Arc::new(PipelineCopy::new(time, pipelines)))),
        (PartKey::Owners, PartCopy::Owners(Arc::new(OwnerCopy::new(time, owners, true)))),
        (
            PartKey::AssociationTypes("contacts".to_owned()),
            PartCopy::AssociationTypes(Arc::new(AssociationTypeCopy::new(time, types))),
        ),
    ] {
        copies.set(&key, copy);
    }
    copies
}

fn two_pipelines() -> Vec<Pipeline> {
    vec![
        pipeline("lead-pipeline-id", "Sales", &[("s-1", "New"), ("s-2", "Won")]),
        pipeline("p-2", "Partners", &[("s-3", "New"), ("s-4", "Signed")]),
    ]
}

fn description<T: std::fmt::Debug>(result: Result<T, Unresolved>) -> String {
    result.unwrap_err().description.expect("a description")
}

#[test]
fn a_stage_is_looked_up_in_its_pipeline_and_is_never_guessed() {
    let several = copies(two_pipelines());
    let mut lookup = Lookup::new(&several);
    let mut stage = |label: &str, pipeline: Option<&str>, is_new: bool| {
        lookup.stage(label, pipeline, is_new).map(|stage| (stage.id, stage.pipeline)).map_err(
            |unresolved| {
                assert_eq!(unresolved.part, PartKey::Pipelines);
                unresolved.description.expect("a description")
            },
        )
    };
    let found = |id: &str, pipeline: &str| Ok((id.to_owned(), pipeline.to_owned()));
    assert_eq!(stage("new", Some("p-2"), true), found("s-3", "p-2"));
    assert_eq!(stage("New", Some("lead-pipeline-id"), false), found("s-1", "lead-pipeline-id"));
    assert_eq!(stage("signed", None, false), found("s-4", "p-2"), "the only one of its label");
    assert_eq!(stage("New", None, true), found("s-1", "lead-pipeline-id"), "the default pipeline");
    let text = stage("New", None, false).unwrap_err();
    assert_eq!(
        text,
        "stands for 2 ids; use one of them instead; allowed: s-1 of pipeline Sales, s-3 of pipeline \
         Partners"
    );
    let text = stage("Won", Some("p-2"), true).unwrap_err();
    assert_eq!(text, "is not the label of a stage of the pipeline; allowed: New, Signed");
    let text = stage("sined", Some("p-2"), true).unwrap_err();
    assert!(text.contains("; did you mean Signed (s-4)?"), "{text}");
    // An id is no label, and the label is suggested.
    let text = stage("s-4", None, true).unwrap_err();
    assert!(text.contains("a lead pipeline; did you mean Signed (s-4)?"), "{text}");
    let text = stage("New", Some("p-9"), true).unwrap_err();
    assert!(text.contains("the one of the request is not known"), "{text}");

    let only = copies(vec![pipeline("x", "Only", &[("1", "A"), ("2", "A"), ("3", "B")])]);
    let mut lookup = Lookup::new(&only);
    assert_eq!(lookup.stage("b", None, false).unwrap().id, "3");
    let text = description(lookup.stage("A", None, true));
    assert_eq!(text, "stands for 2 ids; use one of them instead; allowed: 1, 2");
}

#[test]
fn pipelines_options_and_association_types_are_found_by_label() {
    let copies = copies(two_pipelines());
    let mut lookup = Lookup::new(&copies);
    assert_eq!(lookup.pipeline(" partners "), Ok("p-2".to_owned()));
    let text = description(lookup.pipeline("Partner"));
    assert!(text.contains("did you mean Partners (p-2)?; allowed: Sales, Partners"), "{text}");
    for (property, label, expected) in [
        ("hs_lead_label", "hot LEAD", "HOT"),
        ("interests", "chess", "2"),
        ("interests", "Chess; skiing", "2;1"),
        ("interests", ";Chess", ";2"),
        ("interests", "Sailing; boats", "3"),
        ("second_owner", "ada@example.com", "1"),
    ] {
        assert_eq!(lookup.option(property, label), Ok(expected.to_owned()), "{label}");
    }
    for (property, label, expected) in [
        ("hs_lead_label", "HOT", "did you mean Hot lead (HOT)?; allowed: Hot lead, Warm"),
        ("hs_lead_label", "Warm;Hot lead", "is not the label of an option of the property"),
        ("interests", "Chess;", "is not the label of an option of the property"),
        ("interests", "Twice", "stands for 2 ids; use one of them instead; allowed: 4, 5"),
        ("budget", "much", "has no options with labels; put the value in properties"),
        ("second_owner", "Ada", "has no options with labels; put the value in properties"),
        ("interest", "Chess", "is not a property of leads; did you mean interests?"),
    ] {
        let text = description(lookup.option(property, label));
        assert!(text.contains(expected), "{text}");
    }
    let kind = lookup.association_type("contact", "decision maker").unwrap();
    assert_eq!(kind.type_id, 7);
    assert_eq!(lookup.association_type("0-1", "Buyer").unwrap().type_id, 9);
    let text = description(lookup.association_type("contacts", "BUYER"));
    assert!(text.ends_with("; allowed: USER_DEFINED 9, USER_DEFINED 10"), "{text}");
    let text = description(lookup.association_type("contacts", "Seller"));
    assert!(text.ends_with("; allowed: Decision maker, Buyer, buyer"), "{text}");
    let missing = lookup.association_type("companies", "Primary").unwrap_err();
    assert_eq!(missing.part, PartKey::AssociationTypes("companies".to_owned()));
    assert_eq!(missing.description, None);
}

#[test]
fn an_owner_is_found_by_address_and_active_users_come_first() {
    let copies = copies(two_pipelines());
    let mut lookup = Lookup::new(&copies);
    for (email, expected) in
        [("ADA@example.com", "1"), (" grace@example.com", "3"), ("alan@example.com", "4")]
    {
        assert_eq!(lookup.owner(email), Ok(expected.to_owned()), "{email}");
    }
    let text = description(lookup.owner("joan@example.com"));
    assert_eq!(text, "stands for 2 ids; use one of them instead; allowed: 5, 6");
    let text = description(lookup.owner("alam@example.com"));
    assert!(text.contains("; did you mean alan@example.com?"), "{text}");
    let text = description(lookup.owner("1"));
    assert_eq!(text, "is not the e-mail address of an owner; ListOwners lists them");
}

#[test]
fn descriptions_of_many_faults_are_short() {
    let copies = copies(two_pipelines());
    let mut lookup = Lookup::new(&copies);
    let texts: Vec<String> =
        (0..=MAX_DETAILED).map(|_| description(lookup.option("interests", "Ches"))).collect();
    assert!(texts[0].contains("did you mean"));
    assert_eq!(texts[MAX_DETAILED], "is not the label of an option of the property");
}

#[test]
fn nothing_is_found_without_a_copy() {
    let copies = SchemaCopies::default();
    let mut lookup = Lookup::new(&copies);
    for (result, part) in [
        (lookup.pipeline("a"), PartKey::Pipelines),
        (lookup.stage("a", None, true).map(|stage| stage.id), PartKey::Pipelines),
        (lookup.owner("a"), PartKey::Owners),
        (lookup.option("a", "b"), PartKey::Properties),
    ] {
        assert_eq!(result, Err(Unresolved::no_copy(part)));
    }
}
