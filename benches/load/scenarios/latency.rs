//! Latency that the service adds to HubSpot's: one caller calls by turns the upstream itself, the
//! service and the bare forwarder.
//!
//! The upstream has no TLS: with TLS every way would take longer by the same time.

use std::time::Duration;

use leadsd::grpc::pb::leads_service_client::LeadsServiceClient;
use tokio::time::Instant;

use crate::{
    Plan,
    fakes::Fakes,
    figures::{Durations, Figures},
    forwarder::{ReadLead as _, ReqwestReader},
    load::{LeadCall, LoadCaller, property_names},
    process::Process,
    server::{Server, connect},
    upstream::LEAD_ID,
};

/// Calls before the measurement.
const WARM_UP: usize = 500;

pub(super) async fn run(plan: &Plan, figures: &mut Figures) {
    let calls = if plan.seconds < 30 { 2_000 } else { 10_000 };
    let fakes = Fakes::start().await;
    let (_upstream, address) = Process::start_helper("upstream", &[], None).await;
    let url = format!("http://{address}");
    let settings = [("QUOTA__BURST", "1000000"), ("HUBSPOT__BASE_URL", url.as_str())];
    let server = Server::start(&fakes, &settings).await;
    let arguments = ["--upstream", &*url];
    let (_forwarder, forwarder) =
        Process::start_helper("reqwest-forwarder", &arguments, None).await;
    let mut callers = Vec::new();
    for address in [&server.grpc, &forwarder] {
        let client = LeadsServiceClient::new(connect(address).await);
        callers.push(LoadCaller::new(client, &[LEAD_ID.to_owned()]));
    }
    let (reader, properties) = (ReqwestReader::new(&url, "pat-na1-bench"), property_names());
    let mut latencies: [Vec<Duration>; 3] = Default::default();
    for number in 0..WARM_UP + calls {
        let started_at = Instant::now();
        reader.read_lead(LEAD_ID, &properties).await.expect("the upstream has the lead");
        let direct = started_at.elapsed();
        let mut turn = vec![direct];
        for caller in &mut callers {
            let record = caller.call(LeadCall::Get, number).await;
            assert!(record.failure.is_none(), "{:?}", record.failure);
            turn.push(record.latency);
        }
        if number >= WARM_UP {
            latencies.iter_mut().zip(turn).for_each(|(latencies, latency)| latencies.push(latency));
        }
    }
    let [direct, service, forwarder] = latencies.map(Durations::from_iter);
    let added = |latencies: &Durations, rank| {
        latencies.permille(rank).saturating_sub(direct.permille(rank))
    };
    figures.add_duration("p50 of the upstream itself", direct.median());
    figures.add_duration("added by leadsd, p50", added(&service, 500)).at_most(0.2);
    figures.add_duration("added by leadsd, p99", added(&service, 990)).at_most(1.0);
    figures.add_duration("added by tonic + reqwest, p50", added(&forwarder, 500));
    figures.add_duration("added by tonic + reqwest, p99", added(&forwarder, 990));
}
