//! Checks of what the service opens and where it reports: its own ports, and the trace collector.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use url::Url;

use super::{
    check::{Check, CheckOutcome, CheckResult},
    network::{connect, resolve},
    report::Report,
};
use crate::{
    cli::{
        health::is_leadsd,
        remediation::{Peer, Remediation},
    },
    config::{Config, Grpc},
    grpc::check_unused,
    telemetry::{TraceSettings, probe_collector},
};
use leadsd_base::net::listen_address::ListenAddress;

/// Timeout for the response of a service that may run already.
const LIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum size of that response in bytes.
const MAX_LIVE: u64 = 4 * 1024;

/// Runs the checks.
pub(super) async fn examine(config: &Config, report: &mut Report) {
    if let Some(url) = &config.trace.otlp_endpoint {
        let collector = collector(url, &config.trace);
        report.check(Check::TraceCollector, None, collector).await;
    }
    // Beside a running service, such as in its pod, its ports are in use.
    let admin_runs = is_live(&config.admin.listen).await;
    let grpc_runs = admin_runs && serves_leads(&config.grpc).await;
    for (check, key, address, is_running) in [
        (Check::GrpcListen, "grpc.listen", &config.grpc.listen, grpc_runs),
        (Check::AdminListen, "admin.listen", &config.admin.listen, admin_runs),
    ] {
        report.check(check, None, listen(key, address, is_running)).await;
    }
}

/// Connects to the trace collector and sends an export without spans. A failure is a warning: calls do not
/// depend on it.
async fn collector(url: &Url, trace: &TraceSettings) -> CheckResult<()> {
    let egress = &trace.egress;
    let resolved = resolve(Peer::Collector, url, egress).await;
    let connected = match resolved.value {
        Some(addresses) => connect(Peer::Collector, url, egress, &addresses).await.outcome,
        None => resolved.outcome,
    };
    let outcome = match (connected, probe_collector(trace)) {
        (CheckOutcome::Ok(found), probe) => match probe.await {
            Ok(()) => CheckOutcome::Ok(found),
            Err(error) => CheckOutcome::fail(
                format!("the trace collector at {url} does not accept spans: {error}"),
                "name a collector for OTLP over gRPC in trace.otlp_endpoint, usually at port 4317 (4318 \
                 is OTLP over HTTP), and check trace.ca_file and trace.headers_file",
            ),
        },
        (failed, _) => failed,
    };
    match outcome {
        CheckOutcome::Fail(Remediation { cause, fix }) => {
            CheckResult::warn((), format!("{cause}: spans are dropped"), fix)
        }
        outcome @ (CheckOutcome::Ok(_) | CheckOutcome::Warn(_) | CheckOutcome::Skipped(_)) => {
            outcome.into()
        }
    }
}

/// Checks that the service can listen on an address.
#[expect(clippy::wildcard_enum_match_arm, reason = "other kinds of std keep the system's text")]
async fn listen(key: &str, address: &ListenAddress, is_running: bool) -> CheckResult<()> {
    let error = match try_listen(address).await {
        Ok(()) => return CheckResult::ok((), format!("{address} is free")),
        Err(error) => error,
    };
    let Some((host, port)) = host_and_port(address) else {
        return match error.kind() {
            ErrorKind::AddrInUse if is_running => {
                CheckResult::ok((), format!("{address} is in use, and leadsd is running"))
            }
            _ => {
                let cause = format!("cannot listen on {address}: {error}");
                CheckResult::fail(Remediation::new(cause, format!("choose another path in {key}")))
            }
        };
    };
    let (cause, fix) = match error.kind() {
        ErrorKind::AddrInUse if is_running => {
            return CheckResult::ok((), format!("{address} is in use, and leadsd is running"));
        }
        ErrorKind::AddrInUse => (
            format!("another process listens on {address}"),
            format!(
                "stop it (ss -ltnp 'sport = :{port}' shows its name), or choose another port in {key}"
            ),
        ),
        ErrorKind::AddrNotAvailable => (
            format!("{host} is not an address of this machine"),
            format!("set {key} to an address of this machine, or to 0.0.0.0:{port} for all"),
        ),
        ErrorKind::PermissionDenied => (
            format!("this user may not listen on port {port}"),
            format!("choose a port from 1024 on in {key}"),
        ),
        _ => (format!("cannot listen on {address}: {error}"), format!("correct {key}")),
    };
    CheckResult::fail(Remediation::new(cause, fix))
}

/// Listens on the address for a moment. A Unix socket is not created, since that would replace a file.
async fn try_listen(address: &ListenAddress) -> io::Result<()> {
    match address {
        ListenAddress::Unix(path) => check_unused(path).await,
        ListenAddress::Socket(_) | ListenAddress::Name(..) => address.bind().await.map(drop),
    }
}

