//! Parts of the schema of one portal, and the state of each.

use std::{sync::Arc, time::Duration};

use leadsd_base::time::Timestamp;
use tokio::{sync::watch, time::Instant};

use super::{
    association_types::AssociationTypeCopy,
    copies::{OwnerCopy, PipelineCopy, PropertyCopy},
    definition::Owner,
    rules::RuleCopy,
};
use crate::leads::{Error, Reason, memory::HeapSize};

/// Time after a failed read in which the next one is not attempted, so that a short failure does not use up
/// the calls of the portal.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// The same for a failure that a retry does not cure, such as a missing scope.
const LASTING_FAILURE_PAUSE: Duration = Duration::from_secs(60);

/// Part of a schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::leads) enum PartKey {
    /// Lead properties.
    Properties,
    /// Validation rules of lead properties.
    ValidationRules,
    /// Lead pipelines.
    Pipelines,
    /// Owners.
    Owners,
    /// Association types to this object type, by its canonical name.
    AssociationTypes(String),
}

/// Copy of a part.
#[derive(Debug, Clone)]
pub(in crate::leads) enum PartCopy {
    /// Of [`PartKey::Properties`].
    Properties(Arc<PropertyCopy>),
    /// Of [`PartKey::ValidationRules`].
    ValidationRules(Arc<RuleCopy>),
    /// Of [`PartKey::Pipelines`].
    Pipelines(Arc<PipelineCopy>),
    /// Of [`PartKey::Owners`].
    Owners(Arc<OwnerCopy>),
    /// Of [`PartKey::AssociationTypes`].
    AssociationTypes(Arc<AssociationTypeCopy>),
}

/// State of a part.
#[derive(Debug, Default)]
pub(super) struct PartState {
    /// The latest copy, and when HubSpot was asked for it.
    pub(super) copy: Option<(PartCopy, Instant)>,
    /// The failure of the latest read, if it failed.
    pub(super) failure: Option<Failure>,
    /// Closed when the read in progress ends.
    pub(super) in_progress: Option<watch::Receiver<()>>,
    /// True if a response of HubSpot contradicts the copy.
    pub(super) is_suspect: bool,
    /// Owners of the pages that were read, while further pages are missing.
    pub(super) owner_pages: Option<OwnerPages>,
    /// Latest time at which a caller asked for the part.
    pub(super) asked: Option<Instant>,
}

/// Failed read of a part.
#[derive(Debug)]
pub(super) struct Failure {
    /// The error.
    pub(super) error: Error,
    /// Earliest time of the next attempt.
    pub(super) retry_at: Instant,
}

/// Pages of owners that were read.
#[derive(Debug)]
pub(super) struct OwnerPages {
    /// Owners so far.
    pub(super) owners: Vec<Owner>,
    /// Cursor of the next page.
    pub(super) after: String,
    /// Time of the first page.
    pub(super) fetch_time: Timestamp,
    /// The same by the clock of timeouts.
    pub(super) at: Instant,
}

// === impl PartCopy ===

impl PartCopy {
    /// Memory of the copy in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Properties(copy) => copy.bytes(),
            Self::ValidationRules(copy) => copy.bytes(),
            Self::Pipelines(copy) => copy.bytes(),
            Self::Owners(copy) => copy.bytes(),
            Self::AssociationTypes(copy) => copy.bytes(),
        }
    }
}

// === impl PartState ===

impl PartState {
    /// The copy, if it is young enough for the caller and nothing is missing or contradicted.
    pub(super) fn fresh(&self, max_age: Duration, now: Instant) -> Option<PartCopy> {
        let (copy, at) = self.copy.as_ref()?;
        let is_young = now.saturating_duration_since(*at) <= max_age;
        let is_usable = is_young && !self.is_suspect && self.owner_pages.is_none();
        is_usable.then(|| copy.clone())
    }

    /// The copy, of any age.
    pub(super) fn old(&self) -> Option<PartCopy> {
        self.copy.as_ref().map(|(copy, _)| copy.clone())
    }

    /// Memory of the part in bytes.
    pub(super) fn bytes(&self) -> usize {
        let copy = self.copy.as_ref().map_or(0, |(copy, _)| copy.bytes());
        copy + self.owner_pages.as_ref().map_or(0, |pages| pages.owners.heap_size())
    }

    /// Forgets copy and pages, to free their memory.
    pub(super) fn evict(&mut self) {
        (self.copy, self.owner_pages) = (None, None);
    }
}

// === impl Failure ===

impl Failure {
    pub(super) fn new(error: Error, now: Instant) -> Self {
        let pause = if is_lasting(&error) { LASTING_FAILURE_PAUSE } else { RETRY_PAUSE };
        let pause = pause.max(error.retry_after().unwrap_or_default());
        Self { error, retry_at: now + pause }
    }

    /// True if a retry does not cure the failure.
    pub(super) fn is_lasting(&self) -> bool {
        is_lasting(&self.error)
    }

    /// The error, with the time until the next attempt.
    pub(super) fn error(&self, now: Instant, wait: Option<Duration>) -> Error {
        let pause = self.retry_at.saturating_duration_since(now);
        let error = self.error.clone();
        if is_lasting(&error) {
            return error;
        }
        error.with_retry_after(pause.max(wait.unwrap_or_default()))
    }
}

fn is_lasting(error: &Error) -> bool {
    matches!(
        error.reason(),
        Reason::MissingScopes
            | Reason::UpstreamForbidden
            | Reason::ValidationFailed
            | Reason::UpstreamInvalidResponse
            | Reason::ResponseTooLarge
            | Reason::WrongDataCenter
    )
}
