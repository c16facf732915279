//! Checks of what serves callers: certificates, keys of token issuers, API keys, Redis.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, UnixTime, pem::PemObject as _},
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{
    check::{Check, CheckResult, Outcome},
    report::Report,
};
use crate::{
    auth,
    cli::remediation::{self, Remediation},
    config::{self, Config},
    grpc,
    vault::AdminClient,
};
use leadsd_base::{
    secret::Secret,
    time::{SystemClock, WallClock as _},
};
use leadsd_quota::redis_ledger::RedisLedger;

/// Minimum time until the certificate expires; with less the check warns.
const RENEWED_BY: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Runs the checks of what is configured.
pub(super) async fn examine(
    config: &Config,
    vault_client: Option<&AdminClient>,
    vault_failed: Option<Check>,
    report: &mut Report,
) {
    report.check(Check::GrpcCertificate, None, certificate(config)).await;
    report.note(Check::GrpcCallers, None, callers(config), Duration::ZERO);
    if let Some(jwt) = &config.auth.jwt {
        report.check(Check::AuthJwks, None, jwks(jwt)).await;
    }
    match (&config.auth.api_keys, vault_client, vault_failed) {
        (Some(keys), Some(vault_client), _) => {
            report.check(Check::AuthApiKeys, None, api_keys(config, keys, vault_client)).await;
        }
        (Some(_), None, because) => {
            let because = Outcome::Skipped(because.unwrap_or(Check::VaultLogin));
            report.note(Check::AuthApiKeys, None, because, Duration::ZERO);
        }
        (None, ..) => {}
    }
    if let Some(shared) = &config.quota.shared {
        report.check(Check::QuotaShared, None, redis(shared)).await;
    }
}

async fn certificate(config: &Config) -> CheckResult<()> {
    let Some(tls) = &config.grpc.tls else {
        return CheckResult::ok((), "gRPC is served without TLS");
    };
    let client_ca = tls.client_ca.as_ref().map(|ca| (ca.file.clone(), ca.required));
    let files =
        grpc::TlsFiles { cert: tls.cert_file.clone(), key: tls.key_file.clone(), client_ca };
    let served = match grpc::Tls::load(files, Arc::new(SystemClock)).await {
        Ok(served) => served,
        Err(error) => {
            let fix = "put a PEM certificate chain that is in time, and the key that belongs to it, \
                       there, readable for this user";
            return CheckResult::fail(Remediation::new(error.to_string(), fix));
        }
    };
    if let Some(cause) = broken_chain(&tls.cert_file).await {
        let fix = "put the certificate first, then each certificate that signed the one before";
        return CheckResult::fail(Remediation::new(cause, fix));
    }
    let left = served.status().expires_in_s.unwrap_or_default();
    let days = left / 86_400.0;
    let renew = "renew it; leadsd takes new files over within a second";
    if left < RENEWED_BY.as_secs_f64() {
        let cause = format!("the certificate of the gRPC port ends in {days:.1} days");
        return CheckResult::warn((), cause, renew);
    }
    let mutual = match &tls.client_ca {
        Some(ca) if ca.required => "; callers need one too",
        Some(_) => "; callers may have one too",
        None => "",
    };
    CheckResult::ok((), format!("good for {days:.0} days{mutual}"))
}

