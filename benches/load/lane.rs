//! Servers that are measured by turns: A B C, A B C, ... in one run, so that a change of the
//! machine's speed hits all of them.

use std::time::Duration;

use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use tokio::time::Instant;
use tonic::{Request, transport::Channel};

use crate::{
    figures::count,
    load::{CallRecord, ClosedLoop, LeadCall, LoadCaller, property_names},
    process::Process,
    server::connect,
};

/// One measured server with separate connections.
pub(crate) struct Lane {
    pub(crate) name: String,
    process: Process,
    clients: Vec<LeadsServiceClient<Channel>>,
}

/// Measurements of one turn of a lane.
pub(crate) struct Turn {
    pub(crate) records: Vec<CallRecord>,
    cpu: Duration,
    elapsed: Duration,
}

// === impl Lane ===

impl Lane {
    /// Connects to a running server.
    pub(crate) async fn new(
        name: impl Into<String>,
        process: Process,
        address: &str,
        connections: usize,
    ) -> Self {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            clients.push(LeadsServiceClient::new(connect(address).await));
        }
        Self { name: name.into(), process, clients }
    }

    /// Callers that each read a different lead: simultaneous reads of one lead would share one
    /// HubSpot call.
    pub(crate) fn callers(&self, leads: &[String]) -> Vec<LoadCaller> {
        let caller = |(number, lead): (usize, &String)| {
            let client = &self.clients[number % self.clients.len()];
            LoadCaller::new(client.clone(), std::slice::from_ref(lead))
        };
        leads.iter().enumerate().map(caller).collect()
    }

    /// Runs the callers in a closed loop and accounts for the CPU time that the server uses
    /// meanwhile.
    pub(crate) async fn turn(&self, callers: Vec<LoadCaller>, time: Duration) -> Turn {
        let (started_at, before) = (Instant::now(), self.process.cpu_time());
        let records = ClosedLoop::start(callers, LeadCall::Get, started_at + time).records().await;
        Turn { records, cpu: self.process.cpu_time() - before, elapsed: started_at.elapsed() }
    }

    /// Reads one lead.
    pub(crate) async fn get_lead(&self, id: &str) -> pb::Lead {
        let properties = property_names();
        let request = pb::GetLeadRequest { id: id.to_owned(), properties, ..Default::default() };
        let response = self.clients[0].clone().get_lead(Request::new(request)).await;
        let response = response.unwrap_or_else(|status| panic!("{}: {status}", self.name));
        response.into_inner().lead.expect("the response has a lead")
    }
}

/// Runs `rounds` turns of each lane, interleaved, after one turn that warms up. Returns the turns of
/// each lane in order.
pub(crate) async fn interleave(
    lanes: &[(&Lane, &[String])],
    rounds: usize,
    time: Duration,
) -> Vec<Vec<Turn>> {
    for (lane, leads) in lanes {
        lane.turn(lane.callers(leads), time.min(Duration::from_secs(1))).await;
    }
    let mut turns: Vec<Vec<Turn>> = lanes.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for _ in 0..rounds {
        for ((lane, leads), turns) in lanes.iter().zip(&mut turns) {
            turns.push(lane.turn(lane.callers(leads), time).await);
        }
    }
    turns
}

/// The quotient of two lanes' CPU time per call in every round.
pub(crate) fn cpu_ratios(turns: &[Turn], base: &[Turn]) -> Vec<f64> {
    turns.iter().zip(base).map(|(turn, base)| turn.cpu_per_call() / base.cpu_per_call()).collect()
}

/// Lead ids that no two callers share, for an upstream that knows every lead.
pub(crate) fn lead_ids(callers: usize) -> Vec<String> {
    (600_000_000_000..).take(callers).map(|id: u64| id.to_string()).collect()
}

// === impl Turn ===

impl Turn {
    /// CPU time per call in microseconds.
    pub(crate) fn cpu_per_call(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / count(self.records.len())
    }

    /// Part of the core that the server used.
    pub(crate) fn utilization(&self) -> f64 {
        self.cpu.as_secs_f64() / self.elapsed.as_secs_f64()
    }

    /// Calls per second.
    pub(crate) fn rate(&self) -> f64 {
        count(self.records.len()) / self.elapsed.as_secs_f64()
    }
}
