//! Consistency of default file, types, validation, schema and reference page.

use std::{collections::BTreeSet, path::Path};

use toml::Value;

use super::{
    super::{
        annotated_toml::{KeySpec, Section, SectionKind, range, sections},
        reference_page,
        renamed::RENAMED_KEYS,
        schema::CHOICES,
        units::{parse_duration, parse_size},
    },
    *,
};

fn all() -> Vec<Section> {
    sections(load::DEFAULTS)
}

/// Error of a key with this value, together with the examples of its section; `None` if it is valid.
fn error_of_value(section: &Section, key: &str, value: &str) -> Option<String> {
    let table = match section.kind {
        SectionKind::Named => format!("{}.some", section.path),
        SectionKind::Always | SectionKind::Optional | SectionKind::Map => section.path.clone(),
    };
    let others = section.keys.iter().filter(|other| other.name != key);
    let others: String =
        others.map(|other| format!("{} = {}\n", other.name, other.value)).collect();
    let text = format!("[{table}]\n{key} = {value}\n{others}");
    let path = format!("{table}.{key}");
    let Err(ConfigErrors(errors)) = load(&text, &[]) else { return None };
    errors.into_iter().find(|error| error.key == path).map(|error| error.what)
}

fn keys() -> impl Iterator<Item = (Section, KeySpec)> {
    all()
        .into_iter()
        .flat_map(|section| section.keys.clone().into_iter().map(move |key| (section.clone(), key)))
}

#[test]
fn the_file_documents_exactly_the_known_keys() {
    let sections = all();
    let inside = |path: &str| -> BTreeSet<String> {
        let prefix = format!("{path}.");
        let deeper = sections.iter().filter_map(|s| s.path.strip_prefix(&prefix));
        deeper.filter_map(|rest| rest.split('.').next()).map(str::to_owned).collect()
    };
    let mut paths: BTreeSet<String> = sections.iter().map(|s| s.path.clone()).collect();
    paths.insert("auth".to_owned());
    for path in paths {
        let Some(section) = sections.iter().find(|section| section.path == path) else { continue };
        if section.kind == SectionKind::Map {
            continue;
        }
        let said = error_of_value(section, "no_such_key", "1").expect("an unknown key is an error");
        let known = said.split_once("known keys: ").expect("it names the known ones").1;
        let known: BTreeSet<String> = known.split(", ").map(str::to_owned).collect();
        let mut documented = inside(&path);
        documented.extend(section.keys.iter().map(|key| key.name.clone()));
        assert_eq!(documented, known, "[{path}]");
    }
    let said = errors("no_such_section = 1", &[]);
    let known = said.iter().find_map(|said| said.split_once("known keys: ")).unwrap().1;
    let known: BTreeSet<&str> = known.split(", ").collect();
    let documented: BTreeSet<&str> =
        sections.iter().filter_map(|section| section.path.split('.').next()).collect();
    assert_eq!(documented, known);
}

#[test]
fn every_key_is_documented() {
    for section in all() {
        for key in &section.keys {
            let map = section.kind == SectionKind::Map;
            assert!(map || key.about.len() > 10, "{}.{}", section.path, key.name);
        }
    }
    assert!(keys().count() > 80);
}

