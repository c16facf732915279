//! The use cases: what each RPC does, in terms of the domain.

use std::{
    collections::{BTreeMap, HashMap, hash_map::DefaultHasher},
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::timeout_at;

use super::{
    audit::{Entry, Tallied, Tally},
    batch::{self, Outcome, Unmentioned},
    call::{CallContext, PortalName},
    create::{self, Mark},
    error::{Error, Reason, SideEffect},
    inputs::ReadInput,
    lead::Lead,
    query::{BatchRead, GetLead, LeadId, ListLeads, Page, SearchLeads, SearchPage},
    refusals::Refusals,
    replay::{Answer, Replay, RequestId},
    upstream::Upstream,
    write::{CreateLead, Traced, UpdateLead, UpsertLead, Upserted},
};

/// Most inputs of a batch read with property history: HubSpot lowers its maximum from 100 to 50.
pub(super) const MAX_CHUNK_WITH_HISTORY: usize = 50;

/// What HubSpot answers when no property is selected. Named outright where the unique property has
/// to be asked for as well, so that the answer can be matched.
pub(super) const DEFAULT_PROPERTIES: [&str; 3] =
    ["hs_createdate", "hs_lastmodifieddate", "hs_object_id"];

/// Any number of leads by id.
#[derive(Debug, Clone)]
pub struct BatchGet {
    /// The ids; one may stand more than once.
    pub ids: Vec<LeadId>,
    /// The unique property that the ids are values of.
    pub id_property: Option<String>,
    /// Property names; none means HubSpot's default set.
    pub properties: Vec<String>,
    /// Properties to answer with their history.
    pub properties_with_history: Vec<String>,
    /// From the recycle bin.
    pub archived: bool,
}

/// How the use cases work.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Batch calls of one client call that run at the same time.
    pub batch_concurrency: usize,
    /// How long a single write that HubSpot refused for its content is refused here as well; zero
    /// never.
    pub remember_refusals: Duration,
    /// Where portals keep the request ids of their leads.
    pub request_id_properties: RequestIdProperties,
}

/// The property with unique values that a portal has for request ids, by which a lead can be found
/// whose create got lost; without one, such a create is reported as unknown.
#[derive(Debug, Clone, Default)]
pub struct RequestIdProperties {
    /// Of the portals that are configured.
    pub configured: BTreeMap<PortalName, Option<String>>,
    /// Of all other portals.
    pub others: Option<String>,
}

/// The use cases over one upstream.
#[derive(Debug, Clone)]
pub struct Service {
    upstream: Arc<dyn Upstream>,
    replay: Arc<Replay<Written>>,
    refusals: Arc<Refusals>,
    settings: Arc<Settings>,
}

/// The answer of any write, as it is kept for repeats.
#[derive(Debug, Clone)]
enum Written {
    Lead(Result<Lead, Error>),
    Archived(Result<(), Error>),
    Upserted(Result<Upserted, Error>),
    Leads(Result<Vec<Result<Lead, Error>>, Error>),
    Upserts(Result<Vec<Result<Upserted, Error>>, Error>),
    Archives(Result<Vec<Result<(), Error>>, Error>),
}

// === impl Service ===

impl Service {
    /// The use cases over `upstream`.
    pub fn new(upstream: Arc<dyn Upstream>, settings: Settings) -> Self {
        let refusals = Arc::new(Refusals::new(settings.remember_refusals));
        Self { upstream, replay: Arc::default(), refusals, settings: Arc::new(settings) }
    }

    /// Reads one lead.
    pub async fn get(&self, call: &CallContext, request: GetLead) -> Result<Lead, Error> {
        within(call, self.upstream.get(call, &request)).await
    }

    /// Reads one page of all leads.
    pub async fn list(&self, call: &CallContext, request: ListLeads) -> Result<Page, Error> {
        within(call, self.upstream.list(call, &request)).await
    }

    /// Reads one page of the leads that match.
    pub async fn search(
        &self,
        call: &CallContext,
        request: SearchLeads,
    ) -> Result<SearchPage, Error> {
        within(call, self.upstream.search(call, &request)).await
    }

