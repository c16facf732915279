//! Inputs of a batch call. An invalid input has its own error, like one that HubSpot rejects, and the
//! others are sent.

use std::collections::{HashMap, hash_map::Entry};

use uuid::Uuid;

use super::typed::TypedNames;
use crate::{
    grpc::validate::FieldFaults,
    leads::{Error, FieldFault, Labelled, LeadId, Traced},
};

/// Field of a request whose elements are inputs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum InputField {
    /// Strings.
    Ids,
    /// Messages.
    Inputs,
}

/// Validated inputs of a batch call.
#[derive(Debug)]
pub(crate) struct BatchInputs<T> {
    field: InputField,
    /// Number of inputs, valid or not.
    count: usize,
    /// The valid inputs, in order.
    valid: Vec<T>,
    /// Names of the typed properties of the valid inputs that have some, with the index of the input.
    typed: Vec<(usize, TypedNames)>,
    /// The others, in order.
    #[expect(clippy::vec_box, reason = "the vector takes little memory while it grows")]
    rejected: Vec<Box<RejectedInput>>,
}

/// An invalid input. Its error is built with the response, because it takes more memory.
#[derive(Debug)]
struct RejectedInput {
    index: usize,
    /// First violation of the input.
    fault: FieldFault,
    /// Trace id of the caller; empty if there is none, or it is invalid.
    trace_id: String,
}

/// Collects the inputs of a batch, and rejects those that name the lead of an earlier one.
#[derive(Debug)]
pub(super) struct BatchCollector<T> {
    inputs: BatchInputs<T>,
    /// Index of the first input by lead.
    leads: HashMap<LeadName, usize>,
    /// Index of the first input by the trace id of the caller.
    traces: HashMap<String, usize>,
}

/// Name of a lead, equal for all spellings of one id: unique property and value, or record id.
pub(super) type LeadName = (Option<String>, String);

// === impl InputField ===

impl InputField {
    /// Name of the field.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ids => "ids",
            Self::Inputs => "inputs",
        }
    }

    /// The error of an input that leadsd rejects.
    fn error(self, index: usize, fault: FieldFault) -> Error {
        let FieldFault { field, description } = fault;
        let path = match (self, field.as_str()) {
            (Self::Ids, _) => format!("ids[{index}]"),
            (Self::Inputs, "") => format!("inputs[{index}]"),
            (Self::Inputs, field) => format!("inputs[{index}].{field}"),
        };
        Error::invalid(vec![FieldFault::new(path, description)])
    }

    /// Adds the path of the input to the fields of an error of leadsd. Its other fields are those of the
    /// call.
    fn with_path(self, index: usize, error: Error) -> Error {
        match self {
            Self::Ids => error,
            Self::Inputs => error.with_field_prefix(&format!("inputs[{index}].")),
        }
    }
}

// === impl BatchInputs ===

impl<T> BatchInputs<T> {
    /// Number of inputs.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Takes the valid inputs. Their results belong in [`merge`](Self::merge).
    pub(crate) fn take_valid(&mut self) -> Vec<T> {
        std::mem::take(&mut self.valid)
    }

    /// Adds the errors of the rejected inputs to the results of the valid ones: one result per input, in
    /// input order. Errors are built one at a time.
    pub(crate) fn merge<R>(
        self,
        results: impl IntoIterator<Item = Result<R, Error>>,
    ) -> impl Iterator<Item = Result<R, Error>> {
        let Self { field, count, valid: _, typed, rejected } = self;
        let mut results = results.into_iter();
        let mut typed = typed.into_iter().peekable();
        let mut rejected = rejected.into_iter().peekable();
        (0..count).map_while(move |index| match rejected.next_if(|next| next.index == index) {
            Some(rejected) => Some(Err(field.error(index, rejected.fault))),
            None => {
                let names = typed.next_if(|(at, _)| *at == index).map(|(_, names)| names);
                let renamed = |error| match names {
                    Some(names) => names.rename(error),
                    None => error,
                };
                Some(results.next()?.map_err(|error| field.with_path(index, renamed(error))))
            }
        })
    }
}

// === impl BatchCollector ===

impl<T> BatchCollector<T> {
    pub(super) fn new(field: InputField) -> Self {
        let (valid, typed, rejected) = (Vec::new(), Vec::new(), Vec::new());
        let inputs = BatchInputs { field, count: 0, valid, typed, rejected };
        Self { inputs, leads: HashMap::new(), traces: HashMap::new() }
    }

    /// Adds the next input, or its fault with the trace id of the caller.
    pub(super) fn push(&mut self, input: Result<T, FieldFault>, trace_id: String) {
        let inputs = &mut self.inputs;
        let index = inputs.count;
        match input {
            Ok(input) => inputs.valid.push(input),
            Err(fault) => {
                inputs.rejected.push(Box::new(RejectedInput { index, fault, trace_id }));
            }
        }
        inputs.count += 1;
    }

    /// Adds the next input, which has these typed properties.
    pub(super) fn push_typed(&mut self, input: T, typed: TypedNames) {
        if !typed.is_empty() {
            self.inputs.typed.push((self.inputs.count, typed));
        }
        self.push(Ok(input), String::new());
    }

