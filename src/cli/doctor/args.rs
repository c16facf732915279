//! Arguments of `leadsd doctor`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// Arguments of `leadsd doctor`.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Args {
    /// Configuration file; environment variables (LEADSD_...) override it.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Checks only this portal. Default: all portals.
    #[arg(long, value_name = "NAME")]
    pub(super) portal: Option<String>,
    /// Prints JSON; docs/DOCTOR.md describes its fields.
    #[arg(long)]
    pub(super) json: bool,
    /// Creates one lead in each portal and archives it, after confirmation.
    #[arg(long)]
    pub(super) write_probe: bool,
    /// Primary contact of the created lead. Default: the contact of the first lead listed.
    #[arg(long, value_name = "ID", requires = "write_probe")]
    pub(super) contact: Option<String>,
    /// Skips the confirmation.
    #[arg(long, requires = "write_probe")]
    pub(super) yes: bool,
}
