//! Calls of one kind that wait for a permit, and what happens when it comes.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, future, stream};
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

use super::learned::{Learned, Portals};
use crate::leads::{
    CallContext, CostMeter, Error, Patience, PortalName, Prepaid, Reason, SideEffect, Upstream,
    batch::{self, Fate},
};
use leadsd_base::task;
use leadsd_quota::{self, BucketName, Permit, QueueEntry, Quota, Rejected, Requester};

/// Calls at the same time where those that came together go alone after all.
const ALONE_CONCURRENCY: usize = 8;

/// Groups in memory past which those that nobody waits in are dropped.
const PRUNE_AT: usize = 64;

static IDS: AtomicU64 = AtomicU64::new(0);

/// A kind of call that batches exist for. Equal kinds of one portal leave together.
#[async_trait]
pub(super) trait Kind: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static {
    /// What differs among calls that leave together.
    type Input: Clone + fmt::Debug + Send + Sync + 'static;
    /// What a call answers.
    type Output: Clone + fmt::Debug + Send + 'static;

    /// Most calls that leave together.
    fn most(&self) -> usize {
        batch::MAX_CHUNK
    }

    /// As few as these are cheaper made together than alone.
    fn least(&self) -> usize {
        2
    }

    /// About how many bytes of HubSpot's answer are about a call, where that must not be too many:
    /// an answer that is not read is a write whose outcome is lost.
    fn weight(&self, _: &Self::Input) -> usize {
        0
    }

    /// In which batches the calls can go so that their answers can be told apart: for each the number
    /// of its batch; those without one go alone. None if it is not known.
    fn batches(&self, _: &Learned, inputs: &[&Self::Input]) -> Option<Vec<Option<usize>>> {
        Some(vec![Some(0); inputs.len()])
    }

    /// Makes the call as if there were no other.
    async fn alone(
        &self,
        upstream: &dyn Upstream,
        call: &CallContext,
        input: &Self::Input,
    ) -> Result<Self::Output, Error>;

    /// Looks at what came of a call that was made alone after it had gone with others.
    fn learn(&self, _: &Learned, _: &Self::Input, _: &Result<Self::Output, Error>) {}

    /// Makes the calls as one; one fate per input, in their order.
    async fn together(
        &self,
        upstream: &Arc<dyn Upstream>,
        learned: &Learned,
        call: &Shared,
        inputs: &[Self::Input],
    ) -> Vec<Fate<Self::Output>>;
}

/// What all groups work with.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) upstream: Arc<dyn Upstream>,
    pub(super) quota: Arc<Quota>,
    pub(super) learned: Arc<Portals>,
    /// Longest answer that is read, in bytes.
    pub(super) max_answer: usize,
}

type ByKind<K> = HashMap<(PortalName, K), Arc<Group<K>>>;

/// The groups of one sort of kinds.
#[derive(Debug)]
pub(super) struct Groups<K: Kind> {
    parts: Parts,
    groups: Mutex<ByKind<K>>,
}

/// Calls that can leave together.
#[derive(Debug)]
struct Group<K: Kind> {
    id: u64,
    kind: K,
    portal: PortalName,
    upstream: Arc<dyn Upstream>,
    learned: Arc<Learned>,
    max_answer: usize,
    members: Mutex<HashMap<u64, Member<K>>>,
}

/// One call that waits.
#[derive(Debug)]
struct Member<K: Kind> {
    call: CallContext,
    input: K::Input,
    reply: oneshot::Sender<Result<K::Output, Error>>,
}

/// Takes a call that has gone away out of its group.
struct Membership<K: Kind> {
    group: Arc<Group<K>>,
    number: u64,
}

// === impl Groups ===

impl<K: Kind> Groups<K> {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts, groups: Mutex::default() }
    }

    /// Makes the call with others of its kind, once there is a permit. What it keeps while it waits
    /// is little: thousands may.
    pub(super) fn wait(
        &self,
        call: &CallContext,
        kind: K,
        input: K::Input,
    ) -> impl Future<Output = Result<K::Output, Error>> + Send {
        let account = self.parts.quota.account(call.portal.as_str());
        let (reply, answer) = oneshot::channel();
        let membership = self.enter(kind, Member { call: call.clone(), input, reply });
        let (group, number) = (Arc::clone(&membership.group), membership.number);
        let until = call.permit_until();
        let place = account.enqueue(BucketName::Burst, &call.who, until, group, number);
        async move {
            let _membership = membership;
            answered(until, answer, &place?).await
        }
    }

    fn enter(&self, kind: K, member: Member<K>) -> Membership<K> {
        let number = IDS.fetch_add(1, Ordering::Relaxed);
        let portal = member.call.portal.clone();
        let mut groups = self.groups.lock();
        if groups.len() >= PRUNE_AT {
            groups.retain(|_, group| !group.members.lock().is_empty());
        }
        let group = groups.entry((portal.clone(), kind.clone())).or_insert_with(|| {
            Arc::new(Group {
                id: IDS.fetch_add(1, Ordering::Relaxed),
                kind,
                upstream: Arc::clone(&self.parts.upstream),
                learned: self.parts.learned.of(&portal),
                max_answer: self.parts.max_answer,
                portal,
                members: Mutex::default(),
            })
        });
        group.members.lock().insert(number, member);
        Membership { group: Arc::clone(group), number }
    }
}

