//! Flags of the commands that call a running service.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::config;

/// Address, TLS, credential and metadata of calls.
#[derive(Debug, Default, Args)]
pub(in crate::cli) struct ConnectArgs {
    /// Address of the gRPC port, as HOST:PORT or unix:/PATH. Default: 127.0.0.1:50051.
    #[arg(long, value_name = "HOST:PORT")]
    pub(in crate::cli) address: Option<String>,
    /// Connects with TLS.
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true"
    )]
    pub(in crate::cli) tls: Option<bool>,
    /// PEM file with the CA certificates that verify the service's certificate. Default: public CAs.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) ca_file: Option<PathBuf>,
    /// Host name to verify in the certificate. Default: the host of the address.
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) server_name: Option<String>,
    /// PEM file with the client certificate, for mTLS.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) cert_file: Option<PathBuf>,
    /// PEM file with the private key of --cert-file.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) key_file: Option<PathBuf>,
    /// File with the token of the caller.
    #[arg(long, value_name = "FILE", group = "token")]
    pub(super) token_file: Option<PathBuf>,
    /// Name of the environment variable with the token of the caller.
    #[arg(long, value_name = "NAME", group = "token")]
    pub(super) token_env: Option<String>,
    /// Asks for the token of the caller, without showing it.
    #[arg(long, group = "token")]
    pub(super) token_prompt: bool,
    /// Kind of the token. Default: bearer.
    #[arg(long, value_enum, value_name = "KIND")]
    pub(super) auth: Option<TokenKind>,
    /// Sends the token without TLS to another host, through a network that encrypts by itself.
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) allow_plaintext_token: Option<bool>,
    /// Name of the HubSpot account (portal). Default: the one called default, or the only one.
    #[arg(long, value_name = "NAME")]
    pub(super) portal: Option<String>,
    /// Priority in the quota's queue: interactive or bulk. Default: interactive.
    #[arg(long, value_name = "PRIORITY")]
    pub(super) priority: Option<String>,
    /// Name of the caller, for a service that does not authenticate callers.
    #[arg(long, value_name = "NAME")]
    pub(super) caller: Option<String>,
    /// Deadline of the call, such as 500ms, 20s or 5m. Default: 20s; 2m for batches; none for streams.
    #[arg(long, value_name = "DURATION", value_parser = parse_deadline)]
    pub(super) deadline: Option<Duration>,
    /// Profile with defaults for these flags.
    #[arg(long, value_name = "NAME")]
    pub(super) profile: Option<String>,
    /// File with profiles. Default: leadsd/profiles.toml in $XDG_CONFIG_HOME or ~/.config.
    #[arg(long, value_name = "FILE")]
    pub(super) profile_file: Option<PathBuf>,
}

/// Header that carries the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum TokenKind {
    /// `authorization: Bearer TOKEN`.
    #[default]
    Bearer,
    /// `x-api-key: TOKEN`.
    ApiKey,
}

/// Maximum deadline: grpc-timeout has eight digits.
const MAX_DEADLINE: Duration = Duration::from_secs(24 * 3_600);

/// Parses a deadline.
pub(super) fn parse_deadline(text: &str) -> Result<Duration, String> {
    config::duration(text)
        .filter(|deadline| (Duration::from_millis(1)..=MAX_DEADLINE).contains(deadline))
        .ok_or_else(|| "use a duration from 1ms to 24h, such as 500ms, 20s or 5m".to_owned())
}
