//! Checks of Vault: connection, login, token and secrets engine.

use std::time::Duration;

use super::{
    check::{Area, Check, CheckOutcome, CheckResult},
    network::{connect, resolve, tls_outcome},
    report::Report,
};
use crate::{
    cli::remediation::{self, Peer, Remediation},
    config,
    vault::{AdminClient, Error, MountInfo, TokenLookup, VaultHealth},
};
use leadsd_base::{
    net::connect_error::ConnectError,
    time::{SystemClock, Timestamp, WallClock as _},
};

/// Minimum time to live of a token that is not renewable; below it the check warns.
const MIN_TTL: Duration = Duration::from_secs(600);

/// Minimum time that a secret id should last: as long as in the alert.
const MIN_SECRET_ID_LIFE: Duration = Duration::from_secs(3 * 86_400);

/// Minimum time that the client certificate should last: as long as in the alert.
const MIN_CERTIFICATE_LIFE: Duration = Duration::from_secs(7 * 86_400);

/// Runs the checks; `None` if one fails that later checks depend on.
pub(super) async fn examine(config: &config::Vault, report: &mut Report) -> Option<AdminClient> {
    let vault_client = check_login(config, report).await;
    let Some(vault_client) = vault_client else {
        report.skip_rest(Area::Vault, None);
        return None;
    };
    // Each further check would use up a request of such a token.
    if let Some(uses_left) = vault_client.uses_left() {
        let result = async { CheckResult::<()>::fail(use_limit(uses_left, config)) };
        report.check(Check::VaultToken, None, result).await;
        report.skip_rest(Area::Vault, None);
        vault_client.close().await;
        return None;
    }
    let token = vault_client.look_up_token().await;
    let secret_id = vault_client.secret_id_left().await;
    let result = async { secret_id_result(token_result(token, config), secret_id) };
    report.check(Check::VaultToken, None, result).await;
    let engine = check_engine(&vault_client, config);
    let engine = report.check(Check::VaultEngine, None, engine).await;
    if engine.is_none() {
        vault_client.close().await;
        return None;
    }
    Some(vault_client)
}

/// Checks the connection, the state of Vault and the login.
async fn check_login(config: &config::Vault, report: &mut Report) -> Option<AdminClient> {
    let (url, egress) = (&config.address, &config.egress);
    let addresses = report.check(Check::VaultDns, None, resolve(Peer::Vault, url, egress)).await?;
    let connected = connect(Peer::Vault, url, egress, &addresses);
    report.check(Check::VaultTcp, None, connected).await?;
    let probed = async {
        let result = tls_result(AdminClient::health(config).await, config);
        // The TLS check reports a file that cannot be read.
        let expires = AdminClient::certificate_expires(config).ok().flatten();
        certificate_result(result, expires, SystemClock.now())
    };
    let health = report.check(Check::VaultTls, None, probed).await?;
    report.check(Check::VaultHealth, None, async { health_result(health, config) }).await?;
    let login = async {
        match AdminClient::log_in(config).await {
            Ok(vault_client) => {
                CheckResult::ok(vault_client, format!("method {}", config.auth.method()))
            }
            Err(error) => CheckResult::fail(remediation::vault_login(&error, config)),
        }
    };
    report.check(Check::VaultLogin, None, login).await
}

/// Evaluates the first request for the TLS check. Its other errors belong to the health check.
fn tls_result(
    health: Result<VaultHealth, Error>,
    config: &config::Vault,
) -> CheckResult<Result<VaultHealth, Error>> {
    match health {
        Err(Error::Connect(error @ (ConnectError::Certificate(_) | ConnectError::Tls(_)))) => {
            CheckResult::fail(remediation::connect(Peer::Vault, &config.address, &error))
        }
        Err(error @ (Error::File { .. } | Error::Setup(_))) => CheckResult::fail(Remediation::new(
            error.to_string(),
            "correct ca_file, client_cert_file and client_key_file of [vault], and egress.ca_files",
        )),
        health => tls_outcome(Peer::Vault, &config.address, health),
    }
}

