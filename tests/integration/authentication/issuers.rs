//! Issuers of credentials: a certificate authority and a token issuer, and connections with their
//! credentials.

use std::{path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

/// Claim `iss` of the tokens.
pub(super) const ISSUER: &str = "https://issuer.test";

/// Signs certificates.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub(super) struct Certified {
    certificate: CertificateDer<'static>,
    key: KeyPair,
    pem: String,
}

/// Subject and validity of a certificate.
pub(super) struct Names {
    pub(super) names: Vec<SanType>,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

/// Signs tokens.
pub(super) struct Issuer {
    pub(super) id: String,
    pub(super) key: KeyPair,
}

pub(super) fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// Hex SHA-256 hash.
pub(crate) fn sha256(text: &str) -> String {
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

// === impl Names ===

impl Names {
    pub(super) fn uri(text: &str) -> Self {
        Self::with_names(vec![SanType::URI(text.try_into().unwrap())])
    }

    pub(super) fn none() -> Self {
        Self::with_names(Vec::new())
    }

    fn with_names(names: Vec<SanType>) -> Self {
        Self { names, not_before: now() - 3_600, not_after: now() + 3_600 }
    }
}

// === impl Authority ===

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    /// Certificate options of a server on loopback.
    pub(super) fn server(&self) -> Certified {
        let names = vec![
            SanType::DnsName("localhost".try_into().unwrap()),
            SanType::IpAddress("127.0.0.1".parse().unwrap()),
        ];
        self.sign(&Names::with_names(names), ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub(super) fn client(&self, names: &Names) -> Certified {
        self.sign(names, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// Issues the server's certificate with this expiry.
    pub(super) fn server_until(&self, not_after: i64) -> Certified {
        let names = vec![SanType::DnsName("localhost".try_into().unwrap())];
        let names = Names { not_after, ..Names::with_names(names) };
        self.sign(&names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn sign(&self, names: &Names, usage: ExtendedKeyUsagePurpose) -> Certified {
        let mut params = CertificateParams::default();
        params.subject_alt_names.clone_from(&names.names);
        params.extended_key_usages = vec![usage];
        let time = |seconds: i64| std::time::UNIX_EPOCH + Duration::from_secs(seconds as u64);
        params.not_before = time(names.not_before).into();
        params.not_after = time(names.not_after).into();
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.0).unwrap();
        Certified { certificate: signed.der().clone(), key, pem: signed.pem() }
    }
}

// === impl Certified ===

impl Certified {
    pub(super) fn der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(super) fn cert_pem(&self) -> &str {
        &self.pem
    }

    pub(super) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Writes `<name>.crt` and `<name>.key`.
    pub(super) fn write(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(format!("{name}.crt")), &self.pem).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), self.key_pem()).unwrap();
    }
}

// === impl Issuer ===

impl Issuer {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        Self { id: sha256(&key.serialize_pem())[..8].to_owned(), key }
    }

    pub(super) fn jwk(&self) -> Value {
        // Uncompressed point: 4, x, y.
        let point = self.key.public_key_raw();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id,
               "x": part(1..33), "y": part(33..65)})
    }

    pub(super) fn jwks(&self) -> Value {
        json!({"keys": [self.jwk()]})
    }

    /// Issues a token for this service account, with some claims changed.
    pub(super) fn token(&self, name: &str, change: Value) -> String {
        let mut claims = json!({"iss": ISSUER, "aud": ["leadsd"], "exp": now() + 600,
                                "sub": format!("system:serviceaccount:shop:{name}")});
        for (claim, value) in change.as_object().into_iter().flatten() {
            claims[claim] = value.clone();
        }
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_der(&self.key.serialize_der());
        encode(&header, &claims, &key).unwrap()
    }
}

/// TLS configuration of a client of the service.
pub(super) fn client(ca: &Authority, certificate: Option<&Certified>) -> ClientConfig {
    client_trusting(&[ca], certificate)
}

pub(super) fn client_trusting(cas: &[&Authority], certificate: Option<&Certified>) -> ClientConfig {
    configured(cas, certificate, rustls::DEFAULT_VERSIONS)
}

pub(super) fn client_with(
    ca: &Authority,
    certificate: Option<&Certified>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    configured(&[ca], certificate, versions)
}

fn configured(
    cas: &[&Authority],
    certificate: Option<&Certified>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(ca.0.as_ref().der().clone()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::try_from(own.key.serialize_der()).unwrap();
            builder.with_client_auth_cert(vec![own.certificate.clone()], key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// TLS configuration of another server.
pub(super) fn acceptor(server: &Certified) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(server.key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![server.certificate.clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

pub(super) async fn handshake(
    address: &str,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

/// A channel that opens its connections with this connector, also after a disconnect.
pub(super) fn channel(
    address: &str,
    config: impl Fn() -> ClientConfig + Send + Sync + 'static,
) -> Channel {
    let (address, config) = (address.to_owned(), Arc::new(config));
    let connector = tower::service_fn(move |_| {
        let (address, config) = (address.clone(), Arc::clone(&config));
        async move { Ok::<_, std::io::Error>(TokioIo::new(handshake(&address, config()).await?)) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

pub(super) async fn connect(
    address: &str,
    ca: &Authority,
    certificate: Option<&Certified>,
) -> Result<Channel, tonic::transport::Error> {
    let config = client(ca, certificate);
    let address = address.to_owned();
    let connector = tower::service_fn(move |_| {
        let (address, config) = (address.clone(), config.clone());
        async move { Ok::<_, std::io::Error>(TokioIo::new(handshake(&address, config).await?)) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await
}

/// Retries a call that was not sent because its connection was closing. gRPC requires this of
/// clients; tonic does not implement it.
pub(crate) async fn unless_unsent<T, F>(call: impl Fn() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let first = call().await;
    match first {
        Err(status) if is_unsent(&status) => call().await,
        answer => answer,
    }
}

fn is_unsent(status: &Status) -> bool {
    let mut error: Option<&dyn std::error::Error> = std::error::Error::source(status);
    while let Some(cause) = error {
        if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
            return true;
        }
        // The connection closed in order before the call was sent.
        let text = cause.to_string();
        if text.contains("GOAWAY") && text.contains("NO_ERROR") {
            return true;
        }
        // The error of h2 for a call that the last GOAWAY excludes.
        if text.starts_with("connection error received: not a result of an error") {
            return true;
        }
        error = cause.source();
    }
    false
}
