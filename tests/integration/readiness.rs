//! Credentials as operators see them: `/ready`, `/portals`, health, metrics and alerts. A test writes the
//! table in docs/OPERATIONS.md and checks each row.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use leadsd_credentials::FailureClass;
use leadsd_hubspot_fake::{READ, ScriptedResponse};
use serde_json::{Value, json};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    documentation::{agrees, read},
    harness::{Builder, TestApp, eventually, failure, metrics_page, wait_ready},
};

const RULES: &str = "helm/leadsd/alerts/leadsd.rules.yaml";

/// An alert about credentials.
struct Alert {
    name: &'static str,
    /// Its expression in the file of rules.
    rule: &'static str,
    /// The same condition over the samples of one portal.
    fires: fn(&Seen) -> bool,
}

const ALERTS: [Alert; 3] = [
    Alert {
        name: "LeadsdCredentialUnusable",
        rule: "expr: max by (namespace, job, portal) (leadsd_credential_usable) == 0\n",
        fires: |seen| seen.usable == Some(false),
    },
    Alert {
        name: "LeadsdCredentialStale",
        rule: "expr: |
          max by (namespace, job, portal, state) (leadsd_credential_state{state=~\"stale|failed|suspended\"}) == 1
            and on (namespace, job, portal) max by (namespace, job, portal) (leadsd_credential_usable) == 1\n",
        fires: |seen| {
            let states = ["stale", "failed", "suspended"];
            states.contains(&seen.state.as_str()) && seen.usable == Some(true)
        },
    },
    Alert {
        name: "LeadsdVaultUnreadable",
        rule: "expr: max by (namespace, job, portal) \
               (leadsd_credential_failure{class=~\"store_unavailable|login_rejected\"}) == 1\n",
        fires: |seen| {
            let classes = [Some("store_unavailable"), Some("login_rejected")];
            classes.contains(&seen.failure.as_deref())
        },
    },
];

/// State of one portal that operators see.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    state: String,
    failure: Option<String>,
    /// Value of `leadsd_credential_usable`; `None` if it is absent.
    usable: Option<bool>,
    ready: u16,
    health: ServingStatus,
}

/// A state of the only portal, and its cause.
struct Row {
    /// The credential, as the table names it.
    credential: &'static str,
    expected: (&'static str, Option<&'static str>, Option<bool>),
    start: fn(Builder) -> Builder,
    /// Change after the start.
    change: Change,
}

enum Change {
    Nothing,
    RevokeAndCall,
    ExpireAndCall,
    SealVault,
    DenySecret,
    DeleteSecret,
    MalformSecret,
    ThrottleTokens,
    AnswerInsteadOfHubspot,
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn ready(app: &TestApp) -> (u16, Value) {
    let response = http().get(format!("{}/ready", app.admin)).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn portal(app: &TestApp, name: &str) -> Value {
    let portals = http().get(format!("{}/portals", app.admin)).send().await.unwrap();
    let portals: Value = portals.json().await.unwrap();
    let found = portals.as_array().unwrap().iter().find(|portal| portal["portal"] == name);
    found.unwrap_or_else(|| panic!("{name} in {portals}")).clone()
}

async fn health(app: &TestApp, name: &str) -> Result<ServingStatus, Code> {
    let channel = Channel::from_shared(format!("http://{}", app.grpc)).unwrap().connect_lazy();
    let request = HealthCheckRequest { service: name.to_owned() };
    let response = HealthClient::new(channel).check(request).await;
    response.map(|response| response.into_inner().status()).map_err(|status| status.code())
}

/// State that operators see now; `None` if it changed while it was read.
async fn seen(app: &TestApp, name: &str) -> Option<Seen> {
    let view = portal(app, name).await;
    let text = |key: &str| view[key].as_str().map(str::to_owned);
    let (state, failure) = (text("state")?, text("failure"));
    let page = metrics_page(&app.admin).await?;
    let value = |sample: &str| {
        let value = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map(|value| value.parse() == Ok(1.0))
    };
    let usable = value(&format!("leadsd_credential_usable{{portal=\"{name}\"}}"));
    let in_state = format!("leadsd_credential_state{{portal=\"{name}\",state=\"{state}\"}}");
    let mut agrees = (view["usable"] == true) == (usable == Some(true));
    agrees &= value(&in_state) == Some(true);
    if let Some(class) = &failure {
        let sample = format!("leadsd_credential_failure{{portal=\"{name}\",class=\"{class}\"}}");
        agrees &= value(&sample) == Some(true);
    }
    let health = health(app, &format!("leadsd.v1.LeadsService/{name}")).await.ok()?;
    let seen = Seen { state, failure, usable, ready: ready(app).await.0, health };
    agrees.then_some(seen)
}

/// Waits until a portal is in this state, with this failure and value of the metric, and until
/// `/portals`, metrics, `/ready` and health agree for two reads.
async fn until_seen(
    app: &TestApp,
    name: &str,
    (state, failure, usable): (&str, Option<&str>, Option<bool>),
) -> Seen {
    let what = format!("{name} is {state} with {failure:?} and usable {usable:?}");
    let found = std::sync::Mutex::new(None);
    eventually(&what, async || {
        let (first, second) = (seen(app, name).await, seen(app, name).await);
        let is_expected = second.as_ref().is_some_and(|now| {
            now.state == state && now.failure.as_deref() == failure && now.usable == usable
        });
        let is_stable = is_expected && first == second;
        *found.lock().unwrap() = second;
        is_stable
    })
    .await;
    found.into_inner().unwrap().unwrap()
}

const UNUSABLE_TOKEN: &str = "pat-na1-revoked";

fn revoked_token(builder: Builder) -> Builder {
    builder
        .secret("hubspot/revoked", json!({"access_token": UNUSABLE_TOKEN}))
        .set("PORTALS__DEFAULT__SECRET", "hubspot/revoked")
}

/// A HubSpot that refuses connections: nothing listens on the port of discard.
fn no_hubspot(builder: Builder) -> Builder {
    builder.set("HUBSPOT__BASE_URL", "http://127.0.0.1:9")
}

fn secret(content: Value) -> impl Fn(Builder) -> Builder {
    move |builder| {
        let builder = builder.secret("hubspot/other", content.clone());
        builder.set("PORTALS__DEFAULT__SECRET", "hubspot/other")
    }
}

fn row(
    credential: &'static str,
    expected: (&'static str, Option<&'static str>, Option<bool>),
    start: fn(Builder) -> Builder,
    change: Change,
) -> Row {
    Row { credential, expected, start, change }
}

fn rows_of_static_tokens() -> Vec<Row> {
    vec![
        row(
            "static token that HubSpot accepts",
            ("fresh", None, Some(true)),
            |b| b,
            Change::Nothing,
        ),
        row(
            "static token that HubSpot rejects at the start",
            ("failed", Some("token_rejected"), Some(false)),
            revoked_token,
            Change::Nothing,
        ),
        row(
            "static token that HubSpot rejects later, found by a call",
            ("failed", Some("token_rejected"), Some(false)),
            |b| b,
            Change::RevokeAndCall,
        ),
        row(
            "static token while HubSpot cannot be reached",
            ("fresh", None, Some(true)),
            no_hubspot,
            Change::Nothing,
        ),
        row(
            "static token while Cloudflare or a proxy answers instead of HubSpot: HTTP status 530, or 401 \
             or 403 as HTML",
            ("fresh", None, Some(true)),
            |b| b,
            Change::AnswerInsteadOfHubspot,
        ),
        row(
            "static token while Vault is sealed",
            ("fresh", Some("store_unavailable"), Some(true)),
            |b| b,
            Change::SealVault,
        ),
        row(
            "static token while the policy denies the secret",
            ("stale", Some("store_denied"), Some(true)),
            |b| b,
            Change::DenySecret,
        ),
        row(
            "static token whose secret has a malformed new version",
            ("stale", Some("secret_malformed"), Some(true)),
            |b| b,
            Change::MalformSecret,
        ),
        row(
            "static token whose secret was deleted in Vault",
            ("stale", Some("secret_missing"), Some(true)),
            |b| b,
            Change::DeleteSecret,
        ),
    ]
}

fn other_rows() -> Vec<Row> {
    vec![
        row(
            "no secret in Vault",
            ("suspended", Some("secret_missing"), Some(false)),
            |b| b.set("PORTALS__DEFAULT__SECRET", "hubspot/nowhere"),
            Change::Nothing,
        ),
        row(
            "secret with the keys of neither kind of credential",
            ("suspended", Some("secret_malformed"), Some(false)),
            |b| secret(json!({"token": "x"}))(b),
            Change::Nothing,
        ),
        row(
            "Vault cannot be reached at the start",
            ("failed", Some("store_unavailable"), Some(false)),
            |b| b.set("VAULT__ADDRESS", "http://127.0.0.1:9"),
            Change::Nothing,
        ),
        row(
            "Vault rejects the login at the start, such as in another namespace",
            ("failed", Some("login_rejected"), Some(false)),
            |b| b.set("VAULT__NAMESPACE", "nope"),
            Change::Nothing,
        ),
        row("OAuth grant that works", ("fresh", None, Some(true)), Builder::oauth, Change::Nothing),
        row(
            "OAuth grant while the token endpoint cannot be reached, at the start",
            ("failed", Some("token_unavailable"), Some(false)),
            |b| no_hubspot(b.oauth()),
            Change::Nothing,
        ),
        row(
            "OAuth grant while the token endpoint fails; the last token is still valid",
            ("stale", Some("token_unavailable"), Some(true)),
            Builder::oauth,
            Change::ExpireAndCall,
        ),
        row(
            "OAuth grant while the token endpoint throttles; the last token is still valid",
            ("stale", Some("token_throttled"), Some(true)),
            Builder::oauth,
            Change::ThrottleTokens,
        ),
        row(
            "OAuth grant that the token endpoint rejects",
            ("failed", Some("grant_rejected"), Some(false)),
            |b| {
                secret(json!({
                    "client_id": "unknown", "client_secret": "x", "refresh_token": "y",
                }))(b)
            },
            Change::Nothing,
        ),
        row(
            "any, with `credentials.start = \"lazy\"`, before the first call",
            ("starting", None, None),
            |b| b.set("CREDENTIALS__START", "lazy"),
            Change::Nothing,
        ),
    ]
}

/// Requests a refresh, which gets this response of the token endpoint each time.
async fn refresh_with(app: &TestApp, response: ScriptedResponse) {
    wait_ready(&app.admin).await;
    app.hubspot.script_times(1_000, "POST", "/token", response);
    let refresh = format!("{}/portals/default/refresh", app.admin);
    let request = http().post(refresh).header("leadsd-admin", "1");
    assert!(request.send().await.unwrap().status().is_success());
}

async fn apply(app: &TestApp, change: Change) {
    match change {
        Change::Nothing => {}
        Change::RevokeAndCall => {
            wait_ready(&app.admin).await;
            app.hubspot.revoke_tokens();
            let (code, reason, _) = failure(app.get("1").await);
            assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "CREDENTIAL_REJECTED"));
        }
        Change::ExpireAndCall => refresh_with(app, ScriptedResponse::html(503)).await,
        Change::ThrottleTokens => {
            let body = r#"{"status":"error","category":"RATE_LIMITS","message":"too many"}"#;
            let throttled = ScriptedResponse::Reply(429, "application/json", body.to_owned());
            refresh_with(app, throttled).await;
        }
        Change::DenySecret => {
            wait_ready(&app.admin).await;
            app.vault.allow(&[]);
            app.set_vault_token(app.vault.create_token(&json!({"ttl": 864_000})).expose());
        }
        Change::MalformSecret => {
            wait_ready(&app.admin).await;
            app.vault.put("hubspot/default", json!({"token": "x"}));
        }
        Change::SealVault => {
            wait_ready(&app.admin).await;
            app.vault.set_sealed(true);
        }
        Change::DeleteSecret => {
            wait_ready(&app.admin).await;
            app.vault.delete("hubspot/default");
        }
        Change::AnswerInsteadOfHubspot => {
            wait_ready(&app.admin).await;
            for status in [530, 401, 403] {
                app.hubspot.script("GET", "/details", ScriptedResponse::html(status));
                // A new token is tried.
                let token = app.hubspot.static_token(&[READ]);
                app.vault.put("hubspot/default", json!({"access_token": token.expose()}));
                eventually("the check is answered", async || {
                    app.hubspot.log().iter().any(|call| call.status == status)
                })
                .await;
                until_seen(app, "default", ("fresh", None, Some(true))).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documentation_shows_operators_each_state_of_a_credential() {
    let rules = read(RULES);
    for Alert { name, rule, .. } in ALERTS {
        let rule = format!("- alert: {name}\n        {rule}");
        assert!(rules.contains(&rule), "{name} has another expression");
    }
    let mut table = "| Credential | `/ready` | health | state, failure | usable | Alerts |\n\
                     |---|---|---|---|---|---|\n"
        .to_owned();
    let rows = rows_of_static_tokens().into_iter().chain(other_rows());
    let rows = rows.map(|Row { credential, expected, start, change }| async move {
        let app = start(TestApp::builder()).unready().start().await;
        apply(&app, change).await;
        let seen = until_seen(&app, "default", expected).await;
        // With one portal, readiness is that of the portal, and so is its health.
        let serves = seen.usable != Some(false);
        assert_eq!(seen.ready, if serves { 200 } else { 503 }, "{credential}");
        assert_eq!(seen.health == ServingStatus::Serving, serves, "{credential}");
        let server = health(&app, "").await;
        assert_eq!(server == Ok(ServingStatus::Serving), serves, "{credential}");
        let alerts: Vec<_> =
            ALERTS.iter().filter(|alert| (alert.fires)(&seen)).map(|alert| alert.name).collect();
        let failure = seen.failure.map(|class| format!(", `{class}`")).unwrap_or_default();
        let usable = seen.usable.map_or("absent", |usable| if usable { "1" } else { "0" });
        // Unused scripts of an outage are no fault of the test.
        app.hubspot.clear_scripts();
        app.vault.set_sealed(false);
        app.stop().await;
        format!(
            "| {credential} | {} | {} | `{}`{failure} | {usable} | {} |\n",
            seen.ready,
            if serves { "SERVING" } else { "NOT_SERVING" },
            seen.state,
            alerts.join(", "),
        )
    });
    // Some at a time: most rows wait for attempts of the credential.
    let rows: Vec<String> = stream::iter(rows).buffered(6).collect().await;
    table += &rows.concat();
    for state in ["starting", "fresh", "stale", "failed", "suspended"] {
        assert!(table.contains(&format!("`{state}`")), "no row has the state {state}");
    }
    for class in FailureClass::ALL.map(FailureClass::as_str) {
        // It lasts until the secret is read again, at once.
        let is_shown = table.contains(&format!("`{class}`")) || class == "store_conflict";
        assert!(is_shown, "no row has the failure {class}");
    }
    agrees("docs/OPERATIONS.md", "credentials", &table);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_revoked_token_is_named_and_does_not_keep_the_replica_from_being_ready() {
    let app = TestApp::builder()
        .without("CREDENTIALS__READINESS")
        .portals(&["eu"])
        .secret("hubspot/revoked", json!({"access_token": UNUSABLE_TOKEN}))
        .set("PORTALS__US__SECRET", "hubspot/revoked")
        .start()
        .await;
    let revoked = until_seen(&app, "us", ("failed", Some("token_rejected"), Some(false))).await;
    assert_eq!((revoked.ready, revoked.health), (200, ServingStatus::NotServing));
    assert_eq!(ready(&app).await, (200, json!({"unmet": [], "unusable": ["us"]})));
    for name in ["", "leadsd.v1.LeadsService", "leadsd.v1.LeadsService/eu"] {
        assert_eq!(health(&app, name).await, Ok(ServingStatus::Serving), "{name:?}");
    }
    // The token of the other portal is revoked as well.
    app.hubspot.revoke_tokens();
    let mut leads = app.leads.clone();
    let mut request = tonic::Request::new(leadsd::grpc::pb::ListLeadsRequest::default());
    request.metadata_mut().insert("leadsd-portal", "eu".parse().unwrap());
    leads.list_leads(request).await.unwrap_err();
    let unmet = json!({"unmet": ["credential:eu", "credential:us"], "unusable": ["eu", "us"]});
    assert_eq!(ready(&app).await, (503, unmet));
    assert_eq!(health(&app, "").await, Ok(ServingStatus::NotServing));
    // One new token ends it, without a restart.
    let token = app.hubspot.static_token(&[READ]);
    app.vault.put("hubspot/revoked", json!({"access_token": token.expose()}));
    eventually("one portal is back", async || ready(&app).await.0 == 200).await;
    assert_eq!(ready(&app).await.1["unusable"], json!(["eu"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_readiness_all_each_portal_must_be_usable() {
    let app = TestApp::builder()
        .portals(&["eu"])
        .secret("hubspot/revoked", json!({"access_token": UNUSABLE_TOKEN}))
        .set("PORTALS__US__SECRET", "hubspot/revoked")
        .unready()
        .start()
        .await;
    until_seen(&app, "us", ("failed", Some("token_rejected"), Some(false))).await;
    until_seen(&app, "eu", ("fresh", None, Some(true))).await;
    let unmet = json!({"unmet": ["credential:us"], "unusable": ["us"]});
    assert_eq!(ready(&app).await, (503, unmet));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_check_is_one_request_that_reads_the_account() {
    for (version, dated) in [("2026-09", "2026-09"), ("2026-03", "2026-03"), ("v3", "2026-09")] {
        let app = TestApp::builder().api_version(version).unready().start().await;
        wait_ready(&app.admin).await;
        let log = app.hubspot.log();
        let calls: Vec<_> =
            log.iter().map(|call| (&*call.method, &*call.path, call.status)).collect();
        let path = format!("/account-info/{dated}/details");
        assert_eq!(calls, [("GET", path.as_str(), 200)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_of_a_portal_follows_its_credential() {
    let app = TestApp::start().await;
    let channel = Channel::from_shared(format!("http://{}", app.grpc)).unwrap().connect_lazy();
    let mut client = HealthClient::new(channel);
    let mut watch = async |name: &str| {
        let request = HealthCheckRequest { service: name.to_owned() };
        client.watch(request).await.unwrap().into_inner()
    };
    let mut portal = watch("leadsd.v1.LeadsService/default").await;
    let mut unknown = watch("leadsd.v1.LeadsService/nowhere").await;
    assert_eq!(portal.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    assert_eq!(unknown.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    app.hubspot.revoke_tokens();
    app.get("1").await.unwrap_err();
    assert_eq!(portal.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let more = tokio::time::timeout(Duration::from_millis(50), unknown.message()).await;
    assert!(more.is_err(), "the stream of an unknown name stays: {more:?}");
}
