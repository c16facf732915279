//! What others take of a limit: replicas that share no ledger, or another program with the same
//! credential. HubSpot tells how much is left of the whole, and not how many others there are.
//!
//! Whoever knows of others takes at most nine tenths of what they leave. All who do so end up with the
//! same, whatever each began with: each has nine times what nobody takes. Two use 95 % of the limit so,
//! three 96 %. From four on what is left is less than what may be on its way at the same time: those
//! had better share a ledger.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// Part of what others leave that is taken, in hundredths.
const PART: u64 = 90;

/// Part of the limit that is left to others who have not been seen yet, in hundredths: enough for a
/// call to get in and be seen.
const DOOR: u64 = 1;

/// How long others who were seen are taken to be about.
const MEMORY: Duration = Duration::from_secs(60);

/// How long what was told holds for more than one call: in a second others may use up what there is.
const FRESH: Duration = Duration::from_millis(250);

/// The same if nothing was left, and at the most.
const STALE: Duration = Duration::from_secs(1);

/// As many others are reckoned with at the most.
const MOST: u64 = 16;

/// In how many seconds a part that is too small grows to what it should be.
const GROWTH: u64 = 3;

/// Part of a limit within which slots are spread evenly, if that is all there is left of it.
const SCARCE: u64 = 4;

/// What is known of others.
#[derive(Debug, Default)]
pub(super) struct Others {
    told: Option<Told>,
    /// Number of the newest call whose answer told.
    told_by: Option<u64>,
    /// Until when they are taken to be about.
    about_until: Option<Instant>,
    /// How many calls of ours were in the window when a refusal made us take them to be about, if
    /// nothing else has.
    suspected_at: Option<u64>,
    /// Our calls under way, and when they were sent, if they were.
    under_way: BTreeMap<u64, Option<Instant>>,
    /// When our calls of the last two windows are thought to have arrived, the oldest first.
    arrived: VecDeque<Instant>,
    /// Whether a call has ever come back.
    met: bool,
}

/// What an answer told.
#[derive(Debug)]
struct Told {
    /// Calls of others in the window.
    calls: u64,
    at: Instant,
    /// How long the call took.
    took: Duration,
}

/// How a limit stands without regard to others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    /// The limit.
    pub(super) size: u64,
    /// Its window.
    pub(super) window: Duration,
    /// Our calls in it.
    pub(super) used: u64,
}

// === impl Others ===

impl Others {
    /// A call takes its slot.
    pub(super) fn take(&mut self, number: u64) {
        self.under_way.insert(number, None);
    }

    /// A call is sent.
    pub(super) fn sent(&mut self, number: u64, now: Instant) {
        self.under_way.insert(number, Some(now));
    }

    /// A call is not made after all.
    pub(super) fn give_back(&mut self, number: u64) {
        self.under_way.remove(&number);
    }

    /// A call is over.
    pub(super) fn done(&mut self, number: u64, window: Duration, now: Instant) {
        let Some(sent) = self.under_way.remove(&number).flatten() else { return };
        self.met = true;
        let arrived = between(sent, now);
        let place = self.arrived.partition_point(|other| *other <= arrived);
        self.arrived.insert(place, arrived);
        while self.arrived.front().is_some_and(|first| *first + window * 2 <= now) {
            self.arrived.pop_front();
        }
    }

    /// The answer to a call tells how many calls are in the window. At most `ours` of them can be
    /// ours: if it is more, there are others.
    pub(super) fn learn(
        &mut self,
        used: u64,
        ours: u64,
        number: u64,
        window: Duration,
        now: Instant,
    ) {
        let certain = used.saturating_sub(ours);
        if certain > 0 {
            self.about_until = Some(now + MEMORY);
            self.suspected_at = None;
        }
        let sent = self.under_way.get(&number).copied().flatten().unwrap_or(now);
        let likely = used.saturating_sub(self.counted(sent, window, now));
        let took = now.saturating_duration_since(sent);
        self.told = Some(Told { calls: certain.max(likely), at: now, took });
        self.told_by = self.told_by.max(Some(number));
    }

    /// HubSpot refuses a call. Unless we have used up the limit ourselves there are others, and until
    /// that time nothing is heard of them.
    pub(super) fn suspect(&mut self, own: Own, until: Instant, now: Instant) {
        if own.used >= own.size {
            return;
        }
        if !self.are_about(now) {
            self.suspected_at = Some(own.used);
        }
        self.about_until = Some(until + MEMORY);
    }

