//! HubSpot credentials, held in memory and kept fresh.
//!
//! [`Credentials`] runs one engine per portal; [`Handle`] is what callers hold. The ports say what
//! the engine needs from outside: [`SecretStore`] (Vault) and [`TokenSource`] (HubSpot's token
//! endpoint).
//!
//! The promise: while an unexpired token is in memory, no call fails for lack of a credential, and
//! after any outage the engine recovers by itself. `machine` says how it is kept; `schedule` holds
//! every number.

mod discovery;
mod engine;
mod machine;
mod portals;
mod ports;
mod schedule;
mod settings;
mod status;
#[cfg(test)]
mod tests;
mod token;

pub use portals::Credentials;
pub use ports::{
    GrantError, PortalSecret, RefreshRequest, SecretPath, SecretStore, StoreError, TokenResponse,
    TokenSource, VersionState, VersionedSecret,
};
pub use settings::{Discovery, Settings, Start};
pub use status::{Counters, FailureClass, Kind, PortalStatus, Readiness, State};
pub use token::{Handle, Rejection, Token, TokenUnavailable};
