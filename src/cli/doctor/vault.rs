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
use leadsd_base::net::connect_error::ConnectError;

/// Minimum time to live of a token that is not renewable; below it the check warns.
const MIN_TTL: Duration = Duration::from_secs(600);

/// Runs the checks; `None` if one fails that later checks depend on.
pub(super) async fn examine(config: &config::Vault, report: &mut Report) -> Option<AdminClient> {
    let vault_client = check_login(config, report).await;
    let Some(vault_client) = vault_client else {
        report.skip_rest(Area::Vault, None);
        return None;
    };
    let token = vault_client.look_up_token().await;
    report.check(Check::VaultToken, None, async { token_result(token, config) }).await;
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
    let probed = async { tls_result(AdminClient::health(config).await, config) };
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
        Err(error) => CheckResult::fail(Remediation::new(
            format!("{} does not respond like a working Vault: {error}", config.address),
            "check vault.address, and the state of Vault: vault status",
        )),
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
    let TokenLookup { expires_in, renewable, policies } = info;
    let policies = policies.join(", ");
    let life =
        expires_in.map_or_else(|| "does not expire".to_owned(), |left| format!("{left:?} left"));
    let is_external = matches!(
        config.auth,
        config::VaultAuth::Token { .. } | config::VaultAuth::TokenFile { .. }
    );
    if policies.split(", ").any(|policy| policy == "root") {
        return CheckResult::warn(
            (),
            format!("the login has the policy root ({life})"),
            "give leadsd a policy that grants only what it needs (docs/SETUP.md)",
        );
    }
    match expires_in {
        Some(left) if is_external && !renewable && left < MIN_TTL => CheckResult::warn(
            (),
            format!("the token expires in {left:?} and is not renewable"),
            "make it periodic (vault token create -period=24h), or use another auth method",
        ),
        _ => CheckResult::ok((), format!("{life}; policies: {policies}")),
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
                 {mount}/"
            ),
        )),
        Err(error) => CheckResult::fail(remediation::vault(&error, config, mount)),
    }
}