#[test]
fn documented_ranges_are_enforced() {
    let mut checked = 0;
    for (section, key) in keys() {
        let about = if section.kind == SectionKind::Map { &section.about } else { &key.about };
        let path = format!("{}.{}", section.path, key.name);
        let refused = |value: &str| {
            let said = error_of_value(&section, &key.name, value);
            said.is_some_and(|said| said.starts_with("must be "))
        };
        let none = || panic!("{path} does not say its range");
        let (inside, outside) = match &key.value {
            Value::Integer(_) => {
                let number = |text: &str| text.parse::<i64>().ok();
                let ends = range(about, |end| number(end).is_some()).unwrap_or_else(none);
                let (min, max) = (number(ends.0).unwrap(), number(ends.1).unwrap());
                (vec![min.to_string(), max.to_string()], vec![min - 1, max + 1])
            }
            Value::String(text) if parse_duration(text).is_some() => {
                let ms = |text: &str| parse_duration(text).map(|found| found.as_millis());
                let ends = range(about, |end| ms(end).is_some()).unwrap_or_else(none);
                let (min, max) = (ms(ends.0).unwrap(), ms(ends.1).unwrap());
                let outside = [min.checked_sub(1), Some(max + 1)].into_iter().flatten();
                let text = |ms: u128| i64::try_from(ms).unwrap();
                (vec![quoted(min), quoted(max)], outside.map(text).collect())
            }
            Value::String(text) if parse_size(text).is_some() => {
                let ends = range(about, |end| parse_size(end).is_some()).unwrap_or_else(none);
                let (min, max) = (parse_size(ends.0).unwrap(), parse_size(ends.1).unwrap());
                for bad in [min - 1, max + 1] {
                    assert!(refused(&format!("\"{bad}B\"")), "{path}: {bad}");
                }
                (vec![format!("\"{min}B\""), format!("\"{max}B\"")], Vec::new())
            }
            Value::String(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_)
            | Value::Table(_) => continue,
        };
        for valid in inside {
            assert!(!refused(&valid), "{path} = {valid} is rejected");
        }
        for bad in outside {
            let integer = matches!(key.value, Value::Integer(_));
            let bad = if integer { bad.to_string() } else { format!("\"{bad}ms\"") };
            assert!(refused(&bad), "{path} = {bad} is accepted");
        }
        checked += 1;
    }
    assert!(checked > 30, "only {checked} ranges");
}

fn quoted(ms: u128) -> String {
    format!("\"{ms}ms\"")
}

#[test]
fn only_documented_choices_are_accepted() {
    for (path, choices) in CHOICES {
        let found = keys().find(|(section, key)| format!("{}.{}", section.path, key.name) == path);
        let (section, key) = found.unwrap_or_else(|| panic!("there is no key {path}"));
        for choice in choices {
            let said = error_of_value(&section, &key.name, &format!("\"{choice}\""));
            assert!(!said.as_ref().is_some_and(|said| said.starts_with("must be")), "{said:?}");
            let quoted = key.about.contains(choice) || section.about.contains(choice);
            assert!(quoted, "{path} does not mention {choice}");
        }
        let said = error_of_value(&section, &key.name, "\"something else\"");
        assert!(said.is_some_and(|said| said.starts_with("must be")), "{path}");
    }
}

#[test]
fn examples_are_valid_values() {
    for (section, key) in keys().filter(|(section, _)| section.kind != SectionKind::Map) {
        let said = error_of_value(&section, &key.name, &key.value.to_string());
        let bad =
            said.filter(|said| said.starts_with("must ") || said.starts_with("is not a known key"));
        assert_eq!(bad, None, "{}.{}", section.path, key.name);
    }
}

#[test]
fn the_page_is_generated_from_the_file() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIG.md");
    let page = reference_page::page(&all());
    if std::env::var_os("LEADSD_BLESS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == page,
        "docs/CONFIG.md is old; LEADSD_BLESS=1 cargo test config writes it anew"
    );
}

#[test]
fn the_schema_has_every_section_and_key_with_type_default_and_range() {
    let schema = schema();
    let at = |pointer: &str| schema.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
    let inputs = at("/properties/grpc/properties/max_batch_inputs");
    assert_eq!(inputs["type"], "integer");
    assert_eq!((&inputs["minimum"], &inputs["maximum"]), (&1.into(), &100_000.into()));
    assert_eq!(inputs["default"], 10_000);
    let access = at("/properties/policy/additionalProperties/properties/access");
    assert_eq!(access["enum"], serde_json::json!(["none", "read", "write"]));
    let weight = at("/properties/quota/properties/weights/additionalProperties");
    assert_eq!((&weight["minimum"], &weight["maximum"]), (&1.into(), &1_000.into()));
    let method = at("/properties/vault/properties/auth/properties/method");
    assert_eq!(method["enum"].as_array().unwrap().len(), 7);
    for (section, key) in keys() {
        let mut pointer = format!("/properties/{}", section.path.replace('.', "/properties/"));
        pointer.push_str(match section.kind {
            SectionKind::Always | SectionKind::Optional => "/properties/",
            SectionKind::Named => "/additionalProperties/properties/",
            SectionKind::Map => continue,
        });
        let found = at(&format!("{pointer}{}", key.name));
        assert!(found["type"].is_string(), "{found}");
        assert_eq!(found["description"], key.about);
        assert_eq!(found.get("default").is_some(), key.has_default);
    }
}

