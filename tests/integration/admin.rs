//! Admin endpoints: credential state for operators and Prometheus, and discovery of portals from a
//! Vault path.

use std::time::Duration;

use leadsd::grpc::pb;
use leadsd_base::secret::SECRET_MARKER;
use leadsd_hubspot_fake::{READ, WRITE};
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::harness::{PATIENCE, TestApp, failure, wait_ready};

async fn fetch(app: &TestApp, path: &str) -> String {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.get(format!("{}{path}", app.admin)).send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    let text = answer.text().await.unwrap();
    assert!(!text.contains(SECRET_MARKER), "a secret on {path}");
    text
}

async fn post(app: &TestApp, path: &str) -> u16 {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.post(format!("{}{path}", app.admin)).header("leadsd-admin", "1");
    request.send().await.unwrap().status().as_u16()
}

async fn portal(app: &TestApp, name: &str) -> Value {
    let portals: Vec<Value> = serde_json::from_str(&fetch(app, "/portals").await).unwrap();
    portals.into_iter().find(|portal| portal["portal"] == name).expect("the portal is listed")
}

/// Waits until the status of the portal satisfies `wanted`.
async fn until(app: &TestApp, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let reached = async {
        loop {
            let now = portal(app, name).await;
            if wanted(&now) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("reached in time")
}

fn to(portal: &'static str, id: &str) -> Request<pb::GetLeadRequest> {
    let mut request = Request::new(pb::GetLeadRequest { id: id.to_owned(), ..Default::default() });
    request.metadata_mut().insert("leadsd-portal", portal.parse().unwrap());
    request
}

#[tokio::test]
async fn portal_page_shows_state_token_and_secret() {
    let app = TestApp::builder().oauth().start().await;
    let now = portal(&app, "default").await;
    assert_eq!(now["state"], "fresh");
    assert_eq!((&now["kind"], &now["usable"]), (&json!("oauth"), &json!(true)));
    assert_eq!((&now["secret_version"], &now["generation"]), (&json!(1), &json!(1)));
    let expires_in = now["expires_in_s"].as_f64().unwrap();
    assert!((1_700.0..=1_800.0).contains(&expires_in), "{expires_in}");
    assert!(now["next_refresh_s"].as_f64().unwrap() < expires_in);
    assert_eq!(now["failure"], Value::Null);
}

#[tokio::test]
async fn metrics_report_state_and_count_events() {
    let app = TestApp::builder().oauth().portals(&["default", "eu"]).start().await;
    let id = app.lead("Jane");
    app.get(&id).await.unwrap();
    failure(app.get("999999").await);
    let text = fetch(&app, "/metrics").await;
    for line in [
        r#"leadsd_hubspot_calls_total{portal="default",operation="get",outcome="ok"} 1"#,
        r#"leadsd_hubspot_calls_total{portal="default",operation="get",outcome="client_error"} 1"#,
        r#"leadsd_hubspot_breaker_open{portal="default",calls="all"} 0"#,
        r#"leadsd_credential_state{portal="eu",state="fresh"} 1"#,
        r#"leadsd_credential_state{portal="eu",state="suspended"} 0"#,
        r#"leadsd_credential_usable{portal="default"} 1"#,
        r#"leadsd_credential_grants_total{portal="default",outcome="ok"} 1"#,
        r#"leadsd_credential_secret_version{portal="default"} 1"#,
        "# TYPE leadsd_hubspot_calls_total counter",
    ] {
        assert!(text.lines().any(|got| got.trim_end_matches(".0") == line), "{line}\n{text}");
    }
    assert!(text.contains("leadsd_vault_logged_in{method=\"token\"} 1"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').expect("a name and a value");
        value.parse::<f64>().expect("a number");
    }
}

#[tokio::test]
async fn vault_session_status_is_reported() {
    let app = TestApp::start().await;
    let now: Value = serde_json::from_str(&fetch(&app, "/vault").await).unwrap();
    assert_eq!((&now["method"], &now["logged_in"]), (&json!("token"), &json!(true)));
    assert_eq!((&now["logins"], &now["error"]), (&json!(1), &Value::Null));
    assert_eq!(now["expires_in_s"], Value::Null, "a root token does not expire");
}

#[tokio::test]
async fn rejected_grant_is_reported_and_retried_when_an_operator_refreshes() {
    let app = TestApp::builder().oauth().portals(&["default", "eu"]).start().await;
    let id = app.lead("Jane");
    let (client_id, client_secret, _) = app.hubspot.oauth_app();
    let wrong = json!({"client_id": client_id, "client_secret": client_secret.expose(),
                       "refresh_token": "revoked"});
    app.vault.put("hubspot/eu", wrong);
    let stale = until(&app, "eu", |now| now["failure"] == "grant_rejected").await;
    assert_eq!(stale["state"], "stale", "suspended once it is rejected again and again");
    assert_eq!(portal(&app, "default").await["state"], "fresh", "the other portal is untouched");
    // The existing token remains in use.
    app.leads.clone().get_lead(to("eu", &id)).await.unwrap();

    let refused = r#"leadsd_credential_grants_total{portal="eu",outcome="rejected"} "#;
    let count = |text: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(refused)).unwrap();
        line[refused.len()..].parse().unwrap()
    };
    let before = count(&fetch(&app, "/metrics").await);
    assert_eq!(post(&app, "/portals/eu/refresh").await, 202);
    assert_eq!(post(&app, "/portals/eu/refresh").await, 429, "the second within ten seconds");
    let tried = async {
        while count(&fetch(&app, "/metrics").await) <= before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, tried).await.expect("the operator's request is heard");
    assert_eq!(post(&app, "/portals/unknown/refresh").await, 404);

    let (client_id, client_secret, refresh_token) = app.hubspot.oauth_app();
    let good = json!({"client_id": client_id, "client_secret": client_secret.expose(),
                      "refresh_token": refresh_token.expose()});
    app.vault.put("hubspot/eu", good);
    until(&app, "eu", |now| now["state"] == "fresh" && now["secret_version"] == 3).await;
}

#[tokio::test]
async fn portals_follow_the_secrets_in_the_discovery_path() {
    let app = TestApp::builder()
        .portals(&[])
        .set("PORTAL_DISCOVERY__PATH", "hubspot")
        .unready()
        .start()
        .await;
    wait_ready(&app.admin).await;
    let id = app.lead("Jane");
    let (code, reason, _) = failure(app.leads.clone().get_lead(to("late", &id)).await);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "UNKNOWN_PORTAL"));

    let token = app.hubspot.static_token(&[READ, WRITE]);
    app.vault.put("hubspot/late", json!({"access_token": token.expose()}));
    app.vault.put("hubspot/other", json!({"access_token": token.expose()}));
    let added = async {
        while app.leads.clone().get_lead(to("late", &id)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, added).await.expect("the new portal is picked up");
    assert_eq!(portal(&app, "late").await["discovered"], true);

    app.vault.remove("hubspot/late");
    let removed = async {
        while app.leads.clone().get_lead(to("late", &id)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, removed).await.expect("the removed portal is let go");
    app.leads.clone().get_lead(to("other", &id)).await.unwrap();
}

#[tokio::test]
async fn lazy_portal_requests_its_token_on_the_first_call() {
    let app = TestApp::builder().oauth().set("CREDENTIALS__START", "lazy").start().await;
    assert_eq!(portal(&app, "default").await["state"], "starting");
    assert_eq!(app.hubspot.grants(), 0);
    let id = app.lead("Jane");
    app.get(&id).await.unwrap();
    assert_eq!(app.hubspot.grants(), 1);
}
