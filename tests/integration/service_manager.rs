//! Notifications of a service manager, and the systemd unit of the documentation.

use std::{
    collections::BTreeMap,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use leadsd_testkit::Process;
use leadsd_vault_fake::FakeVault;
use tempfile::TempDir;

use crate::{
    binary::{config, fake_hubspot, fake_vault},
    harness::{LEADSD, PATIENCE},
};

/// Socket of a service manager.
struct Manager {
    socket: UnixDatagram,
    path: String,
}

// === impl Manager ===

impl Manager {
    fn new(folder: &TempDir) -> Self {
        let path = folder.path().join("notify");
        Self::with(UnixDatagram::bind(&path).unwrap(), path.display().to_string())
    }

    /// Listens at an abstract socket, as systemd in containers does.
    #[cfg(target_os = "linux")]
    fn at_abstract_socket() -> Self {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("leadsd-test-{}", uuid::Uuid::new_v4());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        Self::with(UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"))
    }

    fn with(socket: UnixDatagram, path: String) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path }
    }

    fn serve(&self, config: &Path, watchdog: Duration) -> Process {
        let interval = watchdog.as_micros().to_string();
        let environment = [("NOTIFY_SOCKET", self.path.as_str()), ("WATCHDOG_USEC", &interval)];
        Process::serve(LEADSD, config, &environment)
    }

    /// The next message that contains this text; others are returned before it.
    fn until(&self, text: &str) -> (Vec<String>, String) {
        let mut before = Vec::new();
        loop {
            let mut buffer = [0; 4_096];
            let length = self.socket.recv(&mut buffer);
            let length = length.unwrap_or_else(|error| panic!("no {text:?}: {error}; {before:?}"));
            let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
            if message.contains(text) {
                return (before, message);
            }
            before.push(message);
        }
    }
}

/// Configuration of a service with fake peers.
async fn world(folder: &TempDir) -> (PathBuf, leadsd_hubspot_fake::FakeHubspot, FakeVault) {
    let hubspot = fake_hubspot().await;
    let (vault, auth) = fake_vault(folder, &hubspot).await;
    let path = config(folder, &format!("http://{}", vault.address()), &auth, &hubspot);
    (path, hubspot, vault)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manager_sees_readiness_reloads_the_watchdog_and_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let (config, _hubspot, _vault) = world(&folder).await;
    let manager = Manager::new(&folder);
    let process = manager.serve(&config, Duration::from_millis(200));
    let (before, ready) = manager.until("READY=1");
    assert_eq!(ready, "READY=1\nSTATUS=Ready");
    assert!(before.iter().all(|m| m == "WATCHDOG=1" || m.starts_with("STATUS=Not ready: ")));
    manager.until("WATCHDOG=1");
    manager.until("WATCHDOG=1");
    let now = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
    };
    let since = now();
    process.signal("HUP");
    let (_, reloading) = manager.until("RELOADING=1");
    let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!((since..=now()).contains(&at.parse::<i64>().unwrap()), "{reloading}");
    assert_eq!(manager.until("READY=1").1, "READY=1");
    process.signal("TERM");
    assert!(manager.until("STOPPING=1").1.starts_with("STOPPING=1\n"));
    let (code, log) = process.ended().await;
    assert_eq!(code, Some(0), "{log}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_manager_at_an_abstract_socket_sees_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (config, _hubspot, _vault) = world(&folder).await;
    let manager = Manager::at_abstract_socket();
    let process = manager.serve(&config, Duration::from_millis(200));
    assert_eq!(manager.until("READY=1").1, "READY=1\nSTATUS=Ready");
    manager.until("WATCHDOG=1");
    process.signal("TERM");
    manager.until("STOPPING=1");
    assert_eq!(process.ended().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_does_not_run_feeds_no_watchdog() {
    let folder = tempfile::tempdir().unwrap();
    let (config, _hubspot, _vault) = world(&folder).await;
    let manager = Manager::new(&folder);
    let process = manager.serve(&config, Duration::from_millis(100));
    manager.until("READY=1");
    process.signal("STOP");
    // What was sent before the stop is read; then nothing follows for ten intervals.
    manager.socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut buffer = [0; 4_096];
    let silent = (0..1_000).any(|_| manager.socket.recv(&mut buffer).is_err());
    assert!(silent, "a stopped process still feeds the watchdog");
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    process.signal("CONT");
    manager.until("WATCHDOG=1");
    process.signal("TERM");
    assert_eq!(process.ended().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_a_credential_is_not_ready_but_alive() {
    let folder = tempfile::tempdir().unwrap();
    let (config, _hubspot, vault) = world(&folder).await;
    vault.set_sealed(true);
    let manager = Manager::new(&folder);
    let process = manager.serve(&config, Duration::from_millis(100));
    let (_, status) = manager.until("STATUS=");
    assert_eq!(status, "STATUS=Not ready: credential:default");
    for _ in 0..3 {
        let (before, _) = manager.until("WATCHDOG=1");
        assert!(!before.iter().any(|message| message.contains("READY=1")), "{before:?}");
    }
    vault.set_sealed(false);
    manager.until("READY=1");
    process.signal("TERM");
    assert_eq!(process.ended().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_does_not_read_does_not_stop_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let (config, _hubspot, _vault) = world(&folder).await;
    let manager = Manager::new(&folder);
    // The queue of the socket is full after some milliseconds.
    let process = manager.serve(&config, Duration::from_millis(2));
    let grpc = process.ready().await;
    let address = format!("--address={grpc}");
    let health = || Command::new(LEADSD).args(["health", "--timeout-ms=10000", &address]).output();
    for _ in 0..20 {
        let output = health().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    process.signal("TERM");
    assert_eq!(process.ended().await.0, Some(0));
    drop(manager);
}

#[test]
fn the_documented_unit_fits_the_service() {
    let unit = std::fs::read_to_string("docs/leadsd.service").unwrap();
    let mut section = "";
    let mut keys: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
        keys.entry((section, key)).or_default().push(value);
    }
    let service = |key: &str| keys[&("Service", key)][0];
    assert_eq!(service("Type"), "notify-reload");
    let start: Vec<&str> = service("ExecStart").split(' ').collect();
    assert_eq!(start, ["/usr/local/bin/leadsd", "serve", "--config", "/etc/leadsd/leadsd.toml"]);
    let seconds = |text: &str| text.trim_end_matches('s').parse::<u64>().unwrap();
    assert!(seconds(service("WatchdogSec")) >= 10);
    let defaults: toml::Table =
        std::fs::read_to_string("leadsd.example.toml").unwrap().parse().unwrap();
    let grpc = |key: &str| seconds(defaults["grpc"][key].as_str().unwrap());
    let needed = grpc("drain_delay") + grpc("shutdown_grace") + 10;
    assert!(seconds(service("TimeoutStopSec")) >= needed, "{needed} s");
    let wrong = Command::new(LEADSD).args(["serve", "--config", "/nonexistent"]).output().unwrap();
    assert_eq!(service("RestartPreventExitStatus"), wrong.status.code().unwrap().to_string());
    let analyze = Command::new("systemd-analyze").args(["verify", "docs/leadsd.service"]).output();
    // Machines without systemd skip its own check.
    if let Ok(output) = analyze {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let faults: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("leadsd.service") && line.contains("Unknown"))
            .collect();
        assert!(faults.is_empty(), "{said}");
    }
}
