//! The service under measurement: `leadsd serve` in a separate process.

use std::{process::Command, time::Duration};

use leadsd::grpc::pb::leads_service_client::LeadsServiceClient;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    fakes::{ANY_PORT, Fakes},
    process::{Process, START_TIMEOUT},
};

/// Log filter of a service whose settings name none: no access log.
pub(crate) const QUIET: &str = "warn,leadsd::grpc::server=info,leadsd::app=info,leadsd::access=off";

/// A running `leadsd serve`.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) process: Process,
    /// Address of the gRPC port.
    pub(crate) grpc: String,
}

/// Times from the start of the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StartTimes {
    /// Time until the gRPC port accepts connections.
    pub(crate) listening: Duration,
    /// Time until the health service reports SERVING.
    pub(crate) serving: Duration,
}

// === impl Server ===

impl Server {
    /// Starts the service and waits until it reports SERVING.
    pub(crate) async fn start(fakes: &Fakes, settings: &[(&str, &str)]) -> Self {
        Self::start_on(fakes, settings, None).await.0
    }

    /// Starts the service pinned to a core.
    pub(crate) async fn start_pinned(
        fakes: &Fakes,
        settings: &[(&str, &str)],
        core: usize,
    ) -> Self {
        Self::start_on(fakes, settings, Some(core)).await.0
    }

    /// Starts the service and measures how long that takes.
    pub(crate) async fn start_timed(
        fakes: &Fakes,
        settings: &[(&str, &str)],
    ) -> (Self, StartTimes) {
        Self::start_on(fakes, settings, None).await
    }

    async fn start_on(
        fakes: &Fakes,
        settings: &[(&str, &str)],
        core: Option<usize>,
    ) -> (Self, StartTimes) {
        let defaults = [
            ("GRPC__LISTEN", ANY_PORT),
            ("ADMIN__LISTEN", ANY_PORT),
            ("LOG__LEVEL", QUIET),
            // The whole load comes from one address.
            ("GRPC__MAX_CALLER_SHARE", "1.0"),
        ];
        let own = defaults.iter().chain(settings);
        let own = own.map(|(key, value)| (format!("LEADSD_{key}"), *value));
        let fakes = fakes.settings();
        let fakes = fakes.iter().map(|(key, value)| (format!("LEADSD_{key}"), value.as_str()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_leadsd"));
        command.arg("serve").env_clear().envs(fakes.chain(own));
        let started_at = Instant::now();
        let mut process = Process::start(&mut command, core);
        let grpc = loop {
            let line = process.line().await;
            let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            if let Some(address) = line["grpc.address"].as_str() {
                break address.to_owned();
            }
        };
        let listening = started_at.elapsed();
        wait_until_serving(&grpc).await;
        let times = StartTimes { listening, serving: started_at.elapsed() };
        (Self { process, grpc }, times)
    }

    /// Opens connections, with a client for each.
    pub(crate) async fn clients(&self, connections: usize) -> Vec<LeadsServiceClient<Channel>> {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            clients.push(LeadsServiceClient::new(connect(&self.grpc).await));
        }
        clients
    }
}

/// Opens a connection.
pub(crate) async fn connect(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    endpoint.expect("the address is valid").connect().await.expect("the server accepts")
}

async fn wait_until_serving(address: &str) {
    let mut health = HealthClient::new(connect(address).await);
    let serving = async {
        loop {
            let response = health.check(HealthCheckRequest::default()).await;
            let serving = i32::from(ServingStatus::Serving);
            if response.is_ok_and(|response| response.into_inner().status == serving) {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(START_TIMEOUT, serving).await.expect("the service reports SERVING in time");
}
