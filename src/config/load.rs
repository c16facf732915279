//! Loads the configuration in layers (compiled-in defaults, file, environment) and reports every
//! fault at once, each with its key and where the value came from.

use std::{collections::BTreeMap, fmt, path::Path, str::FromStr, time::Duration};

use figment::{
    Figment, Profile,
    providers::{Format as _, Serialized, Toml},
    value::{Dict, Value},
};

use super::{
    Admin, ApiVersion, Config, Credentials, Grpc, Hubspot, Log, LogFormat, Portal, PortalsFrom,
    Vault, VaultAuth,
    raw::{self, Raw},
};
use crate::{
    credentials::{SecretPath, Start},
    leads::PortalName,
};

/// The documented default file, and the lowest layer.
const DEFAULTS: &str = include_str!("../../leadsd.example.toml");

/// Most faults looked for: each takes another pass over the values.
const MAX_PASSES: usize = 64;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Dotted key, such as `grpc.listen`.
    pub key: String,
    /// Where the value came from, such as a file or an environment variable; empty if there is none.
    pub origin: String,
    /// What is wrong with it.
    pub what: String,
}

/// Everything that is wrong with a configuration; at least one fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

/// A configuration that is right.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    raw: Raw,
    figment: Figment,
}

// === impl Fault ===

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)?;
        if self.origin.is_empty() { Ok(()) } else { write!(f, " (from {})", self.origin) }
    }
}

// === impl Faults ===

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{fault}")?;
        }
        Ok(())
    }
}

// === impl Loaded ===

impl Loaded {
    /// Loads and checks. `environment` is the process's, or whatever a test says it is.
    pub fn new(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Faults> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(file) = file {
            if !file.is_file() {
                let origin = file.display().to_string();
                let what = "the file does not exist".to_owned();
                return Err(Faults(vec![Fault { key: "--config".to_owned(), origin, what }]));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        for (name, value) in environment {
            // Kubernetes sets LEADSD_SERVICE_HOST, LEADSD_PORT and the like for a Service called
            // leadsd: only names with a section are ours.
            let Some(key) = name.strip_prefix("LEADSD_").filter(|key| key.contains("__")) else {
                continue;
            };
            let key = key.to_lowercase().replace("__", ".");
            figment = figment.merge(from_environment(&name, &key, &value));
        }
        let mut faults = Vec::new();
        let raw = extract(&figment, &mut faults);
        let mut checker = Checker { figment: &figment, faults };
        let config = raw.clone().and_then(|raw| checker.config(raw));
        match (config, raw) {
            (Some(config), Some(raw)) if checker.faults.is_empty() => {
                Ok(Self { config, raw, figment })
            }
            _ => Err(Faults(checker.faults)),
        }
    }

    /// The effective configuration as TOML, each value with its origin. There are no secrets in it.
    pub fn print(&self) -> String {
        let text = toml::to_string(&self.raw).unwrap_or_default();
        let mut section = String::new();
        let mut out = String::new();
        for line in text.lines() {
            out.push_str(line);
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, _)) = line.split_once(" = ") {
                let origin = origin(&self.figment, &format!("{section}.{key}"));
                out.push_str("  # ");
                out.push_str(&origin);
            }
            out.push('\n');
        }
        out
    }
}

/// A layer of one value with the variable's name as its origin.
fn from_environment(name: &str, key: &str, value: &str) -> impl figment::Provider {
    let value = Value::from_str(value).unwrap_or_else(|never| match never {});
    let name = name.to_owned();
    let nested = key
        .rsplit('.')
        .fold(value, |inner, part| Value::from(Dict::from([(part.to_owned(), inner)])));
    let dict = nested.into_dict().unwrap_or_default();
    Named { name, inner: Serialized::from(dict, Profile::Default) }
}

/// Gives a layer the name of its variable.
struct Named<P> {
    name: String,
    inner: P,
}

// === impl Named ===

impl<P: figment::Provider> figment::Provider for Named<P> {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::named(format!("environment variable {}", self.name))
    }

    fn data(&self) -> Result<figment::value::Map<Profile, Dict>, figment::Error> {
        self.inner.data()
    }
}

