//! Associations of the leads of a batch: why they could not be read, which lead to read individually to
//! learn labels, and how they are added to a lead.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crate::{
    leads::{Error, Lead, Links, Reason},
    pipeline::batching::{association_labels::Unknown, capabilities::PortalCapabilities},
};

/// Time for which batched reads of associations are suspended after a 429 that states no pause: the
/// window of HubSpot's limits.
const DEFAULT_PAUSE: Duration = Duration::from_secs(10);

/// The associations of leads to one object type, by lead.
pub(super) type Linked<'a> = (&'a str, HashMap<String, Links>);

/// Reason why the associations of leads could not be read in a batch.
pub(super) enum LinkFailure {
    /// HubSpot rejects the batch and would again: the leads are read individually.
    Unsupported,
    /// The separate limit of such requests: the leads are read individually for this time.
    RateLimited(Duration),
    /// The leads cannot be read now.
    Other,
}

pub(super) fn failure(error: &Error) -> LinkFailure {
    match error.reason() {
        Reason::ValidationFailed
        | Reason::MissingScopes
        | Reason::UpstreamForbidden
        | Reason::LeadNotFound
        | Reason::Conflict
        | Reason::UpstreamInvalidResponse
        | Reason::ResponseTooLarge => LinkFailure::Unsupported,
        // Rejections by the portal's own quota have a bucket.
        Reason::RateLimited | Reason::DailyLimitReached if error.bucket().is_none() => {
            LinkFailure::RateLimited(error.retry_after().unwrap_or(DEFAULT_PAUSE))
        }
        Reason::RateLimited
        | Reason::DailyLimitReached
        | Reason::InvalidRequest
        | Reason::UnknownPortal
        | Reason::InvalidPageToken
        | Reason::SearchWindowExceeded
        | Reason::RequestIdReused
        | Reason::AlreadyExists
        | Reason::CredentialUnavailable
        | Reason::CredentialRejected
        | Reason::Overloaded
        | Reason::AccountLocked
        | Reason::AccountMigrating
        | Reason::UpstreamUnavailable
        | Reason::DeadlineExceeded
        | Reason::WriteOutcomeUnknown
        | Reason::BatchRejected
        | Reason::Internal
        | Reason::RequestTooLarge
        | Reason::Unauthenticated
        | Reason::CallerForbidden
        | Reason::AuthenticationUnavailable
        | Reason::Unimplemented
        | Reason::WrongDataCenter => LinkFailure::Other,
    }
}

/// The lead to read individually, if the labels of any lead are unknown: the one with the most
/// associations, because the labels of those with fewer are then known as well.
pub(super) fn calibration_lead(
    capabilities: &PortalCapabilities,
    leads: &BTreeMap<usize, Lead>,
    linked: &[Linked<'_>],
) -> Option<usize> {
    let candidate = |(&index, lead): (&usize, &Lead)| {
        let mut records = 0;
        let mut is_unknown = false;
        for (to, by_lead) in linked {
            // An incomplete or missing list teaches nothing.
            let links = by_lead.get(&lead.id).filter(|links| links.is_complete())?;
            records += links.page.objects.len();
            is_unknown |= capabilities.association_labels.render(to, links).is_err();
        }
        is_unknown.then_some((records, index))
    };
    leads.iter().filter_map(candidate).max().map(|(_, index)| index)
}

/// Adds associations to a lead as an individual read would return them.
pub(super) fn add_links(
    capabilities: &PortalCapabilities,
    to: &str,
    by_lead: &HashMap<String, Links>,
    lead: &mut Lead,
) -> Result<(), Unknown> {
    let links = by_lead.get(&lead.id).ok_or(Unknown)?;
    if let Some(shown) = capabilities.association_labels.render(to, links)? {
        lead.associations.insert(to.to_owned(), shown);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
