//! A HubSpot account in memory, over real HTTP: contacts, companies and leads, for the API versions
//! 2026-09, 2026-03 and v3.
//!
//! - Where HubSpot's behaviour is not established, [`Behaviour`] has a switch.
//! - [`Script`] replaces single responses; [`Gate`] holds them until a test opens it.
//! - [`Limits`] are true rolling windows; [`FakeHubspot::advance`] lets time pass for them.
//!
//! It shares no code with the client that it tests.
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
mod errors;
mod fake;
mod gate;
mod http;
mod leads;
mod limits;
mod oauth;
mod records;
mod schema;
mod script;
mod search;
mod serve;
mod store;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use leadsd_base::time::WallClock;
use serde_json::Value;
use tokio::time::Instant;

pub use self::{
    behaviour::{Behaviour, NumErrors},
    consent::Consent,
    fake::FakeHubspot,
    gate::Gate,
    limits::Limits,
    script::{End, Refusal, Script},
};
use self::{consent::Code, limits::Counted, store::Store};

/// Scopes that the lead operations need.
pub const READ: &str = "crm.objects.leads.read";
/// See [`READ`].
pub const WRITE: &str = "crm.objects.leads.write";

/// Most requests kept in the log.
const MAX_LOG: usize = 20_000;

/// One request that was answered.
#[derive(Debug, Clone)]
pub struct Logged {
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query, undecoded.
    pub query: String,
    /// JSON body, null if there was none.
    pub body: Value,
    /// Status of the answer.
    pub status: u16,
}

/// One account and its apps.
#[derive(Debug)]
struct Account {
    clock: Arc<dyn WallClock>,
    store: Store,
    behaviour: Behaviour,
    limits: Limits,
    counted: Counted,
    tokens: HashMap<String, AccessToken>,
    apps: Vec<App>,
    /// Id of the account that tokens made from now on are of.
    hub: u64,
    grants: u64,
    scripts: Vec<script::Entry>,
    /// Cloned by each request while it is served.
    in_flight: Arc<()>,
    /// Open once delays of scripts are to end.
    hurry: Gate,
    log: VecDeque<Logged>,
    /// Feeds the order of batch results.
    shuffle: u64,
}

#[derive(Debug, Clone)]
struct AccessToken {
    scopes: Vec<String>,
    expires: Option<Instant>,
    /// Whether it came from the token endpoint.
    oauth: bool,
    client_id: Option<String>,
    /// The account it is of.
    hub: u64,
}

#[derive(Debug)]
struct App {
    client_id: String,
    client_secret: String,
    /// No token response contains it before the app is installed.
    refresh_token: String,
    /// Where the consent page may send the browser.
    redirects: Vec<String>,
    codes: Vec<Code>,
    /// What it was granted, and by which account.
    scopes: Vec<String>,
    hub: u64,
}

// === impl Account ===

impl Account {
    fn remember(&mut self, logged: Logged) {
        if self.log.len() == MAX_LOG {
            self.log.pop_front();
        }
        self.log.push_back(logged);
    }

    fn scripted(&mut self, method: &str, path: &str, token: &str) -> Option<Script> {
        let index = self.scripts.iter().position(|entry| entry.fits(method, path, token))?;
        let entry = &mut self.scripts[index];
        entry.times = entry.times.saturating_sub(1);
        if entry.times == 0 {
            return Some(self.scripts.remove(index).script);
        }
        Some(entry.script.clone())
    }
}
