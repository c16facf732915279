//! Checks who may call: `[grpc.tls]`, `[auth]` and `[policy.<name>]`, and that nobody serves strangers
//! by accident.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use super::{check::Checker, grpc::Grpc, portals::Portal, raw};
use crate::leads::PortalName;
use leadsd_credentials::SecretPath;

/// Stands for all portals.
const ALL: &str = "*";

/// How often a JWKS URL is asked, unless the configuration says otherwise.
const REFRESH_INTERVAL: &str = "5m";

/// The claim that names the caller, unless the configuration says otherwise.
const CALLER_CLAIM: &str = "sub";

/// Longest name of a caller, issuer, audience or claim, in bytes.
const MAX_NAME: usize = 512;

/// `[auth]`: how callers prove who they are, beside certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// `[auth.jwt]`; none by default.
    pub jwt: Option<Jwt>,
    /// `[auth.api_keys]`; none by default.
    pub api_keys: Option<ApiKeys>,
}

/// `[auth.jwt]`: bearer tokens of one issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// The claim `iss` of its tokens.
    pub issuer: String,
    /// What the claim `aud` must name.
    pub audience: String,
    /// Where its public keys are.
    pub jwks: Jwks,
    /// The claim that names the caller. Default `sub`.
    pub caller_claim: String,
}

/// Where an issuer's public keys (a JSON Web Key Set) are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwks {
    /// In a file, which is read again when it changes.
    File(PathBuf),
    /// At a URL.
    Url {
        /// Where; https, or http on loopback.
        url: url::Url,
        /// PEM file with the CAs that may sign its certificate, beside the public ones.
        ca_file: Option<PathBuf>,
        /// File with a bearer token to send along; read at every request.
        token_file: Option<PathBuf>,
        /// How often to look. Default 5 min.
        refresh_interval: Duration,
    },
}

/// `[auth.api_keys]`: keys whose hashes are in Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeys {
    /// Path of the secret under the KV mount: callers' names, each with the SHA-256 of its key.
    pub secret: SecretPath,
}

/// `[policy.<name>]`: what some callers may do in some portals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Names of callers, or how they begin.
    pub callers: Vec<CallerPattern>,
    /// The portals; none stands for all of them.
    pub portals: Option<Vec<PortalName>>,
    /// What they may do with leads.
    pub access: Access,
    /// Whether they may ask for the portal's quota. Default no.
    pub quota: bool,
    /// Their part of a portal's quota when callers wait. Default 1.
    pub weight: u32,
}

/// One or more callers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallerPattern {
    /// The one of this name.
    Exact(String),
    /// All whose names begin like this; with the empty text, all.
    Prefix(String),
}

/// What a caller may do with leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing.
    None,
    /// Reads.
    Read,
    /// Reads and writes.
    Write,
}

// === impl Checker ===

