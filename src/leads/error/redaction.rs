//! Removes credentials from the texts of an error. HubSpot and what answers in its place may quote the
//! token of a request.

use super::{AffectedInputs, Error, FieldFault, Inner, UpstreamFacts};

/// Stands for a credential.
const REDACTED: &str = "[redacted]";

/// Minimum length of a credential in bytes: a shorter text is no credential and occurs by chance.
const MIN_LENGTH: usize = 8;

// === impl Error ===

impl Error {
    /// Replaces a credential in every text.
    #[must_use]
    pub fn redacted(mut self, credential: &str) -> Self {
        if credential.len() < MIN_LENGTH {
            return self;
        }
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
        } = self.inner_mut();
        let UpstreamFacts {
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
        } = upstream;
        let AffectedInputs { trace_ids, ids, positions: _, uuids, unknown_properties } =
            affected_inputs;
        let optional = [
            internal,
            correlation_id,
            category,
            sub_category,
            policy_name,
            existing_id,
            correct_hublet,
            lead_id,
        ];
        let lists = [required_scopes, record_ids, trace_ids, ids, uuids, unknown_properties];
        let texts = optional.into_iter().flatten().chain(lists.into_iter().flatten());
        for text in texts.chain([message]) {
            redact(text, credential);
        }
        for FieldFault { field, description } in fields {
            redact(field, credential);
            redact(description, credential);
        }
        self
    }
}

/// Replaces a credential in a text.
fn redact(text: &mut String, credential: &str) {
    if text.contains(credential) {
        *text = text.replace(credential, REDACTED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leads::Reason;

    #[test]
    fn no_text_of_an_error_repeats_the_credential() {
        let quoting = || "a pat-na1-hunter2 b pat-na1-hunter2".to_owned();
        let error = Error::new(Reason::ValidationFailed, quoting())
            .with_internal(quoting())
            .with_fields(vec![FieldFault::new(quoting(), quoting())])
            .with_upstream(UpstreamFacts {
                http_status: Some(400),
                correlation_id: Some(quoting()),
                category: Some(quoting()),
                sub_category: Some(quoting()),
                policy_name: Some(quoting()),
                required_scopes: vec![quoting()],
                existing_id: Some(quoting()),
                correct_hublet: Some(quoting()),
                record_ids: vec![quoting()],
                attempts: 1,
            })
            .with_affected_inputs(AffectedInputs {
                trace_ids: vec![quoting()],
                ids: vec![quoting()],
                positions: vec![0],
                uuids: vec![quoting()],
                unknown_properties: vec![quoting()],
            });
        let redacted = error.redacted("pat-na1-hunter2");
        let shown = format!("{redacted:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(redacted.message(), "a [redacted] b [redacted]");
        let kept = Error::new(Reason::Internal, "a path").redacted("pat");
        assert_eq!(kept.message(), "a path", "a text that short is no credential");
    }
}
