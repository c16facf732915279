//! `leadsd health` against a service with TLS: client certificates and verification of the server.

use std::process::{Command, Output};

use super::{
    World,
    issuers::{Authority, Names},
};
use crate::harness::LEADSD;
use crate::real_peers::text;

/// Runs the probe like a container health check.
async fn health(address: &str, more: &[&str]) -> Output {
    let mut command = Command::new(LEADSD);
    command.args(["health", "--timeout-ms", "10000", "--address", address]).args(more);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn healthy(address: &str, more: &[&str]) {
    let output = health(address, more).await;
    assert_eq!(output.status.code(), Some(0), "{more:?}: {}", text(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "SERVING\n", "{more:?}");
}

/// Output of the probe.
async fn unhealthy(address: &str, more: &[&str]) -> String {
    let output = health(address, more).await;
    assert_eq!(output.status.code(), Some(1), "{more:?}: {}", text(&output));
    assert!(output.stdout.is_empty(), "{more:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_uses_tls_with_a_configured_ca() {
    let world = World::start().await;
    let folder = world.folder.path();
    let path = |name: &str| folder.join(name).display().to_string();
    std::fs::write(path("other-ca.crt"), Authority::new("other").pem()).unwrap();
    std::fs::write(path("no-ca.crt"), "nothing").unwrap();
    let (address, ca, other) = (&world.app.grpc, path("ca.crt"), path("other-ca.crt"));
    healthy(address, &["--tls"]).await;
    healthy(address, &["--tls", "--ca-file", &ca]).await;
    healthy(address, &["--tls", "--ca-file", &ca, "--server-name", "localhost"]).await;
    let said = unhealthy(address, &["--tls", "--ca-file", &other]).await;
    assert!(said.contains("UnknownIssuer"), "{said}");
    let name = ["--tls", "--ca-file", &ca, "--server-name", "elsewhere.test"];
    let said = unhealthy(address, &name).await;
    assert!(said.contains("not valid for name"), "{said}");
    let said = unhealthy(address, &["--tls", "--ca-file", &path("no-ca.crt")]).await;
    assert!(said.contains("no certificate"), "{said}");
    unhealthy(address, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_presents_a_client_certificate() {
    let world = World::start_with(|builder| builder.set("GRPC__TLS__CLIENT_AUTH", "require")).await;
    let folder = world.folder.path();
    let path = |name: &str| folder.join(name).display().to_string();
    let names = Names::uri("spiffe://test/probe");
    world.ca.client(&names).write(folder, "probe");
    Authority::new("ca").client(&names).write(folder, "stranger");
    let (address, ca) = (&world.app.grpc, path("ca.crt"));
    unhealthy(address, &["--tls", "--ca-file", &ca]).await;
    let admin = world.app.admin.trim_start_matches("http://");
    healthy(address, &["--admin", admin]).await;
    let with = |name: &str| {
        let files = [path(&format!("{name}.crt")), path(&format!("{name}.key"))];
        let [cert, key] = files;
        ["--tls", "--ca-file", &ca, "--cert-file", &cert, "--key-file", &key].map(str::to_owned)
    };
    let probe = with("probe");
    healthy(address, &probe.each_ref().map(String::as_str)).await;
    let stranger = with("stranger");
    unhealthy(address, &stranger.each_ref().map(String::as_str)).await;
    // A key that does not match the certificate is detected before a connection is opened.
    let mut mixed = probe.clone();
    mixed[6] = path("stranger.key");
    let said = unhealthy(address, &mixed.each_ref().map(String::as_str)).await;
    assert!(said.contains("stranger.key"), "{said}");
    let output = health(address, &["--tls", "--cert-file", &path("probe.crt")]).await;
    assert_eq!(output.status.code(), Some(64), "a certificate needs its key");
}