/// Adds the expiry of the client certificate to the result of the TLS check. Vault rejects an expired one
/// without a reason.
fn certificate_result<T>(
    result: CheckResult<T>,
    expires: Option<Timestamp>,
    now: Timestamp,
) -> CheckResult<T> {
    let Some(expires) = expires else { return result };
    let left = expires.duration_since(now);
    let fix = "issue a new certificate, and write it and its key to vault.client_cert_file and \
               vault.client_key_file; leadsd reads them with its next request";
    if left.is_negative() {
        let cause =
            format!("the client certificate of vault.client_cert_file expired at {expires}");
        return CheckResult::fail(Remediation::new(cause, fix));
    }
    let CheckResult { value, outcome } = result;
    let hours = left.as_hours();
    let outcome = match outcome {
        CheckOutcome::Ok(_) if left.unsigned_abs() < MIN_CERTIFICATE_LIFE => CheckOutcome::warn(
            format!("the client certificate of vault.client_cert_file expires in {hours} hours"),
            fix,
        ),
        CheckOutcome::Ok(found) => CheckOutcome::Ok(format!(
            "{found}; the client certificate expires in {} days",
            hours / 24
        )),
        outcome @ (CheckOutcome::Warn(_) | CheckOutcome::Fail(_) | CheckOutcome::Skipped(_)) => {
            outcome
        }
    };
    CheckResult { value, outcome }
}

fn health_result(health: Result<VaultHealth, Error>, config: &config::Vault) -> CheckResult<()> {
    let fail = |cause: &str, fix: &str| CheckResult::fail(Remediation::new(cause, fix));
    match health {
        Ok(VaultHealth::Active) => CheckResult::ok((), "active"),
        Ok(VaultHealth::Standby) => CheckResult::ok((), "standby; forwards requests"),
        Ok(VaultHealth::Sealed) => fail("Vault is sealed", "unseal it: vault operator unseal"),
        Ok(VaultHealth::Uninitialized) => {
            fail("Vault is not initialized", "run vault operator init, then unseal it")
        }
        Err(Error::Connect(error)) => {
            CheckResult::fail(remediation::connect(Peer::Vault, &config.address, &error))
        }
        // The text of Go's server for a request without TLS has this status.
        Err(error @ Error::Invalid) if config.address.scheme() == "http" => {
            CheckResult::fail(Remediation::new(
                format!("{} does not respond like a working Vault: {error}", config.address),
                "if the port serves TLS, begin vault.address with https; otherwise check the state of \
                 Vault: vault status",
            ))
        }
        Err(error) => {
            let path = config.address.path();
            let fix = match path {
                "/" => "check vault.address, and the state of Vault: vault status".to_owned(),
                path => format!(
                    "remove {path} from vault.address, unless a proxy in front of Vault has this path; \
                     leadsd adds the paths of the API"
                ),
            };
            CheckResult::fail(Remediation::new(
                format!("{} does not respond like a working Vault: {error}", config.address),
                fix,
            ))
        }
    }
}

fn token_result(token: Result<TokenLookup, Error>, config: &config::Vault) -> CheckResult<()> {
    let info = match token {
        Ok(info) => info,
        Err(Error::Denied) => {
            let text = "lookup-self is not allowed; leadsd uses the time to live from the login";
            return CheckResult::ok((), text);
        }
        Err(error) => {
            let location = "auth/token/lookup-self";
            return CheckOutcome::Fail(remediation::vault(&error, config, location)).into();
        }
    };
    let TokenLookup { expires_in, renewable, is_endless, policies } = info;
    let policies = policies.join(", ");
    let life =
        expires_in.map_or_else(|| "does not expire".to_owned(), |left| format!("{left:?} left"));
    let has_operator = matches!(config.auth, config::VaultAuth::Token { .. });
    let is_external = has_operator || matches!(config.auth, config::VaultAuth::TokenFile { .. });
    if policies.split(", ").any(|policy| policy == "root") {
        return CheckResult::warn(
            (),
            format!("the login has the policy root ({life})"),
            "give leadsd a policy that grants only what it needs (docs/SETUP.md)",
        );
    }
    match expires_in {
        Some(_) if has_operator && renewable && !is_endless => CheckResult::warn(
            (),
            format!("renewals of the token end at its maximum time to live ({life})"),
            "create a periodic one (vault token create -period=24h), and write it to vault.auth.file",
        ),
        Some(left) if is_external && !renewable && left < MIN_TTL => CheckResult::warn(
            (),
            format!("the token expires in {left:?} and is not renewable"),
            "make it periodic (vault token create -period=24h), or use another auth method",
        ),
        _ => CheckResult::ok((), format!("{life}; policies: {policies}")),
    }
}

