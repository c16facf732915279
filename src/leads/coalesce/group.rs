//! Calls of one kind that wait for a permit, and what happens when it comes.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::echo::{Echoes, Kinds};
use crate::{
    leads::{Call, Error, PortalName, Prepaid, Processed, Reason, Spent, Upstream, batch},
    quota::{self, BucketName, Permit, Place, Quota, Refusal},
    task,
};

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

    /// Whether answers to calls that leave together can be told apart, as far as is known.
    fn tells_apart(&self, _: &Kinds) -> bool {
        true
    }

    /// Makes the call as if there were no other.
    async fn alone(
        &self,
        upstream: &dyn Upstream,
        call: &Call,
        input: &Self::Input,
    ) -> Result<Self::Output, Error>;

    /// Makes the calls as one; one outcome per input, in their order.
    async fn together(
        &self,
        upstream: &Arc<dyn Upstream>,
        echoes: &Kinds,
        call: &Call,
        inputs: &[Self::Input],
    ) -> Vec<Result<Self::Output, Error>>;

    /// Whether an outcome only says that the call must be made alone, which is safe.
    fn must_go_alone(&self, error: &Error) -> bool {
        error.reason() == Reason::BatchRefused
    }
}

/// What all groups work with.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) upstream: Arc<dyn Upstream>,
    pub(super) quota: Arc<Quota>,
    pub(super) echoes: Arc<Echoes>,
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
    echoes: Arc<Kinds>,
    members: Mutex<HashMap<u64, Member<K>>>,
}

/// One call that waits.
#[derive(Debug)]
struct Member<K: Kind> {
    call: Call,
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
        call: &Call,
        kind: K,
        input: K::Input,
    ) -> impl Future<Output = Result<K::Output, Error>> + Send {
        let account = self.parts.quota.of(call.portal.as_str());
        let (reply, answer) = oneshot::channel();
        let membership = self.enter(kind, Member { call: call.clone(), input, reply });
        let (group, number) = (Arc::clone(&membership.group), membership.number);
        let until = call.permit_until();
        let place = account.join(BucketName::Burst, &call.who, until, group, number);
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
                echoes: self.parts.echoes.of(&portal),
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
    place: &Place,
) -> Result<T, Error> {
    let answer = match timeout_at(until, &mut answer).await {
        Ok(answer) => answer,
        Err(_) if place.leave() => return Err(place.in_vain().into()),
        Err(_) => answer.await,
    };
    answer.unwrap_or_else(|_| {
        Err(Error::new(Reason::Internal, "the service lost the answer of a call")
            .with_processed(Processed::Maybe))
    })
}

impl<K: Kind> Drop for Membership<K> {
    fn drop(&mut self) {
        self.group.members.lock().remove(&self.number);
    }
}

// === impl Group ===

impl<K: Kind> quota::Group for Group<K> {
    fn id(&self) -> u64 {
        self.id
    }

    fn most(&self) -> usize {
        self.kind.most()
    }

    fn go(&self, permit: Permit, members: Vec<u64>) {
        let mut waiting = self.members.lock();
        let members: Vec<Member<K>> =
            members.into_iter().filter_map(|number| waiting.remove(&number)).collect();
        drop(waiting);
        // All may have gone away: the permit is given back.
        if members.is_empty() {
            return;
        }
        let (kind, upstream) = (self.kind.clone(), Arc::clone(&self.upstream));
        let echoes = Arc::clone(&self.echoes);
        task::spawn("batch", self.portal.as_str(), async move {
            leave(&kind, &upstream, &echoes, permit, members).await;
        })
        .detach();
    }

    fn refuse(&self, member: u64, refusal: Refusal) {
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

    async fn go_alone(self, kind: &K, upstream: &dyn Upstream) {
        let answer = kind.alone(upstream, &self.call, &self.input).await;
        self.answer(answer);
    }
}

/// The members leave.
async fn leave<K: Kind>(
    kind: &K,
    upstream: &Arc<dyn Upstream>,
    echoes: &Kinds,
    permit: Permit,
    mut members: Vec<Member<K>>,
) {
    let prepaid = Prepaid::new(permit);
    if !kind.tells_apart(echoes) && members.len() > 1 {
        // A batch of one has an answer that cannot be mistaken, and shows whether others would.
        let rest = members.split_off(1);
        leave_together(kind, upstream, echoes, prepaid, members).await;
        if kind.tells_apart(echoes) {
            leave_together(kind, upstream, echoes, Prepaid::default(), rest).await;
        } else {
            all_alone(kind, upstream, rest).await;
        }
        return;
    }
    match <[Member<K>; 1]>::try_from(members) {
        Ok([mut member]) => {
            member.call.prepaid = prepaid;
            member.go_alone(kind, &**upstream).await;
        }
        Err(members) => leave_together(kind, upstream, echoes, prepaid, members).await,
    }
}

async fn leave_together<K: Kind>(
    kind: &K,
    upstream: &Arc<dyn Upstream>,
    echoes: &Kinds,
    prepaid: Prepaid,
    members: Vec<Member<K>>,
) {
    let Some(first) = members.first() else { return };
    let deadline = members.iter().map(|member| member.call.deadline).max();
    let spent: Arc<Spent> = Arc::default();
    let call = Call {
        deadline: deadline.unwrap_or(first.call.deadline),
        spent: Arc::clone(&spent),
        prepaid,
        ..first.call.clone()
    };
    members.iter().for_each(|member| member.call.spent.begin());
    let inputs: Vec<K::Input> = members.iter().map(|member| member.input.clone()).collect();
    let outcomes = kind.together(upstream, echoes, &call, &inputs).await;
    let parts = members.len();
    let mut again = Vec::new();
    for (member, outcome) in members.into_iter().zip(outcomes) {
        member.call.spent.share(&spent, parts);
        match outcome {
            Err(error) if kind.must_go_alone(&error) => again.push(member),
            outcome => member.answer(outcome),
        }
    }
    all_alone(kind, upstream, again).await;
}

async fn all_alone<K: Kind>(kind: &K, upstream: &Arc<dyn Upstream>, members: Vec<Member<K>>) {
    let calls = stream::iter(members).map(|member| member.go_alone(kind, &**upstream));
    calls.buffer_unordered(ALONE_CONCURRENCY).collect::<()>().await;
}
