//! Vault (or OpenBao) behind the port [`leadsd_credentials::SecretStore`]: one logged-in session for
//! the whole process, and KV v2 with versions.
//!
//! `vaultrs` is wrapped here and named nowhere else. It reads VAULT_* from the environment, panics
//! on a token with a line end, prints tokens in `Debug` and knows no retry: `connection` builds its
//! settings field by field, and nothing of it is ever printed.

mod authority;
mod connection;
mod errand;
mod error;
mod kv;
mod lease;
mod session;

pub use errand::{Engine, Errand, Health, Keys, Stored, TokenFacts, Written};
pub use error::Error;
pub use kv::KvStore;
pub use session::{Session, SessionState, SessionStatus};