/// Reads the raw form; whatever is in the way is reported, taken out and left to its default.
fn extract(figment: &Figment, faults: &mut Vec<Fault>) -> Option<Raw> {
    let defaults: Figment = Figment::from(Toml::string(DEFAULTS));
    let mut values: Dict = match figment.extract() {
        Ok(values) => values,
        Err(error) => {
            faults.extend(error.into_iter().map(|error| fault_of(figment, &error)));
            return None;
        }
    };
    for _ in 0..MAX_PASSES {
        let layer = Figment::from(Serialized::from(&values, Profile::Default));
        let error = match layer.extract::<Raw>() {
            Ok(raw) => return Some(raw),
            Err(error) => error,
        };
        let mut path = error.path.clone();
        if let figment::error::Kind::UnknownField(name, _)
        | figment::error::Kind::UnknownVariant(name, _) = &error.kind
            && path.last() != Some(name)
        {
            path.push(name.clone());
        }
        if let figment::error::Kind::MissingField(name) = &error.kind
            && path.last().map(String::as_str) != Some(name.as_ref())
        {
            path.push(name.to_string());
        }
        let key = path.join(".");
        let what = describe(&error.kind);
        faults.push(Fault { origin: origin(figment, &key), key: key.clone(), what });
        let default = defaults.find_value(&key).ok();
        if !replace(&mut values, &path, default) {
            return None;
        }
    }
    None
}

/// Puts the default in place of a value, or takes it out. False if there was nothing to change.
fn replace(values: &mut Dict, path: &[String], default: Option<Value>) -> bool {
    let Some((name, parents)) = path.split_last() else { return false };
    let mut dict = values;
    for parent in parents {
        let Some(Value::Dict(_, inner)) = dict.get_mut(parent) else { return false };
        dict = inner;
    }
    match default {
        Some(default) => dict.insert(name.clone(), default.clone()).as_ref() != Some(&default),
        None => dict.remove(name).is_some(),
    }
}

fn describe(kind: &figment::error::Kind) -> String {
    match kind {
        figment::error::Kind::UnknownField(_, known) => {
            format!("is not a key; known here are: {}", known.join(", "))
        }
        figment::error::Kind::InvalidType(found, wanted) => {
            format!("must be {wanted}, is {found}")
        }
        figment::error::Kind::MissingField(_) => "is required".to_owned(),
        other => other.to_string(),
    }
}

fn fault_of(figment: &Figment, error: &figment::Error) -> Fault {
    let key = error.path.join(".");
    let named = error.metadata.as_ref().map(source);
    let origin = named.unwrap_or_else(|| origin(figment, &key));
    Fault { key, origin, what: error.kind.to_string() }
}

/// Where the value of a key came from.
fn origin(figment: &Figment, key: &str) -> String {
    let mut key = key;
    loop {
        if let Some(metadata) = figment.find_metadata(key) {
            return source(metadata);
        }
        match key.rsplit_once('.') {
            Some((parent, _)) => key = parent,
            None => return String::new(),
        }
    }
}

fn source(metadata: &figment::Metadata) -> String {
    match &metadata.source {
        Some(figment::Source::File(file)) => file.display().to_string(),
        _ if metadata.name.starts_with("environment") => metadata.name.to_string(),
        _ => "default".to_owned(),
    }
}

/// Turns raw values into checked ones and collects the faults.
struct Checker<'a> {
    figment: &'a Figment,
    faults: Vec<Fault>,
}

// === impl Checker ===

