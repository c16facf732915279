//! The callers of the campaign, and what they check.

use std::{collections::BTreeMap, fmt, time::Duration};

use futures_util::future::{LocalBoxFuture, join_all};
use leadsd::grpc::pb::{
    self, lead_write_result::Outcome, leads_service_client::LeadsServiceClient,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Request, Response, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{campaign::Campaign, world::REPLICAS};

/// Deadline of the most patient calls.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);

/// Property that updates write.
const PROPERTY: &str = "hs_lead_label";

/// Values of the property, which has no others.
const VALUES: [&str; 3] = ["HOT", "WARM", "COLD"];

/// How long a caller waits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Patience {
    /// Has a deadline of seconds.
    Patient(Duration),
    /// Has a deadline in which many calls fail.
    Hurried(Duration),
    /// Cancels the call.
    Cancels(Duration),
}

/// Failure of one attempt of a caller.
#[derive(Debug)]
pub(super) enum Failed {
    /// The caller cancelled, or the connection to the replica broke.
    Disconnected,
    Error {
        reason: String,
        /// Time to wait that the error states.
        retry_after: Option<Duration>,
    },
}

// === impl Patience ===

impl Patience {
    fn deadline(self) -> Duration {
        match self {
            Self::Patient(time) | Self::Hurried(time) => time,
            Self::Cancels(_) => PATIENCE,
        }
    }

    /// Time after which the caller disconnects.
    fn gives_up(self) -> Duration {
        match self {
            Self::Patient(time) | Self::Hurried(time) => time + Duration::from_secs(1),
            Self::Cancels(time) => time,
        }
    }
}

// === impl Failed ===

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("disconnected"),
            Self::Error { reason, retry_after: None } => f.write_str(reason),
            Self::Error { reason, retry_after: Some(wait) } => {
                write!(f, "{reason}, retry after {wait:?}")
            }
        }
    }
}

// === impl Campaign ===

impl Campaign {
    /// Runs all callers until the campaign is over.
    pub(super) async fn run_callers(&self) {
        let mut callers: Vec<LocalBoxFuture<'_, ()>> = Vec::new();
        for number in 0..4 {
            callers.push(Box::pin(self.creates(format!("creates-{number}"))));
            callers.push(Box::pin(self.reads(format!("reads-{number}"))));
        }
        for number in 0..REPLICAS {
            callers.push(Box::pin(self.plain_creates(format!("plain-{number}"))));
            callers.push(Box::pin(self.batch_creates(format!("batches-{number}"), 20)));
            callers.push(Box::pin(self.updates(format!("updates-{number}"), number, 1)));
            callers.push(Box::pin(self.upserts(format!("upserts-{number}"))));
            callers.push(Box::pin(self.archives(format!("archives-{number}"))));
            callers.push(Box::pin(self.searches(format!("searches-{number}"))));
            callers.push(Box::pin(self.associations(format!("contacts-{number}"), number)));
            callers.push(Box::pin(self.lists(format!("lists-{number}"))));
            callers.push(Box::pin(self.updates(format!("batch-updates-{number}"), number, 10)));
        }
        join_all(callers).await;
    }

    pub(super) fn patience(&self) -> Patience {
        match self.below(10) {
            0..7 => Patience::Patient(self.time(5_000, 8_000)),
            7..9 => Patience::Hurried(self.time(50, 500)),
            _ => Patience::Cancels(self.time(5, 300)),
        }
    }

