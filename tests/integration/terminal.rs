//! The command line at a terminal: help that fits its width, and errors that name the address.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
};

use leadsd_testkit::Process;

use crate::{
    binary::{config, fake_hubspot},
    harness::LEADSD,
};

const FREE: &str = "127.0.0.1:0";

/// Help of a command at a terminal with this width.
fn help(arguments: &[&str], columns: usize) -> String {
    let mut command = Command::new(LEADSD);
    command.args(arguments).arg("--help").env_clear().env("COLUMNS", columns.to_string());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn help_fits_the_width_of_the_terminal() {
    let commands = help(&[], 100);
    let listed = commands.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let names: Vec<String> = listed
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|name| name != "help")
        .collect();
    assert!(names.len() >= 9, "{commands}");
    for name in &names {
        for columns in [60, 100] {
            let help = help(&[name], columns);
            for line in help.lines() {
                // A word that is longer than the line, such as a URL, stays whole.
                let text = line.trim_start();
                let is_one_word = !text.contains(' ') || text.starts_with("--");
                assert!(line.len() <= columns || is_one_word, "{name}, {columns}: {line:?}");
            }
        }
        assert!(help(&[name], 60).lines().count() >= help(&[name], 100).lines().count());
    }
    let [narrow, wide] = [60, 100].map(|columns| help(&["dev"], columns).lines().count());
    assert!(narrow > wide, "{narrow} lines at 60 columns, {wide} at 100");
}

/// Exit code and standard error.
fn said(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(LEADSD);
    let output = command.args(arguments).env_clear().stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn health_names_the_option_and_the_address_of_each_failure() {
    let silent = TcpListener::bind(FREE).unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let closed = {
        let listener = TcpListener::bind(FREE).unwrap();
        listener.local_addr().unwrap().to_string()
    };
    for flag in ["--address", "--admin"] {
        for (address, expected) in [
            (closed.as_str(), "refused"),
            (&silent, "no response within"),
            ("nowhere.invalid:1", ""),
        ] {
            let (code, said) = said(&["health", flag, address, "--timeout-ms", "300"]);
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains(&format!("leadsd: {flag} {address}: ")), "{said}");
            assert!(said.contains(expected), "{said}");
        }
        for address in ["localhost", "50051", ":50051", "http://localhost:1", "dns:///a:1", "a:0"] {
            let (code, said) = said(&["health", flag, address]);
            let expected = format!("leadsd: {flag} {address}: not an address: use HOST:PORT");
            assert!(code == Some(1) && said.starts_with(&expected), "{said}");
        }
    }
    let (_, error) = said(&["health", "--address", &closed, "--tls", "--ca-file", "/nowhere.pem"]);
    assert!(error.contains(": cannot load --ca-file /nowhere.pem: "), "{error}");
    let (_, said) = said(&["health", "--admin", "unix:/run/leadsd.sock"]);
    assert_eq!(said, "leadsd: --admin unix:/run/leadsd.sock: not an address: use HOST:PORT\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_takes_host_names_and_names_the_key_of_an_address_that_fails() {
    let (folder, hubspot) = (tempfile::tempdir().unwrap(), fake_hubspot().await);
    let vault = "method = \"token\"\nfile = \"/x\"";
    let file = config(&folder, "http://127.0.0.1:1", vault, &hubspot);
    let taken = TcpListener::bind(FREE).unwrap();
    let port = taken.local_addr().unwrap().port();
    let taken = format!("127.0.0.1:{port}");
    for (key, variable) in
        [("grpc.listen", "LEADSD_GRPC__LISTEN"), ("admin.listen", "LEADSD_ADMIN__LISTEN")]
    {
        for (listen, expected) in [
            (taken.as_str(), "in use"),
            ("192.0.2.1:0", "set KEY to an address of this machine"),
            ("nowhere.invalid:1", "the host name has no address"),
        ] {
            let environment = [(variable, listen), ("LEADSD_GRPC__INSECURE", "true")];
            let (code, log) = Process::serve(LEADSD, &file, &environment).ended().await;
            assert_eq!(code, Some(1), "{log}");
            assert!(log.contains(&format!("leadsd: {key}: cannot listen on {listen}: ")), "{log}");
            assert!(log.contains(&expected.replace("KEY", key)), "{log}");
        }
    }
    let names = [("LEADSD_GRPC__LISTEN", "localhost:0"), ("LEADSD_ADMIN__LISTEN", "localhost:0")];
    let process = Process::serve(LEADSD, &file, &names);
    for field in ["grpc.address", "admin.address"] {
        let address: std::net::SocketAddr = process.logged(field).await.parse().unwrap();
        assert!(address.ip().is_loopback(), "{address}");
    }
    process.signal("TERM");
    assert_eq!(process.ended().await.0, Some(0));
}
