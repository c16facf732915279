//! `leadsd export` at a terminal: its bar, Ctrl-C, and the command that continues. docs/USING.md shows it.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use leadsd_hubspot_fake::{Gate, ScriptedResponse};
use serde_json::json;

use crate::{
    documentation::agrees,
    harness::{LEADSD, TestApp},
    pseudo_terminal::{AtTerminal, screen},
};

const LEADS: usize = 1_000;

/// A command in a session with a controlling terminal, so that Ctrl-C is a signal.
fn in_session(command: &str, folder: &Path) -> Command {
    let mut session = Command::new("setsid");
    session.arg("--ctty").args(command.split(' ')).current_dir(folder);
    session.env_remove("HOME").env_remove("XDG_CONFIG_HOME").env("TERM", "xterm");
    let folder = Path::new(LEADSD).parent().unwrap().display();
    session.env("PATH", format!("{folder}:/usr/bin:/bin"));
    session.stdin(Stdio::null());
    session
}

/// Holds all pages after the first ones.
fn hold_after(app: &TestApp, pages: usize) -> Gate {
    let gate = Gate::new();
    let passing = ScriptedResponse::Delayed(std::time::Duration::ZERO);
    app.hubspot.script_times(pages, "GET", "/leads", passing);
    app.hubspot.script_times(1_000, "GET", "/leads", ScriptedResponse::Held(gate.clone()));
    gate
}

/// The lines that a person sees, without what differs between runs. A bar that is drawn again below the
/// echo of Ctrl-C is one line.
fn shown(output: &str) -> String {
    let mut lines = Vec::new();
    for line in screen(output).into_iter().filter(|line| !line.is_empty()) {
        // Rate, time and quota follow the counts.
        lines.push(match (line.split_once(" leads ("), line.split_once(" in ")) {
            (Some((counts, rest)), _) => {
                let percent = rest.split(')').next().unwrap();
                let left = if percent == "100 %" { 0 } else { 4 };
                format!("{counts} leads ({percent}), 190/s, {left} s left, quota: burst 12 %")
            }
            // Times of the leads decide how well the file is compressed.
            (None, Some((before, _))) if line.starts_with("Exported ") => {
                let file = before.split(" (").next().unwrap();
                format!("{file} (5,000 bytes) in 5 s")
            }
            (None, _) => line,
        });
    }
    lines.dedup();
    lines.join("\n") + "\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_at_a_terminal_is_interrupted_and_continued_as_the_page_shows() {
    let app = TestApp::start().await;
    for number in 0..LEADS {
        let properties = json!({"hs_lead_name": format!("Lead {number}")});
        app.hubspot.add_lead(&app.contact, &properties).expect("a valid lead");
    }
    let folder = tempfile::tempdir().unwrap();
    let profiles = format!("default = \"x\"\n[profile.x]\naddress = \"{}\"\n", app.grpc);
    std::fs::create_dir(folder.path().join("leadsd")).unwrap();
    std::fs::write(folder.path().join("leadsd/profiles.toml"), profiles).unwrap();
    let start = |command: &str| {
        let mut session = in_session(command, folder.path());
        session.env("XDG_CONFIG_HOME", folder.path());
        AtTerminal::start(session)
    };
    let mut page = "```\n".to_owned();

    let gate = hold_after(&app, 4);
    let command = "leadsd export --out leads.csv.gz --properties hs_lead_name,hs_lead_label";
    let mut first = start(command);
    first.sees("400 of 1,000 leads (40 %)");
    first.sees("quota: ");
    // Ctrl-C.
    first.keys.write_all(b"\x03").unwrap();
    first.sees("--resume");
    assert_eq!(first.child.wait().unwrap().code(), Some(130), "{}", first.seen);
    app.hubspot.clear_scripts();
    gate.open();
    page.push_str(&format!("$ {command}\n{}", shown(&first.seen)));

    let command = format!("{command} --resume");
    assert!(first.seen.contains(&format!("\n  {command}")), "{}", first.seen);
    let mut second = start(&command);
    second.sees(" in ");
    assert!(second.child.wait().unwrap().success(), "{}", second.seen);
    page.push_str(&format!("$ {command}\n{}```\n", shown(&second.seen)));

    assert!(folder.path().join("leads.csv.gz").exists());
    agrees("docs/USING.md", "export session", &page);
}