    /// Creates one lead.
    pub async fn create(
        &self,
        call: &CallContext,
        request_id: Option<RequestId>,
        request: CreateLead,
    ) -> Result<Lead, Error> {
        let fingerprint = fingerprint("create", &request);
        let mark = self.property(call).map(|property| Mark::new(property, request_id.as_ref()));
        let (upstream, own) = self.parts(call);
        let write =
            async move { Written::Lead(create::one(&*upstream, &own, request, mark).await) };
        let entry = Entry::new(call, "CreateLead", 1);
        self.write(call, entry, request_id, fingerprint, write).await?.lead()
    }

    /// Changes one lead.
    pub async fn update(
        &self,
        call: &CallContext,
        request_id: Option<RequestId>,
        request: UpdateLead,
    ) -> Result<Lead, Error> {
        let fingerprint = fingerprint("update", &request);
        let id = Some(&request.id).filter(|_| request.id_property.is_none());
        let entry = Entry::new(call, "UpdateLead", 1).about(id.into_iter());
        let (upstream, own) = self.parts(call);
        let write = async move { Written::Lead(upstream.update(&own, &request).await) };
        self.write(call, entry, request_id, fingerprint, write).await?.lead()
    }

    /// Archives one lead.
    pub async fn archive(
        &self,
        call: &CallContext,
        request_id: Option<RequestId>,
        id: LeadId,
    ) -> Result<(), Error> {
        let fingerprint = fingerprint("archive", &id);
        let entry = Entry::new(call, "ArchiveLead", 1).about(std::iter::once(&id));
        let (upstream, own) = self.parts(call);
        let write = async move { Written::Archived(upstream.archive(&own, &id).await) };
        match self.write(call, entry, request_id, fingerprint, write).await? {
            Written::Archived(answer) => answer,
            other => Err(mixed_up(&other)),
        }
    }

    /// Creates or changes one lead.
    pub async fn upsert(
        &self,
        call: &CallContext,
        request_id: Option<RequestId>,
        input: Traced<UpsertLead>,
    ) -> Result<Upserted, Error> {
        let fingerprint = fingerprint("upsert", &input.input);
        let entry = Entry::new(call, "UpsertLead", 1);
        let (upstream, own) = self.parts(call);
        let write = async move {
            let outcomes =
                batch::run(&[input], 1, 1, Unmentioned::OutcomeUnknown, |claim, inputs| {
                    let (upstream, call) = (Arc::clone(&upstream), own.in_part(claim));
                    async move { upstream.batch_upsert(&call, &inputs).await }
                })
                .await;
            let first = outcomes.map(|outcomes| outcomes.into_iter().next());
            Written::Upserted(match first {
                Ok(Some(outcome)) => upserted(outcome),
                Ok(None) => Err(lost()),
                Err(error) => Err(error),
            })
        };
        match self.write(call, entry, request_id, fingerprint, write).await? {
            Written::Upserted(answer) => answer,
            other => Err(mixed_up(&other)),
        }
    }

    /// Reads many leads; one result per id.
    pub async fn batch_get(
        &self,
        call: &CallContext,
        request: BatchGet,
    ) -> Result<Vec<Result<Lead, Error>>, Error> {
        let BatchGet { ids, id_property, mut properties, properties_with_history, archived } =
            request;
        if let Some(id_property) = &id_property {
            if properties.is_empty() {
                properties = DEFAULT_PROPERTIES.map(str::to_owned).to_vec();
            }
            if !properties.contains(id_property) {
                properties.push(id_property.clone());
            }
        }
        let (distinct, positions) = distinct(&ids);
        let inputs: Vec<ReadInput> = distinct
            .into_iter()
            .map(|id| ReadInput { id, id_property: id_property.clone() })
            .collect();
        let chunk = if properties_with_history.is_empty() {
            batch::MAX_CHUNK
        } else {
            MAX_CHUNK_WITH_HISTORY
        };
        let send = |_, inputs: Vec<ReadInput>| {
            let request = BatchRead {
                ids: inputs.into_iter().map(|input| input.id).collect(),
                id_property: id_property.clone(),
                properties: properties.clone(),
                properties_with_history: properties_with_history.clone(),
                archived,
            };
            async move { self.upstream.batch_read(call, &request).await }
        };
        let concurrency = self.settings.batch_concurrency;
        let run = batch::run(&inputs, chunk, concurrency, Unmentioned::NotFound, send);
        let outcomes: Vec<_> = within(call, run).await?.into_iter().map(lead).collect();
        Ok(positions.into_iter().map(|position| outcomes[position].clone()).collect())
    }

