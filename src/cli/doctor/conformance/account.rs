//! Account that the facts are tried on. Records the ids of created records, and archives these at the end.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    config::ApiVersion,
    hubspot::{ApiArea, DiagnosticsClient, JsonResponse, RawRequest},
};
use leadsd_base::secret::Secret;

/// Timeout for one request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum number of attempts of a request while HubSpot returns 429.
const MAX_TRIES: u32 = 8;

/// Pause after a 429: the windows of HubSpot's limits last one and ten seconds.
const PAUSE: Duration = Duration::from_secs(2);

/// Number of contacts per page, HubSpot's maximum.
const CONTACTS_PAGE: &str = "100";

/// Maximum number of leads of a batch.
const MAX_BATCH: usize = 100;

/// Id of no record.
pub(super) const NO_RECORD: &str = "999999999999";

/// Account with the records that were created in it.
pub(super) struct TestAccount {
    client: DiagnosticsClient,
    token: Secret,
    version: ApiVersion,
    /// Contact of the created leads.
    contact: String,
    /// Word in the names of the created leads, unique to the run.
    mark: String,
    leads: Mutex<BTreeSet<String>>,
    /// Property that was created.
    property: Mutex<Option<String>>,
    /// True if an error for a missing scope names it at the top level; `None` before such an error.
    scopes_on_top: Mutex<Option<bool>>,
    /// True after the stop: further requests fail.
    is_stopped: AtomicBool,
}

/// A request without a response: HubSpot's behaviour is unknown.
pub(super) type Tried<T> = Result<T, String>;

// === impl TestAccount ===

impl TestAccount {
    pub(super) fn new(
        client: DiagnosticsClient,
        token: Secret,
        version: ApiVersion,
        contact: String,
    ) -> Self {
        let mark = Uuid::new_v4().simple().to_string().split_off(20);
        Self {
            client,
            token,
            version,
            contact,
            mark,
            leads: Mutex::default(),
            property: Mutex::default(),
            scopes_on_top: Mutex::default(),
            is_stopped: AtomicBool::default(),
        }
    }

