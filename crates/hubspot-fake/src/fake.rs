//! Handle of the fake for tests and `leadsd dev`: contents, behaviour and request log.
//!
//! - `control` scripts responses, and injects faults and latency.
//! - `records` copies and replaces the records of the account.
//!
//! The handle changes the state of the account and serves no request.

mod control;
mod records;
mod schema;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use axum::Router;
use leadsd_base::{
    secret::{SECRET_MARKER, Secret},
    task::{self, Task},
    time::WallClock,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, time::Instant};
use uuid::Uuid;

use super::{
    AccessToken, App, Behaviour, FakeAccount, Gate, Limits, LoggedRequest, READ, WRITE,
    lead::StoredLead,
    limits::CountedCalls,
    serve,
    store::{Rules, Store},
};

/// A running fake HubSpot. Dropping it stops the server.
#[derive(Debug)]
pub struct FakeHubspot {
    address: SocketAddr,
    account: Arc<Mutex<FakeAccount>>,
    _server: Task,
}

// === impl FakeHubspot ===

impl FakeHubspot {
    /// Starts with an empty account on `listen`; port 0 picks a free port.
    pub async fn start(listen: SocketAddr, clock: Arc<dyn WallClock>) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let account = Arc::new(Mutex::new(FakeAccount {
            clock,
            store: Store::new(),
            behaviour: Behaviour::default(),
            limits: Limits::default(),
            counted: CountedCalls::default(),
            tokens: HashMap::new(),
            apps: Vec::new(),
            hub: 1,
            grants: 0,
            scripts: Vec::new(),
            faults: Vec::new(),
            latency: Duration::ZERO,
            changes: watch::Sender::new(0),
            in_flight: Arc::default(),
            hurry: Gate::new(),
            log: VecDeque::new(),
            shuffle: 1,
        }));
        let router = Router::new().fallback(serve::serve).with_state(Arc::clone(&account));
        let server = task::spawn("fake-hubspot", "", async move {
            // The task owns the server, so it ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, account, _server: server })
    }

    /// Address of the listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Creates a static access token with these scopes.
    pub fn static_token(&self, scopes: &[&str]) -> Secret {
        let token = format!("pat-na1-{SECRET_MARKER}-{}", Uuid::new_v4());
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        let mut account = self.account.lock();
        let hub = account.hub;
        let known = AccessToken { scopes, expires: None, oauth: false, client_id: None, hub };
        account.tokens.insert(token.clone(), known);
        Secret::new(token)
    }

    /// Creates an OAuth app that is installed in the account; returns client id, client secret and
    /// refresh token.
    pub fn oauth_app(&self) -> (String, Secret, Secret) {
        let app = self.add_app(&[]);
        (app.0, app.1, app.2)
    }

    /// Creates an OAuth app that is not installed yet, with these redirect URLs; returns client id
    /// and client secret.
    pub fn register_app(&self, redirects: &[&str]) -> (String, Secret) {
        let app = self.add_app(redirects);
        (app.0, app.1)
    }

    /// Registers another redirect URL of an app.
    pub fn add_redirect(&self, client_id: &str, redirect: &str) {
        let mut account = self.account.lock();
        let app = account.apps.iter_mut().find(|app| app.client_id == client_id);
        if let Some(app) = app {
            app.redirects.push(redirect.to_owned());
        }
    }

    fn add_app(&self, redirects: &[&str]) -> (String, Secret, Secret) {
        let id = Uuid::new_v4().to_string();
        let [secret, refresh] =
            std::array::from_fn(|_| format!("{SECRET_MARKER}-{}", Uuid::new_v4()));
        let mut account = self.account.lock();
        let app = App {
            client_id: id.clone(),
            client_secret: secret.clone(),
            refresh_token: refresh.clone(),
            redirects: redirects.iter().map(|&url| url.to_owned()).collect(),
            codes: Vec::new(),
            scopes: vec![READ.to_owned(), WRITE.to_owned()],
            hub: account.hub,
        };
        account.apps.push(app);
        (id, Secret::new(secret), Secret::new(refresh))
    }

    /// Issues later tokens for the account with this id. Records stay.
    pub fn set_hub(&self, hub: u64) {
        self.account.lock().hub = hub;
    }

    /// Expires every access token that has a lifetime.
    pub fn expire_tokens(&self) {
        for token in self.account.lock().tokens.values_mut() {
            if token.expires.is_some() {
                token.expires = Some(Instant::now());
            }
        }
    }

    /// Advances the clock of rate limits, token lifetimes and the search index.
    pub fn advance(&self, by: Duration) {
        let mut account = self.account.lock();
        account.counted.advance(by);
        account
            .tokens
            .values_mut()
            .filter_map(|token| token.expires.as_mut())
            .for_each(|at| *at -= by);
        account.store.leads.values_mut().for_each(|lead| lead.advance(by));
    }

    /// Revokes all access tokens.
    pub fn revoke_tokens(&self) {
        self.account.lock().tokens.clear();
    }

    /// Revokes all access tokens except this one.
    pub fn revoke_tokens_but(&self, kept: &Secret) {
        self.account.lock().tokens.retain(|token, _| token == kept.expose());
    }

    /// Number of tokens that the token endpoint issued.
    pub fn grants(&self) -> u64 {
        self.account.lock().grants
    }

    /// Creates a contact; returns its id.
    pub fn add_contact(&self, email: &str) -> String {
        let mut account = self.account.lock();
        let id = account.store.next_id().to_string();
        let properties = BTreeMap::from([("email".to_owned(), email.to_owned())]);
        account.store.contacts.insert(id.clone(), properties);
        id
    }

    /// Adds a further address to a contact.
    pub fn add_address(&self, contact: &str, email: &str) {
        if let Some(contact) = self.account.lock().store.contacts.get_mut(contact) {
            let all = contact.entry("hs_additional_emails".to_owned()).or_default();
            *all = if all.is_empty() { email.to_owned() } else { format!("{all};{email}") };
        }
    }

    /// Archives a contact.
    pub fn archive_contact(&self, contact: &str) {
        self.account.lock().store.contacts.remove(contact);
    }

    /// E-mail addresses of the contacts by id.
    pub fn contacts(&self) -> BTreeMap<String, String> {
        let account = self.account.lock();
        let email = |contact: &BTreeMap<String, String>| contact.get("email").cloned();
        let all = account.store.contacts.iter();
        all.map(|(id, contact)| (id.clone(), email(contact).unwrap_or_default())).collect()
    }

    /// Creates a company; returns its id.
    pub fn add_company(&self, name: &str) -> String {
        let mut account = self.account.lock();
        let id = account.store.next_id().to_string();
        let properties = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        account.store.companies.insert(id.clone(), properties);
        id
    }

    /// Defines a label of associations with contacts; returns its association type id.
    pub fn add_contact_label(&self, name: &str) -> u64 {
        let labels = &mut self.account.lock().store.labels;
        let id = labels.len() as u64 + 1;
        labels.insert(id, ("contacts", name.to_owned()));
        id
    }

    /// Creates a lead of a contact; returns its id. `None` if a HubSpot rule forbids the lead.
    pub fn add_lead(&self, contact: &str, properties: &Value) -> Option<String> {
        let mut account = self.account.lock();
        let behaviour = account.behaviour.clone();
        let rules = Rules { behaviour: &behaviour, now: account.clock.now(), modern: false };
        let input = json!({
            "properties": properties,
            "associations": [{"to": {"id": contact}, "types": [
                {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 578}]}],
        });
        account.store.create(&input, &rules).ok().map(|id| id.to_string())
    }

    /// Merges one lead into another, as a user does in HubSpot's UI.
    pub fn merge(&self, merged_id: &str, surviving_id: &str) {
        if let (Ok(merged_id), Ok(surviving_id)) = (merged_id.parse(), surviving_id.parse()) {
            self.account.lock().store.merge(merged_id, surviving_id);
        }
    }

    /// Creates contacts, a company and leads; returns the ids of the contacts.
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

    /// Archives a lead.
    pub fn archive(&self, lead: &str) {
        self.account.lock().archive(lead);
    }

    /// Associates a lead with an existing record by this association type.
    pub fn associate(&self, lead: &str, to: &str, kind: u64) {
        let mut account = self.account.lock();
        if let Ok(lead) = lead.parse() {
            let kind = json!({"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": kind});
            // Tests pass only ids of existing records.
            let _ = account.link(lead, to, &[kind]);
        }
    }

    /// All leads with everything except timestamps.
    pub fn leads(&self) -> Vec<Value> {
        self.account.lock().store.leads.values().map(StoredLead::dump).collect()
    }

    /// Value of a property of a lead.
    pub fn value(&self, lead: &str, property: &str) -> Option<String> {
        let account = self.account.lock();
        account.store.leads.get(&lead.parse().ok()?)?.properties.get(property).cloned()
    }

    /// Names of the leads that are not archived, with duplicates.
    pub fn lead_names(&self) -> Vec<String> {
        let account = self.account.lock();
        let live = account.store.leads.values().filter(|lead| lead.archived.is_none());
        live.filter_map(|lead| lead.properties.get("hs_lead_name").cloned()).collect()
    }

    /// Changes the behaviour from now on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.account.lock().behaviour);
    }