    /// Creates many leads; one result per input.
    pub async fn batch_create(
        &self,
        call: &CallContext,
        request_id: Option<RequestId>,
        inputs: Vec<Traced<CreateLead>>,
    ) -> Result<Vec<Result<Lead, Error>>, Error> {
        let fingerprint = fingerprint("batch_create", &contents(&inputs));
        let entry = Entry::new(call, "BatchCreateLeads", inputs.len());
        let (upstream, own) = self.parts(call);
        let concurrency = self.settings.batch_concurrency;
        let mark = self.property(call).map(|property| Mark::new(property, request_id.as_ref()));
        let write = async move {
            let outcomes = create::many(&upstream, &own, inputs, mark, concurrency).await;
            Written::Leads(outcomes.map(|all| all.into_iter().map(lead).collect()))
        };
        self.write(call, entry, request_id, fingerprint, write).await?.leads()
    }

    /// Changes many leads; one result per input. No lead may stand twice.
    pub async fn batch_update(
        &self,
        call: &CallContext,
        request_id: Option<RequestId>,
        inputs: Vec<Traced<UpdateLead>>,
    ) -> Result<Vec<Result<Lead, Error>>, Error> {
        let fingerprint = fingerprint("batch_update", &contents(&inputs));
        let entry = Entry::new(call, "BatchUpdateLeads", inputs.len());
        let (upstream, own) = self.parts(call);
        let concurrency = self.settings.batch_concurrency;
        let write = async move {
            let send = |claim, inputs: Vec<Traced<UpdateLead>>| {
                let (upstream, call) = (Arc::clone(&upstream), own.in_part(claim));
                async move { upstream.batch_update(&call, &inputs).await }
            };
            let unmentioned = Unmentioned::OutcomeUnknown;
            let outcomes =
                batch::run(&inputs, batch::MAX_CHUNK, concurrency, unmentioned, send).await;
            Written::Leads(outcomes.map(|all| all.into_iter().map(lead).collect()))
        };
        self.write(call, entry, request_id, fingerprint, write).await?.leads()
    }

    /// Creates or changes many leads; one result per input. No unique value may stand twice.
    pub async fn batch_upsert(
        &self,
        call: &CallContext,
        request_id: Option<RequestId>,
        inputs: Vec<Traced<UpsertLead>>,
    ) -> Result<Vec<Result<Upserted, Error>>, Error> {
        let fingerprint = fingerprint("batch_upsert", &contents(&inputs));
        let entry = Entry::new(call, "BatchUpsertLeads", inputs.len());
        let (upstream, own) = self.parts(call);
        let concurrency = self.settings.batch_concurrency;
        let write = async move {
            let send = |claim, inputs: Vec<Traced<UpsertLead>>| {
                let (upstream, call) = (Arc::clone(&upstream), own.in_part(claim));
                async move { upstream.batch_upsert(&call, &inputs).await }
            };
            let unmentioned = Unmentioned::OutcomeUnknown;
            let outcomes =
                batch::run(&inputs, batch::MAX_CHUNK, concurrency, unmentioned, send).await;
            Written::Upserts(outcomes.map(|all| all.into_iter().map(upserted).collect()))
        };
        match self.write(call, entry, request_id, fingerprint, write).await? {
            Written::Upserts(answer) => answer,
            other => Err(mixed_up(&other)),
        }
    }