    /// One call at a replica.
    pub(super) async fn call<T, F>(
        &self,
        caller: &str,
        replica: usize,
        patience: Patience,
        call: impl FnOnce(LeadsServiceClient<Channel>) -> F,
    ) -> Result<T, Failed>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let begins = Instant::now();
        let leads = self.world.replica(replica).leads.clone();
        let result = timeout(patience.gives_up(), call(leads)).await;
        let failed = match result {
            Ok(Ok(response)) => {
                self.count_call();
                return Ok(response.into_inner());
            }
            Ok(Err(status)) => self.failed(caller, &status),
            Err(_) => Failed::Disconnected,
        };
        if let Patience::Patient(_) = patience {
            self.trouble(begins, format!("{caller}: {failed} after {:?}", begins.elapsed()));
        }
        Err(failed)
    }

    /// Checks an error of a call. Errors that no fault of the campaign explains are violations.
    fn failed(&self, caller: &str, status: &Status) -> Failed {
        let details = status.get_error_details();
        let Some(info) = details.error_info() else {
            // An error of the client: the connection is broken, or the deadline has passed.
            return Failed::Disconnected;
        };
        self.count_error();
        self.check_reason(caller, &info.reason, status.message());
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        Failed::Error { reason: info.reason.clone(), retry_after }
    }

    fn check_reason(&self, caller: &str, reason: &str, message: &str) {
        let is_explained = match reason {
            "DEADLINE_EXCEEDED"
            | "RATE_LIMITED"
            | "OVERLOADED"
            | "ACCOUNT_LOCKED"
            | "ACCOUNT_MIGRATING"
            | "UPSTREAM_UNAVAILABLE"
            | "UPSTREAM_INVALID_RESPONSE"
            | "WRITE_OUTCOME_UNKNOWN" => true,
            "CREDENTIAL_UNAVAILABLE" | "CREDENTIAL_REJECTED" => self.costs_credentials(),
            _ => false,
        };
        if !is_explained {
            self.report(format!("{caller}: {reason}: {message}"));
        }
    }

    /// Waits as a caller does that follows `RetryInfo`.
    pub(super) async fn pause(&self, failed: &Failed) {
        let stated = match failed {
            Failed::Disconnected => Duration::ZERO,
            Failed::Error { retry_after, .. } => retry_after.unwrap_or_default(),
        };
        sleep(stated + self.time(100, 600)).await;
    }

    /// Makes writes, one after another: each is repeated until it has a result.
    pub(super) async fn repeat<T>(
        &self,
        caller: &str,
        replica: Option<usize>,
        write: impl AsyncFn(
            LeadsServiceClient<Channel>,
            String,
            Patience,
        ) -> Result<Response<T>, Status>,
        check: impl Fn(&str, T) -> Result<(), Failed>,
    ) {
        let mut number = 0;
        while !self.is_over() {
            number += 1;
            let name = format!("{caller}-{number}");
            self.opened(&name);
            loop {
                let (replica, patience) =
                    (replica.unwrap_or_else(|| self.below(REPLICAS)), self.patience());
                let begins = Instant::now();
                let call = |leads| write(leads, name.clone(), patience);
                let result = self.call(caller, replica, patience, call).await;
                match result.and_then(|response| check(&name, response)) {
                    Ok(()) => break,
                    Err(failed) => {
                        let why = format!("{failed} at {replica}");
                        self.failed_once(&name, why, begins.elapsed());
                        self.pause(&failed).await;
                    }
                }
            }
            self.closed(&name);
            sleep(self.time(50, 800)).await;
        }
    }

    /// Creates with a `request_id`, at any replica.
    async fn creates(&self, caller: String) {
        let contact = &self.world.contact;
        let create = async |mut leads: LeadsServiceClient<Channel>, name: String, patience| {
            let message = create(&name, contact, &name);
            leads.create_lead(request(message, &caller, patience)).await
        };
        let check = |name: &str, response: pb::CreateLeadResponse| {
            self.acknowledge(name, &response.lead.expect("a lead").id);
            Ok(())
        };
        self.repeat(&caller, None, create, check).await;
    }

    /// Batches of creates with a `request_id`.
    async fn batch_creates(&self, caller: String, size: usize) {
        let names = |name: &str| -> Vec<String> {
            (0..size).map(|index| format!("{name}.{index}")).collect()
        };
        let contact = &self.world.contact;
        let create = async |mut leads: LeadsServiceClient<Channel>, name: String, patience| {
            let input = |name: &String| pb::LeadCreate {
                properties: named(name),
                primary_contact_id: contact.clone(),
                ..Default::default()
            };
            let inputs = names(&name).iter().map(input).collect();
            let message =
                pb::BatchCreateLeadsRequest { inputs, request_id: name, ..Default::default() };
            leads.batch_create_leads(request(message, &caller, patience)).await
        };
        let check = |name: &str, response: pb::BatchCreateLeadsResponse| {
            let mut all = Ok(());
            for (name, result) in names(name).iter().zip(response.results) {
                match result.outcome.expect("an outcome") {
                    Outcome::Lead(lead) => self.acknowledge(name, &lead.id),
                    Outcome::Error(error) => {
                        let reason = error.message;
                        all = Err(Failed::Error { reason, retry_after: None });
                    }
                }
            }
            all
        };
        self.repeat(&caller, None, create, check).await;
    }

    /// Creates without a `request_id`, which are not repeated.
    async fn plain_creates(&self, caller: String) {
        let mut number = 0;
        while !self.is_over() {
            number += 1;
            let name = format!("{caller}-{number}");
            let (replica, patience) = (self.below(REPLICAS), self.patience());
            let message = create(&name, &self.world.contact, "");
            let message = request(message, &caller, patience);
            let call =
                async |mut leads: LeadsServiceClient<Channel>| leads.create_lead(message).await;
            match self.call(&caller, replica, patience, call).await {
                Ok(response) => self.acknowledge(&name, &response.lead.expect("a lead").id),
                Err(failed) => self.pause(&failed).await,
            }
            sleep(self.time(50, 800)).await;
        }
    }

    /// Updates of leads that no other caller writes, at one replica: writes at different replicas are not
    /// ordered.
    async fn updates(&self, caller: String, replica: usize, size: usize) {
        let name = serde_json::json!({"hs_lead_name": caller});
        let add = |_| self.world.hubspot.add_lead(&self.world.contact, &name).expect("a good lead");
        let ids: Vec<String> = (0..size).map(add).collect();
        let value = |name: &str| {
            let number: usize =
                name.rsplit('-').next().and_then(|number| number.parse().ok()).expect("a number");
            VALUES[number % VALUES.len()]
        };
        let update = async |mut leads: LeadsServiceClient<Channel>, name: String, patience| {
            let properties = BTreeMap::from([(PROPERTY.to_owned(), value(&name).to_owned())]);
            let input = |id: &String| pb::LeadUpdate {
                id: id.clone(),
                properties: properties.clone(),
                ..Default::default()
            };
            let inputs = ids.iter().map(input).collect();
            let message = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
            leads.batch_update_leads(request(message, &caller, patience)).await
        };
        let check = |name: &str, response: pb::BatchUpdateLeadsResponse| {
            for result in response.results {
                if let Some(Outcome::Error(error)) = result.outcome {
                    return Err(Failed::Error { reason: error.message, retry_after: None });
                }
            }
            for id in &ids {
                let (value, stored) = (value(name), self.world.hubspot.value(id, PROPERTY));
                if stored.as_deref() != Some(value) {
                    self.report(format!("{name}: {value} is acknowledged, {stored:?} stored"));
                }
            }
            Ok(())
        };
        self.repeat(&caller, Some(replica), update, check).await;
    }

    /// Reads of leads that were acknowledged.
    async fn reads(&self, caller: String) {
        while !self.is_over() {
            sleep(self.time(20, 400)).await;
            let Some(id) = self.any_acknowledged() else { continue };
            let (replica, patience) = (self.below(REPLICAS), self.patience());
            let message = pb::GetLeadRequest { id: id.clone(), ..Default::default() };
            let message = request(message, &caller, patience);
            let call = async |mut leads: LeadsServiceClient<Channel>| leads.get_lead(message).await;
            match self.call(&caller, replica, patience, call).await {
                Ok(response) if response.lead.as_ref().is_some_and(|lead| lead.id == id) => {}
                Ok(response) => self.report(format!("{caller}: {id} is read as {response:?}")),
                Err(failed) => self.pause(&failed).await,
            }
        }
    }
}

fn named(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("hs_lead_name".to_owned(), name.to_owned())])
}

fn create(name: &str, contact: &str, request_id: &str) -> pb::CreateLeadRequest {
    pb::CreateLeadRequest {
        properties: named(name),
        primary_contact_id: contact.to_owned(),
        request_id: request_id.to_owned(),
        ..Default::default()
    }
}

/// A request with the deadline, name and priority of its caller.
pub(super) fn request<M>(message: M, caller: &str, patience: Patience) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(patience.deadline());
    let metadata = request.metadata_mut();
    metadata.insert("leadsd-caller", caller.parse().expect("a name"));
    let priority = if caller.len().is_multiple_of(2) { "interactive" } else { "bulk" };
    metadata.insert("leadsd-priority", priority.parse().expect("a priority"));
    request
}