    /// The limit turns out to be this. If a refusal is explained by that, there was no other.
    pub(super) fn explain(&mut self, size: u64) {
        if self.suspected_at.take_if(|used| *used >= size).is_some() {
            self.about_until = None;
        }
    }

    /// Whether there are others, as far as is known.
    pub(super) fn are_about(&self, now: Instant) -> bool {
        self.about_until.is_some_and(|until| now < until)
    }

    /// Their calls in the window: as many as were told of, for they make new ones while the old leave
    /// it.
    pub(super) fn calls(&self, window: Duration, now: Instant) -> u64 {
        let known = |told: &&Told| self.are_about(now) && now < told.at + window;
        self.told.as_ref().filter(known).map_or(0, |told| told.calls)
    }

    /// How many of our calls the window may hold.
    pub(super) fn leave(&self, own: Own, now: Instant) -> u64 {
        let rest = own.size.saturating_sub(self.calls(own.window, now));
        if !self.are_about(now) {
            return rest - own.size * DOOR / 100;
        }
        let part = rest * PART / 100;
        // Others make room for somebody new, who has to look whether they have.
        let is_old = self.told.as_ref().is_none_or(|told| now >= told.at + STALE);
        if is_old && self.is_new(own, now) { part.max(own.used + 1) } else { part }
    }

    /// How many of our calls may go in a second, of which HubSpot allows `most` to all.
    pub(super) fn pace(&self, own: Own, most: u64, now: Instant) -> u64 {
        if !self.are_about(now) {
            return most;
        }
        let leave = self.leave(own, now);
        let even = (leave * most).div_ceil(own.size.max(1));
        even.max(leave.saturating_sub(own.used) / GROWTH).min(most)
    }

    /// Whether so little is left that slots are spread evenly: calls that go at the same time do not
    /// see each other.
    pub(super) fn make_scarce(&self, own: Own, now: Instant) -> bool {
        self.are_about(now) && self.left(own, now) < own.size / SCARCE
    }

    /// Whether the next call has to wait until an answer tells how things stand. Others are taken to
    /// have made calls since the last one as we have, each in proportion to its part.
    pub(super) fn keep_waiting(&self, own: Own, now: Instant) -> bool {
        if self.met && !self.are_about(now) {
            return false;
        }
        let since = self.told_by.map_or(0, |number| number + 1);
        // Nobody waits for a call that takes long.
        let is_soon = |sent: &Option<Instant>| sent.is_none_or(|sent| now < sent + STALE);
        let unheard =
            self.under_way.range(since..).filter(|(_, sent)| is_soon(sent)).count() as u64;
        let Some(told) = &self.told else { return unheard > 0 };
        let left = self.left(own, now);
        let holds = if left < 2 { STALE } else { (told.took * 2).clamp(FRESH, STALE) };
        if now >= told.at + holds {
            return unheard > 0;
        }
        if self.is_new(own, now) {
            return unheard > 0 || left < 2;
        }
        let all = self.calls(own.window, now) + own.used;
        (unheard + 1) * all > left * own.used
    }

    /// Whether we have no part worth the name yet.
    fn is_new(&self, own: Own, now: Instant) -> bool {
        own.used * MOST <= self.calls(own.window, now) + own.used
    }

    /// Calls that nobody has taken.
    fn left(&self, own: Own, now: Instant) -> u64 {
        own.size.saturating_sub(self.calls(own.window, now)).saturating_sub(own.used)
    }

    /// How many of our calls HubSpot is thought to have counted when a call came that was sent then
    /// and is answered now.
    fn counted(&self, sent: Instant, window: Duration, now: Instant) -> u64 {
        let at = between(sent, now);
        let before = |other: &&Option<Instant>| other.is_some_and(|other| other <= sent);
        let under_way = self.under_way.values().filter(before).count();
        let until = self.arrived.partition_point(|other| *other <= at);
        let since = self.arrived.partition_point(|other| *other + window <= at);
        (under_way + until - since) as u64
    }
}

/// A call arrives some time between when it was sent and when its answer is here.
fn between(sent: Instant, answered: Instant) -> Instant {
    sent + answered.saturating_duration_since(sent) / 2
}
