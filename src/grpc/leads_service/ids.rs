//! Ids of the leads of calls, which their errors name.

use crate::leads::{Error, GetLead, LeadId};

/// Adds the id of the lead to a not-found error, since many clients show only the message.
pub(super) fn with_id<T>(result: Result<T, Error>, id: &LeadId) -> Result<T, Error> {
    result.map_err(|error| error.with_lead_id(id.as_str()))
}

/// Clones the id of a read. Not in the future of the call, where the borrowed request would keep its space.
pub(super) fn with_own_id(get: GetLead) -> (LeadId, GetLead) {
    (get.id.clone(), get)
}