/// Waits for the answer, and gives up where there is no permit in time. Once the call has left, it is
/// followed to its end: whoever called decides how long to wait for that.
async fn answered<T>(
    until: Instant,
    mut answer: oneshot::Receiver<Result<T, Error>>,
    place: &QueueEntry,
) -> Result<T, Error> {
    let answer = match timeout_at(until, &mut answer).await {
        Ok(answer) => answer,
        Err(_) if place.cancel() => return Err(place.deadline_error().into()),
        Err(_) => answer.await,
    };
    answer.unwrap_or_else(|_| {
        Err(Error::new(Reason::Internal, "the service lost the answer of a call")
            .with_side_effect(SideEffect::Possible))
    })
}

impl<K: Kind> Drop for Membership<K> {
    fn drop(&mut self) {
        self.group.members.lock().remove(&self.number);
    }
}

// === impl Group ===

impl<K: Kind> leadsd_quota::Group for Group<K> {
    fn id(&self) -> u64 {
        self.id
    }

    fn max_size(&self) -> usize {
        self.kind.most()
    }

    fn min_size(&self) -> usize {
        self.kind.least()
    }

    fn dispatch(&self, permit: Permit, members: Vec<u64>) {
        let mut waiting = self.members.lock();
        let members: Vec<Member<K>> =
            members.into_iter().filter_map(|number| waiting.remove(&number)).collect();
        drop(waiting);
        // All may have gone away: the permit is given back.
        if members.is_empty() {
            return;
        }
        let departure = Departure {
            kind: self.kind.clone(),
            upstream: Arc::clone(&self.upstream),
            learned: Arc::clone(&self.learned),
            max_answer: self.max_answer,
        };
        task::spawn("batch", self.portal.as_str(), async move {
            departure.leave(Prepaid::new(permit), members).await;
        })
        .detach();
    }

    fn reject(&self, member: u64, refusal: Rejected) {
        let member = self.members.lock().remove(&member);
        if let Some(member) = member {
            member.answer(Err(refusal.into()));
        }
    }
}

// === impl Member ===

impl<K: Kind> Member<K> {
    /// Whoever has gone away needs no answer.
    fn answer(self, answer: Result<K::Output, Error>) {
        let _ = self.reply.send(answer);
    }
}

/// Calls of one kind on their way.
struct Departure<K> {
    kind: K,
    upstream: Arc<dyn Upstream>,
    learned: Arc<Learned>,
    max_answer: usize,
}

// === impl Departure ===

impl<K: Kind> Departure<K> {
    async fn leave(&self, prepaid: Prepaid, mut members: Vec<Member<K>>) {
        if members.len() < 2 {
            return self.leave_together(prepaid, members).await;
        }
        if let Some(batches) = self.batches(&members) {
            return self.leave_apart(prepaid, members, batches).await;
        }
        // A batch of one has an answer that cannot be mistaken, and shows whether others would.
        let rest = members.split_off(1);
        self.as_one(prepaid, members).await;
        match self.batches(&rest) {
            Some(batches) => self.leave_apart(Prepaid::default(), rest, batches).await,
            None => self.all_alone(rest).await,
        }
    }

    fn batches(&self, members: &[Member<K>]) -> Option<Vec<Option<usize>>> {
        let inputs: Vec<&K::Input> = members.iter().map(|member| &member.input).collect();
        self.kind.batches(&self.learned, &inputs)
    }

    /// In batches of these numbers, and alone without one. The first of all has the permit.
    async fn leave_apart(
        &self,
        prepaid: Prepaid,
        members: Vec<Member<K>>,
        batches: Vec<Option<usize>>,
    ) {
        let mut together: BTreeMap<usize, Vec<Member<K>>> = BTreeMap::new();
        let mut alone = Vec::new();
        for (mut member, batch) in members.into_iter().zip(batches) {
            match batch {
                Some(number) => together.entry(number).or_default().push(member),
                None => {
                    member.call.prepaid = prepaid.clone();
                    alone.push(member);
                }
            }
        }
        let (together, single): (Vec<_>, Vec<_>) =
            together.into_values().partition(|batch| batch.len() > 1);
        for mut member in single.into_iter().flatten() {
            member.call.prepaid = prepaid.clone();
            alone.push(member);
        }
        let together =
            together.into_iter().map(|batch| self.leave_together(prepaid.clone(), batch));
        tokio::join!(future::join_all(together), self.all_alone(alone));
    }

