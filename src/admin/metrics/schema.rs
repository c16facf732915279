//! Metrics of the schema of portals: copies, and writes that are validated against them.

use std::fmt;

use super::metric::{Metric, SampleWriter, count, counter, gauge};
use crate::grpc::ServerSnapshot;

const SCHEMA_BYTES: Metric = gauge(
    "leadsd_schema_bytes",
    &[],
    "Memory of the copies of the schemas of all portals, at most 64 MiB",
);
const VALIDATED_WRITES: Metric = counter(
    "leadsd_validated_writes",
    &["outcome"],
    "Writes that were validated before they were sent, one for each input of a batch: valid, refused (`hubspot.validate` is enforce), warned (it is warn; the write was sent), unconfirmed (sent with a violation, because the copy of the schema may be outdated) or unchecked (sent, because there is no copy of the last 10 minutes)",
);
const VALIDATION_VIOLATIONS: Metric = counter(
    "leadsd_validation_violations",
    &["kind"],
    "Violations of the writes that were refused or warned about: unknown_property, read_only, id_property, option, number, boolean, date, datetime, length, owner, pipeline (or stage), rule or association_type",
);

/// The metrics of this area, in the order of the documentation.
pub(super) const ALL: &[Metric] = &[SCHEMA_BYTES, VALIDATED_WRITES, VALIDATION_VIOLATIONS];

/// Encodes the metrics of this area.
pub(super) fn encode(writer: &mut SampleWriter<'_>, server: &ServerSnapshot) -> fmt::Result {
    let ServerSnapshot { schema_bytes, validation, .. } = server;
    writer.sample(SCHEMA_BYTES, Some(count(*schema_bytes as u64)))?;
    let outcomes = validation.outcomes.iter();
    let outcomes = outcomes.map(|(outcome, writes)| ([outcome.as_str()], count(*writes)));
    writer.samples(VALIDATED_WRITES, outcomes)?;
    let violations = validation.violations.iter();
    let violations = violations.map(|(kind, number)| ([kind.as_str()], count(*number)));
    writer.samples(VALIDATION_VIOLATIONS, violations)
}
