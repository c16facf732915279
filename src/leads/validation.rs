//! Validation of writes against the schema of the portal, before they are sent to HubSpot.
//!
//! Pure: [`check()`] compares a write with copies of the schema and lists its violations. It rejects only
//! what HubSpot rejects by its documentation or its observed errors. What is not certain passes, because
//! HubSpot decides it: unknown types, owners, incomplete copies, and dates that HubSpot may normalize.
//!
//! Descriptions contain names and options of the schema, and never a value of the write.

mod associations;
mod check;
mod draft;
mod hints;
mod pipeline;
mod rules;
mod time;
mod value;
mod violation;

pub(super) use self::{
    associations::check_change,
    check::{SchemaView, check},
    draft::{Draft, Drafted},
    hints::{Candidate, Hints, shown},
    pipeline::{PIPELINE, STAGE},
    violation::{Confirmation, Violation},
};
pub use self::{time::DateRules, violation::ViolationKind};

#[cfg(test)]
mod tests;
