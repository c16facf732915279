//! Arguments of `leadsd doctor`.

use std::path::PathBuf;

use clap::{ArgGroup, Args as ClapArgs};

/// Arguments of `leadsd doctor`.
#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("writes").args(["write_probe", "conformance"]))]
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
    /// Tries every fact about HubSpot that leadsd depends on, after confirmation. For test accounts
    ///
    /// Creates up to twenty leads in the portal, perhaps a property, and archives them. Associates one of
    /// the leads with up to 501 contacts.
    #[arg(long, requires = "portal")]
    pub(super) conformance: bool,
    /// File for the result of --conformance, for leadsd dev --switches.
    #[arg(long, value_name = "FILE", requires = "conformance")]
    pub(super) switches: Option<PathBuf>,
    /// Primary contact of created leads. Default: the contact of the first lead listed.
    #[arg(long, value_name = "ID", requires = "writes")]
    pub(super) contact: Option<String>,
    /// Skips the confirmation.
    #[arg(long, requires = "writes")]
    pub(super) yes: bool,
}
