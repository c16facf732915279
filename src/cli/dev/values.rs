//! Parsers of values of `leadsd dev`. Each error says what is allowed; clap adds the option and the value.

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs as _},
    time::Duration,
};

use crate::{config, leads::PortalName, telemetry};
use leadsd_base::net::listen_address::ListenAddress;
use leadsd_hubspot_fake::{Fault, Operation};

/// Maximum lag of the search index of the fake HubSpot: ten times the lag that users report of HubSpot.
pub(super) const MAX_SEARCH_LAG: Duration = Duration::from_secs(300);

/// Maximum latency of the fake HubSpot: longer than every timeout of a request to HubSpot by default.
const MAX_LATENCY: Duration = Duration::from_secs(60);

/// Maximum number of calls in the window of `--quota`.
const MAX_CALLS: usize = 1_000_000;

/// Shortest and longest window of `--quota`, as `quota.burst_window` allows them.
const WINDOWS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(600)];

/// Name of all operations in `--fault`.
const ANY: &str = "any";

/// Calls per window, such as `20/10s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CallQuota {
    pub(super) calls: usize,
    pub(super) window: Duration,
}

/// A fault with its text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FaultOption {
    pub(super) fault: Fault,
    text: String,
}

// === impl FaultOption ===

impl fmt::Display for FaultOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

// === impl CallQuota ===

impl fmt::Display for CallQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, window } = self;
        write!(f, "{calls} calls in {window:?}")
    }
}

/// Parses a listen address, whose host may be a name such as `localhost`.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    if ListenAddress::unix_path(text).is_some() {
        let text = "leadsd dev listens on TCP only, such as on 127.0.0.1:50051; leadsd serve can \
                    listen on a Unix socket (grpc.listen)";
        return Err(text.to_owned());
    }
    let resolved = text.to_socket_addrs().map_err(|error| {
        let example = "127.0.0.1:50051 or localhost:50051";
        format!("{error}; use HOST:PORT, such as {example}")
    })?;
    let mut addresses: Vec<_> = resolved.collect();
    // Clients try IPv4 for localhost in any case.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses
        .first()
        .copied()
        .ok_or_else(|| "the host name has no address; use an IP address".to_owned())
}

pub(super) fn portal(text: &str) -> Result<PortalName, &'static str> {
    PortalName::parse(text).ok_or("use 1 to 64 letters, digits, `_` or `-`")
}

pub(super) fn search_lag(text: &str) -> Result<Duration, &'static str> {
    let lag = config::duration(text).filter(|lag| *lag <= MAX_SEARCH_LAG);
    lag.ok_or("must be a whole number with a unit, at most 5m")
}

pub(super) fn latency(text: &str) -> Result<Duration, &'static str> {
    let latency = config::duration(text).filter(|latency| *latency <= MAX_LATENCY);
    latency.ok_or("must be a whole number with a unit, such as 200ms, at most 60s")
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    telemetry::filter(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Parses calls per window.
pub(super) fn quota(text: &str) -> Result<CallQuota, &'static str> {
    let error = "use CALLS/WINDOW, such as 20/10s: 1 to 1000000 calls in a window of 1s to 10m";
    let (calls, window) = text.split_once('/').ok_or(error)?;
    let calls = calls.parse().ok().filter(|calls| (1..=MAX_CALLS).contains(calls)).ok_or(error)?;
    let [min, max] = WINDOWS;
    let window = config::duration(window).filter(|window| (min..=max).contains(window));
    Ok(CallQuota { calls, window: window.ok_or(error)? })
}

/// Parses a fault, such as `create:503@10%`.
pub(super) fn fault(text: &str) -> Result<FaultOption, String> {
    let form = "use OPERATION:STATUS@RATIO, such as create:503@10%";
    let (operation, rest) = text.split_once(':').ok_or(form)?;
    let (status, ratio) = rest.split_once('@').ok_or(form)?;
    let known = Operation::NAMES.iter().find(|(name, _)| *name == operation);
    if known.is_none() && operation != ANY {
        let names: Vec<_> = Operation::NAMES.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "{operation:?} is not an operation; operations: {}, {ANY}",
            names.join(", ")
        ));
    }
    let code = status.parse().ok().filter(|code| (400..=599).contains(code));
    let code = code.ok_or_else(|| format!("{status:?} is not a status from 400 to 599"))?;
    let percent = ratio.strip_suffix('%').and_then(|percent| percent.parse::<f64>().ok());
    let percent =
        percent.filter(|percent| *percent > 0.0 && *percent <= 100.0).ok_or_else(|| {
            format!(
                "{ratio:?} is not a ratio; use a percentage above 0% and up to 100%, such as 10%"
            )
        })?;
    let operation = known.map(|(_, operation)| *operation);
    let fault = Fault { operation, status: code, ratio: percent / 100.0 };
    Ok(FaultOption { fault, text: text.to_owned() })
}

