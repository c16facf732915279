//! Loads the configuration in layers (compiled-in defaults, file, environment) and reports every
//! fault at once, each with its key and where the value came from.

use std::{borrow::Cow, path::Path, str::FromStr};

use figment::{
    Figment, Profile,
    providers::{Format as _, Serialized, Toml},
    value::{Dict, Value},
};

use super::{
    check::Checker,
    error::{ConfigError, ConfigErrors, DEFAULT, ENVIRONMENT, origin, source},
    raw::Raw,
    renamed::report_renamed,
    sections::Config,
};

/// The documented default file, and the lowest layer.
pub(super) const DEFAULTS: &str = include_str!("../../leadsd.example.toml");

/// Most faults looked for: each takes another pass over the values.
const MAX_PASSES: usize = 64;

/// Most brackets in a variable's value that figment is trusted with; no key needs more than one pair.
const MAX_BRACKETS: usize = 64;

/// A configuration that is right.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    pub(super) raw: Raw,
    figment: Figment,
}

// === impl Loaded ===

impl Loaded {
    /// Loads and checks. `environment` is the process's, or whatever a test says it is.
    pub fn new(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(file) = file {
            if !file.is_file() {
                let origin = file.display().to_string();
                let what = "the file does not exist".to_owned();
                return Err(ConfigErrors(vec![ConfigError {
                    key: "--config".to_owned(),
                    origin,
                    what,
                }]));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        for (name, value) in environment {
            // Kubernetes sets LEADSD_SERVICE_HOST, LEADSD_PORT and the like for a Service called
            // leadsd: only names with a section are ours.
            let Some(key) = name.strip_prefix("LEADSD_").filter(|key| key.contains("__")) else {
                continue;
            };
            let key = key.to_lowercase().replace("__", ".");
            figment = figment.merge(from_environment(&name, &key, &value));
        }
        let mut faults = Vec::new();
        let raw = extract(&figment, &mut faults);
        let mut checker = Checker { figment: &figment, faults };
        let config = raw.clone().and_then(|raw| checker.config(raw));
        match (config, raw) {
            (Some(config), Some(raw)) if checker.faults.is_empty() => {
                Ok(Self { config, raw, figment })
            }
            _ => Err(ConfigErrors(checker.faults)),
        }
    }

    /// The effective configuration as TOML, each value with its origin. There are no secrets in it.
    pub fn print(&self) -> String {
        let text = toml::to_string(&self.raw).unwrap_or_default();
        let mut section = String::new();
        let mut out = String::new();
        for line in text.lines() {
            out.push_str(&without_password(line));
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, _)) = line.split_once(" = ") {
                let origin = origin(&self.figment, &format!("{section}.{key}"));
                out.push_str("  # ");
                out.push_str(if origin.is_empty() { DEFAULT } else { &origin });
            }
            out.push('\n');
        }
        out
    }
}

/// A line with the credentials of a URL in it blotted out. The checks refuse such URLs where they know
/// them to be one; a text that is free may hold one all the same.
fn without_password(line: &str) -> Cow<'_, str> {
    let Some((before, rest)) = line.split_once("://") else { return Cow::Borrowed(line) };
    let end = rest.find(['/', '"', '\'', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => Cow::Owned(format!("{before}://[redacted]{}", &rest[at..])),
        None => Cow::Borrowed(line),
    }
}

/// A layer of one value with the variable's name as its origin.
fn from_environment(name: &str, key: &str, value: &str) -> impl figment::Provider {
    let value = parsed(value);
    let name = name.to_owned();
    let nested = key
        .rsplit('.')
        .fold(value, |inner, part| Value::from(Dict::from([(part.to_owned(), inner)])));
    let dict = nested.into_dict().unwrap_or_default();
    Named { name, inner: Serialized::from(dict, Profile::Default) }
}

