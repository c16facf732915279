//! Stand-ins for HubSpot and Vault over real HTTP, for `leadsd dev` and the tests.
//!
//! They share no code with `hubspot` and `vault`: else they would only prove that we agree with
//! ourselves. What the references leave open is a switch here.

pub mod hubspot;
pub mod vault;
