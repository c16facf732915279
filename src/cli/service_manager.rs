//! Notifications of the service manager that started the process, such as systemd: readiness, reloads,
//! the stop, and the watchdog (sd_notify(3)).
//!
//! The crate sd-notify sends with a blocking socket. A manager that does not read would then block a
//! thread of the runtime, so messages here are sent without waiting, and dropped if there is no room.

use std::{
    io,
    os::unix::net::{SocketAddr, UnixDatagram},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    select,
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, warn};

use crate::admin::ReadinessReport;
use leadsd_base::task::{self, Task};

/// Maximum number of unmet conditions in a status text.
const MAX_SHOWN: usize = 8;

/// Interval of the watchdog if the manager wants no notifications.
const NO_WATCHDOG: Duration = Duration::from_secs(86_400);

/// Service manager of the process. Clones share its state.
#[derive(Debug, Clone)]
pub(super) struct ServiceManager {
    /// `None` if no manager wants notifications.
    socket: Option<Arc<ManagerSocket>>,
    watchdog: Option<Duration>,
    /// True once readiness was reported.
    is_started: Arc<AtomicBool>,
}

/// Socket of the manager.
#[derive(Debug)]
struct ManagerSocket {
    socket: UnixDatagram,
    address: SocketAddr,
}

// === impl ServiceManager ===

impl ServiceManager {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(super) fn new(environment: impl Iterator<Item = (String, String)>, pid: u32) -> Self {
        let (mut name, mut interval, mut watched) = (None, None, None);
        for (key, value) in environment {
            match key.as_str() {
                "NOTIFY_SOCKET" => name = Some(value),
                "WATCHDOG_USEC" => interval = value.parse().ok().map(Duration::from_micros),
                "WATCHDOG_PID" => watched = Some(value),
                _ => {}
            }
        }
        // The variables of another process may be inherited.
        let is_own = watched.is_none_or(|watched| watched.parse() == Ok(pid));
        let socket = name.and_then(|name| match ManagerSocket::new(&name) {
            Ok(socket) => Some(Arc::new(socket)),
            Err(error) => {
                warn!(%error, "Ignored NOTIFY_SOCKET: it is not the address of a Unix socket");
                None
            }
        });
        let watchdog = interval.filter(|interval| is_own && !interval.is_zero());
        Self { socket, watchdog, is_started: Arc::default() }
    }

    /// Starts to report readiness and to feed the watchdog, as long as the runtime runs tasks.
    pub(super) fn start(&self, mut readiness: watch::Receiver<ReadinessReport>) -> Option<Task> {
        self.socket.as_ref()?;
        let manager = self.clone();
        Some(task::spawn("service manager", "", async move {
            // Half of the interval, as sd_watchdog_enabled(3) recommends.
            let period = manager.watchdog.map_or(NO_WATCHDOG, |interval| interval / 2);
            let mut watchdog = interval(period.max(Duration::from_millis(1)));
            watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
            readiness.mark_changed();
            loop {
                select! {
                    changed = readiness.changed() => match changed {
                        Ok(()) => manager.report(&readiness.borrow_and_update()),
                        // The service has ended.
                        Err(_) => return,
                    },
                    _ = watchdog.tick() => if manager.watchdog.is_some() {
                        manager.send("WATCHDOG=1");
                    },
                }
            }
        }))
    }

    /// Reports a reload that `reload` performs.
    pub(super) fn reload(&self, reload: impl FnOnce()) {
        let is_started = self.is_started.load(Ordering::Relaxed);
        if is_started {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
            self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
        }
        reload();
        if is_started {
            self.send("READY=1");
        }
    }

    /// Reports that the service stops.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=Draining");
    }

    fn report(&self, readiness: &ReadinessReport) {
        let unmet = &readiness.unmet;
        if unmet.is_empty() {
            self.is_started.store(true, Ordering::Relaxed);
            return self.send("READY=1\nSTATUS=Ready");
        }
        // Drained services have reported that they stop.
        if unmet.iter().any(|condition| condition == "draining") {
            return;
        }
        let shown = unmet.iter().take(MAX_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if unmet.len() > MAX_SHOWN { ", ..." } else { "" };
        self.send(&format!("STATUS=Not ready: {shown}{more}"));
    }

    fn send(&self, message: &str) {
        let Some(ManagerSocket { socket, address }) = self.socket.as_deref() else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            debug!(%error, "Failed to notify the service manager");
        }
    }
}

// === impl ManagerSocket ===

impl ManagerSocket {
    /// A name that starts with `@` is that of an abstract socket.
    fn new(name: &str) -> io::Result<Self> {
        let address = match name.strip_prefix('@') {
            Some(name) => abstract_address(name)?,
            None if name.starts_with('/') => SocketAddr::from_pathname(name)?,
            None => return Err(io::Error::other("neither a path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &str) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_name: &str) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: u32 = 7;

    fn manager(variables: &[(&str, &str)]) -> ServiceManager {
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        ServiceManager::new(variables, PID)
    }

    fn received(socket: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 4_096];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    #[test]
    fn the_watchdog_is_that_of_this_process() {
        let of = |variables: &[(&str, &str)]| manager(variables).watchdog;
        let second = Some(Duration::from_secs(1));
        assert_eq!(of(&[("WATCHDOG_USEC", "1000000")]), second);
        assert_eq!(of(&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "7")]), second);
        assert_eq!(of(&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "8")]), None);
        for odd in ["", "0", "-1", "x"] {
            assert_eq!(of(&[("WATCHDOG_USEC", odd)]), None, "{odd}");
        }
    }

    #[test]
    fn odd_sockets_are_ignored() {
        for odd in ["", "relative", "vsock:2:1", &format!("/{}", "x".repeat(200))] {
            let manager = manager(&[("NOTIFY_SOCKET", odd)]);
            assert!(manager.socket.is_none(), "{odd}");
            manager.stopping();
        }
    }

    #[test]
    fn readiness_is_reported_with_what_is_missing_and_a_reload_only_after_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let manager = manager(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
        manager.reload(|| {});
        assert_eq!(received(&socket), None);
        let unmet = (0..9).map(|number| format!("credential:{number}")).collect();
        manager.report(&ReadinessReport { unmet, unusable: Vec::new() });
        let status = received(&socket).unwrap();
        assert!(status.starts_with("STATUS=Not ready: credential:0, "), "{status}");
        assert!(status.ends_with("credential:7, ..."), "{status}");
        manager.report(&ReadinessReport::default());
        assert_eq!(received(&socket).unwrap(), "READY=1\nSTATUS=Ready");
        let mut order = None;
        manager.reload(|| order = received(&socket));
        assert!(order.unwrap().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(received(&socket).unwrap(), "READY=1");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_socket_is_reached() {
        let name = format!("leadsd-test-{}", uuid::Uuid::new_v4());
        let socket = UnixDatagram::bind_addr(&abstract_address(&name).unwrap()).unwrap();
        manager(&[("NOTIFY_SOCKET", &format!("@{name}"))]).stopping();
        assert_eq!(received(&socket).unwrap(), "STOPPING=1\nSTATUS=Draining");
    }

    #[test]
    fn a_manager_that_does_not_read_blocks_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _socket = UnixDatagram::bind(&path).unwrap();
        let manager = manager(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
        for _ in 0..10_000 {
            manager.send("WATCHDOG=1");
        }
    }
}
