//! `[auth]` and `[policy.<name>]`: authentication and authorization of callers. Also rejects a
//! configuration that would serve unauthenticated callers by accident. `policies` has the rights of callers
//! in portals.

mod policies;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{check::Checker, grpc::Grpc, raw};
use crate::leads::PortalName;
use leadsd_base::net::egress::Egress;
use leadsd_credentials::SecretPath;

/// Default interval between requests to a JWKS URL.
pub(super) const REFRESH_INTERVAL: &str = "5m";

/// Default claim with the name of the caller.
pub(super) const CALLER_CLAIM: &str = "sub";

/// Default weight of a caller.
pub(super) const WEIGHT: usize = 1;

/// Maximum length in bytes of the name of a caller, issuer, audience or claim.
const MAX_NAME: usize = 512;

/// `[auth]`: authentication of callers, in addition to client certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// `[auth.jwt]`; disabled by default.
    pub jwt: Option<Jwt>,
    /// `[auth.api_keys]`; disabled by default.
    pub api_keys: Option<ApiKeys>,
}

/// `[auth.jwt]`: bearer tokens of one issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// Required value of the claim `iss`.
    pub issuer: String,
    /// Required value of the claim `aud`.
    pub audience: String,
    /// Source of the issuer's public keys.
    pub jwks: Jwks,
    /// Claim with the name of the caller. Default `sub`.
    pub caller_claim: String,
}

/// Source of an issuer's public keys (JSON Web Key Set).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwks {
    /// File, reloaded when it changes.
    File(PathBuf),
    /// URL, requested periodically.
    Url {
        /// URL; https, or http on loopback.
        url: url::Url,
        /// PEM file with CAs that are trusted in addition to the public ones.
        ca_file: Option<PathBuf>,
        /// File with a bearer token for the request; read for each request.
        token_file: Option<PathBuf>,
        /// Interval between requests. Default 5 min.
        refresh_interval: Duration,
        /// Way to the issuer.
        egress: Egress,
    },
}

/// `[auth.api_keys]`: API keys whose hashes are in Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeys {
    /// Path of the secret under the KV mount: caller names with the SHA-256 hashes of their keys.
    pub secret: SecretPath,
}

/// `[policy.<name>]`: rights of callers in portals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Callers, by exact name or prefix.
    pub callers: Vec<CallerPattern>,
    /// Portals; `None` for all portals.
    pub portals: Option<Vec<PortalName>>,
    /// Access to leads.
    pub access: Access,
    /// True if the callers may read the quota. Default false.
    pub quota: bool,
    /// True if the callers may export the leads that they may read. Default false.
    pub export: bool,
    /// True if the callers, which may write leads, may import them. Default false.
    pub import: bool,
    /// True if the callers, which may write leads, may create contacts with them. Default false.
    pub create_contacts: bool,
    /// Weight in the fair queue for a portal's quota. Default 1.
    pub weight: u32,
}

/// Pattern of caller names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallerPattern {
    /// Caller with this name.
    Exact(String),
    /// Callers whose names start with this prefix; the empty prefix matches all.
    Prefix(String),
}

/// Access of a caller to leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// No access.
    None,
    /// Read access.
    Read,
    /// Read and write access.
    Write,
}

// === impl Checker ===

impl Checker<'_> {
    /// Converts `[auth]`.
    pub(super) fn callers(&mut self, raw: raw::Auth, egress: &Egress) -> Option<Auth> {
        let raw::Auth { jwt, api_keys } = raw;
        let jwt = jwt.map(|raw| self.jwt(raw, egress));
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

    fn jwt(&mut self, raw: raw::Jwt, egress: &Egress) -> Option<Jwt> {
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
                self.add_error(&format!("auth.jwt.{key}"), "is allowed only with jwks_url");
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
                    egress: egress.clone(),
                })
            }
            (Some(_), Some(_)) => {
                self.add_error(
                    "auth.jwt.jwks_url",
                    "is not allowed together with jwks_file; set one of them",
                );
                None
            }
            (None, None) => {
                self.add_error("auth.jwt", "needs jwks_file or jwks_url");
                None
            }
        };
        Some(Jwt { issuer: issuer?, audience: audience?, jwks: jwks?, caller_claim: caller_claim? })
    }

    /// Converts a JWKS URL. It must be https, since a forged response could authenticate any caller.
    fn jwks_url(&mut self, text: &str) -> Option<url::Url> {
        let url = self.url("auth.jwt.jwks_url", text)?;
        let loopback = match url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if url.scheme() != "https" && !loopback {
            self.add_error(
                "auth.jwt.jwks_url",
                "must be https: a forged key set would authenticate any caller",
            );
            return None;
        }
        Some(url)
    }

    fn api_keys(&mut self, raw: &raw::ApiKeys) -> Option<ApiKeys> {
        let Some(secret) = &raw.secret else {
            self.add_error("auth.api_keys.secret", "is required");
            return None;
        };
        match SecretPath::parse(secret) {
            Ok(secret) => Some(ApiKeys { secret }),
            Err(what) => {
                self.add_error("auth.api_keys.secret", what);
                None
            }
        }
    }

    fn name(&mut self, key: &str, name: Option<String>) -> Option<String> {
        let Some(name) = name else {
            self.add_error(key, "is required");
            return None;
        };
        if is_name(&name) {
            return Some(name);
        }
        self.add_error(key, "must be printable ASCII without spaces, at most 512 characters");
        None
    }

    /// Checks that authentication and policies are configured together, and that unauthenticated or
    /// unencrypted calls are allowed explicitly.
    pub(super) fn check_exposure(
        &mut self,
        grpc: &Grpc,
        auth: &Auth,
        policy: &BTreeMap<String, Policy>,
    ) {
        let certificates = grpc.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let identified = certificates || auth.jwt.is_some() || auth.api_keys.is_some();
        if identified && policy.is_empty() {
            let what = "needs at least one table such as [policy.everyone]: with authentication configured, every call without a matching policy is denied";
            self.add_error("policy", what);
        }
        if !identified && !policy.is_empty() {
            let what =
                "needs authentication: grpc.tls.client_ca_file, [auth.jwt] or [auth.api_keys]";
            self.add_error("policy", what);
        }
        let loopback = grpc.listen.is_loopback();
        if loopback || grpc.insecure || (grpc.tls.is_some() && identified) {
            return;
        }
        let missing = match (grpc.tls.is_some(), identified) {
            (false, false) => "without TLS and without authentication",
            (false, true) => "without TLS",
            (true, _) => "without authentication",
        };
        let what = format!(
            "would serve {} {missing}; configure [grpc.tls] and one of grpc.tls.client_ca_file, \
             [auth.jwt] or [auth.api_keys], or set grpc.insecure = true",
            grpc.listen
        );
        self.add_error("grpc.listen", what);
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic())
}
