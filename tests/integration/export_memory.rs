//! Memory of a process that exports many leads.

use std::{fs, process::Child};

use futures_util::StreamExt as _;
use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_testkit::{Process, wait_ready};
use serde_json::json;
use tonic::transport::Channel;

use crate::{
    binary::{config, fake_hubspot, fake_vault},
    harness::LEADSD,
};

/// Leads of the portal, of about a kilobyte each.
const LEADS: usize = 30_000;

/// Maximum memory above that of the idle process in bytes.
const MAX: u64 = 40 << 20;

/// A field of the status of a process in bytes.
pub(crate) fn status(child: &Child, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    let kib = line.trim().strip_suffix(" kB").expect("a size");
    kib.parse::<u64>().unwrap() << 10
}

async fn export(grpc: &str, request: pb::ExportLeadsRequest) -> usize {
    let channel = Channel::from_shared(format!("http://{grpc}")).unwrap();
    let mut client = LeadsServiceClient::new(channel.connect().await.expect("a connection"));
    let mut messages = client.export_leads(request).await.expect("a stream").into_inner();
    let mut leads = 0;
    while let Some(message) = messages.next().await {
        leads += message.expect("no error").leads.len();
    }
    leads
}

#[expect(clippy::print_stdout, reason = "shows the figures of the run")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "exports 90,000 leads"]
#[cfg(target_os = "linux")]
async fn an_export_takes_at_most_forty_mebibytes() {
    let (folder, hubspot) = (tempfile::tempdir().unwrap(), fake_hubspot().await);
    let contact = hubspot.seed().remove(0);
    hubspot.limit(|limits| (limits.burst, limits.search_per_second) = (1_000_000, 1_000_000));
    let seeded = hubspot.lead_names().len();
    for number in 0..LEADS {
        let name = format!("Lead {number} {}", "x".repeat(900));
        let properties = json!({"hs_lead_name": name, "hs_lead_label": "HOT"});
        hubspot.add_lead(&contact, &properties).expect("a valid lead");
    }
    let (vault, auth) = fake_vault(&folder, &hubspot).await;
    let file = config(&folder, &format!("http://{}", vault.address()), &auth, &hubspot);
    let process = Process::serve(
        LEADSD,
        &file,
        &[
            ("LEADSD_LOG__LEVEL", "info"),
            ("LEADSD_QUOTA__BURST", "100000"),
            ("LEADSD_QUOTA__SEARCH_PER_SECOND", "10000"),
        ],
    );
    wait_ready(&process.logged("admin.address").await).await;
    let grpc = process.logged("grpc.address").await;
    let idle = status(&process.child, "VmRSS:");
    // The peak from here on.
    fs::write(format!("/proc/{}/clear_refs", process.child.id()), "5").expect("it resets");
    let filter = pb::Filter {
        property_name: "hs_lead_label".to_owned(),
        operator: pb::FilterOperator::Eq.into(),
        value: "HOT".to_owned(),
        ..Default::default()
    };
    let hot = vec![pb::FilterGroup { filters: vec![filter] }];
    for (filter_groups, properties, least) in [
        (Vec::new(), Vec::new(), LEADS + seeded),
        (Vec::new(), vec!["*".to_owned()], LEADS + seeded),
        (hot, vec!["*".to_owned()], LEADS),
    ] {
        let request = pb::ExportLeadsRequest { filter_groups, properties, ..Default::default() };
        let leads = export(&grpc, request).await;
        assert!(leads >= least, "{leads} of {least} leads");
        let above = status(&process.child, "VmHWM:").saturating_sub(idle);
        println!("{leads} leads: idle {} KiB, {} KiB above it", idle >> 10, above >> 10);
        assert!(above <= MAX, "{} MiB above idle", above >> 20);
    }
}
