//! Finds out whether HubSpot rejects a batch for what all of its inputs have in common.

use super::input::BatchInput;
use crate::leads::{
    error::{AffectedInputs, Error, FieldFault, Reason, UpstreamFacts},
    rejection_search::CommonCause,
};

/// Number of requests after which the search stops if HubSpot rejects the batch and both of its halves
/// for the same cause and names no input: then the cause is common to all inputs.
const ALIKE_REQUESTS: u32 = 3;

/// Minimum number of hexadecimal digits of a word that may be the id of a request. HubSpot's are UUIDs.
const MIN_REQUEST_ID: usize = 16;

/// Numbers that may be the time of a request, from 2017 to 2033: seconds and milliseconds since 1970.
const EPOCHS: [std::ops::Range<u64>; 2] =
    [1_500_000_000..2_000_000_000, 1_500_000_000_000..2_000_000_000_000];

/// Rejections of the parts of one batch that name no input.
#[derive(Debug, Default)]
pub(super) struct CommonRejection {
    /// The rejections with the number of inputs that were sent.
    unnamed: Vec<(Error, usize)>,
}

// === impl CommonRejection ===

impl CommonRejection {
    /// Takes a rejection of `sent` inputs that names none of them.
    pub(super) fn observe(&mut self, rejection: &Error, sent: usize) {
        self.unnamed.push((rejection.clone(), sent));
    }

    /// True if HubSpot rejected each of these requests without naming an input.
    pub(super) fn is_all(&self, requests: u32) -> bool {
        self.unnamed.len() == requests as usize
    }

    /// True if the batch and both of its halves were rejected alike, nothing else was sent, and the rejection
    /// may be about every input: it names nothing that differs between the inputs.
    pub(super) fn is_certain<I: BatchInput>(&self, inputs: &[I], requests: u32) -> bool {
        let Some((first, _)) = self.unnamed.first() else { return false };
        requests == ALIKE_REQUESTS
            && self.is_all(requests)
            && may_be_common(first)
            && first.fields().iter().all(|fault| is_shared_value(inputs, fault))
            && self.are_alike(inputs)
    }

    /// True if all rejections have the same cause.
    pub(super) fn are_alike<I: BatchInput>(&self, inputs: &[I]) -> bool {
        let mut causes = self.unnamed.iter().map(|(error, sent)| words(inputs, error, *sent));
        let first = causes.next();
        let reason = |(error, _): &(Error, usize)| error.reason();
        causes.all(|cause| Some(cause) == first)
            && self.unnamed.windows(2).all(|two| reason(&two[0]) == reason(&two[1]))
    }
}

/// The cause of a rejection that is common to `inputs`, of which `sent` were sent.
pub(super) fn common_cause<I: BatchInput>(
    inputs: &[I],
    rejection: &Error,
    sent: usize,
) -> CommonCause {
    let value = |property: &str| inputs.first()?.written()?.get(property).cloned();
    let properties = rejection.fields().iter().filter_map(FieldFault::property);
    CommonCause {
        rejection: rejection.clone(),
        words: words(inputs, rejection, sent).into_iter().map(str::to_owned).collect(),
        names_leads: names_leads(inputs),
        values: properties.map(|name| (name.to_owned(), value(name))).collect(),
    }
}

/// True if a rejection of `sent` of other inputs has the same cause.
pub(super) fn explains<I: BatchInput>(
    cause: &CommonCause,
    inputs: &[I],
    rejection: &Error,
    sent: usize,
) -> bool {
    cause.rejection.reason() == rejection.reason()
        && may_be_common(rejection)
        && fits(cause, inputs)
        && words(inputs, rejection, sent) == cause.words
}

/// True if a cause is common to other inputs as well: they write the same values.
pub(super) fn fits<I: BatchInput>(cause: &CommonCause, inputs: &[I]) -> bool {
    let writes_same = |input: &I| {
        let mut values = cause.values.iter();
        values.all(|(property, value)| {
            input.written().and_then(|written| written.get(property)) == value.as_ref()
        })
    };
    cause.names_leads == names_leads(inputs) && inputs.iter().all(writes_same)
}

/// The error of inputs that were not sent, because HubSpot rejected other inputs of the call for the cause.
pub(super) fn of_unsent(cause: &CommonCause) -> Error {
    let message = format!(
        "HubSpot rejected every batch of this call alike and named no input, so this input was not \
         sent. HubSpot's error: {}",
        cause.rejection.message()
    );
    Error::new(error_of_all(&cause.rejection).reason(), message)
        .with_fields(cause.rejection.fields().to_vec())
        .with_upstream(cause.rejection.upstream().clone())
}

fn names_leads<I: BatchInput>(inputs: &[I]) -> bool {
    inputs.first().is_some_and(|input| input.id().is_some())
}

