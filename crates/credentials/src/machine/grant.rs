//! What the token endpoint says, and what to do about a credential it refuses.

use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::{Machine, Now, PendingWriteBack, Validity};
use crate::{
    GrantError, RefreshRequest, TokenResponse, schedule,
    status::{Count, FailureClass},
};
use leadsd_base::{secret::Secret, time::Timestamp};

impl Machine {
    /// The grant to send now, if one is due.
    pub(super) fn next_grant(&mut self, now: Instant) -> Option<RefreshRequest> {
        let due = self.refresh.is_due(now) && self.grant_floor().is_none_or(|floor| floor <= now);
        if !due || self.grant_busy || !self.knows_newest(now) {
            return None;
        }
        let grant = self.grant();
        self.refresh.due = None;
        self.refresh_wall = None;
        if grant.is_some() {
            self.grant_busy = true;
            self.granted_at = Some(now);
        }
        grant
    }

    /// Before this, no grant is sent.
    pub(super) fn grant_floor(&self) -> Option<Instant> {
        self.granted_at.map(|at| at + schedule::GRANT_FLOOR)
    }

    /// A refresh whose time has passed on the wall clock is due, whatever the monotonic clock says:
    /// it may have stood still while the machine slept.
    pub(super) fn look_at_wall_clock(&mut self, now: Now) {
        if self.refresh_wall.take_if(|at| *at <= now.wall).is_some()
            && !self.refresh.is_due(now.at)
            && !self.grant_busy
        {
            info!(portal = %self.portal, "Wall clock is past the planned refresh; refreshing");
            self.refresh.by(now.at);
        }
    }

    /// The token endpoint answered `grant`, which was sent at `sent`.
    pub(crate) fn answered(
        &mut self,
        grant: &RefreshRequest,
        sent: Instant,
        result: Result<TokenResponse, GrantError>,
        now: Now,
    ) {
        self.grant_busy = false;
        let result = result.and_then(|granted| match granted.access_token.is_empty() {
            true => Err(GrantError::Unavailable("the answer has an empty token".to_owned())),
            false => Ok(granted),
        });
        match result {
            Ok(granted) => self.granted(grant, sent, granted, now),
            Err(GrantError::Rejected { code }) => self.refused(grant, &code, now.at),
            Err(GrantError::Throttled { retry_after }) => {
                self.postponed(grant, &GrantError::Throttled { retry_after }, retry_after, now.at);
            }
            Err(error @ GrantError::Unavailable(_)) => self.postponed(grant, &error, None, now.at),
        }
        if self.asking_about.is_some() {
            self.read.by(now.at);
        }
    }

    fn granted(&mut self, grant: &RefreshRequest, sent: Instant, granted: TokenResponse, now: Now) {
        let TokenResponse { access_token, expires_in, refresh_token } = granted;
        self.meter.count(Count::GrantOk);
        let current = self.grant();
        self.keep_refresh_token(grant, current.as_ref(), refresh_token, now.at);
        let same_app = |current: &RefreshRequest| current.client_id == grant.client_id;
        let Some(current) = current.filter(same_app) else {
            debug!(portal = %self.portal, "Token dropped: the secret has changed meanwhile");
            return;
        };
        if let Some(trouble) = self.grant_trouble.take() {
            info!(portal = %self.portal, was = trouble.as_str(), "Token endpoint answers again");
        }
        self.standing = Validity::Valid;
        self.refresh.done();

        let life = schedule::life(expires_in);
        // It may have been issued as early as the grant was sent. A slow answer must not make a
        // token unusable that lives shorter than the answer took.
        let counted = life.saturating_sub(now.at.saturating_duration_since(sent)).max(life / 2);
        self.publish(access_token, Some(now.at + counted), now.at);
        let plan = schedule::refresh_after(counted, self.roll());
        if current.client_secret == grant.client_secret {
            self.refresh.by(now.at + plan);
            self.refresh_wall = Some(now.wall.checked_add(plan).unwrap_or(Timestamp::MAX));
        } else {
            self.refresh.by(now.at);
        }
        debug!(
            portal = %self.portal,
            generation = self.generation,
            expires_in_s = counted.as_secs(),
            refresh_in_s = plan.as_secs(),
            "Access token refreshed"
        );
    }