impl Checker<'_> {
    /// The section `[auth]`.
    pub(super) fn callers(&mut self, raw: raw::Auth) -> Option<Auth> {
        let raw::Auth { jwt, api_keys } = raw;
        let jwt = jwt.map(|raw| self.jwt(raw));
        let api_keys = api_keys.map(|raw| self.api_keys(&raw));
        Some(Auth {
            jwt: match jwt {
                Some(jwt) => Some(jwt?),
                None => None,
            },
            api_keys: match api_keys {
                Some(api_keys) => Some(api_keys?),
                None => None,
            },
        })
    }

    fn jwt(&mut self, raw: raw::Jwt) -> Option<Jwt> {
        let raw::Jwt {
            issuer,
            audience,
            jwks_file,
            jwks_url,
            ca_file,
            token_file,
            refresh_interval,
            caller_claim,
        } = raw;
        let issuer = self.name("auth.jwt.issuer", issuer);
        let audience = self.name("auth.jwt.audience", audience);
        let claim = caller_claim.unwrap_or_else(|| CALLER_CLAIM.to_owned());
        let caller_claim = self.name("auth.jwt.caller_claim", Some(claim));
        let of_url = [
            ("ca_file", ca_file.is_some()),
            ("token_file", token_file.is_some()),
            ("refresh_interval", refresh_interval.is_some()),
        ];
        if jwks_url.is_none() {
            for (key, _) in of_url.into_iter().filter(|(_, given)| *given) {
                self.fault(&format!("auth.jwt.{key}"), "goes with jwks_url only");
            }
        }
        let interval = refresh_interval.as_deref().unwrap_or(REFRESH_INTERVAL);
        let interval = self.duration("auth.jwt.refresh_interval", interval, 1_000, 86_400_000);
        let jwks = match (jwks_file, jwks_url) {
            (Some(file), None) => Some(Jwks::File(file)),
            (None, Some(url)) => {
                let url = self.jwks_url(&url);
                url.zip(interval).map(|(url, refresh_interval)| Jwks::Url {
                    url,
                    ca_file,
                    token_file,
                    refresh_interval,
                })
            }
            (Some(_), Some(_)) => {
                self.fault("auth.jwt.jwks_url", "does not go with jwks_file: one of the two");
                None
            }
            (None, None) => {
                self.fault("auth.jwt", "needs jwks_file or jwks_url");
                None
            }
        };
        Some(Jwt { issuer: issuer?, audience: audience?, jwks: jwks?, caller_claim: caller_claim? })
    }

    /// Whoever can change what this URL answers can be anybody: it has to be encrypted.
    fn jwks_url(&mut self, text: &str) -> Option<url::Url> {
        let url = self.url("auth.jwt.jwks_url", text)?;
        let loopback = match url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if url.scheme() != "https" && !loopback {
            self.fault("auth.jwt.jwks_url", "must be https: its answer decides who is who");
            return None;
        }
        Some(url)
    }

    fn api_keys(&mut self, raw: &raw::ApiKeys) -> Option<ApiKeys> {
        let Some(secret) = &raw.secret else {
            self.fault("auth.api_keys.secret", "is required");
            return None;
        };
        match SecretPath::parse(secret) {
            Ok(secret) => Some(ApiKeys { secret }),
            Err(what) => {
                self.fault("auth.api_keys.secret", what);
                None
            }
        }
    }

    fn name(&mut self, key: &str, name: Option<String>) -> Option<String> {
        let Some(name) = name else {
            self.fault(key, "is required");
            return None;
        };
        if is_name(&name) {
            return Some(name);
        }
        self.fault(key, "must be printable ASCII without spaces, at most 512 characters");
        None
    }

    /// The policies. `portals` are those that there are, where the configuration names them all.
    pub(super) fn policies(
        &mut self,
        raw: BTreeMap<String, raw::Policy>,
        portals: Option<&BTreeMap<PortalName, Portal>>,
    ) -> Option<BTreeMap<String, Policy>> {
        let before = self.faults.len();
        let mut policies = BTreeMap::new();
        let mut decided: BTreeMap<(CallerPattern, Option<PortalName>), String> = BTreeMap::new();
        for (name, raw) in raw {
            let Some(policy) = self.policy(&name, raw, portals) else { continue };
            for callers in &policy.callers {
                for portal in each_portal(&policy) {
                    let other = decided.insert((callers.clone(), portal), name.clone());
                    if let Some(other) = other {
                        // One policy decides a call: two that fit equally well would be a riddle.
                        let what = format!("has a caller and portal that [policy.{other}] has too");
                        self.fault(&format!("policy.{name}.callers"), what);
                    }
                }
            }
            policies.insert(name, policy);
        }
        (self.faults.len() == before).then_some(policies)
    }

    fn policy(
        &mut self,
        name: &str,
        raw: raw::Policy,
        known: Option<&BTreeMap<PortalName, Portal>>,
    ) -> Option<Policy> {
        let raw::Policy { callers, portals, access, quota, weight } = raw;
        let key = |key: &str| format!("policy.{name}.{key}");
        if callers.is_empty() {
            self.fault(&key("callers"), "must name at least one caller");
        }
        let mut patterns = Vec::new();
        for caller in callers {
            let pattern = pattern(&caller);
            if pattern.is_none() {
                let what = "must be callers' names, printable ASCII without spaces, with `*` at the end only";
                self.fault(&key("callers"), what);
            }
            patterns.push(pattern?);
        }
        let portals = self.policy_portals(&key("portals"), &portals, known);
        let access = match access.as_deref() {
            Some("none") => Some(Access::None),
            Some("read") => Some(Access::Read),
            Some("write") => Some(Access::Write),
            Some(_) | None => {
                self.fault(&key("access"), "must be none, read or write");
                None
            }
        };
        let weight = self.number(&key("weight"), weight.unwrap_or(1), 1, 1_000);
        Some(Policy {
            callers: patterns,
            portals: portals?,
            access: access?,
            quota: quota.unwrap_or(false),
            weight: u32::try_from(weight?).unwrap_or(1),
        })
    }

    fn policy_portals(
        &mut self,
        key: &str,
        names: &[String],
        known: Option<&BTreeMap<PortalName, Portal>>,
    ) -> Option<Option<Vec<PortalName>>> {
        if names == [ALL] {
            return Some(None);
        }
        if names.is_empty() {
            self.fault(key, "must name at least one portal, or be [\"*\"] for all");
            return None;
        }
        let mut portals = Vec::new();
        for name in names {
            let Some(portal) = PortalName::parse(name) else {
                self.fault(key, "must be names of portals, or [\"*\"] alone");
                return None;
            };
            if known.is_some_and(|known| !known.contains_key(&portal)) {
                self.fault(key, format!("names the portal `{portal}`, which is not configured"));
            }
            portals.push(portal);
        }
        Some(Some(portals))
    }

    /// Identities and policies go together, and strangers are served on purpose only.
    pub(super) fn exposure(&mut self, grpc: &Grpc, auth: &Auth, policy: &BTreeMap<String, Policy>) {
        let certificates = grpc.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let identified = certificates || auth.jwt.is_some() || auth.api_keys.is_some();
        if identified && policy.is_empty() {
            let what = "needs at least one table such as [policy.everybody]: with callers' identities configured, nobody may do anything that no policy allows";
            self.fault("policy", what);
        }
        if !identified && !policy.is_empty() {
            let what = "needs a way to know callers: grpc.tls.client_ca_file, [auth.jwt] or [auth.api_keys]";
            self.fault("policy", what);
        }
        let loopback = grpc.listen.ip().to_canonical().is_loopback();
        if loopback || grpc.insecure || (grpc.tls.is_some() && identified) {
            return;
        }
        let missing = match (grpc.tls.is_some(), identified) {
            (false, false) => "without TLS ([grpc.tls]) and without knowing its callers",
            (false, true) => "without TLS ([grpc.tls])",
            (true, _) => "without knowing its callers",
        };
        let ways =
            "grpc.tls.client_ca_file, [auth.jwt] or [auth.api_keys] say how callers are known";
        let what = format!(
            "would serve {} {missing}; {ways}; set grpc.insecure = true to serve all the same",
            grpc.listen
        );
        self.fault("grpc.listen", what);
    }
}

/// The portals that a policy names, `None` for all.
fn each_portal(policy: &Policy) -> BTreeSet<Option<PortalName>> {
    match &policy.portals {
        None => BTreeSet::from([None]),
        Some(portals) => portals.iter().cloned().map(Some).collect(),
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic())
}

/// A full name, or how names begin with a `*` after it.
fn pattern(text: &str) -> Option<CallerPattern> {
    if !is_name(text) {
        return None;
    }
    match text.split_once('*') {
        None => Some(CallerPattern::Exact(text.to_owned())),
        Some((beginning, "")) => Some(CallerPattern::Prefix(beginning.to_owned())),
        Some(_) => None,
    }
}