    /// Archives many leads; one result per id.
    pub async fn batch_archive(
        &self,
        call: &CallContext,
        request_id: Option<RequestId>,
        ids: Vec<LeadId>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let fingerprint = fingerprint("batch_archive", &ids);
        let entry = Entry::new(call, "BatchArchiveLeads", ids.len()).about(ids.iter());
        let (upstream, own) = self.parts(call);
        let concurrency = self.settings.batch_concurrency;
        let write = async move {
            let (distinct, positions) = distinct(&ids);
            let send = |claim, ids: Vec<LeadId>| {
                let (upstream, call) = (Arc::clone(&upstream), own.in_part(claim));
                async move { upstream.batch_archive(&call, &ids).await }
            };
            let outcomes =
                batch::run(&distinct, batch::MAX_CHUNK, concurrency, Unmentioned::Done, send).await;
            Written::Archives(outcomes.map(|outcomes| {
                let archived = |position: usize| outcomes[position].clone().map(drop);
                positions.into_iter().map(archived).collect()
            }))
        };
        match self.write(call, entry, request_id, fingerprint, write).await? {
            Written::Archives(answer) => answer,
            other => Err(mixed_up(&other)),
        }
    }

    /// The portal's property for request ids.
    fn property(&self, call: &CallContext) -> Option<&str> {
        self.settings.request_id_properties.of(&call.portal)
    }

    fn parts(&self, call: &CallContext) -> (Arc<dyn Upstream>, CallContext) {
        (Arc::clone(&self.upstream), call.clone())
    }

    /// Runs a write through the replay memory. The write itself keeps to the deadline; waiting for
    /// the first answer of a repeated one ends at the repeat's own.
    fn write(
        &self,
        call: &CallContext,
        entry: Entry,
        request_id: Option<RequestId>,
        fingerprint: u64,
        write: impl Future<Output = Written> + Send + 'static,
    ) -> impl Future<Output = Result<Written, Error>> + Send {
        // Every step that it goes through would take its room once more.
        let write = write.boxed();
        self.write_boxed(call, entry, request_id, fingerprint, write)
    }

    async fn write_boxed(
        &self,
        call: &CallContext,
        entry: Entry,
        request_id: Option<RequestId>,
        fingerprint: u64,
        write: BoxFuture<'static, Written>,
    ) -> Result<Written, Error> {
        let repeat = entry.repeat();
        if let Some(error) = self.refusals.of(&call.portal, fingerprint) {
            drop(entry);
            let answer = Err(error);
            repeat.answered(&answer);
            return answer;
        }
        let answer = self.replay.run(&call.portal, request_id, fingerprint, entry.run(write));
        let answer = timeout_at(call.deadline, answer).await.unwrap_or_else(|_| {
            Err(Error::new(
                Reason::DeadlineExceeded,
                "the deadline passed before the outcome of the write was known",
            )
            .with_side_effect(SideEffect::Possible))
        });
        repeat.answered(&answer);
        let answer = answer?;
        if let Some(error) = answer.refusal() {
            self.refusals.remember(&call.portal, fingerprint, error);
        }
        Ok(answer)
    }
}

// === impl RequestIdProperties ===

impl RequestIdProperties {
    fn of(&self, portal: &PortalName) -> Option<&str> {
        self.configured.get(portal).unwrap_or(&self.others).as_deref()
    }
}

// === impl Written ===

impl Written {
    /// The error of a single write.
    fn refusal(&self) -> Option<&Error> {
        match self {
            Self::Lead(answer) => answer.as_ref().err(),
            Self::Upserted(answer) => answer.as_ref().err(),
            Self::Archived(_) | Self::Leads(_) | Self::Upserts(_) | Self::Archives(_) => None,
        }
    }

    fn lead(self) -> Result<Lead, Error> {
        match self {
            Self::Lead(answer) => answer,
            other => Err(mixed_up(&other)),
        }
    }

    fn leads(self) -> Result<Vec<Result<Lead, Error>>, Error> {
        match self {
            Self::Leads(answer) => answer,
            other => Err(mixed_up(&other)),
        }
    }
}

impl Answer for Written {
    fn weight(&self) -> usize {
        match self {
            Self::Lead(_) | Self::Archived(_) | Self::Upserted(_) => 1,
            Self::Leads(answer) => answer.as_ref().map_or(1, Vec::len),
            Self::Upserts(answer) => answer.as_ref().map_or(1, Vec::len),
            Self::Archives(answer) => answer.as_ref().map_or(1, Vec::len),
        }
    }

