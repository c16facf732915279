//! Compatibility of the contract with its history.
//!
//! The baseline is every state of the protos in the repository's history, not one committed file. A
//! committed baseline would not cover later changes, and could be changed together with the protos.
//! The test needs no network.

use std::{fs, path::Path, process::Command};

use crate::real_peers::{run, text, tool};

/// Files of the contract. Earlier states have no `third_party`.
const PATHS: [&str; 3] = ["proto", "buf.yaml", "third_party"];

/// Rules for changes: those of `buf.yaml`.
const RULES: &str = r#"{"version": "v2", "breaking": {"use": ["FILE"]}}"#;

/// Go package of earlier states and of this one. No Go program could import the earlier one, whose path
/// has no domain, so nothing depends on it.
const GO_PACKAGES: [&str; 2] =
    ["\"leadsd/v1;leadsdv1\"", "\"github.com/leadsd/leadsd-go/leadsd/v1;leadsdv1\""];

/// Compiles the protos of leadsd in a folder. Where `google/rpc` is does not matter to callers.
async fn image(folder: &Path, name: &Path) {
    let buf = tool("LEADSD_TEST_BUF", "buf");
    let mut command = Command::new(buf);
    command.arg("build").arg(folder).arg("--path").arg(folder.join("proto/leadsd"));
    let output = run(command.arg("-o").arg(name)).await;
    assert!(output.status.success(), "{}", text(&output));
}

/// Breaking changes between two folders of protos; empty if there are none.
async fn broken(folder: &Path, against: &Path) -> String {
    let images = tempfile::tempdir().unwrap();
    let [new, old] = ["new.binpb", "old.binpb"].map(|name| images.path().join(name));
    image(folder, &new).await;
    image(against, &old).await;
    let mut command = Command::new(tool("LEADSD_TEST_BUF", "buf"));
    command.arg("breaking").arg(&new).arg("--against").arg(&old);
    let output = run(command.args(["--exclude-imports", "--config", RULES])).await;
    let said = text(&output);
    // Exit code 100 means findings; any other is a failure of buf.
    assert!(matches!(output.status.code(), Some(0 | 100)), "{said}");
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

async fn shell(line: &str) -> String {
    let output = run(Command::new("bash").args(["-ec", line])).await;
    assert!(output.status.success(), "{line}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs buf and the whole history in git"]
async fn the_contract_keeps_every_promise_it_ever_made() {
    let shallow = shell("git rev-parse --is-shallow-repository").await;
    assert_eq!(shallow.trim(), "false", "fetch the whole history first");
    let commits = shell("git log --format=%h -- proto/leadsd").await;
    let commits: Vec<&str> = commits.lines().collect();
    assert!(!commits.is_empty(), "no commit of proto/leadsd is in the history");
    for commit in commits {
        let past = tempfile::tempdir().unwrap();
        let (paths, folder) = (PATHS.join(" "), past.path().display());
        shell(&format!(
            "set -o pipefail; git archive {commit} $(git ls-tree --name-only {commit} {paths}) \
             | tar x -C {folder}"
        ))
        .await;
        let [former, current] = GO_PACKAGES;
        shell(&format!("sed -i 's#{former}#{current}#' {folder}/proto/leadsd/v1/*.proto")).await;
        let broken = broken(Path::new("."), past.path()).await;
        assert!(broken.is_empty(), "this breaks callers of {commit}:\n{broken}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs buf"]
async fn a_broken_promise_is_noticed() {
    for (file, kept, changed, named) in [
        ("lead", "string id = 1;", "string id = 99;", "\"1\""),
        ("lead", "bool archived = 7;", "string archived = 7;", "archived"),
        ("leads_service", "  rpc ArchiveLead(", "  // rpc ArchiveLead(", "ArchiveLead"),
        ("search", "_EQ = 1;", "_EQUAL = 1;", "FILTER_OPERATOR_EQ"),
        ("error_reason", "INTERNAL = 25;", "INTERNAL = 250;", "\"25\""),
        ("quota_service", "rpc GetQuota(", "rpc ReadQuota(", "GetQuota"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        shell(&format!("cp -r {} {}", PATHS.join(" "), folder.path().display())).await;
        let file = folder.path().join(format!("proto/leadsd/v1/{file}.proto"));
        let proto = fs::read_to_string(&file).unwrap();
        assert!(proto.contains(kept), "{kept} in {}", file.display());
        fs::write(&file, proto.replacen(kept, changed, 1)).unwrap();
        let broken = broken(folder.path(), Path::new(".")).await;
        assert!(broken.contains(named), "{changed}: {broken:?}");
    }
}
