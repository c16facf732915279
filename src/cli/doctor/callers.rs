//! Checks of the gRPC port and its callers: certificates, token issuer keys, API keys, quota ledger.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, UnixTime, pem::PemObject as _},
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{
    ca_files,
    check::{Check, CheckOutcome, CheckResult},
    report::Report,
};
use crate::{
    auth,
    cli::remediation::{self, Remediation},
    config::{self, Config},
    grpc,
    vault::{self, AdminClient},
};
use leadsd_base::{
    secret::Secret,
    time::{SystemClock, WallClock as _},
};
use leadsd_credentials::SecretPath;
use leadsd_redis::RedisClient;

/// Minimum remaining validity of the certificate; below it the check warns.
const MIN_VALIDITY: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Runs the checks of the configured features.
pub(super) async fn examine(
    config: &Config,
    vault_client: Option<&AdminClient>,
    vault_failed: Option<Check>,
    report: &mut Report,
) {
    report.check(Check::GrpcCertificate, None, certificate(config)).await;
    let files = config.ca_files();
    if !files.is_empty() {
        let expiry = async { ca_files::expiry_result(&files, SystemClock.now()) };
        report.check(Check::CaFiles, None, expiry).await;
    }
    report.note(Check::GrpcCallers, None, callers(config), Duration::ZERO);
    if let Some(jwt) = &config.auth.jwt {
        report.check(Check::AuthJwks, None, jwks(jwt)).await;
    }
    for (check, key, secret) in [
        (
            Check::AuthApiKeys,
            "auth.api_keys.secret",
            config.auth.api_keys.as_ref().map(|keys| &keys.secret),
        ),
        (Check::AdminApiKeys, "admin.api_keys_secret", config.admin.api_keys.as_ref()),
    ] {
        match (secret, vault_client) {
            (Some(secret), Some(vault_client)) => {
                report.check(check, None, api_keys(config, key, secret, vault_client)).await;
            }
            (Some(_), None) => {
                let because = CheckOutcome::Skipped(vault_failed.unwrap_or(Check::VaultLogin));
                report.note(check, None, because, Duration::ZERO);
            }
            (None, _) => {}
        }
    }
    if let Some(shared) = &config.quota.shared {
        report.check(Check::QuotaShared, None, redis(shared)).await;
    }
}

async fn certificate(config: &Config) -> CheckResult<()> {
    let Some(tls) = &config.grpc.tls else {
        return CheckResult::ok((), "[grpc.tls] is not configured");
    };
    let client_ca = tls.client_ca.as_ref().map(|ca| (ca.file.clone(), ca.required));
    let files =
        grpc::TlsFiles { cert: tls.cert_file.clone(), key: tls.key_file.clone(), client_ca };
    let served = match grpc::ServerTls::load(files, Arc::new(SystemClock)).await {
        Ok(served) => served,
        Err(error) => {
            let fix = "provide a valid PEM certificate chain and its private key, readable by this \
                       user";
            return CheckResult::fail(Remediation::new(error.to_string(), fix));
        }
    };
    if let Some(cause) = chain_error(&tls.cert_file).await {
        let fix = "order the chain: the server certificate first, each followed by its issuer";
        return CheckResult::fail(Remediation::new(cause, fix));
    }
    let left = served.status().expires_in_s.unwrap_or_default();
    let days = left / 86_400.0;
    let renew = "renew it; leadsd reloads changed files within a second";
    if left < MIN_VALIDITY.as_secs_f64() {
        let cause = format!("the certificate chain of the gRPC port expires in {days:.1} days");
        return CheckResult::warn((), cause, renew);
    }
    let mutual = match &tls.client_ca {
        Some(ca) if ca.required => "; client certificates are required",
        Some(_) => "; client certificates are accepted",
        None => "",
    };
    CheckResult::ok((), format!("valid for {days:.0} days{mutual}"))
}

