//! A HubSpot account in memory, over real HTTP: contacts, companies and leads, for the API versions
//! 2026-09, 2026-03 and v3.
//!
//! Where HubSpot's behaviour is not established, [`Behaviour`] has a switch.

mod batch;
mod errors;
mod limits;
mod search;
mod serve;
mod store;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use axum::Router;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};
use uuid::Uuid;

pub use self::limits::Limits;
use self::{
    limits::Counted,
    store::{Store, Terms},
};
use super::MARK;
use crate::{
    secret::Secret,
    task::{self, Task},
    time::WallClock,
};

/// Scopes that the lead operations need.
pub const READ: &str = "crm.objects.leads.read";
/// See [`READ`].
pub const WRITE: &str = "crm.objects.leads.write";

/// Most requests kept in the log.
const MAX_LOG: usize = 20_000;

/// Life of an access token from the token endpoint.
const TOKEN_LIFE: Duration = Duration::from_secs(1_800);

/// What nobody has established about HubSpot, and how this one does it.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Results of batch writes carry the trace id of their input.
    pub echo_trace_ids: bool,
    /// With trace ids, a property that is refused fails its input alone instead of the whole batch.
    pub property_errors_per_item: bool,
    /// Status of a batch with errors of single inputs: 207, or 200.
    pub partial_status: u16,
    /// Status of a clash of unique values: 409, or 400.
    pub unique_clash_status: u16,
    /// A lead may have a company and no contact.
    pub company_only_leads: bool,
    /// An upsert without `idProperty` takes the id as the record id instead of being refused.
    pub upsert_without_id_property: bool,
    /// The archive of an unknown id answers 404 instead of 204.
    pub delete_reports_unknown: bool,
    /// `numErrors` counts the inputs at fault, not the items of `errors`.
    pub num_errors_counts_inputs: bool,
    /// A missing scope is named in the context of the error, not in its details.
    pub scopes_in_context: bool,
    /// A batch archive reports unknown ids instead of ignoring them.
    pub batch_archive_reports_unknown: bool,
    /// The token endpoint gives a new refresh token each time and forgets the old one.
    pub rotate_refresh_tokens: bool,
    /// The token endpoint leaves the refresh token out of its answer.
    pub omit_refresh_token: bool,
    /// How long the search index lags behind writes.
    pub index_lag: Duration,
}

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

/// An answer given in place of the real one.
#[derive(Debug, Clone)]
pub enum Script {
    /// This status, content type and body; nothing is done.
    Answer(u16, &'static str, String),
    /// This status, these headers and this body; nothing is done.
    Exact(u16, Vec<(String, String)>, String),
    /// Does what was asked after this time.
    Late(Duration),
    /// Does what was asked and gives this status instead of the answer.
    DoneBut(u16),
}

/// The running fake; it stops when dropped.
#[derive(Debug)]
pub struct FakeHubspot {
    address: SocketAddr,
    account: Arc<Mutex<Account>>,
    _server: Task,
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
    grants: u64,
    scripts: Vec<(String, String, Script)>,
    log: VecDeque<Logged>,
    /// Feeds the order of batch results.
    shuffle: u64,
}

#[derive(Debug, Clone)]
struct AccessToken {
    scopes: Vec<String>,
    expires: Option<Instant>,
}

#[derive(Debug)]
struct App {
    client_id: String,
    client_secret: String,
    refresh_token: String,
}

// === impl Account ===

impl Account {
    /// What holds for a write that comes now.
    fn terms(&self, modern: bool) -> Terms {
        Terms { behaviour: self.behaviour.clone(), now: self.clock.now(), modern }
    }
}

// === impl Behaviour ===

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            echo_trace_ids: true,
            property_errors_per_item: true,
            partial_status: 207,
            unique_clash_status: 409,
            company_only_leads: false,
            upsert_without_id_property: false,
            delete_reports_unknown: false,
            num_errors_counts_inputs: false,
            scopes_in_context: false,
            batch_archive_reports_unknown: false,
            rotate_refresh_tokens: false,
            omit_refresh_token: false,
            index_lag: Duration::ZERO,
        }
    }
}

// === impl FakeHubspot ===

