//! Checks of HubSpot without a credential.

use std::time::Duration;

use super::{
    check::{Area, Check, CheckOutcome, CheckResult, deadline},
    network::{connect, resolve, tls_outcome},
    report::Report,
};
use crate::{
    cli::remediation::{self, Peer, Remediation},
    config,
    hubspot::{ApiProbe, DiagnosticsClient},
};
use leadsd_base::{
    net::connect_error::ConnectError,
    time::{SystemClock, Timestamp, WallClock as _},
};

/// Clock offset from which the check warns: the clock is not synchronized.
const WARN_OFFSET: Duration = Duration::from_secs(10);

/// Clock offset from which the check fails: certificates and tokens are misjudged.
const FAIL_OFFSET: Duration = Duration::from_secs(300);

/// Runs the checks; `None` if one fails that later checks depend on.
pub(super) async fn examine(
    config: &config::Hubspot,
    report: &mut Report,
) -> Option<DiagnosticsClient> {
    let hubspot_client = check_api(config, report).await;
    if hubspot_client.is_none() {
        report.skip_rest(Area::Hubspot, None);
    }
    hubspot_client
}

/// Checks the connection, the API and the clock.
async fn check_api(config: &config::Hubspot, report: &mut Report) -> Option<DiagnosticsClient> {
    let (url, egress) = (&config.base_url, &config.egress);
    let addresses =
        report.check(Check::HubspotDns, None, resolve(Peer::Hubspot, url, egress)).await?;
    let connected = connect(Peer::Hubspot, url, egress, &addresses);
    report.check(Check::HubspotTcp, None, connected).await?;
    let probed = async {
        let hubspot_client = match DiagnosticsClient::new(config) {
            Ok(hubspot_client) => hubspot_client,
            Err(error) => {
                return CheckResult::fail(Remediation::new(error.to_string(), "check [hubspot]"));
            }
        };
        tls_result(hubspot_client.probe(deadline()).await, hubspot_client, config)
    };
    let (probe, hubspot_client) = report.check(Check::HubspotTls, None, probed).await?;
    let probe = report.check(Check::HubspotApi, None, async { api_result(probe, config) }).await?;
    let clock = clock_result(probe.date, SystemClock.now());
    report.note(Check::HubspotClock, None, clock, Duration::ZERO);
    Some(hubspot_client)
}

/// Evaluates the first request for the TLS check. Its other errors belong to the API check.
fn tls_result(
    probe: Result<ApiProbe, ConnectError>,
    hubspot_client: DiagnosticsClient,
    config: &config::Hubspot,
) -> CheckResult<(Result<ApiProbe, ConnectError>, DiagnosticsClient)> {
    let url = &config.base_url;
    match probe {
        Err(error @ (ConnectError::Certificate(_) | ConnectError::Tls(_))) => {
            CheckResult::fail(remediation::connect(Peer::Hubspot, url, &error))
        }
        probe => tls_outcome(Peer::Hubspot, url, (probe, hubspot_client)),
    }
}

fn api_result(
    probe: Result<ApiProbe, ConnectError>,
    config: &config::Hubspot,
) -> CheckResult<ApiProbe> {
    let url = &config.base_url;
    let fail = |cause: String, fix: &str| CheckResult::fail(Remediation::new(cause, fix));
    match probe {
        Err(error) => CheckResult::fail(remediation::connect(Peer::Hubspot, url, &error)),
        Ok(ApiProbe { status, .. }) if status >= 500 => fail(
            format!("HubSpot is unavailable: HTTP status {status}"),
            "check HubSpot's status page and wait; leadsd recovers without a restart",
        ),
        Ok(probe) if probe.is_hubspot => CheckResult::ok(
            probe,
            format!("available; API version {}", config.api_version.as_str()),
        ),
        Ok(ApiProbe { status, .. }) => fail(
            format!("{url} is not HubSpot's API: HTTP status {status} without HubSpot's JSON"),
            "correct hubspot.base_url and hubspot.api_version, and check whether a proxy responds \
             instead of HubSpot",
        ),
    }
}

fn clock_result(theirs: Option<Timestamp>, ours: Timestamp) -> CheckOutcome {
    let Some(theirs) = theirs else {
        return CheckOutcome::Ok("HubSpot's response has no Date header".to_owned());
    };
    let offset = ours.duration_since(theirs);
    let (amount, direction) =
        (offset.unsigned_abs(), if offset.is_negative() { "behind" } else { "ahead of" });
    let cause = format!("this machine's clock is {} s {direction} HubSpot's", amount.as_secs());
    let fix = "synchronize it by NTP: certificates, JWTs and log timestamps depend on it";
    match amount {
        amount if amount >= FAIL_OFFSET => CheckOutcome::fail(cause, fix),
        amount if amount >= WARN_OFFSET => CheckOutcome::warn(cause, fix),
        amount => CheckOutcome::Ok(format!("offset {} s", amount.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_check_depends_on_the_absolute_offset() {
        let ours: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        for (seconds, result) in
            [(0, "ok"), (9, "ok"), (-9, "ok"), (10, "warn"), (-299, "warn"), (300, "fail")]
        {
            let theirs = Timestamp::from_second(ours.as_second() + seconds).unwrap();
            assert_eq!(clock_result(Some(theirs), ours).as_str(), result, "{seconds}");
        }
        assert_eq!(clock_result(None, ours).as_str(), "ok");
    }
}