/// Error of a chain of more than one certificate; `None` if the chain is valid.
async fn chain_error(file: &Path) -> Option<String> {
    let pem = tokio::fs::read(file).await.ok()?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
    let (last, before) = chain.split_last()?;
    let (leaf, between) = before.split_first()?;
    let broken = |what: &str| Some(format!("{}: {what}", file.display()));
    let Ok(anchor) = anchor_from_trusted_cert(last) else {
        return broken("the last certificate cannot be parsed");
    };
    let Ok(leaf) = EndEntityCert::try_from(leaf) else {
        return broken("the first certificate cannot be parsed");
    };
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let now = u64::try_from(SystemClock.now().as_second()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let usage = KeyUsage::server_auth();
    match leaf.verify_for_usage(algorithms, &[anchor], between, now, usage, None, None) {
        // Expiry is checked separately.
        Ok(_) | Err(webpki::Error::CertExpired { .. }) => None,
        Err(error) => broken(&format!("the certificates do not form a chain: {error}")),
    }
}

/// Checks whether callers are authenticated and the connection is encrypted.
fn callers(config: &Config) -> CheckOutcome {
    let config::Grpc { listen, tls, insecure, .. } = &config.grpc;
    let by_certificate = tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let methods = [
        (by_certificate, "client certificate"),
        (config.auth.jwt.is_some(), "JWT"),
        (config.auth.api_keys.is_some(), "API key"),
    ];
    let methods: Vec<&str> =
        methods.into_iter().filter(|(on, _)| *on).map(|(_, method)| method).collect();
    let policies = config.policy.len();
    let authenticated =
        format!("callers authenticate by {}; {policies} policies", methods.join(", "));
    if listen.is_loopback() {
        let place = if listen.is_unix() { "Unix socket" } else { "loopback" };
        let anonymous = format!("callers are not authenticated ({place})");
        return CheckOutcome::Ok(if methods.is_empty() { anonymous } else { authenticated });
    }
    if methods.is_empty() && *insecure {
        return CheckOutcome::warn(
            format!("{listen} accepts every call without authentication"),
            "configure client certificates, [auth.jwt] or [auth.api_keys], and remove grpc.insecure",
        );
    }
    if tls.is_none() {
        return CheckOutcome::warn(
            format!("calls to {listen} are not encrypted: tokens and data can be read in transit"),
            "enable TLS with [grpc.tls], unless a service mesh encrypts",
        );
    }
    CheckOutcome::Ok(authenticated)
}

async fn jwks(jwt: &config::Jwt) -> CheckResult<()> {
    match auth::load_jwks(&jwt.jwks).await {
        Ok(0) => CheckResult::fail(Remediation::new(
            "the issuer's key set contains no signing key",
            "check that [auth.jwt] names the key set of the right issuer",
        )),
        Ok(count) => {
            let route = match &jwt.jwks {
                config::Jwks::File(_) => String::new(),
                config::Jwks::Url { url, egress, .. } => format!("; {}", egress.route(url)),
            };
            CheckResult::ok((), format!("{count} keys{route}"))
        }
        Err(error) => CheckResult::fail(Remediation::new(
            format!("cannot load the issuer's keys: {error}"),
            "check [auth.jwt]: the file or URL, its CA, and its bearer token",
        )),
    }
}

/// Checks the hashes of API keys in the secret of a key of the configuration.
async fn api_keys(
    config: &Config,
    key: &str,
    secret: &SecretPath,
    vault_client: &AdminClient,
) -> CheckResult<()> {
    let location = vault_client.data_path(secret);
    let api = || remediation::api_path(key, secret, &config.vault.mount, str::to_owned);
    let none = || {
        if let Some(Remediation { cause, fix }) = api() {
            return CheckResult::warn((), cause, fix);
        }
        CheckResult::warn(
            (),
            format!("there are no API keys at {location}: every API key is rejected"),
            "store one: the caller's name as key, the SHA-256 of its API key in hex as value",
        )
    };
    let stored = match vault_client.read(secret).await {
        Ok(Some(stored)) => stored,
        Ok(None) => return none(),
        Err(error) => {
            if let (vault::Error::Denied, Some(api)) = (&error, api()) {
                return CheckResult::fail(api);
            }
            return CheckResult::fail(remediation::vault(&error, &config.vault, &location));
        }
    };
    let Some(found) = stored.data else { return none() };
    let text = |name: &str| Secret::new(found.text(name).unwrap_or_default());
    let texts: BTreeMap<String, Secret> =
        found.names().map(|name| (name.to_owned(), text(name))).collect();
    let owners = auth::api_key_owners(&texts);
    let bad: Vec<&str> =
        texts.keys().map(String::as_str).filter(|name| !owners.contains(*name)).collect();
    if texts.is_empty() {
        return none();
    }
    if !bad.is_empty() {
        return CheckResult::warn(
            (),
            format!("{location}: the stored values of {} are not API key hashes", bad.join(", ")),
            "store one or two SHA-256 hashes in hex, separated by a comma, unique per caller",
        );
    }
    CheckResult::ok((), format!("{} callers", owners.len()))
}

async fn redis(shared: &config::SharedQuota) -> CheckResult<()> {
    match RedisClient::new(shared.redis.clone()).probe().await {
        Ok(found) if found.writable => CheckResult::ok((), found.server),
        Ok(found) => CheckResult::fail(Remediation::new(
            format!("{} in [quota.shared] is a read-only replica", found.server),
            "name the primary in quota.shared.url",
        )),
        Err(error) => CheckResult::fail(Remediation::new(
            format!("the quota ledger is unavailable: {error}"),
            "check [quota.shared] and that Redis or Valkey is running; until then each replica \
             uses a fixed part of the limits",
        )),
    }
}
