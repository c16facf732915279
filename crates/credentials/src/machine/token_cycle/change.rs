//! Change that an adopted secret makes to the token request.

use crate::source::RefreshRequest;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestChange {
    Nothing,
    /// Another refresh token of the same client: usually the rotation of another replica.
    RefreshToken,
    /// Another client, client secret or kind: an operator acted.
    Client,
}

// === impl RequestChange ===

impl RequestChange {
    pub(super) fn between(before: Option<&RefreshRequest>, after: Option<&RefreshRequest>) -> Self {
        match (before, after) {
            (Some(before), Some(after)) if before == after => Self::Nothing,
            (Some(before), Some(after))
                if before.client_id == after.client_id
                    && before.client_secret == after.client_secret =>
            {
                Self::RefreshToken
            }
            (_, _) => Self::Client,
        }
    }
}
