//! Credentials through the whole service: OAuth, rotation, outages, portals.

use std::time::Duration;

use leadsd_hubspot_fake::READ;
use serde_json::json;
use tonic::{Code, Request};

use crate::harness::{PATIENCE, TestApp, failure, wait_ready};
use leadsd::grpc::pb;

#[tokio::test]
async fn oauth_credentials_are_exchanged_in_every_version() {
    for version in ["2026-09", "2026-03", "v3"] {
        let app = TestApp::builder().api_version(version).oauth().start().await;
        let id = app.lead("Jane");
        app.get(&id).await.unwrap();
        app.get(&id).await.unwrap();
        assert_eq!(app.hubspot.grants(), 1, "one grant serves all calls");
        let log = app.hubspot.log();
        let grant = log.iter().find(|call| call.path.starts_with("/oauth/")).unwrap();
        assert_eq!(grant.path, format!("/oauth/{version}/token"));
        assert_eq!(grant.query, "", "no secret in a URL");
    }
}

#[tokio::test]
async fn an_expired_token_is_replaced_within_the_call() {
    let app = TestApp::builder().oauth().start().await;
    let id = app.lead("Jane");
    app.get(&id).await.unwrap();
    app.hubspot.expire_tokens();
    let answers = (0..20).map(|_| app.get(&id));
    for answer in futures_util::future::join_all(answers).await {
        answer.unwrap();
    }
    assert_eq!(app.hubspot.grants(), 2, "twenty reports of one token cause one refresh");
}

#[tokio::test]
async fn a_rotated_refresh_token_is_written_back_to_vault() {
    let app = TestApp::builder().oauth().unready().start().await;
    let (before, _) = app.vault.get("hubspot/default").unwrap();
    app.hubspot.behave(|behaviour| behaviour.rotate_refresh_tokens = true);
    wait_ready(&app.admin).await;
    app.hubspot.expire_tokens();
    let id = app.lead("Jane");
    app.get(&id).await.unwrap();
    let written = async {
        loop {
            let (now, _) = app.vault.get("hubspot/default").unwrap();
            if now["refresh_token"] != before["refresh_token"] {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let now = tokio::time::timeout(PATIENCE, written).await.expect("written back");
    assert_eq!(now["client_id"], before["client_id"], "other keys stay");
}

#[tokio::test]
async fn new_static_token_in_vault_is_used_without_a_restart() {
    let app = TestApp::start().await;
    let id = app.lead("Jane");
    app.get(&id).await.unwrap();
    app.hubspot.revoke_tokens();
    let (code, reason, _) = failure(app.get(&id).await);
    assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "CREDENTIAL_REJECTED"));
    let token = app.hubspot.static_token(&[READ]);
    app.vault.put("hubspot/default", json!({"access_token": token.expose()}));
    let recovered = async {
        while app.get(&id).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, recovered).await.expect("recovered by itself");
    let (code, reason, _) = failure(app.leads.clone().create_lead(app.create_request("x")).await);
    assert_eq!((code, reason.as_str()), (Code::PermissionDenied, "MISSING_SCOPES"));
}

#[tokio::test]
async fn a_sealed_or_restarted_vault_fails_no_call_while_a_token_is_in_memory() {
    let app = TestApp::start().await;
    let id = app.lead("Jane");
    app.vault.set_sealed(true);
    app.get(&id).await.unwrap();
    app.vault.set_sealed(false);
    app.vault.forget_tokens();
    app.get(&id).await.unwrap();
}

#[tokio::test]
async fn service_is_ready_once_the_credential_exists() {
    let app = TestApp::builder().unready().set("VAULT__TIMEOUT", "200ms").start().await;
    app.vault.set_sealed(true);
    let missing = TestApp::builder().portals(&["default", "eu"]).start().await;
    drop(missing);
    app.vault.set_sealed(false);
    wait_ready(&app.admin).await;
    let id = app.lead("Jane");
    app.get(&id).await.unwrap();
}

#[tokio::test]
async fn callers_choose_the_portal_and_errors_list_the_names() {
    let app = TestApp::builder().portals(&["eu", "us"]).start().await;
    let id = app.lead("Jane");
    let ask = |portal: Option<&'static str>| {
        let mut request = Request::new(pb::GetLeadRequest { id: id.clone(), ..Default::default() });
        if let Some(portal) = portal {
            request.metadata_mut().insert("leadsd-portal", portal.parse().unwrap());
        }
        let mut leads = app.leads.clone();
        async move { leads.get_lead(request).await }
    };
    ask(Some("eu")).await.unwrap();
    ask(Some("us")).await.unwrap();
    for portal in [None, Some("uk"), Some("../eu")] {
        let status = ask(portal).await.unwrap_err();
        assert!(status.message().ends_with("configured portals: eu, us"), "{status}");
        let (code, reason, _) = failure(Err::<(), _>(status));
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "UNKNOWN_PORTAL"));
    }
}