/// A value as figment reads it from the environment: number, list, text in quotes, or else the text as
/// it is.
fn parsed(text: &str) -> Value {
    // figment cuts such a text at the wrong byte, and panics or loses a part of it.
    let is_cut = text.contains('\\') && !text.is_ascii();
    // Its parser calls itself for every bracket.
    let is_deep = text.matches(['[', '{']).count() > MAX_BRACKETS;
    if !is_cut && !is_deep {
        return Value::from_str(text).unwrap_or_else(|never| match never {});
    }
    let table = format!("it = {text}").parse::<toml::Table>().ok().filter(|table| table.len() == 1);
    let value = table.and_then(|mut table| Value::serialize(table.remove("it")?).ok());
    value.unwrap_or_else(|| Value::from(text))
}

/// Gives a layer the name of its variable.
struct Named<P> {
    name: String,
    inner: P,
}

// === impl Named ===

impl<P: figment::Provider> figment::Provider for Named<P> {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::named(format!("{ENVIRONMENT}{}", self.name))
    }

    fn data(&self) -> Result<figment::value::Map<Profile, Dict>, figment::Error> {
        self.inner.data()
    }
}

/// Reads the raw form; whatever is in the way is reported, taken out and left to its default.
fn extract(figment: &Figment, faults: &mut Vec<ConfigError>) -> Option<Raw> {
    let defaults: Figment = Figment::from(Toml::string(DEFAULTS));
    let mut values: Dict = match figment.extract() {
        Ok(values) => values,
        Err(error) => {
            faults.extend(error.into_iter().map(|error| fault_of(figment, &error)));
            return None;
        }
    };
    faults.extend(report_renamed(&mut values, figment));
    for _ in 0..MAX_PASSES {
        let layer = Figment::from(Serialized::from(&values, Profile::Default));
        let error = match layer.extract::<Raw>() {
            Ok(raw) => return Some(raw),
            Err(error) => error,
        };
        let mut path = error.path.clone();
        if let figment::error::Kind::UnknownField(name, _)
        | figment::error::Kind::UnknownVariant(name, _) = &error.kind
            && path.last() != Some(name)
        {
            path.push(name.clone());
        }
        if let figment::error::Kind::MissingField(name) = &error.kind
            && path.last().map(String::as_str) != Some(name.as_ref())
        {
            path.push(name.to_string());
        }
        let key = path.join(".");
        let what = describe(&error.kind);
        faults.push(ConfigError { origin: origin(figment, &key), key: key.clone(), what });
        let default = defaults.find_value(&key).ok();
        if !replace(&mut values, &path, default) {
            return None;
        }
    }
    None
}

/// Puts the default in place of a value, or takes it out. False if there was nothing to change.
fn replace(values: &mut Dict, path: &[String], default: Option<Value>) -> bool {
    let Some((name, parents)) = path.split_last() else { return false };
    let mut dict = values;
    for parent in parents {
        let Some(Value::Dict(_, inner)) = dict.get_mut(parent) else { return false };
        dict = inner;
    }
    match default {
        Some(default) => dict.insert(name.clone(), default.clone()).as_ref() != Some(&default),
        None => dict.remove(name).is_some(),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "figment adds kinds; others keep their text")]
fn describe(kind: &figment::error::Kind) -> String {
    match kind {
        figment::error::Kind::UnknownField(_, known) => {
            format!("is not a key; known here are: {}", known.join(", "))
        }
        figment::error::Kind::InvalidType(found, wanted)
        | figment::error::Kind::InvalidValue(found, wanted) => {
            format!("must be {wanted}, is {found}")
        }
        figment::error::Kind::MissingField(_) => "is required".to_owned(),
        other => other.to_string(),
    }
}

fn fault_of(figment: &Figment, error: &figment::Error) -> ConfigError {
    let key = error.path.join(".");
    let named = error.metadata.as_ref().map(source);
    let origin = named.unwrap_or_else(|| origin(figment, &key));
    ConfigError { key, origin, what: error.kind.to_string() }
}
