//! Responses of the fake to requests as Vault documents them, in simulated time.

use super::*;

struct Client {
    fake: FakeVault,
    token: String,
}

impl Client {
    async fn new() -> Self {
        let fake = FakeVault::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        let token = fake.root_token().expose().to_owned();
        Self { fake, token }
    }

    fn send(&self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        let mut vault = self.fake.vault.lock();
        let (status, body) = vault.handle(method, path, &self.token, body, false);
        (status.as_u16(), body)
    }

    fn get(&self, path: &str) -> (u16, Value) {
        self.send(&Method::GET, path, &Value::Null)
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(&Method::POST, path, body)
    }

    fn list(&self, path: &str) -> (u16, Value) {
        let mut vault = self.fake.vault.lock();
        let (status, body) = vault.handle(&Method::GET, path, &self.token, &Value::Null, true);
        (status.as_u16(), body)
    }

    /// Logs in and uses the token from then on.
    fn log_in(&mut self, path: &str, body: &Value) -> Value {
        let (status, body) = self.post(path, body);
        assert_eq!(status, 200, "{body}");
        body["auth"]["client_token"].as_str().unwrap().clone_into(&mut self.token);
        body["auth"].clone()
    }

    fn log_in_by_approle(&mut self) -> Value {
        let (role, secret) = self.fake.approle();
        let body = json!({"role_id": role.expose(), "secret_id": secret.expose()});
        self.log_in("auth/approle/login", &body)
    }
}

#[tokio::test(start_paused = true)]
async fn check_and_set_writes_only_the_next_version() {
    let client = Client::new().await;
    let write = |cas: u64, value: &str| {
        let body = json!({"options": {"cas": cas}, "data": {"key": value}});
        client.post("secret/data/a", &body)
    };
    assert_eq!(write(0, "first").0, 200);
    let (status, body) = write(0, "second");
    assert_eq!(status, 400);
    assert!(body["errors"][0].as_str().unwrap().contains("check-and-set"));
    assert_eq!(write(1, "second").1["data"]["version"], 2);
    let (_, read) = client.get("secret/data/a");
    assert_eq!(read["data"]["data"]["key"], "second");
    assert_eq!(client.fake.get("a").unwrap().1, 2);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_version_keeps_its_metadata_and_can_be_undeleted() {
    let client = Client::new().await;
    client.fake.put("a", json!({"key": "value"}));
    assert_eq!(client.send(&Method::DELETE, "secret/data/a", &Value::Null).0, 204);
    let (status, read) = client.get("secret/data/a");
    assert_eq!((status, &read["data"]["data"]), (404, &Value::Null));
    assert_eq!(client.get("secret/metadata/a").1["data"]["current_version"], 1);
    client.post("secret/undelete/a", &json!({"versions": [1]}));
    assert_eq!(client.get("secret/data/a").0, 200);
    client.post("secret/destroy/a", &json!({"versions": [1]}));
    client.post("secret/undelete/a", &json!({"versions": [1]}));
    assert_eq!(client.get("secret/data/a").0, 404, "a destroyed version is final");
}

#[tokio::test(start_paused = true)]
async fn a_list_has_secrets_and_folders() {
    let client = Client::new().await;
    for path in ["hubspot/eu", "hubspot/us", "hubspot/old/eu", "other"] {
        client.fake.put(path, json!({}));
    }
    let (_, body) = client.list("secret/metadata/hubspot");
    let mut keys: Vec<_> = body["data"]["keys"].as_array().unwrap().clone();
    keys.sort_by_key(ToString::to_string);
    assert_eq!(keys, ["eu", "old/", "us"]);
    assert_eq!(client.list("secret/metadata/none").0, 404);
}

#[tokio::test(start_paused = true)]
async fn a_login_token_expires_unless_it_is_renewed_up_to_its_maximum() {
    let mut client = Client::new().await;
    client.fake.set_token_lifetimes(Duration::from_secs(60), Duration::from_secs(100));
    assert_eq!(client.log_in_by_approle()["lease_duration"], 60);
    tokio::time::advance(Duration::from_secs(50)).await;
    let renew = |client: &Client| client.post("auth/token/renew-self", &Value::Null);
    assert_eq!(renew(&client).1["auth"]["lease_duration"], 50, "limited by the maximum");
    tokio::time::advance(Duration::from_secs(49)).await;
    assert_eq!(client.get("auth/token/lookup-self").0, 200);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(client.get("auth/token/lookup-self").0, 403);
    assert_eq!(client.fake.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn wrong_credentials_are_rejected_by_every_auth_method() {
    let mut client = Client::new().await;
    client.fake.add_user("ada", "right");
    client.fake.accept_jwt("kubernetes", "leadsd", "jwt");
    for (path, body) in [
        ("auth/approle/login", json!({"role_id": "a", "secret_id": "b"})),
        ("auth/userpass/login/ada", json!({"password": "wrong"})),
        ("auth/kubernetes/login", json!({"role": "leadsd", "jwt": "wrong"})),
    ] {
        assert_eq!(client.post(path, &body).0, 400, "{path}");
    }
    client.log_in("auth/userpass/login/ada", &json!({"password": "right"}));
    client.log_in("auth/kubernetes/login", &json!({"role": "leadsd", "jwt": "jwt"}));
    assert_eq!(client.fake.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_longest_matching_prefix_of_a_policy_applies() {
    let mut client = Client::new().await;
    client.fake.allow(&[("secret/", &["read"]), ("secret/data/hubspot/", &["update"])]);
    client.log_in_by_approle();
    client.fake.put("hubspot/eu", json!({}));
    client.fake.put("other", json!({}));
    assert_eq!(client.get("secret/data/other").0, 200);
    assert_eq!(client.get("secret/data/hubspot/eu").0, 403);
    assert_eq!(client.post("secret/data/hubspot/eu", &json!({"data": {}})).0, 200);
    assert_eq!(client.post("secret/data/hubspot/new", &json!({"data": {}})).0, 403, "no create");
    let paths = json!({"paths": ["secret/data/other", "secret/data/hubspot/eu"]});
    let (_, body) = client.post("sys/capabilities-self", &paths);
    assert_eq!(body["data"]["secret/data/hubspot/eu"], json!(["update"]));
}

#[tokio::test(start_paused = true)]
async fn a_wrapping_token_is_unwrapped_once() {
    let client = Client::new().await;
    let (_, secret_id) = client.fake.approle();
    let token = json!({"token": client.fake.wrap_secret_id(&secret_id).expose()});
    let (_, body) = client.post("sys/wrapping/unwrap", &token);
    assert_eq!(body["data"]["secret_id"], secret_id.expose());
    assert_eq!(client.post("sys/wrapping/unwrap", &token).0, 400);
}

#[tokio::test(start_paused = true)]
async fn a_sealed_vault_serves_its_health_only() {
    let client = Client::new().await;
    client.fake.put("a", json!({}));
    client.fake.set_sealed(true);
    assert_eq!(client.get("secret/data/a").0, 503);
    assert_eq!(client.get("sys/health").1["sealed"], true);
    client.fake.set_sealed(false);
    assert_eq!(client.get("secret/data/a").0, 200);
    client.fake.forget_tokens();
    assert_eq!(client.get("secret/data/a").0, 200, "the root token stays valid");
}