    /// Rejects an input that names the lead of an earlier one.
    pub(super) fn check_lead(&mut self, faults: &mut FieldFaults, lead: LeadName) {
        check_first(&mut self.leads, lead, self.inputs.count, "id", faults);
    }

    /// Rejects an input with the trace id of an earlier one.
    pub(super) fn check_trace(&mut self, faults: &mut FieldFaults, trace_id: &str) {
        let field = "object_write_trace_id";
        check_first(&mut self.traces, trace_id.to_owned(), self.inputs.count, field, faults);
    }

    pub(super) fn finish(self) -> BatchInputs<T> {
        self.inputs
    }
}

fn check_first<K: std::hash::Hash + Eq>(
    seen: &mut HashMap<K, usize>,
    key: K,
    index: usize,
    field: &str,
    faults: &mut FieldFaults,
) {
    match seen.entry(key) {
        Entry::Vacant(entry) => drop(entry.insert(index)),
        Entry::Occupied(first) => {
            faults.add(field, format!("is a duplicate of inputs[{}].{field}", first.get()));
        }
    }
}

/// The name of a lead in its normal form: HubSpot compares unique values ignoring case, and record ids
/// are numbers.
pub(super) fn lead_name(id: &LeadId, id_property: Option<&str>) -> LeadName {
    let text = id.as_str();
    let is_number = id_property.is_none() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text =
        if is_number { text.trim_start_matches('0').to_owned() } else { text.to_lowercase() };
    (id_property.map(str::to_owned), text)
}

/// The trace ids of all inputs. Called before [`BatchInputs::take_valid`].
pub(crate) fn trace_ids<T>(inputs: &BatchInputs<Labelled<Traced<T>>>) -> Vec<String> {
    let mut rejected = inputs.rejected.iter().peekable();
    let mut valid = inputs.valid.iter();
    let trace_id = |index| match rejected.next_if(|next| next.index == index) {
        Some(rejected) => Some(&rejected.trace_id),
        None => valid.next().map(|own| &own.input.trace_id),
    };
    (0..inputs.count).map_while(trace_id).cloned().collect()
}

/// An input with its trace id.
pub(super) fn traced<T>(
    Labelled { input, labels }: Labelled<T>,
    trace_id: String,
) -> Labelled<Traced<T>> {
    Labelled { input: Traced { trace_id, input }, labels }
}

/// A trace id for an input without one.
pub(super) fn new_trace_id() -> String {
    Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(number: u8, trace_id: &str) -> Labelled<Traced<u8>> {
        Traced { trace_id: trace_id.to_owned(), input: number }.into()
    }

    fn collect(inputs: &[Result<u8, &str>]) -> BatchInputs<Labelled<Traced<u8>>> {
        let mut collector = BatchCollector::new(InputField::Inputs);
        for (number, given) in inputs.iter().enumerate() {
            let trace_id = format!("t-{number}");
            let input = given.map(|value| input(value, &trace_id));
            collector.push(input.map_err(|field| FieldFault::new(field, "is wrong")), trace_id);
        }
        collector.finish()
    }

    #[test]
    fn each_input_has_its_result_in_input_order() {
        let mut inputs = collect(&[Err("id"), Ok(1), Ok(2), Err(""), Ok(3)]);
        assert_eq!(inputs.count(), 5);
        assert_eq!(trace_ids(&inputs), ["t-0", "t-1", "t-2", "t-3", "t-4"]);
        let rejected =
            || Error::invalid(vec![FieldFault::new("primary_contact_id", "is required")]);
        let results = inputs.take_valid().into_iter().map(|own| match own.input.input {
            2 => Err(rejected()),
            input => Ok(input),
        });
        let merged: Vec<_> = inputs.merge(results).collect();
        let messages = merged.iter().map(|result| result.as_ref().map_err(Error::message));
        assert_eq!(
            messages.collect::<Vec<_>>(),
            [
                Err("inputs[0].id: is wrong"),
                Ok(&1),
                Err("inputs[2].primary_contact_id: is required"),
                Err("inputs[3]: is wrong"),
                Ok(&3),
            ]
        );
    }

    #[test]
    fn an_error_of_an_id_names_its_index_and_one_of_the_call_its_field() {
        let mut collector = BatchCollector::<u8>::new(InputField::Ids);
        collector.push(Ok(1), String::new());
        collector.push(Err(FieldFault::new("", "must not be empty")), String::new());
        let mut inputs = collector.finish();
        let of_call = Error::invalid(vec![FieldFault::new("properties", "too many")]);
        let results = inputs.take_valid().into_iter().map(|_| Err::<(), _>(of_call.clone()));
        let messages: Vec<_> =
            inputs.merge(results).map(|result| result.unwrap_err().message().to_owned()).collect();
        assert_eq!(messages, ["properties: too many", "ids[1]: must not be empty"]);
    }

    #[test]
    fn all_spellings_of_an_id_name_one_lead() {
        let id = |text: &str| LeadId::parse(text).unwrap();
        assert_eq!(lead_name(&id("007"), None), lead_name(&id("7"), None));
        assert_eq!(lead_name(&id("Key"), Some("k")), lead_name(&id("kEY"), Some("k")));
        assert_ne!(lead_name(&id("007"), Some("k")), lead_name(&id("7"), Some("k")));
        assert_ne!(lead_name(&id("7"), Some("k")), lead_name(&id("7"), None));
    }
}
