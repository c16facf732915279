//! Planted faults: each rule finds its faults, and ignores similar text without a fault.

use std::path::{Path, PathBuf};

use crate::{cycles, layers, old_names, rules, source};

fn layer_faults(file: &str, text: &str) -> Vec<String> {
    layers::faults(Path::new(file), &source::production(text))
}

#[track_caller]
fn assert_found(file: &str, text: &str, expected: &str) {
    let faults = layer_faults(file, text);
    assert!(faults.iter().any(|fault| fault.contains(expected)), "{text:?} gives {faults:?}");
}

#[track_caller]
fn assert_silent(file: &str, text: &str) {
    let faults = layer_faults(file, text);
    assert!(faults.is_empty(), "{text:?} gives {faults:?}");
}

#[test]
fn forbidden_module_is_found_in_every_syntax() {
    for text in [
        "use crate::hubspot;",
        "use crate::hubspot::HubspotClient;",
        "use crate::{hubspot::HubspotClient, trace};",
        "use crate::{\n    time::{self, WallClock},\n    hubspot::{self as client, Error},\n};",
        "pub use crate::hubspot as other;",
        "use crate::{self as root, hubspot};",
        "fn f(c: &crate::hubspot::HubspotClient) {}",
        "type A = Vec<crate::hubspot::Lead>;",
        "use super::super::hubspot::HubspotClient;",
        "use super::super::{hubspot};",
        "fn f() { super::super::hubspot::go() }",
        "mod inner { use super::super::super::hubspot::HubspotClient; }",
        "mod inner { mod deep {} fn f() { super::super::super::hubspot::go() } }",
        "macro_rules! m { () => { $crate::hubspot::go() } }",
        "#[derive(crate::hubspot::Macro)] struct A;",
    ] {
        assert_found("src/leads/call.rs", text, "`leads` must not name `hubspot`");
    }
    assert_found("src/leads.rs", "use super::hubspot;", "`leads` must not name `hubspot`");
}

#[test]
fn forbidden_crate_is_found_in_every_syntax() {
    for text in [
        "use reqwest;",
        "use reqwest::Client;",
        "use reqwest as web;",
        "use ::reqwest::Client;",
        "use {reqwest::Client, std::fmt};",
        "use reqwest::{self, Client};",
        "fn f() -> reqwest::Result<()> { g() }",
        "fn f() { ::reqwest::get(1) }",
        "impl From<reqwest::Error> for Error {}",
        "#[derive(Debug, reqwest::Magic)] struct A;",
    ] {
        assert_found("src/grpc/leads.rs", text, "must not name the crate `reqwest`");
    }
    assert_found("src/leads.rs", "use tonic::Status;", "must not name the crate `tonic`");
    assert_found("src/hubspot/client.rs", "use vaultrs::kv2;", "must not name the crate `vaultrs`");
    assert_found("src/app.rs", "use clap::Parser;", "must not name the crate `clap`");
}

#[test]
fn import_of_the_whole_crate_is_found() {
    for text in ["use crate::*;", "use crate as c;", "use super::super::*;", "use crate::{self};"] {
        assert_found("src/leads/call.rs", text, "names the crate as a whole");
    }
}

#[test]
fn a_module_without_a_row_is_found() {
    assert_found("src/helpers.rs", "", "`helpers` has no row");
    assert_found("src/helpers/strings.rs", "", "`helpers` has no row");
}

#[test]
fn text_that_only_looks_like_a_path_is_ignored() {
    for text in [
        "// use crate::hubspot::HubspotClient;",
        "/// See [`crate::hubspot::HubspotClient`].\nfn f() {}",
        "/* outer /* use crate::hubspot; */ use reqwest::Client; */",
        "const A: &str = \"crate::hubspot::x \\\" reqwest::y\";",
        "const A: &str = r#\"crate::hubspot \" reqwest::y\"#;",
        "const A: &[u8] = b\"reqwest::y\"; const B: char = '\"'; const C: &str = \"reqwest::y\";",
        "fn f<'reqwest>(x: &'reqwest str) -> &'reqwest str { x }",
        "const Q: char = '\\''; // reqwest::x",
    ] {
        assert_silent("src/leads/call.rs", text);
    }
}

