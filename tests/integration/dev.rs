//! `leadsd dev --upstream` against a HubSpot that leadsd treats as real, with a credential in
//! memory only.

mod fakes;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
};

use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_base::{secret::SECRET_MARKER, time::SystemClock};
use leadsd_hubspot_fake::{FakeHubspot, READ, WRITE};
use tokio::sync::watch;

use crate::{
    harness::{LEADSD, PATIENCE, properties, wait_ready},
    login::{clicked, shown},
};

const FREE: &str = "127.0.0.1:0";

/// A running `leadsd dev --upstream` with its output; killed when dropped.
struct Dev {
    child: Child,
    stdin: Option<ChildStdin>,
    printed: watch::Receiver<String>,
}

// === impl Dev ===

impl Dev {
    fn start(hubspot: &FakeHubspot, arguments: &[&str]) -> Self {
        let upstream = format!("http://{}", hubspot.address());
        let mut command = Command::new(LEADSD);
        command.args(["dev", "--grpc", FREE, "--admin", FREE, "--vault", FREE]);
        command.args(["--upstream", &upstream]).args(arguments).env_clear().env("PATH", "");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (print, printed) = watch::channel(String::new());
        let print = Arc::new(print);
        let out: Box<dyn std::io::Read + Send> = Box::new(child.stdout.take().unwrap());
        let err: Box<dyn std::io::Read + Send> = Box::new(child.stderr.take().unwrap());
        for side in [out, err] {
            let print = Arc::clone(&print);
            std::thread::spawn(move || {
                for line in BufReader::new(side).lines().map_while(Result::ok) {
                    print.send_modify(|all| all.push_str(&(line + "\n")));
                }
            });
        }
        Self { stdin: child.stdin.take(), child, printed }
    }

    fn types(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Rest of the printed line with this prefix.
    async fn said(&self, beginning: &str) -> String {
        let rest = |all: &str| {
            let rest = all.lines().find_map(|line| line.strip_prefix(beginning));
            rest.map(|rest| rest.trim().to_owned())
        };
        let all = self.printed_until(beginning, |all| rest(all).is_some()).await;
        rest(&all).unwrap()
    }

    /// Waits until a line of the log contains this; returns the whole output.
    async fn logged(&self, message: &str) -> String {
        self.printed_until(message, |all| all.contains(message)).await
    }

    /// Output once it contains what is wanted.
    async fn printed_until(&self, wanted: &str, is_there: impl Fn(&str) -> bool) -> String {
        let mut printed = self.printed.clone();
        let found = tokio::time::timeout(PATIENCE, printed.wait_for(|all| is_there(all))).await;
        let found = found.ok().and_then(Result::ok).map(|all| all.clone());
        found.unwrap_or_else(|| panic!("no {wanted:?} in {}", self.printed.borrow().as_str()))
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // The process may have exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn upstream() -> FakeHubspot {
    FakeHubspot::start(FREE.parse().unwrap(), Arc::new(SystemClock)).await.unwrap()
}

/// Asserts that calls succeed, that the banner warns of real calls, and that no secret was printed.
async fn works(dev: &Dev, hubspot: &FakeHubspot) {
    // The last line of the banner.
    let all = dev.logged("Ctrl-C stops it").await;
    let grpc = dev.said("gRPC ").await;
    assert!(all.contains("CALLS ARE REAL") && all.contains("(REAL)"), "{all}");
    assert!(!all.contains("nothing leaves this machine"), "{all}");
    assert!(all.contains("Stored    in memory only") && !all.contains("secret/data"), "{all}");
    let admin = dev.said("admin ").await;
    wait_ready(admin.trim_end_matches("/ready")).await;
    let config = dev.said("config ").await;
    let config = config.split(' ').next().unwrap();
    let mut doctor = Command::new(LEADSD);
    doctor.args(["doctor", "--json", "--config", config]).env_clear();
    let output = tokio::task::block_in_place(|| doctor.output().unwrap());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["result"], "ok", "{report:#}");
    let contact = hubspot.add_contact("ada@example.com");
    let mut leads = LeadsServiceClient::connect(format!("http://{grpc}")).await.unwrap();
    let request = pb::CreateLeadRequest {
        properties: properties(&[("hs_lead_name", "A real one")]),
        primary_contact_id: contact,
        ..Default::default()
    };
    leads.create_lead(request).await.unwrap();
    assert!(hubspot.lead_names().contains(&"A real one".to_owned()), "it is in that HubSpot");
    // The log has a writer thread: the line may follow the response.
    let all = dev.logged("Added portal").await;
    assert!(!all.contains(SECRET_MARKER), "a secret was printed: {all}");
    assert!(!all.contains('\u{1b}'), "colours in a pipe: {all}");
    for file in ["cmdline", "environ"] {
        let read = std::fs::read(format!("/proc/{}/{file}", dev.child.id())).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&read).contains(SECRET_MARKER), "a secret in {file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_serves_a_real_hubspot_with_a_typed_static_token() {
    let hubspot = upstream().await;
    let mut dev = Dev::start(&hubspot, &["--static"]);
    dev.types(hubspot.static_token(&[READ, WRITE]).expose());
    works(&dev, &hubspot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_requires_consent_without_a_token() {
    let hubspot = upstream().await;
    let (id, secret) = hubspot.register_app(&[]);
    let authorize = format!("http://{}/oauth/authorize", hubspot.address());
    let arguments = ["--authorize-url", &authorize, "--redirect-port", "0"];
    let mut dev = Dev::start(&hubspot, &arguments);
    dev.types(&id);
    dev.types(secret.expose());
    let redirect = dev.said("The app must have this redirect URL: ").await;
    hubspot.add_redirect(&id, &redirect);
    let url = format!("http{}", dev.said("  http").await);
    let (status, page) = shown(&clicked(&url, "connect").await).await;
    assert_eq!(status, 200);
    assert!(page.contains("in the memory of leadsd dev") && !page.contains("Vault"), "{page}");
    works(&dev, &hubspot).await;
    assert!(hubspot.grants() >= 2, "one at the login, one by the service");
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_without_a_credential_does_not_serve() {
    let hubspot = upstream().await;
    let mut dev = Dev::start(&hubspot, &["--static"]);
    dev.types("pat-unknown");
    let said = dev.said("leadsd: ").await;
    assert!(said.contains("rejected the access token"), "{said}");
    assert_eq!(dev.child.wait().unwrap().code(), Some(1));
    assert!(!dev.printed.borrow().contains("gRPC"));
    let mut dev = Dev::start(&hubspot, &["--hubspot", FREE]);
    assert_eq!(dev.child.wait().unwrap().code(), Some(64), "there are no two HubSpots");
    let mut command = Command::new(LEADSD);
    let said = command.args(["dev", "--static"]).env_clear().output().unwrap();
    assert_eq!(said.status.code(), Some(64), "an upstream without a credential is an error");
    assert!(String::from_utf8_lossy(&said.stderr).contains("--upstream"));
}
