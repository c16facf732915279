//! The contract as callers get it: files of `leadsd proto`, and packages that are generated from them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{
    harness::{LEADSD, TestApp},
    real_peers::{run, text, tool},
};

/// Files that the command writes, beside those of the contract.
const OTHERS: [&str; 3] = [
    "leadsd.binpb",
    "third_party/googleapis/google/rpc/error_details.proto",
    "third_party/googleapis/google/rpc/status.proto",
];

fn proto(out: &Path, more: &[&str]) -> Output {
    Command::new(LEADSD).arg("proto").arg("--out").arg(out).args(more).output().unwrap()
}

/// All files below a folder, by their relative paths in order.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder.join(&below)).unwrap() {
            let entry = entry.unwrap();
            let path = below.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(path),
                false => found.push(path.to_str().unwrap().to_owned()),
            }
        }
    }
    found.sort();
    found
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_contract_is_written_as_it_is_in_the_repository() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a/b");
    let output = proto(&out, &[]);
    assert!(output.status.success(), "{}", text(&output));
    let mut expected: Vec<String> = OTHERS.map(str::to_owned).to_vec();
    expected.extend(files(&repository("proto")).iter().map(|name| format!("proto/{name}")));
    expected.sort();
    assert_eq!(files(&out), expected);
    for name in expected.iter().filter(|name| name.ends_with(".proto")) {
        assert_eq!(
            fs::read(out.join(name)).unwrap(),
            fs::read(repository(name)).unwrap(),
            "{name}"
        );
    }
    let set = fs::read(out.join("leadsd.binpb")).unwrap();
    assert_eq!(set, leadsd::grpc::DESCRIPTORS);
    let mut printed: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    printed.sort();
    let paths = expected.iter().map(|name| out.join(name).to_str().unwrap().to_owned());
    assert_eq!(printed, paths.collect::<Vec<_>>());
    // Again: nothing to do.
    assert!(proto(&out, &[]).status.success());
}

#[test]
fn a_file_with_other_content_is_kept_unless_the_caller_forces_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    assert!(proto(out, &[]).status.success());
    let (changed, removed) =
        (out.join("proto/leadsd/v1/search.proto"), out.join("proto/leadsd/v1/lead.proto"));
    fs::write(&changed, "mine").unwrap();
    fs::remove_file(&removed).unwrap();
    let output = proto(out, &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(said.contains("search.proto has other content; nothing was written"), "{said}");
    assert_eq!(fs::read(&changed).unwrap(), b"mine");
    assert!(!removed.exists(), "nothing is written if one file differs");
    let all = files(out).len();
    assert!(proto(out, &["--force"]).status.success());
    assert_ne!(fs::read(&changed).unwrap(), b"mine");
    assert_eq!(files(out).len(), all + 1, "no temporary file is left");
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let output = proto(&file, &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(said.contains("leadsd: cannot read") && said.contains("error_reason.proto"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), b"");
}

/// Runs a line of Bash in a folder.
async fn shell(folder: &Path, line: &str) -> String {
    let mut command = Command::new("bash");
    let output = run(command.args(["-euo", "pipefail", "-c", line]).current_dir(folder)).await;
    assert!(output.status.success(), "{line}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with hubspot-api-client, google-api-core and grpcio-tools"]
async fn a_python_wheel_works_beside_the_clients_of_hubspot_and_google() {
    let app = TestApp::start().await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    assert!(proto(out, &[]).status.success());
    for name in ["pyproject.toml", "together.py"] {
        let fixture = repository("tests/fixtures/packages/python").join(name);
        fs::copy(fixture, out.join(name)).unwrap();
    }
    let python = tool("LEADSD_TEST_PYTHON", "python3");
    let python = python.to_str().unwrap();
    shell(
        out,
        &format!(
            "mkdir src
             {python} -m grpc_tools.protoc -I proto -I third_party/googleapis --python_out=src \
               --pyi_out=src --grpc_python_out=src proto/leadsd/v1/*.proto
             {python} -m pip wheel --quiet --disable-pip-version-check --no-deps \
               --no-build-isolation --no-index --wheel-dir wheels .
             {python} -m pip install --quiet --disable-pip-version-check --no-deps --no-index \
               --target installed wheels/*.whl"
        ),
    )
    .await;
    let wheel = shell(out, "cd installed; find . -name '*.py' | sort").await;
    assert!(wheel.lines().all(|file| file.starts_with("./leadsd/")), "only own files: {wheel}");
    let line = format!("PYTHONPATH=installed {python} together.py {}", app.grpc);
    assert_eq!(shell(out, &line).await.trim(), "INVALID_REQUEST id");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go, buf and the module proxy"]
async fn a_go_module_works_beside_the_clients_of_google() {
    let app = TestApp::start().await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    assert!(proto(out, &[]).status.success());
    let (buf, tools) = (tool("LEADSD_TEST_BUF", "buf"), repository("examples/go"));
    let plugin = |name: &str| {
        format!(
            "{{local: [go, -C, {}, tool, {name}], out: ., opt: module=github.com/leadsd/leadsd-go}}",
            tools.display()
        )
    };
    let plugins = [plugin("protoc-gen-go"), plugin("protoc-gen-go-grpc")].join(", ");
    fs::write(out.join("buf.gen.yaml"), format!("{{version: v2, plugins: [{plugins}]}}")).unwrap();
    let modules = "{version: v2, modules: [{path: proto}, {path: third_party/googleapis}]}";
    fs::write(out.join("buf.yaml"), modules).unwrap();
    fs::create_dir(out.join("together")).unwrap();
    for name in ["go.mod", "go.sum", "together/main.go"] {
        let fixture = repository("tests/fixtures/packages/go").join(name);
        fs::copy(fixture, out.join(name)).unwrap();
    }
    let buf = buf.display();
    shell(out, &format!("{buf} generate --path proto/leadsd && go build -o run ./together")).await;
    let said = shell(out, &format!("./run {}", app.grpc)).await;
    assert_eq!(said.trim(), "INVALID_REQUEST id");
}
