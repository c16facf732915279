//! HubSpot, as far as it can be looked at without a credential.

use std::time::Duration;

use super::{
    check::{Area, Check, Outcome, Seen},
    network::{connected, encrypted, named},
    report::Report,
    soon,
};
use crate::{
    cli::advice::{self, Advice, Peer},
    config,
    hubspot::{Greeting, Inquiry},
};
use leadsd_base::{
    net::connect_error::ConnectError,
    time::{SystemClock, Timestamp, WallClock as _},
};

/// A clock that is this far off is set by nobody.
const CLOCK_WARNS: Duration = Duration::from_secs(10);

/// One that is this far off breaks certificates and tokens that have times in them.
const CLOCK_FAILS: Duration = Duration::from_secs(300);

/// Makes the checks; gives what asks HubSpot if all that need it may go on.
pub(super) async fn examine(config: &config::Hubspot, report: &mut Report) -> Option<Inquiry> {
    let inquiry = until_api(config, report).await;
    if inquiry.is_none() {
        report.skip_rest(Area::Hubspot, None);
    }
    inquiry
}

async fn until_api(config: &config::Hubspot, report: &mut Report) -> Option<Inquiry> {
    let url = &config.base_url;
    let addresses = report.check(Check::HubspotDns, None, named(Peer::Hubspot, url)).await?;
    let connected = connected(Peer::Hubspot, url, &addresses);
    report.check(Check::HubspotTcp, None, connected).await?;
    let greeted = async {
        let inquiry = match Inquiry::new(config) {
            Ok(inquiry) => inquiry,
            Err(error) => {
                return Seen::fail(Advice::new(error.to_string(), "check [hubspot]"));
            }
        };
        tls_seen(inquiry.greet(soon()).await, inquiry, config)
    };
    let (greeting, inquiry) = report.check(Check::HubspotTls, None, greeted).await?;
    let greeting =
        report.check(Check::HubspotApi, None, async { api_seen(greeting, config) }).await?;
    let clock = clock_seen(greeting.clock, SystemClock.now());
    report.note(Check::HubspotClock, None, clock, Duration::ZERO);
    Some(inquiry)
}

/// What the first request says about TLS. What else it says is the next check's.
fn tls_seen(
    greeting: Result<Greeting, ConnectError>,
    inquiry: Inquiry,
    config: &config::Hubspot,
) -> Seen<(Result<Greeting, ConnectError>, Inquiry)> {
    let url = &config.base_url;
    match greeting {
        Err(why @ (ConnectError::Certificate(_) | ConnectError::Tls(_))) => {
            Seen::fail(advice::unreached(Peer::Hubspot, url, &why))
        }
        greeting => encrypted(Peer::Hubspot, url, (greeting, inquiry)),
    }
}

fn api_seen(greeting: Result<Greeting, ConnectError>, config: &config::Hubspot) -> Seen<Greeting> {
    let url = &config.base_url;
    let fail = |cause: String, fix: &str| Seen::fail(Advice::new(cause, fix));
    match greeting {
        Err(why) => Seen::fail(advice::unreached(Peer::Hubspot, url, &why)),
        Ok(Greeting { status, .. }) if status >= 500 => fail(
            format!("HubSpot is down: it answers with status {status}"),
            "wait, and see HubSpot's status page; leadsd recovers by itself",
        ),
        Ok(greeting) if greeting.genuine => {
            Seen::ok(greeting, format!("answers; API version {}", config.api_version.as_str()))
        }
        Ok(Greeting { status, .. }) => fail(
            format!("what answers at {url} is not HubSpot's API: status {status} without its JSON"),
            "correct hubspot.base_url and hubspot.api_version, and see whether a proxy answers in \
             HubSpot's place",
        ),
    }
}

fn clock_seen(theirs: Option<Timestamp>, ours: Timestamp) -> Outcome {
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
            assert_eq!(clock_seen(Some(theirs), ours).as_str(), result, "{seconds}");
        }
        assert_eq!(clock_seen(None, ours).as_str(), "ok");
    }
}
