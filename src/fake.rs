//! Stand-ins for HubSpot and Vault over real HTTP, for `leadsd dev` and the tests.
//!
//! They share no code with `hubspot` and `vault`: else they would only prove that we agree with
//! ourselves. What the references leave open is a switch here.

/// Stands in every secret that the fakes make up, so that a test recognises one wherever it turns
/// up.
pub const MARK: &str = "hush";

pub mod hubspot;
pub mod vault;
