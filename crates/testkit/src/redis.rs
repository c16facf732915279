//! A Redis server for tests that are ignored by default.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::net::TcpStream;

use crate::{ports::unused_port, process::send_signal, wait::PATIENCE};

/// A Redis process without persistence; killed when dropped.
#[derive(Debug)]
pub struct Redis {
    child: Child,
    port: u16,
}

// === impl Redis ===

impl Redis {
    /// Starts a server on an unused port. `LEADSD_TEST_REDIS` names the program, else `redis-server`.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start() -> Self {
        Self::start_at(unused_port()).await
    }

    /// Starts a server on this port.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start_at(port: u16) -> Self {
        #[expect(clippy::disallowed_methods, reason = "where CI has put it")]
        let program = std::env::var("LEADSD_TEST_REDIS");
        let child = Command::new(program.as_deref().unwrap_or("redis-server"))
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server");
        let started = Self { child, port };
        let up = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, up).await.expect("Redis listens");
        started
    }

    /// Port of the server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// URL of the server.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Sends a signal such as `STOP` to the server.
    pub fn signal(&self, name: &str) {
        send_signal(&self.child, name);
    }

    /// Kills the server, which loses its data.
    ///
    /// # Panics
    ///
    /// If it has ended already.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