    pub(super) async fn get(
        &self,
        path: &str,
        query: &[(&'static str, &str)],
    ) -> Tried<JsonResponse> {
        self.leads(Method::GET, path, query, None).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Tried<JsonResponse> {
        self.leads(Method::POST, path, &[], Some(body)).await
    }

    pub(super) async fn patch(
        &self,
        id: &str,
        query: &[(&'static str, &str)],
        body: Value,
    ) -> Tried<JsonResponse> {
        self.leads(Method::PATCH, id, query, Some(body)).await
    }

    pub(super) async fn delete(&self, id: &str) -> Tried<JsonResponse> {
        self.leads(Method::DELETE, id, &[], None).await
    }

    async fn leads(
        &self,
        method: Method,
        path: &str,
        query: &[(&'static str, &str)],
        body: Option<Value>,
    ) -> Tried<JsonResponse> {
        let query = query.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let path = path.to_owned();
        self.send(RawRequest { method, area: ApiArea::Leads, path, query, body }).await
    }

    /// Sends a request, again after a 429. Errors if HubSpot sends no response or is unavailable.
    pub(super) async fn send(&self, request: RawRequest) -> Tried<JsonResponse> {
        for _ in 0..MAX_TRIES {
            if self.is_stopped.load(Ordering::Relaxed) {
                return Err("interrupted".to_owned());
            }
            let deadline = Instant::now() + TIMEOUT;
            let answer = self.client.raw(&request, &self.token, deadline).await;
            let answer = answer.map_err(|error| format!("HubSpot {error}"))?;
            match answer.status {
                429 => sleep(PAUSE).await,
                401 | 403 => {
                    self.observe_scopes(&answer);
                    return Err(format!("HubSpot rejected the call: {}", answer.status));
                }
                status if status >= 500 => return Err(format!("HubSpot is unavailable: {status}")),
                _ => {
                    self.remember(&request, &answer);
                    return Ok(answer);
                }
            }
        }
        Err("the limit of the account is exhausted: 429".to_owned())
    }

    /// Notes where an error names a missing scope.
    fn observe_scopes(&self, answer: &JsonResponse) {
        let names_scopes = |at: &Value| at["context"]["requiredGranularScopes"].is_array();
        let (on_top, in_errors) =
            (names_scopes(&answer.body), names_scopes(&answer.body["errors"][0]));
        if on_top != in_errors {
            *self.scopes_on_top.lock() = Some(on_top);
        }
    }

    /// True if an error for a missing scope names it at the top level; `None` if no call had such an error.
    pub(super) fn names_scopes_on_top(&self) -> Option<bool> {
        *self.scopes_on_top.lock()
    }

    /// Rejects all requests from now on, so that the run ends and cleans up. A request that HubSpot is
    /// working on ends as usual: its lead would not be known otherwise.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Records the ids of the leads that a create or an upsert returned.
    fn remember(&self, request: &RawRequest, answer: &JsonResponse) {
        let creates = ["", "batch/create", "batch/upsert"].contains(&request.path.as_str());
        if request.method != Method::POST || request.area != ApiArea::Leads || !creates {
            return;
        }
        let results = answer.body["results"].as_array().into_iter().flatten();
        let ids = results.chain([&answer.body]).filter_map(|lead| lead["id"].as_str());
        self.leads.lock().extend(ids.map(str::to_owned));
    }

    /// True for 2026-09, which validates more strictly.
    pub(super) fn is_modern(&self) -> bool {
        self.version == ApiVersion::V2026_09
    }

    /// Number of leads that were created.
    pub(super) fn created(&self) -> usize {
        self.leads.lock().len()
    }

    /// Name of a lead that shows its origin to users of the account.
    pub(super) fn name(&self, what: &str) -> String {
        format!("leadsd conformance {} {what}", self.mark)
    }

    /// Text that occurs nowhere else in the account.
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// Contact of the created leads.
    pub(super) fn contact(&self) -> &str {
        &self.contact
    }

    /// Input that creates a lead of the contact.
    pub(super) fn lead(&self, what: &str) -> Value {
        self.lead_of(what, &self.contact, 578)
    }

    /// Input that creates a lead with this association.
    pub(super) fn lead_of(&self, what: &str, to: &str, kind: u64) -> Value {
        let kind = json!({"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": kind});
        json!({"properties": {"hs_lead_name": self.name(what)},
               "associations": [{"to": {"id": to}, "types": [kind]}]})
    }

    /// Creates a lead; returns its id.
    pub(super) async fn create(&self, what: &str) -> Tried<String> {
        let answer = self.post("", self.lead(what)).await?;
        answer.body["id"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| format!("cannot create a lead: {} {}", answer.status, message(&answer)))
    }

    /// Reads contacts page by page, with their further addresses, up to `max`.
    pub(super) async fn contacts(&self, max: usize) -> Tried<Vec<Value>> {
        let mut contacts = Vec::new();
        let mut after = None;
        loop {
            let properties = ("properties", "hs_additional_emails".to_owned());
            let mut query = vec![("limit", CONTACTS_PAGE.to_owned()), properties];
            query.extend(after.map(|after| ("after", after)));
            let (method, area, path) = (Method::GET, ApiArea::Contacts, String::new());
            let page = self.send(RawRequest { method, area, path, query, body: None }).await?;
            contacts.extend(list(&page.body["results"]).cloned());
            after = page.body["paging"]["next"]["after"].as_str().map(str::to_owned);
            if after.is_none() || contacts.len() >= max {
                contacts.truncate(max);
                return Ok(contacts);
            }
        }
    }

    /// Sends a request about properties of leads.
    pub(super) async fn properties(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Tried<JsonResponse> {
        let path = path.to_owned();
        let area = ApiArea::Properties;
        self.send(RawRequest { method, area, path, query: Vec::new(), body }).await
    }

    /// Records a property that was created.
    pub(super) fn remember_property(&self, name: &str) {
        *self.property.lock() = Some(name.to_owned());
    }

    /// Archives everything that was created, also leads whose create had no response. Errors with the
    /// records that are left.
    pub(super) async fn clean_up(&self) -> Result<(), String> {
        self.is_stopped.store(false, Ordering::Relaxed);
        let by_name = json!({"filterGroups": [{"filters": [{"propertyName": "hs_lead_name",
            "operator": "CONTAINS_TOKEN", "value": self.mark}]}], "limit": 200});
        // The search only adds leads that no response named; it may miss some or fail.
        if let Ok(found) = self.post("search", by_name).await {
            let found = found.body["results"].as_array().cloned().unwrap_or_default();
            let ids = found.iter().filter_map(|lead| lead["id"].as_str());
            self.leads.lock().extend(ids.map(str::to_owned));
        }
        let mut left = Vec::new();
        let ids: Vec<String> = self.leads.lock().iter().cloned().collect();
        for ids in ids.chunks(MAX_BATCH) {
            let inputs: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
            match self.post("batch/archive", json!({ "inputs": inputs })).await {
                Ok(answer) if answer.status < 300 => {}
                Ok(answer) => left.push(format!("leads {}: {}", ids.join(", "), answer.status)),
                Err(cause) => left.push(format!("leads {}: {cause}", ids.join(", "))),
            }
        }
        let property = self.property.lock().take();
        if let Some(name) = property {
            match self.properties(Method::DELETE, &name, None).await {
                Ok(answer) if answer.status < 300 => {}
                Ok(answer) => left.push(format!("property {name}: {}", answer.status)),
                Err(cause) => left.push(format!("property {name}: {cause}")),
            }
        }
        if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
    }
}

/// Entries of a list; none if it is absent.
pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Message of an error response, shortened.
pub(super) fn message(answer: &JsonResponse) -> String {
    const MAX: usize = 120;
    answer.body["message"].as_str().unwrap_or_default().chars().take(MAX).collect()
}

/// Status and message of a response.
pub(super) fn summary(answer: &JsonResponse) -> String {
    format!("{} {}", answer.status, message(answer)).trim_end().to_owned()
}
