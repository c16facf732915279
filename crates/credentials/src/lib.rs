//! HubSpot credentials, held in memory and refreshed ahead of expiry.
//!
//! [`Credentials`] runs one engine per portal; callers hold a [`Handle`]. Two ports connect
//! the engine with the world: [`SecretStore`] (Vault) and [`TokenSource`] (HubSpot's token
//! endpoint).
//!
//! The crate promises:
//! - While an unexpired token is in memory, no call fails for lack of a credential.
//! - After any outage the engine recovers by itself, within 30 s.
//! - A rotated refresh token is never lost while the process lives: it is offered to the store until
//!   the store has it, or has another one that works.
//! - Nothing is final. A rejected credential is suspended; it waits for a new secret, for an
//!   operator, or for its next retry.
//!
//! # What it must not know
//!
//! Leads, gRPC, HTTP, Vault's API, configuration files and metrics formats. It opens no socket, and
//! the machines inside read no clock and draw no random numbers.
//!
//! # Example
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use leadsd_credentials::{
//!     Credentials, SecretPath, Settings, State,
//!     testing::{MemoryStore, TestClock, TokenEndpoint, oauth_secret},
//! };
//! use tokio::time::Instant;
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread()
//! #     .enable_time().start_paused(true).build().unwrap();
//! # runtime.block_on(async {
//! let store = Arc::new(MemoryStore::default());
//! let endpoint = Arc::new(TokenEndpoint::new(Duration::from_secs(1_800)));
//! let secret = oauth_secret("app", "client-secret", "refresh-token");
//! endpoint.accept(&secret);
//! store.put("hubspot/default", secret);
//!
//! let path = SecretPath::parse("hubspot/default").unwrap();
//! let credentials = Credentials::start(
//!     Settings::default(),
//!     store,
//!     endpoint.clone(),
//!     Arc::new(TestClock::default()),
//!     [("default".to_owned(), path)],
//! ).unwrap();
//!
//! let handle = credentials.handle("default").unwrap();
//! let token = handle.token(Instant::now() + Duration::from_secs(5)).await.unwrap();
//! assert!(endpoint.accepts(&token.secret));
//! assert_eq!(credentials.snapshot()[0].state, State::Fresh);
//! # });
//! ```
//!
//! # Inside
//!
//! The machines decide, the engine acts. `machine` turns events into calls, without I/O. It consists
//! of `secret_watch` (which version of the secret is the newest), `token_cycle` (when to refresh,
//! whether the credential works, what callers get) and `write_back` (rotated refresh tokens). They
//! communicate by events, which `machine` routes. `schedule` holds every number with its reason.
//!
//! Imports point downwards:
//!
//! ```text
//! credentials ── discovery
//!      │             │
//!      └── registry ─┘
//!              │
//!           engine ────── handle
//!              │             │
//!           machine          │
//!     ┌────────┼─────────┐   │
//! secret_watch │ write_back  │
//!         token_cycle        │
//!              │             │
//!  schedule  status  published  signals  settings
//!              │             │     │        │
//!  counters  failure        token ─┘  secret_path
//!              │                            │
//!           store, source ──────────────────┘
//! ```
//!
//! Tests and other crates use the doubles in `testing` (feature `testing`).

mod counters;
mod credentials;
mod discovery;
mod engine;
mod failure;
mod handle;
mod machine;
mod published;
mod registry;
mod schedule;
mod secret_path;
mod settings;
mod signals;
mod source;
mod status;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod token;

pub use counters::Counters;
pub use credentials::Credentials;
pub use failure::FailureClass;
pub use handle::Handle;

pub use secret_path::SecretPath;
pub use settings::{Discovery, Settings, Start};
pub use source::{GrantError, RefreshRequest, TokenCheck, TokenResponse, TokenSource};
pub use status::{Kind, PortalReadiness, PortalStatus, Readiness, ReadinessRule, State};
pub use store::{PortalSecret, SecretStore, StoreError, VersionState, VersionedSecret};
pub use token::{Token, TokenUnavailable};
