//! `leadsd login` as a user runs it: the binary, the fake's consent page, a simulated browser or a
//! real Chromium, and a Vault that stores the credential.

mod failures;
mod terminal;
mod third_party_peers;

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use leadsd_base::{
    secret::{SECRET_MARKER, Secret},
    time::SystemClock,
};
use leadsd_hubspot_fake::{FakeHubspot, READ, WRITE};
use leadsd_vault_fake::FakeVault;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{LEADSD, PATIENCE};

const FREE: &str = "127.0.0.1:0";

/// HubSpot, Vault, and a configuration that names them.
pub(crate) struct Setting {
    pub(crate) hubspot: FakeHubspot,
    pub(crate) vault: FakeVault,
    pub(crate) folder: TempDir,
}

/// A running `leadsd login`.
struct Running {
    child: Child,
    out: JoinHandle<String>,
    err: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
}

/// Outcome of the login.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

// === impl Setting ===

impl Setting {
    pub(crate) async fn new() -> Self {
        let hubspot = FakeHubspot::start(FREE.parse().unwrap(), Arc::new(SystemClock)).await;
        let vault = FakeVault::start(FREE.parse().unwrap()).await.unwrap();
        let (hubspot, folder) = (hubspot.unwrap(), tempfile::tempdir().unwrap());
        let setting = Self { hubspot, vault, folder };
        let token = setting.file("vault-token", setting.vault.root_token().expose());
        let auth = format!("method = \"token\"\nfile = \"{}\"", token.display());
        let address = format!("http://{}", setting.vault.address());
        setting.configure(&address, &auth);
        // ScriptedResponse that stands in for the desktop's URL opener: it records the URL.
        let opener = setting.file("xdg-open", "");
        let seen = setting.folder.path().join("opened");
        std::fs::write(&opener, format!("#!/bin/sh\nprintf '%s\\n' \"$@\" > {}\n", seen.display()))
            .unwrap();
        std::fs::set_permissions(&opener, std::fs::Permissions::from_mode(0o755)).unwrap();
        setting
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        path
    }

    pub(crate) fn configure(&self, vault: &str, auth: &str) {
        let hubspot = self.hubspot.address();
        let text = format!(
            "[grpc]\nlisten = \"{FREE}\"\n[admin]\nlisten = \"{FREE}\"\n\
             [vault]\naddress = \"{vault}\"\n[vault.auth]\n{auth}\n\
             [hubspot]\nbase_url = \"http://{hubspot}\"\n\
             authorize_url = \"http://{hubspot}/oauth/authorize\"\n[portals.default]"
        );
        self.file("leadsd.toml", &text);
    }

    /// Uses a Vault login with an AppRole with these capabilities.
    fn as_approle(&self, rules: &[(&str, &[&str])]) {
        self.vault.allow(rules);
        let (role, secret) = self.vault.approle();
        let (role, secret) =
            (self.file("role", role.expose()), self.file("secret-id", secret.expose()));
        let auth = format!(
            "method = \"approle\"\nrole_id_file = \"{}\"\nsecret_id_file = \"{}\"",
            role.display(),
            secret.display()
        );
        self.configure(&format!("http://{}", self.vault.address()), &auth);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(LEADSD);
        let path = format!("{}:/usr/bin:/bin", self.folder.path().display());
        command.arg("login").arg("--config").arg(self.folder.path().join("leadsd.toml"));
        command.args(arguments).env_clear().env("PATH", path);
        command
    }

    /// Starts the login with these lines on standard input.
    fn start(&self, arguments: &[&str], lines: &[&str]) -> Running {
        Running::start(&mut self.command(arguments), lines)
    }

    /// Starts a login for an app; returns the URL of the consent page as well.
    async fn asking(&self, arguments: &[&str]) -> (Running, String) {
        let (id, secret) = self.hubspot.register_app(&[]);
        self.asking_as(&id, &secret, arguments).await
    }

