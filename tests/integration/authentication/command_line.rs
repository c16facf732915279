//! `leadsd call` with TLS and tokens.

use leadsd_base::secret::SECRET_MARKER;

use serde_json::json;

use super::{World, api_key, issuers::Names};
use crate::call::{Ran, leadsd_call, ran};

/// Number of calls whose API key was accepted.
const KEYS_ACCEPTED: &str = "leadsd_auth_success_total{method=\"api_key\"}";

/// Runs a call with TLS, and checks that no secret is printed.
async fn call(world: &World, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
    let ca = world.folder.path().join("ca.crt").display().to_string();
    let fixed = ["GetQuota", "--json", "--address", &world.app.grpc, "--tls", "--ca-file", &ca];
    let mut command = leadsd_call(&[&fixed, arguments].concat());
    command.envs(environment.iter().copied());
    let ran = ran(command).await;
    assert!(!ran.out.contains(SECRET_MARKER) && !ran.err.contains(SECRET_MARKER), "{ran:?}");
    ran
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_prove_themselves_by_key_token_or_certificate() {
    let world = World::start().await;
    let folder = world.folder.path();
    let path = |name: &str| folder.join(name).display().to_string();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        path(name)
    };
    let key = file("key", &format!("{}\n", api_key("writer")));
    let by_key = ["--token-file", &key, "--auth", "api-key"];
    assert_eq!(call(&world, &by_key, &[]).await.json()["quota"]["portal"], "default");
    let by_env = ["--token-env", "MY_KEY", "--auth=api-key"];
    let environment = [("MY_KEY", api_key("writer"))];
    let environment = environment.each_ref().map(|(name, key)| (*name, key.as_str()));
    assert_eq!(call(&world, &by_env, &environment).await.json()["quota"]["portal"], "default");
    let token = world.issuer.token("writer", json!({}));
    let token = file("token", &token);
    let by_token = ["--token-file", &token];
    assert_eq!(call(&world, &by_token, &[]).await.json()["quota"]["portal"], "default");
    let client = world.ca.client(&Names::uri("spiffe://test/writer"));
    client.write(folder, "client");
    let (cert, private) = (path("client.crt"), path("client.key"));
    let by_certificate = ["--cert-file", &cert, "--key-file", &private];
    assert_eq!(call(&world, &by_certificate, &[]).await.json()["quota"]["portal"], "default");

    // Without a terminal, the prompt reads a line of standard input.
    let ca = path("ca.crt");
    let prompt =
        ["GetQuota", "--address", &world.app.grpc, "--tls", "--ca-file", &ca, "--token-prompt"];
    let mut prompt = leadsd_call(&[&prompt[..], &["--auth", "api-key", "--json"]].concat());
    prompt.stdin(std::fs::File::open(&key).unwrap());
    assert_eq!(ran(prompt).await.json()["quota"]["portal"], "default");

    // A profile has the same, and names files beside it.
    let profile = format!(
        "[profile.x]\naddress = \"{}\"\ntls = true\nca_file = \"ca.crt\"\ntoken_file = \"key\"\n\
         auth = \"api-key\"\n",
        world.app.grpc
    );
    let profile = file("profiles.toml", &profile);
    let by_profile = ["GetQuota", "--json", "--profile-file", &profile, "--profile", "x"];
    let by_profile = ran(leadsd_call(&by_profile)).await;
    assert_eq!(by_profile.json()["quota"]["portal"], "default");

    assert_eq!(world.app.metric(KEYS_ACCEPTED).await, Some(4.0));

    call(&world, &[], &[]).await.failed(80, &[r#""status":"UNAUTHENTICATED""#, "UNAUTHENTICATED"]);
    let reader = file("reader", &api_key("reader"));
    let reader = ["--token-file", &reader, "--auth", "api-key"];
    call(&world, &reader, &[]).await.failed(71, &[r#""reason":"CALLER_FORBIDDEN""#]);
    let odd = file("odd", &format!("{SECRET_MARKER} with blanks"));
    call(&world, &["--token-file", &odd], &[]).await.failed(64, &["a token cannot have"]);
    call(&world, &["--token-env", "UNSET"], &[]).await.failed(64, &["UNSET with the token is not"]);
    call(&world, &["--cert-file", &cert], &[]).await.failed(64, &["need each other"]);
    call(&world, &["--cert-file", &cert, "--key-file", &cert], &[])
        .await
        .failed(64, &["cannot load"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_a_trusted_certificate_gets_no_token() {
    let world = World::start().await;
    let folder = world.folder.path();
    let key = folder.join("key");
    std::fs::write(&key, api_key("writer")).unwrap();
    let key = key.display().to_string();
    let token = ["--token-file", &key, "--auth", "api-key"];
    let other = ["--server-name", "elsewhere.internal"];
    let wrong_name = call(&world, &[&token[..], &other].concat(), &[]).await;
    wrong_name.failed(78, &["its certificate is for another name"]);
    // Public CAs do not know the private one.
    let public = ["GetQuota", "--address", &world.app.grpc, "--tls"];
    let public = ran(leadsd_call(&[&public[..], &token].concat())).await;
    public.failed(78, &["signed by an authority that is not trusted", "\n  remedy: "]);
    let plain = ran(leadsd_call(&["GetQuota", "--address", &world.app.grpc])).await;
    plain.failed(78, &["leadsd: UNAVAILABLE: ", "whether it needs --tls"]);
    let far = ["GetQuota", "--address", "leadsd.example.com:50051"];
    let far = ran(leadsd_call(&[&far[..], &token].concat())).await;
    far.failed(64, &["the token would be sent to leadsd.example.com without encryption"]);
    let accepted = world.app.metric(KEYS_ACCEPTED).await.unwrap_or_default();
    assert!(accepted.abs() < f64::EPSILON, "{accepted} keys arrived");
}
