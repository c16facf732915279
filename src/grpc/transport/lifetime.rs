//! Times at which a connection is closed: its maximum age, the expiry of its certificate, and the end of
//! its idle time.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{conn_info::ConnInfo, connection_stage::StageChange, connection_stats::CloseReason};

/// Maximum idle time of a connection whose caller is not known. It is short, because a stranger may have
/// many of these.
const UNIDENTIFIED_IDLE: Duration = Duration::from_secs(30);

/// Maximum age of a connection over the limit.
const OVER_LIMIT_AGE: Duration = Duration::from_secs(2);

/// Lifetime of one connection.
#[derive(Debug)]
pub(crate) struct Lifetime {
    /// Time at which the connection is closed for `reason`.
    expires: Instant,
    reason: CloseReason,
    /// Maximum idle time of an identified connection.
    max_idle: Duration,
    /// Maximum idle time at present.
    idle: Duration,
    /// Time at which the connection is closed if it has had no call since the last check.
    idle_check: Instant,
    /// Number of calls at the last check.
    calls: u64,
}

// === impl Lifetime ===

impl Lifetime {
    /// Lifetime of a new, unidentified connection.
    pub(crate) fn new(
        max_age: Duration,
        certificate_expires: Option<Instant>,
        max_idle: Duration,
    ) -> Self {
        let now = Instant::now();
        let age = now + max_age;
        let (expires, reason) = match certificate_expires {
            Some(expires) if expires < age => (expires, CloseReason::Certificate),
            Some(_) | None => (age, CloseReason::Age),
        };
        let idle = UNIDENTIFIED_IDLE.min(max_idle);
        Self { expires, reason, max_idle, idle, idle_check: now + idle, calls: 0 }
    }

    /// Time of the next check.
    pub(crate) fn next_check(&self) -> Instant {
        self.expires.min(self.idle_check)
    }

    /// Returns the reason to close the connection now, if there is one.
    pub(crate) fn check(&mut self, connection: &Arc<ConnInfo>) -> Option<CloseReason> {
        let now = Instant::now();
        if now >= self.expires {
            return Some(self.reason);
        }
        if now < self.idle_check {
            return None;
        }
        let calls = connection.calls();
        if calls == self.calls && !ConnInfo::has_calls(connection) {
            return Some(CloseReason::Idle);
        }
        self.calls = calls;
        self.idle_check = now + self.idle;
        None
    }

    /// Gives an identified connection its idle time, and closes one over the limit soon: its calls get an
    /// error until then.
    pub(crate) fn on_change(&mut self, change: StageChange) {
        let now = Instant::now();
        match change {
            StageChange::Identified => {
                self.idle = self.max_idle;
                self.idle_check = now + self.idle;
            }
            StageChange::OverLimit => {
                let soon = now + OVER_LIMIT_AGE;
                if soon < self.expires {
                    (self.expires, self.reason) = (soon, CloseReason::OverLimit);
                }
            }
            // The connection ends at once.
            StageChange::Cancellations => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use tokio::time::sleep_until;

    use super::*;
    use crate::grpc::transport::call_state::testing;

    const AGE: Duration = Duration::from_secs(1_800);
    const IDLE: Duration = Duration::from_secs(300);

    /// Connection as its server holds it: once for itself, once in its service.
    fn connection() -> [Arc<ConnInfo>; 2] {
        let connection = Arc::new(testing::connection());
        [Arc::clone(&connection), connection]
    }

    /// Waits until the connection is closed; returns the seconds from `start` and the reason.
    async fn closed(
        lifetime: &mut Lifetime,
        connection: &Arc<ConnInfo>,
        start: Instant,
    ) -> (u64, CloseReason) {
        loop {
            sleep_until(lifetime.next_check()).await;
            if let Some(reason) = lifetime.check(connection) {
                return (start.elapsed().as_secs(), reason);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_calls_ends_after_its_idle_time() {
        let [connection, _service] = connection();
        let start = Instant::now();
        let mut lifetime = Lifetime::new(AGE, None, IDLE);
        assert_eq!(closed(&mut lifetime, &connection, start).await, (30, CloseReason::Idle));
        let start = Instant::now();
        let mut lifetime = Lifetime::new(AGE, None, IDLE);
        lifetime.on_change(StageChange::Identified);
        assert_eq!(closed(&mut lifetime, &connection, start).await, (300, CloseReason::Idle));
        let start = Instant::now();
        let mut lifetime = Lifetime::new(AGE, None, Duration::from_secs(10));
        assert_eq!(closed(&mut lifetime, &connection, start).await, (10, CloseReason::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_keep_a_connection_until_its_maximum_age() {
        let [connection, _service] = connection();
        let start = Instant::now();
        let mut lifetime = Lifetime::new(AGE, None, IDLE);
        lifetime.on_change(StageChange::Identified);
        // A long call.
        let call = Arc::clone(&connection);
        assert_eq!(closed(&mut lifetime, &connection, start).await, (1_800, CloseReason::Age));
        drop(call);
        // Short calls in the first 400 s.
        let start = Instant::now();
        let mut lifetime = Lifetime::new(AGE, None, IDLE);
        lifetime.on_change(StageChange::Identified);
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(100)).await;
            connection.calls.fetch_add(1, Ordering::Relaxed);
            assert_eq!(lifetime.check(&connection), None);
        }
        // The last check that saw a call is at 600 s.
        assert_eq!(closed(&mut lifetime, &connection, start).await, (900, CloseReason::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_with_its_certificate_or_when_it_is_over_the_limit() {
        let [connection, _service] = connection();
        let _call = Arc::clone(&connection);
        let start = Instant::now();
        let expires = start + Duration::from_secs(60);
        let mut lifetime = Lifetime::new(AGE, Some(expires), IDLE);
        assert_eq!(closed(&mut lifetime, &connection, start).await, (60, CloseReason::Certificate));
        let start = Instant::now();
        let mut lifetime = Lifetime::new(AGE, None, IDLE);
        lifetime.on_change(StageChange::OverLimit);
        assert_eq!(closed(&mut lifetime, &connection, start).await, (2, CloseReason::OverLimit));
    }
}
