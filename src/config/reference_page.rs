//! Generates docs/CONFIG.md from the default file.

use std::fmt::Write as _;

use super::annotated_toml::{KeySpec, Section, SectionKind};

const HEAD: &str = "# Configuration

Every key with its default. This page is generated from [leadsd.example.toml](../leadsd.example.toml), \
which is also the compiled-in lowest layer. `LEADSD_BLESS=1 cargo test config` regenerates it.

Precedence, highest first:

1. the environment: every key is also `LEADSD_<SECTION>__<KEY>`, such as `LEADSD_GRPC__LISTEN` or \
`LEADSD_PORTALS__DEFAULT__SECRET`,
2. the file (`--config`),
3. the defaults.

Rules:

- Unknown keys are errors. A renamed key is an error that names the new key. All errors are reported at once, before a socket opens.
- Durations and sizes are strings with a unit: `250ms`, `5s`, `10m`, `1h`; `64KiB`, `4MiB`, `1GiB`.
- The configuration contains no secrets, only their paths in Vault or their files.

| Command | Purpose |
|---|---|
| `leadsd config check` | validates a configuration |
| `leadsd config print` | prints the effective value of every key, with its origin |
| `leadsd config schema` | prints the JSON schema |
";

/// Start of the default in the comment of a key without a value in the default file.
const DEFAULT: &str = "Default: ";

/// End of the comment of a required key.
const REQUIRED: &str = "Required.";

/// Generates the page.
pub(super) fn page(sections: &[Section]) -> String {
    let links: Vec<String> = sections.iter().map(Section::link).collect();
    let mut out = format!("{HEAD}\nSections: {}\n", links.join(", "));
    for section in sections {
        // Writing to a `String` cannot fail.
        let _ = write!(out, "\n## `[{}]`\n", section.title());
        for text in [&section.about, &section.note] {
            if !text.is_empty() {
                let _ = write!(out, "\n{text}\n");
            }
        }
        out.push_str("\n| Key | Default | Meaning |\n|---|---|---|\n");
        for key in &section.keys {
            out.push_str(&row(section, key));
        }
    }
    out
}

// === impl Section ===

impl Section {
    fn title(&self) -> String {
        match self.kind {
            SectionKind::Named => format!("{}.<name>", self.path),
            SectionKind::Always | SectionKind::Optional | SectionKind::Map => self.path.clone(),
        }
    }

    /// Link to the heading. GitHub's anchors keep letters, digits and underscores.
    fn link(&self) -> String {
        let title = self.title();
        let anchor: String = title.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
        format!("[`{title}`](#{anchor})")
    }
}

fn row(section: &Section, key: &KeySpec) -> String {
    let value = &key.value;
    let name = if section.kind == SectionKind::Map { "<name>" } else { &key.name };
    let about = key.about.replace('|', "\\|");
    let (default, about) = if key.has_default {
        (format!("`{value}`"), about)
    } else {
        let (default, about) = stated_default(&about);
        if value.to_string().trim_matches('"') == default {
            (format!("`{value}`"), about)
        } else {
            (default, format!("{about} Example: `{value}`."))
        }
    };
    format!("| `{name}` | {default} | {about} |\n")
}

/// Splits a comment into the stated default and the rest.
fn stated_default(about: &str) -> (String, String) {
    if let Some(rest) = about.strip_suffix(REQUIRED) {
        return ("required".to_owned(), rest.trim_end().to_owned());
    }
    match about.rsplit_once(DEFAULT) {
        Some((rest, default)) => {
            (default.trim_end_matches('.').to_owned(), rest.trim_end().to_owned())
        }
        None => ("none".to_owned(), about.to_owned()),
    }
}