#[test]
fn the_new_names_of_renamed_keys_are_keys() {
    let sections = all();
    for (old, new) in RENAMED_KEYS {
        let is_key = match new.rsplit_once('.') {
            Some((path, key)) => {
                let path = path.strip_suffix(".*").unwrap_or(path);
                let section = sections.iter().find(|section| section.path == path);
                section.is_some_and(|section| {
                    section.kind == SectionKind::Map
                        || section.keys.iter().any(|known| known.name == key)
                })
            }
            None => false,
        };
        assert!(is_key || sections.iter().any(|section| section.path == new), "{old} -> {new}");
    }
}

#[test]
fn print_shows_the_default_of_every_key_that_has_one() {
    let text = r#"
[grpc.tls]
cert_file = "/tls.crt"
key_file = "/tls.key"
client_ca_file = "/ca.crt"
[vault]
address = "https://vault.example:8200"
[vault.auth]
method = "approle"
role_id_file = "/role-id"
secret_id_file = "/secret-id"
[auth.jwt]
issuer = "https://issuer.example"
audience = "leadsd"
jwks_url = "https://issuer.example/jwks"
[policy.all]
callers = ["*"]
portals = ["*"]
access = "read"
[portals.default]
"#;
    let print = load(text, &[]).unwrap().print();
    let lines: BTreeSet<&str> = print.lines().collect();
    for (section, key) in keys().filter(|(section, _)| section.kind != SectionKind::Map) {
        let stated = key.about.rsplit_once("Default: ").map(|(_, default)| default);
        if key.has_default || stated.is_none_or(|stated| stated.starts_with("for ")) {
            continue;
        }
        let line = lines.iter().find(|line| {
            line.strip_prefix(key.name.as_str()).is_some_and(|rest| rest.starts_with(" = "))
                && line.ends_with("# default")
        });
        assert!(line.is_some(), "{}.{} in\n{print}", section.path, key.name);
    }
    for line in [
        r#"client_auth = "require"  # default"#,
        r#"mount = "approle"  # default"#,
        r#"refresh_interval = "5m"  # default"#,
        r#"caller_claim = "sub"  # default"#,
        r#"secret = "hubspot/default"  # default"#,
        r#"time_zone = "UTC"  # default"#,
    ] {
        assert!(lines.contains(line), "{line} in\n{print}");
    }
    let method = "method = \"kubernetes\"\nrole = \"leadsd\"";
    let text = GOOD.replace("method = \"token_file\"\nfile = \"/vault/token\"", method);
    let print = load(&text, &[]).unwrap().print();
    assert!(print.contains("serviceaccount/token\"  # default"), "{print}");
}

#[test]
fn a_password_in_a_url_is_not_printed() {
    let text =
        format!("{GOOD}\n[grpc]\nerror_docs_url = \"https://me:hunter2@docs.example/errors\"\n");
    let print = load(&text, &[]).unwrap().print();
    assert!(!print.contains("hunter2"), "{print}");
    assert!(
        print.contains("error_docs_url = \"https://[redacted]@docs.example/errors\""),
        "{print}"
    );
    let text = format!("{GOOD}\n[grpc]\nerror_docs_url = \"https://docs.example/a@b\"\n");
    assert!(load(&text, &[]).unwrap().print().contains("https://docs.example/a@b"));
}
