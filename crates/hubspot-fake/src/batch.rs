//! Batch endpoints: atomic without trace ids, results in random order. With trace ids, a conflict fails its
//! input alone, and so do other errors if the switch for them is set.

use std::collections::HashSet;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    FakeAccount, NumErrors,
    errors::Failure,
    http::{FakeRequest, FakeResponse, strings},
    lead::{Projection, millis},
    store::Rules,
};

/// Maximum number of inputs of a batch.
const MAX_INPUTS: usize = 100;

/// Results and errors of a batch.
#[derive(Default)]
pub(super) struct BatchOutcome {
    results: Vec<Value>,
    errors: Vec<Value>,
    /// Number of failed inputs.
    failed: usize,
}

// === impl FakeAccount ===

impl FakeAccount {
    pub(super) fn batch(&mut self, request: &FakeRequest) -> Result<FakeResponse, Failure> {
        let inputs = Self::batch_inputs(request)?;
        match request.path.as_str() {
            "batch/read" => self.batch_read(&inputs, request),
            "batch/create" => self.batch_create(&inputs, request.modern),
            "batch/update" => self.batch_update(&inputs, request.modern),
            "batch/upsert" => self.batch_upsert(&inputs, request.modern),
            "batch/archive" => Ok(self.batch_archive(&inputs)),
            _ => Err(Failure::validation("no such batch")),
        }
    }

    /// Inputs of a batch.
    pub(super) fn batch_inputs(request: &FakeRequest) -> Result<Vec<Value>, Failure> {
        let inputs: Vec<Value> = request.body["inputs"].as_array().cloned().unwrap_or_default();
        if inputs.is_empty() {
            let text = "Invalid input JSON: Some required fields were not set: [inputs]";
            return Err(Failure::validation(text));
        }
        if inputs.len() > MAX_INPUTS {
            let text = format!("The maximum number of inputs in a batch request is {MAX_INPUTS}");
            return Err(Failure::validation(text));
        }
        Ok(inputs)
    }

    fn batch_read(
        &mut self,
        inputs: &[Value],
        request: &FakeRequest,
    ) -> Result<FakeResponse, Failure> {
        let id_property = request.body["idProperty"].as_str();
        self.store.check_id_property(id_property, &self.behaviour)?;
        let history = strings(&request.body["propertiesWithHistory"]);
        let behaviour = self.behaviour.clone();
        if behaviour.refuse_history_over_50 && !history.is_empty() && inputs.len() > 50 {
            return Err(Failure::validation("At most 50 inputs with property history"));
        }
        let properties = strings(&request.body["properties"]);
        let shown = Projection { properties, history, associations: Vec::new() };
        let mut done = BatchOutcome::default();
        let mut missing = Vec::new();
        let mut seen = HashSet::new();
        for input in inputs {
            let id = id_of(input);
            let follows = behaviour.batch_reads_follow_merges && id_property.is_none();
            let archived = request.archived();
            let survivor = || {
                let survivor = self.store.survivor(&id).filter(|_| follows)?;
                (survivor.archived.is_some() == archived).then_some(survivor)
            };
            match self.store.find(&id, id_property, archived).or_else(survivor) {
                Some(lead) if seen.insert(lead.id) => {
                    done.results.push(lead.show(&self.store.properties, &behaviour, &shown));
                }
                Some(_) => {}
                None => missing.push(id),
            }
        }
        if !missing.is_empty() {
            done.fail(missing.len(), self.not_there(&missing), None);
        }
        Ok(self.answer(done, StatusCode::OK))
    }

