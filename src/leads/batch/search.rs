//! Bounds the search for the inputs for which HubSpot rejects a batch.
//!
//! A batch that HubSpot rejects without naming an input is divided until the invalid inputs are alone.
//! The requests for the parts are charged to the caller. Their number is bounded for each batch and for
//! each call, and the search ends early where HubSpot accepts nothing.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    common_rejection::{CommonRejection, common_cause, explains, fits, of_unsent},
    input::BatchInput,
};
use crate::leads::{
    error::{Error, Reason, SideEffect},
    rejection_search::{RejectionSearch, SearchState},
};

/// Maximum number of requests spent on one batch to find the inputs for which HubSpot rejects it.
/// Three invalid inputs of one hundred take at most 3 x 2 x log2(100) = 40 requests.
const MAX_REQUESTS: u32 = 40;

/// Maximum number of requests for parts of rejected batches in one call: a search at most doubles the
/// requests of the largest call.
const MAX_PARTS: u32 = 100;

/// Maximum number of rejections in a row in one batch. A batch of eight inputs takes fifteen requests to
/// send each input individually.
const MAX_REJECTIONS_IN_A_ROW: u32 = 16;

/// Number of batches that HubSpot has rejected for a common cause after which no further one is sent, if
/// it has accepted no request of the call.
const ALIKE_BATCHES: u32 = 3;

/// Search in one batch.
#[derive(Debug)]
pub(super) struct BatchSearch {
    call: Arc<Mutex<SearchState>>,
    looks_up_duplicates: bool,
    requests: u32,
    rejections_in_a_row: u32,
    rejections: CommonRejection,
}

/// Consequence of a rejection that names no input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The rejection is that of every input of the batch.
    Common,
    /// The caller looks the inputs up: a lead may have their values already.
    LookUp,
    /// The rejection is about some of the inputs.
    Divide,
}

// === impl BatchSearch ===

impl BatchSearch {
    /// The search in one batch of the call.
    pub(super) fn new(search: &RejectionSearch) -> Self {
        Self {
            call: search.state(),
            looks_up_duplicates: search.looks_up_duplicates(),
            requests: 0,
            rejections_in_a_row: 0,
            rejections: CommonRejection::default(),
        }
    }

    /// The error of a batch that need not be sent, because HubSpot rejects every batch of the call for a cause
    /// that is common to its inputs as well.
    pub(super) fn common_error<I: BatchInput>(&self, inputs: &[I]) -> Option<Error> {
        let call = self.call.lock();
        let common = call.common.as_ref().filter(|common| fits(common, inputs))?;
        let is_certain = call.alike_batches >= ALIKE_BATCHES && !call.has_success;
        is_certain.then(|| of_unsent(common))
    }

    /// Number of requests so far.
    pub(super) fn requests(&self) -> u32 {
        self.requests
    }

    /// Counts a request. False if a bound is reached and the request must not be sent. With `is_part`, the
    /// bound for the whole call counts.
    pub(super) fn may_send(&mut self, is_part: bool) -> bool {
        if self.requests == MAX_REQUESTS {
            return false;
        }
        if is_part {
            let mut call = self.call.lock();
            if self.rejections_in_a_row == MAX_REJECTIONS_IN_A_ROW || call.parts == MAX_PARTS {
                return false;
            }
            call.parts += 1;
        }
        self.requests += 1;
        true
    }

    /// Notes that HubSpot accepted a request.
    pub(super) fn accepted(&mut self) {
        self.rejections_in_a_row = 0;
        self.call.lock().has_success = true;
    }

    /// Takes a rejection of `sent` inputs that names none of them.
    pub(super) fn rejected<I: BatchInput>(
        &mut self,
        inputs: &[I],
        sent: usize,
        rejection: &Error,
    ) -> Verdict {
        self.rejections_in_a_row += 1;
        let is_duplicate = rejection.reason() == Reason::AlreadyExists;
        if self.looks_up_duplicates && is_duplicate && sent > 1 {
            return Verdict::LookUp;
        }
        self.rejections.observe(rejection, sent);
        let mut call = self.call.lock();
        let is_explained = !call.has_success
            && self.rejections.is_all(self.requests)
            && self.rejections.are_alike(inputs)
            && call.common.as_ref().is_some_and(|common| explains(common, inputs, rejection, sent));
        if is_explained {
            call.alike_batches += 1;
            return Verdict::Common;
        }
        if self.rejections.is_certain(inputs, self.requests) {
            if call.common.is_none() {
                call.common = Some(common_cause(inputs, rejection, sent));
                call.alike_batches = 1;
            }
            return Verdict::Common;
        }
        Verdict::Divide
    }
}

/// True if HubSpot rejected the batch because of its content, so that parts of it may succeed.
pub fn rejects_content(error: &Error) -> bool {
    let about_content = match error.reason() {
        Reason::ValidationFailed
        | Reason::AlreadyExists
        | Reason::Conflict
        | Reason::LeadNotFound => true,
        Reason::InvalidRequest
        | Reason::UnknownPortal
        | Reason::InvalidPageToken
        | Reason::SearchWindowExceeded
        | Reason::RequestIdReused
        | Reason::MissingScopes
        | Reason::UpstreamForbidden
        | Reason::CredentialUnavailable
        | Reason::CredentialRejected
        | Reason::RateLimited
        | Reason::DailyLimitReached
        | Reason::Overloaded
        | Reason::AccountLocked
        | Reason::AccountMigrating
        | Reason::UpstreamUnavailable
        | Reason::UpstreamInvalidResponse
        | Reason::ResponseTooLarge
        | Reason::DeadlineExceeded
        | Reason::WriteOutcomeUnknown
        | Reason::BatchRejected
        | Reason::Internal
        | Reason::RequestTooLarge
        | Reason::Unauthenticated
        | Reason::CallerForbidden
        | Reason::AuthenticationUnavailable
        | Reason::Unimplemented
        | Reason::WrongDataCenter => false,
    };
    about_content && error.side_effect() == SideEffect::None
}