    /// Changes the rate limits from now on.
    pub fn limit(&self, change: impl FnOnce(&mut Limits)) {
        change(&mut self.account.lock().limits);
    }

    /// Counts calls that another client with the same apps made just now.
    pub fn use_up(&self, calls: usize) {
        let mut account = self.account.lock();
        let (limits, now) = (account.limits, account.clock.now());
        let app = |(token, known): (&String, &AccessToken)| {
            known.client_id.clone().unwrap_or_else(|| token.clone())
        };
        // An app with a grant counts before it has a token.
        let granted = account.apps.iter().map(|app| app.client_id.clone());
        let apps: HashSet<String> = account.tokens.iter().map(app).chain(granted).collect();
        account.counted.use_up(apps.into_iter(), calls, &limits, now);
    }

    /// Number of counted calls: API calls that no limit rejected.
    pub fn counted(&self) -> u64 {
        self.account.lock().counted.passed
    }

    /// Number of calls rejected with 429.
    pub fn rate_limited(&self) -> u64 {
        self.account.lock().counted.refused
    }

    /// Number of requests in progress: received, without a response, and not aborted by the client.
    pub fn in_flight(&self) -> usize {
        // The account holds one reference, and each request another.
        Arc::strong_count(&self.account.lock().in_flight) - 1
    }

    /// Ends the delays of all scripted responses, present and future.
    pub fn end_delays(&self) {
        self.account.lock().hurry.open();
    }

    /// Requests in the log, oldest first.
    pub fn log(&self) -> Vec<LoggedRequest> {
        self.account.lock().log.iter().cloned().collect()
    }

    /// Clears the log.
    pub fn clear_log(&self) {
        self.account.lock().log.clear();
    }
}

#[cfg(test)]
mod tests;