    fn batch_create(&mut self, inputs: &[Value], modern: bool) -> Result<FakeResponse, Failure> {
        let traced = all_traced(inputs);
        let behaviour = self.behaviour.clone();
        let rules = Rules { behaviour: &behaviour, now: self.clock.now(), modern };
        if !traced || !behaviour.property_errors_per_item {
            let fails_all = |failure: &Failure| !traced || !failure.is_conflict();
            self.store.check_creates(inputs, &rules, fails_all)?;
        }
        let mut done = BatchOutcome::default();
        for input in inputs {
            match self.store.create(input, &rules) {
                Ok(id) => {
                    let mut shown = input.clone();
                    if !behaviour.show_created {
                        shown["properties"] = Value::Null;
                    }
                    done.results.push(self.item(id, &shown));
                }
                Err(failure) => done.fail(1, failure, self.named(input)),
            }
        }
        let success = StatusCode::from_u16(behaviour.batch_create_status);
        Ok(self.answer(done, success.unwrap_or(StatusCode::CREATED)))
    }

    fn batch_update(&mut self, inputs: &[Value], modern: bool) -> Result<FakeResponse, Failure> {
        let mut seen = HashSet::new();
        let ids = inputs.iter().map(id_of);
        let twice: Vec<String> = ids.filter(|id| !seen.insert(id.clone())).collect();
        if !twice.is_empty() {
            return Err(Failure::duplicate_ids(&twice));
        }
        let behaviour = self.behaviour.clone();
        for input in inputs {
            self.store.check_id_property(input["idProperty"].as_str(), &behaviour)?;
        }
        let rules = Rules { behaviour: &behaviour, now: self.clock.now(), modern };
        if !all_traced(inputs) || !behaviour.property_errors_per_item {
            for input in inputs {
                let found = self.found(input);
                if let Some(id) = found {
                    let before = self.store.leads.get(&id).cloned();
                    let tried = self.store.update(id, &input["properties"], &rules);
                    if let Some(before) = before {
                        self.store.leads.insert(id, before);
                    }
                    tried?;
                }
            }
        }
        let mut done = BatchOutcome::default();
        let mut missing = Vec::new();
        for input in inputs {
            let Some(id) = self.found(input) else {
                missing.push(id_of(input));
                continue;
            };
            match self.store.update(id, &input["properties"], &rules) {
                Ok(()) => done.results.push(self.item(id, input)),
                Err(failure) => done.fail(1, failure, self.named(input)),
            }
        }
        if !missing.is_empty() {
            done.fail(missing.len(), self.not_there(&missing), None);
        }
        Ok(self.answer(done, StatusCode::OK))
    }

