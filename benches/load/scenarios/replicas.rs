//! Replicas that share one quota through Redis: how much of it they use, and what happens to their
//! calls when Redis is killed and comes back.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::count_failures;
use crate::{
    Plan,
    fakes::Fakes,
    figures::{Figures, Unit, count, total},
    load::{ClosedLoop, LeadCall, LoadCaller},
    server::Server,
};

/// Calls that HubSpot allows per window.
const LIMIT: usize = 190;

const WINDOW: Duration = Duration::from_secs(10);

/// Callers of each replica.
const CALLERS: usize = 50;

/// A new ledger may not know all replicas for 2.5 s, and the first window of a load begins with more
/// than its share.
const WARM_UP: Duration = Duration::from_secs(12);

/// Longest wait for Redis to listen.
const REDIS_TIMEOUT: Duration = Duration::from_secs(10);

/// Replicas with one ledger, each with separate callers.
struct Deployment {
    fakes: Fakes,
    servers: Vec<Server>,
    load: ClosedLoop,
}

/// A Redis without persistence; killed when dropped.
struct Redis {
    child: Child,
    port: u16,
}

pub(super) async fn run(plan: &Plan, figures: &mut Figures) {
    for replicas in [1, 2, 4, 8] {
        let redis = Redis::start(0).await;
        measure_use(replicas, &redis, Duration::from_secs(plan.seconds), figures).await;
    }
    measure_outage(figures).await;
}

async fn measure_use(replicas: usize, redis: &Redis, time: Duration, figures: &mut Figures) {
    let Deployment { fakes, servers, load } =
        Deployment::start(replicas, redis, WARM_UP + time).await;
    sleep(WARM_UP).await;
    let used = fraction_used(&fakes, time).await;
    let records = load.records().await;
    let name = format!("{replicas} on one Redis");
    figures.add(format!("{name}: allowed calls used"), used, Unit::Fraction).at_least(0.95);
    let rate_limited = total(fakes.hubspot.rate_limited());
    figures.add(format!("{name}: HubSpot 429"), rate_limited, Unit::Count).at_most(0.0);
    let failures = count_failures(&records);
    figures.add(format!("{name}: failed calls"), failures, Unit::Count).at_most(0.0);
    drop(servers);
}

/// Four replicas: Redis runs, is down for two windows, and runs again.
async fn measure_outage(figures: &mut Figures) {
    let mut redis = Redis::start(0).await;
    let Deployment { fakes, servers, load } =
        Deployment::start(4, &redis, WARM_UP + WINDOW * 6).await;
    sleep(WARM_UP).await;
    let before = fraction_used(&fakes, WINDOW).await;
    redis.kill();
    let first_without = fraction_used(&fakes, WINDOW).await;
    let second_without = fraction_used(&fakes, WINDOW).await;
    redis = Redis::start(redis.port).await;
    let first_after = fraction_used(&fakes, WINDOW).await;
    let second_after = fraction_used(&fakes, WINDOW).await;
    let records = load.records().await;
    let name = "4, and Redis is killed";
    for (window, used, bound) in [
        ("before", before, 0.95),
        // The outage is noticed after a moment, and leased permits are not used.
        ("in the first window without Redis", first_without, 0.75),
        ("in the second window without Redis", second_without, 0.9),
        ("in the first window with Redis again", first_after, 0.75),
        ("in the second window with Redis again", second_after, 0.95),
    ] {
        let label = format!("{name}: allowed calls used {window}");
        figures.add(label, used, Unit::Fraction).at_least(bound);
    }
    let rate_limited = total(fakes.hubspot.rate_limited());
    figures.add(format!("{name}: HubSpot 429"), rate_limited, Unit::Count).at_most(0.0);
    let failures = count_failures(&records);
    figures.add(format!("{name}: failed calls"), failures, Unit::Count).at_most(0.0);
    // Replicas that outlive Redis would warn.
    drop((servers, redis));
}

/// Part of the allowed calls that HubSpot counts from now on for `time`.
async fn fraction_used(fakes: &Fakes, time: Duration) -> f64 {
    let (started_at, before) = (Instant::now(), fakes.hubspot.counted());
    sleep_until(started_at + time).await;
    let allowed = count(LIMIT) * time.as_secs_f64() / WINDOW.as_secs_f64();
    total(fakes.hubspot.counted() - before) / allowed
}

// === impl Deployment ===

impl Deployment {
    /// Starts the replicas and a load that runs for `time`.
    async fn start(replicas: usize, redis: &Redis, time: Duration) -> Self {
        let fakes = Fakes::start().await;
        fakes.set_burst(LIMIT);
        let (url, expected) = (redis.url(), replicas.to_string());
        let settings =
            [("QUOTA__SHARED__URL", &*url), ("QUOTA__SHARED__EXPECTED_REPLICAS", &*expected)];
        let (mut servers, mut callers) = (Vec::new(), Vec::new());
        for _ in 0..replicas {
            let server = Server::start(&fakes, &settings).await;
            let client = &server.clients(1).await[0];
            let leads = fakes.add_leads(CALLERS);
            callers.extend(leads.chunks(1).map(|lead| LoadCaller::new(client.clone(), lead)));
            servers.push(server);
        }
        let load = ClosedLoop::start(callers, LeadCall::Get, Instant::now() + time);
        Self { fakes, servers, load }
    }
}

// === impl Redis ===

impl Redis {
    /// Starts Redis on a port; 0 chooses a free one.
    async fn start(port: u16) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let port = listener.local_addr().expect("the listener is bound").port();
        drop(listener);
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is on the PATH");
        let listening = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(REDIS_TIMEOUT, listening).await.expect("Redis listens in time");
        Self { child, port }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    fn kill(&mut self) {
        self.child.kill().expect("Redis can be killed");
        self.child.wait().expect("Redis has ended");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