/// Host of a TCP address, as a connection needs it, and its port.
fn host_and_port(address: &ListenAddress) -> Option<(String, u16)> {
    match address {
        ListenAddress::Socket(address) => Some((address.ip().to_string(), address.port())),
        ListenAddress::Name(name, port) => Some((name.clone(), *port)),
        ListenAddress::Unix(_) => None,
    }
}

/// Host and port at which this machine reaches a TCP address.
fn local_host_and_port(address: &ListenAddress) -> Option<(String, u16)> {
    let (host, port) = host_and_port(address)?;
    let host = if host == Ipv4Addr::UNSPECIFIED.to_string() {
        Ipv4Addr::LOCALHOST.to_string()
    } else if host == Ipv6Addr::UNSPECIFIED.to_string() {
        Ipv6Addr::LOCALHOST.to_string()
    } else {
        host
    };
    Some((host, port))
}

/// True if a leadsd serves gRPC at the listen address. Where a client certificate is required, only leadsd
/// can tell, and it is assumed to.
async fn serves_leads(grpc: &Grpc) -> bool {
    let address = match local_host_and_port(&grpc.listen) {
        Some((host, port)) if host.contains(':') => format!("[{host}]:{port}"),
        Some((host, port)) => format!("{host}:{port}"),
        None => grpc.listen.to_string(),
    };
    let client_ca = grpc.tls.as_ref().and_then(|tls| tls.client_ca.as_ref());
    client_ca.is_some_and(|ca| ca.required) || is_leadsd(address, grpc.tls.is_some()).await
}

/// True if a leadsd responds at this admin address.
async fn is_live(address: &ListenAddress) -> bool {
    let Some((host, port)) = local_host_and_port(address) else { return false };
    let exchange = async {
        let mut stream = TcpStream::connect((host.as_str(), port)).await?;
        // Any host of this machine is served.
        let request = "GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut response = Vec::new();
        stream.take(MAX_LIVE).read_to_end(&mut response).await?;
        Ok::<_, io::Error>(response)
    };
    let response = timeout(LIVE_TIMEOUT, exchange).await;
    response.is_ok_and(|response| response.is_ok_and(|response| response.ends_with(b"live\n")))
}

#[cfg(test)]
mod tests {
    use leadsd_base::task::{self, Task};
    use tokio::net::TcpListener;

    use super::*;

    /// Starts a server with this response; returns its address.
    async fn server(response: &'static str) -> (ListenAddress, Task) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1_024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(response.as_bytes()).await.unwrap();
            }
        };
        (ListenAddress::Socket(address), task::spawn("server", "", serve))
    }

    #[tokio::test]
    async fn a_port_in_use_fails_unless_leadsd_runs() {
        let (other, _task) = server("HTTP/1.1 200 OK\r\n\r\nhello\n").await;
        let (own, _own_task) = server("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nlive\n").await;
        assert!(is_live(&own).await && !is_live(&other).await);
        assert!(!is_leadsd(other.to_string(), false).await, "HTTP/1.1 without gRPC");
        let outcome = listen("grpc.listen", &other, false).await.outcome;
        let CheckOutcome::Fail(Remediation { cause, fix }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(cause, format!("another process listens on {other}"));
        assert!(
            fix.contains("grpc.listen")
                && fix.contains(&host_and_port(&other).unwrap().1.to_string()),
            "{fix}"
        );
        let outcome = listen("grpc.listen", &other, true).await.outcome;
        assert!(matches!(&outcome, CheckOutcome::Ok(found) if found.contains("is running")));
        let free = "127.0.0.1:0".parse().unwrap();
        assert!(matches!(listen("grpc.listen", &free, false).await.outcome, CheckOutcome::Ok(_)));
    }

    #[tokio::test]
    async fn a_unix_socket_that_cannot_be_created_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leadsd.sock");
        let address = ListenAddress::Unix(path.clone());
        let outcome = listen("grpc.listen", &address, false).await.outcome;
        assert!(matches!(outcome, CheckOutcome::Ok(_)) && !path.exists(), "{outcome:?}");
        let _other = tokio::net::UnixListener::bind(&path).unwrap();
        let outcome = listen("grpc.listen", &address, false).await.outcome;
        let CheckOutcome::Fail(Remediation { cause, fix }) = outcome else { panic!("{outcome:?}") };
        assert!(
            cause.contains("a process listens on it") && fix.contains("grpc.listen"),
            "{cause}"
        );
        let outcome = listen("grpc.listen", &address, true).await.outcome;
        assert!(matches!(outcome, CheckOutcome::Ok(_)), "{outcome:?}");
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_named() {
        let elsewhere = "192.0.2.1:50051".parse().unwrap();
        let outcome = listen("admin.listen", &elsewhere, false).await.outcome;
        let CheckOutcome::Fail(Remediation { cause, fix }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(cause, "192.0.2.1 is not an address of this machine");
        assert!(fix.contains("set admin.listen") && fix.contains("0.0.0.0:50051"), "{fix}");
    }
}