    async fn asking_as(&self, id: &str, secret: &Secret, arguments: &[&str]) -> (Running, String) {
        let arguments = [&["--redirect-port", "0"], arguments].concat();
        let running = self.start(&arguments, &[id, secret.expose()]);
        let redirect = running.said("The app must have this redirect URL: ").await;
        self.hubspot.add_redirect(id, &redirect);
        let url = running.said("  http").await;
        (running, format!("http{url}"))
    }

    /// The stored secret and its version.
    pub(crate) fn stored(&self) -> Option<(Value, usize)> {
        self.vault.get("hubspot/default")
    }
}

// === impl Running ===

impl Running {
    fn start(command: &mut Command, lines: &[&str]) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("leadsd starts");
        let mut stdin = child.stdin.take().unwrap();
        // The process may exit before it reads its input.
        let _ = stdin.write_all((lines.join("\n") + "\n").as_bytes());
        drop(stdin);
        let mut stdout = child.stdout.take().unwrap();
        let out = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        let err = Arc::new(Mutex::new(String::new()));
        let (stderr, kept) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&err));
        let reading = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut all = kept.lock().unwrap();
                all.push_str(&line);
                all.push('\n');
            }
        });
        Self { child, out, err, reading }
    }

    /// Rest of the printed line with this prefix.
    async fn said(&self, beginning: &str) -> String {
        let found = async {
            loop {
                let err = self.err.lock().unwrap().clone();
                // The last line may be incomplete.
                let whole = err.rsplit_once('\n').map_or("", |(whole, _)| whole);
                if let Some(rest) = whole.lines().find_map(|line| line.strip_prefix(beginning)) {
                    return rest.to_owned();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("no {beginning:?} in {}", self.err.lock().unwrap()))
    }

    /// Asserts that arguments and environment contain no secret.
    fn assert_private(&self) {
        for file in ["cmdline", "environ"] {
            let read = std::fs::read(format!("/proc/{}/{file}", self.child.id()));
            let text = String::from_utf8_lossy(&read.unwrap_or_default()).into_owned();
            assert!(!text.contains(SECRET_MARKER), "a secret in its {file}: {text}");
        }
    }

    /// Waits until the process exits; asserts that it printed no secret.
    async fn ended(mut self) -> Ended {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let code = tokio::time::timeout(PATIENCE, ended).await.expect("it ends in time");
        self.reading.join().unwrap();
        let (out, err) = (self.out.join().unwrap(), self.err.lock().unwrap().clone());
        assert!(!format!("{out}{err}").contains(SECRET_MARKER), "a secret was printed: {out}{err}");
        Ended { code, out, err }
    }
}

// === impl Ended ===

impl Ended {
    /// Asserts that it failed with this message.
    #[track_caller]
    fn failed_with(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in {}", self.err);
        }
    }

    #[track_caller]
    fn succeeded(&self) {
        assert_eq!(self.code, Some(0), "{self:?}");
    }
}

fn browser() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
    builder.redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// Clicks on the consent page; returns the redirect.
pub(crate) async fn clicked(url: &str, decision: &str) -> String {
    let page = browser().get(url).send().await.unwrap();
    assert_eq!(page.status(), 200, "{}", page.text().await.unwrap());
    let url = url::Url::parse(url).unwrap();
    let mut form: HashMap<String, String> = url.query_pairs().into_owned().collect();
    form.insert("decision".to_owned(), decision.to_owned());
    let target = url.join("/oauth/authorize").unwrap();
    let answer = browser().post(target).form(&form).send().await.unwrap();
    answer.headers()["location"].to_str().unwrap().to_owned()
}

