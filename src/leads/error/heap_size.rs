//! Memory that errors take: calls keep many of them.

use super::{AffectedInputs, Error, FieldFault, Inner, UpstreamFacts};
use crate::leads::memory::HeapSize;

impl HeapSize for Error {
    fn heap_size(&self) -> usize {
        let Inner {
            reason: _,
            message,
            internal,
            fields,
            upstream,
            retry_after: _,
            side_effect: _,
            affected_inputs,
            local_limit: _,
            lead_id,
            is_deadline_limited: _,
        } = &*self.0;
        let AffectedInputs { trace_ids, ids, positions, uuids, unknown_properties } =
            affected_inputs;
        size_of::<Inner>()
            + size_of_val(positions.as_slice())
            + lead_id.heap_size()
            + message.heap_size()
            + internal.heap_size()
            + fields.heap_size()
            + upstream.heap_size()
            + [trace_ids, ids, uuids, unknown_properties]
                .map(HeapSize::heap_size)
                .iter()
                .sum::<usize>()
    }
}

impl HeapSize for FieldFault {
    fn heap_size(&self) -> usize {
        let Self { field, description } = self;
        field.heap_size() + description.heap_size()
    }
}

impl HeapSize for UpstreamFacts {
    fn heap_size(&self) -> usize {
        let Self {
            http_status: _,
            correlation_id,
            category,
            sub_category,
            policy_name,
            required_scopes,
            existing_id,
            correct_hublet,
            record_ids,
            attempts: _,
        } = self;
        let texts =
            [correlation_id, category, sub_category, policy_name, existing_id, correct_hublet];
        required_scopes.heap_size()
            + record_ids.heap_size()
            + texts.map(HeapSize::heap_size).iter().sum::<usize>()
    }
}