    fn batch_upsert(&mut self, inputs: &[Value], modern: bool) -> Result<FakeResponse, Failure> {
        let behaviour = self.behaviour.clone();
        let rules = Rules { behaviour: &behaviour, now: self.clock.now(), modern };
        let named = |input: &Value| input["idProperty"].as_str().is_some();
        if !behaviour.upsert_without_id_property && !inputs.iter().all(named) {
            return Err(Failure::validation("Some required fields were not set: [idProperty]"));
        }
        for input in inputs {
            self.store.check_id_property(input["idProperty"].as_str(), &behaviour)?;
        }
        let mut done = BatchOutcome::default();
        for input in inputs {
            let outcome = match self.found(input) {
                Some(id) => {
                    self.store.update(id, &input["properties"], &rules).map(|()| (id, false))
                }
                None => self.upsert_new(input, modern).map(|id| (id, true)),
            };
            match outcome {
                Ok((id, new)) => {
                    let mut item = self.item(id, input);
                    item["new"] = json!(new);
                    if let Some(name) = input["idProperty"].as_str() {
                        item["properties"][name] = json!(id_of(input));
                    }
                    done.results.push(item);
                }
                Err(failure) if all_traced(inputs) => {
                    done.fail(1, failure, self.named(input));
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(self.answer(done, StatusCode::OK))
    }

    /// Creates a lead for an upsert, which carries no associations: it fails, unless a lead may have
    /// no contact.
    fn upsert_new(&mut self, input: &Value, modern: bool) -> Result<u64, Failure> {
        let Some(name) = input["idProperty"].as_str().filter(|name| *name != "hs_object_id") else {
            return Err(Failure::items_not_found(&[id_of(input)]));
        };
        let mut create = input.clone();
        create["properties"][name] = json!(id_of(input));
        create["associations"] = Value::Null;
        let mut behaviour = self.behaviour.clone();
        behaviour.contactless_leads |= behaviour.contactless_upserts;
        let rules = Rules { behaviour: &behaviour, now: self.clock.now(), modern };
        self.store.create(&create, &rules)
    }

    fn batch_archive(&mut self, inputs: &[Value]) -> FakeResponse {
        let mut missing = Vec::new();
        for input in inputs {
            let id = id_of(input);
            if self.store.find(&id, None, false).is_none() {
                missing.push(id.clone());
            }
            self.archive(&id);
        }
        if self.behaviour.batch_archive_reports_unknown && !missing.is_empty() {
            let mut done = BatchOutcome::default();
            done.fail(missing.len(), self.not_there(&missing), None);
            return self.answer(done, StatusCode::OK);
        }
        (StatusCode::NO_CONTENT, Value::Null)
    }

    /// Error for unknown leads.
    fn not_there(&self, ids: &[String]) -> Failure {
        let mut failure = Failure::items_not_found(ids);
        if !self.behaviour.name_failed_inputs {
            failure.body["context"] = Value::Null;
        }
        failure
    }

    /// Trace id that identifies an input in errors.
    fn named<'a>(&self, input: &'a Value) -> Option<&'a str> {
        trace_of(input).filter(|_| self.behaviour.name_failed_inputs)
    }

    fn found(&self, input: &Value) -> Option<u64> {
        let id_property = input["idProperty"].as_str();
        self.store.find(&id_of(input), id_property, false).map(|lead| lead.id)
    }

    fn item(&self, id: u64, input: &Value) -> Value {
        let mut item = self.written(id, input);
        if let (true, Some(trace_id)) = (self.behaviour.echo_trace_ids, trace_of(input)) {
            item["objectWriteTraceId"] = json!(trace_id);
        }
        item
    }

    /// Shuffles the results and adds the errors.
    pub(super) fn answer(&mut self, done: BatchOutcome, success: StatusCode) -> FakeResponse {
        let BatchOutcome { mut results, errors, failed } = done;
        results.sort_by_cached_key(|_| {
            self.shuffle = self.shuffle.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            self.shuffle >> 33
        });
        let now = millis(self.clock.now());
        let mut body = json!({
            "status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now,
        });
        if errors.is_empty() {
            return (success, body);
        }
        match self.behaviour.num_errors {
            NumErrors::Entries => body["numErrors"] = json!(errors.len()),
            NumErrors::Inputs => body["numErrors"] = json!(failed),
            NumErrors::Absent => {}
        }
        body["errors"] = Value::Array(errors);
        let partial = StatusCode::from_u16(self.behaviour.partial_status);
        (partial.unwrap_or(StatusCode::MULTI_STATUS), body)
    }
}

// === impl BatchOutcome ===

impl BatchOutcome {
    /// Adds a result.
    pub(super) fn succeed(&mut self, item: Value) {
        self.results.push(item);
    }

    /// Adds one error for this many inputs.
    pub(super) fn fail(&mut self, inputs: usize, failure: Failure, trace_id: Option<&str>) {
        self.failed += inputs;
        self.errors.push(failure.into_item(trace_id));
    }
}

pub(super) fn id_of(input: &Value) -> String {
    input["id"].as_str().map_or_else(|| input["id"].to_string(), str::to_owned)
}

pub(super) fn trace_of(input: &Value) -> Option<&str> {
    input["objectWriteTraceId"].as_str()
}

/// True if each input has a distinct trace id.
pub(super) fn all_traced(inputs: &[Value]) -> bool {
    let mut seen = HashSet::new();
    inputs.iter().all(|input| trace_of(input).is_some_and(|trace| seen.insert(trace)))
}
