//! `leadsd` as a process of its own.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;

use crate::harness::{PATIENCE, wait_ready};

/// An address whose port the system picks.
pub(crate) const FREE: &str = "127.0.0.1:0";

/// A running `leadsd`; killed when dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

// === impl Process ===

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("leadsd starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        Self { child, log }
    }

    /// `serve` with a configuration file.
    pub(crate) fn serve(config: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leadsd"));
        command.args(["serve", "--config"]).arg(config).envs(environment.iter().copied());
        Self::start(&mut command)
    }

    /// What it has logged so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// The value of a field once it is logged.
    pub(crate) async fn logged(&self, field: &str) -> String {
        let found = async {
            loop {
                let lines = self.log.lock().unwrap().clone();
                let value = lines.iter().find_map(|line| {
                    let line: Value = serde_json::from_str(line).ok()?;
                    match &line[field] {
                        Value::String(text) => Some(text.clone()),
                        Value::Null => None,
                        other => Some(other.to_string()),
                    }
                });
                if let Some(value) = value {
                    return value;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("no {field} in\n{}", self.log.lock().unwrap().join("\n")))
    }

    /// Waits until it is ready; gives its gRPC address.
    pub(crate) async fn ready(&self) -> String {
        wait_ready(&format!("http://{}", self.logged("admin.address").await)).await;
        self.logged("grpc.address").await
    }

    pub(crate) fn signal(&self, name: &str) {
        send_signal(&self.child, name);
    }

    /// Its exit code once it has ended, and everything it logged.
    pub(crate) async fn ended(mut self) -> (Option<i32>, String) {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let code = tokio::time::timeout(PATIENCE, ended).await.expect("it ends in time");
        let log = self.log.lock().unwrap().join("\n");
        (code, log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running `leadsd dev` on free ports, ready.
pub(crate) struct Dev {
    pub(crate) process: Process,
    /// What it printed before it began to serve.
    pub(crate) banner: Vec<String>,
}

// === impl Dev ===

impl Dev {
    pub(crate) async fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leadsd"));
        command.args(["dev", "--grpc", FREE, "--admin", FREE, "--hubspot", FREE, "--vault", FREE]);
        let mut process = Process::start(command.stdout(Stdio::piped()));
        let printed = BufReader::new(process.child.stdout.take().unwrap());
        let banner = tokio::task::spawn_blocking(move || -> Vec<String> {
            let lines = printed.lines().map_while(Result::ok);
            lines.take_while(|line| !line.starts_with("Ctrl-C")).collect()
        });
        let banner = tokio::time::timeout(PATIENCE, banner).await.expect("in time").unwrap();
        let dev = Self { process, banner };
        wait_ready(&format!("http://{}", dev.address("admin"))).await;
        dev
    }

    /// The address that the banner gives for one of `gRPC`, `admin`, `HubSpot` and `Vault`.
    pub(crate) fn address(&self, of: &str) -> String {
        let line = self.banner.iter().find_map(|line| line.strip_prefix(of));
        let line = line.unwrap_or_else(|| panic!("no {of} in {:?}", self.banner)).trim();
        let address = line.split_whitespace().next().unwrap().trim_start_matches("http://");
        address.split('/').next().unwrap().to_owned()
    }
}

/// Sends a signal such as TERM to a process that was started here.
pub(crate) fn send_signal(child: &Child, name: &str) {
    let line = format!("kill -{name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
}
