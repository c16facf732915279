//! Creation of contacts that HubSpot does not have.
//!
//! HubSpot stores one contact for each address and rejects another one, so a contact is never created twice.
//! Calls for one address are sent one after another. After an error that is not a certain rejection, the
//! contact is looked up before it is created again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    time::timeout_at,
};
use uuid::Uuid;

use super::{Contacts, Found, found};
use crate::{
    leads::{
        CallContext, Error, FieldFault, LeadId, Outcome, Reason, Request, Response, SideEffect,
        Traced, audit_contact_created,
        contacts::{ContactByEmail, ContactEmail, ContactProperties, NewContact},
    },
    pipeline::{Dispatch, Layer},
};

/// Path of the new contact in a request.
const NEW_CONTACT: &str = "contact.create_if_missing";

/// Scope that a creation needs.
const WRITE_SCOPE: &str = "crm.objects.contacts.write";

/// Number of times that a contact is created, before its error is returned.
const ATTEMPTS: usize = 2;

/// Locks of the addresses whose contacts are being created. An address has an entry while a call has it.
#[derive(Debug, Default)]
pub(super) struct Creations(Arc<Locks>);

type Locks = Mutex<HashMap<ContactEmail, Arc<AsyncMutex<Known>>>>;

/// Id of the contact, for the calls that wait for its creation.
type Known = Option<LeadId>;

/// Lock of one address. Removes the entry of the last call on drop.
#[derive(Debug)]
struct Lock {
    locks: Arc<Locks>,
    email: ContactEmail,
    guard: Option<OwnedMutexGuard<Known>>,
}

/// The contacts that callers want to have created. Of several with one address, the first.
pub(super) fn wanted<'a>(
    contacts: impl IntoIterator<Item = &'a ContactByEmail>,
) -> BTreeMap<&'a ContactEmail, &'a ContactProperties> {
    let mut wanted = BTreeMap::new();
    for ContactByEmail { email, create_if_missing } in contacts {
        if let Some(properties) = create_if_missing {
            wanted.entry(email).or_insert(properties);
        }
    }
    wanted
}

// === impl Creations ===

impl Creations {
    /// Acquires the locks of addresses, which are sorted, so that no two calls wait for each other. Returns
    /// true if another call had one.
    async fn acquire(
        &self,
        ctx: &CallContext,
        emails: &BTreeSet<ContactEmail>,
    ) -> Result<(Vec<Lock>, bool), Error> {
        let (mut all, mut has_waited) = (Vec::with_capacity(emails.len()), false);
        for email in emails {
            let lock = Arc::clone(self.0.lock().entry(email.clone()).or_default());
            let mut own = Lock { locks: Arc::clone(&self.0), email: email.clone(), guard: None };
            let guard = match Arc::clone(&lock).try_lock_owned() {
                Ok(guard) => guard,
                Err(_) => {
                    has_waited = true;
                    let guard = timeout_at(ctx.deadline, lock.lock_owned()).await;
                    guard.map_err(|_| {
                        let text = "the deadline passed while another call created the contact; \
                                    nothing was written";
                        Error::new(Reason::DeadlineExceeded, text)
                    })?
                }
            };
            own.guard = Some(guard);
            all.push(own);
        }
        Ok((all, has_waited))
    }
}

// === impl Lock ===

impl Lock {
    /// Id of the contact, if an earlier call has created or found it.
    fn known(&self) -> Option<&LeadId> {
        self.guard.as_deref()?.as_ref()
    }

    /// Tells the calls that wait the id of the contact.
    fn set(&mut self, id: &LeadId) {
        if let Some(guard) = &mut self.guard {
            **guard = Some(id.clone());
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.guard = None;
        let mut locks = self.locks.lock();
        // The map has one reference, and each call that holds the lock or waits for it another one.
        if locks.get(&self.email).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.email);
        }
    }
}

// === impl Contacts ===

impl<L: Layer, R: Layer> Contacts<L, R> {
    /// Creates the contacts that were not found and that the caller wants to have created. Sets the ids that
    /// are known then, or the errors.
    pub(super) async fn create_missing(
        &self,
        ctx: &CallContext,
        wanted: BTreeMap<&ContactEmail, &ContactProperties>,
        all: &mut Found,
    ) {
        let is_missing = |result: &Result<LeadId, Error>| {
            result.as_ref().is_err_and(|error| error.reason() == Reason::InvalidRequest)
        };
        let is_open = |email: &&&ContactEmail| all.get(**email).is_some_and(is_missing);
        let mut open: BTreeSet<ContactEmail> =
            wanted.keys().filter(is_open).map(|email| (*email).clone()).collect();
        if open.is_empty() {
            return;
        }
        let (mut locks, has_waited) = match self.creations.acquire(ctx, &open).await {
            Ok(acquired) => acquired,
            Err(error) => {
                all.extend(open.into_iter().map(|email| (email, Err(error.clone()))));
                return;
            }
        };
        for lock in &locks {
            if let Some(id) = lock.known() {
                open.remove(&lock.email);
                all.insert(lock.email.clone(), Ok(id.clone()));
            }
        }
        self.create_open(ctx, &wanted, open, has_waited, all).await;
        for lock in &mut locks {
            if let Some(Ok(id)) = all.get(&lock.email) {
                lock.set(id);
            }
        }
    }

