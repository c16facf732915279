//! Creates by e-mail address against an account in memory, in simulated time.
#![expect(clippy::wildcard_enum_match_arm, reason = "an account answers a few requests")]

mod missing;
mod names;

use std::time::Duration;

use futures_util::future::join_all;
use leadsd_quota::{Account, BucketName, Priority};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::*;
use crate::{
    leads::{
        AffectedInputs, BatchResponse, Lead, SideEffect, UpstreamFacts,
        contacts::{ContactProperties, NewContact},
    },
    pipeline::{
        batching::Batching,
        isolation::Isolation,
        rate_limit::RateLimit,
        scripted::{Recorded, Scripted, ScriptedUpstream},
        single_flight::SingleFlight,
        tests::{account, contact, context, context_of, lead, lead_in, unavailable},
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// Deadline of calls that wait for much quota.
const HOUR: Duration = Duration::from_secs(3_600);

/// Time that HubSpot takes for a request.
const LATENCY: Duration = Duration::from_millis(100);

/// Address that HubSpot rejects together with the batch, without naming it.
const REJECTED: &str = "rejected@example.com";

/// Contacts of an account by address, and the contacts of the leads that were created, by name.
#[derive(Debug, Default)]
struct Hubspot {
    ids: Mutex<BTreeMap<String, String>>,
    leads: Mutex<BTreeMap<String, String>>,
    /// Unknown addresses are left out of a response instead of named in an error.
    leaves_out: bool,
}

type Bottom = RateLimit<Arc<ScriptedUpstream>>;

/// The layer over an account that allows one request in a second.
struct World {
    layer: Contacts<Isolation<Arc<Batching<Bottom>>>, SingleFlight<Batching<Bottom>>>,
    upstream: Arc<ScriptedUpstream>,
    account: Arc<Account>,
    hubspot: Arc<Hubspot>,
}

// === impl Hubspot ===

impl Hubspot {
    fn find(&self, emails: &[ContactEmail]) -> Result<Response, Error> {
        let ids = self.ids.lock();
        let (mut response, mut missing) = (BatchResponse::default(), Vec::new());
        for email in emails {
            if email.as_str() == REJECTED && emails.len() > 1 {
                return Err(Error::new(Reason::ValidationFailed, "an address is invalid"));
            }
            match ids.get(email.as_str()) {
                Some(id) => {
                    let found = contact((id.parse().unwrap(), email));
                    response.results.push(found);
                }
                None => missing.push(email.as_str().to_owned()),
            }
        }
        if !missing.is_empty() && !self.leaves_out {
            let affected = AffectedInputs { ids: missing, ..AffectedInputs::default() };
            response.errors.push(Error::lead_not_found().with_affected_inputs(affected));
        }
        Ok(Response::Batch(response))
    }

    /// Creates contacts. One that exists is an error, which names it unless it does not.
    fn create_contacts(&self, contacts: &[Traced<NewContact>]) -> Result<Response, Error> {
        let mut ids = self.ids.lock();
        let mut response = BatchResponse::default();
        for Traced { trace_id, input: NewContact { email, .. } } in contacts {
            if ids.contains_key(email.as_str()) {
                let trace_ids = vec![trace_id.clone()];
                let affected = AffectedInputs { trace_ids, ..AffectedInputs::default() };
                let error = Error::new(Reason::AlreadyExists, "the contact exists");
                response.errors.push(error.with_affected_inputs(affected));
                continue;
            }
            let number = 910_001 + u64::try_from(ids.len()).unwrap();
            ids.insert(email.as_str().to_owned(), number.to_string());
            let created = contact((usize::try_from(number).unwrap(), email));
            let trace_id = Some(trace_id.clone());
            response.results.push(BatchItem { trace_id, ..created });
        }
        Ok(Response::Batch(response))
    }

    fn create(&self, create: &CreateLead) -> Result<Lead, Error> {
        assert_eq!(create.contact, None, "HubSpot knows no address in a create");
        let id = create.associations[0].to_id.as_str();
        if !self.ids.lock().values().any(|own| own == id) {
            let record_ids = vec![id.to_owned()];
            let facts = UpstreamFacts { record_ids, ..UpstreamFacts::default() };
            let error = Error::new(Reason::ValidationFailed, "invalid association");
            return Err(error.with_upstream(facts));
        }
        let name = create.properties["hs_lead_name"].clone();
        self.leads.lock().insert(name.clone(), id.to_owned());
        Ok(lead(&name))
    }

    fn respond(&self, request: &Request) -> Result<Response, Error> {
        match request {
            Request::FindContacts(emails) => self.find(emails),
            Request::CreateContacts(contacts) => self.create_contacts(contacts),
            Request::Create(create) => Ok(Response::Lead(self.create(create)?.into())),
            Request::BatchCreate(inputs) => {
                let mut response = BatchResponse::default();
                for Traced { trace_id, input } in inputs {
                    let trace_id = trace_id.clone();
                    match self.create(input) {
                        Ok(lead) => response.results.push(BatchItem {
                            lead,
                            trace_id: Some(trace_id),
                            created: None,
                        }),
                        Err(error) => {
                            let trace_ids = vec![trace_id];
                            let affected =
                                AffectedInputs { trace_ids, ..AffectedInputs::default() };
                            response.errors.push(error.with_affected_inputs(affected));
                        }
                    }
                }
                Ok(Response::Batch(response))
            }
            other => panic!("no part of a create: {other:?}"),
        }
    }
}

// === impl World ===

impl World {
    fn new(emails: impl IntoIterator<Item = String>) -> Self {
        Self::over(Hubspot::default(), emails, |_, _| None)
    }

    /// `script` replaces responses of the account.
    fn over(
        hubspot: Hubspot,
        emails: impl IntoIterator<Item = String>,
        script: impl Fn(&Hubspot, &Recorded) -> Option<Result<Response, Error>> + Send + Sync + 'static,
    ) -> Self {
        for (number, email) in (900_001..).zip(emails) {
            hubspot.ids.lock().insert(email, number.to_string());
        }
        let hubspot = Arc::new(hubspot);
        let own = Arc::clone(&hubspot);
        let upstream = ScriptedUpstream::new(move |sent| {
            let response = script(&own, sent).unwrap_or_else(|| own.respond(&sent.request));
            Scripted::after(LATENCY, response)
        });
        let account = account(10, 100_000);
        let limited = RateLimit::new(Arc::clone(&upstream), Arc::clone(&account));
        let batched =
            Arc::new(Batching::new(limited, "default", Arc::clone(&account), 1 << 30, true));
        let lookups = SingleFlight::new(Arc::clone(&batched), Arc::clone(&batched), true);
        let isolated = Isolation::new(Arc::clone(&batched), batched.not_found());
        let layer = Contacts::new(isolated, lookups);
        Self { layer, upstream, account, hubspot }
    }

    /// Uses up the free permit, so that requests queue for a second.
    fn use_permit(&self) {
        let requester = context(MINUTE).requester;
        let until = Instant::now() + MINUTE;
        let permit = self.account.try_acquire(BucketName::Burst, &requester, until).unwrap();
        permit.unwrap().mark_sent(1);
    }

    async fn create(&self, ctx: &CallContext, name: &str, email: &str) -> Result<Lead, Error> {
        self.send(ctx, create(name, Some(email))).await
    }

    async fn send(&self, ctx: &CallContext, create: CreateLead) -> Result<Lead, Error> {
        let request = Arc::new(Request::Create(create));
        lead_in(self.layer.call(ctx, request, Dispatch::new(ctx)).await)
    }

    async fn create_many(&self, inputs: Vec<CreateLead>) -> ChunkOutcomes {
        let traced = |(number, input): (usize, CreateLead)| Traced {
            trace_id: format!("t-{number}"),
            input,
        };
        let inputs = inputs.into_iter().enumerate().map(traced).collect();
        let ctx = context(HOUR);
        let request = Arc::new(Request::BatchCreate(inputs));
        let response = self.layer.call(&ctx, request, Dispatch::new(&ctx)).await;
        response.unwrap().into_outcomes().unwrap()
    }

    /// The requests that were sent, in brief.
    fn sent(&self) -> Vec<String> {
        let brief = |sent: &Recorded| match &*sent.request {
            Request::FindContacts(emails) => format!("find {}", emails.len()),
            Request::CreateContacts(contacts) => format!("contacts {}", contacts.len()),
            Request::Create(_) => "create".to_owned(),
            Request::BatchCreate(inputs) => format!("create {}", inputs.len()),
            other => panic!("no part of a create: {other:?}"),
        };
        self.upstream.requests().iter().map(brief).collect()
    }
}

fn create(name: &str, email: Option<&str>) -> CreateLead {
    let contact = email.map(|email| ContactByEmail {
        email: ContactEmail::parse(email).unwrap(),
        create_if_missing: None,
    });
    CreateLead {
        properties: BTreeMap::from([("hs_lead_name".to_owned(), name.to_owned())]),
        associations: Vec::new(),
        contact,
        trace_id: None,
    }
}

fn address(number: usize) -> String {
    format!("person-{number}@example.com")
}

/// Fields of the violations of an outcome.
fn fields(outcome: &Outcome) -> Vec<&str> {
    let error = outcome.as_ref().unwrap_err();
    assert_eq!(error.side_effect(), SideEffect::None);
    error.fields().iter().map(|fault| fault.field.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn five_hundred_creators_by_address_take_a_fortieth_of_a_call_each_under_backlog() {
    let world = World::new((0..500).map(address));
    world.use_permit();
    let creates = (0..500).map(|number| {
        let world = &world;
        async move {
            let ctx = context_of(&format!("caller-{}", number % 50), Priority::Interactive, HOUR);
            let created = world.create(&ctx, &number.to_string(), &address(number)).await;
            created.unwrap();
            ctx.cost.requests()
        }
    });
    let costs = join_all(creates).await;
    assert!(world.upstream.count() <= 12, "{:?}", world.sent());
    let total: f64 = costs.iter().sum();
    let sent = u32::try_from(world.upstream.count()).unwrap();
    assert!((total - f64::from(sent)).abs() < 0.01, "every call is paid for once: {total}");
    let leads = world.hubspot.leads.lock();
    for number in 0..500 {
        assert_eq!(leads[&number.to_string()], (900_001 + number).to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn callers_with_one_address_share_a_lookup_and_one_that_leaves_stops_no_other() {
    for is_backlog in [false, true] {
        let world = World::new([address(1)]);
        if is_backlog {
            world.use_permit();
        }
        let ctx = context(MINUTE);
        let other = context_of("other", Priority::Interactive, MINUTE);
        let own = address(1);
        let leaves = timeout(LATENCY / 2, world.create(&ctx, "a", &own));
        let stays =
            [world.create(&other, "b", "Person-1@EXAMPLE.com"), world.create(&other, "c", &own)];
        let (left, stayed) = tokio::join!(leaves, join_all(stays));
        assert!(left.is_err());
        assert!(stayed.iter().all(Result::is_ok), "{stayed:?}");
        let lookups = world.sent().iter().filter(|sent| *sent == "find 1").count();
        assert_eq!(lookups, 1, "{:?}", world.sent());
        assert_eq!(world.upstream.in_progress(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_addresses_of_one_caller_take_one_lookup_for_a_hundred() {
    let world = World::new((0..10_000).filter(|number| number % 3 != 0).map(address));
    let inputs: Vec<CreateLead> =
        (0..10_000).map(|number| create(&number.to_string(), Some(&address(number)))).collect();
    for (chunk, inputs) in inputs.chunks(100).enumerate() {
        let outcomes = world.create_many(inputs.to_vec()).await.outcomes;
        for (index, outcome) in outcomes.iter().enumerate() {
            let number = chunk * 100 + index;
            if number % 3 == 0 {
                assert_eq!(fields(outcome), ["contact.email"]);
            } else {
                assert!(outcome.is_ok(), "{number}: {outcome:?}");
            }
        }
    }
    assert_eq!(world.upstream.count(), 200);
}

/// Creates with a known address, an unknown one, a contact by its id, and the known address again.
fn mixed_creates() -> Vec<CreateLead> {
    vec![
        create("a", Some(&address(1))),
        create("b", Some("Unknown@example.com")),
        create("c", None).with_primary_contact(LeadId::parse("900002").unwrap()),
        create("d", Some(&address(1))),
    ]
}

#[tokio::test(start_paused = true)]
async fn an_unknown_address_fails_its_input_alone() {
    let world = World::new([address(1), address(2)]);
    let chunk = world.create_many(mixed_creates()).await;
    assert!(chunk.evaluated);
    assert!([0, 2, 3].iter().all(|index| chunk.outcomes[*index].is_ok()), "{chunk:?}");
    let error = chunk.outcomes[1].as_ref().unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidRequest);
    assert!(error.fields()[0].description.contains("unknown@example.com"), "{error}");
    assert_eq!(world.sent(), ["find 2", "create 3"]);
    let single = world.create(&context(MINUTE), "e", "unknown@example.com").await;
    assert_eq!(fields(&single.map(|_| None)), ["contact.email"]);
    assert_eq!(world.sent()[2..], ["find 1"]);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_hubspot_does_not_mention_is_not_unknown() {
    let hubspot = Hubspot { leaves_out: true, ..Hubspot::default() };
    let world = World::over(hubspot, [address(1), address(2)], |_, _| None);
    let chunk = world.create_many(mixed_creates()).await;
    assert!([0, 2, 3].iter().all(|index| chunk.outcomes[*index].is_ok()), "{chunk:?}");
    let unanswered = |error: &Error| {
        assert_eq!(error.reason(), Reason::UpstreamInvalidResponse);
        assert!(error.message().contains("unknown@example.com"), "{error}");
        assert_eq!(error.side_effect(), SideEffect::None);
    };
    unanswered(chunk.outcomes[1].as_ref().unwrap_err());
    // It is asked for once more.
    assert_eq!(world.sent(), ["find 2", "find 1", "create 3"]);
    unanswered(&world.create(&context(MINUTE), "e", "unknown@example.com").await.unwrap_err());
    assert_eq!(world.sent()[3..], ["find 1"]);
}

#[tokio::test(start_paused = true)]
async fn creates_whose_addresses_hubspot_does_not_mention_fail_one_by_one() {
    let hubspot = Hubspot { leaves_out: true, ..Hubspot::default() };
    let world = World::over(hubspot, [], |_, _| None);
    let inputs = (0..100).map(|number| create("a", Some(&address(number)))).collect();
    let chunk = world.create_many(inputs).await;
    for outcome in &chunk.outcomes {
        let error = outcome.as_ref().unwrap_err();
        assert_eq!(error.reason(), Reason::UpstreamInvalidResponse, "{error}");
    }
    assert!(world.sent().len() <= 3, "{:?}", world.sent());
}

#[tokio::test(start_paused = true)]
async fn creates_without_an_address_cost_what_they_did() {
    let world = World::new([address(1)]);
    let by_id = create("a", None).with_primary_contact(LeadId::parse("900001").unwrap());
    assert!(world.create_many(vec![by_id.clone(), by_id]).await.outcomes[1].is_ok());
    assert_eq!(world.sent(), ["create 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_is_merged_or_archived_after_its_lookup_is_looked_up_once_more() {
    for (now, is_created) in [(Some("900009"), true), (None, false)] {
        for is_batch in [false, true] {
            // The contact changes when the first create arrives.
            let world =
                World::over(Hubspot::default(), [address(1), address(2)], move |hubspot, sent| {
                    if sent.number == 1 {
                        let mut ids = hubspot.ids.lock();
                        ids.remove(&address(1));
                        ids.extend(now.map(|id| (address(1), id.to_owned())));
                    }
                    None
                });
            let outcome = if is_batch {
                let inputs = vec![create("a", Some(&address(1))), create("b", Some(&address(2)))];
                let outcomes = world.create_many(inputs).await.outcomes;
                assert!(outcomes[1].is_ok());
                assert_eq!(world.sent()[..3], ["find 2", "create 2", "find 1"]);
                outcomes[0].clone()
            } else {
                let created = world.create(&context(MINUTE), "a", &address(1)).await;
                assert_eq!(world.sent()[..3], ["find 1", "create", "find 1"]);
                created.map(|_| None)
            };
            if is_created {
                assert!(outcome.is_ok(), "{outcome:?}");
                assert_eq!(world.hubspot.leads.lock()["a"], now.unwrap());
                assert_eq!(world.upstream.count(), 4);
            } else {
                assert_eq!(fields(&outcome), ["contact.email"]);
                assert_eq!(world.upstream.count(), 3);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_hubspot_rejects_each_time_is_looked_up_twice_at_most() {
    let rejects = |_: &Hubspot, sent: &Recorded| {
        let Request::Create(_) = &*sent.request else { return None };
        let facts =
            UpstreamFacts { record_ids: vec!["900001".to_owned()], ..UpstreamFacts::default() };
        let error = Error::new(Reason::ValidationFailed, "invalid association");
        Some(Err(error.with_upstream(facts)))
    };
    let world = World::over(Hubspot::default(), [address(1)], rejects);
    let error = world.create(&context(MINUTE), "a", &address(1)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ValidationFailed);
    assert_eq!(world.sent(), ["find 1", "create", "find 1"]);
}

#[tokio::test(start_paused = true)]
async fn without_the_scope_creates_with_ids_succeed_and_the_others_name_it() {
    let denied = |_: &Hubspot, sent: &Recorded| {
        let Request::FindContacts(_) = &*sent.request else { return None };
        Some(Err(Error::new(Reason::MissingScopes, "denied")))
    };
    let world = World::over(Hubspot::default(), [address(1), address(2)], denied);
    let by_id = create("c", None).with_primary_contact(LeadId::parse("900001").unwrap());
    let inputs = vec![create("a", Some(&address(1))), create("b", Some(&address(2))), by_id];
    let chunk = world.create_many(inputs).await;
    assert!(chunk.evaluated && chunk.outcomes[2].is_ok(), "{chunk:?}");
    for outcome in &chunk.outcomes[..2] {
        let error = outcome.as_ref().unwrap_err();
        assert_eq!(error.upstream().required_scopes, ["crm.objects.contacts.read"]);
        assert!(error.message().contains("crm.objects.contacts.read"), "{error}");
    }
    // Further batches of the call may have ids.
    let chunk = world.create_many(vec![create("a", Some(&address(1)))]).await;
    assert!(chunk.evaluated && chunk.outcomes[0].is_err());
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_fails_writes_nothing_and_is_the_error_of_the_create() {
    let down = |_: &Hubspot, _: &Recorded| Some(Err(unavailable()));
    let world = World::over(Hubspot::default(), [address(1)], down);
    let error = world.create(&context(MINUTE), "a", &address(1)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::UpstreamUnavailable);
    assert_eq!(error.side_effect(), SideEffect::None);
    let inputs = vec![create("a", Some(&address(1))), create("b", Some(&address(2)))];
    let chunk = world.create_many(inputs).await;
    assert!(!chunk.evaluated, "the call may be repeated as a whole");
    assert!(world.sent().iter().all(|sent| sent.starts_with("find")), "{:?}", world.sent());
}

#[tokio::test(start_paused = true)]
async fn an_address_for_which_hubspot_rejects_a_lookup_fails_no_other_caller() {
    let world = World::new((0..40).map(address));
    world.use_permit();
    let creates = (0..41).map(|number| {
        let world = &world;
        async move {
            let ctx = context_of(&format!("caller-{number}"), Priority::Interactive, HOUR);
            let email = if number == 40 { REJECTED.to_owned() } else { address(number) };
            world.create(&ctx, &number.to_string(), &email).await
        }
    });
    let results = join_all(creates).await;
    assert!(results[..40].iter().all(Result::is_ok), "{results:?}");
    assert_eq!(fields(&results[40].clone().map(|_| None)), ["contact.email"]);
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_was_not_asked_for_is_not_used() {
    let other = |_: &Hubspot, sent: &Recorded| {
        let Request::FindContacts(emails) = &*sent.request else { return None };
        let wrong = ContactEmail::parse("mallory@example.com").unwrap();
        let results = emails.iter().map(|_| contact((900_001, &wrong))).collect();
        Some(Ok(Response::Batch(BatchResponse { results, errors: Vec::new() })))
    };
    let world = World::over(Hubspot::default(), [address(1)], other);
    let error = world.create(&context(MINUTE), "a", &address(1)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::UpstreamInvalidResponse);
    let inputs = vec![create("a", Some(&address(1))), create("b", Some(&address(2)))];
    let chunk = world.create_many(inputs).await;
    assert!(chunk.outcomes.iter().all(Result::is_err), "{chunk:?}");
    assert!(world.hubspot.leads.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lookup_ends_at_the_deadline_of_its_caller() {
    let world = World::new([address(1)]);
    world.use_permit();
    let start = Instant::now();
    let ctx = context(Duration::from_millis(300));
    assert!(world.create(&ctx, "a", &address(1)).await.is_err());
    assert!(start.elapsed() <= Duration::from_millis(300));
    assert_eq!(world.upstream.count(), 0);
}
