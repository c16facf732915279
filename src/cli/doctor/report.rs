//! Collects findings and formats them as text or as JSON.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    args::Args,
    check::{Area, Check, CheckOutcome, CheckResult, Finding},
    observations::Observations,
};

/// Version of the JSON format. New fields do not change it.
const VERSION: u32 = 1;

/// Findings of the checks that have run.
#[derive(Debug)]
pub(super) struct Report {
    findings: Vec<Finding>,
    /// True if the write probe was requested.
    write_probe: bool,
    /// True if the conformance run was requested.
    conformance: bool,
    /// Result of the conformance run.
    facts: Option<Observations>,
}

// === impl Report ===

impl Report {
    pub(super) fn new(args: &Args) -> Self {
        let Args { write_probe, conformance, .. } = *args;
        Self { findings: Vec::new(), write_probe, conformance, facts: None }
    }

    /// Adds the result of the conformance run.
    pub(super) fn add_facts(&mut self, facts: Observations) {
        self.facts = Some(facts);
    }

    /// Runs a check and records its outcome; returns its value.
    pub(super) async fn check<T>(
        &mut self,
        check: Check,
        portal: Option<&str>,
        run: impl Future<Output = CheckResult<T>>,
    ) -> Option<T> {
        let since = Instant::now();
        let CheckResult { value, outcome } = run.await;
        self.note(check, portal, outcome, since.elapsed());
        value
    }

    /// Records the outcome of a check.
    pub(super) fn note(
        &mut self,
        check: Check,
        portal: Option<&str>,
        outcome: CheckOutcome,
        took: Duration,
    ) {
        let portal = portal.map(str::to_owned);
        self.findings.push(Finding { check, portal, outcome, took });
    }

    /// Skips the remaining checks of an area (and a portal), with the last failed check as the reason.
    pub(super) fn skip_rest(&mut self, area: Area, portal: Option<&str>) {
        let because = self.last_failed();
        self.skip_rest_for(area, portal, because.unwrap_or(Check::Config));
    }

    /// Skips the remaining checks of an area (and a portal), with this check as the reason. Optional
    /// checks that were not requested or configured are omitted.
    pub(super) fn skip_rest_for(&mut self, area: Area, portal: Option<&str>, because: Check) {
        for check in Check::all().filter(|check| check.area() == area) {
            let is_optional = matches!(
                check,
                Check::EgressCredentials
                    | Check::CaFiles
                    | Check::AuthJwks
                    | Check::AuthApiKeys
                    | Check::QuotaShared
                    | Check::TraceCollector
            );
            let is_requested = (check != Check::HubspotWrite || self.write_probe)
                && (check != Check::HubspotConformance || self.conformance);
            let due = is_requested && !is_optional;
            if due && !self.has(check, portal) {
                self.note(check, portal, CheckOutcome::Skipped(because), Duration::ZERO);
            }
        }
    }

    /// Last failed check, or the reason of the last skipped check.
    pub(super) fn last_failed(&self) -> Option<Check> {
        self.findings.iter().rev().find_map(|found| match found.outcome {
            CheckOutcome::Fail(_) => Some(found.check),
            CheckOutcome::Skipped(because) => Some(because),
            CheckOutcome::Ok(_) | CheckOutcome::Warn(_) => None,
        })
    }

    /// First failed check of an area.
    pub(super) fn first_failed(&self, area: Area) -> Option<Check> {
        let failed = |found: &&Finding| {
            found.check.area() == area && matches!(found.outcome, CheckOutcome::Fail(_))
        };
        self.findings.iter().find(failed).map(|found| found.check)
    }

    fn has(&self, check: Check, portal: Option<&str>) -> bool {
        self.findings.iter().any(|found| found.check == check && found.portal.as_deref() == portal)
    }

    /// Number of findings by outcome: ok, warn, fail, skipped.
    fn counts(&self) -> [usize; 4] {
        let count = |kind: &str| {
            self.findings.iter().filter(|found| found.outcome.as_str() == kind).count()
        };
        ["ok", "warn", "fail", "skipped"].map(count)
    }

    /// Worst outcome: `ok`, `warn` or `fail`.
    pub(super) fn worst(&self) -> &'static str {
        match self.counts() {
            [_, _, 0, _] => match self.counts() {
                [_, 0, _, _] => "ok",
                _ => "warn",
            },
            _ => "fail",
        }
    }

    /// Formats the report as JSON; docs/DOCTOR.md describes the fields.
    pub(super) fn json(&self) -> Value {
        let checks: Vec<Value> = self.findings.iter().map(Finding::json).collect();
        let mut report = json!({"version": VERSION, "result": self.worst(), "checks": checks});
        if let Some(facts) = &self.facts {
            report["facts"] = facts.json();
        }
        report
    }

    /// Formats the report as text.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let width = self.findings.iter().map(|found| found.label().len()).max().unwrap_or(0);
        for found in &self.findings {
            found.write(&mut out, width);
        }
        let [ok, warn, fail, skipped] = self.counts();
        // Writing to a `String` cannot fail.
        let _ = writeln!(out, "\n{ok} ok, {warn} warned, {fail} failed, {skipped} skipped");
        if let Some(facts) = &self.facts {
            out.push('\n');
            out.push_str(&facts.text());
        }
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
        // Writing to a `String` cannot fail.
        let _ = match &self.outcome {
            CheckOutcome::Ok(found) => {
                writeln!(out, "{label:width$}  {result:7}  {found} ({ms} ms)")
            }
            CheckOutcome::Warn(remediation) | CheckOutcome::Fail(remediation) => {
                let indent = width + 11;
                let (cause, fix) = (&remediation.cause, &remediation.fix);
                writeln!(
                    out,
                    "{label:width$}  {result:7}  {cause} ({ms} ms)\n{:indent$}Remedy: {fix}",
                    ""
                )
            }
            CheckOutcome::Skipped(because) => {
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
            CheckOutcome::Ok(found) => value["found"] = json!(found),
            CheckOutcome::Warn(remediation) | CheckOutcome::Fail(remediation) => {
                value["cause"] = json!(remediation.cause);
                value["fix"] = json!(remediation.fix);
            }
            CheckOutcome::Skipped(because) => value["because"] = json!(because.name()),
        }
        value
    }
}
