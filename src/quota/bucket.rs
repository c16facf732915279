//! One of HubSpot's limits: how many calls it allows, how many are used, by us and by others, and
//! when the next one may go.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{Caller, window::Window};

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
    /// Calls in the window that are not ours, and when that was told.
    foreign: Option<(u64, Instant)>,
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
            foreign: None,
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
        if let (Some(spread), Some(due)) = (self.spread_until, self.due)
            && now < spread
        {
            let gaps = u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1);
            opens = opens.max(due + self.gap(now).saturating_mul(gaps));
        }
        opens
    }

    /// Whether what others use may have changed by then although nobody tells.
    pub(super) fn look_again(&self, now: Instant) -> Option<Instant> {
        (self.foreign(now) > 0).then(|| now + self.window() / 20)
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
        self.users.push_back((number, users));
        number
    }

    pub(super) fn sent(&mut self, number: u64, now: Instant) {
        self.windows.iter_mut().for_each(|window| window.sent(number, now));
    }

    pub(super) fn done(&mut self, number: u64, now: Instant) {
        self.windows.iter_mut().for_each(|window| window.done(number, now));
    }

    pub(super) fn give_back(&mut self, number: u64) {
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
    pub(super) fn learn(&mut self, told: Told, oldest: u64, now: Instant) {
        if let Some(size) = told.size.filter(|size| (1..=MAX_SIZE).contains(size)) {
            self.size = size;
        }
        if let Some(window) = told.window.filter(|window| !window.is_zero()) {
            self.windows[0].set_length(window);
        }
        if let Some(remaining) = told.remaining {
            let used = self.size.saturating_sub(remaining);
            let ours = self.windows[0].next().saturating_sub(oldest);
            self.foreign = Some((used.saturating_sub(ours), now));
        }
    }

    /// HubSpot has refused a call: nothing goes before that time is over.
    pub(super) fn close(&mut self, until: Instant) {
        self.closed_until = Some(self.closed_until.map_or(until, |known| known.max(until)));
    }

    /// Calls of others that are still in the window: those told of leave it evenly.
    fn foreign(&self, now: Instant) -> u64 {
        let Some((calls, told)) = self.foreign else { return 0 };
        let length = self.window().as_millis().max(1);
        let left = length.saturating_sub(now.saturating_duration_since(told).as_millis());
        let left = u128::from(calls) * left / length;
        u64::try_from(left).unwrap_or(calls)
    }

    /// How many of our calls each window may hold. One is always allowed, or nothing would be
    /// learned.
    fn limits(&self, now: Instant) -> impl Iterator<Item = usize> {
        let ours = self.size.saturating_sub(self.foreign(now)).max(1);
        let in_second = if self.windows.len() > 1 { (ours / PART_A_SECOND).max(1) } else { ours };
        [ours, in_second].into_iter().map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// Time from one slot to the next where they are spread evenly.
    fn gap(&self, now: Instant) -> Duration {
        let in_second = self.limits(now).nth(self.windows.len() - 1).unwrap_or(1);
        SECOND / u32::try_from(in_second).unwrap_or(u32::MAX).max(1)
    }
}
