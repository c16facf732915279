//! Checks of Vault: from its name to the mounted engine.

use std::time::Duration;

use super::{
    check::{Area, Check, CheckResult, Outcome},
    network::{connected, encrypted, named},
    report::Report,
};
use crate::{
    cli::remediation::{self, Peer, Remediation},
    config,
    vault::{AdminClient, Error, MountInfo, TokenLookup, VaultHealth},
};
use leadsd_base::net::connect_error::ConnectError;

/// Minimum time to live of a token that cannot be renewed; with less the check warns.
const SHORT: Duration = Duration::from_secs(600);

/// Runs the checks; returns the client if the checks that need it can run.
pub(super) async fn examine(config: &config::Vault, report: &mut Report) -> Option<AdminClient> {
    let vault_client = until_login(config, report).await;
    let Some(vault_client) = vault_client else {
        report.skip_rest(Area::Vault, None);
        return None;
    };
    let token = vault_client.look_up_token().await;
    report.check(Check::VaultToken, None, async { token_result(token, config) }).await;
    let engine = report.check(Check::VaultEngine, None, engine(&vault_client, config)).await;
    if engine.is_none() {
        vault_client.close().await;
        return None;
    }
    Some(vault_client)
}

async fn until_login(config: &config::Vault, report: &mut Report) -> Option<AdminClient> {
    let url = &config.address;
    let addresses = report.check(Check::VaultDns, None, named(Peer::Vault, url)).await?;
    let connected = connected(Peer::Vault, url, &addresses);
    report.check(Check::VaultTcp, None, connected).await?;
    let greeted = async { tls_result(AdminClient::health(config).await, config) };
    let health = report.check(Check::VaultTls, None, greeted).await?;
    report.check(Check::VaultHealth, None, async { health_result(health, config) }).await?;
    let login = async {
        match AdminClient::log_in(config).await {
            Ok(vault_client) => {
                CheckResult::ok(vault_client, format!("by method {}", config.auth.method()))
            }
            Err(error) => CheckResult::fail(remediation::vault_login(&error, config)),
        }
    };
    report.check(Check::VaultLogin, None, login).await
}

/// Result of the TLS check, from the first request. Its other findings belong to the next check.
fn tls_result(
    health: Result<VaultHealth, Error>,
    config: &config::Vault,
) -> CheckResult<Result<VaultHealth, Error>> {
    match health {
        Err(Error::Connect(why @ (ConnectError::Certificate(_) | ConnectError::Tls(_)))) => {
            CheckResult::fail(remediation::unreached(Peer::Vault, &config.address, &why))
        }
        Err(error @ (Error::File { .. } | Error::Setup(_))) => CheckResult::fail(Remediation::new(
            error.to_string(),
            "correct ca_file, client_cert_file and client_key_file of [vault]",
        )),
        health => encrypted(Peer::Vault, &config.address, health),
    }
}

fn health_result(health: Result<VaultHealth, Error>, config: &config::Vault) -> CheckResult<()> {
    let fail = |cause: &str, fix: &str| CheckResult::fail(Remediation::new(cause, fix));
    match health {
        Ok(VaultHealth::Active) => CheckResult::ok((), "serves"),
        Ok(VaultHealth::Standby) => CheckResult::ok((), "in standby; passes requests on"),
        Ok(VaultHealth::Sealed) => fail("Vault is sealed", "unseal it: vault operator unseal"),
        Ok(VaultHealth::Uninitialised) => {
            fail("Vault was never set up", "set it up: vault operator init, then unseal it")
        }
        Err(Error::Connect(why)) => {
            CheckResult::fail(remediation::unreached(Peer::Vault, &config.address, &why))
        }
        Err(error) => CheckResult::fail(Remediation::new(
            format!("what answers at {} is no Vault that works: {error}", config.address),
            "check the address, and see Vault's own state: vault status",
        )),
    }
}

fn token_result(token: Result<TokenLookup, Error>, config: &config::Vault) -> CheckResult<()> {
    let info = match token {
        Ok(info) => info,
        Err(Error::Denied) => {
            let text = "it may not look at itself; leadsd relies on what the login said";
            return CheckResult::ok((), text);
        }
        Err(error) => {
            let location = "auth/token/lookup-self";
            return Outcome::Fail(remediation::vault(&error, config, location)).into();
        }
    };
    let TokenLookup { expires_in, renewable, policies } = info;
    let policies = policies.join(", ");
    let life =
        expires_in.map_or_else(|| "does not expire".to_owned(), |left| format!("{left:?} left"));
    let given = matches!(
        config.auth,
        config::VaultAuth::Token { .. } | config::VaultAuth::TokenFile { .. }
    );
    if policies.split(", ").any(|policy| policy == "root") {
        return CheckResult::warn(
            (),
            format!("the login has the policy root ({life})"),
            "give leadsd a policy of its own, which allows what it needs and nothing else",
        );
    }
    match expires_in {
        Some(left) if given && !renewable && left < SHORT => CheckResult::warn(
            (),
            format!("the token ends in {left:?} and cannot be renewed"),
            "make it periodic (vault token create -period=24h), or log in by another method",
        ),
        _ => CheckResult::ok((), format!("{life}; policies: {policies}")),
    }
}

async fn engine(vault_client: &AdminClient, config: &config::Vault) -> CheckResult<()> {
    let mount = &config.mount;
    match vault_client.mount_info().await {
        Ok(MountInfo { kind, version: 2 }) if kind == "kv" => {
            CheckResult::ok((), format!("KV version 2 at {mount}"))
        }
        Ok(MountInfo { kind, version }) if kind == "kv" => CheckResult::fail(Remediation::new(
            format!("the KV engine at {mount} is of version {version}, leadsd needs version 2"),
            format!(
                "upgrade it (vault kv enable-versioning {mount}), or name a mount of version 2 as \
                 vault.mount"
            ),
        )),
        Ok(MountInfo { kind, .. }) => CheckResult::fail(Remediation::new(
            format!("at {mount} is an engine of type {kind}, leadsd needs KV version 2"),
            "name the mount of a KV engine as vault.mount",
        )),
        Err(Error::Denied | Error::NotFound) => CheckResult::fail(Remediation::new(
            format!("there is no engine at {mount} that this login may use"),
            format!(
                "check vault.mount (vault secrets list), and that the policy allows something below \
                 {mount}/"
            ),
        )),
        Err(error) => CheckResult::fail(remediation::vault(&error, config, mount)),
    }
}