impl FakeHubspot {
    /// Starts on `listen` with an empty account; port 0 picks a free one.
    pub async fn start(listen: SocketAddr, clock: Arc<dyn WallClock>) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let account = Arc::new(Mutex::new(Account {
            clock,
            store: Store::new(),
            behaviour: Behaviour::default(),
            limits: Limits::default(),
            counted: Counted::default(),
            tokens: HashMap::new(),
            apps: Vec::new(),
            grants: 0,
            scripts: Vec::new(),
            log: VecDeque::new(),
            shuffle: 1,
        }));
        let router = Router::new().fallback(serve::serve).with_state(Arc::clone(&account));
        let server = task::spawn("fake-hubspot", "", async move {
            // It ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, account, _server: server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A static access token with these scopes.
    pub fn static_token(&self, scopes: &[&str]) -> Secret {
        let token = format!("pat-na1-{MARK}-{}", Uuid::new_v4());
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        self.account.lock().tokens.insert(token.clone(), AccessToken { scopes, expires: None });
        Secret::new(token)
    }

    /// An OAuth app that is installed in the account: client id, client secret, refresh token.
    pub fn oauth_app(&self) -> (String, Secret, Secret) {
        let id = Uuid::new_v4().to_string();
        let [secret, refresh] = std::array::from_fn(|_| format!("{MARK}-{}", Uuid::new_v4()));
        let app = App {
            client_id: id.clone(),
            client_secret: secret.clone(),
            refresh_token: refresh.clone(),
        };
        self.account.lock().apps.push(app);
        (id, Secret::new(secret), Secret::new(refresh))
    }

    /// Ends the life of every access token that has one.
    pub fn expire_tokens(&self) {
        for token in self.account.lock().tokens.values_mut() {
            if token.expires.is_some() {
                token.expires = Some(Instant::now());
            }
        }
    }

    /// Revokes every access token.
    pub fn revoke_tokens(&self) {
        self.account.lock().tokens.clear();
    }

    /// Revokes every access token but this one.
    pub fn revoke_tokens_but(&self, kept: &Secret) {
        self.account.lock().tokens.retain(|token, _| token == kept.expose());
    }

    /// How often the token endpoint gave a token.
    pub fn grants(&self) -> u64 {
        self.account.lock().grants
    }

    /// Creates a contact and gives its id.
    pub fn add_contact(&self, email: &str) -> String {
        let mut account = self.account.lock();
        let id = account.store.next_id().to_string();
        let properties = BTreeMap::from([("email".to_owned(), email.to_owned())]);
        account.store.contacts.insert(id.clone(), properties);
        id
    }

    /// Creates a company and gives its id.
    pub fn add_company(&self, name: &str) -> String {
        let mut account = self.account.lock();
        let id = account.store.next_id().to_string();
        let properties = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        account.store.companies.insert(id.clone(), properties);
        id
    }

    /// Creates a lead of a contact and gives its id; none if HubSpot's rules forbid it.
    pub fn add_lead(&self, contact: &str, properties: &Value) -> Option<String> {
        let mut account = self.account.lock();
        let terms = account.terms(true);
        let input = json!({
            "properties": properties,
            "associations": [{"to": {"id": contact}, "types": [
                {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 578}]}],
        });
        account.store.create(&input, &terms).ok().map(|id| id.to_string())
    }

    /// Adds a property with unique values.
    pub fn add_unique_property(&self, name: &str) {
        self.account.lock().store.add_unique_property(name);
    }

    /// From now on, by 2026-09, `required` must be set where `property` has `value`.
    pub fn require_when(&self, property: &str, value: &str, required: &str) {
        self.account.lock().store.require(property, value, required);
    }

    /// Some contacts, a company and a handful of leads; gives the contacts' ids.
    pub fn seed(&self) -> Vec<String> {
        let people = ["ada", "grace", "edsger", "barbara", "donald"];
        let contacts: Vec<String> =
            people.iter().map(|name| self.add_contact(&format!("{name}@example.com"))).collect();
        self.add_company("Example Ltd");
        let stages = ["new", "new", "attempting", "connected", "qualified"];
        for ((contact, name), stage) in contacts.iter().zip(people).zip(stages) {
            let properties = json!({
                "hs_lead_name": format!("Lead of {name}"),
                "hs_lead_label": if stage == "new" { "WARM" } else { "HOT" },
                "hs_lead_type": "NEW_BUSINESS",
                "hs_pipeline_stage": format!("{stage}-stage-id"),
            });
            self.add_lead(contact, &properties);
        }
        contacts
    }

    /// Id of the oldest lead that is not archived.
    pub fn first_lead(&self) -> Option<String> {
        let account = self.account.lock();
        let lead = account.store.leads.values().find(|lead| lead.archived.is_none())?;
        Some(lead.id.to_string())
    }

    /// Names of the leads that are not archived, duplicates included.
    pub fn lead_names(&self) -> Vec<String> {
        let account = self.account.lock();
        let live = account.store.leads.values().filter(|lead| lead.archived.is_none());
        live.filter_map(|lead| lead.properties.get("hs_lead_name").cloned()).collect()
    }

    /// Changes how it behaves from now on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.account.lock().behaviour);
    }

    /// Changes its limits from now on.
    pub fn limit(&self, change: impl FnOnce(&mut Limits)) {
        change(&mut self.account.lock().limits);
    }

    /// How many calls were refused with 429.
    pub fn rate_limited(&self) -> u64 {
        self.account.lock().counted.refused
    }

    /// Answers the next request with this method whose path ends like this as `script` says.
    pub fn script(&self, method: &str, path_end: &str, script: Script) {
        let entry = (method.to_owned(), path_end.to_owned(), script);
        self.account.lock().scripts.push(entry);
    }

    /// How many scripts have not been used yet.
    pub fn scripts_left(&self) -> usize {
        self.account.lock().scripts.len()
    }

    /// The requests so far, oldest first.
    pub fn log(&self) -> Vec<Logged> {
        self.account.lock().log.iter().cloned().collect()
    }

    /// Forgets the requests so far.
    pub fn clear_log(&self) {
        self.account.lock().log.clear();
    }
}

// === impl Account ===

impl Account {
    fn remember(&mut self, logged: Logged) {
        if self.log.len() == MAX_LOG {
            self.log.pop_front();
        }
        self.log.push_back(logged);
    }

    fn scripted(&mut self, method: &str, path: &str) -> Option<Script> {
        let fits = |(wanted, end, _): &(String, String, Script)| {
            wanted == method && path.ends_with(end.as_str())
        };
        let index = self.scripts.iter().position(fits)?;
        Some(self.scripts.remove(index).2)
    }
}
