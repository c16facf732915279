//! Checks the configuration: from texts and numbers to the types that the service uses. Goes on after
//! a fault, so that all are found.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use figment::Figment;

use leadsd_quota::redis_ledger::{RedisSettings, RedisUrl};

use super::{
    Admin, ApiVersion, Config, Credentials, Grpc, Hubspot, Portal, PortalsFrom, Quota, SharedQuota,
    Vault,
    load::{Fault, origin},
    raw::{self, Raw},
};
use crate::{
    leads::PortalName,
    telemetry::{LogFormat, LogSettings, TraceSettings},
};
use leadsd_base::time::Zone;
use leadsd_credentials::{SecretPath, Start};

/// Turns raw values into checked ones and collects the faults.
pub(super) struct Checker<'a> {
    pub(super) figment: &'a Figment,
    pub(super) faults: Vec<Fault>,
}

// === impl Checker ===

impl Checker<'_> {
    pub(super) fn fault(&mut self, key: &str, what: impl Into<String>) {
        let origin = origin(self.figment, key);
        self.faults.push(Fault { key: key.to_owned(), origin, what: what.into() });
    }

    pub(super) fn config(&mut self, raw: Raw) -> Option<Config> {
        let Raw {
            grpc,
            admin,
            vault,
            hubspot,
            credentials,
            quota,
            auth,
            policy,
            portals,
            portals_from,
            trace,
            log,
        } = raw;
        let grpc = self.grpc(grpc);
        let admin = self.parsed("admin.listen", &admin.listen, "an address such as 127.0.0.1:9090");
        let vault = self.vault(vault);
        let hubspot = self.hubspot(&hubspot);
        let credentials = self.credentials(&credentials);
        let quota = self.quota(quota);
        let portals_from = portals_from.map(|raw| self.portals_from(&raw));
        let portals = self.portals(portals, portals_from.is_some());
        let auth = self.callers(auth);
        let known = portals_from.is_none().then_some(portals.as_ref()).flatten();
        let policy = self.policies(policy, known);
        if let (Some(grpc), Some(auth), Some(policy)) = (&grpc, &auth, &policy) {
            self.exposure(grpc, auth, policy);
        }
        let trace = self.trace(trace);
        let log = self.log(log);
        Some(Config {
            grpc: grpc?,
            admin: Admin { listen: admin? },
            vault: vault?,
            hubspot: hubspot?,
            credentials: credentials?,
            quota: quota?,
            auth: auth?,
            policy: policy?,
            portals: portals?,
            portals_from: match portals_from {
                Some(from) => Some(from?),
                None => None,
            },
            trace: trace?,
            log: log?,
        })
    }

    fn grpc(&mut self, raw: raw::Grpc) -> Option<Grpc> {
        let raw::Grpc {
            listen,
            max_request_size,
            max_batch_inputs,
            max_deadline,
            max_batch_deadline,
            max_connections,
            max_streams_per_connection: streams,
            max_in_flight,
            max_request_memory,
            max_header_size,
            max_connection_age,
            max_connection_age_grace: age_grace,
            keepalive_interval,
            keepalive_timeout,
            drain_delay,
            shutdown_grace,
            error_catalogue,
            insecure,
            tls,
        } = raw;
        self.error_catalogue(&error_catalogue);
        let listen = self.parsed("grpc.listen", &listen, "an address such as 127.0.0.1:50051");
        let size = self.size("grpc.max_request_size", &max_request_size, 64 << 10, 256 << 20);
        let inputs = self.number("grpc.max_batch_inputs", max_batch_inputs, 1, 100_000);
        let deadline = self.duration("grpc.max_deadline", &max_deadline, 100, 600_000);
        let batch_deadline =
            self.duration("grpc.max_batch_deadline", &max_batch_deadline, 100, 3_600_000);
        let connections = self.number("grpc.max_connections", max_connections, 1, 1_000_000);
        let streams = self.number("grpc.max_streams_per_connection", streams, 1, 100_000);
        let in_flight = self.number("grpc.max_in_flight", max_in_flight, 1, 1_000_000);
        let memory = self.size("grpc.max_request_memory", &max_request_memory, 1 << 20, 64 << 30);
        if memory < size && memory.is_some() {
            self.fault("grpc.max_request_memory", "must not be less than grpc.max_request_size");
        }
        let header = self.size("grpc.max_header_size", &max_header_size, 4 << 10, 1 << 20);
        let age = self.duration("grpc.max_connection_age", &max_connection_age, 100, 86_400_000);
        let age_grace = self.duration("grpc.max_connection_age_grace", &age_grace, 0, 3_600_000);
        let keepalive =
            self.duration("grpc.keepalive_interval", &keepalive_interval, 100, 3_600_000);
        let timeout = self.duration("grpc.keepalive_timeout", &keepalive_timeout, 100, 600_000);
        let delay = self.duration("grpc.drain_delay", &drain_delay, 0, 300_000);
        let grace = self.duration("grpc.shutdown_grace", &shutdown_grace, 0, 600_000);
        let tls = tls.map(|tls| self.tls(tls));
        Some(Grpc {
            listen: listen?,
            max_request_bytes: size?,
            max_batch_inputs: inputs?,
            max_deadline: deadline?,
            max_batch_deadline: batch_deadline?,
            max_connections: connections?,
            max_streams: u32::try_from(streams?).unwrap_or(u32::MAX),
            max_in_flight: in_flight?,
            max_request_memory: memory?,
            max_header_bytes: header?,
            max_connection_age: age?,
            max_connection_age_grace: age_grace?,
            keepalive_interval: keepalive?,
            keepalive_timeout: timeout?,
            drain_delay: delay?,
            shutdown_grace: grace?,
            error_catalogue,
            insecure,
            tls: match tls {
                Some(tls) => Some(tls?),
                None => None,
            },
        })
    }

    fn error_catalogue(&mut self, link: &str) {
        if link.len() > 512 || link.chars().any(char::is_control) {
            self.fault("grpc.error_catalogue", "must be a URL of at most 512 characters, or empty");
        }
    }

    fn vault(&mut self, raw: raw::Vault) -> Option<Vault> {
        let raw::Vault {
            address,
            namespace,
            ca_file,
            client_cert_file,
            client_key_file,
            mount,
            timeout,
            poll_interval,
            auth,
        } = raw;
        if client_cert_file.is_some() != client_key_file.is_some() {
            self.fault("vault.client_cert_file", "needs client_key_file, and the other way round");
        }
        if let Some(namespace) = &namespace
            && (namespace.trim().is_empty() || namespace.chars().any(char::is_control))
        {
            self.fault("vault.namespace", "must not be empty or hold control characters");
        }
        if SecretPath::parse(&mount).is_err() {
            self.fault("vault.mount", "must be a path of letters, digits, `.`, `_`, `-`");
        }
        let address = match address {
            Some(address) => self.url("vault.address", &address),
            None => {
                self.fault("vault.address", "is required");
                None
            }
        };
        let timeout = self.duration("vault.timeout", &timeout, 100, 300_000);
        let poll_interval = self.duration("vault.poll_interval", &poll_interval, 1_000, 3_600_000);
        let auth = self.auth(auth, client_cert_file.is_some());
        Some(Vault {
            address: address?,
            namespace,
            ca_file,
            client_cert_file,
            client_key_file,
            mount,
            timeout: timeout?,
            poll_interval: poll_interval?,
            auth: auth?,
        })
    }

    fn hubspot(&mut self, raw: &raw::Hubspot) -> Option<Hubspot> {
        let raw::Hubspot {
            base_url,
            authorize_url,
            api_version,
            connect_timeout,
            request_timeout,
            max_answer_size,
            max_attempts,
            remember_refusals,
            batch_concurrency,
        } = raw;
        let base_url = self.url("hubspot.base_url", base_url);
        let authorize_url = self.url("hubspot.authorize_url", authorize_url);
        let api_version = match api_version.as_str() {
            "2026-09" => Some(ApiVersion::V2026_09),
            "2026-03" => Some(ApiVersion::V2026_03),
            "v3" => Some(ApiVersion::V3),
            _ => {
                self.fault("hubspot.api_version", "must be 2026-09, 2026-03 or v3");
                None
            }
        };
        let connect = self.duration("hubspot.connect_timeout", connect_timeout, 100, 60_000);
        let request = self.duration("hubspot.request_timeout", request_timeout, 100, 600_000);
        let size = self.size("hubspot.max_answer_size", max_answer_size, 64 << 10, 1 << 30);
        let attempts = self.number("hubspot.max_attempts", *max_attempts, 1, 10);
        let remember = self.duration("hubspot.remember_refusals", remember_refusals, 0, 600_000);
        let concurrency = self.number("hubspot.batch_concurrency", *batch_concurrency, 1, 32);
        Some(Hubspot {
            base_url: base_url?,
            authorize_url: authorize_url?,
            api_version: api_version?,
            connect_timeout: connect?,
            request_timeout: request?,
            max_answer_bytes: size?,
            max_attempts: u32::try_from(attempts?).unwrap_or(1),
            remember_refusals: remember?,
            batch_concurrency: concurrency?,
        })
    }

    fn credentials(&mut self, raw: &raw::Credentials) -> Option<Credentials> {
        let raw::Credentials { start, start_concurrency, heartbeat } = raw;
        let start = match start.as_str() {
            "eager" => Some(Start::Eager),
            "lazy" => Some(Start::Lazy),
            _ => {
                self.fault("credentials.start", "must be eager or lazy");
                None
            }
        };
        let concurrency =
            self.number("credentials.start_concurrency", *start_concurrency, 1, 1_000);
        let heartbeat = self.duration("credentials.heartbeat", heartbeat, 1_000, 86_400_000);
        Some(Credentials { start: start?, start_concurrency: concurrency?, heartbeat: heartbeat? })
    }

    fn quota(&mut self, raw: raw::Quota) -> Option<Quota> {
        let raw::Quota {
            burst,
            burst_window,
            search_per_second,
            daily,
            time_zone,
            max_waiting,
            group_commit,
            shares,
            shared,
        } = raw;
        let burst = self.number("quota.burst", burst, 1, 1_000_000);
        let window = self.duration("quota.burst_window", &burst_window, 1_000, 600_000);
        let search = self.number("quota.search_per_second", search_per_second, 1, 100_000);
        let daily = self.number("quota.daily", daily, 0, 1_000_000_000);
        let zone = self.zone("quota.time_zone", &time_zone);
        let max_waiting = self.number("quota.max_waiting", max_waiting, 1, 1_000_000);
        let mut checked = BTreeMap::new();
        for (caller, share) in shares {
            let share = self.number(&format!("quota.shares.{caller}"), share, 1, 1_000);
            checked.insert(caller, u32::try_from(share?).unwrap_or(1));
        }
        let shared = self.shared_quota(shared);
        Some(Quota {
            burst: burst? as u64,
            burst_window: window?,
            search_per_second: search? as u64,
            daily: Some(daily? as u64).filter(|daily| *daily > 0),
            zone: zone?,
            max_waiting: max_waiting?,
            group_commit,
            shares: checked,
            shared: shared?,
        })
    }

    /// Fails only where something is wrong: to share nothing is right as well.
    fn shared_quota(&mut self, raw: raw::SharedQuota) -> Option<Option<SharedQuota>> {
        let raw::SharedQuota { url, url_file, ca_file, replicas, prefix } = raw;
        let replicas = self.number("quota.shared.replicas", replicas, 1, 1_000);
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
        if prefix.is_empty() || !prefix.chars().all(fits) {
            self.fault("quota.shared.prefix", "must be letters, digits or any of `_-.:`");
        }
        let url = match (url, url_file) {
            (None, None) => return Some(None),
            (Some(_), Some(_)) => {
                self.fault("quota.shared.url_file", "goes without quota.shared.url");
                return None;
            }
            (None, Some(file)) => RedisUrl::File(file),
            (Some(url), None) => RedisUrl::Inline(self.redis_url(url)?),
        };
        let replicas = u32::try_from(replicas?).ok()?;
        Some(Some(SharedQuota { redis: RedisSettings { url, ca_file, prefix }, replicas }))
    }

    fn redis_url(&mut self, url: String) -> Option<String> {
        let key = "quota.shared.url";
        let parsed = url::Url::parse(&url).ok();
        let parsed =
            parsed.filter(|url| matches!(url.scheme(), "redis" | "rediss") && url.has_host());
        let Some(parsed) = parsed else {
            self.fault(key, "must be a URL such as redis://valkey:6379/0, or rediss:// for TLS");
            return None;
        };
        if parsed.password().is_some() {
            self.fault(key, "must not hold a password: put the URL into a file, and name that as quota.shared.url_file");
            return None;
        }
        Some(url)
    }

    fn zone(&mut self, key: &str, name: &str) -> Option<Zone> {
        let zone = Zone::parse(name);
        if zone.is_none() {
            self.fault(key, "must be an IANA time zone such as Europe/Berlin or UTC");
        }
        zone
    }

    /// HubSpot's rule for internal names.
    fn property(&mut self, key: &str, name: Option<&str>) {
        let fits = |name: &str| {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            (1..=100).contains(&name.len()) && name.chars().all(allowed)
        };
        if !name.is_none_or(fits) {
            self.fault(key, "must be a property's internal name: lower case letters, digits, `_`");
        }
    }

    fn portals_from(&mut self, raw: &raw::PortalsFrom) -> Option<PortalsFrom> {
        let request_id_property = raw.request_id_property.clone();
        self.property("portals_from.request_id_property", request_id_property.as_deref());
        match SecretPath::parse(&raw.folder) {
            Ok(folder) => Some(PortalsFrom { folder, request_id_property }),
            Err(what) => {
                self.fault("portals_from.folder", what);
                None
            }
        }
    }

    fn portals(
        &mut self,
        raw: BTreeMap<String, raw::Portal>,
        may_be_empty: bool,
    ) -> Option<BTreeMap<PortalName, Portal>> {
        if raw.is_empty() && !may_be_empty {
            self.fault(
                "portals",
                "needs at least one table such as [portals.default], or [portals_from]",
            );
        }
        let mut portals = BTreeMap::new();
        for (name, raw::Portal { secret, time_zone, request_id_property }) in raw {
            let key = format!("portals.{name}");
            let Some(name) = PortalName::parse(&name) else {
                self.fault(&key, "must have a name of 1 to 64 letters, digits, `_` or `-`");
                continue;
            };
            let secret = secret.unwrap_or_else(|| format!("hubspot/{name}"));
            self.property(&format!("{key}.request_id_property"), request_id_property.as_deref());
            let zone = time_zone.map(|zone| self.zone(&format!("{key}.time_zone"), &zone));
            match SecretPath::parse(&secret) {
                Ok(secret) => {
                    let zone = zone.flatten();
                    portals.insert(name, Portal { secret, zone, request_id_property });
                }
                Err(what) => self.fault(&format!("{key}.secret"), what),
            }
        }
        Some(portals)
    }

    fn trace(&mut self, raw: raw::Trace) -> Option<TraceSettings> {
        let raw::Trace { otlp_endpoint, ca_file, headers_file, sample_ratio, service_name } = raw;
        let is_text = |text: &str| !text.trim().is_empty() && !text.chars().any(char::is_control);
        if !is_text(&service_name) {
            self.fault("trace.service_name", "must not be empty or hold control characters");
        }
        if !(0.0..=1.0).contains(&sample_ratio) {
            self.fault("trace.sample_ratio", "must be 0.0 to 1.0");
        }
        let otlp_endpoint = match otlp_endpoint.as_str() {
            "" => None,
            url => Some(self.url("trace.otlp_endpoint", url)?),
        };
        Some(TraceSettings { otlp_endpoint, ca_file, headers_file, sample_ratio, service_name })
    }

    fn log(&mut self, raw: raw::Log) -> Option<LogSettings> {
        let raw::Log { level, format } = raw;
        // Its parser panics within a letter of several bytes.
        if !level.is_ascii() || tracing_subscriber::EnvFilter::try_new(&level).is_err() {
            self.fault("log.level", "must be a filter such as info or info,leadsd=debug");
        }
        let format = match format.as_str() {
            "json" => LogFormat::Json,
            "pretty" => LogFormat::Pretty,
            _ => {
                self.fault("log.format", "must be json or pretty");
                return None;
            }
        };
        Some(LogSettings { level, format })
    }

    fn parsed<T: FromStr>(&mut self, key: &str, text: &str, wanted: &str) -> Option<T> {
        let value = text.parse().ok();
        if value.is_none() {
            self.fault(key, format!("must be {wanted}"));
        }
        value
    }

    pub(super) fn url(&mut self, key: &str, text: &str) -> Option<url::Url> {
        let url = url::Url::parse(text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        if url.is_none() {
            // The value may hold a password: it is not repeated.
            self.fault(key, "must be an http or https URL without credentials, query or fragment");
        }
        url
    }

    pub(super) fn number(
        &mut self,
        key: &str,
        value: usize,
        min: usize,
        max: usize,
    ) -> Option<usize> {
        if (min..=max).contains(&value) {
            return Some(value);
        }
        self.fault(key, format!("must be {min} to {max}"));
        None
    }

    pub(super) fn duration(
        &mut self,
        key: &str,
        text: &str,
        min_ms: u64,
        max_ms: u64,
    ) -> Option<Duration> {
        let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(max_ms));
        match parse_duration(text) {
            Some(value) if (min..=max).contains(&value) => Some(value),
            Some(_) => {
                self.fault(key, format!("must be {min:?} to {max:?}"));
                None
            }
            None => {
                self.fault(key, "must be a whole number with a unit: ms, s, m or h");
                None
            }
        }
    }

    fn size(&mut self, key: &str, text: &str, min: usize, max: usize) -> Option<usize> {
        match parse_size(text) {
            Some(value) if (min..=max).contains(&value) => Some(value),
            Some(_) => {
                self.fault(key, format!("must be {}KiB to {}KiB", min >> 10, max >> 10));
                None
            }
            None => {
                self.fault(key, "must be a whole number with a unit: B, KiB, MiB or GiB");
                None
            }
        }
    }
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    Some((number.parse().ok()?, unit))
}

/// A duration as the configuration has it, such as `250ms`, `5s`, `10m` or `1h`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(ms)?))
}

pub(super) fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = split_unit(text)?;
    let factor = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    usize::try_from(number.checked_mul(factor)?).ok()
}