    /// Creates contacts, with a lookup before each further try. With `may_exist` also before the first.
    async fn create_open(
        &self,
        ctx: &CallContext,
        wanted: &BTreeMap<&ContactEmail, &ContactProperties>,
        mut open: BTreeSet<ContactEmail>,
        may_exist: bool,
        all: &mut Found,
    ) {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 || may_exist {
                self.find_again(ctx, &mut open, all).await;
            }
            if open.is_empty() {
                return;
            }
            self.create_contacts(ctx, wanted, &mut open, all).await;
        }
        self.find_again(ctx, &mut open, all).await;
    }

    /// Creates contacts. Those whose outcome is certain are removed from `open`.
    async fn create_contacts(
        &self,
        ctx: &CallContext,
        wanted: &BTreeMap<&ContactEmail, &ContactProperties>,
        open: &mut BTreeSet<ContactEmail>,
        all: &mut Found,
    ) {
        let emails: Vec<ContactEmail> = open.iter().cloned().collect();
        let input = |email: &ContactEmail| Traced {
            trace_id: Uuid::new_v4().to_string(),
            input: NewContact { email: email.clone(), properties: wanted[email].clone() },
        };
        let inputs = emails.iter().map(input).collect();
        let request = Arc::new(Request::CreateContacts(inputs));
        let response = self.inner.call(ctx, request, Dispatch::new(ctx)).await;
        let outcomes = match response.and_then(Response::into_outcomes) {
            Ok(chunk) => chunk.outcomes,
            Err(error) => vec![Err(error); emails.len()],
        };
        for (email, outcome) in emails.into_iter().zip(outcomes) {
            let is_certain = outcome.as_ref().map_or_else(is_certain, Option::is_some);
            let result = created(&email, outcome);
            if let Ok(id) = &result {
                audit_contact_created(ctx, id);
            }
            if is_certain {
                open.remove(&email);
            }
            all.insert(email, result);
        }
    }

    /// Looks contacts up again. Those that are found are removed from `open`.
    async fn find_again(
        &self,
        ctx: &CallContext,
        open: &mut BTreeSet<ContactEmail>,
        all: &mut Found,
    ) {
        if open.is_empty() {
            return;
        }
        let emails: Vec<ContactEmail> = open.iter().cloned().collect();
        // Not through the single flight: a lookup in progress may have begun before the creation.
        let request = Arc::new(Request::FindContacts(emails.clone()));
        let response = self.inner.call(ctx, request, Dispatch::new(ctx)).await;
        let Ok(chunk) = response.and_then(Response::into_outcomes) else { return };
        for (email, outcome) in emails.into_iter().zip(chunk.outcomes) {
            if let Ok(id) = found(&email, outcome) {
                open.remove(&email);
                all.insert(email, Ok(id));
            }
        }
    }
}

/// True if an error proves that the contact was not created, and that it would be rejected again.
fn is_certain(error: &Error) -> bool {
    matches!(
        error.reason(),
        Reason::ValidationFailed
            | Reason::MissingScopes
            | Reason::UpstreamForbidden
            | Reason::CredentialRejected
            | Reason::CredentialUnavailable
            | Reason::DailyLimitReached
            | Reason::DeadlineExceeded
    ) || existing_id(error).is_some()
}

/// Id of the contact that has the address, if HubSpot names it.
fn existing_id(error: &Error) -> Option<LeadId> {
    let is_conflict = matches!(error.reason(), Reason::AlreadyExists | Reason::Conflict);
    let id = error.upstream().existing_id.as_deref().filter(|_| is_conflict)?;
    LeadId::parse(id).ok()
}

/// The record id of a contact that was created, or that exists, or the error for the lead. The lead was not
/// written.
fn created(email: &ContactEmail, outcome: Outcome) -> Result<LeadId, Error> {
    let error = match outcome {
        Ok(Some(_)) => return found(email, outcome),
        Ok(None) => return Err(not_created("HubSpot's response does not mention the contact")),
        Err(error) => error,
    };
    if let Some(id) = existing_id(&error) {
        return Ok(id);
    }
    let (reason, mut facts) = (error.reason(), error.upstream().clone());
    if reason == Reason::ValidationFailed {
        let named = error.fields().iter().map(|FieldFault { field, description }| {
            FieldFault::new(format!("{NEW_CONTACT}.{field}"), description)
        });
        let text = format!("{NEW_CONTACT}: HubSpot rejects the contact: {}", error.message());
        return Err(Error::new(reason, text).with_fields(named.collect()).with_upstream(facts));
    }
    if reason == Reason::MissingScopes {
        let text = format!(
            "{NEW_CONTACT} needs the scope {WRITE_SCOPE}, which the portal's credential lacks; add the \
             scope, or create the contact before"
        );
        if facts.required_scopes.is_empty() {
            facts.required_scopes.push(WRITE_SCOPE.to_owned());
        }
        return Err(Error::new(reason, text).with_upstream(facts));
    }
    if error.side_effect() == SideEffect::None {
        return Err(error);
    }
    Err(not_created(error.message()).with_upstream(facts))
}

/// Error of a lead whose contact may have been created. A repeat looks the contact up first.
fn not_created(cause: &str) -> Error {
    let text = format!(
        "the contact may or may not have been created, and the lead was not created; retry: {cause}"
    );
    Error::new(Reason::UpstreamUnavailable, text)
}
