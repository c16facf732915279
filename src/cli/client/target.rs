//! Service to call: flags and profile in one, validated before anything is sent.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use http::{Uri, uri::Authority};
use leadsd_base::net::listen_address::ListenAddress;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};

use super::{
    args::{ConnectArgs, TokenKind},
    credential::{InvalidToken, TokenSource},
    profile::{InvalidProfile, apply_profile},
};

/// Address without a flag or a profile.
const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";

/// Name of this machine, and the server name of a Unix socket, as gRPC clients send it.
const LOCALHOST: &str = "localhost";

/// Service to call, and the caller.
#[derive(Debug)]
pub(in crate::cli) struct Target {
    pub(super) place: Place,
    /// `None` without TLS.
    pub(super) tls: Option<TargetTls>,
    token: Option<(TokenSource, TokenKind)>,
    metadata: MetadataMap,
    /// Deadline of the caller; `None` for the default.
    pub(in crate::cli) deadline: Option<Duration>,
}

/// Address of a service.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Host without brackets, and port.
    Tcp { authority: Authority, host: String, port: u16 },
    /// Path of a Unix socket, and the address that names it.
    Unix { path: PathBuf, address: String },
}

/// TLS of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TargetTls {
    /// File with the CAs; `None` for the public ones.
    pub(super) ca_file: Option<PathBuf>,
    pub(super) server_name: String,
    /// Files with certificate and key of the client.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// Error of flags or of a profile.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum InvalidTarget {
    #[error(transparent)]
    Profile(#[from] InvalidProfile),
    #[error(transparent)]
    Token(#[from] InvalidToken),
    #[error(
        "invalid address {0:?} (--address): use HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051, or \
         unix:/PATH"
    )]
    Address(String),
    #[error("{0} needs TLS: add --tls, or tls = true in the profile")]
    NeedsTls(&'static str),
    #[error("--cert-file and --key-file need each other")]
    HalfIdentity,
    #[error("{0} needs a token: add --token-file, --token-env or --token-prompt")]
    NeedsToken(&'static str),
    #[error(
        "the token would be sent to {0} without encryption: use --tls, or --allow-plaintext-token \
         if the network encrypts"
    )]
    PlaintextToken(String),
    #[error("{name} is {value:?}: use printable ASCII characters")]
    Metadata { name: &'static str, value: String },
}

// === impl Target ===

impl Target {
    /// Merges flags and profile.
    pub(in crate::cli) fn new(args: ConnectArgs) -> Result<Self, InvalidTarget> {
        let args = apply_profile(args)?;
        let address = args.address.clone().unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
        let place = Place::parse(&address).ok_or(InvalidTarget::Address(address))?;
        let host = place.host();
        let tls = tls(&args, host)?;
        let source = match (&args.token_file, &args.token_env, args.token_prompt) {
            (Some(file), ..) => Some(TokenSource::File(file.clone())),
            (None, Some(name), _) => Some(TokenSource::Environment(name.clone())),
            (None, None, true) => Some(TokenSource::Prompt),
            (None, None, false) => None,
        };
        if source.is_none() && args.auth.is_some() {
            return Err(InvalidTarget::NeedsToken("--auth"));
        }
        let may_be_plaintext = args.allow_plaintext_token == Some(true) || is_loopback(host);
        if source.is_some() && tls.is_none() && !may_be_plaintext {
            return Err(InvalidTarget::PlaintextToken(host.to_owned()));
        }
        let kind = args.auth.unwrap_or_default();
        Ok(Self {
            place,
            tls,
            token: source.map(|source| (source, kind)),
            metadata: metadata(&args)?,
            deadline: args.deadline,
        })
    }

    /// Host and port, or the path of a socket, for messages.
    pub(in crate::cli) fn address(&self) -> &str {
        match &self.place {
            Place::Tcp { authority, .. } => authority.as_str(),
            Place::Unix { address, .. } => address,
        }
    }

