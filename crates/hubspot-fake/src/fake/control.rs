//! Control of the responses by tests and `leadsd dev`: scripts, faults and latency.

use std::time::Duration;

use super::FakeHubspot;
use crate::{Fault, ScriptedResponse, script::ScriptEntry};
use leadsd_base::secret::Secret;

// === impl FakeHubspot ===

impl FakeHubspot {
    /// Replaces the injected faults.
    pub fn inject(&self, faults: Vec<Fault>) {
        self.account.lock().faults = faults;
    }

    /// Delays each request from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.account.lock().latency = latency;
    }

    /// Scripts the response to the next request with this method whose path ends with `path_end`.
    /// An empty text matches every method or path.
    pub fn script(&self, method: &str, path_end: &str, script: ScriptedResponse) {
        self.script_times(1, method, path_end, script);
    }

    /// Scripts the responses to the next `times` matching requests.
    pub fn script_times(
        &self,
        times: usize,
        method: &str,
        path_end: &str,
        script: ScriptedResponse,
    ) {
        let (method, path_end) = (method.to_owned(), path_end.to_owned());
        let entry = ScriptEntry { token: None, method, path_end, script, times };
        self.account.lock().scripts.push(entry);
    }

    /// Scripts the response to the next matching request with this token.
    pub fn script_of(
        &self,
        token: &Secret,
        method: &str,
        path_end: &str,
        script: ScriptedResponse,
    ) {
        let (method, path_end) = (method.to_owned(), path_end.to_owned());
        let token = Some(token.expose().to_owned());
        let entry = ScriptEntry { token, method, path_end, script, times: 1 };
        self.account.lock().scripts.push(entry);
    }

    /// Drops all scripted responses that are not used yet.
    pub fn clear_scripts(&self) {
        self.account.lock().scripts.clear();
    }

    /// Number of scripted responses that are not used yet.
    pub fn scripts_left(&self) -> usize {
        self.account.lock().scripts.iter().map(|entry| entry.times).sum()
    }
}
