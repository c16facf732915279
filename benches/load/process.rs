//! Processes that are measured from outside: their start, their address, their CPU time and memory.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::{sync::mpsc, time::timeout};

use crate::{figures::print, machine::spawn_pinned};

/// Longest wait for a line of a process.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Clock ticks per second in `/proc/<pid>/stat`.
const TICKS: f64 = 100.0;

/// Text of an access event: there is one per call, and no scenario reads them.
const ACCESS_EVENT: &str = "Call finished";

/// A child process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    pause: Arc<Pause>,
}

/// Stops the thread that reads the lines of a process while it is set.
#[derive(Debug, Default)]
struct Pause {
    is_set: Mutex<bool>,
    ended: Condvar,
}

// === impl Process ===

impl Process {
    /// Starts a command and collects its lines on standard error. With a core, the process is pinned
    /// to it.
    pub(crate) fn start(command: &mut Command, core: Option<usize>) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = match core {
            None => command.spawn(),
            Some(core) => spawn_pinned(command, core),
        };
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stderr = child.stderr.take().expect("standard error is piped");
        let (sender, lines) = mpsc::unbounded_channel();
        let pause = Arc::<Pause>::default();
        let reader = Arc::clone(&pause);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                reader.wait();
                if !line.contains(ACCESS_EVENT) && sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, pause }
    }

    /// Stops reading what the process prints, until it ends: its log blocks once the pipe is full.
    pub(crate) fn stop_reading(&self) {
        *self.pause.is_set.lock() = true;
    }

    /// Starts this executable as a helper.
    pub(crate) async fn start_helper(
        role: &str,
        arguments: &[&str],
        core: Option<usize>,
    ) -> (Self, String) {
        let executable = std::env::current_exe().expect("the executable has a path");
        let mut command = Command::new(executable);
        let mut process = Self::start(command.args(["--role", role]).args(arguments), core);
        let address = process.address().await;
        (process, address)
    }

    /// Waits for a line.
    pub(crate) async fn line(&mut self) -> String {
        let line = timeout(START_TIMEOUT, self.lines.recv()).await;
        line.expect("the process prints in time").expect("the process has not ended")
    }

    /// Waits for a line that is an address and nothing else.
    pub(crate) async fn address(&mut self) -> String {
        loop {
            let line = self.line().await;
            if line.parse::<SocketAddr>().is_ok() {
                return line;
            }
            print(&format!("  {line}"));
        }
    }

    /// CPU time of all threads so far, user and system.
    pub(crate) fn cpu_time(&self) -> Duration {
        let text = self.read_proc("stat");
        // The command's name, in parentheses, may contain spaces.
        let fields = text.rsplit(") ").next().unwrap_or_default();
        let ticks: f64 = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<f64>().expect("the field is a number"))
            .sum();
        Duration::from_secs_f64(ticks / TICKS)
    }

    /// Size of a kind of memory by its name in `/proc/<pid>/status`, such as `VmRSS`, in MiB.
    pub(crate) fn memory(&self, name: &str) -> f64 {
        let text = self.read_proc("status");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<f64>().ok()).expect("the status has this size") / 1024.0
    }

    fn read_proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(path).expect("Linux reports on a running process")
    }
}

// === impl Pause ===

impl Pause {
    /// Waits until the pause has ended, if it is set.
    fn wait(&self) {
        let mut is_set = self.is_set.lock();
        while *is_set {
            self.ended.wait(&mut is_set);
        }
    }

    fn end(&self) {
        *self.is_set.lock() = false;
        self.ended.notify_all();
    }
}

impl Drop for Process {
    /// Kills the process and prints its warnings.
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.pause.end();
        while let Ok(line) = self.lines.try_recv() {
            if ["WARN", "ERROR", "panicked"].iter().any(|level| line.contains(level)) {
                print(&format!("  {line}"));
            }
        }
    }
}

/// Tells the parent process where this one listens.
pub(crate) fn print_address(address: &str) {
    writeln!(std::io::stderr(), "{address}").expect("the parent process reads");
}
