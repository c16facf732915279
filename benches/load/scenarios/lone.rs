//! One caller that makes one call after the other, with permits to spare: with and without group
//! commit, by turns.

use super::failures;
use crate::{
    Plan,
    callers::{Kind, Subject},
    figures::{Figures, Times, Unit},
    peers::Peers,
    server::Server,
};

const KINDS: [Kind; 4] = [Kind::Get, Kind::Update, Kind::Create, Kind::Archive];

/// Calls that are not measured.
const WARM_UP: usize = 200;

/// A limit that never binds.
const PLENTY: usize = 1_000_000;

pub(super) async fn run(plan: Plan, figures: &mut Figures) {
    let calls = if plan.smoke { 600 } else { 4_000 };
    let peers = Peers::start().await;
    peers.allow(PLENTY);
    let (burst, mut lanes) = (PLENTY.to_string(), Vec::new());
    for group_commit in ["true", "false"] {
        let settings = [("QUOTA__BURST", burst.as_str()), ("QUOTA__GROUP_COMMIT", group_commit)];
        let server = Server::start(&peers, &settings).await;
        let client = server.clients(1).await.remove(0);
        let leads = peers.leads(100);
        lanes.push((server, Subject::new(client, &leads).contact(&peers.contact)));
    }
    for kind in KINDS {
        let mut made: [Vec<_>; 2] = Default::default();
        for number in 0..WARM_UP + calls {
            // Whoever goes second finds HubSpot warmer: each does so every other time.
            for lane in if number % 2 == 0 { [0, 1] } else { [1, 0] } {
                let one = lanes[lane].1.call(kind, number).await;
                if number >= WARM_UP {
                    made[lane].push(one);
                }
            }
        }
        let name = kind.name();
        let failed = failures(made.iter().flatten());
        let [on, off] = made.map(|made| Times::of(made.into_iter().map(|made| made.took)));
        let by = |part| on.permille(part).as_secs_f64() / off.permille(part).as_secs_f64();
        figures.time(format!("{name}: p50 with group commit off"), off.median());
        figures.time(format!("{name}: p50 with group commit on"), on.median());
        let bound = if plan.smoke { 1.15 } else { 1.05 };
        figures.note(format!("{name}: p50, on by off"), by(500), Unit::Ratio).at_most(bound);
        figures.note(format!("{name}: p99, on by off"), by(990), Unit::Ratio);
        figures.note(format!("{name}: failed calls"), failed, Unit::Count).at_most(0.0);
    }
}
