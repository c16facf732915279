//! `leadsd dev`: the service as `serve` runs it, in front of a HubSpot and a Vault in memory.

use std::{io::Write as _, net::SocketAddr, sync::Arc};

use clap::Args as ClapArgs;
use serde_json::json;

use super::{Error, serve::until_signalled};
use crate::{
    app::Bound,
    config::Loaded,
    fake::{
        hubspot::{FakeHubspot, READ, WRITE},
        vault::FakeVault,
    },
    telemetry,
    time::SystemClock,
};

/// Addresses; port 0 picks a free one.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Where to serve gRPC.
    #[arg(long, default_value = "127.0.0.1:50051")]
    grpc: SocketAddr,
    /// Where to serve /live and /ready.
    #[arg(long, default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
    /// Where the fake HubSpot listens.
    #[arg(long, default_value = "127.0.0.1:8088")]
    hubspot: SocketAddr,
    /// Where the fake Vault listens.
    #[arg(long, default_value = "127.0.0.1:8200")]
    vault: SocketAddr,
    /// API version to use: 2026-09, 2026-03 or v3.
    #[arg(long, default_value = "2026-09")]
    api_version: String,
    /// Log filter, such as debug.
    #[arg(long, default_value = "info")]
    log: String,
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let Args { grpc, admin, hubspot, vault, api_version, log } = args;
    for (flag, address) in
        [("--grpc", grpc), ("--admin", admin), ("--hubspot", hubspot), ("--vault", vault)]
    {
        if !address.ip().to_canonical().is_loopback() {
            return Err(Error::DevBeyondLoopback { flag, address });
        }
    }
    let io = |what| move |source| Error::Io { what, source };
    let hubspot = FakeHubspot::start(hubspot, Arc::new(SystemClock))
        .await
        .map_err(io("cannot start the fake HubSpot"))?;
    let vault = FakeVault::start(vault).await.map_err(io("cannot start the fake Vault"))?;
    let contacts = hubspot.seed();
    hubspot.add_unique_property("crm_key");
    let token = hubspot.static_token(&[READ, WRITE]);
    vault.put("hubspot/default", json!({"access_token": token.expose()}));

    // The same loading, checking and wiring as in production; the token is one of the fake's.
    let mut token_file =
        tempfile(vault.root_token().expose()).map_err(io("cannot write a file"))?;
    let settings = [
        ("GRPC__LISTEN", grpc.to_string()),
        ("GRPC__DRAIN_DELAY", "0s".to_owned()),
        ("ADMIN__LISTEN", admin.to_string()),
        ("VAULT__ADDRESS", format!("http://{}", vault.address())),
        ("VAULT__AUTH__METHOD", "token".to_owned()),
        ("VAULT__AUTH__FILE", token_file.path.clone()),
        ("HUBSPOT__BASE_URL", format!("http://{}", hubspot.address())),
        ("HUBSPOT__API_VERSION", api_version),
        ("PORTALS__DEFAULT__SECRET", "hubspot/default".to_owned()),
        ("LOG__LEVEL", log),
        ("LOG__FORMAT", "pretty".to_owned()),
    ];
    let settings = settings.map(|(key, value)| (format!("LEADSD_{key}"), value));
    let config = Loaded::new(None, settings)?.config;
    telemetry::init(&config.log)?;
    let bound = Bound::bind(config).await?;
    banner(&bound, &hubspot, &vault, &contacts).map_err(io("cannot print"))?;
    let done = until_signalled(bound).await;
    token_file.remove();
    done
}

/// A file that only we can read, gone when dropped.
struct TokenFile {
    path: String,
}

// === impl TokenFile ===

impl TokenFile {
    fn remove(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        self.remove();
    }
}

fn tempfile(text: &str) -> std::io::Result<TokenFile> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let name = format!("leadsd-dev-{}", uuid::Uuid::new_v4());
    let path = std::env::temp_dir().join(name);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(text.as_bytes())?;
    Ok(TokenFile { path: path.display().to_string() })
}

/// Addresses and calls to paste.
fn banner(
    bound: &Bound,
    hubspot: &FakeHubspot,
    vault: &FakeVault,
    contacts: &[String],
) -> std::io::Result<()> {
    let grpc = bound.grpc_address();
    let contact = contacts.first().map_or("", String::as_str);
    let call = |json: &str, method: &str| {
        format!("  grpcurl -plaintext -d '{json}' {grpc} hubspot.leads.v1.LeadsService/{method}\n")
    };
    let mut out = std::io::stdout().lock();
    write!(
        out,
        "leadsd dev: everything in memory, nothing leaves this machine\n\
         \n\
         gRPC     {grpc}\n\
         admin    http://{}/ready\n\
         HubSpot  http://{} (fake)\n\
         Vault    http://{} (fake)\n\
         contacts {}\n\
         \n\
         Try:\n\
         \n  grpcurl -plaintext {grpc} list\n",
        bound.admin_address(),
        hubspot.address(),
        vault.address(),
        contacts.join(", "),
    )?;
    let create = format!(
        r#"{{"properties":{{"hs_lead_name":"My first lead","hs_lead_label":"HOT"}},"primary_contact_id":"{contact}"}}"#
    );
    out.write_all(call(&create, "CreateLead").as_bytes())?;
    let search = r#"{"filter_groups":[{"filters":[{"property_name":"hs_lead_label","operator":"FILTER_OPERATOR_EQ","value":"HOT"}]}],"properties":["hs_lead_name","hs_lead_label"]}"#;
    out.write_all(call(search, "SearchLeads").as_bytes())?;
    let id = hubspot.first_lead().unwrap_or_default();
    let get = format!(
        r#"{{"id":"{id}","properties":["hs_lead_name","hs_pipeline_stage"],"associations":["contacts"]}}"#
    );
    out.write_all(call(&get, "GetLead").as_bytes())?;
    let update = format!(r#"{{"id":"{id}","properties":{{"hs_lead_label":"COLD"}}}}"#);
    out.write_all(call(&update, "UpdateLead").as_bytes())?;
    out.write_all(call(&format!(r#"{{"id":"{id}"}}"#), "ArchiveLead").as_bytes())?;
    out.write_all(b"\nCtrl-C ends it.\n\n")?;
    out.flush()
}