    fn left_traces(&self) -> bool {
        match self {
            Self::Lead(answer) => traces(answer),
            Self::Archived(answer) => traces(answer),
            Self::Upserted(answer) => traces(answer),
            Self::Leads(answer) => any_traces(answer),
            Self::Upserts(answer) => any_traces(answer),
            Self::Archives(answer) => any_traces(answer),
        }
    }
}

impl Tallied for Written {
    fn tally(&self) -> Tally {
        match self {
            Self::Lead(answer) => tally_one(answer, |lead| Some(&lead.id)),
            Self::Archived(answer) => tally_one(answer, |()| None),
            Self::Upserted(answer) => tally_one(answer, |upserted| Some(&upserted.lead.id)),
            Self::Leads(answer) => tally(answer, |lead| Some(&lead.id)),
            Self::Upserts(answer) => tally(answer, |upserted| Some(&upserted.lead.id)),
            Self::Archives(answer) => tally(answer, |()| None),
        }
    }
}

fn tally_one<T>(answer: &Result<T, Error>, id: fn(&T) -> Option<&String>) -> Tally {
    let mut tally = Tally::default();
    tally.add(answer, id);
    tally
}

fn tally<T>(answer: &Result<Vec<Result<T, Error>>, Error>, id: fn(&T) -> Option<&String>) -> Tally {
    let mut tally = Tally::default();
    match answer {
        Ok(items) => items.iter().for_each(|item| tally.add(item, id)),
        Err(error) => tally.error = Some(error.reason()),
    }
    tally
}

fn traces<T>(answer: &Result<T, Error>) -> bool {
    answer.as_ref().err().is_none_or(|error| error.side_effect() == SideEffect::Possible)
}

fn any_traces<T>(answer: &Result<Vec<Result<T, Error>>, Error>) -> bool {
    match answer {
        Ok(items) => items.iter().any(traces),
        Err(error) => error.side_effect() == SideEffect::Possible,
    }
}

/// The different ids, and for each given id where it stands among them.
fn distinct(ids: &[LeadId]) -> (Vec<LeadId>, Vec<usize>) {
    let mut seen = HashMap::with_capacity(ids.len());
    let mut distinct = Vec::with_capacity(ids.len());
    let mut positions = Vec::with_capacity(ids.len());
    for id in ids {
        let next = distinct.len();
        let position = *seen.entry(id).or_insert(next);
        if position == next {
            distinct.push(id.clone());
        }
        positions.push(position);
    }
    (distinct, positions)
}

/// The inputs without their trace ids: those made here differ between repeats of one request.
fn contents<T>(inputs: &[Traced<T>]) -> Vec<&T> {
    inputs.iter().map(|input| &input.input).collect()
}

fn fingerprint(kind: &str, request: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    kind.hash(&mut hasher);
    request.hash(&mut hasher);
    hasher.finish()
}

/// Ends a read at the call's deadline, wherever it stands.
async fn within<T>(
    call: &CallContext,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout_at(call.deadline, work).await.unwrap_or_else(|_| {
        Err(Error::new(Reason::DeadlineExceeded, "the deadline passed before HubSpot answered"))
    })
}

fn lead(outcome: Outcome) -> Result<Lead, Error> {
    outcome?.map(|item| item.lead).ok_or_else(lost)
}

fn upserted(outcome: Outcome) -> Result<Upserted, Error> {
    let item = outcome?.ok_or_else(lost)?;
    Ok(Upserted { created: item.created.unwrap_or(false), lead: item.lead })
}

fn lost() -> Error {
    Error::new(Reason::Internal, "the service lost track of an input")
        .with_side_effect(SideEffect::Possible)
}

/// A fingerprint names the kind of write, so an answer of another kind cannot come back.
fn mixed_up(answer: &impl fmt::Debug) -> Error {
    let _ = answer;
    Error::new(Reason::Internal, "the service mixed up two answers")
}
