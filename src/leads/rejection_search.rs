//! State of the search for the inputs for which HubSpot rejects the batches of one call.
//!
//! The batches of a call share it, so that its requests are bounded for the whole call.

use std::sync::Arc;

use parking_lot::Mutex;

use super::error::Error;

/// Maximum number of individual requests of one call that find no lead, for leads that a batch did not find:
/// all of a batch of HubSpot's size.
const MAX_INDIVIDUAL_MISSES: u32 = 100;

/// Search for the inputs for which HubSpot rejects the batches of one call. Clones share its state.
#[derive(Debug, Clone, Default)]
pub struct RejectionSearch {
    /// `None` outside a batch call.
    state: Option<Arc<Mutex<SearchState>>>,
    looks_up_duplicates: bool,
}

/// State that the batches of one call share.
#[derive(Debug, Default)]
pub(super) struct SearchState {
    /// Number of requests for parts of rejected batches.
    pub(super) parts: u32,
    /// True if HubSpot has accepted a request.
    pub(super) has_success: bool,
    /// The cause for which HubSpot has rejected every batch so far.
    pub(super) common: Option<CommonCause>,
    /// Number of batches that were rejected for the common cause.
    pub(super) alike_batches: u32,
    /// Number of individual requests that found no lead, or that have no response yet.
    individual_misses: u32,
}

/// Cause for which HubSpot rejects a batch and both of its halves.
#[derive(Debug)]
pub(super) struct CommonCause {
    pub(super) rejection: Error,
    /// Words of the rejection that are not about the request.
    pub(super) words: Vec<String>,
    /// True if the inputs name leads: updates and reads do, creates do not.
    pub(super) names_leads: bool,
    /// Properties that the rejection is about, with the value that every input writes.
    pub(super) values: Vec<(String, Option<String>)>,
}

// === impl RejectionSearch ===

impl RejectionSearch {
    /// The search of a batch call. Continues that of the call if it has begun.
    #[must_use]
    pub fn begun(&self) -> Self {
        Self { state: Some(self.state()), ..self.clone() }
    }

    /// The search for a caller that looks up the leads of creates if HubSpot rejects a batch of them as
    /// duplicates. A repeated batch has been written before, so the lookup costs less than a search.
    #[must_use]
    pub fn looking_up_duplicates(&self) -> Self {
        Self { looks_up_duplicates: true, ..self.clone() }
    }

    /// The search for a caller that has looked the leads up.
    #[must_use]
    pub(super) fn searching(&self) -> Self {
        Self { looks_up_duplicates: false, ..self.clone() }
    }

    /// Counts an individual request for a lead that a batch did not find. False if too many found no lead.
    pub fn may_ask_individually(&self) -> bool {
        let state = self.state();
        let mut state = state.lock();
        let may_ask = state.individual_misses < MAX_INDIVIDUAL_MISSES;
        state.individual_misses += u32::from(may_ask);
        may_ask
    }

    /// Notes that an individual request found its lead.
    pub fn found_individually(&self) {
        let state = self.state();
        let mut state = state.lock();
        state.individual_misses = state.individual_misses.saturating_sub(1);
    }

    /// True if the caller looks up the leads of rejected creates.
    pub(super) fn looks_up_duplicates(&self) -> bool {
        self.looks_up_duplicates
    }

    /// The shared state; outside a batch call a new one.
    pub(super) fn state(&self) -> Arc<Mutex<SearchState>> {
        self.state.clone().unwrap_or_default()
    }
}
