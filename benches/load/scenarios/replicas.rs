//! Replicas that share one quota through a Redis: whether they use it up, and what becomes of their
//! calls when it is killed and comes back.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{count, failures, total};
use crate::{
    Plan,
    callers::{Kind, Load, Subject},
    figures::{Figures, Unit},
    peers::Peers,
    server::Server,
};

/// Calls that HubSpot allows in ten seconds.
const LIMIT: usize = 190;

const WINDOW: Duration = Duration::from_secs(10);

/// Callers of each replica.
const CALLERS: usize = 50;

/// A ledger that is new may not have heard of all for 2.5 s, and the first window of a load begins
/// with more than its part.
const WARM: Duration = Duration::from_secs(12);

/// Longest wait for Redis to listen.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn run(plan: Plan, figures: &mut Figures) {
    for replicas in [1, 2, 4, 8] {
        let redis = Redis::start(0).await;
        used_up(replicas, &redis, Duration::from_secs(plan.seconds), figures).await;
    }
    killed(figures).await;
}

/// Replicas with one ledger, each with its callers, until a point in time.
struct Replicas {
    peers: Peers,
    /// Those that are measured live until the end.
    servers: Vec<Server>,
    load: Load,
}

async fn replicas(count: usize, redis: &Redis, time: Duration) -> Replicas {
    let peers = Peers::start().await;
    peers.allow(LIMIT);
    let (url, replicas) = (redis.url(), count.to_string());
    let settings = [("QUOTA__SHARED__URL", &*url), ("QUOTA__SHARED__REPLICAS", &*replicas)];
    let (mut servers, mut subjects) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let server = Server::start(&peers, &settings).await;
        let client = &server.clients(1).await[0];
        let leads = peers.leads(CALLERS);
        subjects.extend(leads.chunks(1).map(|own| Subject::new(client.clone(), own)));
        servers.push(server);
    }
    let load = Load::start(subjects, Kind::Get, Instant::now() + time);
    Replicas { peers, servers, load }
}

async fn used_up(replicas: usize, redis: &Redis, time: Duration, figures: &mut Figures) {
    let Replicas { peers, servers, load } = self::replicas(replicas, redis, WARM + time).await;
    sleep(WARM).await;
    let part = used(&peers, time).await;
    let made = load.made().await;
    let what = format!("{replicas} on one Redis");
    figures.note(format!("{what}: calls used of those allowed"), part, Unit::Part).at_least(0.95);
    let refused = total(peers.hubspot.rate_limited());
    figures.note(format!("{what}: refusals (429)"), refused, Unit::Count).at_most(0.0);
    figures.note(format!("{what}: failed calls"), failures(&made), Unit::Count).at_most(0.0);
    drop(servers);
}

/// Four of them: Redis is there, then killed for two windows, then back.
async fn killed(figures: &mut Figures) {
    let mut redis = Redis::start(0).await;
    let Replicas { peers, servers, load } = replicas(4, &redis, WARM + WINDOW * 6).await;
    let begin = Instant::now() + WARM;
    sleep_until(begin).await;
    let before = used(&peers, WINDOW).await;
    redis.kill();
    let first = used(&peers, WINDOW).await;
    let away = used(&peers, WINDOW).await;
    redis = Redis::start(redis.port).await;
    let settling = used(&peers, WINDOW).await;
    let back = used(&peers, WINDOW).await;
    let made = load.made().await;
    let what = "4, and Redis is killed";
    for (when, part, least) in [
        ("before", before, 0.95),
        // Finding out takes a moment, and what was lent is not used.
        ("in the first window without it", first, 0.75),
        ("in the second window without it", away, 0.9),
        ("in the first window with it again", settling, 0.75),
        ("in the second window with it again", back, 0.95),
    ] {
        let part = figures.note(format!("{what}: calls used {when}"), part, Unit::Part);
        part.at_least(least);
    }
    let refused = total(peers.hubspot.rate_limited());
    figures.note(format!("{what}: refusals (429)"), refused, Unit::Count).at_most(0.0);
    figures.note(format!("{what}: failed calls"), failures(&made), Unit::Count).at_most(0.0);
    // In this order, or they would warn of it.
    drop((servers, redis));
}

/// Which part of the calls that HubSpot allows is made within this time from now.
async fn used(peers: &Peers, time: Duration) -> f64 {
    let (since, before) = (Instant::now(), peers.hubspot.counted());
    sleep_until(since + time).await;
    let allowed = count(LIMIT) * time.as_secs_f64() / WINDOW.as_secs_f64();
    total(peers.hubspot.counted() - before) / allowed
}

/// A Redis of our own, which keeps nothing on disk; it ends when dropped.
struct Redis {
    child: Child,
    port: u16,
}

// === impl Redis ===

impl Redis {
    /// Starts it at this port, or at a free one for 0.
    async fn start(port: u16) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server on the PATH");
        let up = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, up).await.expect("Redis listens");
        Self { child, port }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
