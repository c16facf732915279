//! KV v2 wire format: requests of one mount, and parsers of their responses.

use std::{collections::BTreeMap, fmt};

use serde_json::{Value, json};
use vaultrs::api::kv2::{
    requests::{ListSecretsRequest, ReadSecretMetadataRequest, ReadSecretRequest},
    responses::{ListSecretsResponse, ReadSecretMetadataResponse},
};

use super::{error::Error, response::VaultResponse};
use leadsd_base::{secret::Secret, time::Timestamp};
use leadsd_credentials::{SecretPath, VersionState};

/// Error text for a successful response without a version.
const NO_VERSION: &str = "the response has no version";

/// KV v2 mount.
#[derive(Debug, Clone)]
pub(super) struct Mount(String);

/// Newest version of a secret, with any keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretVersion {
    /// Version number, the check-and-set parameter of the next write.
    pub version: u64,
    /// Time of the write; `None` if Vault does not report it.
    pub created_at: Option<Timestamp>,
    /// `None` if this version is deleted or destroyed.
    pub data: Option<SecretData>,
}

/// Keys and values of a secret. `Debug` prints only the keys.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SecretData(BTreeMap<String, Value>);

/// Outcome of a write with check-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CasOutcome {
    /// Written as this version.
    Written(u64),
    /// Not written: the newest version differs from the check-and-set parameter.
    Conflict,
}

// === impl Mount ===

impl Mount {
    pub(super) fn new(mount: impl Into<String>) -> Self {
        Self(mount.into())
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// Path of a secret's data, as policies name it.
    pub(super) fn data_path(&self, path: &SecretPath) -> String {
        format!("{}/data/{path}", self.0)
    }

    /// Path of the request for the type and version of the engine.
    pub(super) fn info_path(&self) -> String {
        format!("sys/internal/ui/mounts/{}", self.0)
    }

    /// Path of a secret's metadata, as policies name it.
    pub(super) fn metadata_path(&self, path: &SecretPath) -> String {
        format!("{}/metadata/{path}", self.0)
    }

    /// Builds the request for the newest version; parse with [`SecretVersion::from_response`].
    pub(super) fn read(&self, path: &SecretPath) -> ReadSecretRequest {
        ReadSecretRequest { mount: self.0.clone(), path: path.to_string(), version: None }
    }

    /// Builds the request for the metadata; parse with [`version_state`].
    pub(super) fn metadata(&self, path: &SecretPath) -> ReadSecretMetadataRequest {
        ReadSecretMetadataRequest { mount: self.0.clone(), path: path.to_string() }
    }

    /// Builds the request for the names in a folder; parse with [`names`].
    pub(super) fn list(&self, folder: &SecretPath) -> ListSecretsRequest {
        ListSecretsRequest { mount: self.0.clone(), path: folder.to_string() }
    }
}

// === impl SecretVersion ===

impl SecretVersion {
    /// Parses the response to a read; `None` if the secret never existed.
    pub(super) fn from_response(response: VaultResponse) -> Result<Option<Self>, Error> {
        let (status, mut body) = (response.status(), response.json());
        let metadata = &body["data"]["metadata"];
        let Some(version) = metadata["version"].as_u64() else {
            return match response.success() {
                Err(Error::NotFound) => Ok(None),
                Err(error) => Err(error),
                Ok(_) => Err(Error::Unavailable(NO_VERSION.to_owned())),
            };
        };
        let created_at = metadata["created_time"].as_str().and_then(|time| time.parse().ok());
        // A deleted version has metadata and status 404.
        let data = if let Value::Object(keys) = body["data"]["data"].take()
            && status == 200
        {
            Some(SecretData(keys.into_iter().collect()))
        } else {
            None
        };
        Ok(Some(Self { version, created_at, data }))
    }
}

// === impl SecretData ===

impl SecretData {
    /// Value of a key; `None` if it is missing or not a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// Value of a key, trimmed; `None` if it is missing, empty or not a string.
    pub fn secret(&self, name: &str) -> Option<Secret> {
        let text = self.text(name)?.trim();
        (!text.is_empty()).then(|| Secret::new(text))
    }

