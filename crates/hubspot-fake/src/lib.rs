//! Stateful fake HubSpot account over HTTP: contacts, companies, owners and leads, for the API versions
//! 2026-09, 2026-03 and v3.
//!
//! - [`Behaviour`] has a switch for each point where HubSpot's behaviour is not documented.
//! - [`ScriptedResponse`] replaces single responses; [`Gate`] holds them until a test opens it.
//! - [`Limits`] are exact rolling windows; [`FakeHubspot::advance`] moves their clock.
//!
//! The crate must not know leadsd: it shares no code with the client that it tests.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use std::sync::Arc;
//!
//! use leadsd_base::time::SystemClock;
//! use leadsd_hubspot_fake::FakeHubspot;
//!
//! let hubspot = FakeHubspot::start(([127, 0, 0, 1], 0).into(), Arc::new(SystemClock)).await?;
//! let contact = hubspot.add_contact("ada@example.com");
//! let lead = hubspot.add_lead(&contact, &serde_json::json!({"hs_lead_name": "Jane"}));
//! assert_eq!(hubspot.first_lead(), lead);
//! # Ok(())
//! # }
//! ```

mod account;
mod associations;
mod batch;
mod behaviour;
mod consent;
mod contacts;
mod errors;
mod fake;
mod gate;
mod http;
mod injection;
mod lead;
mod leads;
mod limits;
mod oauth;
mod owners;
mod records;
mod route;
mod rules;
mod schema;
mod script;
mod search;
mod serve;
mod snapshot;
mod store;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use leadsd_base::time::WallClock;
use serde_json::Value;
use tokio::{sync::watch, time::Instant};

pub use self::{
    account::TIME_ZONE,
    behaviour::{Behaviour, NumErrors},
    consent::Consent,
    fake::FakeHubspot,
    gate::Gate,
    injection::{Fault, Operation},
    limits::Limits,
    script::{ApiError, BodyEnd, ScriptedResponse},
    snapshot::{InvalidSnapshot, Snapshot},
};
use self::{consent::AuthorizationCode, limits::CountedCalls, store::Store};

/// Scope that the read operations need.
pub const READ: &str = "crm.objects.leads.read";
/// Scope that the write operations need.
pub const WRITE: &str = "crm.objects.leads.write";
/// Scope that creates of lead properties need.
pub const SCHEMAS: &str = "crm.schemas.leads.write";
/// Scope that the owners API needs.
pub const OWNERS: &str = "crm.objects.owners.read";
/// Scope that batch reads of contacts need.
pub const CONTACTS_READ: &str = "crm.objects.contacts.read";
/// Scope that batch creates of contacts need.
pub const CONTACTS_WRITE: &str = "crm.objects.contacts.write";

/// Maximum number of requests kept in the log; the oldest are dropped.
const MAX_LOG: usize = 20_000;

/// A request in the log.
#[derive(Debug, Clone)]
pub struct LoggedRequest {
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query, undecoded.
    pub query: String,
    /// JSON body; null if absent.
    pub body: Value,
    /// Status of the response.
    pub status: u16,
}

/// State of one account and its apps.
#[derive(Debug)]
struct FakeAccount {
    clock: Arc<dyn WallClock>,
    store: Store,
    behaviour: Behaviour,
    limits: Limits,
    counted: CountedCalls,
    tokens: HashMap<String, AccessToken>,
    apps: Vec<App>,
    /// Account id of tokens that are issued from now on.
    hub: u64,
    grants: u64,
    scripts: Vec<script::ScriptEntry>,
    faults: Vec<Fault>,
    /// Time that each request waits before it is served.
    latency: Duration,
    /// Number of requests that may have changed records.
    changes: watch::Sender<u64>,
    /// Cloned by each request while it is served.
    in_flight: Arc<()>,
    /// Open once delays of scripted responses end.
    hurry: Gate,
    log: VecDeque<LoggedRequest>,
    /// Seed for the order of batch results.
    shuffle: u64,
}

#[derive(Debug, Clone)]
struct AccessToken {
    scopes: Vec<String>,
    expires: Option<Instant>,
    /// True if the token endpoint issued it.
    oauth: bool,
    client_id: Option<String>,
    /// Id of its account.
    hub: u64,
}

#[derive(Debug)]
struct App {
    client_id: String,
    client_secret: String,
    /// Token responses omit it until the app is installed.
    refresh_token: String,
    /// Redirect URLs that the app registered.
    redirects: Vec<String>,
    codes: Vec<AuthorizationCode>,
    /// Granted scopes, and the account that granted them.
    scopes: Vec<String>,
    hub: u64,
}

// === impl FakeAccount ===

impl FakeAccount {
    fn remember(&mut self, logged: LoggedRequest) {
        if self.log.len() == MAX_LOG {
            self.log.pop_front();
        }
        self.log.push_back(logged);
    }

    fn scripted(&mut self, method: &str, path: &str, token: &str) -> Option<ScriptedResponse> {
        let index = self.scripts.iter().position(|entry| entry.fits(method, path, token))?;
        let entry = &mut self.scripts[index];
        entry.times = entry.times.saturating_sub(1);
        if entry.times == 0 {
            return Some(self.scripts.remove(index).script);
        }
        Some(entry.script.clone())
    }
}
