//! Profiles: precedence, paths, and errors that quote no secret.

use std::time::Duration;

use leadsd_base::secret::SECRET_MARKER;

use super::*;

const TEXT: &str = r#"
default = "local"

[profile.local]
address = "127.0.0.1:1"

[profile.production]
address = "leadsd.example.com:443"
tls = true
ca_file = "ca.pem"
cert_file = "/etc/cert.pem"
key_file = "keys/key.pem"
server_name = "leadsd"
token_file = "token"
auth = "api-key"
portal = "emea"
priority = "bulk"
caller = "ada"
deadline = "5s"
"#;

fn applied(args: ConnectArgs, text: &str) -> Result<ConnectArgs, String> {
    apply(args, Path::new("/conf/profiles.toml"), text).map_err(|error| error.to_string())
}

fn named(profile: &str) -> ConnectArgs {
    ConnectArgs { profile: Some(profile.to_owned()), ..ConnectArgs::default() }
}

#[test]
fn values_of_the_named_profile_are_used_and_files_are_beside_it() {
    let found = applied(named("production"), TEXT).unwrap();
    let paths = [&found.ca_file, &found.cert_file, &found.key_file, &found.token_file];
    let paths = paths.map(|path| path.clone().unwrap().display().to_string());
    assert_eq!(paths, ["/conf/ca.pem", "/etc/cert.pem", "/conf/keys/key.pem", "/conf/token"]);
    assert_eq!(found.address.as_deref(), Some("leadsd.example.com:443"));
    assert_eq!((found.tls, found.auth), (Some(true), Some(TokenKind::ApiKey)));
    assert_eq!(found.deadline, Some(Duration::from_secs(5)));
    let texts = [found.portal, found.priority, found.caller, found.server_name];
    assert_eq!(texts.map(Option::unwrap), ["emea", "bulk", "ada", "leadsd"]);
}

#[test]
fn the_default_profile_is_used_without_a_name() {
    let found = applied(ConnectArgs::default(), TEXT).unwrap();
    assert_eq!(found.address.as_deref(), Some("127.0.0.1:1"));
    let found = applied(ConnectArgs::default(), "[profile.x]\naddress = \"y:1\"\n").unwrap();
    assert_eq!(found.address, None, "no default");
}

#[test]
fn flags_override_the_profile_and_a_token_replaces_its_source() {
    let args = ConnectArgs {
        address: Some("x:1".into()),
        tls: Some(false),
        token_env: Some("TOKEN".into()),
        deadline: Some(Duration::from_secs(1)),
        ..named("production")
    };
    let found = applied(args, TEXT).unwrap();
    assert_eq!((found.address.as_deref(), found.tls), (Some("x:1"), Some(false)));
    assert_eq!((found.token_file, found.token_env.as_deref()), (None, Some("TOKEN")));
    assert_eq!(found.deadline, Some(Duration::from_secs(1)));
    let args = ConnectArgs { token_prompt: true, ..named("production") };
    assert_eq!(applied(args, TEXT).unwrap().token_file, None);
}

#[test]
fn secrets_in_a_profile_are_rejected_and_not_quoted() {
    for key in ["token", "api_key", "apikey", "password", "key", "client_secret", "Authorization"] {
        let text = format!("[profile.x]\n{key} = \"{SECRET_MARKER}\"\n");
        let error = applied(named("x"), &text).unwrap_err();
        assert!(error.contains("must not contain a secret"), "{key}: {error}");
        assert!(error.contains("token_file") && !error.contains(SECRET_MARKER), "{error}");
    }
    let text = format!("[profile.x]\naddress = {SECRET_MARKER}\n");
    let error = applied(named("x"), &text).unwrap_err();
    assert!(!error.contains(SECRET_MARKER), "{error}");
}

#[test]
fn errors_name_the_file_the_profile_and_the_nearest_name() {
    for (profile, text, expected) in [
        ("prodution", TEXT, "has no profile \"prodution\"; did you mean \"production\"?"),
        ("zzz", TEXT, "has no profile \"zzz\"; it has local, production"),
        (
            "x",
            "[profile.x]\nadress = \"a:1\"\n",
            "unknown key \"adress\"; did you mean \"address\"?",
        ),
        ("x", "[profile.x]\ntls = \"yes\"\n", "profile \"x\": invalid type: string"),
        ("x", "[profile.x]\nauth = \"basic\"\n", "profile \"x\": unknown variant"),
        ("x", "[profile.x]\ndeadline = \"0s\"\n", "deadline: use a duration from 1ms to 24h"),
        ("x", "[profil.x]\n", "is no valid profile file: unknown field `profil`"),
        ("x", "profile", "is no valid profile file: "),
    ] {
        let error = applied(named(profile), text).unwrap_err();
        assert!(error.starts_with("/conf/profiles.toml"), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_missing_file_is_an_error_only_if_it_was_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("profiles.toml");
    let args = ConnectArgs { profile_file: Some(missing.clone()), ..ConnectArgs::default() };
    let error = apply_profile(args).unwrap_err().to_string();
    assert!(error.contains(&missing.display().to_string()), "{error}");
    std::fs::write(&missing, " ".repeat(2 << 20)).unwrap();
    let args = ConnectArgs { profile_file: Some(missing), ..ConnectArgs::default() };
    assert!(matches!(apply_profile(args), Err(InvalidProfile::TooLong(_))));
}

#[test]
fn every_key_of_a_profile_is_a_flag() {
    use clap::Args as _;
    let command = ConnectArgs::augment_args(clap::Command::new("x"));
    let flags: Vec<_> = command.get_arguments().filter_map(|flag| flag.get_long()).collect();
    for key in KEYS {
        assert!(flags.contains(&key.replace('_', "-").as_str()), "{key}");
    }
}
