//! Collects findings and shows them: as lines for people, or as JSON.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::check::{Area, Check, CheckResult, Finding, Outcome};

/// Version of the JSON; fields may be added to it.
const VERSION: u32 = 1;

/// The findings so far.
#[derive(Debug)]
pub(super) struct Report {
    findings: Vec<Finding>,
    /// Whether the write probe is requested.
    write_probe: bool,
}

// === impl Report ===

impl Report {
    pub(super) fn new(write_probe: bool) -> Self {
        Self { findings: Vec::new(), write_probe }
    }

    /// Runs a check and records its outcome; returns its value.
    pub(super) async fn check<T>(
        &mut self,
        check: Check,
        portal: Option<&str>,
        look: impl Future<Output = CheckResult<T>>,
    ) -> Option<T> {
        let since = Instant::now();
        let CheckResult { value, outcome } = look.await;
        self.note(check, portal, outcome, since.elapsed());
        value
    }

    pub(super) fn note(
        &mut self,
        check: Check,
        portal: Option<&str>,
        outcome: Outcome,
        took: Duration,
    ) {
        let portal = portal.map(str::to_owned);
        self.findings.push(Finding { check, portal, outcome, took });
    }

    /// Skips the remaining checks of an area (and a portal), because of the check that failed last.
    pub(super) fn skip_rest(&mut self, area: Area, portal: Option<&str>) {
        let because = self.last_failed();
        self.skip_rest_for(area, portal, because.unwrap_or(Check::Config));
    }

    /// Skips the remaining checks of an area (and a portal), because of this check. Checks that run only on
    /// request or if configured are not among them.
    pub(super) fn skip_rest_for(&mut self, area: Area, portal: Option<&str>, because: Check) {
        for check in Check::all().filter(|check| check.area() == area) {
            let is_optional =
                matches!(check, Check::AuthJwks | Check::AuthApiKeys | Check::QuotaShared);
            let is_requested = check != Check::HubspotWrite || self.write_probe;
            let due = is_requested && !is_optional;
            if due && !self.has(check, portal) {
                self.note(check, portal, Outcome::Skipped(because), Duration::ZERO);
            }
        }
    }

    /// The check that failed last, or for which the last one was skipped.
    pub(super) fn last_failed(&self) -> Option<Check> {
        self.findings.iter().rev().find_map(|found| match found.outcome {
            Outcome::Fail(_) => Some(found.check),
            Outcome::Skipped(because) => Some(because),
            Outcome::Ok(_) | Outcome::Warn(_) => None,
        })
    }

    /// The check of an area that failed first.
    pub(super) fn first_failed(&self, area: Area) -> Option<Check> {
        let failed = |found: &&Finding| {
            found.check.area() == area && matches!(found.outcome, Outcome::Fail(_))
        };
        self.findings.iter().find(failed).map(|found| found.check)
    }

    fn has(&self, check: Check, portal: Option<&str>) -> bool {
        self.findings.iter().any(|found| found.check == check && found.portal.as_deref() == portal)
    }

    /// Number of findings of each kind: ok, warn, fail, skipped.
    fn counts(&self) -> [usize; 4] {
        let count = |kind: &str| {
            self.findings.iter().filter(|found| found.outcome.as_str() == kind).count()
        };
        ["ok", "warn", "fail", "skipped"].map(count)
    }

    /// The worst outcome.
    pub(super) fn worst(&self) -> &'static str {
        match self.counts() {
            [_, _, 0, _] => match self.counts() {
                [_, 0, _, _] => "ok",
                _ => "warn",
            },
            _ => "fail",
        }
    }

    /// For programs; `docs/DOCTOR.md` says what the fields are.
    pub(super) fn json(&self) -> Value {
        let checks: Vec<Value> = self.findings.iter().map(Finding::json).collect();
        json!({"version": VERSION, "result": self.worst(), "checks": checks})
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let width = self.findings.iter().map(|found| found.label().len()).max().unwrap_or(0);
        for found in &self.findings {
            found.write(&mut out, width);
        }
        let [ok, warn, fail, skipped] = self.counts();
        // Writing to a text cannot fail.
        let _ = writeln!(out, "\n{ok} ok, {warn} warned, {fail} failed, {skipped} skipped");
        out
    }
}

// === impl Finding ===

impl Finding {
    fn label(&self) -> String {
        match &self.portal {
            Some(portal) => format!("{portal}: {}", self.check.name()),
            None => self.check.name().to_owned(),
        }
    }

    fn write(&self, out: &mut String, width: usize) {
        let (label, result) = (self.label(), self.outcome.as_str());
        let result = if result == "fail" { "FAIL" } else { result };
        let ms = self.took.as_millis();
        // Writing to a text cannot fail.
        let _ = match &self.outcome {
            Outcome::Ok(found) => writeln!(out, "{label:width$}  {result:7}  {found} ({ms} ms)"),
            Outcome::Warn(advice) | Outcome::Fail(advice) => {
                let indent = width + 11;
                let (cause, fix) = (&advice.cause, &advice.fix);
                writeln!(
                    out,
                    "{label:width$}  {result:7}  {cause} ({ms} ms)\n{:indent$}What to do: {fix}",
                    ""
                )
            }
            Outcome::Skipped(because) => {
                writeln!(out, "{label:width$}  {result:7}  because of {}", because.name())
            }
        };
    }

    fn json(&self) -> Value {
        let mut value = json!({
            "check": self.check.name(),
            "portal": self.portal,
            "result": self.outcome.as_str(),
            "ms": self.took.as_secs_f64() * 1e3,
        });
        match &self.outcome {
            Outcome::Ok(found) => value["found"] = json!(found),
            Outcome::Warn(advice) | Outcome::Fail(advice) => {
                value["cause"] = json!(advice.cause);
                value["fix"] = json!(advice.fix);
            }
            Outcome::Skipped(because) => value["because"] = json!(because.name()),
        }
        value
    }
}