#[test]
fn permitted_names_are_ignored() {
    for text in [
        "use super::{call::Call, error::Error};",
        "use crate::telemetry::trace_context::TraceContext;",
        "use crate::{leads::Lead, telemetry};",
        "use self::inner::A; mod inner { use super::B; pub struct A; }",
        "use std::fmt; use tokio::time::Instant; use async_trait::async_trait;",
        "fn f() -> impl Iterator + use<> { g() }",
        "pub(crate) struct A; pub(in crate::leads) struct B;",
        "fn f() { Self::g::<Vec<u8>>(); <A as B>::reqwest::<C>(); }",
    ] {
        assert_silent("src/leads/call.rs", text);
    }
}

#[test]
fn a_local_name_hides_a_crate_of_the_same_name() {
    assert_silent(
        "src/leads/call.rs",
        "mod tonic; use self::tonic::Status; fn f() { tonic::go() }",
    );
    assert_silent("src/leads/call.rs", "use super::wire::prost; fn f() { prost::parse() }");
    assert_found("src/leads/call.rs", "use axum::Router; mod x {}", "the crate `axum`");
}

#[test]
fn code_of_tests_is_exempt_and_code_after_it_is_not() {
    let hidden = "use crate::hubspot::HubspotClient;";
    for text in [
        format!("#[cfg(test)]\nmod tests {{ {hidden} }}"),
        format!("#[cfg(test)] {hidden}"),
        format!("#[cfg(all(test, unix))] mod tests {{ {hidden} }}"),
        format!("#![cfg(test)]\n{hidden}"),
        "#[cfg(test)] #[derive(Debug)] struct A { x: crate::hubspot::HubspotClient }".to_owned(),
        "struct A { #[cfg(test)] x: crate::hubspot::HubspotClient, y: u8 }".to_owned(),
        "#[cfg(test)] fn f<A, B>(x: crate::hubspot::HubspotClient) { crate::hubspot::go() }"
            .to_owned(),
    ] {
        assert_silent("src/leads/call.rs", &text);
        let after = format!("{}\n{hidden}", text.replace("#![", "#["));
        if after.starts_with("#[cfg(test)]\nuse") {
            continue;
        }
        assert_found("src/leads/call.rs", &after, "must not name `hubspot`");
    }
    assert_found("src/leads/call.rs", &format!("#[cfg(not(test))] {hidden}"), "must not name");
}

fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let read = |(file, text): &(&str, &str)| (PathBuf::from(file), source::production(text));
    cycles::cycles(&files.iter().map(read).collect::<Vec<_>>())
}

#[test]
fn files_of_a_folder_that_import_each_other_are_found() {
    let parent =
        ("src/a.rs", "//! A.\nmod b; mod c; mod d; pub use self::c::{self as sea, Thing};");
    for (b, c) in [
        ("use super::c::X;", "use super::b::Y;"),
        ("use crate::a::c;", "fn f() { crate::a::b::g() }"),
        // Through a name that the folder module re-exports.
        ("use super::Thing;", "use super::b;"),
        ("use super::{sea, d};", "use super::b;"),
    ] {
        let files = [parent, ("src/a/b.rs", b), ("src/a/c.rs", c), ("src/a/d.rs", "")];
        assert_eq!(circles_of(&files), ["src/a: b, c"], "{b} {c}");
    }
    // A file stands for its folder, at each level.
    let deep = [parent, ("src/a/b/x.rs", "use crate::a::c::X;"), ("src/a/c.rs", "use super::b;")];
    assert_eq!(circles_of(&deep), ["src/a: b, c"]);
    let top = [("src/a.rs", "use crate::b;"), ("src/b/c.rs", "use crate::a;")];
    assert_eq!(circles_of(&top), ["src: a, b"]);
    let other = [("crates/q/src/a.rs", "use crate::b;"), ("crates/q/src/b.rs", "use super::a;")];
    assert_eq!(circles_of(&other), ["crates/q/src: a, b"]);
}

