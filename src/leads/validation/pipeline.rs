//! Pipelines and their stages.

use std::collections::BTreeMap;

use super::{
    hints::{Candidate, Hints, shown},
    violation::{Violation, ViolationKind},
};
use crate::leads::schema::{Pipeline, PipelineCopy, PipelineStage};

/// Property with the id of the pipeline.
pub(in crate::leads) const PIPELINE: &str = "hs_pipeline";

/// Property with the id of the stage.
pub(in crate::leads) const STAGE: &str = "hs_pipeline_stage";

/// Checks the pipeline and the stage of a write. A stage alone may be one of any pipeline: only HubSpot knows
/// that of the lead. Nothing is known of pipelines that the copy lacks for its size.
pub(super) fn violations(
    properties: &BTreeMap<String, String>,
    pipelines: &PipelineCopy,
    hints: &mut Hints,
) -> Vec<Violation> {
    let value = |name| properties.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let mut found = Vec::new();
    let pipeline = value(PIPELINE).map(|id| (id, pipelines.get(id)));
    if let Some((id, None)) = pipeline
        && pipelines.is_complete
    {
        let all = || pipelines.all().iter().map(pipeline_candidate);
        let (near, allowed) = (hints.did_you_mean(id, all()), hints.allowed(all()));
        let text = format!("is not a lead pipeline{near}{allowed}");
        found.push(Violation::of_property(ViolationKind::Pipeline, PIPELINE, id, text));
    }
    let Some(stage) = value(STAGE) else { return found };
    let is_stage = |pipeline: &Pipeline| pipeline.stages.iter().any(|own| own.id == stage);
    match pipeline {
        Some((_, Some(pipeline))) if !is_stage(pipeline) => {
            let all = || pipeline.stages.iter().map(stage_candidate);
            let (near, allowed) = (hints.did_you_mean(stage, all()), hints.allowed(all()));
            let text = format!("is not a stage of pipeline {}{near}{allowed}", shown(&pipeline.id));
            // Whether it is a stage depends on both.
            let both = format!("{}\n{stage}", pipeline.id);
            found.push(Violation::of_property(ViolationKind::Pipeline, STAGE, &both, text));
        }
        None if pipelines.is_complete && !pipelines.all().iter().any(is_stage) => {
            let stages: Vec<&PipelineStage> =
                pipelines.all().iter().flat_map(|pipeline| &pipeline.stages).collect();
            let all = || stages.iter().map(|own| stage_candidate(own));
            let (near, allowed) = (hints.did_you_mean(stage, all()), hints.allowed(all()));
            let text = format!("is not a stage of a lead pipeline{near}{allowed}");
            found.push(Violation::of_property(ViolationKind::Pipeline, STAGE, stage, text));
        }
        Some(_) | None => {}
    }
    found
}

fn pipeline_candidate(pipeline: &Pipeline) -> Candidate<'_> {
    Candidate { value: &pipeline.id, label: &pipeline.label }
}

fn stage_candidate(stage: &PipelineStage) -> Candidate<'_> {
    Candidate { value: &stage.id, label: &stage.label }
}
