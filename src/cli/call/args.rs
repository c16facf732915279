//! Arguments of `leadsd call`.

use std::ffi::OsStr;

use clap::{
    Arg, Args as ClapArgs, Command,
    builder::{PossibleValue, StringValueParser, TypedValueParser},
};

use super::{
    contract::{completed_name, methods, summary},
    exit,
};
use crate::{cli::client::ConnectArgs, config};

/// Maximum of `--max-response-size` in bytes: a message is in memory several times over.
const MAX_RESPONSE: usize = 1 << 30;

/// Arguments of `leadsd call`.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = exit::HELP)]
pub(in crate::cli) struct Args {
    /// Method, such as GetLead; with its service if several have the name.
    #[arg(
        value_parser = MethodNames, hide_possible_values = true,
        required_unless_present_any = ["list", "describe"]
    )]
    pub(super) method: Option<String>,
    /// Fields of the request, and before them at most one JSON object.
    ///
    /// JSON is an argument that starts with `{`, @FILE, or - for standard input. NAME=VALUE sets a
    /// field: `id=112`; `properties.hs_lead_name=Ada` in a map; `properties=hs_lead_name` in a list,
    /// once for each element; `filter_groups[0].filters[0].operator=EQ` in a nested message. NAME:=JSON
    /// sets it to a JSON value.
    #[arg(value_name = "JSON|FIELD=VALUE")]
    pub(super) request: Vec<String>,
    /// Lists all methods.
    #[arg(long, exclusive = true)]
    pub(super) list: bool,
    /// Describes a method or a type, with all fields.
    #[arg(
        long, value_name = "NAME", exclusive = true, value_parser = MethodNames,
        hide_possible_values = true
    )]
    pub(super) describe: Option<String>,
    /// Prints each response as JSON on one line, and an error as JSON on standard error.
    #[arg(long)]
    pub(super) json: bool,
    /// Prints response metadata to standard error.
    #[arg(long, short)]
    pub(super) verbose: bool,
    /// Ends a stream after this number of responses.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) max_messages: Option<u64>,
    /// Maximum size of a response message.
    #[arg(
        long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_response_size
    )]
    pub(super) max_response_size: usize,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
}

/// Names of methods, for completion scripts. Other names are parsed as well: errors suggest one.
#[derive(Debug, Clone, Copy)]
struct MethodNames;

fn parse_response_size(text: &str) -> Result<usize, String> {
    config::size(text)
        .filter(|size| (1..=MAX_RESPONSE).contains(size))
        .ok_or_else(|| "use a size from 1B to 1GiB, such as 64MiB".to_owned())
}

// === impl MethodNames ===

impl TypedValueParser for MethodNames {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let value = |method| PossibleValue::new(completed_name(&method)).help(summary(&method));
        Some(Box::new(methods().map(value)))
    }
}
