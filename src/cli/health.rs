//! `leadsd health`: checks the health of a running service over gRPC or at its admin port. It serves
//! container images without a shell and exec probes, and needs no configuration.
//!
//! It must not know what the service is configured with: its flags, or a profile, say where to connect.

mod tls;

use std::{
    io,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use clap::Args as ClapArgs;
use http::{Request, StatusCode, header::HOST};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::json;
use tokio::{
    net::{TcpStream, UnixStream},
    select,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use tonic::{
    Code,
    body::Body,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::service_fn;

use self::tls::tls_config;
use super::client::{self, InvalidProfile, profile_flags};
use crate::grpc::pb::{
    GetQuotaRequest, leads_service_server, quota_service_client::QuotaServiceClient,
};
use leadsd_base::net::listen_address::ListenAddress;

/// Server name of a Unix socket, as gRPC clients send it.
const LOCALHOST: &str = "localhost";

/// Arguments of `leadsd health`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Address of the gRPC port, or unix:/PATH. Default: 127.0.0.1:50051.
    #[arg(long)]
    address: Option<String>,
    /// Profile of `leadsd call` with address, TLS and certificates; these flags override it.
    #[arg(long, value_name = "NAME", conflicts_with = "admin")]
    profile: Option<String>,
    /// File with profiles. Default: leadsd/profiles.toml in $XDG_CONFIG_HOME or ~/.config.
    #[arg(long, value_name = "FILE", requires = "profile")]
    profile_file: Option<PathBuf>,
    /// Checks `/ready` at this admin address instead of gRPC; it needs no TLS and no certificate.
    #[arg(long, conflicts_with_all = ["service", "tls"])]
    admin: Option<String>,
    /// Full name of a gRPC service; empty for the whole server.
    #[arg(long, default_value = "")]
    service: String,
    /// Also calls QuotaService.GetQuota of this portal, which makes no HubSpot call.
    ///
    /// A call that is rejected because it sends no credential, or one without the right, counts as a
    /// success: the service has received it and has checked its caller.
    #[arg(long, value_name = "PORTAL", conflicts_with = "admin")]
    call: Option<String>,
    /// Prints JSON: `status`, and `error` if the service is not SERVING.
    #[arg(long)]
    json: bool,
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

/// Timeout for recognizing a leadsd, which may be busy.
const RECOGNITION_TIMEOUT: Duration = Duration::from_secs(5);

/// Option with the address of the admin port.
const ADMIN: &str = "--admin";

/// Forms of addresses of the admin port and of the gRPC port.
const TCP_FORM: &str = "HOST:PORT";
const FORM: &str = "HOST:PORT or unix:/PATH";

/// Address of the gRPC port without a flag or a profile.
const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";

/// Error of a health check.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Profile(#[from] InvalidProfile),
    /// The check failed. Its flag is the option with the address.
    #[error("{flag} {address}: {cause}")]
    Check { flag: &'static str, address: String, cause: Cause },
}

/// Cause of a failed health check.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error("cannot load {flag} {}: {what}", file.display())]
    File { flag: &'static str, file: PathBuf, what: String },
    #[error("not an address: use {0}")]
    Address(&'static str),
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("the service returned {0}")]
    Status(String),
    #[error("the service is {0}")]
    NotServing(&'static str),
    #[error("the service is SERVING, but GetQuota failed with {0}")]
    Call(String),
    #[error("no response within {0:?}")]
    Timeout(Duration),
}

// === impl Error ===

impl Error {
    /// Status for JSON.
    fn status(&self) -> &'static str {
        match self {
            Self::Profile(_) => "UNKNOWN",
            Self::Check { cause, .. } => cause.status(),
        }
    }
}

// === impl Cause ===

impl Cause {
    /// Status for JSON: that of the service if it has one.
    fn status(&self) -> &'static str {
        match self {
            Self::NotServing(status) => status,
            Self::File { .. }
            | Self::Address(_)
            | Self::Connect(_)
            | Self::Status(_)
            | Self::Call(_)
            | Self::Timeout(_) => "UNKNOWN",
        }
    }
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let is_json = args.json;
    let checked = run_check(args).await;
    let text = match (&checked, is_json) {
        (Ok(()), true) => format!("{}\n", json!({"status": "SERVING"})),
        (Ok(()), false) => "SERVING\n".to_owned(),
        (Err(error), true) => {
            format!("{}\n", json!({"status": error.status(), "error": error.to_string()}))
        }
        (Err(_), false) => String::new(),
    };
    // If printing fails, the exit code still reports the result.
    let _ = super::output::print(&text);
    checked
}

/// Reports whether a leadsd serves gRPC at an address, whatever its health is. No certificate is verified.
pub(super) async fn is_leadsd(address: String, tls: bool) -> bool {
    let args = Args {
        address: Some(address),
        service: leads_service_server::SERVICE_NAME.to_owned(),
        tls,
        profile: None,
        profile_file: None,
        admin: None,
        call: None,
        json: false,
        timeout_ms: 0,
        ca_file: None,
        server_name: None,
        cert_file: None,
        key_file: None,
    };
    let checked = timeout(RECOGNITION_TIMEOUT, check(args)).await;
    matches!(checked, Ok(Ok(()) | Err(Cause::NotServing(_))))
}

/// Checks within the timeout. Each error names the option that it is about.
async fn run_check(args: Args) -> Result<(), Error> {
    let limit = Duration::from_millis(args.timeout_ms);
    let args = with_profile(args)?;
    let (flag, address) = match (&args.admin, &args.address) {
        (Some(admin), _) => (ADMIN, admin.clone()),
        (None, address) => {
            ("--address", address.clone().unwrap_or_else(|| DEFAULT_ADDRESS.to_owned()))
        }
    };
    // A TCP connection to an address without a port fails with the text of the resolver.
    let is_valid = client::is_address(&address);
    let (is_unix, is_admin) = (ListenAddress::unix_path(&address).is_some(), flag == ADMIN);
    if !is_valid || (is_unix && is_admin) {
        let form = if is_admin { TCP_FORM } else { FORM };
        return Err(Error::Check { flag, address, cause: Cause::Address(form) });
    }
    let checked = timeout(limit, check(args)).await.unwrap_or(Err(Cause::Timeout(limit)));
    checked.map_err(|cause| Error::Check { flag, address, cause })
}

async fn check(args: Args) -> Result<(), Cause> {
    if let Some(address) = args.admin {
        return check_admin(&address).await;
    }
    let (service, call) = (args.service.clone(), args.call.clone());
    let channel = connect(args).await?;
    let mut health = HealthClient::new(channel.clone());
    let response = health
        .check(HealthCheckRequest { service })
        .await
        .map_err(|status| Cause::Status(format!("{:?}: {}", status.code(), status.message())))?;
    match ServingStatus::try_from(response.into_inner().status) {
        Ok(ServingStatus::Serving) => match call {
            Some(portal) => call_quota(channel, &portal).await,
            None => Ok(()),
        },
        Ok(other) => Err(Cause::NotServing(other.as_str_name())),
        Err(_) => Err(Cause::NotServing("UNKNOWN")),
    }
}

/// Calls an RPC of the contract that has no effect and makes no HubSpot call.
async fn call_quota(channel: Channel, portal: &str) -> Result<(), Cause> {
    let portal = portal.parse().map_err(|_| Cause::Status("an invalid portal name".to_owned()))?;
    let mut request = tonic::Request::new(GetQuotaRequest::default());
    request.metadata_mut().insert("leadsd-portal", portal);
    match QuotaServiceClient::new(channel).get_quota(request).await {
        Ok(_) => Ok(()),
        Err(status) if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) => {
            Ok(())
        }
        Err(status) => Err(Cause::Call(format!("{:?}: {}", status.code(), status.message()))),
    }
}

/// Checks `/ready` at the admin port.
async fn check_admin(address: &str) -> Result<(), Cause> {
    let failed = |error: &dyn std::error::Error| Cause::Connect(innermost(error));
    let socket = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(socket)).await.map_err(|error| failed(&error))?;
    let request = Request::get("/ready").header(HOST, address).body(Body::empty());
    let request = request.map_err(|_| Cause::Address(TCP_FORM))?;
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
        StatusCode::SERVICE_UNAVAILABLE => Err(Cause::NotServing("NOT_SERVING")),
        other => Err(Cause::Status(other.to_string())),
    }
}

