//! `POST /portals/{name}/refresh`, throttled per portal.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    extract::{Path, State},
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse as _, Response},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use leadsd_credentials::Credentials;

/// Minimum time between two refreshes of a portal. Each asks Vault and HubSpot's token endpoint, which
/// limit their clients.
const MIN_INTERVAL: Duration = Duration::from_secs(10);

/// Credentials, and the refreshes of the last interval.
#[derive(Debug, Clone)]
pub(super) struct Refreshes {
    credentials: Arc<Credentials>,
    recent: Arc<Mutex<RecentRefreshes>>,
}

/// Portals that were refreshed within [`MIN_INTERVAL`], with the time.
#[derive(Debug, Default)]
struct RecentRefreshes(HashMap<String, Instant>);

// === impl Refreshes ===

impl Refreshes {
    pub(super) fn new(credentials: Arc<Credentials>) -> Self {
        Self { credentials, recent: Arc::default() }
    }
}

// === impl RecentRefreshes ===

impl RecentRefreshes {
    /// Runs `refresh` unless the portal was refreshed recently; then errors with the remaining wait.
    /// Only a refresh that returns true counts, so the size is bounded by the number of portals.
    fn throttle(
        &mut self,
        portal: &str,
        now: Instant,
        refresh: impl FnOnce() -> bool,
    ) -> Result<bool, Duration> {
        self.0.retain(|_, at| now.duration_since(*at) < MIN_INTERVAL);
        if let Some(at) = self.0.get(portal) {
            return Err(MIN_INTERVAL - now.duration_since(*at));
        }
        let accepted = refresh();
        if accepted {
            self.0.insert(portal.to_owned(), now);
        }
        Ok(accepted)
    }
}

/// Requests a read of a portal's secret and a refresh of its token, even if it is suspended. Does not wait
/// for the result.
pub(super) async fn refresh(
    State(refreshes): State<Refreshes>,
    Path(name): Path<String>,
) -> Response {
    let credentials = &refreshes.credentials;
    let mut recent = refreshes.recent.lock();
    match recent.throttle(&name, Instant::now(), || credentials.refresh_now(&name)) {
        Ok(true) => StatusCode::ACCEPTED.into_response(),
        Ok(false) => StatusCode::NOT_FOUND.into_response(),
        Err(wait) => {
            let seconds = wait.as_secs_f64().ceil();
            let text = format!("this portal was refreshed recently; retry after {seconds} s\n");
            let headers = [(RETRY_AFTER, seconds.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, headers, text).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portal_is_refreshed_once_per_interval() {
        let (mut recent, start) = (RecentRefreshes::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(recent.throttle("eu", at(0), || true), Ok(true));
        let never = || unreachable!("it is throttled");
        assert_eq!(recent.throttle("eu", at(3), never), Err(Duration::from_secs(7)));
        assert_eq!(recent.throttle("us", at(3), || true), Ok(true), "another portal is not");
        assert_eq!(recent.throttle("eu", at(10), || true), Ok(true));
    }

    #[test]
    fn unknown_portals_are_not_kept() {
        let (mut recent, now) = (RecentRefreshes::default(), Instant::now());
        for number in 0..1_000 {
            assert_eq!(recent.throttle(&format!("unknown-{number}"), now, || false), Ok(false));
        }
        assert!(recent.0.is_empty());
    }
}
