//! Generates docs/CONFIG.md from the default file.

use std::fmt::Write as _;

use super::annotated_toml::{Key, Section, SectionKind};

const HEAD: &str = "# Configuration

Generated from [leadsd.example.toml](../leadsd.example.toml), which is also the compiled-in lowest \
layer; a test compares the two. `LEADSD_BLESS=1 cargo test config` writes this page anew.

A file (`--config`) goes over the defaults, the environment over the file: every key is also \
`LEADSD_<SECTION>__<KEY>`, such as `LEADSD_GRPC__LISTEN` or `LEADSD_PORTALS__DEFAULT__SECRET`. Unknown \
keys are errors, and all faults are reported at once, before a socket opens. Durations and sizes are \
texts with a unit: `250ms`, `5s`, `10m`, `1h`; `64KiB`, `4MiB`, `1GiB`. Secrets are never configuration: \
it says where in Vault they are.

`leadsd config check` says whether a configuration is right, `leadsd config print` shows the effective \
one with where each value came from, and `leadsd config schema` prints its JSON schema.
";

/// Generates the page.
pub(super) fn page(sections: &[Section]) -> String {
    let mut out = HEAD.to_owned();
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
}

fn row(section: &Section, key: &Key) -> String {
    let value = &key.value;
    let name = if section.kind == SectionKind::Map { "<name>" } else { &key.name };
    let default =
        if key.has_default { format!("`{value}`") } else { format!("none; such as `{value}`") };
    let about = key.about.replace('|', "\\|");
    format!("| `{name}` | {default} | {about} |\n")
}
