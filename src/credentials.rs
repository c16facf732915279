//! HubSpot credentials, held in memory and kept fresh.
//!
//! The ports say what the engine needs from outside: [`SecretStore`] (Vault) and [`TokenSource`]
//! (HubSpot's token endpoint).

mod ports;
mod token;

pub use ports::{
    Grant, Granted, PortalSecret, SecretPath, SecretStore, StoreError, TokenError, TokenSource,
    VersionState, VersionedSecret,
};
pub use token::{Handle, Rejection, Token, Unusable};
