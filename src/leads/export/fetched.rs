//! A page of an export as HubSpot returned it.

use crate::leads::{
    error::{Error, Reason},
    lead::Lead,
};

/// One page as HubSpot returned it.
#[derive(Debug, Default)]
pub(in crate::leads) struct FetchedPage {
    /// Record ids in HubSpot's order.
    pub(in crate::leads) ids: Vec<String>,
    /// Leads of these ids, without those that no longer exist.
    pub(in crate::leads) leads: Vec<Lead>,
    /// HubSpot's cursor of the next page.
    pub(in crate::leads) after: Option<String>,
    /// Number of matching leads from this page on; `None` for a list.
    pub(in crate::leads) total: Option<u64>,
}

pub(super) fn record_id(text: &str) -> Result<u64, Error> {
    text.parse()
        .ok()
        .filter(|id| *id > 0)
        .ok_or_else(|| unusable("HubSpot returned a lead whose record id is not a positive number"))
}

pub(super) fn unusable(text: &str) -> Error {
    let text = format!("{text}; resume the export, and report it if it persists");
    Error::new(Reason::UpstreamInvalidResponse, text)
}
