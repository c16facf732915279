//! Mutated configuration files and environments: an invalid one is an error with a key, and a valid
//! one can be printed.

use std::fmt::Write as _;

use leadsd::config::{Loaded, schema};

use crate::{random::Random, run::Run};

const EXAMPLE: &str = include_str!("../../leadsd.example.toml");

/// Values that are valid for some key.
const VALUES: [&str; 24] = [
    "1s",
    "0s",
    "100ms",
    "1h",
    "4MiB",
    "1KiB",
    "10",
    "0.5",
    "true",
    "127.0.0.1:1",
    "0.0.0.0:1",
    "http://a:1",
    "https://a:b@c/d",
    "redis://x",
    "info",
    "json",
    "v3",
    "[\"*\"]",
    "[\"a\", \"b*\"]",
    "Europe/Berlin",
    "/a/b",
    "hubspot/default",
    "99999999999999999999999999999999s",
    "18446744073709551615GiB",
];

#[test]
fn configuration() {
    let mut run = Run::blocking("configuration");
    let keys = keys();
    assert!(keys.len() > 80, "{keys:?}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leadsd.toml");
    let (mut right, mut wrong) = (0, 0);
    while let Some(mut random) = run.next() {
        std::fs::write(&path, file(&mut random)).unwrap();
        let environment = environment(&mut random, &keys);
        match Loaded::new(Some(&path), environment) {
            Ok(loaded) => {
                right += 1;
                let printed = loaded.print();
                assert!(!printed.is_empty(), "{}", run.failure("prints nothing"));
                // The printed configuration is valid and has the same effective values.
                std::fs::write(&path, &printed).unwrap();
                let again = Loaded::new(Some(&path), []);
                let what = run.failure(&printed);
                if !printed.contains("[redacted]") {
                    let again = again.expect(&what).print();
                    assert_eq!(without_origins(&again), without_origins(&printed), "{what}");
                }
            }
            Err(faults) => {
                wrong += 1;
                let said = faults.to_string();
                assert!(
                    !faults.0.is_empty() && !said.is_empty(),
                    "{}",
                    run.failure("says nothing")
                );
            }
        }
    }
    println!("configuration: {right} right, {wrong} wrong");
    assert!(schema().is_object());
}

/// Environment variable of every key in the example.
fn keys() -> Vec<String> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in EXAMPLE.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.replace('.', "__").to_uppercase();
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            keys.push(format!("LEADSD_{section}__{}", key.to_uppercase()));
        }
    }
    keys
}

fn value(random: &mut Random) -> String {
    match random.below(4) {
        // The log filter has a separate syntax and a separate target.
        3 => random.mutated("info,leadsd[rpc{a=1}]=debug,hyper=é"),
        0 if random.one_in(8) => {
            random.pick(&["[", "{a=", "[\"é\\", "\"ä"]).repeat(random.below(3_000))
        }
        0 => random.text(),
        1 => {
            let value = *random.pick(&VALUES);
            random.mutated(value)
        }
        _ => (*random.pick(&VALUES)).to_owned(),
    }
}

/// The example with some keys enabled, mutated or broken, and the required keys set.
fn file(random: &mut Random) -> Vec<u8> {
    let mut text = String::new();
    let calm = random.below(60) + 2;
    for line in EXAMPLE.lines() {
        let commented = line.strip_prefix("# ");
        let key = commented.unwrap_or(line).split_once(" = ");
        let is_key = |key: &str| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let line = match (key, commented) {
            (Some((key, _)), _) if is_key(key) && random.one_in(calm) => {
                let value = value(random);
                format!("{key} = {}", if random.one_in(2) { format!("{value:?}") } else { value })
            }
            (Some((key, old)), Some(_)) if is_key(key) && random.one_in(calm) => {
                format!("{key} = {old}")
            }
            (None, Some(header)) if header.starts_with('[') && random.one_in(calm) => {
                header.to_owned()
            }
            _ => line.to_owned(),
        };
        let _ = writeln!(text, "{line}");
        match line.as_str() {
            "[vault]" => text.push_str("address = \"https://vault.example:8200\"\n"),
            "[vault.auth]" => text.push_str("method = \"token\"\nfile = \"/nowhere\"\n"),
            _ => {}
        }
    }
    text.push_str("[portals.main]\nsecret = \"hubspot/main\"\n");
    let mut bytes = text.into_bytes();
    if random.one_in(8) {
        random.mutate(&mut bytes);
    }
    bytes
}

fn environment(random: &mut Random, keys: &[String]) -> Vec<(String, String)> {
    let times = if random.one_in(2) { 0 } else { random.below(4) };
    let one = |_| {
        let key = random.pick(keys).clone();
        let key = if random.one_in(4) { "LEADSD_LOG__LEVEL".to_owned() } else { key };
        let key = if random.one_in(6) { format!("LEADSD_{}", random.text()) } else { key };
        (key, value(random))
    };
    (0..times).map(one).collect()
}

/// Returns the lines without the comments that say where each value is from.
fn without_origins(printed: &str) -> Vec<&str> {
    printed.lines().map(|line| line.split_once("  # ").map_or(line, |(value, _)| value)).collect()
}
