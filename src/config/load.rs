//! Loads the configuration in layers (default file, user's file, environment) and reports all errors at
//! once, each with its key and the origin of the value.

use std::{borrow::Cow, collections::BTreeSet, io::ErrorKind, path::Path, str::FromStr};

use figment::{
    Figment, Profile,
    error::Actual,
    providers::{Format as _, Serialized, Toml},
    value::{Dict, Value},
};

use super::{
    ca_files::check_ca_files,
    check::Checker,
    egress::Variables,
    error::{ConfigError, ConfigErrors, DEFAULT, ENVIRONMENT, FILE_OPTION, origin, source},
    raw::Raw,
    renamed::report_renamed,
    sections::Config,
    syntax::syntax_error,
};
use crate::telemetry::closest;

/// Default file, the lowest layer.
pub(super) const DEFAULTS: &str = include_str!("../../leadsd.example.toml");

/// Maximum number of reported type errors: each needs another pass over the values.
const MAX_PASSES: usize = 64;

/// Maximum number of brackets in an environment variable: figment's parser is recursive, and no key needs
/// more than one pair.
const MAX_BRACKETS: usize = 64;

/// Valid configuration, with the origins of its values.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Configuration.
    pub config: Config,
    pub(super) raw: Raw,
    figment: Figment,
}

// === impl Loaded ===

impl Loaded {
    /// Loads and validates the configuration from a file and environment variables.
    pub fn new(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let defaults = Figment::from(Toml::string(DEFAULTS));
        let (mut figment, mut errors) = (defaults.clone(), Vec::new());
        if let Some(file) = file {
            if let Some(what) = file_error(file) {
                let (key, origin) = (FILE_OPTION.to_owned(), file.display().to_string());
                return Err(ConfigErrors(vec![ConfigError { key, origin, what }]));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        let mut variables = Variables::default();
        for (name, value) in environment {
            // Kubernetes sets LEADSD_SERVICE_HOST, LEADSD_PORT and so on for a Service named leadsd, so
            // only names with a section are configuration.
            let Some(key) = name.strip_prefix("LEADSD_").filter(|key| key.contains("__")) else {
                errors.extend(misspelt_variable(&name, &defaults));
                variables.add(name, value);
                continue;
            };
            let key = key.to_lowercase().replace("__", ".");
            figment = figment.merge(from_environment(&name, &key, &value));
        }
        let raw = extract(&figment, &mut errors);
        let mut checker = Checker { figment: &figment, errors };
        let config = raw.clone().and_then(|raw| checker.config(raw, &variables));
        match (config, raw) {
            (Some(config), Some(raw)) if checker.errors.is_empty() => {
                Ok(Self { config, raw, figment })
            }
            _ => Err(ConfigErrors(checker.errors)),
        }
    }

    /// Errors if a file with CAs of a peer is missing or invalid. Not part of the validation: a
    /// configuration can be validated where its files are not.
    pub fn check_files(&self) -> Result<(), ConfigErrors> {
        let errors = check_ca_files(&self.config, |key| origin(&self.figment, key));
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
    }

    /// The effective configuration as TOML, each value with its origin. There are no secrets in it.
    pub fn print(&self) -> String {
        let text = |raw: &Raw| toml::to_string(raw).unwrap_or_default();
        let given = text(&self.raw);
        let given: BTreeSet<String> = keyed_lines(&given).filter_map(|(_, path)| path).collect();
        let mut out = String::new();
        for (line, path) in keyed_lines(&text(&self.raw.clone().with_defaults())) {
            out.push_str(&without_password(line));
            if let Some(path) = path {
                let origin = given.contains(&path).then(|| origin(&self.figment, &path));
                out.push_str("  # ");
                out.push_str(
                    origin.filter(|origin| !origin.is_empty()).as_deref().unwrap_or(DEFAULT),
                );
            }
            out.push('\n');
        }
        out
    }
}

/// Error of a file as a whole; `None` if it is TOML.
fn file_error(file: &Path) -> Option<String> {
    if file.is_dir() {
        return Some("is a directory; name the file in it".to_owned());
    }
    match std::fs::read_to_string(file) {
        Ok(text) => syntax_error(&text),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Some("the file does not exist".to_owned())
        }
        Err(error) => Some(format!("the file cannot be read: {}", error.kind())),
    }
}

/// Iterates over the lines of a TOML document, each with the path of its key; `None` for lines without
/// a key.
fn keyed_lines(text: &str) -> impl Iterator<Item = (&str, Option<String>)> {
    let mut section = "";
    text.lines().map(move |line| {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
            return (line, None);
        }
        (line, line.split_once(" = ").map(|(key, _)| format!("{section}.{key}")))
    })
}

/// Redacts the credentials of a URL in a line. URL keys reject credentials, but free text may contain a
/// URL.
fn without_password(line: &str) -> Cow<'_, str> {
    let Some((before, rest)) = line.split_once("://") else { return Cow::Borrowed(line) };
    let end = rest.find(['/', '"', '\'', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => Cow::Owned(format!("{before}://[redacted]{}", &rest[at..])),
        None => Cow::Borrowed(line),
    }
}

