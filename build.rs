//! Compiles the proto files with protox, without protoc, into messages, server and client, and keeps the
//! descriptor set for gRPC reflection.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PROTOS: &[&str] = &[
    "leadsd/v1/error_reason.proto",
    "leadsd/v1/lead.proto",
    "leadsd/v1/search.proto",
    "leadsd/v1/export.proto",
    "leadsd/v1/leads_service.proto",
    "leadsd/v1/quota_service.proto",
    "leadsd/v1/schema_service.proto",
    // Details of errors, for clients that read them by reflection.
    "google/rpc/error_details.proto",
];

/// Folders of the contract, and of the messages of others that it imports.
const INCLUDES: [&str; 2] = ["proto", "third_party/googleapis"];

#[expect(clippy::disallowed_methods, reason = "cargo hands over OUT_DIR in the environment")]
fn main() -> Result<(), Box<dyn Error>> {
    for folder in INCLUDES {
        println!("cargo::rerun-if-changed={folder}");
    }
    // Read by option_env! in `leadsd version`.
    for name in ["LEADSD_COMMIT", "LEADSD_BUILD_DATE"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let descriptors = protox::compile(PROTOS, INCLUDES)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("leads_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // The same type as the one tonic-types builds error details with.
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .btree_map(".")
        .codec_path("crate::grpc::codec::MessageCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
