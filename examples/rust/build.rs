//! Generates the clients from the contract.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../../proto");
    println!("cargo::rerun-if-changed=../../third_party");
    let files = ["leadsd/v1/leads_service.proto", "leadsd/v1/quota_service.proto"];
    tonic_prost_build::configure()
        .build_server(false)
        // The type that tonic-types reads the details of.
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .compile_fds(protox::compile(files, ["../../proto", "../../third_party/googleapis"])?)?;
    Ok(())
}
