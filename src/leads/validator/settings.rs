//! Mode of validation per portal.

use std::collections::HashMap;

use crate::leads::{context::PortalName, validation::DateRules};

/// Treatment of a write that violates the schema of its portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ValidationMode {
    /// Sends it; nothing is checked.
    #[default]
    Off,
    /// Counts, logs and sends it.
    Warn,
    /// Refuses it without a HubSpot call.
    Enforce,
}

/// Settings of validation.
#[derive(Debug, Clone, Default)]
pub struct ValidationSettings {
    /// Modes of the configured portals.
    pub portals: HashMap<PortalName, ValidationMode>,
    /// Mode of all other portals.
    pub others: ValidationMode,
    /// Forms of dates that HubSpot's API version accepts.
    pub dates: DateRules,
}

// === impl ValidationSettings ===

impl ValidationSettings {
    /// Mode of a portal.
    pub(super) fn mode(&self, portal: &PortalName) -> ValidationMode {
        self.portals.get(portal).copied().unwrap_or(self.others)
    }
}
