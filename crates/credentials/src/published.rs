//! Tokens and failures that the engine publishes, and their resolution for a caller.

use std::sync::Arc;

use tokio::time::Instant;

use crate::token::{Token, TokenUnavailable};

/// The present token and why there may be no other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) active: Option<ActiveToken>,
    pub(crate) no_replacement: Option<NoReplacement>,
    /// Reason for the suspension; `None` if the credential is not suspended.
    pub(crate) suspended: Option<Arc<str>>,
    /// Condition that the engine waits for, reported to callers whose deadline passes.
    pub(crate) awaits: &'static str,
}

/// A token and its expiry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActiveToken {
    pub(crate) token: Token,
    /// `None` for a token that does not expire by itself.
    pub(crate) expires_at: Option<Instant>,
}

/// Absence of any token other than that of `generation`. Valid until `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoReplacement {
    pub(crate) generation: u64,
    pub(crate) until: Instant,
}

/// Requirements of a caller for a token.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TokenRequirement {
    /// Tokens of this generation and below are of no use; 0 takes any.
    pub(crate) above: u64,
}

// === impl ActiveToken ===

impl ActiveToken {
    pub(crate) fn is_usable(&self, now: Instant) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

// === impl Published ===

impl Published {
    /// Result for a caller with this requirement; `None` if it is not decided yet.
    pub(crate) fn resolve(
        &self,
        need: TokenRequirement,
        now: Instant,
    ) -> Option<Result<Token, TokenUnavailable>> {
        let active = self.active.as_ref().filter(|active| active.is_usable(now));
        if let Some(active) = active.filter(|active| active.token.generation > need.above) {
            return Some(Ok(active.token.clone()));
        }
        if let Some(why) = &self.suspended {
            return Some(Err(TokenUnavailable::Suspended(why.to_string())));
        }
        let no_replacement = self.no_replacement?;
        if no_replacement.generation != need.above || now >= no_replacement.until {
            return None;
        }
        Some(Err(TokenUnavailable::Rejected))
    }
}

#[cfg(test)]
mod tests;
