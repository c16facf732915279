//! Checks at the end of a [`TestApp`]: the service has released all resources.

use std::{thread, time::Duration};

use super::{Peers, TestApp};
use crate::wait::{PATIENCE, metrics_page};

/// Time for cancelled calls to end. The stop aborts longer calls, which are no leak.
const CALLS_END: Duration = Duration::from_millis(300);

/// Time for finished calls to release their resources. Short in the tests of this crate, which plant
/// leaks.
const RELEASE: Duration = if cfg!(test) { CALLS_END } else { Duration::from_secs(5) };

/// Time for all tasks to end after the service has stopped; short for the same reason.
const TASKS_END: Duration = if cfg!(test) { CALLS_END } else { PATIENCE };

/// Interval between two reads of the metrics.
const INTERVAL: Duration = Duration::from_millis(5);

/// Metrics of the resources in use.
#[derive(Debug, PartialEq)]
struct Held {
    /// RPCs that have not ended.
    calls: f64,
    /// Admission slots and memory of calls, without what is kept for request ids.
    slots: f64,
    /// Calls that wait for a permit or for an earlier write.
    queued: f64,
}

// === impl Held ===

impl Held {
    fn parse(page: &str) -> Self {
        let sum = |names: &[&str]| -> f64 {
            let lines = page.lines().filter_map(|line| line.rsplit_once(' '));
            let own = lines.filter(|(name, _)| names.iter().any(|own| name.starts_with(own)));
            own.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
        };
        Self {
            calls: sum(&["leadsd_grpc_in_flight{"]),
            slots: sum(&[
                "leadsd_admission_used{limit=\"in_flight\"",
                "leadsd_admission_used{limit=\"memory\"",
            ]) - sum(&["leadsd_kept_result_bytes"]),
            queued: sum(&["leadsd_quota_waiting{"]),
        }
    }

    fn is_nothing(&self) -> bool {
        *self == Self { calls: 0.0, slots: 0.0, queued: 0.0 }
    }

    /// True if something is held although no call is left that could hold it.
    fn is_leak(&self) -> bool {
        self.calls == 0.0 && !self.is_nothing()
    }
}

// === impl TestApp ===

impl TestApp {
    /// Faults at the end of the test.
    fn faults(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        let is_last = Peers::is_last(&self.peers);
        let unused = self.hubspot.scripts_left();
        if is_last {
            if unused > 0 {
                faults.push(format!("{unused} scripted responses of HubSpot were not used"));
            }
            // A fault or a slow response that a test has set up delays no stop.
            self.hubspot.end_delays();
            self.vault.fail(None);
            self.vault.set_sealed(false);
        }
        faults.extend(self.held());
        faults.extend(self.stop_service());
        let leaks = self.logs.take_leaks();
        if !leaks.is_empty() {
            faults.push(format!("secrets in the log: {leaks:#?}"));
        }
        faults
    }

    /// Unreleased slots and queue positions. An unreleased permit keeps the task of its quota
    /// alive, which [`Self::stop_service`] finds.
    fn held(&self) -> Option<String> {
        let host = self.service.host.as_ref()?;
        let mut waited = Duration::ZERO;
        loop {
            let admin = self.admin.clone();
            let page = host.block_on(PATIENCE, async move { metrics_page(&admin).await });
            let held = Held::parse(&page??);
            if held.is_nothing() {
                return None;
            }
            if waited >= RELEASE {
                return held.is_leak().then(|| format!("not released: {held:?}"));
            }
            if waited >= CALLS_END && !held.is_leak() {
                return None;
            }
            thread::park_timeout(INTERVAL);
            waited += INTERVAL;
        }
    }

    /// Stops the service; tasks that outlive it.
    fn stop_service(&mut self) -> Option<String> {
        let host = self.service.host.take()?;
        if let Some(stop) = self.service.stop.take() {
            // An error means that the service has ended by itself.
            let _ = stop.send(());
        }
        if self.service.ended.lock().recv_timeout(PATIENCE).is_err() {
            return Some(format!("the service did not stop within {PATIENCE:?}"));
        }
        match host.wait_idle(TASKS_END) {
            0 => None,
            live => Some(format!("{live} tasks outlive the service")),
        }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        // A second panic would hide the first one.
        if !thread::panicking() {
            let faults = self.faults();
            assert!(faults.is_empty(), "at the end of the test: {}", faults.join("; "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: &str = "leadsd_grpc_in_flight{grpc_service=\"s\",grpc_method=\"m\"} 0\n\
        leadsd_admission_used{limit=\"connections\"} 2\n\
        leadsd_admission_used{limit=\"in_flight\"} 0\n\
        leadsd_quota_waiting{portal=\"a\",bucket=\"burst\"} 0\n";

    #[test]
    fn an_idle_service_holds_nothing() {
        let held = Held::parse(IDLE);
        assert!(held.is_nothing() && !held.is_leak(), "{held:?}");
    }

    #[test]
    fn what_is_held_without_a_call_is_a_leak() {
        for (from, to) in [
            ("limit=\"in_flight\"} 0", "limit=\"in_flight\"} 1"),
            ("bucket=\"burst\"} 0", "bucket=\"burst\"} 2"),
        ] {
            let page = IDLE.replace(from, to);
            assert!(Held::parse(&page).is_leak(), "{page}");
            let page = page.replace("method=\"m\"} 0", "method=\"m\"} 1");
            let held = Held::parse(&page);
            assert!(!held.is_leak() && !held.is_nothing(), "{page}");
        }
    }
}
