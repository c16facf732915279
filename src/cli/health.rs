//! `leadsd health`: checks the health of a running service over gRPC or at its admin port. It serves
//! container images without a shell and exec probes, and needs no configuration.

use std::{io, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use clap::Args as ClapArgs;
use http::{Request, StatusCode, header::HOST};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{self, CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio::{net::TcpStream, select, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::{
    body::Body,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::service_fn;

/// Arguments of `leadsd health`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Address of the gRPC port.
    #[arg(long, default_value = "127.0.0.1:50051")]
    address: String,
    /// Checks `/ready` at this admin address instead of gRPC; it needs no TLS and no certificate.
    #[arg(long, conflicts_with_all = ["service", "tls"])]
    admin: Option<String>,
    /// Full name of a gRPC service; empty for the whole server.
    #[arg(long, default_value = "")]
    service: String,
    /// Timeout for the whole check, in milliseconds.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    timeout_ms: u64,
    /// Connects with TLS.
    #[arg(long)]
    tls: bool,
    /// PEM file with the CA certificates that verify the service's certificate.
    ///
    /// Without it, any certificate is accepted: a probe checks its own pod and sends no secrets.
    #[arg(long, requires = "tls")]
    ca_file: Option<PathBuf>,
    /// Host name to verify in the certificate. Default: the host of --address.
    #[arg(long, requires = "ca_file")]
    server_name: Option<String>,
    /// PEM file with the client certificate, for mTLS.
    #[arg(long, requires = "tls", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// PEM file with the private key of --cert-file.
    #[arg(long, requires = "cert_file")]
    key_file: Option<PathBuf>,
}

/// Error of a health check.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot load {0}: {1}")]
    File(PathBuf, String),
    #[error("invalid address {0}: use HOST:PORT")]
    Address(String),
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("the service returned {0}")]
    Status(String),
    #[error("the service is {0}")]
    NotServing(&'static str),
    #[error("no response within {0:?}")]
    Timeout(Duration),
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let limit = Duration::from_millis(args.timeout_ms);
    timeout(limit, check(args)).await.map_err(|_| Error::Timeout(limit))??;
    // If printing fails, the exit code still reports success.
    let _ = super::output::print("SERVING\n");
    Ok(())
}

async fn check(args: Args) -> Result<(), Error> {
    if let Some(address) = args.admin {
        return check_admin(&address).await;
    }
    let service = args.service.clone();
    let mut health = HealthClient::new(connect(args).await?);
    let response = health
        .check(HealthCheckRequest { service })
        .await
        .map_err(|status| Error::Status(format!("{:?}: {}", status.code(), status.message())))?;
    match ServingStatus::try_from(response.into_inner().status) {
        Ok(ServingStatus::Serving) => Ok(()),
        Ok(other) => Err(Error::NotServing(other.as_str_name())),
        Err(_) => Err(Error::NotServing("UNKNOWN")),
    }
}

/// Checks `/ready` at the admin port.
async fn check_admin(address: &str) -> Result<(), Error> {
    let failed = |error: &dyn std::error::Error| Error::Connect(innermost(error));
    let socket = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(socket)).await.map_err(|error| failed(&error))?;
    let request = Request::get("/ready").header(HOST, address).body(Body::empty());
    let request = request.map_err(|_| Error::Address(address.to_owned()))?;
    let mut response = pin!(sender.send_request(request));
    let response = select! {
        biased;
        response = response.as_mut() => response,
        ended = connection => {
            ended.map_err(|error| failed(&error))?;
            // The server may close the connection with its response, which is then complete.
            response.await
        }
    };
    let response = response.map_err(|error| failed(&error))?;
    match response.status() {
        StatusCode::OK => Ok(()),
        StatusCode::SERVICE_UNAVAILABLE => Err(Error::NotServing("NOT_SERVING")),
        other => Err(Error::Status(other.to_string())),
    }
}

async fn connect(args: Args) -> Result<Channel, Error> {
    let Args { address, tls, ca_file, server_name, cert_file, key_file, .. } = args;
    let bad = || Error::Address(address.clone());
    let scheme = if tls { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(|_| bad())?;
    let host = endpoint.uri().host().ok_or_else(bad)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if !tls {
        return endpoint.connect().await.map_err(|error| Error::Connect(innermost(&error)));
    }
    let config = Arc::new(tls_config(ca_file, cert_file.zip(key_file))?);
    let name = server_name.unwrap_or(host);
    let name = ServerName::try_from(name).map_err(|_| bad())?;
    let connector = service_fn(move |_| {
        let (config, name, address) = (Arc::clone(&config), name.clone(), address.clone());
        async move {
            let socket = TcpStream::connect(&address).await?;
            let stream = TlsConnector::from(config).connect(name, socket).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    // The connector does TLS, so the channel must use the http scheme.
    let plain = Endpoint::from_static("http://leadsd");
    let connected = plain.connect_with_connector(connector).await;
    connected.map_err(|error| Error::Connect(innermost(&error)))
}

fn tls_config(
    ca_file: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Connect(error.to_string()))?;
    let builder = match ca_file {
        Some(file) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(&file)?);
            builder.with_root_certificates(roots)
        }
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider))),
    };
    let mut config = match identity {
        Some((cert_file, key_file)) => {
            let key = PrivateKeyDer::from_pem_file(&key_file)
                .map_err(|error| Error::File(key_file.clone(), error.to_string()))?;
            builder
                .with_client_auth_cert(certificates(&cert_file)?, key)
                .map_err(|error| Error::File(key_file, error.to_string()))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(file: &PathBuf) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bad = |why: String| Error::File(file.clone(), why);
    let all: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(file).map_err(|error| bad(error.to_string()))?.collect();
    let all = all.map_err(|error| bad(error.to_string()))?;
    if all.is_empty() { Err(bad("the file contains no certificate".to_owned())) } else { Ok(all) }
}

/// Text of the innermost source, which names the root cause.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Accepts any certificate whose private key the server proves to have.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

// === impl AcceptAny ===

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