/// What is wrong with a chain of more than one certificate.
async fn broken_chain(file: &Path) -> Option<String> {
    let pem = tokio::fs::read(file).await.ok()?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
    let (last, before) = chain.split_last()?;
    let (leaf, between) = before.split_first()?;
    let broken = |what: &str| Some(format!("{}: {what}", file.display()));
    let Ok(anchor) = anchor_from_trusted_cert(last) else {
        return broken("the last certificate cannot be read");
    };
    let Ok(leaf) = EndEntityCert::try_from(leaf) else {
        return broken("the first certificate cannot be read");
    };
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let now = u64::try_from(SystemClock.now().as_second()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let usage = KeyUsage::server_auth();
    match leaf.verify_for_usage(algorithms, &[anchor], between, now, usage, None, None) {
        // An end is told apart.
        Ok(_) | Err(webpki::Error::CertExpired { .. }) => None,
        Err(error) => broken(&format!("the chain does not hold together: {error}")),
    }
}

/// Whether strangers may call.
fn callers(config: &Config) -> Outcome {
    let config::Grpc { listen, tls, insecure, .. } = &config.grpc;
    let by_certificate = tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let ways = [
        (by_certificate, "certificate"),
        (config.auth.jwt.is_some(), "token"),
        (config.auth.api_keys.is_some(), "API key"),
    ];
    let ways: Vec<&str> = ways.into_iter().filter(|(on, _)| *on).map(|(_, way)| way).collect();
    let policies = config.policy.len();
    let known = format!("known by {}; {policies} policies", ways.join(", "));
    if listen.ip().to_canonical().is_loopback() {
        let strangers = "nobody is asked who they are, on loopback".to_owned();
        return Outcome::Ok(if ways.is_empty() { strangers } else { known });
    }
    if ways.is_empty() && *insecure {
        return Outcome::warn(
            format!("whoever reaches {listen} may do everything"),
            "ask callers for a certificate, token or API key, and take grpc.insecure out",
        );
    }
    if tls.is_none() {
        return Outcome::warn(
            format!("calls to {listen} are not encrypted; what callers send can be read"),
            "serve TLS ([grpc.tls]), unless a mesh encrypts",
        );
    }
    Outcome::Ok(known)
}

async fn jwks(jwt: &config::Jwt) -> CheckResult<()> {
    match auth::load_keys_once(&jwt.jwks).await {
        Ok(0) => CheckResult::fail(Remediation::new(
            "the issuer's key set has no key that signs",
            "see that it is the key set of the issuer, and not of somebody else",
        )),
        Ok(count) => CheckResult::ok((), format!("{count} keys")),
        Err(error) => CheckResult::fail(Remediation::new(
            format!("the issuer's keys cannot be had: {error}"),
            "check [auth.jwt]: the file or URL, its CA, and the token that is sent along",
        )),
    }
}

async fn api_keys(
    config: &Config,
    keys: &config::ApiKeys,
    vault_client: &AdminClient,
) -> CheckResult<()> {
    let location = vault_client.data_path(&keys.secret);
    let none = || {
        CheckResult::warn(
            (),
            format!("there are no API keys at {location}: nobody can call with one"),
            "store one: the caller's name as key, the SHA-256 of its API key in hex as value",
        )
    };
    let stored = match vault_client.read(&keys.secret).await {
        Ok(Some(stored)) => stored,
        Ok(None) => return none(),
        Err(error) => {
            return CheckResult::fail(remediation::vault(&error, &config.vault, &location));
        }
    };
    let Some(found) = stored.data else { return none() };
    let text = |name: &str| Secret::new(found.text(name).unwrap_or_default());
    let texts: BTreeMap<String, Secret> =
        found.names().map(|name| (name.to_owned(), text(name))).collect();
    let owners = auth::owners_of_api_keys(&texts);
    let bad: Vec<&str> =
        texts.keys().map(String::as_str).filter(|name| !owners.contains(*name)).collect();
    if texts.is_empty() {
        return none();
    }
    if !bad.is_empty() {
        return CheckResult::warn(
            (),
            format!("{location}: no API key can be made of what is stored for {}", bad.join(", ")),
            "the value is one or two SHA-256 in hex, with a comma between, and no two callers have \
             the same",
        );
    }
    CheckResult::ok((), format!("of {} callers", owners.len()))
}

async fn redis(shared: &config::SharedQuota) -> CheckResult<()> {
    match RedisLedger::new(shared.redis.clone()).probe().await {
        Ok(found) if found.writable => CheckResult::ok((), found.server),
        Ok(found) => CheckResult::fail(Remediation::new(
            format!("{} at quota.shared is a replica, and cannot be written to", found.server),
            "name the primary in quota.shared.url",
        )),
        Err(away) => CheckResult::fail(Remediation::new(
            format!("the store that replicas share cannot be used: {away}"),
            "check [quota.shared] and whether Redis or Valkey is there; until then each replica \
             keeps to its part of the limits",
        )),
    }
}
