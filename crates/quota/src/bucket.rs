//! One of HubSpot's limits: how many calls it allows, how many are used, by us and by others, and
//! when the next one may go.

use std::{collections::VecDeque, ops::RangeInclusive, time::Duration};

use tokio::time::Instant;

use super::{
    Caller,
    lease::{Demand, Lease, NEARLY, SILENT, Shape},
    ledger::{ExchangeRequest, Grant, LedgerConfig, TENTHS},
    others::{Others, Own},
    window::Window,
};

/// How long a call may be on its way to HubSpot, as far as the limit of a second is concerned. A
/// longer hold would cost more of a second than that limit, which HubSpot does not document, is
/// worth: 2.5 %.
const REACH_SECOND: Duration = Duration::from_millis(25);

/// The same for the window that HubSpot documents; 2.5 % of it.
const REACH_WINDOW: Duration = Duration::from_millis(250);

/// Lengths of a window that are believed.
const WINDOWS: RangeInclusive<Duration> = SECOND..=Duration::from_secs(600);

/// Part of the limit that may go within a second.
const PART_A_SECOND: u64 = 10;

/// Largest limit that is believed.
const MAX_SIZE: u64 = 1_000_000_000;

/// How often in a window to look whether others use less of it: what is known of them is at most so
/// much too old.
const LOOKS: u32 = 20;

const SECOND: Duration = Duration::from_secs(1);

/// What HubSpot said of a bucket in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObservedLimit {
    /// Calls in the window.
    pub size: Option<u64>,
    /// Calls left in it.
    pub remaining: Option<u64>,
    /// Its length.
    pub window: Option<Duration>,
}

/// A limit over one window, or over two: then a tenth of it holds for each second as well.
#[derive(Debug)]
pub(super) struct Bucket {
    size: u64,
    /// The longest window first. All have the same slots.
    windows: Vec<Window>,
    closed_until: Option<Instant>,
    others: Others,
    /// Calls in the window that are not ours, where replicas share the limit.
    foreign: Option<Foreign>,
    /// Who has used the slots of the longest window.
    users: VecDeque<(u64, Users)>,
    /// When the newest slot was due.
    due: Option<Instant>,
    /// While calls leave together, slots are spread evenly until then, so that each can take as many
    /// as possible.
    spread_until: Option<Instant>,
    /// This replica's part, if replicas share the limit.
    lease: Option<Lease>,
}

/// Calls of others, as they were when that was told.
#[derive(Debug, Clone, Copy)]
struct Foreign {
    told: Instant,
    calls: Calls,
}

#[derive(Debug, Clone, Copy)]
enum Calls {
    /// It is not known when they leave the window: evenly.
    Even(u64),
    /// So many in each tenth of the window.
    Leaving([u64; TENTHS]),
}

/// What an answer may have counted of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Oldest {
    /// Whether that is in the ledger's numbers.
    in_ledger: bool,
    /// Number of the oldest slot that HubSpot may count when a call is sent now.
    number: u64,
}

/// The callers whose calls go with one permit, each as often as it has calls.
pub(super) type Users = Vec<(Caller, u32)>;

// === impl Bucket ===

impl Bucket {
    /// `size` calls in any `window`, a tenth of them in any second.
    pub(super) fn burst(size: u64, window: Duration) -> Self {
        Self::new(
            size,
            vec![
                Window::new(window, REACH_WINDOW.min(window / 40)),
                Window::new(SECOND, REACH_SECOND),
            ],
        )
    }

    /// `size` calls in any second.
    pub(super) fn secondly(size: u64) -> Self {
        Self::new(size, vec![Window::new(SECOND, REACH_SECOND)])
    }

    fn new(size: u64, windows: Vec<Window>) -> Self {
        Self {
            size: size.max(1),
            windows,
            closed_until: None,
            others: Others::default(),
            foreign: None,
            users: VecDeque::new(),
            due: None,
            spread_until: None,
            lease: None,
        }
    }

    /// Shares the limit with other replicas.
    pub(super) fn shared(mut self, sharing: Option<LedgerConfig>, now: Instant) -> Self {
        self.lease = sharing.map(|sharing| Lease::new(sharing, now));
        self
    }

    /// This replica's part, if replicas share the limit.
    pub(super) fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    fn live(&self) -> Option<&Lease> {
        self.lease.as_ref().filter(|lease| lease.is_live())
    }

    /// Whether no permit comes before the ledger answers.
    pub(super) fn waits_for_ledger(&self) -> bool {
        let bare = |lease: &Lease| lease.is_starting() || lease.is_live() && lease.is_bare();
        self.lease.as_ref().is_some_and(bare)
    }

