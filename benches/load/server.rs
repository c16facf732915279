//! Processes that are measured from outside: `leadsd serve`, and helpers of the bench itself.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use leadsd::grpc::pb::leads_service_client::LeadsServiceClient;
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    figures::say,
    peers::{FREE, Peers},
};

/// Longest wait for a process to do what it must.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ticks of a second in which Linux counts the time of a process.
const TICKS: f64 = 100.0;

/// Warnings are shown; of the rest only where it listens is of use.
const QUIET: &str = "warn,leadsd::grpc::server=info,leadsd::app=info,leadsd::access=off";

/// A child process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

/// A running `leadsd serve`.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) grpc: String,
}

/// When a server was where, from when its process was begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    /// It accepts connections.
    pub(crate) listening: Duration,
    /// Its health says SERVING.
    pub(crate) serving: Duration,
}

// === impl Process ===

impl Process {
    /// Starts a command whose lines on standard error are kept.
    fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the process starts");
        let stderr = child.stderr.take().expect("it is piped");
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Access events would fill the memory; nobody looks at them.
                if !line.contains("Call finished") && sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// This bench in another role, which tells its address.
    pub(crate) async fn helper(arguments: &[&str]) -> (Self, String) {
        let own = std::env::current_exe().expect("a path");
        let mut process = Self::start(Command::new(own).args(arguments));
        let address = process.line().await;
        (process, address)
    }

    async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.recv()).await;
        line.expect("a line in time").expect("a line before its end")
    }

    /// Time that all its threads have used the processor.
    pub(crate) fn cpu(&self) -> Duration {
        let text = self.proc("stat");
        // The name of the command, in brackets, may hold blanks.
        let fields = text.rsplit(") ").next().unwrap_or_default();
        let ticks: f64 = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<f64>().expect("a number of ticks"))
            .sum();
        Duration::from_secs_f64(ticks / TICKS)
    }

    /// A size in memory by its name in the process's status, such as `VmRSS`, in MiB.
    pub(crate) fn memory(&self, name: &str) -> f64 {
        let text = self.proc("status");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<f64>().ok()).expect("a size") / 1024.0
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(path).expect("Linux, and a process that lives")
    }
}

impl Drop for Process {
    /// Warnings of the service are part of what was measured.
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        while let Ok(line) = self.lines.try_recv() {
            if ["WARN", "ERROR", "panicked"].iter().any(|level| line.contains(level)) {
                say(&format!("  {line}"));
            }
        }
    }
}

// === impl Server ===

impl Server {
    /// Starts the service and waits until it serves. Without a level in `settings` calls are not
    /// logged.
    pub(crate) async fn start(peers: &Peers, settings: &[(&str, &str)]) -> Self {
        Self::timed(peers, settings).await.0
    }

    pub(crate) async fn timed(peers: &Peers, settings: &[(&str, &str)]) -> (Self, Started) {
        let own = [("GRPC__LISTEN", FREE), ("ADMIN__LISTEN", FREE), ("LOG__LEVEL", QUIET)];
        let all = own.iter().chain(settings).map(|(key, value)| (format!("LEADSD_{key}"), *value));
        let peers = peers.settings();
        let peers = peers.iter().map(|(key, value)| (format!("LEADSD_{key}"), value.as_str()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_leadsd"));
        command.arg("serve").env_clear().envs(peers.chain(all));
        let since = Instant::now();
        let mut process = Process::start(&mut command);
        let grpc = loop {
            let line = process.line().await;
            let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            if let Some(address) = line["grpc.address"].as_str() {
                break address.to_owned();
            }
        };
        let listening = since.elapsed();
        wait_serving(&grpc).await;
        let started = Started { listening, serving: since.elapsed() };
        (Self { process, grpc }, started)
    }

    /// Clients on this many connections.
    pub(crate) async fn clients(&self, connections: usize) -> Vec<LeadsServiceClient<Channel>> {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            clients.push(LeadsServiceClient::new(channel(&self.grpc).await));
        }
        clients
    }
}

/// A connection of its own.
pub(crate) async fn channel(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect().await.expect("a connection")
}

async fn wait_serving(address: &str) {
    let mut health = HealthClient::new(channel(address).await);
    let serving = async {
        loop {
            let answer = health.check(HealthCheckRequest::default()).await;
            let serving = i32::from(ServingStatus::Serving);
            if answer.is_ok_and(|answer| answer.into_inner().status == serving) {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, serving).await.expect("it serves in time");
}
