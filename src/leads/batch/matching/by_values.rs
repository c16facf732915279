//! Matches results with inputs by the values that the inputs wrote, where HubSpot omits trace ids.
//!
//! A result belongs to an input if it agrees with what this input wrote and with what no other open
//! input wrote. With as many results as open inputs, and no error that names no input, the true result of
//! each input is among them. Then the agreement is judged by the forms in which the results show values.
//! In any case it is judged once more leniently: a property that a result does not show decides nothing.

use super::Matching;
use crate::leads::{
    batch::{
        agreement::{Agreement, compare},
        forms::ShownForms,
        input::BatchInput,
    },
    request::BatchItem,
};

// === impl Matching ===

impl<I: BatchInput> Matching<'_, I> {
    /// Matches open inputs with results by written values.
    pub(super) fn by_values(&mut self) {
        let open = self.open_inputs();
        let left: Vec<&BatchItem> = self.results.iter().flatten().collect();
        if open.is_empty() || left.is_empty() {
            return;
        }
        if self.unmatched_errors.is_empty() && open.len() == left.len() {
            let inputs = self.inputs;
            let forms = ShownForms::new(open.iter().map(|&index| &inputs[index]), left);
            while self.match_by_values(|input, item| forms.agreement(input, item)) {}
        }
        while self.match_by_values(lenient_agreement) {}
    }

    /// Matches each result with which one open input agrees, unless this input agrees with another
    /// such result. Returns true if that matched one: it may decide others.
    fn match_by_values(&mut self, agreement: impl Fn(&I, &BatchItem) -> Agreement) -> bool {
        let mut open = self.open_inputs();
        open.retain(|&index| self.inputs[index].written().is_some());
        let mut only: Vec<Vec<usize>> = vec![Vec::new(); self.inputs.len()];
        for (slot, item) in self.results.iter().enumerate() {
            let Some(item) = item else { continue };
            let agrees = |index: &&usize| {
                let input = &self.inputs[**index];
                input.has_identity(item).is_none() && agreement(input, item) == Agreement::Same
            };
            let mut agreeing = open.iter().filter(agrees);
            if let (Some(&index), None) = (agreeing.next(), agreeing.next()) {
                only[index].push(slot);
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
        && lenient_agreement(input, item) != Agreement::Different
}

/// Like [`may_be_result`], where each open input has one of the results, which have these forms.
pub(in crate::leads::batch) fn may_be_one_of_results<I: BatchInput>(
    input: &I,
    item: &BatchItem,
    forms: &ShownForms<'_>,
) -> bool {
    input.has_identity(item) != Some(false) && forms.agreement(input, item) != Agreement::Different
}

/// Agreement of a result with what an input wrote, where the result may be that of an input that failed, or
/// hide what it shows of others.
fn lenient_agreement<I: BatchInput>(input: &I, item: &BatchItem) -> Agreement {
    let one = |(name, written): (&String, &String)| {
        let shown = item.lead.properties.get(name);
        shown.map_or(Agreement::Unclear, |shown| compare(written, shown))
    };
    Agreement::combine(input.written().into_iter().flatten().map(one))
}
