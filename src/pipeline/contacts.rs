//! Contacts by e-mail: looks up the contacts of new leads before the leads are created.
//!
//! The lookup of one contact shares requests with identical ones, and batches with those of other
//! callers. A batch of creates takes one lookup. A contact that HubSpot no longer has when the lead is
//! created was merged or archived in between, and is looked up once more. `missing` creates contacts that do
//! not exist, if the caller wants it.

mod missing;

use std::{
    collections::{BTreeMap, BTreeSet},
    slice,
    sync::Arc,
};

use futures_util::future::Either;

use self::missing::Creations;
use super::{Dispatch, Layer};
use crate::{
    hubspot::Operation,
    leads::{
        BatchItem, CallContext, ChunkOutcomes, CreateLead, Error, FieldFault, LeadId, Outcome,
        Reason, Request, Response, Traced,
        batch::{MissingItemPolicy, match_all, rejects_content},
        contacts::{ContactByEmail, ContactEmail},
    },
};

/// Path of the address in a request.
const FIELD: &str = "contact.email";

/// Scope that a lookup needs.
const READ_SCOPE: &str = "crm.objects.contacts.read";

/// The layer of contacts.
#[derive(Debug)]
pub(super) struct Contacts<L, R> {
    inner: L,
    /// Serves lookups of single contacts.
    lookups: R,
    creations: Creations,
}

/// Record ids of contacts, or the errors of their lookups.
type Found = BTreeMap<ContactEmail, Result<LeadId, Error>>;

// === impl Contacts ===

impl<L: Layer, R: Layer> Contacts<L, R> {
    /// Looks contacts up with `lookups` one at a time, and with `inner` several at once. Creates are sent
    /// to `inner`.
    pub(super) fn new(inner: L, lookups: R) -> Self {
        Self { inner, lookups, creations: Creations::default() }
    }

    async fn create(
        &self,
        ctx: &CallContext,
        create: &CreateLead,
        contact: &ContactByEmail,
    ) -> Result<Response, Error> {
        let send = async |id: &LeadId| {
            let request = Request::Create(create.with_primary_contact(id.clone()));
            self.inner.call(ctx, Arc::new(request), Dispatch::new(ctx)).await
        };
        if let Some(refusal) = refusal(ctx, Some(contact)) {
            return Err(refusal);
        }
        let id = self.find_or_create(ctx, contact).await?;
        let result = send(&id).await;
        if !result.as_ref().is_err_and(|error| rejects_contact(error, &id)) {
            return result;
        }
        match self.find_one(ctx, &contact.email).await {
            Ok(now) if now != id => send(&now).await,
            Err(error) if error.reason() == Reason::InvalidRequest => Err(error),
            Ok(_) | Err(_) => result,
        }
    }

    async fn create_many(&self, ctx: &CallContext, inputs: &[Traced<CreateLead>]) -> ChunkOutcomes {
        let mut found = self.find_all(ctx, inputs.iter().filter_map(email).collect()).await;
        let contacts = inputs.iter().filter_map(|input| input.input.contact.as_ref());
        let contacts = contacts.filter(|_| ctx.may_create_contacts);
        self.create_missing(ctx, missing::wanted(contacts), &mut found).await;
        let all: Vec<usize> = (0..inputs.len()).collect();
        let mut evaluated = false;
        let mut outcomes = self.send(ctx, inputs, &all, &found, &mut evaluated).await;
        let is_stale = |index: &usize| {
            let id = email(&inputs[*index]).and_then(|email| found.get(email)?.as_ref().ok());
            let error = outcomes.get(index).and_then(|outcome| outcome.as_ref().err());
            id.zip(error).is_some_and(|(id, error)| rejects_contact(error, id))
        };
        let mut stale: Vec<usize> = all.iter().copied().filter(is_stale).collect();
        if !stale.is_empty() {
            let emails = stale.iter().filter_map(|&index| email(&inputs[index])).collect();
            let now = self.find_all(ctx, emails).await;
            stale.retain(|&index| {
                let email = email(&inputs[index]);
                let id = |all: &Found| email.and_then(|email| all.get(email)?.clone().ok());
                let is_unknown = email.and_then(|email| now.get(email)).is_some_and(|found| {
                    found.as_ref().is_err_and(|error| error.reason() == Reason::InvalidRequest)
                });
                is_unknown || id(&now).is_some_and(|now| Some(now) != id(&found))
            });
            outcomes.extend(self.send(ctx, inputs, &stale, &now, &mut evaluated).await);
        }
        let outcomes = outcomes.into_values().collect();
        ChunkOutcomes { outcomes, evaluated }
    }

