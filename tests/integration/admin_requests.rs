//! Requests to the admin port that a web page or a confused proxy could make, over raw sockets.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use leadsd_testkit::{Dev, Process};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

use crate::harness::{LEADSD, PATIENCE, TestApp, eventually};

/// Key for changes.
const KEY: &str = "hush-admin-key-of-the-operators";

/// Everything that the server sends in response to these bytes, until it closes.
async fn sent(admin: &str, request: &str) -> String {
    let address = admin.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    let read = socket.read_to_end(&mut response);
    tokio::time::timeout(PATIENCE, read).await.expect("the server closes").unwrap();
    String::from_utf8(response).unwrap()
}

/// Status, and whether the text contains `text`.
#[track_caller]
fn assert_response(response: &str, status: u16, text: &str) {
    assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {response}");
    assert!(response.contains(text), "{text:?}: {response}");
}

#[tokio::test]
async fn pages_and_ambiguous_requests_are_rejected_and_the_port_goes_on() {
    let app = TestApp::start().await;
    for (request, status, text) in [
        ("GET /portals HTTP/1.1\r\nhost: evil.example:9090\r\n\r\n", 421, "admin.hosts"),
        ("GET /live HTTP/1.1\r\nhost: evil.example\r\n\r\n", 421, "admin.hosts"),
        ("GET /live HTTP/1.1\r\nhost: 203.0.113.7\r\n\r\n", 421, "admin.hosts"),
        (
            "GET /portals HTTP/1.1\r\nhost: localhost\r\norigin: http://evil.example\r\n\r\n",
            403,
            "Origin",
        ),
        ("GET /portals HTTP/1.1\r\nhost: localhost\r\norigin: null\r\n\r\n", 403, "Origin"),
        (
            "POST /portals/default/refresh HTTP/1.1\r\nhost: localhost\r\n\r\n",
            403,
            "\"leadsd-admin: 1\"",
        ),
        (
            "PUT /log HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\noff",
            403,
            "\"leadsd-admin: 1\"",
        ),
        ("GET /live HTTP/1.1\r\n\r\n", 400, "Host"),
        ("GET /live HTTP/1.0\r\n\r\n", 400, "Host"),
        ("GET /live HTTP/1.1\nhost: localhost\n\n", 400, "bare line feed"),
        (
            "PUT /log HTTP/1.1\r\nhost: localhost\r\nleadsd-admin: 1\r\ncontent-length: 4\r\n\
             transfer-encoding: chunked\r\n\r\n3\r\noff\r\n0\r\n\r\n",
            400,
            "exclude each other",
        ),
        (
            "PUT /log HTTP/1.1\r\nhost: localhost\r\nleadsd-admin: 1\r\n\
             transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n3\r\noff\r\n0\r\n\r\n",
            400,
            "exclude each other",
        ),
        ("GET http://evil.example/live HTTP/1.1\r\nhost: localhost\r\n\r\n", 400, "not a path"),
    ] {
        assert_response(&sent(&app.admin, request).await, status, text);
        let live = sent(&app.admin, "GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert_response(&live, 200, "live");
    }
}

#[tokio::test]
async fn chunks_that_end_with_a_bare_line_feed_are_no_body() {
    let app = TestApp::start().await;
    for body in
        ["3\noff\n0\n\n", "3;a\noff\r\n0\r\n\r\n", "+3\r\noff\r\n0\r\n\r\n", "3\r\noff0\r\n\r\n"]
    {
        let request = format!(
            "PUT /log HTTP/1.1\r\nhost: localhost\r\nleadsd-admin: 1\r\n\
             transfer-encoding: chunked\r\n\r\n{body}"
        );
        let response = sent(&app.admin, &request).await;
        assert!(!response.starts_with("HTTP/1.1 2"), "{body:?}: {response}");
    }
}

#[tokio::test]
async fn a_connection_carries_one_request() {
    let app = TestApp::start().await;
    let two = "GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n\
               GET /portals HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let response = sent(&app.admin, two).await;
    assert_eq!(response.matches("HTTP/1.1 ").count(), 1, "{response}");
    assert_response(&response, 200, "connection: close");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_one_address_leaves_the_admin_port_to_probes() {
    let app = TestApp::start().await;
    let address: SocketAddr = app.admin.trim_start_matches("http://").parse().unwrap();
    let connect = async move || {
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 2], 0).into())?;
        socket.connect(address).await
    };
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(connect().await.unwrap());
    }
    // Requests on new connections, as fast as the port accepts them.
    let mut flood = JoinSet::new();
    for _ in 0..4 {
        flood.spawn(async move {
            loop {
                let Ok(mut socket) = connect().await else { continue };
                let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";
                if socket.write_all(request).await.is_ok() {
                    // The port may close the connection to make room.
                    let _ = socket.read(&mut [0; 1024]).await;
                }
            }
        });
    }
    for path in ["/live", "/ready"].repeat(50) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert_response(&sent(&app.admin, &request).await, 200, "");
    }
}

