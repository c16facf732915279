//! Third-party peers: OpenBao, grpcurl, HubSpot's clients. Ignored by default; CI installs and runs
//! them.

use std::{
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use leadsd_hubspot_fake::{READ, WRITE};
use serde_json::json;

use crate::{
    harness::{PATIENCE, TestApp, wait_ready},
    openbao::{OpenBao, file},
};

/// Path of a tool: from the variable, else by its name.
pub(crate) fn tool(variable: &str, name: &str) -> PathBuf {
    std::env::var(variable).map_or_else(|_| name.into(), Into::into)
}

pub(crate) async fn run(command: &mut Command) -> Output {
    let shown = format!("{command:?}");
    let mut command = std::mem::replace(command, Command::new("true"));
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    output.unwrap_or_else(|error| panic!("{shown}: {error}"))
}

#[track_caller]
pub(crate) fn text(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs grpcurl"]
async fn grpcurl_lists_creates_reads_updates_searches_and_archives() {
    let app = TestApp::start().await;
    let grpcurl = tool("LEADSD_TEST_GRPCURL", "grpcurl");
    let list = run(Command::new(&grpcurl).args(["-plaintext", &app.grpc, "list"])).await;
    assert!(text(&list).contains("leadsd.v1.LeadsService"), "{}", text(&list));
    let describe =
        run(Command::new(&grpcurl).args(["-plaintext", &app.grpc, "describe", "leadsd.v1.Lead"]))
            .await;
    assert!(text(&describe).contains("property_history"));
    let call = |method: &str, body: serde_json::Value| {
        let mut command = Command::new(&grpcurl);
        let method = format!("leadsd.v1.LeadsService/{method}");
        command.args(["-plaintext", "-d", &body.to_string(), &app.grpc, &method]);
        async move { run(&mut command).await }
    };
    let created = call(
        "CreateLead",
        json!({"properties": {"hs_lead_name": "Jane", "hs_lead_label": "HOT"},
               "primary_contact_id": app.contact}),
    )
    .await;
    let created: serde_json::Value =
        serde_json::from_slice(&created.stdout).expect("grpcurl prints JSON");
    let id = created["lead"]["id"].as_str().expect("an id").to_owned();
    let read = call("GetLead", json!({"id": id, "properties": ["hs_lead_name"]})).await;
    assert!(text(&read).contains("Jane"));
    let updated = call("UpdateLead", json!({"id": id, "properties": {"hs_lead_label": "COLD"}}));
    assert!(text(&updated.await).contains("COLD"));
    let filter = json!({"property_name": "hs_lead_label", "operator": "FILTER_OPERATOR_EQ",
                        "value": "COLD"});
    let found = call("SearchLeads", json!({"filter_groups": [{"filters": [filter]}]})).await;
    assert!(text(&found).contains(&id), "{}", text(&found));
    assert!(call("ArchiveLead", json!({"id": id})).await.status.success());
    let gone = call("GetLead", json!({"id": id})).await;
    let gone = text(&gone);
    assert!(gone.contains("NotFound") && gone.contains("LEAD_NOT_FOUND"), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with hubspot-api-client"]
async fn hubspots_python_client_takes_the_fake_for_hubspot() {
    let app = TestApp::start().await;
    let token = app.hubspot.static_token(&[READ, WRITE]);
    let output = run(Command::new(tool("LEADSD_TEST_PYTHON", "python3"))
        .arg("tests/clients/python_client.py")
        .arg(format!("http://{}", app.hubspot.address()))
        .args([token.expose(), app.contact.as_str()]))
    .await;
    assert!(text(&output).contains("all as expected"), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node with @hubspot/api-client"]
async fn hubspots_node_client_takes_the_fake_for_hubspot() {
    let app = TestApp::start().await;
    let token = app.hubspot.static_token(&[READ, WRITE]);
    let output = run(Command::new("node")
        .arg("tests/clients/node_client.mjs")
        .arg(tool("LEADSD_TEST_NODE_MODULES", "node_modules"))
        .arg(format!("http://{}", app.hubspot.address()))
        .args([token.expose(), app.contact.as_str()]))
    .await;
    assert!(text(&output).contains("all as expected"), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs buf"]
async fn the_contract_is_clean_by_bufs_standard() {
    let output = run(Command::new(tool("LEADSD_TEST_BUF", "buf")).arg("lint")).await;
    assert!(output.status.success(), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bao (OpenBao)"]
async fn a_real_openbao_holds_a_static_token_and_then_oauth_credentials() {
    let bao = OpenBao::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (role_id, secret_id) = bao.approle("1h").await;
    let (role_id, secret_id) =
        (file(&folder, "role-id", &role_id), file(&folder, "secret-id", &secret_id));
    let app = TestApp::builder()
        .unready()
        .set("VAULT__ADDRESS", &bao.address)
        .set("VAULT__AUTH__METHOD", "approle")
        .set("VAULT__AUTH__ROLE_ID_FILE", &role_id.display().to_string())
        .set("VAULT__AUTH__SECRET_ID_FILE", &secret_id.display().to_string())
        .without("VAULT__AUTH__FILE")
        .start()
        .await;
    let token = app.hubspot.static_token(&[READ, WRITE]);
    let secret = json!({"data": {"access_token": token.expose()}});
    bao.post("secret/data/hubspot/default", secret).await;
    wait_ready(&app.admin).await;
    let id = app.lead("Jane");
    app.get(&id).await.unwrap();
    assert_eq!(app.hubspot.grants(), 0);

    // The credential changes its kind, the refresh token rotates, and the service follows both.
    app.hubspot.behave(|behaviour| behaviour.rotate_refresh_tokens = true);
    let (client_id, client_secret, refresh_token) = app.hubspot.oauth_app();
    let secret = json!({"data": {"client_id": client_id, "client_secret": client_secret.expose(),
                                 "refresh_token": refresh_token.expose(), "owner": "sales"}});
    bao.post("secret/data/hubspot/default", secret).await;
    let written_back = async {
        loop {
            let path = "secret/data/hubspot/default";
            let now = bao.call(reqwest::Method::GET, path, json!(null)).await.unwrap();
            let now = &now["data"]["data"];
            if now["refresh_token"] != json!(refresh_token.expose()) {
                return now.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let now = tokio::time::timeout(PATIENCE, written_back).await.expect("written back");
    assert_eq!(now["owner"], "sales", "other keys stay");
    app.get(&id).await.unwrap();
    assert!(app.hubspot.grants() >= 1);
    app.stop().await;
}
