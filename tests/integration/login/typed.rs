//! Typing at a terminal: what is secret is not shown.

use std::{
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::Stdio,
    time::Duration,
};

use leadsd::fake::{MARK, hubspot::READ};
use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

use super::Setting;

/// A terminal: the side of who types, and the side of the program.
fn terminal() -> (OwnedFd, OwnedFd) {
    let typing = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&typing).unwrap();
    unlockpt(&typing).unwrap();
    let name = ptsname(&typing, Vec::new()).unwrap();
    let program = rustix::fs::open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
    (typing, program.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_typed_is_not_shown_and_typing_is_shown_again_afterwards() {
    let setting = Setting::new().await;
    let token = setting.hubspot.static_token(&[READ]);
    let (typing, program) = terminal();
    let side = || Stdio::from(program.try_clone().unwrap());
    let mut command = setting.command(&["--static"]);
    command.stdin(side()).stdout(side()).stderr(side());
    let mut child = command.spawn().unwrap();
    let mut screen = std::fs::File::from(typing);
    let mut keys = screen.try_clone().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = screen.read(&mut buffer) {
            if sender.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).is_err() {
                return;
            }
        }
    });
    let mut seen = String::new();
    let see = |wanted: &str, seen: &mut String| {
        while !seen.contains(wanted) {
            let more = receiver.recv_timeout(Duration::from_secs(20));
            seen.push_str(&more.unwrap_or_else(|_| panic!("no {wanted:?} on screen: {seen}")));
        }
    };
    see("Enter the access token (not shown): ", &mut seen);
    writeln!(keys, "{}", token.expose()).unwrap();
    see("Stored    secret/data/hubspot/default, version 1", &mut seen);
    assert!(child.wait().unwrap().success(), "{seen}");
    assert!(!seen.contains(MARK), "the token was shown: {seen}");
    writeln!(keys, "seen again").unwrap();
    see("seen again", &mut seen);
    drop(program);
}