    /// Sends the creates whose contacts were found. Returns the outcomes of all by index.
    async fn send(
        &self,
        ctx: &CallContext,
        inputs: &[Traced<CreateLead>],
        indices: &[usize],
        found: &Found,
        evaluated: &mut bool,
    ) -> BTreeMap<usize, Outcome> {
        let mut outcomes = BTreeMap::new();
        let (mut sent, mut creates) = (Vec::new(), Vec::new());
        for &index in indices {
            let Traced { trace_id, input } = &inputs[index];
            if let Some(refusal) = refusal(ctx, input.contact.as_ref()) {
                *evaluated = true;
                outcomes.insert(index, Err(refusal));
                continue;
            }
            let create = match email(&inputs[index]).and_then(|email| found.get(email)) {
                None => input.clone(),
                Some(Ok(id)) => input.with_primary_contact(id.clone()),
                Some(Err(error)) => {
                    // An unknown contact is the fault of its input. Without the scope for contacts,
                    // creates with ids still succeed.
                    *evaluated |=
                        matches!(error.reason(), Reason::InvalidRequest | Reason::MissingScopes);
                    outcomes.insert(index, Err(error.clone()));
                    continue;
                }
            };
            sent.push(index);
            creates.push(Traced { trace_id: trace_id.clone(), input: create });
        }
        if creates.is_empty() {
            return outcomes;
        }
        let request = Arc::new(Request::BatchCreate(creates));
        let response = self.inner.call(ctx, request, Dispatch::new(ctx)).await;
        let chunk = response.and_then(Response::into_outcomes).unwrap_or_else(|error| {
            let evaluated = rejects_content(&error);
            ChunkOutcomes { outcomes: vec![Err(error); sent.len()], evaluated }
        });
        *evaluated |= chunk.evaluated;
        outcomes.extend(sent.into_iter().zip(chunk.outcomes));
        outcomes
    }

    /// Looks up the contact of a single create, and creates it if it does not exist and the caller wants it.
    async fn find_or_create(
        &self,
        ctx: &CallContext,
        contact: &ContactByEmail,
    ) -> Result<LeadId, Error> {
        let id = self.find_one(ctx, &contact.email).await;
        if id.is_ok() || contact.create_if_missing.is_none() {
            return id;
        }
        let mut found = Found::from([(contact.email.clone(), id)]);
        self.create_missing(ctx, missing::wanted([contact]), &mut found).await;
        found.remove(&contact.email).unwrap_or_else(|| Err(unknown(&contact.email)))
    }

    /// Looks up one contact.
    async fn find_one(&self, ctx: &CallContext, email: &ContactEmail) -> Result<LeadId, Error> {
        let request = Arc::new(Request::FindContacts(vec![email.clone()]));
        let response = self.lookups.call(ctx, request, Dispatch::new(ctx)).await;
        let outcome = match response.and_then(Response::into_batch) {
            Ok(response) => {
                let outcome = match_all(slice::from_ref(email), response, missing()).pop();
                outcome.unwrap_or(Ok(None))
            }
            Err(error) => Err(error),
        };
        found(email, outcome)
    }

    /// Looks up at most 100 contacts.
    async fn find_all(&self, ctx: &CallContext, emails: BTreeSet<&ContactEmail>) -> Found {
        let emails: Vec<ContactEmail> = emails.into_iter().cloned().collect();
        if let [email] = emails.as_slice() {
            return BTreeMap::from([(email.clone(), self.find_one(ctx, email).await)]);
        }
        if emails.is_empty() {
            return BTreeMap::new();
        }
        let request = Arc::new(Request::FindContacts(emails.clone()));
        let response = self.inner.call(ctx, request, Dispatch::new(ctx)).await;
        let outcomes = match response.and_then(Response::into_outcomes) {
            Ok(chunk) => chunk.outcomes,
            Err(error) => vec![Err(error); emails.len()],
        };
        let all = emails.into_iter().zip(outcomes);
        all.map(|(email, outcome)| {
            let id = found(&email, outcome);
            (email, id)
        })
        .collect()
    }
}

