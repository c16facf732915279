//! Renamed and removed keys: each is an error that names the key to use.

use figment::{
    Figment,
    value::{Dict, Value},
};

use super::error::{ConfigError, ENVIRONMENT, origin};

/// Old keys with their new names; `*` stands for any name. Nothing was released under an old name, so
/// the old keys have no effect.
pub(super) const RENAMED_KEYS: [(&str, &str); 13] = [
    ("grpc.error_catalogue", "grpc.error_docs_url"),
    ("hubspot.max_answer_size", "hubspot.max_response_size"),
    ("credentials.heartbeat", "credentials.suspended_retry_interval"),
    ("quota.max_waiting", "quota.max_queue"),
    ("quota.group_commit", "quota.batching"),
    ("quota.shared.replicas", "quota.shared.expected_replicas"),
    ("quota.shares", "quota.weights"),
    ("quota.shares.*", "quota.weights.*"),
    ("auth.jwt.refresh", "auth.jwt.refresh_interval"),
    ("policy.*.share", "policy.*.weight"),
    ("portals_from", "portal_discovery"),
    ("portals_from.folder", "portal_discovery.path"),
    ("portals_from.request_id_property", "portal_discovery.request_id_property"),
];

/// Removed keys, with what to do instead. The text completes "was removed; ".
pub(super) const REMOVED_KEYS: [(&str, &str); 2] = [
    ("hubspot.rejection_cache_ttl", VALIDATE_INSTEAD),
    ("hubspot.remember_refusals", VALIDATE_INSTEAD),
];

const VALIDATE_INSTEAD: &str =
    "set hubspot.validate = \"enforce\" to refuse invalid writes without a HubSpot call";

/// Reports the renamed and removed keys in `values`. Their values move to the new keys, so that a required key is
/// not reported as missing as well.
pub(super) fn report_renamed(values: &mut Dict, figment: &Figment) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    for path in leaves(values) {
        let key = path.join(".");
        if let Some((_, instead)) = REMOVED_KEYS.iter().find(|(removed, _)| *removed == key) {
            let (origin, what) = (origin(figment, &key), format!("was removed; {instead}"));
            errors.push(ConfigError { key, origin, what });
            take(values, &path);
            continue;
        }
        let Some(new) = new_path(&path) else { continue };
        let origin = origin(figment, &key);
        let instead = match origin.starts_with(ENVIRONMENT) {
            true => format!("; set {} instead", variable(&new)),
            false => String::new(),
        };
        let what = format!("was renamed to {}{instead}", new.join("."));
        errors.push(ConfigError { key, origin, what });
        if let Some(value) = take(values, &path) {
            insert(values, &new, value);
        }
    }
    errors
}

/// Environment variable of a key.
pub(super) fn variable(path: &[String]) -> String {
    format!("LEADSD_{}", path.join("__").to_uppercase())
}

/// Paths of all values that are not tables, and of empty tables.
fn leaves(values: &Dict) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for (name, value) in values {
        let inner = value.as_dict().filter(|inner| !inner.is_empty());
        let Some(inner) = inner else {
            paths.push(vec![name.clone()]);
            continue;
        };
        paths.extend(leaves(inner).into_iter().map(|mut path| {
            path.insert(0, name.clone());
            path
        }));
    }
    paths
}

/// New path of a renamed key. `None` if the key was not renamed.
fn new_path(path: &[String]) -> Option<Vec<String>> {
    RENAMED_KEYS.iter().find_map(|(old, new)| {
        let old: Vec<&str> = old.split('.').collect();
        let is_match = old.len() == path.len()
            && old.iter().zip(path).all(|(old, name)| *old == "*" || old == name);
        let mut names = old.iter().zip(path).filter(|(old, _)| **old == "*").map(|(_, name)| name);
        is_match.then(|| {
            let fill = |part: &str| match part {
                "*" => names.next().cloned().unwrap_or_default(),
                part => part.to_owned(),
            };
            new.split('.').map(fill).collect()
        })
    })
}

/// Removes the value at `path`, and tables that become empty.
fn take(values: &mut Dict, path: &[String]) -> Option<Value> {
    let (name, rest) = path.split_first()?;
    if rest.is_empty() {
        return values.remove(name);
    }
    let Some(Value::Dict(_, inner)) = values.get_mut(name) else { return None };
    let value = take(inner, rest);
    if inner.is_empty() {
        values.remove(name);
    }
    value
}

/// Inserts a value at `path`, with missing parent tables.
fn insert(values: &mut Dict, path: &[String], value: Value) {
    let Some((name, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        values.insert(name.clone(), value);
        return;
    }
    let table = values.entry(name.clone()).or_insert_with(|| Value::from(Dict::new()));
    if let Value::Dict(_, inner) = table {
        insert(inner, rest, value);
    }
}