    /// Makes sure that a refresh token which came with an answer is not lost.
    fn keep_refresh_token(
        &mut self,
        grant: &RefreshRequest,
        current: Option<&RefreshRequest>,
        new: Option<Secret>,
        now: Instant,
    ) {
        let new = new.filter(|new| !new.is_empty() && *new != grant.refresh_token);
        let Some(current) = current.filter(|current| current.client_id == grant.client_id) else {
            return;
        };
        if current.refresh_token != grant.refresh_token {
            // The secret moved on while the grant was under way.
            if new.is_some() {
                self.spare = new;
            }
            return;
        }
        self.spare = None;
        if let Some(refresh_token) = new {
            self.unsaved = Some(PendingWriteBack::new(refresh_token, true, now));
        } else if let Some(unsaved) = self.unsaved.as_mut().filter(|unsaved| !unsaved.proven) {
            unsaved.proven = true;
            unsaved.due = now;
        }
    }

    fn postponed(
        &mut self,
        grant: &RefreshRequest,
        error: &GrantError,
        asked: Option<std::time::Duration>,
        now: Instant,
    ) {
        self.meter.count(Count::GrantFailed);
        self.settled = true;
        let trouble = FailureClass::from(error);
        if Self::noted(&mut self.last_failure, &mut self.grant_trouble, trouble) {
            let detail = self.without_secrets(error.to_string(), Some(grant));
            warn!(
                portal = %self.portal,
                trouble = trouble.as_str(),
                error = detail,
                usable = self.usable(now),
                "Access token not refreshed; trying on"
            );
        }
        self.refresh.failures = self.refresh.failures.saturating_add(1);
        if matches!(self.standing, Validity::Suspended { .. }) {
            // It was only the heartbeat.
            return;
        }
        let wait = schedule::retry_after(self.refresh.failures, asked, self.left(now), self.roll());
        let changed = self.grant().is_some_and(|current| current != *grant);
        self.refresh.by(if changed { now } else { now + wait });
    }

    fn refused(&mut self, grant: &RefreshRequest, code: &str, now: Instant) {
        self.meter.count(Count::GrantRejected);
        self.refresh.failures = self.refresh.failures.saturating_add(1);
        Self::noted(&mut self.last_failure, &mut self.grant_trouble, FailureClass::GrantRejected);
        let code = oauth_code(code);
        warn!(portal = %self.portal, code, "Token endpoint refuses the credential");
        if self.grant().is_none_or(|current| current != *grant) {
            // Another secret was adopted meanwhile: this refusal says nothing about it.
            self.refresh.by(now);
            return;
        }
        if let Some(unsaved) = self.unsaved.take_if(|unsaved| !unsaved.proven) {
            debug!(portal = %self.portal, "Spare refresh token does not work either");
            drop(unsaved);
        }
        if !matches!(self.standing, Validity::Suspended { .. }) {
            self.standing = Validity::Suspect { looks: 0 };
        }
        self.read.by(now);
    }

    /// The store was looked at again and has the credential that was refused: try the spare, look
    /// again a little later, or give up.
    pub(super) fn look_again(&mut self, now: Instant) {
        let Validity::Suspect { looks } = self.standing else { return };
        if let Some(refresh_token) = self.spare.take() {
            // Our own token that lost the race for the store. An endpoint that lets only the newest
            // token live has ended the winner's with it.
            self.unsaved = Some(PendingWriteBack::new(refresh_token, false, now));
            self.standing = Validity::Valid;
            self.refresh.by(now);
        } else if let Some(wait) = schedule::settle_after(looks) {
            self.standing = Validity::Suspect { looks: looks + 1 };
            let look = now + wait;
            self.poll_at = Some(self.poll_at.map_or(look, |at| at.min(look)));
        } else {
            self.give_up_doubt(now);
        }
    }

    /// Parks a credential in doubt: nobody can say whether there is a newer one.
    pub(super) fn give_up_doubt(&mut self, now: Instant) {
        if matches!(self.standing, Validity::Suspect { .. }) {
            let why = "the token endpoint refuses it, and the secret store has no other".to_owned();
            self.park(FailureClass::GrantRejected, why, now);
        }
    }

    pub(super) fn park(&mut self, trouble: FailureClass, why: String, now: Instant) {
        self.last_failure = Some(trouble);
        self.settled = true;
        self.refresh.due = None;
        let parked =
            matches!(&self.standing, Validity::Suspended { trouble: was, .. } if *was == trouble);
        if parked {
            return;
        }
        let why = self.without_secrets(why, None);
        error!(
            portal = %self.portal,
            trouble = trouble.as_str(),
            why,
            usable = self.usable(now),
            "Credential does not work; waiting for another secret"
        );
        let heartbeat = now + schedule::heartbeat_after(self.heartbeat, self.roll());
        self.standing = Validity::Suspended { why: why.into(), trouble, heartbeat };
    }
}

/// The code if it looks like one; a text from outside is not passed on.
fn oauth_code(code: &str) -> &str {
    let looks_like_one =
        code.len() <= 40 && code.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    if looks_like_one { code } else { "unknown" }
}