#[test]
fn imports_in_one_direction_are_no_cycle() {
    let parent = ("src/a.rs", "mod b; mod c; pub use self::{b::B, c::C}; struct Own;");
    for (b, c) in [
        ("use super::c::X;", "use super::Own;"),
        ("use super::{C, Own};", ""),
        // The same name elsewhere is something else.
        ("use super::c::X;", "use crate::other::b;"),
        ("use super::B;", "use super::C;"),
    ] {
        let files = [parent, ("src/a/b.rs", b), ("src/a/c.rs", c)];
        assert_eq!(circles_of(&files), Vec::<String>::new(), "{b} {c}");
    }
}

fn rust_faults(file: &str, text: &str) -> Vec<String> {
    rules::rust_faults(Path::new(file), text, &source::production(text))
}

#[test]
fn a_file_without_a_purpose_is_found() {
    assert!(rust_faults("src/a.rs", "//! Says why.\n").is_empty());
    for text in ["", "use std::fmt;\n", "// Why.\n", "/// Why.\n", "\n//! Why.\n", "//!\n"] {
        assert_eq!(rust_faults("src/a.rs", text).len(), 1, "{text:?}");
    }
}

#[test]
fn mod_rs_is_found() {
    assert_eq!(rust_faults("src/a/mod.rs", "//! Why.\n").len(), 1);
    assert!(rust_faults("src/a/modem.rs", "//! Why.\n").is_empty());
}

#[test]
fn file_over_the_maximum_is_found_without_counting_tests() {
    let long = |lines: usize| format!("//! Why.\n{}", "fn f() {}\n".repeat(lines - 1));
    assert!(rust_faults("src/a.rs", &long(rules::MAX_LINES)).is_empty());
    assert_eq!(rust_faults("src/a.rs", &long(rules::MAX_LINES + 1)).len(), 1);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "fn t() {}\n".repeat(900));
    assert!(rust_faults("src/a.rs", &(long(rules::MAX_LINES) + &tests)).is_empty());
    // Code that hides behind the tests counts again.
    let behind = long(rules::MAX_LINES) + &tests + "fn f() {}\n";
    assert_eq!(rust_faults("src/a.rs", &behind).len(), 1);
}

#[test]
fn module_without_a_page_of_rustdoc_is_found() {
    let fault = |text: &str| rules::page_fault(Path::new("src/a.rs"), text);
    assert!(fault("//! Purpose.\n//!\n//! Must not know.\nuse b;\n").is_none());
    assert!(fault("//! Purpose.\n//! More.\n\n//! Apart.\n").is_some());
}

#[test]
fn the_median_is_the_middle_of_all_lengths() {
    assert_eq!(rules::median(vec![900, 1, 2]), 2);
    assert_eq!(rules::median(Vec::new()), 0);
}

#[test]
fn a_test_ignored_without_a_reason_is_found() {
    for text in [
        "//! A.\n#[test]\n#[ignore]\nfn f() {}\n",
        "//! A.\n#[ignore = \"\"]\nfn f() {}\n",
        "//! A.\n#[ignore = \"  \"]\nfn f() {}\n",
        "//! A.\n#[cfg_attr(unix, ignore)]\nfn f() {}\n",
    ] {
        assert_eq!(rust_faults("tests/a.rs", text).len(), 1, "{text:?}");
    }
    for text in [
        "//! A.\n#[ignore = \"needs bao\"]\nfn f() {}\n",
        "//! A.\n#[cfg_attr(unix, ignore = \"needs bao\")]\nfn f() {}\n",
        "//! A.\n// #[ignore]\nfn ignore(x: [u8; 1]) { g(x, ignore()) }\n",
    ] {
        assert!(rust_faults("tests/a.rs", text).is_empty(), "{text:?}");
    }
}

fn text_faults(text: &str) -> usize {
    rules::text_faults(Path::new("a.md"), text).len()
}