    /// Scheme and authority of requests.
    pub(in crate::cli) fn origin(&self) -> Result<Uri, InvalidTarget> {
        let authority = match &self.place {
            Place::Tcp { authority, .. } => authority.as_str(),
            // As gRPC clients send it.
            Place::Unix { .. } => LOCALHOST,
        };
        Uri::builder()
            .scheme(if self.tls.is_some() { "https" } else { "http" })
            .authority(authority)
            .path_and_query("/")
            .build()
            .map_err(|_| InvalidTarget::Address(self.address().to_owned()))
    }

    /// True if calls carry a token.
    pub(in crate::cli) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// True if the token is read from standard input.
    pub(in crate::cli) fn prompts(&self) -> bool {
        matches!(self.token, Some((TokenSource::Prompt, _)))
    }

    /// Request metadata, with the token.
    pub(in crate::cli) async fn metadata(&self) -> Result<MetadataMap, InvalidTarget> {
        let mut metadata = self.metadata.clone();
        if let Some((source, kind)) = &self.token {
            let (key, value) = source.header(*kind).await?;
            metadata.insert(key, value);
        }
        Ok(metadata)
    }
}

// === impl Place ===

impl Place {
    /// Parses `HOST:PORT` or `unix:/PATH`.
    fn parse(address: &str) -> Option<Self> {
        if ListenAddress::unix_path(address).is_some() {
            let Ok(ListenAddress::Unix(path)) = address.parse() else { return None };
            return Some(Self::Unix { path, address: address.to_owned() });
        }
        // User info would be a secret in an argument.
        let authority: Authority = address.parse().ok().filter(|_| !address.contains('@'))?;
        let port = authority.port_u16().filter(|port| *port > 0)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        (!host.is_empty()).then_some(Self::Tcp { authority, host, port })
    }

    /// Name of the host in a certificate.
    fn host(&self) -> &str {
        match self {
            Self::Tcp { host, .. } => host,
            Self::Unix { .. } => LOCALHOST,
        }
    }
}

/// Reports whether commands can connect to an address.
pub(in crate::cli) fn is_address(text: &str) -> bool {
    Place::parse(text).is_some()
}

