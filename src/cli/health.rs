//! `leadsd health`: asks a service how it is, over gRPC or at its admin port, for images and probes
//! that cannot ask themselves. Needs no configuration.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

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

/// Whom to ask, and about what.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Where the service listens.
    #[arg(long, default_value = "127.0.0.1:50051")]
    address: String,
    /// Asks `/ready` at this admin address instead, which says the same of the whole service and wants
    /// neither TLS nor a certificate.
    #[arg(long, conflicts_with_all = ["service", "tls"])]
    admin: Option<String>,
    /// Full name of a gRPC service; empty for all of them together.
    #[arg(long, default_value = "")]
    service: String,
    /// Longest time for all of it, in milliseconds.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    timeout_ms: u64,
    /// Speaks TLS.
    #[arg(long)]
    tls: bool,
    /// PEM file with the CAs that may have signed the service's certificate. Without it any
    /// certificate will do: a probe asks its own pod, and sends nothing that others may not see.
    #[arg(long, requires = "tls")]
    ca_file: Option<PathBuf>,
    /// Name that the certificate must be for, with --ca-file. Default: the host of --address.
    #[arg(long, requires = "ca_file")]
    server_name: Option<String>,
    /// PEM file with our certificate, for a service that asks for one.
    #[arg(long, requires = "tls", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// PEM file with the key of --cert-file.
    #[arg(long, requires = "cert_file")]
    key_file: Option<PathBuf>,
}

/// Why the service is not healthy.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0} cannot be used: {1}")]
    File(PathBuf, String),
    #[error("{0} is no address")]
    Address(String),
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("the service answers {0}")]
    Status(String),
    #[error("the service is {0}")]
    NotServing(&'static str),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let limit = Duration::from_millis(args.timeout_ms);
    timeout(limit, check(args)).await.map_err(|_| Error::Late(limit))??;
    // The exit code says it as well.
    let _ = super::output::print("SERVING\n");
    Ok(())
}

async fn check(args: Args) -> Result<(), Error> {
    if let Some(address) = args.admin {
        return ready(&address).await;
    }
    let service = args.service.clone();
    let mut health = HealthClient::new(connect(args).await?);
    let answer = health
        .check(HealthCheckRequest { service })
        .await
        .map_err(|status| Error::Status(format!("{:?}: {}", status.code(), status.message())))?;
    match ServingStatus::try_from(answer.into_inner().status) {
        Ok(ServingStatus::Serving) => Ok(()),
        Ok(other) => Err(Error::NotServing(other.as_str_name())),
        Err(_) => Err(Error::NotServing("UNKNOWN")),
    }
}

/// Asks the admin port.
async fn ready(address: &str) -> Result<(), Error> {
    let failed = |error: &dyn std::error::Error| Error::Connect(innermost(error));
    let socket = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(socket)).await.map_err(|error| failed(&error))?;
    let request = Request::get("/ready").header(HOST, address).body(Body::empty());
    let request = request.map_err(|_| Error::Address(address.to_owned()))?;
    let answer = select! {
        biased;
        answer = sender.send_request(request) => answer.map_err(|error| failed(&error))?,
        ended = connection => {
            ended.map_err(|error| failed(&error))?;
            return Err(Error::Connect("the connection was closed".to_owned()));
        }
    };
    match answer.status() {
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
    // The connector does TLS itself: the channel must think that there is none.
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
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Any(provider))),
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
    if all.is_empty() { Err(bad("it holds no certificate".to_owned())) } else { Ok(all) }
}

/// The chain of causes ends with what really happened.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Takes any certificate, as long as the service has its key.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

// === impl Any ===

impl ServerCertVerifier for Any {
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
