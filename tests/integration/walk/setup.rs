//! Runs all blocks of `docs/SETUP.md` with a real OpenBao and the fake HubSpot.

use std::{fs, net::TcpListener, path::Path, sync::Arc, time::Duration};

use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_base::{secret::SECRET_MARKER, time::SystemClock};
use leadsd_hubspot_fake::{FakeHubspot, READ, WRITE};
use leadsd_testkit::FREE;

use super::{Terminal, grpcurl, which};
use crate::{
    harness::{LEADSD, PATIENCE, wait_ready},
    login::{clicked, shown},
    markdown_blocks::blocks,
    openbao::OpenBao,
    real_peers::tool,
};

/// A recently free address: the page names addresses before a process listens there.
fn free() -> String {
    // Below the ephemeral ports: the kernel may give one of those to another test meanwhile.
    let ports = std::iter::repeat_with(|| 20_000 + uuid::Uuid::new_v4().as_u128() % 12_000);
    let mut addresses = ports.map(|port| format!("127.0.0.1:{port}"));
    addresses.find(|address| TcpListener::bind(address).is_ok()).expect("a free port")
}

/// Simulates a browser: waits for the opened page, and grants consent.
async fn agree(opened: &Path) {
    let url = async {
        loop {
            if let Ok(url) = fs::read_to_string(opened)
                && url.ends_with('\n')
            {
                return url;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let url = tokio::time::timeout(PATIENCE, url).await.expect("a page is opened");
    fs::remove_file(opened).unwrap();
    let (status, page) = shown(&clicked(url.trim(), "connect").await).await;
    assert_eq!(status, 200, "{page}");
}

/// The service serves calls, with cached credentials or those in Vault.
async fn works(grpc: &str) {
    let mut leads = LeadsServiceClient::connect(format!("http://{grpc}")).await.unwrap();
    let answered = async {
        while leads.list_leads(pb::ListLeadsRequest::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("it takes the credential over");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bao (OpenBao), grpcurl and curl"]
async fn the_setup_page_leads_from_an_account_to_a_lead_and_to_its_end() {
    let hubspot = FakeHubspot::start(FREE.parse().unwrap(), Arc::new(SystemClock)).await.unwrap();
    let contact = hubspot.seed().remove(0);
    let bao = OpenBao::start().await;
    let (grpc, admin, redirect) = (free(), free(), free());
    let api = format!("http://{}", hubspot.address());

    let mut terminal = Terminal::new(&[
        ("vault", which(&tool("LEADSD_TEST_BAO", "bao"))),
        ("leadsd", LEADSD.into()),
        ("grpcurl", grpcurl()),
    ]);
    fs::write(terminal.folder("home").join(".vault-token"), &bao.root).unwrap();
    fs::copy("tests/fixtures/vault/kubernetes-ca.pem", terminal.folder("here").join("ca.crt"))
        .unwrap();
    let opened = terminal.folder("home").join("opened");
    let opener = format!("#!/bin/sh\nprintf '%s\\n' \"$1\" > '{}'\n", opened.display());
    terminal.program("xdg-open", &opener);
    terminal.set("LEADSD_HUBSPOT__BASE_URL", &api);
    terminal.set("LEADSD_HUBSPOT__AUTHORIZE_URL", &format!("{api}/oauth/authorize"));
    terminal.set("LEADSD_GRPC__LISTEN", &grpc);
    terminal.set("LEADSD_ADMIN__LISTEN", &admin);
    terminal.set("LEADSD_VAULT__POLL_INTERVAL", "1s");
    terminal.replace("https://vault.example:8200", &bao.address);
    terminal.replace("https://api.hubapi.com", &api);
    terminal.replace("127.0.0.1:50051", &grpc);
    terminal.replace("127.0.0.1:9090", &admin);
    let port = redirect.rsplit(':').next().unwrap();
    terminal.replace("8976", port);
    terminal.replace("\"101\"", &format!("\"{contact}\""));
    let in_memory = format!("leadsd dev --grpc {FREE} --admin {FREE} --vault {FREE}");
    terminal.replace("leadsd dev", &in_memory);

    let app = hubspot.register_app(&[&format!("http://localhost:{port}/oauth-callback")]);
    let (client_id, client_secret) = (app.0, app.1.expose());
    let typed_app = format!("{client_id}\n{client_secret}\n");
    let page = blocks("docs/SETUP.md");
    let mut started = Vec::new();
    let mut printed = String::new();
    for (number, block) in page.iter().enumerate().filter(|(_, block)| block.language() == "sh") {
        match block.info.as_str() {
            "sh" | "sh kubernetes" => printed += &terminal.check(&page, number, "").await,
            "sh token" => {
                let token = hubspot.static_token(&[READ, WRITE]);
                let typed = format!("{}\n", token.expose());
                printed += &terminal.check(&page, number, &typed).await;
                // Processes with the previous token use the new one.
                hubspot.revoke_tokens_but(&token);
                if !started.is_empty() {
                    works(&grpc).await;
                }
            }
            "sh consent" | "sh new-app" => {
                let (said, ()) =
                    tokio::join!(terminal.check(&page, number, &typed_app), agree(&opened));
                printed += &said;
                if !started.is_empty() {
                    works(&grpc).await;
                }
            }
            "sh serves" => {
                started.push(terminal.start(block, ""));
                wait_ready(&format!("http://{admin}")).await;
            }
            "sh upstream" => {
                let token = hubspot.static_token(&[READ, WRITE]);
                let dev = terminal.start(block, &format!("{}\n", token.expose()));
                printed += &dev.says("Ctrl-C").await;
            }
            other => panic!("a block of a kind that this test does not know: {other}"),
        }
    }
    assert!(!printed.contains(SECRET_MARKER), "a secret was shown:\n{printed}");
    assert!(hubspot.lead_names().contains(&"My first lead".to_owned()));
}
