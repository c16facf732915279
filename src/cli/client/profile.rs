//! Profiles: named defaults of the flags in a TOML file. It holds no secrets, and names the files that do.
//!
//! ```toml
//! default = "local"
//!
//! [profile.local]
//! address = "127.0.0.1:50051"
//!
//! [profile.production]
//! address = "leadsd.example.com:443"
//! tls = true
//! token_file = "~/.config/leadsd/token"
//! portal = "emea"
//! ```

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::args::{ConnectArgs, TokenKind, parse_deadline};
use crate::cli::environment::environment;
use leadsd_base::nearest::nearest;

/// Maximum size of the file in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Keys of a profile.
const KEYS: &[&str] = &[
    "address",
    "allow_plaintext_token",
    "auth",
    "ca_file",
    "caller",
    "cert_file",
    "deadline",
    "key_file",
    "portal",
    "priority",
    "server_name",
    "tls",
    "token_env",
    "token_file",
];

/// Parts of keys that would hold a secret.
const SECRET_PARTS: &[&str] =
    &["token", "key", "secret", "password", "passwd", "credential", "authorization", "bearer"];

/// Error of a profile.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum InvalidProfile {
    #[error("cannot read the profiles in {}: {source}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error(
        "there is no profile {0:?}: neither XDG_CONFIG_HOME nor HOME is set; use --profile-file"
    )]
    NoFolder(String),
    #[error("{} exceeds {MAX_FILE} bytes", .0.display())]
    TooLong(PathBuf),
    #[error("{} is no valid profile file: {what}", file.display())]
    Syntax { file: PathBuf, what: String },
    #[error("{} has no profile {name:?}{hint}", file.display())]
    Unknown { file: PathBuf, name: String, hint: String },
    #[error("{}: profile {name:?} has an unknown key {key:?}{hint}", file.display())]
    UnknownKey { file: PathBuf, name: String, key: String, hint: String },
    #[error(
        "{}: profile {name:?} must not contain a secret, as {key:?} may be: write it to a file, \
         and set token_file to its path",
        file.display()
    )]
    Secret { file: PathBuf, name: String, key: String },
    #[error("{}: profile {name:?}: {what}", file.display())]
    Value { file: PathBuf, name: String, what: String },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    /// Profile that is used without `--profile`.
    default: Option<String>,
    #[serde(default)]
    profile: BTreeMap<String, toml::Table>,
}

/// Values of a profile.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    address: Option<String>,
    tls: Option<bool>,
    ca_file: Option<PathBuf>,
    server_name: Option<String>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    token_env: Option<String>,
    auth: Option<TokenKind>,
    allow_plaintext_token: Option<bool>,
    portal: Option<String>,
    priority: Option<String>,
    caller: Option<String>,
    deadline: Option<String>,
}

