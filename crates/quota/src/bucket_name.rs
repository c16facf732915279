//! Names of HubSpot's limits.

/// One of the limits that HubSpot puts on a portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BucketName {
    /// Calls in ten seconds, all but searches. A tenth of them may be made in one second.
    Burst,
    /// Searches in a second.
    Search,
    /// Calls in a day.
    Daily,
}

// === impl BucketName ===

impl BucketName {
    /// Name in responses, metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Burst => "burst",
            Self::Search => "search",
            Self::Daily => "daily",
        }
    }
}

#[cfg(test)]
mod tests;
