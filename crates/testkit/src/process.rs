//! The service as a separate process.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::{task::spawn_blocking, time::timeout};

use crate::wait::{PATIENCE, found, wait_ready};

/// An address whose port the system picks.
pub const FREE: &str = "127.0.0.1:0";

/// A running process that logs JSON to its standard error; killed when dropped.
#[derive(Debug)]
pub struct Process {
    /// The process.
    pub child: Child,
    log: Arc<Mutex<Vec<String>>>,
    /// Reads the log until the process closes it.
    reader: Option<thread::JoinHandle<()>>,
}

/// A running `leadsd dev` on free ports, ready.
#[derive(Debug)]
pub struct Dev {
    /// The process.
    pub process: Process,
    /// Lines that it printed before it served.
    pub banner: Vec<String>,
}

// === impl Process ===

impl Process {
    /// Starts `command`.
    ///
    /// # Panics
    ///
    /// If the command cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the process starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().expect("a pipe"));
        let kept = Arc::clone(&log);
        let reader = thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                kept.lock().push(line);
            }
        });
        Self { child, log, reader: Some(reader) }
    }

    /// Runs `serve` of `binary` with a configuration file.
    pub fn serve(binary: &str, config: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary);
        command.args(["serve", "--config"]).arg(config).envs(environment.iter().copied());
        Self::start(&mut command)
    }

    /// The log so far.
    pub fn lines(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    /// The value of a log field, as soon as a line has it.
    ///
    /// # Panics
    ///
    /// If no line has it within [`PATIENCE`].
    pub async fn logged(&self, field: &str) -> String {
        let search = || self.lines().iter().find_map(|line| value_of(line, field));
        found(&format!("{field} is logged"), search).await
    }

    /// Waits until it is ready; gives its gRPC address.
    pub async fn ready(&self) -> String {
        wait_ready(&self.logged("admin.address").await).await;
        self.logged("grpc.address").await
    }

    /// Sends a signal such as `TERM`.
    pub fn signal(&self, name: &str) {
        send_signal(&self.child, name);
    }

    /// Waits until the process has ended.
    ///
    /// # Panics
    ///
    /// If it does not end within [`PATIENCE`].
    pub async fn wait(&mut self) {
        found("the process ends", || self.child.try_wait().expect("its own child")).await;
    }

    /// The exit code once it has ended, and its log.
    ///
    /// # Panics
    ///
    /// If it does not end within [`PATIENCE`].
    pub async fn ended(mut self) -> (Option<i32>, String) {
        self.wait().await;
        let status = self.child.wait().expect("its own child");
        // The process has written its last lines; the reader may not have read them yet.
        if let Some(reader) = self.reader.take() {
            let read = timeout(PATIENCE, spawn_blocking(move || reader.join())).await;
            drop(read.expect("the log ends with the process"));
        }
        let log = self.log.lock().join("\n");
        (status.code(), log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === impl Dev ===

impl Dev {
    /// Starts `dev` of `binary` and waits until it is ready.
    ///
    /// # Panics
    ///
    /// If it is not ready within [`PATIENCE`].
    pub async fn start(binary: &str) -> Self {
        Self::start_with(binary, &[]).await
    }

    /// Starts `dev` with additional arguments.
    ///
    /// # Panics
    ///
    /// If it is not ready within [`PATIENCE`].
    pub async fn start_with(binary: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary);
        command.args(["dev", "--grpc", FREE, "--admin", FREE, "--hubspot", FREE, "--vault", FREE]);
        command.args(arguments);
        let mut process = Process::start(command.stdout(Stdio::piped()));
        let printed = BufReader::new(process.child.stdout.take().expect("a pipe"));
        let banner = spawn_blocking(move || -> Vec<String> {
            let lines = printed.lines().map_while(Result::ok);
            lines.take_while(|line| !line.starts_with("Ctrl-C")).collect()
        });
        let banner = timeout(PATIENCE, banner).await.expect("a banner").expect("no panic");
        let dev = Self { process, banner };
        wait_ready(&dev.address("admin")).await;
        dev
    }

    /// The address that the banner shows for `gRPC`, `admin`, `HubSpot` or `Vault`.
    ///
    /// # Panics
    ///
    /// If the banner shows none.
    pub fn address(&self, server: &str) -> String {
        let line = self.banner.iter().find_map(|line| line.strip_prefix(server));
        let line = line.unwrap_or_else(|| panic!("no {server} in {:?}", self.banner));
        let address = line.split_whitespace().next().expect("an address");
        let address = address.trim_start_matches("http://");
        address.split('/').next().unwrap_or(address).to_owned()
    }
}

/// Sends a signal such as `TERM` to a child process.
///
/// # Panics
///
/// If the child has ended.
pub fn send_signal(child: &Child, name: &str) {
    let line = format!("kill -{name} {}", child.id());
    let sent = Command::new("sh").args(["-c", &line]).status().expect("a shell");
    assert!(sent.success(), "the process takes the signal");
}

fn value_of(line: &str, field: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    match &line[field] {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Some(other.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn fields_are_read_from_the_log_and_signals_are_sent() {
        let script = r#"trap 'exit 7' TERM
            echo '{"drain.delay_ms":5,"grpc.address":"here"}' >&2
            while :; do sleep 0.01; done"#;
        let process = Process::start(Command::new("sh").args(["-c", script]));
        assert_eq!(process.logged("drain.delay_ms").await, "5");
        assert_eq!(process.logged("grpc.address").await, "here");
        process.signal("TERM");
        let (code, log) = process.ended().await;
        assert_eq!(code, Some(7), "{log}");
    }
}