/// Errors if more than all requests of an operation would fail.
pub(super) fn check_ratios(faults: &[FaultOption]) -> Result<(), String> {
    // Rounding of decimal fractions.
    const TOLERANCE: f64 = 1e-9;
    for (name, operation) in Operation::NAMES {
        let own = faults.iter().filter(|option| {
            option.fault.operation.is_none_or(|applies_to| applies_to == operation)
        });
        let sum: f64 = own.map(|option| option.fault.ratio).sum();
        if sum > 1.0 + TOLERANCE {
            return Err(format!(
                "the ratios of {name} add up to {:.0}%, with those of {ANY}; at most 100% are allowed",
                sum * 100.0
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_an_operation_a_status_and_a_ratio() {
        let Fault { operation, status, ratio } = fault("create:503@10%").unwrap().fault;
        assert_eq!((operation, status), (Some(Operation::Create), 503));
        assert!((ratio - 0.1).abs() < 1e-9);
        let Fault { operation, ratio, .. } = fault("any:429@0.5%").unwrap().fault;
        assert!(operation.is_none() && (ratio - 0.005).abs() < 1e-9);
        for (odd, expected) in [
            ("", "use OPERATION:STATUS@RATIO, such as create:503@10%"),
            ("create", "use OPERATION:STATUS@RATIO"),
            ("create:503", "use OPERATION:STATUS@RATIO"),
            ("creat:503@10%", "operations: create, get, update, archive, list, search, "),
            ("Create:503@10%", "\"Create\" is not an operation"),
            ("create:200@10%", "\"200\" is not a status from 400 to 599"),
            ("create:600@10%", "\"600\" is not a status from 400 to 599"),
            ("create:x@10%", "\"x\" is not a status"),
            ("create:503@10", "\"10\" is not a ratio; use a percentage"),
            ("create:503@0%", "\"0%\" is not a ratio"),
            ("create:503@-1%", "\"-1%\" is not a ratio"),
            ("create:503@101%", "\"101%\" is not a ratio"),
            ("create:503@NaN%", "\"NaN%\" is not a ratio"),
            ("create:503@inf%", "\"inf%\" is not a ratio"),
        ] {
            let error = fault(odd).unwrap_err();
            assert!(error.contains(expected), "{odd}: {error}");
        }
    }

    #[test]
    fn ratios_of_an_operation_add_up_to_100_percent_at_most() {
        let check = |texts: &[&str]| {
            let faults: Vec<_> = texts.iter().map(|text| fault(text).unwrap()).collect();
            check_ratios(&faults)
        };
        assert_eq!(check(&["create:503@100%", "get:503@100%"]), Ok(()));
        let ten = ["create:503@10%"; 10];
        assert_eq!(check(&ten), Ok(()), "rounding does not matter");
        let error = check(&["create:503@60%", "any:500@60%"]).unwrap_err();
        assert!(error.starts_with("the ratios of create add up to 120%"), "{error}");
    }

    #[test]
    fn quotas_and_latencies_have_bounds() {
        let expected = CallQuota { calls: 20, window: Duration::from_secs(10) };
        assert_eq!(quota("20/10s"), Ok(expected));
        for odd in ["", "20", "20/10", "0/10s", "x/10s", "-1/10s", "20/0s", "20/11m", "9999999/1s"]
        {
            assert!(quota(odd).unwrap_err().contains("CALLS/WINDOW"), "{odd}");
        }
        assert_eq!(latency("200ms"), Ok(Duration::from_millis(200)));
        for odd in ["", "200", "61s", "fast"] {
            assert!(latency(odd).is_err(), "{odd}");
        }
        assert!(portal("EU-1").is_ok() && portal("a b").is_err() && portal("").is_err());
        assert!(log_filter("inf").unwrap_err().contains("info"));
    }

    #[test]
    fn a_unix_socket_is_refused_with_the_command_that_takes_one() {
        for text in ["unix:/run/leadsd.sock", "unix:///run/leadsd.sock", "unix:a"] {
            let error = address(text).unwrap_err();
            assert!(error.contains("TCP only") && error.contains("leadsd serve"), "{error}");
        }
    }
}
