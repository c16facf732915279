//! Configuration of `leadsd dev`, as a file that the service reads.

use std::{io, net::SocketAddr, path::PathBuf};

use serde_json::{Value, json};

use super::{
    Args, DevUpstream,
    callers::{Callers, POLICY_CALLERS},
    fakes::{portals, secret_path},
    folder::Folder,
};
use leadsd_base::time::Zone;
use leadsd_hubspot_fake::TIME_ZONE;
use leadsd_vault_fake::FakeVault;

/// URL of the consent page of a fake HubSpot.
pub(super) fn authorize_url(hubspot: SocketAddr) -> String {
    format!("http://{hubspot}/oauth/authorize")
}

/// Writes a configuration file, which `leadsd login` and `leadsd doctor` can use as well; returns its path.
pub(super) fn write(folder: &Folder, name: &str, settings: &Value) -> io::Result<PathBuf> {
    let text = toml::to_string(settings).map_err(io::Error::other)?;
    folder.write(name, &text)
}

/// Sets the time zone of the account, if it is known.
pub(super) fn set_time_zone(settings: &mut Value, name: Option<String>) {
    if let Some(name) = name.filter(|name| Zone::parse(name).is_some()) {
        settings["quota"]["time_zone"] = json!(name);
    }
}

/// Builds the configuration of the service, and writes the files that it names.
pub(super) fn build(
    folder: &Folder,
    args: &Args,
    upstream: &DevUpstream,
    vault: &FakeVault,
    callers: Option<&Callers>,
) -> io::Result<Value> {
    let auth = vault_auth(folder, vault)?;
    let mut hubspot = json!({"api_version": args.api_version});
    let mut quota = json!({});
    let mut accounts = json!({});
    match upstream {
        DevUpstream::Fakes(fakes) => {
            let base = |address| format!("http://{address}");
            let first = fakes.first().hubspot.address();
            hubspot["base_url"] = json!(base(first));
            hubspot["authorize_url"] = json!(authorize_url(first));
            quota["time_zone"] = json!(TIME_ZONE);
            for fake in &fakes.all {
                let portal = &mut accounts[fake.portal.as_str()];
                portal["base_url"] = json!(base(fake.hubspot.address()));
            }
        }
        DevUpstream::Real(url) => {
            hubspot["base_url"] = json!(url.as_str());
            if let Some(url) = &args.authorize_url {
                hubspot["authorize_url"] = json!(url.as_str());
            }
        }
    }
    for portal in portals(&args.portals) {
        accounts[portal.as_str()]["secret"] = json!(secret_path(&portal));
    }
    let mut config = json!({
        "grpc": {"listen": args.grpc.to_string(), "drain_delay": "0s"},
        "admin": {"listen": args.admin.to_string()},
        "vault": {
            "address": format!("http://{}", vault.address()),
            "auth": auth,
            // A login is noticed soon.
            "poll_interval": "1s",
        },
        "hubspot": hubspot,
        "quota": quota,
        "portals": accounts,
        "log": {"level": args.log, "format": "pretty"},
    });
    if let Some(callers) = callers {
        add_callers(&mut config, callers);
    }
    Ok(config)
}

/// Login of the service and of the commands, with the permissions that docs/SETUP.md recommends.
fn vault_auth(folder: &Folder, vault: &FakeVault) -> io::Result<Value> {
    vault.allow(&[
        ("secret/data/", &["create", "read", "update"]),
        ("secret/metadata/", &["read", "list"]),
    ]);
    let (role_id, secret_id) = vault.approle();
    Ok(json!({
        "method": "approle",
        "role_id_file": folder.write("role-id", role_id.expose())?,
        "secret_id_file": folder.write("secret-id", secret_id.expose())?,
    }))
}

fn add_callers(config: &mut Value, callers: &Callers) {
    config["grpc"]["tls"] = json!({
        "cert_file": callers.server_cert, "key_file": callers.server_key,
        "client_ca_file": callers.ca, "client_auth": "optional",
    });
    config["auth"] = json!({"api_keys": {"secret": Callers::SECRET}});
    config["policy"] = json!({"dev": {
        "callers": POLICY_CALLERS, "portals": ["*"], "access": "write", "quota": true,
    }});
}
