//! KV v2 under the mount `secret`: versions, check-and-set, soft deletes and destroys.

use axum::http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{StoredVersion, VaultResponse, VaultState, errors, result};

/// Change of one version.
type VersionChange = fn(&mut StoredVersion);

/// Changes of single versions, by path prefix.
const VERSION_CHANGES: [(&str, VersionChange); 3] = [
    ("secret/delete/", |version| version.deleted = true),
    ("secret/undelete/", |version| version.deleted = false),
    ("secret/destroy/", |version| version.destroyed = true),
];

// === impl VaultState ===

impl VaultState {
    pub(super) fn kv(
        &mut self,
        method: &Method,
        path: &str,
        body: &Value,
        list: bool,
    ) -> VaultResponse {
        if let Some(path) = path.strip_prefix("secret/data/") {
            return match method.as_str() {
                "GET" => self.read(path),
                "POST" | "PUT" => self.write(path, body),
                "DELETE" => self.delete(path),
                _ => errors(StatusCode::METHOD_NOT_ALLOWED, &[]),
            };
        }
        for (prefix, change) in VERSION_CHANGES {
            if let Some(path) = path.strip_prefix(prefix) {
                return self.change(path, body, change);
            }
        }
        match path.strip_prefix("secret/metadata/") {
            Some(folder) if list => self.list(folder),
            Some(path) if method == Method::GET => self.metadata(path),
            Some(path) if method == Method::DELETE => {
                self.secrets.remove(path);
                (StatusCode::NO_CONTENT, Value::Null)
            }
            _ => errors(StatusCode::NOT_FOUND, &[]),
        }
    }

    /// Deletes, undeletes or destroys versions.
    fn change(&mut self, path: &str, body: &Value, change: VersionChange) -> VaultResponse {
        let numbers = body["versions"].as_array().into_iter().flatten().filter_map(Value::as_u64);
        let versions = self.secrets.entry(path.to_owned()).or_default();
        for number in numbers {
            let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
            if let Some(version) = index.and_then(|index| versions.get_mut(index)) {
                change(version);
            }
        }
        (StatusCode::NO_CONTENT, Value::Null)
    }

    fn read(&self, path: &str) -> VaultResponse {
        let Some((number, version)) = self.newest(path) else {
            return errors(StatusCode::NOT_FOUND, &[]);
        };
        let gone = version.deleted || version.destroyed;
        let data = if gone { Value::Null } else { version.data.clone() };
        let status = if gone { StatusCode::NOT_FOUND } else { StatusCode::OK };
        let (_, body) = result(
            json!({"data": data, "metadata": version_metadata(number, version)}),
            Value::Null,
        );
        (status, body)
    }

    fn write(&mut self, path: &str, body: &Value) -> VaultResponse {
        let versions = self.secrets.entry(path.to_owned()).or_default();
        let cas = body["options"]["cas"].as_u64();
        if cas.is_some_and(|cas| cas != versions.len() as u64) {
            let text = "check-and-set parameter did not match the current version";
            return errors(StatusCode::BAD_REQUEST, &[text]);
        }
        if !body["data"].is_object() {
            return errors(StatusCode::BAD_REQUEST, &["no data provided"]);
        }
        let version = StoredVersion::new(body["data"].clone());
        versions.push(version.clone());
        result(version_metadata(versions.len(), &version), Value::Null)
    }

    fn delete(&mut self, path: &str) -> VaultResponse {
        if let Some(version) = self.secrets.get_mut(path).and_then(|versions| versions.last_mut()) {
            version.deleted = true;
        }
        (StatusCode::NO_CONTENT, Value::Null)
    }

    fn metadata(&self, path: &str) -> VaultResponse {
        let Some(versions) = self.secrets.get(path).filter(|versions| !versions.is_empty()) else {
            return errors(StatusCode::NOT_FOUND, &[]);
        };
        let each: Map<String, Value> = versions
            .iter()
            .enumerate()
            .map(|(index, version)| ((index + 1).to_string(), version_metadata(index + 1, version)))
            .collect();
        let time =
            |version: Option<&StoredVersion>| version.map(|version| version.created.to_string());
        let (first, last) = (time(versions.first()), time(versions.last()));
        result(
            json!({
                "cas_required": false, "created_time": first, "current_version": versions.len(),
                "delete_version_after": "0s", "max_versions": 0, "oldest_version": 0,
                "updated_time": last, "custom_metadata": null, "versions": each,
            }),
            Value::Null,
        )
    }

    fn list(&self, folder: &str) -> VaultResponse {
        let prefix = format!("{}/", folder.trim_end_matches('/'));
        let mut keys: Vec<String> = Vec::new();
        for path in self.secrets.keys() {
            let Some(rest) = path.strip_prefix(&prefix) else { continue };
            let key = match rest.split_once('/') {
                Some((sub, _)) => format!("{sub}/"),
                None => rest.to_owned(),
            };
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        if keys.is_empty() {
            return errors(StatusCode::NOT_FOUND, &[]);
        }
        result(json!({ "keys": keys }), Value::Null)
    }

    /// True if a secret exists at the data path `path`.
    pub(super) fn exists(&self, path: &str) -> bool {
        let secret = path.strip_prefix("secret/data/");
        secret.is_some_and(|secret| self.secrets.contains_key(secret))
    }

    fn newest(&self, path: &str) -> Option<(usize, &StoredVersion)> {
        let versions = self.secrets.get(path)?;
        let seen = versions.len() - usize::from(self.stale);
        Some((seen, versions[..seen].last()?))
    }
}

fn version_metadata(number: usize, version: &StoredVersion) -> Value {
    json!({
        "created_time": version.created.to_string(),
        "custom_metadata": null,
        "deletion_time": if version.deleted { version.created.to_string() } else { String::new() },
        "destroyed": version.destroyed,
        "version": number,
    })
}