#[tokio::test]
async fn configured_names_are_accepted_as_host() {
    let app = TestApp::builder().set("ADMIN__HOSTS", "[\"leadsd.crm.svc\"]").start().await;
    let named = "GET /live HTTP/1.1\r\nhost: leadsd.crm.svc:9090\r\n\r\n";
    assert_response(&sent(&app.admin, named).await, 200, "live");
    let page =
        "GET /live HTTP/1.1\r\nhost: leadsd.crm.svc:9090\r\norigin: http://leadsd.crm.svc\r\n\r\n";
    assert_response(&sent(&app.admin, page).await, 403, "Origin");
}

#[tokio::test]
async fn with_keys_a_change_needs_one_and_reading_does_not() {
    let hash = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, KEY.as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let app = TestApp::builder()
        .secret("leadsd/admin-keys", json!({ "operators": hash }))
        .set("ADMIN__API_KEYS_SECRET", "leadsd/admin-keys")
        .start()
        .await;
    let refresh = |more: &str| {
        format!(
            "POST /portals/default/refresh HTTP/1.1\r\nhost: localhost\r\nleadsd-admin: 1\r\n\
             {more}content-length: 0\r\n\r\n"
        )
    };
    let status = async |request: String, wanted: u16| {
        eventually(&format!("status {wanted}"), async || {
            let response = sent(&app.admin, &request).await;
            response.starts_with(&format!("HTTP/1.1 {wanted} "))
        })
        .await;
    };
    // Until the keys are loaded, the status is 503.
    status(refresh(""), 401).await;
    status(refresh("x-api-key: hush-another-key-of-an-operator\r\n"), 401).await;
    status(refresh(&format!("x-api-key: {KEY}\r\nx-api-key: {KEY}\r\n")), 401).await;
    status(refresh(&format!("x-api-key: {KEY}\r\n")), 202).await;
    status(refresh(&format!("x-api-key: {KEY}\r\n")), 429).await;
    let without = format!(
        "POST /portals/default/refresh HTTP/1.1\r\nhost: localhost\r\nx-api-key: {KEY}\r\n\r\n"
    );
    status(without, 403).await;
    status("GET /portals HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), 200).await;
}

/// Soft limit of the size of core files of a process.
fn core_limit(child: &Child) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    line.split_whitespace().nth(4).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn core_files_are_disabled_and_the_figures_of_the_process_are_readable() {
    let dev = Dev::start(LEADSD).await;
    assert_eq!(core_limit(&dev.process.child), "0");
    let admin = dev.address("admin");
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"] {
        // The CPU time counts in ticks of ten milliseconds, and each page takes some.
        eventually(name, async || {
            let page = crate::harness::metrics_page(&admin).await.unwrap();
            let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("{} "));
            line.expect(name).parse::<f64>().unwrap() > 0.0
        })
        .await;
    }
    // The files of such a process belong to root: another process of its user cannot open them.
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt as _;
        let environment = std::fs::metadata(format!("/proc/{}/environ", dev.process.child.id()));
        assert_eq!(environment.unwrap().uid(), 0);
    }
    let free = leadsd_testkit::FREE;
    let mut command = Command::new(LEADSD);
    command.args(["dev", "--allow-debugging", "--grpc", free, "--admin", free]);
    command.args(["--hubspot", free, "--vault", free]).stdout(Stdio::piped());
    let mut allowed = Process::start(&mut command);
    // It prints after its start.
    let printed = BufReader::new(allowed.child.stdout.take().unwrap());
    let line = tokio::task::spawn_blocking(move || printed.lines().next());
    assert!(tokio::time::timeout(PATIENCE, line).await.unwrap().unwrap().is_some());
    let own = std::fs::read_to_string("/proc/self/limits").unwrap();
    let own = own.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(Some(core_limit(&allowed.child).as_str()), own.split_whitespace().nth(4));
}
