//! The gRPC server at a Unix socket: its file, its callers, and what else lies at its path.

use std::{
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::{Path, PathBuf},
    process::Command,
};

use hyper_util::rt::TokioIo;
use leadsd::grpc::pb::{
    self, leads_service_client::LeadsServiceClient, quota_service_client::QuotaServiceClient,
};
use leadsd_hubspot_fake::FakeHubspot;
use leadsd_testkit::{Process, wait_ready};
use leadsd_vault_fake::FakeVault;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::{
    binary::{config, fake_hubspot, fake_vault},
    harness::LEADSD,
    real_peers::{run, text, tool},
};

/// Peers and the configuration of a service at a socket.
struct World {
    config: PathBuf,
    socket: PathBuf,
    folder: TempDir,
    peers: (FakeHubspot, FakeVault),
}

// === impl World ===

impl World {
    async fn new() -> Self {
        let (folder, hubspot) = (tempfile::tempdir().unwrap(), fake_hubspot().await);
        hubspot.seed();
        let (vault, auth) = fake_vault(&folder, &hubspot).await;
        let config = config(&folder, &format!("http://{}", vault.address()), &auth, &hubspot);
        let socket = folder.path().join("leadsd.sock");
        Self { config, socket, folder, peers: (hubspot, vault) }
    }

    fn address(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    fn serve(&self) -> Process {
        Process::serve(LEADSD, &self.config, &[("LEADSD_GRPC__LISTEN", &self.address())])
    }

    async fn ready(&self) -> Process {
        let process = self.serve();
        wait_ready(&process.logged("admin.address").await).await;
        assert_eq!(process.logged("grpc.address").await, self.address());
        process
    }

    async fn channel(&self) -> Channel {
        let path = self.socket.clone();
        let connector = service_fn(move |_| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap()
    }

    /// Exit code and output of `leadsd` with these arguments.
    fn leadsd(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let listen = ("LEADSD_GRPC__LISTEN", self.address());
        let output = Command::new(LEADSD).args(arguments).envs([listen]).output().unwrap();
        let [out, err] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.code(), out + &err)
    }
}

async fn ended(process: Process) {
    process.signal("TERM");
    let (code, log) = process.ended().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_at_the_socket_are_named_by_their_user_and_the_file_is_removed() {
    let world = World::new().await;
    let process = world.ready().await;
    let mode = std::fs::metadata(&world.socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o660, "{mode:o}");
    let channel = world.channel().await;
    let mut leads = LeadsServiceClient::new(channel.clone());
    let page = leads.list_leads(pb::ListLeadsRequest::default()).await.unwrap().into_inner();
    assert_eq!(page.leads.len(), 5);
    let quota = QuotaServiceClient::new(channel).get_quota(pb::GetQuotaRequest {}).await.unwrap();
    let buckets = quota.into_inner().quota.unwrap().buckets;
    let callers: Vec<&str> = buckets
        .iter()
        .flat_map(|bucket| bucket.callers.iter().map(|caller| caller.caller.as_str()))
        .collect();
    let uid = rustix::process::getuid().as_raw();
    assert!(callers.contains(&format!("uid:{uid}").as_str()), "{callers:?}");
    let (code, said) = world.leadsd(&["health", "--address", &world.address()]);
    assert_eq!((code, said.as_str()), (Some(0), "SERVING\n"));
    for address in [world.address(), format!("unix://{}", world.socket.display())] {
        let (code, said) = world.leadsd(&["call", "--json", "ListLeads", "--address", &address]);
        assert!(code == Some(0) && said.contains("hs_lead_name"), "{said}");
    }
    let config = world.config.display().to_string();
    let (_, said) = world.leadsd(&["doctor", "--config", &config]);
    assert!(said.contains("callers are not authenticated (Unix socket)"), "{said}");
    ended(process).await;
    assert!(!world.socket.exists());
    let (code, said) = world.leadsd(&["health", "--address", &world.address()]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("--address {}: cannot connect: ", world.address())), "{said}");
    let (code, said) = world.leadsd(&["call", "ListLeads", "--address", &world.address()]);
    assert_eq!(code, Some(78), "{said}");
    let expected = format!("{} cannot be reached: the file does not exist", world.address());
    assert!(said.contains(&expected), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with grpcio"]
async fn grpcio_calls_a_unix_target() {
    let world = World::new().await;
    let process = world.ready().await;
    let lead = world.peers.0.first_lead().unwrap();
    let mut client = Command::new(tool("LEADSD_TEST_PYTHON", "python3"));
    client.arg("tests/clients/targets.py").arg(&lead);
    client.args([world.address(), format!("unix://{}", world.socket.display())]);
    let output = run(&mut client).await;
    assert!(text(&output).contains("2 targets: all as expected"), "{}", text(&output));
    ended(process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_of_a_killed_process_is_replaced_and_that_of_a_running_one_is_not() {
    let world = World::new().await;
    let mut killed = world.ready().await;
    killed.child.kill().unwrap();
    killed.wait().await;
    assert!(world.socket.exists());
    let running = world.ready().await;
    let (code, log) = world.serve().ended().await;
    assert_eq!(code, Some(1), "{log}");
    let expected = format!("grpc.listen: cannot listen on {}: a process listens", world.address());
    assert!(log.contains(&expected), "{log}");
    let mut leads = LeadsServiceClient::new(world.channel().await);
    leads.list_leads(pb::ListLeadsRequest::default()).await.expect("the running one serves");
    ended(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_socket_of_leadsd_stays() {
    let world = World::new().await;
    let refused = async |expected: &str| {
        let (code, log) = world.serve().ended().await;
        assert_eq!(code, Some(1), "{log}");
        let start = format!("leadsd: grpc.listen: cannot listen on {}: ", world.address());
        assert!(log.contains(&start) && log.contains(expected), "{log}");
    };
    std::fs::write(&world.socket, "data").unwrap();
    refused("is not a socket; remove the file").await;
    assert_eq!(std::fs::read_to_string(&world.socket).unwrap(), "data");
    std::fs::remove_file(&world.socket).unwrap();
    let foreign = UnixListener::bind(&world.socket).unwrap();
    refused("a process listens on it").await;
    drop(foreign);
    std::fs::remove_file(&world.socket).unwrap();
    let World { config, folder, .. } = &world;
    let missing = format!("unix:{}/none/leadsd.sock", folder.path().display());
    let environment = [("LEADSD_GRPC__LISTEN", missing.as_str())];
    let (code, log) = Process::serve(LEADSD, config, &environment).ended().await;
    assert!(code == Some(1) && log.contains("create the directory"), "{log}");
    assert!(Path::new(folder.path()).exists());
}