/// Adds the values of the profile to the flags that are not given. A probe names its profile: a file in a
/// home folder must not change what a probe checks.
fn with_profile(mut args: Args) -> Result<Args, InvalidProfile> {
    let name = args.profile.take().filter(|_| args.admin.is_none());
    let Some(name) = name else { return Ok(args) };
    let flags = profile_flags(name, args.profile_file.take())?;
    Ok(Args {
        address: args.address.or(flags.address),
        tls: args.tls || flags.tls == Some(true),
        ca_file: args.ca_file.or(flags.ca_file),
        server_name: args.server_name.or(flags.server_name),
        cert_file: args.cert_file.or(flags.cert_file),
        key_file: args.key_file.or(flags.key_file),
        ..args
    })
}

async fn connect(args: Args) -> Result<Channel, Cause> {
    let Args { address, tls, ca_file, server_name, cert_file, key_file, .. } = args;
    let address = address.unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
    let bad = || Cause::Address(FORM);
    if let Some(path) = ListenAddress::unix_path(&address).map(Path::to_owned) {
        let tls = tls.then(|| tls_config(ca_file, cert_file.zip(key_file))).transpose()?;
        let name = server_name.unwrap_or_else(|| LOCALHOST.to_owned());
        let name = ServerName::try_from(name).map_err(|_| bad())?;
        return connect_unix(path, tls.map(|tls| (Arc::new(tls), name))).await;
    }
    let scheme = if tls { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(|_| bad())?;
    let host = endpoint.uri().host().ok_or_else(bad)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if !tls {
        return endpoint.connect().await.map_err(|error| Cause::Connect(innermost(&error)));
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
    connected.map_err(|error| Cause::Connect(innermost(&error)))
}

/// Connects to a Unix socket, with TLS if there is a configuration for it.
async fn connect_unix(
    path: PathBuf,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
) -> Result<Channel, Cause> {
    let connector = service_fn(move |_| {
        let (path, tls) = (path.clone(), tls.clone());
        async move {
            let socket = UnixStream::connect(path).await?;
            let stream = match tls {
                Some((config, name)) => {
                    Either::Left(TlsConnector::from(config).connect(name, socket).await?)
                }
                None => Either::Right(socket),
            };
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let connected = endpoint.connect_with_connector(connector).await;
    connected.map_err(|error| Cause::Connect(innermost(&error)))
}

/// Text of the innermost source, which names the root cause.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
