//! The default file, the types, the checks, the schema and the page say the same.

use std::{collections::BTreeSet, path::Path};

use toml::Value;

use super::{
    super::{
        annotated_toml::{Key, Kind, Section, range, sections},
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

/// What is wrong with a key that has this value, in the company of the others of its section; nothing
/// if all is well with it.
fn fault_of(section: &Section, key: &str, value: &str) -> Option<String> {
    let table = match section.kind {
        Kind::Named => format!("{}.some", section.path),
        Kind::Always | Kind::Optional | Kind::Map => section.path.clone(),
    };
    let others = section.keys.iter().filter(|other| other.name != key);
    let others: String =
        others.map(|other| format!("{} = {}\n", other.name, other.value)).collect();
    let text = format!("[{table}]\n{key} = {value}\n{others}");
    let path = format!("{table}.{key}");
    let Err(ConfigErrors(faults)) = load(&text, &[]) else { return None };
    faults.into_iter().find(|fault| fault.key == path).map(|fault| fault.what)
}

fn keys() -> impl Iterator<Item = (Section, Key)> {
    all()
        .into_iter()
        .flat_map(|section| section.keys.clone().into_iter().map(move |key| (section.clone(), key)))
}

#[test]
fn the_file_documents_the_keys_that_are_read_and_no_others() {
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
        if section.kind == Kind::Map {
            continue;
        }
        let said = fault_of(section, "no_such_key", "1").expect("an unknown key is a fault");
        let known = said.split_once("known here are: ").expect("it names the known ones").1;
        let known: BTreeSet<String> = known.split(", ").map(str::to_owned).collect();
        let mut documented = inside(&path);
        documented.extend(section.keys.iter().map(|key| key.name.clone()));
        assert_eq!(documented, known, "[{path}]");
    }
    let said = faults("no_such_section = 1", &[]);
    let known = said.iter().find_map(|said| said.split_once("known here are: ")).unwrap().1;
    let known: BTreeSet<&str> = known.split(", ").collect();
    let documented: BTreeSet<&str> =
        sections.iter().filter_map(|section| section.path.split('.').next()).collect();
    assert_eq!(documented, known);
}

#[test]
fn every_section_and_key_says_what_it_is() {
    for section in all() {
        for key in &section.keys {
            let map = section.kind == Kind::Map;
            assert!(map || key.about.len() > 10, "{}.{}", section.path, key.name);
        }
    }
    assert!(keys().count() > 80);
}

#[test]
fn ranges_hold_as_they_are_documented() {
    let mut checked = 0;
    for (section, key) in keys() {
        let about = if section.kind == Kind::Map { &section.about } else { &key.about };
        let path = format!("{}.{}", section.path, key.name);
        let refused = |value: &str| {
            let said = fault_of(&section, &key.name, value);
            said.is_some_and(|said| said.starts_with("must be "))
        };
        let none = || panic!("{path} does not say its range");
        let (inside, outside) = match &key.value {
            Value::Integer(_) => {
                let number = |text: &str| text.parse::<i64>().ok();
                let ends = range(about, |end| number(end).is_some()).unwrap_or_else(none);
                let (least, most) = (number(ends.0).unwrap(), number(ends.1).unwrap());
                (vec![least.to_string(), most.to_string()], vec![least - 1, most + 1])
            }
            Value::String(text) if parse_duration(text).is_some() => {
                let ms = |text: &str| parse_duration(text).map(|found| found.as_millis());
                let ends = range(about, |end| ms(end).is_some()).unwrap_or_else(none);
                let (least, most) = (ms(ends.0).unwrap(), ms(ends.1).unwrap());
                let outside = [least.checked_sub(1), Some(most + 1)].into_iter().flatten();
                let text = |ms: u128| i64::try_from(ms).unwrap();
                (vec![quoted(least), quoted(most)], outside.map(text).collect())
            }
            Value::String(text) if parse_size(text).is_some() => {
                let ends = range(about, |end| parse_size(end).is_some()).unwrap_or_else(none);
                let (least, most) = (parse_size(ends.0).unwrap(), parse_size(ends.1).unwrap());
                for bad in [least - 1, most + 1] {
                    assert!(refused(&format!("\"{bad}B\"")), "{path}: {bad}");
                }
                (vec![format!("\"{least}B\""), format!("\"{most}B\"")], Vec::new())
            }
            Value::String(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_)
            | Value::Table(_) => continue,
        };
        for good in inside {
            assert!(!refused(&good), "{path} = {good} is refused");
        }
        for bad in outside {
            let integer = matches!(key.value, Value::Integer(_));
            let bad = if integer { bad.to_string() } else { format!("\"{bad}ms\"") };
            assert!(refused(&bad), "{path} = {bad} is taken");
        }
        checked += 1;
    }
    assert!(checked > 30, "only {checked} ranges");
}

fn quoted(ms: u128) -> String {
    format!("\"{ms}ms\"")
}

#[test]
fn choices_are_taken_and_others_are_not() {
    for (path, choices) in CHOICES {
        let found = keys().find(|(section, key)| format!("{}.{}", section.path, key.name) == path);
        let (section, key) = found.unwrap_or_else(|| panic!("there is no key {path}"));
        for choice in choices {
            let said = fault_of(&section, &key.name, &format!("\"{choice}\""));
            assert!(!said.as_ref().is_some_and(|said| said.starts_with("must be")), "{said:?}");
            let quoted = key.about.contains(choice) || section.about.contains(choice);
            assert!(quoted, "{path} does not mention {choice}");
        }
        let said = fault_of(&section, &key.name, "\"something else\"");
        assert!(said.is_some_and(|said| said.starts_with("must be")), "{path}");
    }
}

#[test]
fn examples_are_good_values() {
    for (section, key) in keys().filter(|(section, _)| section.kind != Kind::Map) {
        let said = fault_of(&section, &key.name, &key.value.to_string());
        let bad = said.filter(|said| said.starts_with("must ") || said.starts_with("is not a key"));
        assert_eq!(bad, None, "{}.{}", section.path, key.name);
    }
}

#[test]
fn the_page_is_what_the_file_says() {
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
            Kind::Always | Kind::Optional => "/properties/",
            Kind::Named => "/additionalProperties/properties/",
            Kind::Map => continue,
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
                    section.kind == Kind::Map || section.keys.iter().any(|known| known.name == key)
                })
            }
            None => false,
        };
        assert!(is_key || sections.iter().any(|section| section.path == new), "{old} -> {new}");
    }
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
