//! `leadsd proto`: writes the contract to a folder, for code generators and tools without reflection.
//!
//! Files are replaced as a whole, each by a rename. A file with other content is an error before the
//! first write, so that the command neither overwrites an edited file nor leaves a mixture.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::Args as ClapArgs;
use tempfile::NamedTempFile;

use super::output::print;
use crate::grpc::DESCRIPTORS;

/// A file of this repository, by its path.
macro_rules! embedded {
    ($path:literal) => {
        ($path, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $path)))
    };
}

/// Files to write, by their path in the repository. Those of `google/rpc` have another include path, so
/// that no code is generated for them by accident: every language has a package with these messages.
const PROTOS: [(&str, &[u8]); 9] = [
    embedded!("proto/leadsd/v1/error_reason.proto"),
    embedded!("proto/leadsd/v1/export.proto"),
    embedded!("proto/leadsd/v1/lead.proto"),
    embedded!("proto/leadsd/v1/leads_service.proto"),
    embedded!("proto/leadsd/v1/quota_service.proto"),
    embedded!("proto/leadsd/v1/schema_service.proto"),
    embedded!("proto/leadsd/v1/search.proto"),
    embedded!("third_party/googleapis/google/rpc/error_details.proto"),
    embedded!("third_party/googleapis/google/rpc/status.proto"),
];

/// Name of the descriptor set, which has the imports of the contract as well.
const DESCRIPTOR_SET: &str = "leadsd.binpb";

/// Arguments of `leadsd proto`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Folder to write to; created if it does not exist.
    #[arg(long)]
    out: PathBuf,
    /// Replaces files that have other content.
    #[arg(long)]
    force: bool,
}

/// Error of `leadsd proto`.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{} has other content; nothing was written; use --force to replace it", .0.display())]
    Differs(PathBuf),
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot write to standard output: {0}")]
    Print(io::Error),
}

/// Writes all files that do not exist with the same content, and prints the path of each file.
pub(super) fn run(Args { out, force }: &Args) -> Result<(), Error> {
    let files = PROTOS.into_iter().chain([(DESCRIPTOR_SET, DESCRIPTORS)]);
    let mut missing = Vec::new();
    let mut printed = String::new();
    for (name, content) in files {
        let path = out.join(name);
        // Writing to a string cannot fail.
        let _ = writeln!(printed, "{}", path.display());
        match fs::read(&path) {
            Ok(found) if found == content => {}
            Ok(_) if !force => return Err(Error::Differs(path)),
            Ok(_) => missing.push((path, content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push((path, content)),
            Err(source) => return Err(Error::Read { path, source }),
        }
    }
    for (path, content) in missing {
        replace(&path, content).map_err(|source| Error::Write { path, source })?;
    }
    print(&printed).map_err(Error::Print)
}

/// Writes a file as a whole: on an error the earlier one remains, and nothing else.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().permissions(permissions()).tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    NamedTempFile::persist(file, path)?;
    Ok(())
}

/// Permissions of a file that others may read, restricted by the umask.
fn permissions() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;

    #[test]
    fn every_file_that_the_contract_is_compiled_from_is_written() {
        let set = prost_types::FileDescriptorSet::decode(DESCRIPTORS).expect("a descriptor set");
        let compiled = set.file.iter().filter_map(|file| file.name.as_deref());
        // Every compiler has those of protobuf itself.
        let compiled = compiled.filter(|name| !name.starts_with("google/protobuf/"));
        let written: BTreeSet<&str> = PROTOS
            .iter()
            .map(|(path, _)| path.trim_start_matches("proto/"))
            .map(|path| path.trim_start_matches("third_party/googleapis/"))
            .collect();
        let missing: Vec<&str> = compiled.filter(|name| !written.contains(name)).collect();
        assert_eq!(missing, Vec::<&str>::new());
    }
}