/// Status and text of the final page.
pub(crate) async fn shown(url: &str) -> (u16, String) {
    let page = browser().get(url).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'"));
    assert_eq!(page.headers()["cache-control"], "no-store");
    (page.status().as_u16(), page.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_stores_a_working_credential_and_shows_no_secret() {
    let setting = Setting::new().await;
    let (running, url) = setting.asking(&[]).await;
    running.assert_private();
    let (status, page) = shown(&clicked(&url, "connect").await).await;
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("Logged in") && !page.contains(SECRET_MARKER), "{page}");
    let ended = running.ended().await;
    ended.succeeded();
    for part in ["Account   1 (account-1.example.com, STANDARD", READ, WRITE, "version 1"] {
        assert!(ended.out.contains(part), "{part} in {ended:?}");
    }
    assert!(!ended.out.contains("Missing"));
    let opened = std::fs::read_to_string(setting.folder.path().join("opened")).unwrap();
    assert_eq!(opened.trim(), url, "the browser gets the URL that is printed");
    assert!(!opened.contains(SECRET_MARKER));
    let (stored, version) = setting.stored().unwrap();
    assert_eq!((version, &stored["hub_id"]), (1, &json!("1")));
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", stored["client_id"].as_str().unwrap()),
        ("client_secret", stored["client_secret"].as_str().unwrap()),
        ("refresh_token", stored["refresh_token"].as_str().unwrap()),
    ];
    let token = format!("http://{}/oauth/2026-09/token", setting.hubspot.address());
    let answer = browser().post(token).form(&form).send().await.unwrap();
    assert_eq!(answer.status(), 200, "the stored grant works");
    // The current path, not an expiring one.
    let log = setting.hubspot.log();
    assert!(log.iter().any(|call| call.path == "/oauth/2026-09/token" && call.status == 200));
    assert!(!log.iter().any(|call| call.path.contains("/v1/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn existing_app_in_vault_is_used_and_other_keys_are_kept() {
    let setting = Setting::new().await;
    let (id, secret) = setting.hubspot.register_app(&[]);
    let known = json!({"client_id": id, "client_secret": secret.expose(), "note": {"owner": 3}});
    setting.vault.put("hubspot/default", known);
    let running = setting.start(&["--redirect-port", "0"], &[]);
    let redirect = running.said("The app must have this redirect URL: ").await;
    setting.hubspot.add_redirect(&id, &redirect);
    let url = format!("http{}", running.said("  http").await);
    shown(&clicked(&url, "connect").await).await;
    running.ended().await.succeeded();
    let (stored, version) = setting.stored().unwrap();
    assert_eq!(
        (version, &stored["note"], &stored["client_id"]),
        (2, &json!({"owner": 3}), &json!(id))
    );
    assert!(stored["refresh_token"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_granted_scopes_are_listed() {
    let setting = Setting::new().await;
    setting.hubspot.behave(|behaviour| behaviour.withheld_scopes = vec![WRITE.into()]);
    let (running, url) = setting.asking(&[]).await;
    assert!(url.contains("scope=crm.objects.leads.read%20crm.objects.leads.write"), "{url}");
    shown(&clicked(&url, "connect").await).await;
    let ended = running.ended().await;
    ended.succeeded();
    assert!(ended.out.contains(&format!("Missing   {WRITE}")), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_and_portal_are_options() {
    let setting = Setting::new().await;
    let file = setting.folder.path().join("leadsd.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + "[portals.eu]\n[portal_discovery]\npath = \"others\"\n").unwrap();
    for (portal, place) in [("eu", "hubspot/eu"), ("us", "others/us")] {
        let scopes = format!("{READ},crm.objects.contacts.read");
        let (running, url) = setting.asking(&["--portal", portal, "--scopes", &scopes]).await;
        let asked = "scope=crm.objects.leads.read%20crm.objects.contacts.read&";
        assert!(url.contains(asked), "{url}");
        shown(&clicked(&url, "connect").await).await;
        let ended = running.ended().await;
        ended.succeeded();
        assert!(ended.out.contains(&format!("secret/data/{place}, version 1")), "{ended:?}");
        let granted = format!("Scopes    {READ}, crm.objects.contacts.read\n");
        assert!(ended.out.contains(&granted) && !ended.out.contains("Missing"), "{ended:?}");
        assert!(setting.vault.get(place).unwrap().0["refresh_token"].is_string());
    }
    assert_eq!(setting.stored(), None, "the default one was not meant");
}

#[tokio::test(flavor = "multi_thread")]
async fn credential_of_another_account_requires_replace() {
    let setting = Setting::new().await;
    let (running, url) = setting.asking(&[]).await;
    shown(&clicked(&url, "connect").await).await;
    running.ended().await.succeeded();
    let (first, _) = setting.stored().unwrap();
    // The same account: the app in Vault is used.
    let id = first["client_id"].as_str().unwrap().to_owned();
    let secret = Secret::new(first["client_secret"].as_str().unwrap());
    let (running, url) = setting.asking_as(&id, &secret, &[]).await;
    shown(&clicked(&url, "connect").await).await;
    running.ended().await.succeeded();
    assert_eq!(setting.stored().unwrap().1, 2);
    setting.hubspot.set_hub(7);
    let (running, url) = setting.asking_as(&id, &secret, &[]).await;
    let (status, page) = shown(&clicked(&url, "connect").await).await;
    assert_eq!(status, 400);
    assert!(page.contains("of account 1; the new one is of account 7"), "{page}");
    let ended = running.ended().await;
    ended.failed_with(1, &["of account 1", "of account 7", "nothing was stored", "--replace"]);
    assert_eq!(setting.stored().unwrap().1, 2, "nothing was stored");
    let (running, url) = setting.asking_as(&id, &secret, &["--replace"]).await;
    shown(&clicked(&url, "connect").await).await;
    running.ended().await.succeeded();
    let (stored, version) = setting.stored().unwrap();
    assert_eq!((version, &stored["hub_id"]), (3, &json!("7")));
}

#[tokio::test(flavor = "multi_thread")]
async fn url_or_code_can_be_pasted_without_a_browser() {
    let setting = Setting::new().await;
    let redirect = "https://app.example.com/oauth/callback";
    let (id, secret) = setting.hubspot.register_app(&[redirect]);
    for as_url in [true, false] {
        let arguments = ["--no-browser", "--redirect-url", redirect, "--replace", "--new-app"];
        let mut command = setting.command(&arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{id}\n{}", secret.expose()).unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let url = lines.find(|line| line.starts_with("  http")).expect("the URL is printed");
        let back = clicked(url.trim(), "connect").await;
        assert!(back.starts_with(redirect), "{back}");
        let code = url::Url::parse(&back).unwrap();
        let code = code.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
        writeln!(stdin, "{}", if as_url { &back } else { &code }).unwrap();
        let rest: Vec<String> = lines.collect();
        assert!(child.wait().unwrap().success(), "{rest:?}");
        assert!(!rest.concat().contains(SECRET_MARKER));
        assert!(!setting.folder.path().join("opened").exists(), "no browser was opened");
    }
    assert_eq!(setting.stored().unwrap().1, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn static_token_is_verified_and_stored() {
    let setting = Setting::new().await;
    let token = setting.hubspot.static_token(&[READ, WRITE]);
    let running = setting.start(&["--static"], &[token.expose()]);
    running.assert_private();
    let ended = running.ended().await;
    ended.succeeded();
    assert!(ended.out.contains("Account   1 (STANDARD"), "{ended:?}");
    let stored = setting.stored().unwrap();
    assert_eq!(stored, (json!({"access_token": token.expose(), "hub_id": "1"}), 1));
    // A change of the kind removes all keys of the old one.
    let (running, url) = setting.asking(&[]).await;
    shown(&clicked(&url, "connect").await).await;
    running.ended().await.succeeded();
    assert_eq!(setting.stored().unwrap().0.get("access_token"), None);
}
