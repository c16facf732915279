//! Availability of the shared store: bounds each exchange, and does not ask a store again and again that
//! does not respond.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::request_id_store::StoreUnavailable;

/// Maximum time for one exchange: the time that a failing store adds to a write.
pub(super) const EXCHANGE_TIMEOUT: Duration = Duration::from_millis(250);

/// Pause between exchanges while they fail. Only one call in this time waits for the store.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Availability of the store.
#[derive(Debug, Default)]
pub(super) struct Availability {
    /// Time of the next exchange while the store is unavailable; `None` while it is available.
    retry_at: Mutex<Option<Instant>>,
}

// === impl Availability ===

impl Availability {
    /// True unless the last exchange failed.
    pub(super) fn is_up(&self) -> bool {
        self.retry_at.lock().is_none()
    }

    /// Makes an exchange. `None` if the store is unavailable.
    pub(super) async fn exchange<T>(
        &self,
        exchange: impl Future<Output = Result<T, StoreUnavailable>>,
    ) -> Option<T> {
        if !self.may_exchange() {
            return None;
        }
        let response = timeout(EXCHANGE_TIMEOUT, exchange).await;
        let cause = match response {
            Ok(Ok(response)) => {
                if self.retry_at.lock().take().is_some() {
                    info!("Recovered the shared store of request ids");
                }
                return Some(response);
            }
            Ok(Err(StoreUnavailable(cause))) => cause,
            Err(_elapsed) => "no response within 250 ms".to_owned(),
        };
        let retry_at = Some(Instant::now() + RETRY_INTERVAL);
        if std::mem::replace(&mut *self.retry_at.lock(), retry_at).is_none() {
            warn!(
                error = cause,
                "Lost the shared store of request ids; each replica recognizes only its own"
            );
        }
        None
    }

    /// True if the store is available, or for the first call after each pause.
    fn may_exchange(&self) -> bool {
        let now = Instant::now();
        let mut retry_at = self.retry_at.lock();
        match *retry_at {
            None => true,
            Some(at) if at > now => false,
            Some(_) => {
                *retry_at = Some(now + RETRY_INTERVAL);
                true
            }
        }
    }
}
