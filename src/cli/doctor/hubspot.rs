//! Checks of HubSpot without a credential.

use std::time::Duration;

use url::Url;

use super::{
    check::{Area, Check, CheckOutcome, CheckResult, deadline},
    network::{connect, resolve, tls_outcome},
    report::Report,
};
use crate::{
    cli::remediation::{self, Peer, Remediation},
    config::{self, ApiVersion},
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

/// HTTP status of a request for an account in another data centre.
const WRONG_DATA_CENTER: u16 = 488;

/// Runs the checks. Errors with the failed check if later checks depend on it. `portal` is the portal with
/// a separate base URL; `None` for the base URL of the others.
pub(super) async fn examine(
    config: &config::Hubspot,
    portal: Option<&str>,
    report: &mut Report,
) -> Result<DiagnosticsClient, Check> {
    let hubspot_client = check_api(config, portal, report).await;
    hubspot_client.ok_or_else(|| {
        report.skip_rest(Area::Hubspot, portal);
        report.last_failed().unwrap_or(Check::HubspotApi)
    })
}

/// Checks the connection, the API and the clock.
async fn check_api(
    config: &config::Hubspot,
    portal: Option<&str>,
    report: &mut Report,
) -> Option<DiagnosticsClient> {
    let peer = if portal.is_some() { Peer::PortalApi } else { Peer::Hubspot };
    let (url, egress) = (&config.base_url, &config.egress);
    let addresses = report.check(Check::HubspotDns, portal, resolve(peer, url, egress)).await?;
    let connected = connect(peer, url, egress, &addresses);
    report.check(Check::HubspotTcp, portal, connected).await?;
    let probed = async {
        let hubspot_client = match DiagnosticsClient::new(config) {
            Ok(hubspot_client) => hubspot_client,
            Err(error) => {
                return CheckResult::fail(Remediation::new(error.to_string(), "check [hubspot]"));
            }
        };
        tls_result(hubspot_client.probe(deadline()).await, hubspot_client, (peer, url))
    };
    let (probe, hubspot_client) = report.check(Check::HubspotTls, portal, probed).await?;
    let probe = report
        .check(Check::HubspotApi, portal, async {
            api_result(probe, peer, url, config.api_version)
        })
        .await?;
    let clock = clock_result(probe.date, SystemClock.now());
    report.note(Check::HubspotClock, portal, clock, Duration::ZERO);
    Some(hubspot_client)
}

/// Evaluates the first request for the TLS check. Its other errors belong to the API check.
fn tls_result(
    probe: Result<ApiProbe, ConnectError>,
    hubspot_client: DiagnosticsClient,
    (peer, url): (Peer, &Url),
) -> CheckResult<(Result<ApiProbe, ConnectError>, DiagnosticsClient)> {
    match probe {
        Err(error @ (ConnectError::Certificate(_) | ConnectError::Tls(_))) => {
            CheckResult::fail(remediation::connect(peer, url, &error))
        }
        probe => tls_outcome(peer, url, (probe, hubspot_client)),
    }
}

fn api_result(
    probe: Result<ApiProbe, ConnectError>,
    peer: Peer,
    url: &Url,
    version: ApiVersion,
) -> CheckResult<ApiProbe> {
    let fail = |cause: String, fix: &str| CheckResult::fail(Remediation::new(cause, fix));
    let key = peer.key();
    match probe {
        Err(error) => CheckResult::fail(remediation::connect(peer, url, &error)),
        Ok(ApiProbe { status, .. }) if status >= 500 => fail(
            format!("HubSpot is unavailable: HTTP status {status}"),
            "check HubSpot's status page and wait; leadsd recovers without a restart",
        ),
        Ok(ApiProbe { status: WRONG_DATA_CENTER, correct_hublet, .. }) => {
            let hublet = correct_hublet.as_deref();
            fail(
                format!(
                    "{} of HubSpot serves the account: HTTP status {WRONG_DATA_CENTER}",
                    hublet.map_or_else(
                        || "another data centre".to_owned(),
                        |name| format!("the data centre {name}")
                    )
                ),
                &format!(
                    "set {key} to the API of its data centre{} https://api-{}.hubapi.com",
                    if hublet.is_some() { ":" } else { ", such as" },
                    hublet.unwrap_or("eu1")
                ),
            )
        }
        Ok(probe) if probe.is_hubspot => {
            CheckResult::ok(probe, format!("available; API version {}", version.as_str()))
        }
        Ok(ApiProbe { status, .. }) => fail(
            format!("{url} is not HubSpot's API: HTTP status {status} without HubSpot's JSON"),
            &format!(
                "correct {key} and hubspot.api_version, and check whether a proxy responds instead of \
                 HubSpot"
            ),
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
    fn another_data_centre_is_not_another_server() {
        let url: Url = "https://api.hubapi.com".parse().unwrap();
        for (peer, key) in
            [(Peer::Hubspot, "hubspot.base_url"), (Peer::PortalApi, "portals.<name>.base_url")]
        {
            let failed = |status: u16, hublet: Option<&str>| {
                let correct_hublet = hublet.map(str::to_owned);
                let probe = ApiProbe { status, is_hubspot: false, date: None, correct_hublet };
                let result = api_result(Ok(probe), peer, &url, ApiVersion::V2026_09);
                let CheckOutcome::Fail(Remediation { cause, fix }) = result.outcome else {
                    panic!("{status} is a failure")
                };
                (cause, fix)
            };
            let (cause, fix) = failed(488, None);
            assert!(cause.contains("data centre") && !cause.contains("is not HubSpot"), "{cause}");
            assert!(fix.contains(key) && fix.contains("such as https://api-eu1."), "{fix}");
            let (cause, fix) = failed(488, Some("ap1"));
            assert!(cause.contains("the data centre ap1"), "{cause}");
            assert!(fix.ends_with("of its data centre: https://api-ap1.hubapi.com"), "{fix}");
            assert!(failed(404, None).0.contains("is not HubSpot's API"));
            assert!(failed(503, None).0.contains("unavailable"));
        }
    }

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
