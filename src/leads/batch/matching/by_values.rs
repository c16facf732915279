//! Matches results with inputs by the values that the inputs wrote, where HubSpot omits trace ids.
//!
//! A result belongs to an input if it agrees with what this input wrote and with what no other open
//! input wrote. Agreement is judged in passes, from strict to lenient. The strict passes need as many
//! results as open inputs, and no error that names no input: then the true result of each input is
//! among them, and a closer agreement is not a coincidence.

use std::collections::HashSet;

use super::Matching;
use crate::leads::{
    batch::{
        agreement::{Agreement, compare},
        input::BatchInput,
    },
    request::BatchItem,
};

/// Judgement of one property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Only the same text agrees.
    Exact,
    /// Other forms of a value agree. Absent differs if other results show the property.
    Strict,
    /// Absent decides nothing.
    Lenient,
}

// === impl Matching ===

impl<I: BatchInput> Matching<'_, I> {
    /// Matches open inputs with results by written values.
    pub(super) fn by_values(&mut self) {
        for pass in [Pass::Exact, Pass::Strict, Pass::Lenient] {
            while self.match_by_values(pass) {}
        }
    }

    /// Matches each result with which one open input agrees, unless this input agrees with another
    /// such result. Returns true if that matched one: it may decide others.
    fn match_by_values(&mut self, pass: Pass) -> bool {
        let mut open = self.open_inputs();
        open.retain(|&index| self.inputs[index].written().is_some());
        let left: Vec<(usize, &BatchItem)> = self
            .results
            .iter()
            .enumerate()
            .filter_map(|(slot, item)| Some((slot, item.as_ref()?)))
            .collect();
        let is_complete =
            self.unmatched_errors.is_empty() && self.open_inputs().len() == left.len();
        if open.is_empty() || left.is_empty() || (pass != Pass::Lenient && !is_complete) {
            return false;
        }
        let shown: HashSet<&str> = left
            .iter()
            .flat_map(|(_, item)| item.lead.properties.keys().map(String::as_str))
            .collect();
        let mut only: Vec<Vec<usize>> = vec![Vec::new(); self.inputs.len()];
        for (slot, item) in &left {
            let agrees = |index: &&usize| {
                let input = &self.inputs[**index];
                input.has_identity(item).is_none()
                    && agreement(input, item, pass, &shown) == Agreement::Same
            };
            let mut agreeing = open.iter().filter(agrees);
            if let (Some(&index), None) = (agreeing.next(), agreeing.next()) {
                only[index].push(*slot);
            }
        }
        let mut is_changed = false;
        for (index, slots) in only.into_iter().enumerate() {
            if let [slot] = slots.as_slice() {
                self.outcomes[index] = Some(Ok(self.results[*slot].take()));
                is_changed = true;
            }
        }
        is_changed
    }
}

/// False if the result shows other values than those that the input wrote, or the unique value of another
/// lead.
pub(in crate::leads::batch) fn may_be_result<I: BatchInput>(input: &I, item: &BatchItem) -> bool {
    input.has_identity(item) != Some(false)
        && agreement(input, item, Pass::Lenient, &HashSet::new()) != Agreement::Different
}

/// Like [`may_be_result`], where each open input has one of the results, which show these properties.
pub(in crate::leads::batch) fn may_be_one_of_results<I: BatchInput>(
    input: &I,
    item: &BatchItem,
    shown: &HashSet<&str>,
) -> bool {
    input.has_identity(item) != Some(false)
        && agreement(input, item, Pass::Strict, shown) != Agreement::Different
}

/// Agreement of a result with what the input wrote. `shown` has the properties that HubSpot returns.
fn agreement<I: BatchInput>(
    input: &I,
    item: &BatchItem,
    pass: Pass,
    shown: &HashSet<&str>,
) -> Agreement {
    let one = |(name, written): (&String, &String)| match item.lead.properties.get(name) {
        Some(value) if pass == Pass::Exact => exact(written, value),
        Some(value) => compare(written, value),
        None if written.is_empty() || !shown.contains(name.as_str()) => Agreement::Unclear,
        None => match pass {
            Pass::Exact | Pass::Strict => Agreement::Different,
            Pass::Lenient => Agreement::Unclear,
        },
    };
    Agreement::combine(input.written().into_iter().flatten().map(one))
}

fn exact(written: &str, shown: &str) -> Agreement {
    if written == shown { Agreement::Same } else { Agreement::Different }
}