/// Remediation for a token that Vault accepts only for some further requests.
fn use_limit(uses_left: u64, config: &config::Vault) -> Remediation {
    let fix = match config.auth {
        config::VaultAuth::Token { .. } | config::VaultAuth::TokenFile { .. } => {
            "create one without -use-limit, and write it to vault.auth.file"
        }
        config::VaultAuth::AppRole { .. }
        | config::VaultAuth::Kubernetes { .. }
        | config::VaultAuth::Jwt { .. }
        | config::VaultAuth::UserPass { .. }
        | config::VaultAuth::Cert { .. } => "set token_num_uses of the role to 0",
    };
    let cause = format!("the token has a use limit: Vault allows {uses_left} further requests");
    Remediation::new(cause, fix)
}

/// Adds the time that is left of the secret id to the result for the token.
fn secret_id_result(token: CheckResult<()>, left: Option<Duration>) -> CheckResult<()> {
    match (left, token) {
        (Some(left), CheckResult { value, outcome: CheckOutcome::Ok(found) }) => {
            let hours = left.as_secs() / 3_600;
            if left < MIN_SECRET_ID_LIFE {
                return CheckResult::warn(
                    (),
                    format!("the secret id of the AppRole expires in {hours} hours"),
                    "create another one (vault write -f auth/approle/role/NAME/secret-id), and write \
                     it to vault.auth.secret_id_file",
                );
            }
            let found = format!("{found}; the secret id expires in {} days", hours / 24);
            CheckResult { value, outcome: CheckOutcome::Ok(found) }
        }
        (_, token) => token,
    }
}

async fn check_engine(vault_client: &AdminClient, config: &config::Vault) -> CheckResult<()> {
    let mount = &config.mount;
    match vault_client.mount_info().await {
        Ok(MountInfo { kind, version: 2 }) if kind == "kv" => {
            CheckResult::ok((), format!("KV version 2 at {mount}"))
        }
        Ok(MountInfo { kind, version }) if kind == "kv" => CheckResult::fail(Remediation::new(
            format!("the KV engine at {mount} has version {version}; leadsd needs version 2"),
            format!(
                "upgrade it (vault kv enable-versioning {mount}), or set vault.mount to a version 2 \
                 mount"
            ),
        )),
        Ok(MountInfo { kind, .. }) => CheckResult::fail(Remediation::new(
            format!("the engine at {mount} has type {kind}; leadsd needs KV version 2"),
            "set vault.mount to the mount of a KV version 2 engine",
        )),
        Err(Error::Denied | Error::NotFound) => CheckResult::fail(Remediation::new(
            format!("this login has no access to an engine at {mount}"),
            format!(
                "check vault.mount (vault secrets list), and that the policy grants a path below \
                 {mount}/; {}",
                remediation::namespace_fix(config)
            ),
        )),
        Err(error) => CheckResult::fail(remediation::vault(&error, config, mount)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_client_certificate_fails_and_one_that_expires_soon_warns() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let result = |expires: Option<&str>| {
            let expires = expires.map(|expires| expires.parse().unwrap());
            certificate_result(CheckResult::ok((), "the certificate is trusted"), expires, now)
        };
        let remediation = |expires: &str| match result(Some(expires)).outcome {
            CheckOutcome::Warn(remediation) | CheckOutcome::Fail(remediation) => remediation,
            CheckOutcome::Ok(found) => panic!("{expires}: {found}"),
            CheckOutcome::Skipped(check) => panic!("{expires}: {check:?}"),
        };
        assert_eq!(result(None).outcome, CheckOutcome::Ok("the certificate is trusted".to_owned()));
        let found = "the certificate is trusted; the client certificate expires in 30 days";
        assert_eq!(
            result(Some("2026-12-24T12:00:00Z")).outcome,
            CheckOutcome::Ok(found.to_owned())
        );
        let soon = remediation("2026-11-26T12:00:00Z");
        assert!(soon.cause.contains("expires in 48 hours"), "{soon}");
        let expired = remediation("2026-11-23T12:00:00Z");
        assert!(expired.cause.contains("expired at 2026-11-23"), "{expired}");
        assert!(expired.fix.contains("vault.client_cert_file"), "{expired}");
        assert!(result(Some("2026-11-23T12:00:00Z")).value.is_none());
        // A failed handshake is explained by the expiry.
        let failed = CheckResult::<()>::fail(Remediation::new("TLS failed", "check the port"));
        let explained =
            certificate_result(failed, Some("2026-11-23T12:00:00Z".parse().unwrap()), now);
        let CheckOutcome::Fail(explained) = explained.outcome else { panic!("it fails") };
        assert!(explained.cause.contains("expired"), "{explained}");
    }
}