fn tls(args: &ConnectArgs, host: &str) -> Result<Option<TargetTls>, InvalidTarget> {
    if args.tls != Some(true) {
        let needs = [
            ("--ca-file", args.ca_file.is_some()),
            ("--server-name", args.server_name.is_some()),
            ("--cert-file", args.cert_file.is_some()),
            ("--key-file", args.key_file.is_some()),
        ];
        return match needs.into_iter().find(|(_, is_given)| *is_given) {
            // `--tls=false` turns the TLS of a profile off, with its files.
            Some((name, _)) if args.tls.is_none() => Err(InvalidTarget::NeedsTls(name)),
            Some(_) | None => Ok(None),
        };
    }
    let identity = match (&args.cert_file, &args.key_file) {
        (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(InvalidTarget::HalfIdentity),
    };
    let server_name = args.server_name.clone().unwrap_or_else(|| host.to_owned());
    Ok(Some(TargetTls { ca_file: args.ca_file.clone(), server_name, identity }))
}

fn metadata(args: &ConnectArgs) -> Result<MetadataMap, InvalidTarget> {
    let mut metadata = MetadataMap::new();
    for (name, key, value) in [
        ("--portal", "leadsd-portal", &args.portal),
        ("--priority", "leadsd-priority", &args.priority),
        ("--caller", "leadsd-caller", &args.caller),
    ] {
        let Some(value) = value else { continue };
        let invalid = || InvalidTarget::Metadata { name, value: value.clone() };
        let parsed = AsciiMetadataValue::try_from(value.as_str()).map_err(|_| invalid())?;
        metadata.insert(AsciiMetadataKey::from_static(key), parsed);
    }
    Ok(metadata)
}

/// True if traffic to this host does not leave the machine.
fn is_loopback(host: &str) -> bool {
    let is_local_name = host.eq_ignore_ascii_case(LOCALHOST);
    is_local_name || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arguments that read no profile of the machine that runs the test.
    fn args(file: &tempfile::NamedTempFile) -> ConnectArgs {
        ConnectArgs { profile_file: Some(file.path().to_owned()), ..ConnectArgs::default() }
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for (address, host, port) in [
            ("127.0.0.1:50051", "127.0.0.1", 50051),
            ("[::1]:1", "::1", 1),
            ("leadsd.example.com:443", "leadsd.example.com", 443),
            ("localhost:65535", "localhost", 65535),
        ] {
            let Some(Place::Tcp { host: found, port: number, .. }) = Place::parse(address) else {
                panic!("{address}");
            };
            assert_eq!((found.as_str(), number), (host, port));
        }
        let socket = Place::parse("unix:///run/leadsd.sock").unwrap();
        assert!(
            matches!(&socket, Place::Unix { path, .. } if path.as_os_str() == "/run/leadsd.sock")
        );
        assert_eq!(socket.host(), "localhost");
        for address in [
            "",
            "localhost",
            ":50051",
            "localhost:",
            "localhost:0",
            "localhost:65536",
            "::1:50051",
            "https://localhost:1",
            "user:hush@localhost:1",
            "a b:1",
            "localhost:1/x",
            "unix:leadsd.sock",
            "unix:",
        ] {
            assert_eq!(Place::parse(address), None, "{address}");
        }
    }

    #[test]
    fn a_token_is_sent_without_tls_to_this_machine_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (address, tls, allowed, expected) in [
            ("127.0.0.1:1", None, None, true),
            ("127.9.9.9:1", None, None, true),
            ("[::1]:1", None, None, true),
            ("LOCALHOST:1", None, None, true),
            ("localhost.example.com:1", None, None, false),
            ("10.0.0.1:1", None, None, false),
            ("leadsd:1", None, None, false),
            ("leadsd:1", Some(false), Some(false), false),
            ("leadsd:1", Some(true), None, true),
            ("leadsd:1", None, Some(true), true),
            ("unix:/run/leadsd.sock", None, None, true),
        ] {
            let args = ConnectArgs {
                address: Some(address.into()),
                tls,
                allow_plaintext_token: allowed,
                token_env: Some("TOKEN".into()),
                ..args(&file)
            };
            let target = Target::new(args);
            assert_eq!(target.is_ok(), expected, "{address}: {target:?}");
        }
    }

    #[test]
    fn contradictions_are_errors() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let some = || Some(PathBuf::from("x"));
        for (args, expected) in [
            (ConnectArgs { ca_file: some(), ..args(&file) }, "--ca-file needs TLS"),
            (ConnectArgs { server_name: Some("x".into()), ..args(&file) }, "--server-name needs"),
            (
                ConnectArgs { tls: Some(true), cert_file: some(), ..args(&file) },
                "--cert-file and --key-file need each other",
            ),
            (
                ConnectArgs { tls: Some(true), key_file: some(), ..args(&file) },
                "--cert-file and --key-file need each other",
            ),
            (ConnectArgs { auth: Some(TokenKind::Bearer), ..args(&file) }, "--auth needs a token"),
            (
                ConnectArgs { portal: Some("a\nb".into()), ..args(&file) },
                "--portal is \"a\\nb\": use printable",
            ),
            (ConnectArgs { address: Some("x".into()), ..args(&file) }, "invalid address \"x\""),
        ] {
            let error = Target::new(args).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn metadata_names_portal_priority_and_caller() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let args = ConnectArgs {
            portal: Some("emea".into()),
            priority: Some("bulk".into()),
            caller: Some("ada".into()),
            ..args(&file)
        };
        let metadata = Target::new(args).unwrap().metadata().await.unwrap();
        for (key, value) in
            [("leadsd-portal", "emea"), ("leadsd-priority", "bulk"), ("leadsd-caller", "ada")]
        {
            assert_eq!(metadata.get(key).unwrap(), value);
        }
        assert_eq!(metadata.len(), 3);
    }
}
