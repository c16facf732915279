//! TLS: accepted connections, and certificate changes on open connections.

use std::time::Duration;

use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use rustls::pki_types::CertificateDer;
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tonic::{Request, Status, transport::Channel};

use super::{
    World,
    issuers::{self, Authority, Names},
    metric, until,
};

async fn list(channel: &Channel) -> Result<(), Status> {
    let mut request = Request::new(pb::ListLeadsRequest::default());
    request.set_timeout(Duration::from_secs(10));
    LeadsServiceClient::new(channel.clone()).list_leads(request).await.map(|_| ())
}

/// Certificate that the service currently presents.
async fn shown(world: &World, ca: &Authority) -> Option<CertificateDer<'static>> {
    let stream = issuers::handshake(&world.app.grpc, issuers::client(ca, None)).await.ok()?;
    stream.get_ref().1.peer_certificates().map(|chain| chain[0].clone())
}

/// Number of successful and failed reloads.
async fn reloads(world: &World, outcome: &str) -> Option<f64> {
    metric(&world.app, &format!("leadsd_tls_reloads_total{{outcome=\"{outcome}\"}}")).await
}

/// Number of connections closed with the client certificate.
async fn ended(world: &World) -> Option<f64> {
    metric(&world.app, "leadsd_connections_closed_total{reason=\"certificate\"}").await
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_2_and_1_3_require_http_2() {
    let world = World::start().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = issuers::client_with(&world.ca, None, &[version]);
        let stream = issuers::handshake(&world.app.grpc, config.clone()).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        assert!(issuers::handshake(&world.app.grpc, config).await.is_err(), "no HTTP/1");
    }
    let plain = LeadsServiceClient::connect(format!("http://{}", world.app.grpc)).await;
    if let Ok(mut leads) = plain {
        leads.list_leads(pb::ListLeadsRequest::default()).await.expect_err("nothing in the clear");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_handshakes_do_not_block_other_clients() {
    let world = World::start().await;
    let mut idle = Vec::new();
    // More than the pool of unidentified connections has places.
    for _ in 0..3_000 {
        idle.push(TcpStream::connect(&world.app.grpc).await.unwrap());
    }
    list(&world.connect_as("reader").await).await.unwrap();
    // They are closed to make room, or after the handshake timeout.
    let mut rest = Vec::new();
    let ended =
        tokio::time::timeout(crate::harness::PATIENCE, idle[0].read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the handshake has its time");
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_serves_new_certificates_and_keeps_old_ones_on_failure() {
    let world = World::start().await;
    let folder = world.folder.path();
    let open = world.connect_as("reader").await;
    list(&open).await.unwrap();
    let first = shown(&world, &world.ca).await.unwrap();
    let second = world.ca.server();
    second.write(folder, "tls");
    until("the new certificate", async || {
        shown(&world, &world.ca).await.as_ref() == Some(second.der())
    })
    .await;
    assert_ne!(&first, second.der());
    list(&open).await.expect("connections go on");
    assert_eq!(metric(&world.app, "leadsd_tls_reload_failed").await, Some(0.0));
    assert_eq!(reloads(&world, "ok").await, Some(1.0));

    // Garbage, a mismatched key, an expired certificate, a missing file.
    let other = world.ca.server();
    let expired = world.ca.server_until(issuers::now() - 10);
    for ((cert, key), number) in [
        (Some("-----BEGIN CERTIFICATE-----\nnonsense\n"), None),
        (Some(""), None),
        (Some(other.cert_pem()), None),
        (Some(expired.cert_pem()), Some(expired.key_pem())),
        (None, None),
    ]
    .into_iter()
    .zip(0_u8..)
    {
        match cert {
            Some(cert) => std::fs::write(folder.join("tls.crt"), cert).unwrap(),
            None => std::fs::remove_file(folder.join("tls.crt")).unwrap(),
        }
        if let Some(key) = key {
            std::fs::write(folder.join("tls.key"), key).unwrap();
        }
        let failures = Some(f64::from(number) + 1.0);
        until("a failure", async || reloads(&world, "failed").await == failures).await;
        assert_eq!(metric(&world.app, "leadsd_tls_reload_failed").await, Some(1.0));
        assert_eq!(shown(&world, &world.ca).await.as_ref(), Some(second.der()), "{number}");
    }
    let third = world.ca.server();
    third.write(folder, "tls");
    until("the third certificate", async || {
        shown(&world, &world.ca).await.as_ref() == Some(third.der())
    })
    .await;
    assert_eq!(metric(&world.app, "leadsd_tls_reload_failed").await, Some(0.0));
    let name = r#"leadsd_tls_certificate_expires_in_seconds{certificate="server"}"#;
    let left = metric(&world.app, name).await;
    assert!((3_500.0..=3_600.0).contains(&left.unwrap()), "{left:?}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn reload_follows_symlink_swaps_of_kubernetes() {
    use std::os::unix::fs::symlink;
    let world = World::start().await;
    let folder = world.folder.path();
    let put = |version: &str, certified: &issuers::Certified| {
        std::fs::create_dir(folder.join(version)).unwrap();
        certified.write(&folder.join(version), "tls");
        symlink(version, folder.join("..tmp")).unwrap();
        std::fs::rename(folder.join("..tmp"), folder.join("..data")).unwrap();
    };
    let first = world.ca.server();
    put("..1", &first);
    for file in ["tls.crt", "tls.key"] {
        std::fs::remove_file(folder.join(file)).unwrap();
        symlink(format!("..data/{file}"), folder.join(file)).unwrap();
    }
    until("the first", async || shown(&world, &world.ca).await.as_ref() == Some(first.der())).await;
    let second = world.ca.server();
    put("..2", &second);
    until("the second", async || shown(&world, &world.ca).await.as_ref() == Some(second.der()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_ca_closes_its_connections() {
    let world = World::start().await;
    let (folder, next) = (world.folder.path(), Authority::new("next"));
    let old = world.connect_as("reader").await;
    let client = next.client(&Names::uri("spiffe://test/reader"));
    list(&old).await.unwrap();
    // While both are trusted, no connection is closed.
    std::fs::write(folder.join("ca.crt"), world.ca.pem() + &next.pem()).unwrap();
    let connect = async || issuers::connect(&world.app.grpc, &world.ca, Some(&client)).await;
    until("the new CA", async || match connect().await {
        Ok(channel) => list(&channel).await.is_ok(),
        Err(_) => false,
    })
    .await;
    list(&old).await.unwrap();
    let new = connect().await.unwrap();
    list(&new).await.unwrap();
    assert_eq!(ended(&world).await.unwrap_or_default(), 0.0);

    std::fs::write(folder.join("ca.crt"), next.pem()).unwrap();
    until("the end of the old CA", async || list(&old).await.is_err()).await;
    list(&new).await.expect("with the new one calls go on");
    assert!(ended(&world).await >= Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_ends_with_its_client_certificate_and_fails_no_call() {
    let world = World::start().await;
    let names = || Names { not_after: issuers::now() + 3, ..Names::uri("spiffe://test/reader") };
    let short = world.ca.client(&names());
    // This client has no newer certificate: its calls fail after the removal.
    let stubborn = issuers::connect(&world.app.grpc, &world.ca, Some(&short)).await.unwrap();
    // This client presents a new certificate on each connection.
    let address = world.app.grpc.clone();
    let configs: Vec<_> = (0..8)
        .map(|second| {
            let names = Names { not_after: issuers::now() + 3 + 3 * second, ..names() };
            issuers::client(&world.ca, Some(&world.ca.client(&names)))
        })
        .collect();
    let started = std::time::Instant::now();
    let renewing = issuers::channel(&address, move || {
        let now = usize::try_from(started.elapsed().as_secs() / 3).unwrap();
        configs[(now + 1).min(configs.len() - 1)].clone()
    });
    list(&stubborn).await.unwrap();
    // One connection of each client is closed.
    let renewed = async {
        while ended(&world).await.unwrap_or_default() < 2.0 {
            let call = issuers::unless_unsent(|| list(&renewing)).await;
            call.expect("a certificate that ends in time is no reason to fail");
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, renewed).await.expect("connections end");
    list(&stubborn).await.expect_err("its certificate has ended");
}