impl Checker<'_> {
    fn fault(&mut self, key: &str, what: impl Into<String>) {
        let origin = origin(self.figment, key);
        self.faults.push(Fault { key: key.to_owned(), origin, what: what.into() });
    }

    fn config(&mut self, raw: Raw) -> Option<Config> {
        let Raw { grpc, admin, vault, hubspot, credentials, portals, portals_from, log } = raw;
        let grpc = self.grpc(&grpc);
        let admin = self.parsed("admin.listen", &admin.listen, "an address such as 127.0.0.1:9090");
        let vault = self.vault(vault);
        let hubspot = self.hubspot(&hubspot);
        let credentials = self.credentials(&credentials);
        let portals_from = portals_from.map(|raw| self.portals_from(&raw));
        let portals = self.portals(portals, portals_from.is_some());
        let log = self.log(log);
        Some(Config {
            grpc: grpc?,
            admin: Admin { listen: admin? },
            vault: vault?,
            hubspot: hubspot?,
            credentials: credentials?,
            portals: portals?,
            portals_from: match portals_from {
                Some(from) => Some(from?),
                None => None,
            },
            log: log?,
        })
    }

    fn grpc(&mut self, raw: &raw::Grpc) -> Option<Grpc> {
        let raw::Grpc { listen, max_request_size, max_batch_inputs, max_deadline, shutdown_grace } =
            raw;
        let listen = self.parsed("grpc.listen", listen, "an address such as 127.0.0.1:50051");
        let size = self.size("grpc.max_request_size", max_request_size, 64 << 10, 256 << 20);
        let inputs = self.number("grpc.max_batch_inputs", *max_batch_inputs, 1, 100_000);
        let deadline = self.duration("grpc.max_deadline", max_deadline, 100, 600_000);
        let grace = self.duration("grpc.shutdown_grace", shutdown_grace, 0, 600_000);
        Some(Grpc {
            listen: listen?,
            max_request_bytes: size?,
            max_batch_inputs: inputs?,
            max_deadline: deadline?,
            shutdown_grace: grace?,
        })
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
        let auth = self.auth(auth);
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

    fn auth(&mut self, raw: raw::VaultAuth) -> Option<VaultAuth> {
        let raw::VaultAuth { method, file, mount, role_id_file, secret_id_file } = raw;
        let Some(method) = method else {
            self.fault("vault.auth.method", "is required: token, token_file or approle");
            return None;
        };
        let approle = [
            ("mount", mount.is_some()),
            ("role_id_file", role_id_file.is_some()),
            ("secret_id_file", secret_id_file.is_some()),
        ];
        match method.as_str() {
            "token" | "token_file" => {
                for (key, given) in approle {
                    if given {
                        self.fault(
                            &format!("vault.auth.{key}"),
                            format!("does not go with method {method}"),
                        );
                    }
                }
                let Some(file) = file else {
                    self.fault("vault.auth.file", format!("is required for method {method}"));
                    return None;
                };
                Some(if method == "token" {
                    VaultAuth::Token { file }
                } else {
                    VaultAuth::TokenFile { file }
                })
            }
            "approle" => {
                if file.is_some() {
                    self.fault("vault.auth.file", "does not go with method approle");
                }
                let mount = mount.unwrap_or_else(|| "approle".to_owned());
                if SecretPath::parse(&mount).is_err() {
                    self.fault(
                        "vault.auth.mount",
                        "must be a path of letters, digits, `.`, `_`, `-`",
                    );
                }
                let Some(role_id_file) = role_id_file else {
                    self.fault("vault.auth.role_id_file", "is required for method approle");
                    return None;
                };
                Some(VaultAuth::AppRole { mount, role_id_file, secret_id_file })
            }
            _ => {
                self.fault("vault.auth.method", "must be token, token_file or approle");
                None
            }
        }
    }

    fn hubspot(&mut self, raw: &raw::Hubspot) -> Option<Hubspot> {
        let raw::Hubspot {
            base_url,
            api_version,
            connect_timeout,
            request_timeout,
            max_answer_size,
            batch_concurrency,
        } = raw;
        let base_url = self.url("hubspot.base_url", base_url);
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
        let concurrency = self.number("hubspot.batch_concurrency", *batch_concurrency, 1, 32);
        Some(Hubspot {
            base_url: base_url?,
            api_version: api_version?,
            connect_timeout: connect?,
            request_timeout: request?,
            max_answer_bytes: size?,
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

    fn portals_from(&mut self, raw: &raw::PortalsFrom) -> Option<PortalsFrom> {
        match SecretPath::parse(&raw.folder) {
            Ok(folder) => Some(PortalsFrom { folder }),
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
        for (name, raw::Portal { secret }) in raw {
            let key = format!("portals.{name}");
            let Some(name) = PortalName::parse(&name) else {
                self.fault(&key, "must have a name of 1 to 64 letters, digits, `_` or `-`");
                continue;
            };
            let secret = secret.unwrap_or_else(|| format!("hubspot/{name}"));
            match SecretPath::parse(&secret) {
                Ok(secret) => {
                    portals.insert(name, Portal { secret });
                }
                Err(what) => self.fault(&format!("{key}.secret"), what),
            }
        }
        Some(portals)
    }

    fn log(&mut self, raw: raw::Log) -> Option<Log> {
        let raw::Log { level, format } = raw;
        if tracing_subscriber::EnvFilter::try_new(&level).is_err() {
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
        Some(Log { level, format })
    }

    fn parsed<T: FromStr>(&mut self, key: &str, text: &str, wanted: &str) -> Option<T> {
        let value = text.parse().ok();
        if value.is_none() {
            self.fault(key, format!("must be {wanted}"));
        }
        value
    }

    fn url(&mut self, key: &str, text: &str) -> Option<url::Url> {
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

    fn number(&mut self, key: &str, value: usize, min: usize, max: usize) -> Option<usize> {
        if (min..=max).contains(&value) {
            return Some(value);
        }
        self.fault(key, format!("must be {min} to {max}"));
        None
    }

    fn duration(&mut self, key: &str, text: &str, min_ms: u64, max_ms: u64) -> Option<Duration> {
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

fn parse_duration(text: &str) -> Option<Duration> {
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

fn parse_size(text: &str) -> Option<usize> {
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

#[cfg(test)]
mod tests;