/// Error of an environment variable with one underscore between section and key, which would be ignored.
/// Required keys are missed anyway, so those with a default are enough.
fn misspelt_variable(name: &str, defaults: &Figment) -> Option<ConfigError> {
    let (section, rest) = name.strip_prefix("LEADSD_")?.split_once('_')?;
    let key = format!("{section}.{rest}").to_lowercase();
    // Variables of a Kubernetes Service, such as LEADSD_PORT_50051_TCP, are no keys.
    defaults.find_value(&key).ok()?;
    let what = format!("has two underscores in its variable: LEADSD_{section}__{rest}");
    Some(ConfigError { key, origin: format!("{ENVIRONMENT}{name}"), what })
}

/// Creates a layer with one value, whose origin is the environment variable.
fn from_environment(name: &str, key: &str, value: &str) -> impl figment::Provider {
    let value = parsed(value);
    let name = name.to_owned();
    let nested = key
        .rsplit('.')
        .fold(value, |inner, part| Value::from(Dict::from([(part.to_owned(), inner)])));
    let dict = nested.into_dict().unwrap_or_default();
    VariableLayer { name, inner: Serialized::from(dict, Profile::Default) }
}

/// Parses a value of the environment like figment: number, list, quoted text, or else plain text.
fn parsed(text: &str) -> Value {
    // figment splits such a text at the wrong byte, and panics or truncates it.
    let is_cut = text.contains('\\') && !text.is_ascii();
    // figment's parser recurses for each bracket.
    let is_deep = text.matches(['[', '{']).count() > MAX_BRACKETS;
    if !is_cut && !is_deep {
        return Value::from_str(text).unwrap_or_else(|never| match never {});
    }
    let table = format!("it = {text}").parse::<toml::Table>().ok().filter(|table| table.len() == 1);
    let value = table.and_then(|mut table| Value::serialize(table.remove("it")?).ok());
    value.unwrap_or_else(|| Value::from(text))
}

/// Layer with the name of its environment variable.
struct VariableLayer<P> {
    name: String,
    inner: P,
}

// === impl VariableLayer ===

impl<P: figment::Provider> figment::Provider for VariableLayer<P> {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::named(format!("{ENVIRONMENT}{}", self.name))
    }

    fn data(&self) -> Result<figment::value::Map<Profile, Dict>, figment::Error> {
        self.inner.data()
    }
}

/// Deserializes the raw form. Each invalid value is reported and replaced by its default.
fn extract(figment: &Figment, errors: &mut Vec<ConfigError>) -> Option<Raw> {
    let defaults: Figment = Figment::from(Toml::string(DEFAULTS));
    let mut values: Dict = match figment.extract() {
        Ok(values) => values,
        Err(error) => {
            errors.extend(error.into_iter().map(|error| config_error(figment, &error)));
            return None;
        }
    };
    errors.extend(report_renamed(&mut values, figment));
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
        errors.push(ConfigError { origin: origin(figment, &key), key: key.clone(), what });
        let default = defaults.find_value(&key).ok();
        if !replace(&mut values, &path, default) {
            return None;
        }
    }
    None
}

/// Replaces a value by its default, or removes it if there is no default. Returns false if nothing
/// changed.
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
        figment::error::Kind::UnknownField(name, known) => {
            let suggestion = closest(name, known);
            let suggestion = suggestion.map(|known| format!("; did you mean {known}?"));
            let suggestion = suggestion.unwrap_or_default();
            format!("is not a known key{suggestion}; known keys: {}", known.join(", "))
        }
        figment::error::Kind::InvalidType(found, wanted)
        | figment::error::Kind::InvalidValue(found, wanted) => {
            format!("must be {}, is {}", wanted_name(wanted), type_name(found))
        }
        figment::error::Kind::MissingField(_) => "is required".to_owned(),
        // The text of a parser, which quotes the value.
        figment::error::Kind::Message(_) => "cannot be read".to_owned(),
        other => other.to_string(),
    }
}

/// Name of the wanted type in terms of TOML: the deserializer names types of Rust.
fn wanted_name(wanted: &str) -> &str {
    match wanted {
        "u8" | "u16" | "u32" | "u64" | "usize" => "an integer of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer",
        "f32" | "f64" => "a number",
        "a map" => "a table",
        "a sequence" => "a list",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

/// Type of a value, without the value: it may be a secret that belongs elsewhere.
#[expect(clippy::wildcard_enum_match_arm, reason = "other types of figment have no value")]
fn type_name(found: &Actual) -> Cow<'static, str> {
    Cow::Borrowed(match found {
        Actual::Bool(_) => "a boolean",
        Actual::Unsigned(_) | Actual::Signed(_) => "an integer",
        Actual::Float(_) => "a float",
        Actual::Char(_) | Actual::Str(_) | Actual::Bytes(_) | Actual::Other(_) => "a string",
        other => return Cow::Owned(other.to_string()),
    })
}

fn config_error(figment: &Figment, error: &figment::Error) -> ConfigError {
    let key = error.path.join(".");
    let named = error.metadata.as_ref().map(source);
    let origin = named.unwrap_or_else(|| origin(figment, &key));
    ConfigError { key, origin, what: describe(&error.kind) }
}
