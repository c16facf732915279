//! `leadsd config` for people and pipelines; the schema is checked with a third-party validator.

use std::process::{Command, Output};

use crate::{
    harness::LEADSD,
    real_peers::{run, text, tool},
};

fn leadsd(arguments: &[&str]) -> Command {
    let mut command = Command::new(LEADSD);
    command.arg("config").args(arguments).env_clear();
    command
}

/// A valid configuration.
const GOOD: &str = "[vault]\naddress = \"https://vault.example:8200\"\n[vault.auth]\n\
                    method = \"token_file\"\nfile = \"/vault/token\"\n[portals.default]\n";

#[tokio::test]
async fn config_check_print_and_schema_produce_the_documented_output() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leadsd.toml");
    std::fs::write(&file, GOOD).unwrap();
    let path = file.display().to_string();
    let said = async |arguments: &[&str]| -> Output { run(&mut leadsd(arguments)).await };
    let check = said(&["check", "--config", &path]).await;
    assert_eq!(
        (check.status.code(), text(&check).trim()),
        (Some(0), "The configuration is valid.")
    );
    let print = said(&["print", "--config", &path]).await;
    assert!(text(&print).contains(&format!("address = \"https://vault.example:8200\"  # {path}")));
    assert!(text(&print).contains("base_url = \"https://api.hubapi.com\"  # default"));
    let print = run(leadsd(&["print", "--config", &path]).env("LEADSD_LOG__LEVEL", "debug")).await;
    let origin = "level = \"debug\"  # environment variable LEADSD_LOG__LEVEL";
    assert!(text(&print).contains(origin), "{}", text(&print));
    let schema = said(&["schema"]).await;
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).expect("it is JSON");
    assert_eq!(schema["additionalProperties"], false);
    std::fs::write(&file, format!("{GOOD}[log]\nlevl = 1\n")).unwrap();
    let check = said(&["check", "--config", &path]).await;
    assert_eq!(check.status.code(), Some(64));
    assert!(text(&check).contains("log.levl: is not a known key"), "{}", text(&check));
}

#[tokio::test]
#[ignore = "needs Python's jsonschema"]
async fn a_real_validator_takes_good_files_and_refuses_bad_ones() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: String, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let schema = run(&mut leadsd(&["schema"])).await;
    let schema = file("schema.json".to_owned(), &String::from_utf8(schema.stdout).unwrap());
    let example = std::fs::read_to_string("leadsd.example.toml").unwrap();
    // Examples of keys without a default are valid as well.
    let whole: String = example.lines().map(uncommented).collect();
    let good =
        [GOOD, &example, &whole, "[quota.weights]\nbilling = 3\n[policy.a]\nweight = 1000\n"];
    let bad = [
        "[grpc]\nlisen = \"127.0.0.1:1\"\n",
        "[grpc]\nmax_batch_inputs = 0\n",
        "[grpc]\nmax_deadline = \"10\"\n",
        "[grpc]\nmax_request_size = \"4MB\"\n",
        "[grpc]\ninsecure = \"yes\"\n",
        "[trace]\nsample_ratio = 1.5\n",
        "[vault.auth]\nmethod = \"passwd\"\n",
        "[portals.default]\nscret = \"x\"\n",
        "[policy.a]\ncallers = \"every\"\n",
        "[quota.weights]\nbilling = 0\n",
        "[portal.default]\n",
    ];
    let script = "tests/clients/config_schema.py".to_owned();
    let mut arguments = vec![script, schema];
    for (kind, texts) in [("good", &good[..]), ("bad", &bad[..])] {
        let files = texts.iter().enumerate();
        arguments.extend(
            files.map(|(i, text)| format!("{kind}={}", file(format!("{kind}-{i}.toml"), text))),
        );
    }
    let python = tool("LEADSD_TEST_PYTHON", "python3");
    let said = run(Command::new(python).args(&arguments)).await;
    assert_eq!(text(&said).trim(), format!("{} checked", good.len() + bad.len()));
}

/// Uncommented key or table of a line of the example file.
fn uncommented(line: &str) -> String {
    let bare = line.strip_prefix("# ").unwrap_or(line);
    let is_table = bare.starts_with('[') && bare.ends_with(']') && !bare.contains(' ');
    let is_key = bare
        .split_once(" = ")
        .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    format!("{}\n", if is_table || is_key { bare } else { "" })
}