/// True if a rejection may be about what all inputs have in common. A record that does not exist, a value
/// that another record has or a conflict is that of one input, even if each half has such an input. A
/// create gets a 404 for an unknown record to associate with. Neither is a rejection common that names
/// inputs or records.
fn may_be_common(rejection: &Error) -> bool {
    let is_about_values = rejection.reason() == Reason::ValidationFailed
        && rejection.upstream().http_status != Some(404);
    (is_about_values || is_unexplained(rejection)) && !names_records(rejection)
}

/// True if a rejection has a status of single records, and no category of such a cause.
fn is_unexplained(rejection: &Error) -> bool {
    let UpstreamFacts { http_status, category, .. } = rejection.upstream();
    let causes: &[&str] = match http_status {
        Some(404) => &["NOT_FOUND", "DELETED"],
        Some(409) => &["CONFLICT", "EXISTS", "DUPLICATE"],
        Some(_) | None => return false,
    };
    let has_cause = |category: &String| causes.iter().any(|part| category.contains(part));
    rejection.reason() != Reason::AlreadyExists && !category.as_ref().is_some_and(has_cause)
}

/// The error of every input of a call for a common rejection. A 404 without the category of one is not about
/// the values of an input.
pub(super) fn error_of_all(rejection: &Error) -> Error {
    if !is_unexplained(rejection) || rejection.reason() != Reason::ValidationFailed {
        return rejection.clone();
    }
    let text = format!(
        "HubSpot rejected the whole batch, named no input and gave no cause: {}",
        rejection.message()
    );
    Error::new(Reason::UpstreamInvalidResponse, text).with_upstream(rejection.upstream().clone())
}

/// True if a rejection has trace ids, positions or record ids. Other texts may be details of the cause.
fn names_records(rejection: &Error) -> bool {
    let AffectedInputs { trace_ids, ids, positions, uuids: _, unknown_properties: _ } =
        rejection.affected_inputs();
    let is_record_id = |id: &String| !id.is_empty() && id.bytes().all(|c| c.is_ascii_digit());
    !trace_ids.is_empty() || !positions.is_empty() || ids.iter().any(is_record_id)
}

/// True if all inputs write the same value to the property of a violation, or none of them writes it.
fn is_shared_value<I: BatchInput>(inputs: &[I], fault: &FieldFault) -> bool {
    let Some(property) = fault.property() else { return true };
    let mut values = inputs.iter().map(|input| input.written()?.get(property));
    let first = values.next().flatten();
    values.all(|value| value == first)
}

/// Words of the message of a rejection, without those that are about the request: its id, its time and the
/// number of its inputs. Any other number may be a value of an input.
fn words<'a, I: BatchInput>(inputs: &[I], error: &'a Error, sent: usize) -> Vec<&'a str> {
    let sent = sent.to_string();
    let is_shown = |word: &str| inputs.iter().any(|input| shows(input, word));
    let is_about_request = |word: &str| {
        let is_id =
            error.upstream().correlation_id.as_deref() == Some(word) || may_be_request_id(word);
        word == sent || is_id && !is_shown(word)
    };
    let parts = error.message().split_whitespace().map(|part| {
        let part = part.trim_matches(|c: char| !c.is_alphanumeric());
        let (name, value) = part.split_at(part.find(|c: char| c.is_ascii_digit()).unwrap_or(0));
        if may_be_time(value) && !is_shown(value) { name } else { part }
    });
    let words = parts.flat_map(|part| part.split(|c: char| !c.is_alphanumeric() && c != '-'));
    words.filter(|word| !word.is_empty() && !is_about_request(word)).collect()
}

/// True if a text may be a date with a time, a time of day, or a time in seconds or milliseconds since 1970.
fn may_be_time(text: &str) -> bool {
    let is_clock = |c: u8| c.is_ascii_digit() || b"-:.,+TZtz".contains(&c);
    if text.contains(':') {
        return text.bytes().all(is_clock);
    }
    let number = text.parse().ok();
    number.is_some_and(|number: u64| EPOCHS.iter().any(|epoch| epoch.contains(&number)))
}

/// True if a word has letters and digits and is long and hexadecimal.
fn may_be_request_id(word: &str) -> bool {
    let is_hexadecimal = word.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-');
    let has = |is: fn(&u8) -> bool| word.bytes().any(|c| is(&c));
    word.len() >= MIN_REQUEST_ID
        && is_hexadecimal
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
}

/// True if an input names its lead or an associated record by this word, or writes it.
fn shows<I: BatchInput>(input: &I, word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let has_word = |text: &str| text.to_ascii_lowercase().contains(&word);
    input.id().is_some_and(has_word)
        || input.associated_ids().any(has_word)
        || input.written().is_some_and(|written| written.values().any(|value| has_word(value)))
}
