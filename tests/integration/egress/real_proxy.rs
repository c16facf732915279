//! A real forward proxy with authentication that re-signs TLS: login, doctor, serve, refresh, calls.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use leadsd_hubspot_fake::{READ, WRITE};
use leadsd_testkit::Process;
use serde_json::json;
use tokio::net::TcpStream;

use super::{Private, every_rpc::call_every_rpc};
use crate::{
    harness::{LEADSD, eventually},
    login::{Setting, clicked},
    openbao::file,
    real_peers::{run, text, tool},
};

/// Redirect URL of the app. Its page is elsewhere, and the user pastes the code.
const REDIRECT: &str = "https://app.example.com/oauth/callback";

/// A running mitmproxy; killed when dropped.
struct Mitmproxy {
    child: Child,
    port: u16,
}

// === impl Mitmproxy ===

impl Mitmproxy {
    /// Starts the proxy with the credentials `user` and `hush-1`. It trusts the CA of servers; its own
    /// CA is `mitmproxy-ca-cert.pem` in the folder.
    async fn start(folder: &Path, trusted: &Path) -> Self {
        let port = leadsd_testkit::unused_port();
        let option = |name: &str, path: &Path| format!("{name}={}", path.display());
        let child = Command::new(tool("LEADSD_TEST_MITMDUMP", "mitmdump"))
            .args(["--listen-host", "127.0.0.1", "--listen-port", &port.to_string()])
            .args(["--proxyauth", "user:hush-1", "--set", &option("confdir", folder)])
            .args(["--set", &option("ssl_verify_upstream_trusted_ca", trusted)])
            .env("HOME", folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mitmdump starts");
        eventually("mitmdump listens", async || {
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        Self { child, port }
    }
}

impl Drop for Mitmproxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mitmdump (mitmproxy)"]
async fn login_doctor_and_serve_work_through_a_proxy_that_authenticates_and_re_signs() {
    let (setting, private) = (Setting::new().await, Private::new());
    let folder = tempfile::tempdir().unwrap();
    let proxy = Mitmproxy::start(folder.path(), &private.ca_file()).await;
    let front = private.front("127.0.0.1", setting.hubspot.address());
    setting.hubspot.seed();
    setting.hubspot.add_unique_property("crm_key");
    setting.vault.put("leadsd/egress-proxy", json!({"username": "user", "password": "hush-1"}));
    let config = setting.folder.path().join("leadsd.toml");
    let plain = format!("base_url = \"http://{}\"", setting.hubspot.address());
    let text_with = |egress: &str| {
        let text = std::fs::read_to_string(&config).unwrap();
        let text = text.replace(&plain, &format!("base_url = \"https://{front}\""));
        format!("{text}\n[egress]\n{egress}\n")
    };
    let ca = folder.path().join("mitmproxy-ca-cert.pem");
    let address = format!("http://127.0.0.1:{}", proxy.port);
    let with_ca = format!(
        "proxy = \"{address}\"\ncredentials_secret = \"leadsd/egress-proxy\"\nca_files = [\"{}\"]",
        ca.display()
    );
    let good = file(&setting.folder, "good.toml", &text_with(&with_ca));
    let without_ca = with_ca.split("ca_files").next().unwrap();
    let no_ca = file(&setting.folder, "no-ca.toml", &text_with(without_ca));
    let bare = file(&setting.folder, "bare.toml", &text_with(&format!("proxy = \"{address}\"")));
    let leadsd = |command: &str, config: &Path| {
        let mut leadsd = Command::new(LEADSD);
        leadsd.args([command, "--config"]).arg(config).env_clear();
        leadsd
    };

    // Login with a static token from standard input.
    let token = setting.hubspot.static_token(&[READ, WRITE]);
    let input = file(&setting.folder, "token", token.expose());
    let mut login = leadsd("login", &good);
    login.arg("--static").stdin(std::fs::File::open(input).unwrap());
    let said = text(&run(&mut login).await);
    assert!(said.contains("Stored"), "{said}");

    // Without the CA of the proxy, or without credentials, doctor says what to set.
    let said = text(&run(&mut leadsd("doctor", &no_ca)).await);
    assert!(said.contains("not trusted") && said.contains("egress.ca_files"), "{said}");
    let said = text(&run(&mut leadsd("doctor", &bare)).await);
    assert!(said.contains("requires credentials") && said.contains("credentials_secret"), "{said}");
    let said = text(&run(&mut leadsd("doctor", &good)).await);
    let way = format!("; proxy 127.0.0.1:{} (egress.proxy)", proxy.port);
    assert_eq!(said.matches(&way).count(), 2, "{said}");
    assert!(!said.contains("FAIL") && !said.contains("hush"), "{said}");

    // Login with the consent of a user exchanges the code through the proxy, and the service refreshes
    // the grant and calls.
    let (id, secret) = setting.hubspot.register_app(&[REDIRECT]);
    let mut login = leadsd("login", &good);
    login.args(["--no-browser", "--redirect-url", REDIRECT, "--replace", "--new-app"]);
    consent(&mut login, &id, secret.expose()).await;
    let stored = setting.stored().unwrap().0;
    assert_eq!(stored["client_id"], json!(id));
    let token_requests = || {
        let log = setting.hubspot.log();
        log.iter().filter(|call| call.path.ends_with("/token")).count()
    };
    assert_eq!(token_requests(), 1, "the code is exchanged");
    let process = Process::serve(LEADSD, &good, &[("NO_PROXY", "*")]);
    let grpc = process.ready().await;
    assert!(token_requests() > 1, "the grant is refreshed");
    // The app has no scope for owners: HubSpot says so through the proxy.
    call_every_rpc(&grpc, &setting.hubspot, &["SchemaService/ListOwners"]).await;
    process.signal("TERM");
    let (code, log) = process.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("hush"), "{log}");
}

/// Runs a login whose code is pasted. The browser of the user does not use the proxy.
async fn consent(login: &mut Command, id: &str, secret: &str) {
    login.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = login.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{id}\n{secret}").unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let url = lines.find(|line| line.starts_with("  http")).expect("the URL is printed");
    let back = clicked(url.trim(), "connect").await;
    writeln!(stdin, "{back}").unwrap();
    let rest: Vec<String> = lines.collect();
    assert!(child.wait().unwrap().success(), "{rest:?}");
    assert!(!rest.concat().contains("hush"), "{rest:?}");
}
