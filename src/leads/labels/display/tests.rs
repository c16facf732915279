//! Labels of values, as a table.

use std::collections::BTreeMap;

use leadsd_base::time::Timestamp;

use super::*;
use crate::leads::schema::{
    Owner, OwnerCopy, PartCopy, Pipeline, PipelineCopy, PipelineStage, PropertyCopy, PropertyOption,
};

fn copies() -> SchemaCopies {
    let time = Timestamp::UNIX_EPOCH;
    let option = |value: &str, label: &str| PropertyOption {
        value: value.to_owned(),
        label: label.to_owned(),
        ..PropertyOption::default()
    };
    let options = vec![option("1", "Skiing"), option("2", "Chess"), option("3", "")];
    let name = "interests".to_owned();
    let property = PropertyDefinition { name, options, ..PropertyDefinition::default() };
    let stage = |id: &str, label: &str| PipelineStage {
        id: id.to_owned(),
        label: label.to_owned(),
        ..PipelineStage::default()
    };
    let pipeline = Pipeline {
        id: "p".to_owned(),
        label: "Sales".to_owned(),
        stages: vec![stage("s", "New")],
        ..Pipeline::default()
    };
    let (id, email) = ("9".to_owned(), "ada@example.com".to_owned());
    let owners = vec![Owner { id, email, is_active: true, ..Owner::default() }];
    let mut copies = SchemaCopies::default();
    let properties = PropertyCopy::new(time, vec![property]);
    copies.set(&PartKey::Properties, PartCopy::Properties(properties.into()));
    let pipelines = PipelineCopy::new(time, vec![pipeline]);
    copies.set(&PartKey::Pipelines, PartCopy::Pipelines(pipelines.into()));
    let owners = OwnerCopy::new(time, owners, true);
    copies.set(&PartKey::Owners, PartCopy::Owners(owners.into()));
    copies
}

fn text(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn labels(own: &DisplayLabels, values: &[(&str, &str)]) -> BTreeMap<String, String> {
    let lead = Lead { properties: text(values), ..Lead::default() };
    own.add_to(lead.into()).labels.clone()
}

#[test]
fn values_with_a_label_have_it_and_others_are_left_out() {
    let own = DisplayLabels { copies: copies(), error: None };
    let found = labels(
        &own,
        &[
            ("hs_lead_name", "Ada"),
            ("hs_pipeline", "p"),
            ("hs_pipeline_stage", "s"),
            ("hubspot_owner_id", "9"),
            ("interests", "2;1"),
        ],
    );
    let expected = [
        ("hs_pipeline", "Sales"),
        ("hs_pipeline_stage", "New"),
        ("hubspot_owner_id", "ada@example.com"),
        ("interests", "Chess;Skiing"),
    ];
    assert_eq!(found, text(&expected));
    for (name, value) in [
        ("hs_pipeline", "q"),
        ("hs_pipeline_stage", ""),
        ("hubspot_owner_id", "8"),
        ("interests", "1;7"),
        ("interests", "3"),
        ("interests", ""),
    ] {
        assert_eq!(labels(&own, &[(name, value)]), BTreeMap::new(), "{name}: {value}");
    }
    let unknown = DisplayLabels::default();
    assert_eq!(labels(&unknown, &[("hs_pipeline", "p"), ("interests", "1")]), BTreeMap::new());
}