    /// What to tell the ledger and to ask of it now, if there is anything.
    pub(super) fn ask(&mut self, demand: Demand, now: Instant) -> Option<ExchangeRequest> {
        self.expire(now);
        let shape = self.shape(now);
        let windows = &self.windows;
        let counted = |slot| {
            let at = |window: &Window| window.counted(slot, now);
            let long = windows.first().and_then(at);
            let short = windows.get(1).and_then(at);
            // What has left the second may still be in the window.
            long.map(|long| [long, short.unwrap_or(long)])
        };
        self.lease.as_mut()?.ask(demand, shape, &counted, now)
    }

    /// The ledger has answered what was asked at `since`.
    pub(super) fn granted(
        &mut self,
        ask: &ExchangeRequest,
        grant: &Grant,
        since: Instant,
        now: Instant,
    ) {
        let Some(lease) = self.lease.as_mut() else { return };
        lease.granted(ask, grant, since);
        self.size = grant.size.max(1);
        if WINDOWS.contains(&grant.window) {
            self.windows[0].set_length(grant.window);
        }
        if !grant.closed.is_zero() {
            // What has come here meanwhile may be news to the ledger.
            let until = now + grant.closed;
            self.closed_until = Some(self.closed_until.map_or(until, |known| known.max(until)));
        }
        // Without the ledger, what the others use is known from here on as it was now.
        let known = self.foreign(now);
        let mut leaving = grant.leaving.map(u64::from);
        for (own, leaving) in self.windows[0].leaving(now).into_iter().zip(&mut leaving) {
            *leaving = leaving.saturating_sub(own);
        }
        let told: u64 = leaving.iter().sum();
        let ours: u64 = self.windows[0].used() as u64;
        let beside = grant.used.saturating_sub(ours).saturating_sub(told);
        // A new ledger does not know all of them.
        let missing = if grant.warming { known.saturating_sub(told + beside) } else { 0 };
        leaving[TENTHS - 1] += beside + missing;
        self.foreign = Some(Foreign { told: now, calls: Calls::Leaving(leaving) });
    }

    /// The ledger has not answered.
    pub(super) fn lost(&mut self, now: Instant) {
        let was_here = self.lease.as_ref().is_some_and(|lease| !lease.is_away());
        if let (true, Some(foreign)) = (was_here, &mut self.foreign)
            && let Calls::Leaving(leaving) = &mut foreign.calls
        {
            // They have gone on since the last word of them, and if they can still reach the ledger,
            // they get what would have been ours until our silence is noticed.
            let since = (now.saturating_duration_since(foreign.told) + SILENT).as_millis();
            let calls = u128::from(self.size) * since / self.windows[0].length().as_millis().max(1);
            // One more for each: tenths are rounded.
            let replicas = self.lease.as_ref().map_or(1, Lease::replicas);
            leaving[TENTHS - 1] += u64::try_from(calls).unwrap_or(self.size) + u64::from(replicas);
        }
        if let Some(lease) = self.lease.as_mut() {
            lease.lost(now);
        }
    }

    /// When to look whether there is something to ask, although nothing happens.
    pub(super) fn ask_again(&self, demand: usize, now: Instant) -> Option<Instant> {
        self.lease.as_ref()?.wake(demand, now)
    }

