//! The configuration file and the environment: what is wrong is a fault with a key, and what is right
//! can be printed.

use std::fmt::Write as _;

use leadsd::config::{Loaded, schema};

use crate::{dice::Dice, run::Run};

const EXAMPLE: &str = include_str!("../../leadsd.example.toml");

/// Values that some key somewhere takes.
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
    while let Some(mut dice) = run.next() {
        std::fs::write(&path, file(&mut dice)).unwrap();
        let environment = environment(&mut dice, &keys);
        match Loaded::new(Some(&path), environment) {
            Ok(loaded) => {
                right += 1;
                let printed = loaded.print();
                assert!(!printed.is_empty(), "{}", run.blame("prints nothing"));
                // What it prints is a configuration, and the same one.
                std::fs::write(&path, &printed).unwrap();
                let again = Loaded::new(Some(&path), []).map(|again| format!("{:?}", again.config));
                let what = run.blame(&printed);
                if !printed.contains("[redacted]") {
                    assert_eq!(again.expect(&what), format!("{:?}", loaded.config), "{what}");
                }
            }
            Err(faults) => {
                wrong += 1;
                let said = faults.to_string();
                assert!(!faults.0.is_empty() && !said.is_empty(), "{}", run.blame("says nothing"));
            }
        }
    }
    println!("configuration: {right} right, {wrong} wrong");
    assert!(schema().is_object());
}

/// Every key of the example as its variable has it.
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

fn value(dice: &mut Dice) -> String {
    match dice.below(4) {
        // A filter of the log is a language of its own.
        3 => dice.spoilt("info,leadsd[rpc{a=1}]=debug,hyper=é"),
        0 if dice.one_in(8) => dice.pick(&["[", "{a=", "[\"é\\", "\"ä"]).repeat(dice.below(3_000)),
        0 => dice.text(),
        1 => {
            let value = *dice.pick(&VALUES);
            dice.spoilt(value)
        }
        _ => (*dice.pick(&VALUES)).to_owned(),
    }
}

/// The example with some of its keys turned on, changed or broken, and enough to be right otherwise.
fn file(dice: &mut Dice) -> Vec<u8> {
    let mut text = String::new();
    let calm = dice.below(60) + 2;
    for line in EXAMPLE.lines() {
        let commented = line.strip_prefix("# ");
        let key = commented.unwrap_or(line).split_once(" = ");
        let is_key = |key: &str| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let line = match (key, commented) {
            (Some((key, _)), _) if is_key(key) && dice.one_in(calm) => {
                let value = value(dice);
                format!("{key} = {}", if dice.one_in(2) { format!("{value:?}") } else { value })
            }
            (Some((key, old)), Some(_)) if is_key(key) && dice.one_in(calm) => {
                format!("{key} = {old}")
            }
            (None, Some(header)) if header.starts_with('[') && dice.one_in(calm) => {
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
    if dice.one_in(8) {
        dice.spoil(&mut bytes);
    }
    bytes
}

fn environment(dice: &mut Dice, keys: &[String]) -> Vec<(String, String)> {
    let times = if dice.one_in(2) { 0 } else { dice.below(4) };
    let one = |_| {
        let key = dice.pick(keys).clone();
        let key = if dice.one_in(4) { "LEADSD_LOG__LEVEL".to_owned() } else { key };
        let key = if dice.one_in(6) { format!("LEADSD_{}", dice.text()) } else { key };
        (key, value(dice))
    };
    (0..times).map(one).collect()
}
