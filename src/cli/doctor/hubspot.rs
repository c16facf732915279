//! Checks of HubSpot that need no credential.

use std::time::Duration;

use super::{
    check::{Area, Check, CheckResult, Outcome, deadline},
    network::{connected, encrypted, named},
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

/// A clock that is this far off is not synchronized: the check warns.
const CLOCK_WARNS: Duration = Duration::from_secs(10);

/// A clock that is this far off breaks certificates and tokens: the check fails.
const CLOCK_FAILS: Duration = Duration::from_secs(300);

/// Runs the checks; returns the client if the checks that need it can run.
pub(super) async fn examine(
    config: &config::Hubspot,
    report: &mut Report,
) -> Option<DiagnosticsClient> {
    let hubspot_client = until_api(config, report).await;
    if hubspot_client.is_none() {
        report.skip_rest(Area::Hubspot, None);
    }
    hubspot_client
}

async fn until_api(config: &config::Hubspot, report: &mut Report) -> Option<DiagnosticsClient> {
    let url = &config.base_url;
    let addresses = report.check(Check::HubspotDns, None, named(Peer::Hubspot, url)).await?;
    let connected = connected(Peer::Hubspot, url, &addresses);
    report.check(Check::HubspotTcp, None, connected).await?;
    let greeted = async {
        let hubspot_client = match DiagnosticsClient::new(config) {
            Ok(hubspot_client) => hubspot_client,
            Err(error) => {
                return CheckResult::fail(Remediation::new(error.to_string(), "check [hubspot]"));
            }
        };
        tls_result(hubspot_client.probe(deadline()).await, hubspot_client, config)
    };
    let (greeting, hubspot_client) = report.check(Check::HubspotTls, None, greeted).await?;
    let greeting =
        report.check(Check::HubspotApi, None, async { api_result(greeting, config) }).await?;
    let clock = clock_result(greeting.date, SystemClock.now());
    report.note(Check::HubspotClock, None, clock, Duration::ZERO);
    Some(hubspot_client)
}

/// Result of the TLS check, from the first request. Its other findings belong to the next check.
fn tls_result(
    greeting: Result<ApiProbe, ConnectError>,
    hubspot_client: DiagnosticsClient,
    config: &config::Hubspot,
) -> CheckResult<(Result<ApiProbe, ConnectError>, DiagnosticsClient)> {
    let url = &config.base_url;
    match greeting {
        Err(why @ (ConnectError::Certificate(_) | ConnectError::Tls(_))) => {
            CheckResult::fail(remediation::unreached(Peer::Hubspot, url, &why))
        }
        greeting => encrypted(Peer::Hubspot, url, (greeting, hubspot_client)),
    }
}

fn api_result(
    greeting: Result<ApiProbe, ConnectError>,
    config: &config::Hubspot,
) -> CheckResult<ApiProbe> {
    let url = &config.base_url;
    let fail = |cause: String, fix: &str| CheckResult::fail(Remediation::new(cause, fix));
    match greeting {
        Err(why) => CheckResult::fail(remediation::unreached(Peer::Hubspot, url, &why)),
        Ok(ApiProbe { status, .. }) if status >= 500 => fail(
            format!("HubSpot is down: it answers with status {status}"),
            "wait, and see HubSpot's status page; leadsd recovers by itself",
        ),
        Ok(greeting) if greeting.is_hubspot => CheckResult::ok(
            greeting,
            format!("answers; API version {}", config.api_version.as_str()),
        ),
        Ok(ApiProbe { status, .. }) => fail(
            format!("what answers at {url} is not HubSpot's API: status {status} without its JSON"),
            "correct hubspot.base_url and hubspot.api_version, and see whether a proxy answers in \
             HubSpot's place",
        ),
    }
}

fn clock_result(theirs: Option<Timestamp>, ours: Timestamp) -> Outcome {
    let Some(theirs) = theirs else {
        return Outcome::Ok("HubSpot does not tell its time".to_owned());
    };
    let apart = ours.duration_since(theirs);
    let (amount, way) =
        (apart.unsigned_abs(), if apart.is_negative() { "behind" } else { "ahead of" });
    let cause = format!("this machine's clock is {} s {way} HubSpot's", amount.as_secs());
    let fix = "set it by NTP: certificates, JWTs and the times in logs depend on it";
    match amount {
        amount if amount >= CLOCK_FAILS => Outcome::fail(cause, fix),
        amount if amount >= CLOCK_WARNS => Outcome::warn(cause, fix),
        amount => Outcome::Ok(format!("{} s apart", amount.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_judged_by_how_far_it_is_off_either_way() {
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