    fn shape(&self, now: Instant) -> Shape {
        Shape {
            size: self.size,
            window: self.window(),
            paced: self.windows.len() > 1,
            reach: [0, self.windows.len() - 1].map(|index| self.windows[index].reach()),
            spread: self.spread_until.is_some_and(|until| now < until),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn window(&self) -> Duration {
        self.windows[0].length()
    }

    /// Calls in the window, ours and those of others.
    pub(super) fn used(&self, now: Instant) -> u64 {
        (self.windows[0].used() as u64).saturating_add(self.foreign(now)).min(self.size)
    }

    /// When at least one more call fits.
    pub(super) fn resets(&self, now: Instant) -> Instant {
        self.opens(0, now)
    }

    /// Until when a 429 keeps it closed.
    pub(super) fn closed_until(&self, now: Instant) -> Option<Instant> {
        self.closed_until.filter(|until| *until > now)
    }

    /// Calls of each caller in the window; a call that shared a permit counts as its part.
    pub(super) fn users(&self) -> impl Iterator<Item = (&Caller, f64)> {
        self.users.iter().flat_map(|(_, users)| {
            let all: u32 = users.iter().map(|(_, calls)| calls).sum();
            users
                .iter()
                .map(move |(caller, calls)| (caller, f64::from(*calls) / f64::from(all.max(1))))
        })
    }

    /// When the permit after `ahead` others can be given.
    pub(super) fn opens(&self, ahead: usize, now: Instant) -> Instant {
        if let Some(lease) = self.live() {
            let opens = lease.opens(ahead, self.gap(now), now);
            return opens.max(self.closed_until.unwrap_or(now));
        }
        if self.lease.as_ref().is_some_and(Lease::is_starting) {
            // Not at hand, and whoever waits for it makes the ledger known, however short it waits.
            return now + NEARLY;
        }
        let nothing = |lease: &Lease| self.ours(lease, now) == 0;
        if self.lease.as_ref().is_some_and(nothing) {
            return now + self.window() / LOOKS;
        }
        let limits = self.limits(now);
        let opens =
            self.windows.iter().zip(limits).map(|(window, limit)| window.opens(limit, ahead, now));
        let mut opens = opens.max().unwrap_or(now).max(self.closed_until.unwrap_or(now));
        if let Some(due) = self.due.filter(|_| self.is_spread(now)) {
            let gaps = u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1);
            opens = opens.max(due + self.gap(now).saturating_mul(gaps));
        }
        opens
    }

    /// When to look whether a permit can be given; `None` if one can be given now. What others use
    /// may change although nobody tells.
    pub(super) fn waits(&self, now: Instant) -> Option<Instant> {
        let opens = Some(self.opens(0, now)).filter(|opens| *opens > now);
        let must_hear = self.minds_others() && self.others.keep_waiting(self.own(), now);
        if opens.is_none() && !must_hear {
            return None;
        }
        let about = match &self.lease {
            None => self.others.are_about(now),
            Some(lease) => !lease.is_live() && self.foreign(now) > 0,
        };
        let changes = must_hear || about;
        opens.into_iter().chain(changes.then(|| now + self.window() / LOOKS)).min()
    }

    /// Takes a slot. `together` calls go with it.
    pub(super) fn take(&mut self, users: Users, together: usize, now: Instant) -> u64 {
        let gap = self.gap(now);
        // What was late by less than half a gap is made up for, or lateness would add up.
        let planned = self.due.map(|due| due + gap).filter(|planned| *planned + gap / 2 > now);
        self.due = Some(planned.unwrap_or(now).min(now));
        if together > 1 {
            self.spread_until = Some(now + SECOND);
        }
        let mut number = 0;
        for window in &mut self.windows {
            number = window.take();
        }
        self.others.take(number);
        self.users.push_back((number, users));
        if let Some(lease) = self.lease.as_mut() {
            lease.take(number, now);
        }
        number
    }

    pub(super) fn sent(&mut self, number: u64, now: Instant) {
        self.others.sent(number, now);
        self.windows.iter_mut().for_each(|window| window.sent(number, now));
        if let Some(lease) = self.lease.as_mut() {
            lease.change(number);
        }
    }

    pub(super) fn done(&mut self, number: u64, now: Instant) {
        self.others.done(number, self.window(), now);
        self.windows.iter_mut().for_each(|window| window.done(number, now));
        if let Some(lease) = self.lease.as_mut() {
            lease.change(number);
        }
    }

    pub(super) fn give_back(&mut self, number: u64) {
        self.others.give_back(number);
        self.windows.iter_mut().for_each(|window| window.give_back(number));
        self.users.retain(|(own, _)| *own != number);
        if let Some(lease) = self.lease.as_mut() {
            lease.give_back(number);
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.windows.iter_mut().for_each(|window| window.expire(now));
        let first = self.windows[0].first();
        while self.users.front().is_some_and(|(number, _)| *number < first) {
            self.users.pop_front();
        }
        if let Some(lease) = self.lease.as_mut() {
            lease.expire(now);
            lease.forget(first);
        }
    }

    /// What HubSpot may count when a call is sent now.
    pub(super) fn oldest(&self) -> Oldest {
        match self.live() {
            Some(lease) => Oldest { in_ledger: true, number: lease.oldest() },
            None => Oldest { in_ledger: false, number: self.windows[0].first() },
        }
    }

    /// Takes over what an answer says. `oldest` is from when its call was sent: the slots since then
    /// are the most that HubSpot can have counted as ours.
    pub(super) fn learn(&mut self, told: ObservedLimit, number: u64, oldest: Oldest, now: Instant) {
        let shape = self.shape(now);
        let told = ObservedLimit {
            size: told.size.filter(|size| (1..=MAX_SIZE).contains(size)),
            window: told.window.filter(|window| WINDOWS.contains(window)),
            remaining: told.remaining,
        };
        if let Some(lease) = self.lease.as_mut().filter(|lease| lease.is_live()) {
            // The ledger knows what is of other replicas, and hands the limit to all of them.
            if oldest.in_ledger {
                lease.learn(told, oldest.number, shape);
            }
            return;
        }
        if let Some(size) = told.size {
            self.size = size;
            self.others.explain(size);
        }
        if let Some(window) = told.window {
            self.windows[0].set_length(window);
        }
        if let Some(remaining) = told.remaining.filter(|_| !oldest.in_ledger) {
            let used = self.size.saturating_sub(remaining);
            let ours = self.windows[0].next().saturating_sub(oldest.number);
            self.others.learn(used, ours, number, self.window(), now);
            // What the ledger said last is rather too much; more than that is news.
            let told = used.saturating_sub(ours);
            if self.lease.is_some() && told > self.foreign(now) {
                self.foreign = Some(Foreign { told: now, calls: Calls::Even(told) });
            }
        }
    }

    /// HubSpot has refused a call: nothing goes before that time is over.
    pub(super) fn close(&mut self, until: Instant, now: Instant) {
        self.others.suspect(self.own(), until, now);
        self.closed_until = Some(self.closed_until.map_or(until, |known| known.max(until)));
        if let Some(lease) = self.lease.as_mut() {
            lease.close(until);
        }
    }

    /// Calls of others that are still in the window.
    fn foreign(&self, now: Instant) -> u64 {
        if self.lease.is_none() {
            return self.others.calls(self.window(), now);
        }
        let Some(Foreign { told, calls }) = self.foreign else { return 0 };
        let length = self.window().as_millis().max(1);
        let since = now.saturating_duration_since(told).as_millis();
        match calls {
            Calls::Even(calls) => {
                let left = u128::from(calls) * length.saturating_sub(since) / length;
                u64::try_from(left).unwrap_or(calls)
            }
            Calls::Leaving(leaving) => {
                let over = usize::try_from(since * TENTHS as u128 / length).unwrap_or(TENTHS);
                leaving.iter().skip(over).sum()
            }
        }
    }

    fn own(&self) -> Own {
        Own { size: self.size, window: self.window(), used: self.windows[0].used() as u64 }
    }

    /// Whether answers tell what is left: not those to searches.
    fn is_told(&self) -> bool {
        self.windows.len() > 1
    }

    /// Whether others have to be reckoned with here. Where replicas share the limit, the ledger does.
    fn minds_others(&self) -> bool {
        self.is_told() && self.lease.is_none()
    }

    /// Whether slots are spread evenly.
    fn is_spread(&self, now: Instant) -> bool {
        self.spread_until.is_some_and(|until| now < until)
            || (self.minds_others() && self.others.make_scarce(self.own(), now))
    }

    /// How many of our calls the longest window may hold, where replicas share the limit. Without the
    /// ledger that may be none for now: what is known of the others gets less with time.
    fn ours(&self, lease: &Lease, now: Instant) -> u64 {
        if lease.is_live() {
            return self.size;
        }
        let replicas = u64::from(lease.replicas());
        let own = self.windows[0].used() as u64;
        let rest = self.size.saturating_sub(self.foreign(now));
        let part = own + rest.saturating_sub(own) / replicas;
        // One less: it may be under way while replicas find back to the ledger one by one.
        part.min((self.size / replicas).saturating_sub(1).max(1))
    }

    /// How many of our calls each window may hold.
    fn limits(&self, now: Instant) -> impl Iterator<Item = usize> {
        let limits = match &self.lease {
            None if self.is_told() => {
                let (own, a_second) = (self.own(), self.size / PART_A_SECOND);
                [self.others.leave(own, now), self.others.pace(own, a_second, now)]
            }
            None => [self.size; 2],
            Some(lease) => {
                let ours = self.ours(lease, now);
                let in_second = match self.is_told() {
                    false => ours,
                    true if lease.is_live() => ours / PART_A_SECOND,
                    // The parts of replicas are small: to round them down would leave much unused.
                    true => ours.div_ceil(PART_A_SECOND),
                };
                [ours, in_second]
            }
        };
        limits.into_iter().map(|limit| usize::try_from(limit).unwrap_or(usize::MAX).max(1))
    }

    /// Time from one slot to the next where they are spread evenly.
    fn gap(&self, now: Instant) -> Duration {
        let in_second = self.limits(now).nth(self.windows.len() - 1).unwrap_or(1);
        SECOND / u32::try_from(in_second).unwrap_or(u32::MAX).max(1)
    }
}