impl<L: Layer, R: Layer> Layer for Contacts<L, R> {
    fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        let has_contact = match &*request {
            Request::Create(create) => create.contact.is_some(),
            Request::BatchCreate(inputs) => {
                inputs.iter().any(|input| input.input.contact.is_some())
            }
            Request::Get(_)
            | Request::List(_)
            | Request::Search(_)
            | Request::Update(_)
            | Request::Archive(_)
            | Request::BatchRead(_)
            | Request::BatchUpdate(_)
            | Request::BatchArchive(_)
            | Request::Upsert { .. }
            | Request::ReadAssociations { .. }
            | Request::ListAssociations(_)
            | Request::ChangeAssociations(_)
            | Request::ReadSchema(_)
            | Request::FindContacts(_)
            | Request::CreateContacts(_) => false,
        };
        if !has_contact {
            return Either::Left(self.inner.call(ctx, request, dispatch));
        }
        // Boxed: it is large, and every other request would carry its size.
        Either::Right(Box::pin(async move {
            if let Request::Create(create) = &*request
                && let Some(contact) = &create.contact
            {
                return self.create(ctx, create, contact).await;
            }
            if let Request::BatchCreate(inputs) = &*request {
                return Ok(Response::Outcomes(self.create_many(ctx, inputs).await));
            }
            self.inner.call(ctx, request, dispatch).await
        }))
    }
}

/// Error of a lead whose contact is to be created by a caller that may not do that.
fn refusal(ctx: &CallContext, contact: Option<&ContactByEmail>) -> Option<Error> {
    contact?.create_if_missing.as_ref()?;
    ctx.contact_refusal()
}

/// The address of the contact of a create.
fn email(input: &Traced<CreateLead>) -> Option<&ContactEmail> {
    input.input.contact.as_ref().map(|contact| &contact.email)
}

/// The record id of a contact that was looked up.
fn found(email: &ContactEmail, outcome: Outcome) -> Result<LeadId, Error> {
    match outcome {
        Ok(Some(BatchItem { lead: contact, .. })) => LeadId::parse(&contact.id).map_err(|_| {
            Error::new(
                Reason::UpstreamInvalidResponse,
                "HubSpot's response has no valid contact id",
            )
        }),
        Ok(None) => Err(unanswered(email)),
        Err(error) if error.reason() == Reason::LeadNotFound => Err(unknown(email)),
        // Not an error of HubSpot: its response does not mention the address.
        Err(error) if is_unanswered(&error) => Err(unanswered(email)),
        Err(error) => Err(lookup_failed(error)),
    }
}

/// True for the error of an address that cannot be matched with a response.
fn is_unanswered(error: &Error) -> bool {
    let upstream = error.upstream();
    error.reason() == Reason::UpstreamInvalidResponse
        && upstream.http_status.is_none()
        && upstream.category.is_none()
}

/// Error of a create whose contact HubSpot does not mention. It may exist.
fn unanswered(email: &ContactEmail) -> Error {
    let text = format!(
        "HubSpot's response to the lookup of {FIELD} does not say whether the contact {} exists; repeat the \
         call, or name the contact by its id",
        email.as_str()
    );
    Error::new(Reason::UpstreamInvalidResponse, text)
}

/// Error of a create whose contact does not exist.
fn unknown(email: &ContactEmail) -> Error {
    let description = format!(
        "HubSpot has no contact with the address {}; create the contact, or correct the address",
        email.as_str()
    );
    Error::invalid(vec![FieldFault::new(FIELD, description)])
}

/// Error of a create whose contact was not found for another reason than that it does not exist.
fn lookup_failed(error: Error) -> Error {
    if error.reason() != Reason::MissingScopes {
        return error;
    }
    let text = format!(
        "{FIELD} needs the scope {READ_SCOPE}, which the portal's credential lacks; add the scope, or name \
         the contact by its id"
    );
    let mut facts = error.upstream().clone();
    if facts.required_scopes.is_empty() {
        facts.required_scopes.push(READ_SCOPE.to_owned());
    }
    Error::new(Reason::MissingScopes, text).with_upstream(facts)
}

/// True if HubSpot rejects a create because it does not have the contact.
fn rejects_contact(error: &Error, contact: &LeadId) -> bool {
    let contact = contact.as_str();
    let named = error.upstream().record_ids.iter().chain(&error.affected_inputs().ids);
    rejects_content(error)
        && (named.into_iter().any(|id| id == contact) || error.message().contains(contact))
}

/// Outcome of an address that HubSpot's response does not mention.
fn missing() -> MissingItemPolicy {
    let form = Operation::FindContacts.spec().batch;
    form.map_or(MissingItemPolicy::Unanswered, |form| form.missing)
}

#[cfg(test)]
mod tests;
