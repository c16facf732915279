//! Targets of gRPC's C core (Python, Ruby, PHP, C++), whose `:authority` need not be valid in HTTP.

use std::process::Command;

use crate::{
    harness::TestApp,
    real_peers::{run, text, tool},
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with grpcio"]
async fn grpcio_calls_a_list_of_addresses_without_an_option_for_the_authority() {
    let app = TestApp::start().await;
    let second = app.replica().start().await;
    let ipv6 = app.replica().set("GRPC__LISTEN", "[::1]:0").start().await;
    let lead = app.lead("Jane");
    let targets = [
        format!("ipv4:{}", app.grpc),
        format!("ipv4:{},{}", app.grpc, second.grpc),
        format!("ipv4:{}", vec![app.grpc.as_str(); 20].join(",")),
        format!("ipv6:{0},{0}", ipv6.grpc),
        format!("dns:///{}", app.grpc),
    ];
    let mut client = Command::new(tool("LEADSD_TEST_PYTHON", "python3"));
    let output = run(client.arg("tests/clients/targets.py").arg(&lead).args(&targets)).await;
    assert!(text(&output).contains("5 targets: all as expected"), "{}", text(&output));
    for app in [ipv6, second, app] {
        app.stop().await;
    }
}
