//! Runs the blocks of the documents in order, as a new user does, and compares their output with
//! the documented output.

mod setup;

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use leadsd_testkit::Dev;
use tempfile::TempDir;

use crate::{
    examples::{NAME, Replicas},
    harness::{LEADSD, PATIENCE},
    markdown_blocks::{Block, blocks},
    real_peers::{text, tool},
};

/// A shell session: exported variables persist between blocks.
pub(crate) struct Terminal {
    folder: TempDir,
    /// Text of the page, and its replacement in the test.
    replaced: Vec<(String, String)>,
    environment: Vec<(String, String)>,
}

// === impl Terminal ===

impl Terminal {
    /// Puts these programs on the path, with the names that the pages use.
    pub(crate) fn new(programs: &[(&str, PathBuf)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        fs::create_dir(folder.path().join("here")).unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        for (name, program) in programs {
            symlink(program, folder.path().join("bin").join(name)).unwrap();
        }
        fs::write(folder.path().join("state"), "").unwrap();
        Self { folder, replaced: Vec::new(), environment: Vec::new() }
    }

    /// Sets an environment variable.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Replaces `said` by `instead` in the page.
    pub(crate) fn replace(&mut self, said: &str, instead: &str) {
        self.replaced.push((said.to_owned(), instead.to_owned()));
    }

    /// Folder of the session: `home`, or `here`, where the blocks run.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a program onto the path.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let file = self.folder("bin").join(name);
        fs::write(&file, script).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Command that runs a block in a shell.
    fn shell(&self, block: &Block) -> Command {
        let mut script = block.text.clone();
        for (said, instead) in &self.replaced {
            script = script.replace(said, instead);
        }
        let script = format!(
            "exec 2>&1\nsource {0}\nset -euo pipefail\n\
             trap 'ended=$?; export -p > {0}; exit $ended' EXIT\n{script}",
            self.folder("state").display()
        );
        let path = std::env::var("PATH").unwrap_or_default();
        let mut bash = Command::new("bash");
        bash.args(["-c", &script])
            .current_dir(self.folder("here"))
            .env("PATH", format!("{}:{path}", self.folder("bin").display()))
            .env("HOME", self.folder("home"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        bash
    }

    /// Starts a block in the background; killed when dropped.
    pub(crate) fn start(&self, block: &Block, typed: &str) -> Started {
        let mut shell = self.shell(block);
        let mut child = shell.process_group(0).spawn().unwrap();
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        let (printed, kept) = (Arc::<Mutex<String>>::default(), child.stdout.take().unwrap());
        let printing = Arc::clone(&printed);
        std::thread::spawn(move || {
            for line in BufReader::new(kept).lines().map_while(Result::ok) {
                printing.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Started { child, printed }
    }

    /// Runs a block with this input; returns the success of its last command and its output.
    pub(crate) async fn paste(&self, block: &Block, typed: &str) -> (bool, String) {
        let mut shell = self.shell(block);
        let typed = typed.to_owned();
        let output = tokio::task::spawn_blocking(move || {
            let mut child = shell.spawn().unwrap();
            // A block that does not read its input may have exited.
            let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
            child.wait_with_output().unwrap()
        });
        let output = output.await.unwrap();
        (output.status.success(), text(&output))
    }

    /// Runs a block, and compares its output with the block that follows.
    pub(crate) async fn check(&self, page: &[Block], number: usize, typed: &str) -> String {
        let block = &page[number];
        let shown = page.get(number + 1).filter(|next| next.is_output());
        let fails = shown.is_some_and(|shown| shown.text.lines().any(|line| line == "ERROR:"));
        let (succeeded, printed) = self.paste(block, typed).await;
        assert_eq!(succeeded, !fails, "{block}printed\n{printed}");
        if let Some(shown) = shown {
            let missing = missing(&shown.text, &printed);
            assert!(missing.is_empty(), "{shown}does not show\n{printed}\nfrom {missing}");
        }
        printed
    }

    /// Runs these blocks of a page in order; returns their number.
    pub(crate) async fn walk(&self, page: &[Block], chosen: impl Fn(&Block) -> bool) -> usize {
        let mut pasted = 0;
        for (number, block) in page.iter().enumerate() {
            if block.language() == "sh" && chosen(block) {
                self.check(page, number, "").await;
                pasted += 1;
            }
        }
        pasted
    }
}

/// Background process; killed when dropped.
pub(crate) struct Started {
    child: Child,
    printed: Arc<Mutex<String>>,
}

// === impl Started ===

impl Started {
    /// Waits until the process has printed this text.
    pub(crate) async fn says(&self, text: &str) -> String {
        let said = async {
            loop {
                let printed = self.printed.lock().unwrap().clone();
                if printed.contains(text) {
                    return printed;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let said = tokio::time::timeout(PATIENCE, said).await;
        said.unwrap_or_else(|_| panic!("no {text} in\n{}", self.printed.lock().unwrap()))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // The shell and its children form a process group.
        let group = format!("kill -KILL -- -{}", self.child.id());
        let _ = Command::new("bash").args(["-c", &group]).status();
        let _ = self.child.wait();
    }
}

/// First part of the documented output that was not printed; lines of `...` separate parts. Empty
/// if all parts were printed. Lines of a part must follow each other and may be continued; times
/// and UUIDs are ignored.
fn missing(shown: &str, printed: &str) -> String {
    let clean = |text: &str| -> Vec<String> { text.lines().map(comparable).collect() };
    let printed = clean(printed);
    let mut rest = printed.as_slice();
    for part in shown.split("...\n") {
        let part = clean(part);
        if part.is_empty() {
            continue;
        }
        let same = |window: &[String]| {
            window.iter().zip(&part).all(|(printed, shown)| printed.starts_with(shown.as_str()))
        };
        match rest.windows(part.len()).position(same) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return part.join("\n"),
        }
    }
    String::new()
}

/// A line without values that differ between runs.
fn comparable(line: &str) -> String {
    let mut clean = String::new();
    let line = line.replace('\t', "");
    for word in line.trim().trim_end_matches(',').split_inclusive([' ', '"', '(', ')']) {
        let (word, end) = word.split_at(word.trim_end_matches([' ', '"', '(', ')']).len());
        let kind = if word.parse::<jiff::Timestamp>().is_ok() {
            "a time"
        } else if word.parse::<uuid::Uuid>().is_ok() {
            "a uuid"
        } else {
            word
        };
        let _ = write!(clean, "{kind}{end}");
    }
    clean
}

pub(crate) fn grpcurl() -> PathBuf {
    which(&tool("LEADSD_TEST_GRPCURL", "grpcurl"))
}

/// Path of a program that may be given by name.
pub(crate) fn which(program: &Path) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program));
    let mut found = std::iter::once(program.to_owned()).chain(found).filter(|file| file.is_file());
    let found = found.next().unwrap_or_else(|| panic!("no {}", program.display()));
    fs::canonicalize(found).unwrap()
}

#[test]
fn documented_output_matches_printed_output() {
    let printed = "{\n  \"id\": \"1\",\n  \"time\": \"2026-11-24T06:16:40.736Z\",\n  \"a\": 5\n}\n";
    for valid in [
        "{\n",
        "\"id\": \"1\"\n",
        "{\n...\n\"a\": 5\n",
        "\"id\":\n\"time\": \"2001-01-01T00:00:00Z\"\n",
        printed,
    ] {
        assert_eq!(missing(valid, printed), "", "{valid}");
    }
    for bad in
        ["\"id\": \"2\"\n", "{\n\"a\": 5\n", "\"a\": 5\n...\n\"id\"\n", "\"time\": \"now\"\n"]
    {
        assert_ne!(missing(bad, printed), "", "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs grpcurl"]
async fn the_calls_of_the_readme_do_what_it_shows() {
    let dev = Dev::start(LEADSD).await;
    let mut terminal = Terminal::new(&[("grpcurl", grpcurl())]);
    terminal.replace("127.0.0.1:50051", &dev.address("gRPC"));
    let page = blocks("README.md");
    let pasted = terminal.walk(&page, |block| block.text.contains("grpcurl")).await;
    assert!(pasted >= 3, "{pasted} blocks");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs grpcurl"]
async fn the_calls_of_the_cookbook_do_what_it_shows() {
    let dev = Dev::start(LEADSD).await;
    let mut terminal = Terminal::new(&[("grpcurl", grpcurl())]);
    terminal.replace("127.0.0.1:50051", &dev.address("gRPC"));
    let page = blocks("docs/USING.md");
    let pasted = terminal.walk(&page, |block| block.info == "sh").await;
    assert!(pasted >= 20, "{pasted} blocks");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_calls_of_the_cookbook_at_a_terminal_do_what_it_shows() {
    let dev = Dev::start_with(LEADSD, &["--search-lag", "0s"]).await;
    let mut terminal = Terminal::new(&[("leadsd", LEADSD.into())]);
    // The page calls the default address; the service of this test has a free port.
    let folder = terminal.folder("home").join("leadsd");
    fs::create_dir(&folder).unwrap();
    let profile = format!("default = \"x\"\n[profile.x]\naddress = \"{}\"\n", dev.address("gRPC"));
    fs::write(folder.join("profiles.toml"), profile).unwrap();
    terminal.set("XDG_CONFIG_HOME", &terminal.folder("home").display().to_string());
    let page = blocks("docs/USING.md");
    let pasted = terminal.walk(&page, |block| block.info == "sh call").await;
    assert!(pasted >= 6, "{pasted} blocks");
}

#[test]
fn the_profiles_of_the_cookbook_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profiles.toml");
    let page = blocks("docs/USING.md");
    let block = page.iter().find(|block| block.language() == "toml").expect("a profile file");
    fs::write(&file, &block.text).unwrap();
    let arguments = ["call", "GetLead", "--profile", "production", "--token-env", "UNSET"];
    let mut command = Command::new(LEADSD);
    command.args(arguments).arg("--profile-file").arg(&file);
    let said = command.output().unwrap().stderr;
    let said = String::from_utf8_lossy(&said).into_owned();
    // The file is read to its end: only the token is missing.
    assert!(said.contains("UNSET with the token is not set"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs grpcurl"]
async fn the_cookbooks_call_with_a_token_is_let_in() {
    let replicas = Replicas::start().await;
    let mut terminal = Terminal::new(&[("grpcurl", grpcurl())]);
    fs::copy(&replicas.token_file, terminal.folder("here").join("token")).unwrap();
    fs::copy(&replicas.ca_file, terminal.folder("here").join("ca.pem")).unwrap();
    // The service of the page has the address in its certificate.
    terminal.replace("grpcurl -cacert", &format!("grpcurl -authority {NAME} -cacert"));
    terminal.replace("localhost:50051", replicas.addresses.split(',').next().unwrap());
    let page = blocks("docs/USING.md");
    assert_eq!(terminal.walk(&page, |block| block.info == "sh auth").await, 1);
}

#[test]
fn other_commands_of_the_readme_are_those_that_other_tests_execute() {
    let setup = blocks("docs/SETUP.md");
    let in_setup = |command: &str| {
        let same = |block: &Block| block.text.lines().any(|line| line.trim() == command);
        setup.iter().any(|block| block.language() == "sh" && same(block))
    };
    let mut checked = 0;
    let readme = blocks("README.md");
    // Another test pastes the calls with grpcurl.
    let is_other = |block: &&Block| block.info == "sh" && !block.text.contains("grpcurl");
    for block in readme.iter().filter(is_other) {
        for line in block.text.lines() {
            let command = line.split("  #").next().unwrap_or(line).trim();
            let command = command.replacen("cargo run -- ", "leadsd ", 1);
            // `Dev::start` executes the first, and `cargo test` this test.
            let is_known = matches!(command.as_str(), "leadsd dev" | "cargo test");
            assert!(is_known || in_setup(&command), "no test executes {command}");
            checked += 1;
        }
    }
    assert!(checked >= 5, "{checked} commands");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs grpcurl and curl"]
async fn commands_of_the_operations_page_succeed_or_are_marked_as_needing_a_cluster() {
    let dev = Dev::start(LEADSD).await;
    let mut terminal = Terminal::new(&[("grpcurl", grpcurl()), ("leadsd", LEADSD.into())]);
    terminal.replace("127.0.0.1:50051", &dev.address("gRPC"));
    terminal.replace("127.0.0.1:9090", &dev.address("admin"));
    let page = blocks("docs/OPERATIONS.md");
    let marked = |block: &Block| matches!(block.info.as_str(), "sh" | "sh cluster");
    assert!(page.iter().filter(|block| block.language() == "sh").all(marked));
    let pasted = terminal.walk(&page, |block| block.info == "sh").await;
    assert!(pasted >= 10, "{pasted} blocks");
}

#[test]
fn using_page_names_only_existing_reasons() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
    let (page, catalogue) = (read("docs/USING.md"), read("docs/ERRORS.md"));
    let table = page.lines().skip_while(|line| !line.starts_with("## What to repeat"));
    let table = table.filter(|line| line.starts_with('|'));
    let mut named = 0;
    for line in table {
        for reason in line.split('`').skip(1).step_by(2).filter(|code| code.contains('_')) {
            let isolated = reason == reason.to_uppercase();
            assert!(!isolated || catalogue.contains(&format!("## {reason}\n")), "{reason}");
            named += usize::from(isolated);
        }
    }
    assert!(named >= 10, "{named} reasons");
}

#[test]
fn using_page_covers_every_rpc() {
    let page = blocks("docs/USING.md");
    let mut rpcs = 0;
    for name in ["leads_service", "quota_service"] {
        let file = format!("proto/leadsd/v1/{name}.proto");
        let proto = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let service = proto.lines().find_map(|line| line.strip_prefix("service "));
        let service = service.unwrap().trim_end_matches(" {");
        for rpc in proto.lines().filter_map(|line| line.trim_start().strip_prefix("rpc ")) {
            let call = format!("{service}/{}", rpc.split('(').next().unwrap());
            // Matches the end of the path: `GetLead` is not `GetLeads`.
            let calls =
                |block: &Block| block.text.split_whitespace().any(|word| word.ends_with(&call));
            assert!(page.iter().any(|block| block.language() == "sh" && calls(block)), "{call}");
            rpcs += 1;
        }
    }
    assert!(rpcs >= 14, "{rpcs} RPCs");
}

#[test]
fn using_page_quotes_the_example_clients() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    let page = blocks("docs/USING.md");
    let block = |language: &str| {
        let block = page.iter().find(|block| block.language() == language);
        block.unwrap_or_else(|| panic!("no block of {language}"))
    };
    let config = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(config(&block("json").text), config(&read("service_config.json")));
    for (language, file) in [
        ("go", "go/failure.go"),
        ("java", "java/src/main/java/leadsd/example/Failure.java"),
        ("python", "python/failure.py"),
        ("js", "node/failure.mjs"),
        ("rust", "rust/src/failure.rs"),
    ] {
        let source = read(file);
        let quoted = block(language);
        for line in quoted.text.lines() {
            assert!(source.contains(line.trim()), "{file} does not have {line:?} of {quoted}");
        }
    }
}
