//! Malformed HubSpot responses to RPCs, token grants, and the requests of `doctor` and `login`.

use std::{collections::BTreeMap, time::Duration};

use leadsd::{
    config::Loaded,
    hubspot::{DiagnosticsClient, OAuthApp},
};
use leadsd_base::secret::{SECRET_MARKER, Secret};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    messages::{Contract, ExistingRecords},
    proxy::Proxy,
    run::Run,
    setup::{Peers, Service, framed, set},
};

/// Number of portals per service. A response may disable a portal, for example by exhausting its
/// quota for a day, and must not keep later inputs from running.
const PORTALS: u64 = 64;

/// Inputs per portal.
const TURNS: u64 = 3;

async fn service(peers: &Peers, proxy: &Proxy) -> Service {
    let mut settings = peers.settings();
    set(
        &mut settings,
        &[
            ("HUBSPOT__BASE_URL", &proxy.url),
            ("HUBSPOT__REQUEST_TIMEOUT", "100ms"),
            ("HUBSPOT__MAX_RESPONSE_SIZE", "256KiB"),
            ("CREDENTIALS__START", "lazy"),
            ("QUOTA__SEARCH_PER_SECOND", "1000"),
        ],
    );
    for number in 0..PORTALS {
        let secret = if number % 2 == 0 { "hubspot/default" } else { "hubspot/oauth" };
        let id = if number % 3 == 0 { "crm_key" } else { "" };
        set(&mut settings, &[(&format!("PORTALS__P{number}__SECRET"), secret)]);
        if !id.is_empty() {
            set(&mut settings, &[(&format!("PORTALS__P{number}__REQUEST_ID_PROPERTY"), id)]);
        }
    }
    Service::start(settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn upstream_responses() {
    let mut run = Run::start("upstream_responses").await;
    let (peers, contract) = (Peers::start().await, Contract::read());
    let (client_id, client_secret, refresh_token) = peers.hubspot.oauth_app();
    let secret = json!({"client_id": client_id, "client_secret": client_secret.expose(),
                        "refresh_token": refresh_token.expose()});
    peers.vault.put("hubspot/oauth", secret);
    peers.hubspot.limit(|limits| {
        (limits.burst, limits.search_per_second) = (1_000_000, 1_000_000);
    });
    let proxy = Proxy::start(format!("http://{}", peers.hubspot.address())).await;
    let mut current = service(&peers, &proxy).await;
    let mut codes = BTreeMap::new();
    while let Some(mut random) = run.next() {
        let turn = run.number();
        if turn > 0 && turn % (PORTALS * TURNS) == 0 {
            run.in_time(current.wait_until_idle()).await;
            current = service(&peers, &proxy).await;
        }
        let exempt_path = if random.one_in(5) { "" } else { "/oauth/" };
        proxy.mutate_responses(&random, 4, exempt_path);
        if random.one_in(10) {
            run.in_time(send_command_requests(&proxy)).await;
            continue;
        }
        let (path, input) = random.pick(&contract.methods).clone();
        let message = contract.message(
            &mut random,
            &ExistingRecords { peers: &peers, malformed_one_in: 200 },
            &input,
        );
        let portal = format!("p{}", turn % PORTALS);
        let headers =
            [("leadsd-portal", portal.clone().into_bytes()), ("grpc-timeout", b"250m".to_vec())];
        let answer = run.in_time(current.call(&path, &headers, framed(&message))).await;
        let answer = answer.unwrap_or_else(|| panic!("{}", run.failure("no answer")));
        let what = run.failure(&format!("{path} in {portal}: {answer:?}"));
        assert!(!answer.message.contains(SECRET_MARKER), "{what}");
        assert_eq!(answer.code != Some(0), answer.reason.is_some(), "{what}");
        // UNKNOWN is only for creates whose outcome is unknown; INTERNAL is never returned.
        let unsure = answer.reason.as_deref() == Some("WRITE_OUTCOME_UNKNOWN");
        assert_eq!(answer.code == Some(2), unsure, "{what}");
        assert_ne!(answer.code, Some(13), "{what}");
        *codes.entry(answer.code.unwrap_or_default()).or_insert(0) += 1;
    }
    let asked = peers.hubspot.log().len();
    println!("upstream_responses: {asked} calls of HubSpot; codes {codes:?}");
    // Calls that were sent for cancelled RPCs are still in progress.
    proxy.mutate_responses(&crate::random::Random::new(0), 1, "");
    current.wait_until_idle().await;
}

/// Sends each HubSpot request of the commands.
async fn send_command_requests(proxy: &Proxy) {
    let mut settings = vec![
        ("LEADSD_VAULT__ADDRESS".to_owned(), "http://127.0.0.1:1".to_owned()),
        ("LEADSD_VAULT__AUTH__METHOD".to_owned(), "token".to_owned()),
        ("LEADSD_VAULT__AUTH__FILE".to_owned(), "/nowhere".to_owned()),
        ("LEADSD_PORTALS__DEFAULT__SECRET".to_owned(), "hubspot/default".to_owned()),
    ];
    set(&mut settings, &[("HUBSPOT__BASE_URL", &proxy.url)]);
    let config = Loaded::new(None, settings).unwrap().config;
    let hubspot_client = DiagnosticsClient::new(&config.hubspot).unwrap();
    let until = Instant::now() + Duration::from_millis(300);
    let app = OAuthApp { client_id: "app".to_owned(), client_secret: Secret::new("secret") };
    let token = Secret::new("token");
    let _ = hubspot_client.probe(until).await;
    let _ = hubspot_client.exchange_code(&app, &token, "http://localhost:1/", until).await;
    let _ = hubspot_client.exchange_refresh_token(&app, &token, until).await;
    let _ = hubspot_client.introspect(&app, &token, until).await;
    let _ = hubspot_client.static_token(&token, until).await;
    let _ = hubspot_client.account(&token, until).await;
    let _ = hubspot_client.leads(&token, until).await;
    let _ = hubspot_client.pipelines(&token, until).await;
    let _ = hubspot_client.properties(&token, until).await;
    let _ = hubspot_client.property(&token, "hs_lead_name", until).await;
}
