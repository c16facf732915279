//! Arguments of `leadsd doctor`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Args {
    /// Configuration file; the environment (LEADSD_...) goes over it.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Looks at this portal only. Default: all.
    #[arg(long, value_name = "NAME")]
    pub(super) portal: Option<String>,
    /// Prints JSON instead of lines; docs/DOCTOR.md says what its fields are.
    #[arg(long)]
    pub(super) json: bool,
    /// Creates one lead in each portal and archives it, after asking.
    #[arg(long)]
    pub(super) write_probe: bool,
    /// Contact that this lead is of. Default: that of the first lead there is.
    #[arg(long, value_name = "ID", requires = "write_probe")]
    pub(super) contact: Option<String>,
    /// Does not ask.
    #[arg(long, requires = "write_probe")]
    pub(super) yes: bool,
}
