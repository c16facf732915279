//! `leadsd version`: version, commit and date of the build.

use std::sync::LazyLock;

use clap::Args as ClapArgs;
use serde_json::json;

use super::{error::Error, output::print};

/// Version of the package.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Commit of the sources; `None` if its build argument is unset.
const COMMIT: Option<&str> = option_env!("LEADSD_COMMIT");

/// Date of the build; `None` if its build argument is unset.
const BUILD_DATE: Option<&str> = option_env!("LEADSD_BUILD_DATE");

/// Arguments of `leadsd version`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Error> {
    let text = if args.json {
        let commit = known(COMMIT);
        format!(
            "{:#}",
            json!({"version": VERSION, "commit": commit, "build_date": known(BUILD_DATE)})
        )
    } else {
        format!("leadsd {}", long())
    };
    print(&format!("{text}\n")).map_err(Error::print)
}

/// Version with commit and date, such as `0.1.0 (commit 1f2e3d4, built 2026-11-30)`.
pub(super) fn long() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(|| {
        let commit = known(COMMIT).map(|commit| format!("commit {commit}"));
        let date = known(BUILD_DATE).map(|date| format!("built {date}"));
        let parts: Vec<_> = commit.into_iter().chain(date).collect();
        match parts.is_empty() {
            true => format!("{VERSION} (development build)"),
            false => format!("{VERSION} ({})", parts.join(", ")),
        }
    });
    &LONG
}

/// The value, unless the build argument was left empty or at its default.
fn known(value: Option<&'static str>) -> Option<&'static str> {
    value.filter(|value| !value.is_empty() && *value != "unknown")
}
