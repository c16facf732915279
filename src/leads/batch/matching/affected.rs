//! Finds the inputs that an error is about.

use crate::leads::{
    batch::{
        agreement::folded,
        input::{BatchInput, LeadReference},
    },
    error::{AffectedInputs, Error, Reason},
};

/// Minimum length of an id that is recognized in a message. HubSpot's record ids are longer.
const MIN_ID_IN_MESSAGE: usize = 6;

/// Length of a UUID, the form of leadsd's trace ids.
const UUID_LENGTH: usize = 36;

/// Splits a rejected part into the inputs that the rejection is about and the others.
pub(in crate::leads::batch) fn split_by_error<I: BatchInput>(
    inputs: &[I],
    part: &[usize],
    rejection: &Error,
) -> (Vec<usize>, Vec<usize>) {
    let sent = part.iter().map(|&index| &inputs[index]);
    let is_about = affected_inputs(sent, rejection, is_affected);
    let (affected, others): (Vec<_>, Vec<_>) =
        part.iter().zip(is_about).partition(|(_, is_about)| *is_about);
    let indices = |list: Vec<(&usize, bool)>| list.into_iter().map(|(&index, _)| index).collect();
    (indices(affected), indices(others))
}

/// For each of `inputs`, whether an error is about it. Positions count if the trace ids of the error are of
/// none of them. A trace id anywhere in the error says more than ids, which may be of associated records.
pub(super) fn affected_inputs<'a, I: BatchInput + 'a>(
    inputs: impl IntoIterator<Item = &'a I> + Clone,
    error: &Error,
    is_about: impl Fn(&I, &Error) -> bool,
) -> Vec<bool> {
    let AffectedInputs { trace_ids, ids: _, positions, uuids, unknown_properties: _ } =
        error.affected_inputs();
    let is_traced = |input: &I| has_trace_id(input, trace_ids) || has_trace_id(input, uuids);
    let traced: Vec<bool> = inputs.clone().into_iter().map(is_traced).collect();
    let is_any_traced = traced.contains(&true);
    if is_any_traced && trace_ids.is_empty() {
        return traced;
    }
    let has_positions = !positions.is_empty() && !is_any_traced;
    let all = inputs.into_iter().enumerate();
    all.map(|(position, input)| {
        has_positions && positions.contains(&position) || is_about(input, error)
    })
    .collect()
}

/// True if an error names this input.
pub(in crate::leads::batch) fn is_named<I: BatchInput>(input: &I, error: &Error) -> bool {
    let AffectedInputs { trace_ids, ids, positions, uuids, unknown_properties: _ } =
        error.affected_inputs();
    if let Some(is_named) = input.is_named_by(error) {
        return is_named;
    }
    // Trace ids are exact, and say more than ids: those may be of records to associate with.
    if !trace_ids.is_empty() {
        return has_trace_id(input, trace_ids);
    }
    // The record that has a unique value already is not the one that HubSpot rejects.
    let owner = error.upstream().existing_id.as_ref();
    let is_id = |own: &str| {
        let mut ids = ids.iter().filter(|named| Some(*named) != owner);
        ids.any(|named| is_equal(named, own))
    };
    let is_associated =
        || !is_clash(error) && input.associated_ids().any(|own| ids.iter().any(|id| id == own));
    let names_none = ids.is_empty() && positions.is_empty();
    // A trace id under an unknown key is listed among the ids.
    input.id().is_some_and(is_id)
        || has_trace_id(input, ids)
        || has_trace_id(input, uuids)
        || is_associated()
        || names_none && is_in_message(input, error)
}

/// True if the list has the trace id of the input. The case of a UUID is not significant.
fn has_trace_id<I: BatchInput>(input: &I, list: &[String]) -> bool {
    let is_equal = |named: &str, own: &str| {
        named == own || own.len() == UUID_LENGTH && named.eq_ignore_ascii_case(own)
    };
    let is_own = |own: &str| list.iter().any(|named| is_equal(named, own));
    input.trace_id().is_some_and(is_own)
}

/// True if two ids or unique values are equal without regard to case.
fn is_equal(one: &str, other: &str) -> bool {
    let is_ascii = one.is_ascii() && other.is_ascii();
    one.eq_ignore_ascii_case(other) || !is_ascii && folded(one) == folded(other)
}

/// True if an error is about this input: it names the input, or it names none and is about a
/// property that does not exist and that the input writes.
pub(in crate::leads::batch) fn is_affected<I: BatchInput>(input: &I, error: &Error) -> bool {
    let AffectedInputs { trace_ids, ids, positions: _, uuids: _, unknown_properties } =
        error.affected_inputs();
    is_named(input, error)
        || (trace_ids.is_empty()
            && ids.is_empty()
            && unknown_properties.iter().any(|property| input.mentions(property)))
}

/// True if the message of an error contains the trace id or the id of this input as a word, or that of a
/// record to associate with, unless that may be the id of another record. Short ids are ordinary numbers.
fn is_in_message<I: BatchInput>(input: &I, error: &Error) -> bool {
    let message = error.message();
    let is_word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let is_in = |id: &str| {
        id.len() >= MIN_ID_IN_MESSAGE
            && message.match_indices(id).any(|(start, _)| {
                !message[..start].ends_with(is_word)
                    && !message[start + id.len()..].starts_with(is_word)
            })
    };
    let names_lead = |reference: LeadReference<'_>| {
        !may_be_owner(reference, error) && is_in(reference.id.as_str())
    };
    input.trace_id().is_some_and(is_in)
        || input.reference().is_some_and(names_lead)
        || !is_clash(error) && input.associated_ids().any(is_in)
}

/// True if the message of an error may show this id or unique value as that of the record which HubSpot does
/// not reject. A clash shows the record that has the value, and the value itself.
fn may_be_owner(reference: LeadReference<'_>, error: &Error) -> bool {
    let is_clash = is_clash(error);
    match error.upstream().existing_id.as_deref() {
        Some(owner) if owner == reference.id.as_str() => true,
        Some(_) => is_clash && reference.unique_property().is_some(),
        None => is_clash,
    }
}

/// True if another record has a value that an input writes. The error may name that record.
fn is_clash(error: &Error) -> bool {
    matches!(error.reason(), Reason::AlreadyExists | Reason::Conflict)
}