    /// In as many batches as it takes for their answers to be read.
    async fn leave_together(&self, prepaid: Prepaid, members: Vec<Member<K>>) {
        let mut parts: Vec<Vec<Member<K>>> = Vec::new();
        let mut weight = usize::MAX;
        for member in members {
            let own = self.kind.weight(&member.input);
            weight = weight.saturating_add(own);
            match parts.last_mut().filter(|_| weight <= self.max_answer) {
                Some(part) => part.push(member),
                None => {
                    weight = own;
                    parts.push(vec![member]);
                }
            }
        }
        let batches = (0..).zip(parts).map(|(number, part)| {
            self.part(if number == 0 { prepaid.clone() } else { Prepaid::default() }, part)
        });
        future::join_all(batches).await;
    }

    /// As a batch, unless there is only one.
    async fn part(&self, prepaid: Prepaid, members: Vec<Member<K>>) {
        match <[Member<K>; 1]>::try_from(members) {
            Ok([mut member]) => {
                member.call.prepaid = prepaid;
                self.alone(member).await;
            }
            Err(members) => self.as_one(prepaid, members).await,
        }
    }

    /// As one batch, and again for those who have the time where the time of others is over.
    async fn as_one(&self, mut prepaid: Prepaid, mut members: Vec<Member<K>>) {
        let mut made = 0;
        loop {
            members.retain(|member| !member.reply.is_closed());
            let Some(call) = Shared::new(&members, prepaid, made) else { return };
            let inputs: Vec<K::Input> = members.iter().map(|member| member.input.clone()).collect();
            let fates = self.kind.together(&self.upstream, &self.learned, &call, &inputs).await;
            let (mut alone, mut again, mut pause) = (Vec::new(), Vec::new(), Duration::ZERO);
            for (member, fate) in members.into_iter().zip(fates) {
                match fate {
                    Fate::Alone => alone.push(member),
                    Fate::Told(Err(error)) if may_go_on(&member.call, &error) => {
                        made = error.upstream().attempts;
                        pause = error.retry_after().unwrap_or_default();
                        again.push(member);
                    }
                    Fate::Told(answer) => member.answer(answer),
                }
            }
            if again.is_empty() {
                return self.all_alone(alone).await;
            }
            tokio::join!(self.all_alone(alone), sleep(pause));
            (members, prepaid) = (again, Prepaid::default());
        }
    }

    async fn all_alone(&self, members: Vec<Member<K>>) {
        let calls = stream::iter(members).map(|member| self.alone(member));
        calls.buffer_unordered(ALONE_CONCURRENCY).collect::<()>().await;
    }

    async fn alone(&self, member: Member<K>) {
        if member.reply.is_closed() {
            return;
        }
        let answer = self.kind.alone(&*self.upstream, &member.call, &member.input).await;
        self.kind.learn(&self.learned, &member.input, &answer);
        member.answer(answer);
    }
}

/// A call that is made for several, as long as any of them waits.
pub(super) struct Shared {
    call: CallContext,
    /// On whose behalf, in the order of the inputs.
    whos: Vec<Requester>,
}

// === impl Shared ===

impl Shared {
    /// None for nobody.
    fn new<K: Kind>(members: &[Member<K>], prepaid: Prepaid, made: u32) -> Option<Self> {
        let first = &members.first()?.call;
        let deadlines = members.iter().map(|member| member.call.deadline);
        let patience = Patience::new(first.deadline);
        members.iter().for_each(|member| patience.join(member.call.patience.until()));
        let sharers = members.iter().map(|member| Arc::clone(&member.call.cost)).collect();
        let cost = CostMeter::among(sharers);
        cost.begin();
        let deadline = deadlines.max()?;
        let whos = members.iter().map(|member| member.call.who.clone()).collect();
        let cost = Arc::new(cost);
        let call = CallContext { deadline, cost, prepaid, patience, made, ..first.clone() };
        Some(Self { call, whos })
    }

    /// On behalf of the one who goes first.
    pub(super) fn whole(&self) -> &CallContext {
        &self.call
    }

    /// The call for a part of them: on behalf of its first one, so that nobody's quota is used for a
    /// part that it has no part in.
    pub(super) fn part(&self, first: usize) -> CallContext {
        let who = self.whos.get(first).unwrap_or(&self.call.who).clone();
        CallContext { who, ..self.call.clone() }
    }
}

/// Whether an attempt that another's time did not allow is made for this call all the same.
pub(super) fn may_go_on(call: &CallContext, error: &Error) -> bool {
    error.is_deadline_limited() && call.has_time_after(error.retry_after().unwrap_or_default())
}
