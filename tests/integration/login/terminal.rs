//! Terminal input: secrets are not echoed.

use std::{
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Stdio},
    sync::mpsc,
    time::Duration,
};

use leadsd_base::secret::SECRET_MARKER;
use leadsd_hubspot_fake::READ;
use leadsd_testkit::send_signal;
use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};

use super::{Setting, clicked};

/// A pseudo-terminal: user side and program side.
fn terminal() -> (OwnedFd, OwnedFd) {
    let typing = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&typing).unwrap();
    unlockpt(&typing).unwrap();
    let name = ptsname(&typing, Vec::new()).unwrap();
    let program = rustix::fs::open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
    (typing, program.unwrap())
}

/// A `leadsd login` on a terminal, and its screen.
struct AtTerminal {
    child: Child,
    keys: std::fs::File,
    /// Program side; keeps the terminal open after the program exits.
    program: OwnedFd,
    printed: mpsc::Receiver<String>,
    seen: String,
}

// === impl AtTerminal ===

impl AtTerminal {
    fn start(setting: &Setting, arguments: &[&str]) -> Self {
        let (typing, program) = terminal();
        let side = || Stdio::from(program.try_clone().unwrap());
        let mut command = setting.command(arguments);
        command.stdin(side()).stdout(side()).stderr(side());
        let child = command.spawn().unwrap();
        let mut screen = std::fs::File::from(typing);
        let keys = screen.try_clone().unwrap();
        let (sender, printed) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                if sender.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, program, printed, seen: String::new() }
    }

    fn sees(&mut self, wanted: &str) {
        while !self.seen.contains(wanted) {
            let more = self.printed.recv_timeout(Duration::from_secs(20));
            let seen = &mut self.seen;
            seen.push_str(&more.unwrap_or_else(|_| panic!("no {wanted:?} on screen: {seen}")));
        }
    }

    /// True if input is echoed.
    fn shows(&self) -> bool {
        tcgetattr(&self.program).unwrap().local_modes.contains(LocalModes::ECHO)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_token_is_not_echoed_and_echo_is_restored() {
    let setting = Setting::new().await;
    let token = setting.hubspot.static_token(&[READ]);
    let mut login = AtTerminal::start(&setting, &["--static"]);
    login.sees("Enter the access token (not shown): ");
    assert!(!login.shows());
    writeln!(login.keys, "{}", token.expose()).unwrap();
    login.sees("Stored    secret/data/hubspot/default, version 1");
    assert!(login.child.wait().unwrap().success(), "{}", login.seen);
    assert!(!login.seen.contains(SECRET_MARKER), "the token was shown: {}", login.seen);
    assert!(login.shows());
    writeln!(login.keys, "seen again").unwrap();
    login.sees("seen again");
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_prompt_restores_echo() {
    let setting = Setting::new().await;
    for signal in ["INT", "TERM", "HUP"] {
        let mut login = AtTerminal::start(&setting, &["--static"]);
        login.sees("Enter the access token (not shown): ");
        send_signal(&login.child, signal);
        assert_eq!(login.child.wait().unwrap().code(), Some(1), "{signal} {}", login.seen);
        login.sees("interrupted; nothing was stored");
        assert!(login.shows(), "{signal}");
    }
    assert_eq!(setting.stored(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_secret_and_code_are_not_echoed() {
    let setting = Setting::new().await;
    let redirect = "https://app.example.com/oauth/callback";
    let (id, secret) = setting.hubspot.register_app(&[redirect]);
    let mut login = AtTerminal::start(&setting, &["--no-browser", "--redirect-url", redirect]);
    login.sees("Enter the client id of the app: ");
    assert!(login.shows());
    writeln!(login.keys, "{id}").unwrap();
    login.sees("Enter the client secret of the app (not shown): ");
    assert!(!login.shows() && login.seen.contains(&id), "{}", login.seen);
    writeln!(login.keys, "{}", secret.expose()).unwrap();
    login.sees("Enter the URL that the browser was redirected to, or its code (not shown): ");
    assert!(!login.shows());
    let url = login.seen.lines().find(|line| line.starts_with("  http")).unwrap();
    let back = clicked(url.trim(), "connect").await;
    writeln!(login.keys, "{back}").unwrap();
    login.sees("Stored    secret/data/hubspot/default, version 1");
    assert!(login.child.wait().unwrap().success(), "{}", login.seen);
    let seen = &login.seen;
    assert!(!seen.contains(SECRET_MARKER) && !seen.contains(&back), "a secret was shown: {seen}");
}