/// Adds the values of the profile that `args` names, or of the default one, to the flags that are not
/// given.
pub(super) fn apply_profile(args: ConnectArgs) -> Result<ConnectArgs, InvalidProfile> {
    let explicit = args.profile_file.is_some() || args.profile.is_some();
    let wanted = args.profile.clone().unwrap_or_else(|| "default".to_owned());
    let Some(file) = args.profile_file.clone().or_else(default_file) else {
        return if explicit { Err(InvalidProfile::NoFolder(wanted)) } else { Ok(args) };
    };
    let text = match read(&file) {
        Ok(Some(text)) => text,
        Ok(None) => return Err(InvalidProfile::TooLong(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !explicit => return Ok(args),
        Err(source) => return Err(InvalidProfile::Read { file, source }),
    };
    apply(args, &file, &text)
}

/// Flags that a profile stands for, for commands that have only some of them.
pub(in crate::cli) fn profile_flags(
    profile: String,
    profile_file: Option<PathBuf>,
) -> Result<ConnectArgs, InvalidProfile> {
    apply_profile(ConnectArgs { profile: Some(profile), profile_file, ..ConnectArgs::default() })
}

/// Path of the file without `--profile-file`.
fn default_file() -> Option<PathBuf> {
    let variables: BTreeMap<_, _> = environment().collect();
    let path = |name: &str| variables.get(name).map(PathBuf::from);
    // The XDG specification ignores relative paths.
    let config = path("XDG_CONFIG_HOME").filter(|folder| folder.is_absolute());
    let config = config.or_else(|| path("HOME").map(|home| home.join(".config")));
    config.map(|folder| folder.join("leadsd/profiles.toml"))
}

fn read(file: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    File::open(file)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    Ok((text.len() as u64 <= MAX_FILE).then_some(text))
}

fn apply(args: ConnectArgs, file: &Path, text: &str) -> Result<ConnectArgs, InvalidProfile> {
    let file_of = || file.to_owned();
    // The message alone: the text around an error may be a secret in the wrong place.
    let parsed: ProfileFile = toml::from_str(text).map_err(|error| InvalidProfile::Syntax {
        file: file_of(),
        what: error.message().to_owned(),
    })?;
    let Some(name) = args.profile.clone().or(parsed.default) else { return Ok(args) };
    let Some(table) = parsed.profile.get(&name) else {
        let names = parsed.profile.keys().map(String::as_str);
        let hint = suggestion(&name, names.clone());
        let hint = if hint.is_empty() {
            format!("; it has {}", names.collect::<Vec<_>>().join(", "))
        } else {
            hint
        };
        return Err(InvalidProfile::Unknown { file: file_of(), name, hint });
    };
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let (file, key) = (file_of(), key.clone());
        let lower = key.to_lowercase();
        return Err(if SECRET_PARTS.iter().any(|part| lower.contains(part)) {
            InvalidProfile::Secret { file, name, key }
        } else {
            let hint = suggestion(&key, KEYS.iter().copied());
            InvalidProfile::UnknownKey { file, name, key, hint }
        });
    }
    let profile: Profile =
        table.clone().try_into().map_err(|error: toml::de::Error| InvalidProfile::Value {
            file: file_of(),
            name: name.clone(),
            what: error.message().to_owned(),
        })?;
    let deadline = profile.deadline.as_deref().map(parse_deadline).transpose();
    let deadline = deadline.map_err(|what| InvalidProfile::Value {
        file: file_of(),
        name: name.clone(),
        what: format!("deadline: {what}"),
    })?;
    let folder = file.parent().unwrap_or_else(|| Path::new(""));
    let located = |path: Option<PathBuf>| path.map(|path| locate(folder, &path));
    // A token of a flag replaces that of the profile, whatever its source.
    let has_token = args.token_file.is_some() || args.token_env.is_some() || args.token_prompt;
    let profile_token = |path: Option<PathBuf>| path.filter(|_| !has_token);
    Ok(ConnectArgs {
        address: args.address.or(profile.address),
        tls: args.tls.or(profile.tls),
        ca_file: args.ca_file.or_else(|| located(profile.ca_file)),
        server_name: args.server_name.or(profile.server_name),
        cert_file: args.cert_file.or_else(|| located(profile.cert_file)),
        key_file: args.key_file.or_else(|| located(profile.key_file)),
        token_file: args.token_file.or_else(|| located(profile_token(profile.token_file))),
        token_env: args.token_env.or_else(|| profile.token_env.filter(|_| !has_token)),
        token_prompt: args.token_prompt,
        auth: args.auth.or(profile.auth),
        allow_plaintext_token: args.allow_plaintext_token.or(profile.allow_plaintext_token),
        portal: args.portal.or(profile.portal),
        priority: args.priority.or(profile.priority),
        caller: args.caller.or(profile.caller),
        deadline: args.deadline.or(deadline),
        profile: Some(name),
        profile_file: args.profile_file,
    })
}

/// Path of a file that a profile names: below the home folder, or relative to the profile file.
fn locate(folder: &Path, path: &Path) -> PathBuf {
    let home = || environment().find(|(name, _)| name == "HOME").map(|(_, home)| home);
    match (path.strip_prefix("~"), home()) {
        (Ok(below), Some(home)) => Path::new(&home).join(below),
        (Ok(_), None) | (Err(_), _) => folder.join(path),
    }
}

fn suggestion<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, candidates).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