    /// Names of the keys, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Reports whether the key exists, with any value.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Sets a key.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), Value::from(value));
    }

    /// Removes a key.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Keys and values.
    pub(super) fn into_inner(self) -> BTreeMap<String, Value> {
        self.0
    }

    /// Body of a write that succeeds only if the newest version is `cas`; 0 means that the secret does
    /// not exist.
    pub(super) fn write_body(&self, cas: u64) -> Vec<u8> {
        json!({"options": {"cas": cas}, "data": self.0}).to_string().into_bytes()
    }
}

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl From<BTreeMap<String, Value>> for SecretData {
    fn from(keys: BTreeMap<String, Value>) -> Self {
        Self(keys)
    }
}

// === impl CasOutcome ===

impl CasOutcome {
    /// Parses the response to a write.
    pub(super) fn from_response(response: VaultResponse) -> Result<Self, Error> {
        let response = match response.success() {
            Ok(response) => response,
            Err(Error::CasConflict) => return Ok(Self::Conflict),
            Err(error) => return Err(error),
        };
        let version = response.json()["data"]["version"].as_u64();
        let version = version.ok_or_else(|| Error::Unavailable(NO_VERSION.to_owned()))?;
        Ok(Self::Written(version))
    }
}

/// Parses the response to a request for metadata. A version is gone if it is destroyed or its deletion
/// time is not after `now`: with `delete_version_after` a readable version has a deletion time in the
/// future.
pub(super) fn version_state(
    response: VaultResponse,
    now: Timestamp,
) -> Result<VersionState, Error> {
    let metadata: ReadSecretMetadataResponse = response.data()?;
    let number = metadata.current_version;
    let newest = metadata.versions.get(&number.to_string());
    let gone = newest.is_none_or(|newest| newest.destroyed || is_past(&newest.deletion_time, now));
    Ok(if gone { VersionState::Deleted(number) } else { VersionState::Live(number) })
}

/// Reports whether a deletion time has passed; empty means that there is none. Text that is not a time
/// counts as passed.
fn is_past(deletion_time: &str, now: Timestamp) -> bool {
    !deletion_time.is_empty()
        && deletion_time.parse::<Timestamp>().map_or(true, |deleted_at| deleted_at <= now)
}

/// Parses the response to a list: names of secrets, without folders. Vault returns status 404 for an
/// empty folder.
pub(super) fn names(response: VaultResponse) -> Result<Vec<String>, Error> {
    match response.data::<ListSecretsResponse>() {
        Ok(listed) => Ok(listed.keys.into_iter().filter(|name| !name.ends_with('/')).collect()),
        Err(Error::NotFound) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_gone_when_it_is_destroyed_or_its_deletion_time_has_passed() {
        let now: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        for (deletion_time, destroyed, live) in [
            ("", false, true),
            ("2026-12-30T12:00:00.123456789Z", false, true),
            ("2026-11-30T12:00:01Z", false, true),
            ("2026-11-30T14:00:01+02:00", false, true),
            ("2026-11-30T12:00:00Z", false, false),
            ("2026-11-29T12:00:00.5Z", false, false),
            ("2026-11-30T12:00:01+02:00", false, false),
            ("2026-12-30T12:00:00Z", true, false),
            ("", true, false),
            ("soon", false, false),
        ] {
            let version = |number: u64| {
                json!({"created_time": "2026-11-30T11:00:00Z", "deletion_time": deletion_time,
                       "destroyed": destroyed, "version": number})
            };
            let body = json!({"data": {
                "cas_required": false, "created_time": "2026-11-30T11:00:00Z", "current_version": 2,
                "custom_metadata": null, "delete_version_after": "720h0m0s", "max_versions": 0,
                "oldest_version": 1, "updated_time": "2026-11-30T11:00:00Z",
                "versions": {"1": version(1), "2": version(2)},
            }});
            let response = VaultResponse::new(200, body.to_string().into_bytes());
            let state = version_state(response, now).unwrap();
            let wanted = if live { VersionState::Live(2) } else { VersionState::Deleted(2) };
            assert_eq!(state, wanted, "{deletion_time} {destroyed}");
        }
    }
}