#[test]
fn forbidden_text_is_found() {
    for text in [
        concat!("// TO", "DO: later\n"),
        concat!("# FIX", "ME\n"),
        concat!("see (TO", "DO)\n"),
        concat!("cp /ro", "ot/.config x\n"),
        concat!("path = \"/ho", "me/anna/x\"\n"),
        concat!("`/Us", "ers/anna/x`\n"),
        "<<<<<<< ours\n",
        "a\n>>>>>>> theirs\n",
        "blank at the end \n",
        "carriage return\r\n",
        "no newline",
    ] {
        assert_eq!(text_faults(text), 1, "{text:?}");
    }
    for text in [
        "",
        "fine\n",
        concat!("TO", "DOS and METHO", "DO are words\n"),
        concat!("https://host.example/ho", "me/page\n"),
        concat!("src/wo", "rk/x.rs\n"),
        "Title\n=======\n",
    ] {
        assert_eq!(text_faults(text), 0, "{text:?}");
    }
}

#[test]
fn broken_links_and_paths_are_found() {
    let exists = |path: &Path| path == Path::new("docs/A.md") || path == Path::new("src/a.rs");
    let faults = |file: &str, text: &str| rules::broken_links(Path::new(file), text, exists).len();
    assert_eq!(faults("README.md", "[a](docs/A.md) [b](docs/A.md#part) `src/a.rs`\n"), 0);
    assert_eq!(faults("docs/B.md", "[a](A.md) [b](#part) [c](https://host.example/x)\n"), 0);
    assert_eq!(faults("README.md", "`cargo run` `src/*.rs` `other/path`\n"), 0);
    assert_eq!(faults("README.md", "```\n[a](docs/gone.md) `src/gone.rs`\n```\n"), 0);
    assert_eq!(faults("README.md", "[a](docs/gone.md)\n"), 1);
    assert_eq!(faults("docs/B.md", "[a](docs/A.md)\n"), 1);
    assert_eq!(faults("README.md", "read `src/gone.rs` and `src/a.rs`\n"), 1);
}

#[test]
fn a_row_without_an_existing_test_is_found() {
    let code = ["#[tokio::test(start_paused = true)]\nasync fn it_recovers() {}\nfn helper() {}\n"];
    let faults = |rows: &str| {
        let page = format!("Text.\n\n| Scenario | Test |\n|---|---|\n{rows}");
        rules::missing_tests(&page, &code)
    };
    assert!(faults("| A `fault` | `it_recovers` |\n").is_empty());
    assert_eq!(faults("| A | `it_recovers`, `it_fails` |\n"), ["no test `it_fails`"]);
    assert_eq!(faults("| A | `helper` |\n"), ["no test `helper`"]);
    assert_eq!(faults("| A `fault` | by hand |\n").len(), 1);
    assert_eq!(rules::missing_tests("No table.", &code).len(), 1);
}

#[test]
fn a_finding_without_a_complete_row_is_found() {
    let row = "| 1 | A fault | slow | fast | `it_recovers` |\n";
    let faults = |rows: &str| rules::missing_findings(&format!("Text.\n\n{rows}"), 2);
    assert!(faults(&format!("{row}{}", row.replace('1', "2"))).is_empty());
    let second = "finding 2 has no complete row";
    for other in
        ["", "| 2 | A fault | | fast | `it_recovers` |\n", "| 2 | A fault | slow | fast |\n", row]
    {
        assert_eq!(faults(&format!("{row}{other}")), [second], "{other}");
    }
}

#[test]
fn old_public_name_is_found_outside_of_the_lists_of_renames() {
    let text = "fine\nset LEADSD_QUOTA__MAX_WAITING=5\n";
    let faults = old_names::faults(Path::new("docs/USING.md"), text);
    assert_eq!(faults, ["docs/USING.md:2: `QUOTA__MAX_WAITING` was renamed"]);
    assert!(old_names::faults(Path::new("CHANGELOG.md"), text).is_empty());
    let plain = "its share of the queue; quota.max_queue; leadsd_quota_limit; trouble";
    assert!(old_names::faults(Path::new("docs/USING.md"), plain).is_empty());
}
