//! What travels with every call: for whom, until when, and what it has cost so far.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Name of a configured portal (HubSpot account): 1 to 64 letters, digits, `_` or `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortalName(Arc<str>);

/// One call of a client, on its way to HubSpot and back.
#[derive(Debug, Clone)]
pub struct Call {
    /// The account it is about.
    pub portal: PortalName,
    /// When the caller stops waiting. No step may outlast it.
    pub deadline: Instant,
    /// Names the call in logs and in the answer.
    pub request_id: Arc<str>,
    /// What it has cost; shared by all copies of this call.
    pub spent: Arc<Spent>,
}

/// HubSpot calls made for one client call.
#[derive(Debug, Default)]
pub struct Spent {
    calls: AtomicU32,
    correlation_id: Mutex<Option<String>>,
}

// === impl PortalName ===

impl PortalName {
    /// Checks a name; `None` if it has a character or length that no portal name may have.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let fits = (1..=64).contains(&text.len()) && text.chars().all(allowed);
        fits.then(|| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PortalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Spent ===

impl Spent {
    /// Counts one call sent to HubSpot.
    pub fn count(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls sent so far.
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Keeps HubSpot's correlation id of the newest answer.
    pub fn set_correlation_id(&self, id: &str) {
        *self.correlation_id.lock() = Some(id.to_owned());
    }

    /// HubSpot's correlation id of the newest answer.
    pub fn correlation_id(&self) -> Option<String> {
        self.correlation_id.lock().clone()
    }
}
