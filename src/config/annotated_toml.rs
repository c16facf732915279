//! Parses the default file to sections and keys with their comments, the source of the JSON schema and
//! docs/CONFIG.md.
//!
//! A comment describes the next line. Consecutive keys without a comment in between share the comment
//! above. A key without a default is commented out, with an example value.

use toml::Value;

/// Table of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Section {
    /// Path, such as `grpc.tls`.
    pub(super) path: String,
    pub(super) kind: SectionKind,
    pub(super) about: String,
    pub(super) keys: Vec<KeySpec>,
    /// Comment after the last key.
    pub(super) note: String,
}

/// Kind of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SectionKind {
    /// Always present.
    Always,
    /// Enables a feature if present.
    Optional,
    /// One of several; the user chooses the last part of its path.
    Named,
    /// The user chooses its keys.
    Map,
}

/// Key of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct KeySpec {
    pub(super) name: String,
    pub(super) about: String,
    /// Default, or an example if there is no default.
    pub(super) value: Value,
    pub(super) has_default: bool,
}

/// Tables of kind [`SectionKind::Named`]; the last part of their path in the file is an example.
const NAMED: [&str; 2] = ["policy", "portals"];

/// Tables of kind [`SectionKind::Map`].
const MAPS: [&str; 1] = ["quota.weights"];

/// Line of the file.
enum Line<'a> {
    Blank,
    /// Path, and true if commented out.
    Section(&'a str, bool),
    /// Name, value, and true if commented out.
    Key(&'a str, Value, bool),
    Text(&'a str),
}

/// Parses the file.
pub(super) fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut comment = Vec::new();
    for line in text.lines().map(read) {
        match line {
            Line::Text(text) => comment.push(text),
            Line::Blank => {
                // A comment before the first section describes the file.
                if let Some(section) = sections.last_mut() {
                    section.note.push_str(&comment.join(" "));
                }
                comment.clear();
            }
            Line::Section(path, is_comment) => {
                sections.push(Section::new(path, is_comment, comment.join(" ")));
                comment.clear();
            }
            Line::Key(name, value, is_comment) => {
                let Some(section) = sections.last_mut() else { continue };
                let above = section.keys.last().map(|key| key.about.clone());
                let about = if comment.is_empty() { above } else { None };
                let about = about.unwrap_or_else(|| comment.join(" "));
                let name = name.to_owned();
                section.keys.push(KeySpec { name, about, value, has_default: !is_comment });
                comment.clear();
            }
        }
    }
    sections
}

fn read(line: &str) -> Line<'_> {
    let is_comment = line.starts_with('#');
    let bare = line.strip_prefix("# ").unwrap_or(line);
    if line.is_empty() {
        return Line::Blank;
    }
    if let Some(path) = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
        && path.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '.' | '_'))
    {
        return Line::Section(path, is_comment);
    }
    if let Some((name, value)) = bare.split_once(" = ")
        && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        && let Ok(table) = format!("value = {value}").parse::<toml::Table>()
        && let Some(value) = table.get("value")
    {
        return Line::Key(name, value.clone(), is_comment);
    }
    Line::Text(bare)
}

// === impl Section ===

impl Section {
    fn new(path: &str, is_comment: bool, about: String) -> Self {
        let named = path.rsplit_once('.').filter(|(parent, _)| NAMED.contains(parent));
        let (path, kind) = match named {
            Some((parent, _)) => (parent, SectionKind::Named),
            None if MAPS.contains(&path) => (path, SectionKind::Map),
            None if is_comment => (path, SectionKind::Optional),
            None => (path, SectionKind::Always),
        };
        Self { path: path.to_owned(), kind, about, keys: Vec::new(), note: String::new() }
    }
}

/// Finds a range in a comment, such as `1 to 100` or `100ms to 10m`: the last one whose ends satisfy
/// `is_end`.
pub(super) fn range<'a>(
    about: &'a str,
    is_end: impl Fn(&str) -> bool,
) -> Option<(&'a str, &'a str)> {
    let words: Vec<&str> =
        about.split_whitespace().map(|word| word.trim_end_matches([',', ';', '.'])).collect();
    let fits = |three: &&[&'a str]| three[1] == "to" && is_end(three[0]) && is_end(three[2]);
    words.windows(3).rfind(fits).map(|three| (three[0], three[2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_describes_the_next_line() {
        let text = "# The file.\n\n# On a.\n[a]\n# One\n# line more. 1 to 5; 0 to 9 never.\nx = 1\n\
                    # Two.\n# y = \"1\"\n# z = true\n# After.\n\n# On b.\n# [a.b]\n# [quota.weights]\n\
                    # [portals.default]\n# secret = \"s\"\n";
        let all = sections(text);
        let paths: Vec<_> =
            all.iter().map(|section| (section.path.as_str(), section.kind)).collect();
        assert_eq!(
            paths,
            [
                ("a", SectionKind::Always),
                ("a.b", SectionKind::Optional),
                ("quota.weights", SectionKind::Map),
                ("portals", SectionKind::Named),
            ]
        );
        assert_eq!((all[0].about.as_str(), all[0].note.as_str()), ("On a.", "After."));
        assert_eq!(all[1].about, "On b.");
        let [x, y, z] = &all[0].keys[..] else { panic!("{all:?}") };
        assert_eq!(
            (x.about.as_str(), x.has_default),
            ("One line more. 1 to 5; 0 to 9 never.", true)
        );
        assert_eq!((y.about.as_str(), y.has_default), ("Two.", false));
        assert_eq!((z.about.as_str(), &z.value), ("Two.", &Value::Boolean(true)));
        let is_number = |text: &str| text.parse::<u64>().is_ok();
        assert_eq!(range(&x.about, is_number), Some(("0", "9")));
        assert_eq!(range("100ms to 10m.", |_| true), Some(("100ms", "10m")));
        assert_eq!(range("up to 10", is_number), None);
    }
}
