//! One of HubSpot's limits: how many calls it allows, how many are used, by us and by others, and
//! when the next one may go.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    Caller,
    others::{Others, Own},
    window::Window,
};

/// How long a call may be on its way to HubSpot, as far as the limit of a second is concerned. A
/// longer hold would cost more of a second than that limit, which HubSpot does not document, is
/// worth: 2.5 %.
const REACH_SECOND: Duration = Duration::from_millis(25);

/// The same for the window that HubSpot documents; 2.5 % of it.
const REACH_WINDOW: Duration = Duration::from_millis(250);

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
pub struct Told {
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
    /// Who has used the slots of the longest window.
    users: VecDeque<(u64, Users)>,
    /// When the newest slot was due.
    due: Option<Instant>,
    /// While calls leave together, slots are spread evenly until then, so that each can take as many
    /// as possible.
    spread_until: Option<Instant>,
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
            users: VecDeque::new(),
            due: None,
            spread_until: None,
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
        let must_hear = self.is_told() && self.others.keep_waiting(self.own(), now);
        if opens.is_none() && !must_hear {
            return None;
        }
        let changes = must_hear || self.others.are_about(now);
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
        number
    }

    pub(super) fn sent(&mut self, number: u64, now: Instant) {
        self.others.sent(number, now);
        self.windows.iter_mut().for_each(|window| window.sent(number, now));
    }

    pub(super) fn done(&mut self, number: u64, now: Instant) {
        self.others.done(number, self.window(), now);
        self.windows.iter_mut().for_each(|window| window.done(number, now));
    }

    pub(super) fn give_back(&mut self, number: u64) {
        self.others.give_back(number);
        self.windows.iter_mut().for_each(|window| window.give_back(number));
        self.users.retain(|(own, _)| *own != number);
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.windows.iter_mut().for_each(|window| window.expire(now));
        let first = self.windows[0].first();
        while self.users.front().is_some_and(|(number, _)| *number < first) {
            self.users.pop_front();
        }
    }

    /// Number of the oldest slot that HubSpot may count when a call is sent now.
    pub(super) fn oldest(&self) -> u64 {
        self.windows[0].first()
    }

    /// Takes over what an answer says. `oldest` is from when its call was sent: the slots since then
    /// are the most that HubSpot can have counted as ours.
    pub(super) fn learn(&mut self, told: Told, number: u64, oldest: u64, now: Instant) {
        if let Some(size) = told.size.filter(|size| (1..=MAX_SIZE).contains(size)) {
            self.size = size;
        }
        if let Some(window) = told.window.filter(|window| !window.is_zero()) {
            self.windows[0].set_length(window);
        }
        if let Some(remaining) = told.remaining {
            let used = self.size.saturating_sub(remaining);
            let ours = self.windows[0].next().saturating_sub(oldest);
            self.others.learn(used, ours, number, self.window(), now);
        }
    }

    /// HubSpot has refused a call: nothing goes before that time is over.
    pub(super) fn close(&mut self, until: Instant) {
        self.others.suspect(until);
        self.closed_until = Some(self.closed_until.map_or(until, |known| known.max(until)));
    }

    /// Calls of others that are still in the window.
    fn foreign(&self, now: Instant) -> u64 {
        self.others.calls(self.window(), now)
    }

    fn own(&self) -> Own {
        Own { size: self.size, window: self.window(), used: self.windows[0].used() as u64 }
    }

    /// Whether answers tell what is left: not those to searches.
    fn is_told(&self) -> bool {
        self.windows.len() > 1
    }

    /// Whether slots are spread evenly.
    fn is_spread(&self, now: Instant) -> bool {
        self.spread_until.is_some_and(|until| now < until)
            || (self.is_told() && self.others.make_scarce(self.own(), now))
    }

    /// How many of our calls each window may hold. One is always allowed, or nothing would be
    /// learned.
    fn limits(&self, now: Instant) -> impl Iterator<Item = usize> {
        let limits = if self.is_told() {
            let (own, a_second) = (self.own(), self.size / PART_A_SECOND);
            [self.others.leave(own, now), self.others.pace(own, a_second, now)]
        } else {
            [self.size; 2]
        };
        limits.into_iter().map(|limit| usize::try_from(limit).unwrap_or(usize::MAX).max(1))
    }

    /// Time from one slot to the next where they are spread evenly.
    fn gap(&self, now: Instant) -> Duration {
        let in_second = self.limits(now).nth(self.windows.len() - 1).unwrap_or(1);
        SECOND / u32::try_from(in_second).unwrap_or(u32::MAX).max(1)
    }
}
