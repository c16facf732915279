//! Parses the credential of a stored secret. Errors name keys, never values.

use crate::{cli::remediation::Remediation, hubspot::OAuthApp, vault::SecretData};
use leadsd_base::secret::Secret;

/// Keys of an OAuth credential.
const OAUTH: [&str; 3] = ["client_id", "client_secret", "refresh_token"];

/// Stored credential.
pub(super) enum Credential {
    Static(Secret),
    OAuth(OAuthApp, Secret),
}

// === impl Credential ===

impl Credential {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Static(_) => "a static token",
            Self::OAuth(..) => "an OAuth grant",
        }
    }
}

/// Parses the credential of a secret, with a warning if a value has surrounding whitespace.
pub(super) fn parse_credential(
    keys: &SecretData,
) -> Result<(Credential, Option<Remediation>), Remediation> {
    let has = |names: &[&'static str]| -> Vec<&'static str> {
        names.iter().copied().filter(|name| keys.has(name)).collect()
    };
    let (is_static, oauth) = (keys.has("access_token"), has(&OAUTH));
    if is_static && !oauth.is_empty() {
        return Err(Remediation::new(
            format!(
                "the secret contains both kinds of credential: access_token and {}",
                oauth.join(", ")
            ),
            "remove the keys of one kind, or store the credential again",
        ));
    }
    if !is_static && oauth.len() < OAUTH.len() {
        if oauth.is_empty() {
            let names: Vec<&str> = keys.names().take(8).collect();
            return Err(Remediation::new(
                format!("the secret contains no credential; its keys: {}", names.join(", ")),
                "store access_token, or client_id, client_secret and refresh_token",
            ));
        }
        let missing: Vec<_> = OAUTH.into_iter().filter(|name| !keys.has(name)).collect();
        return Err(Remediation::new(
            format!("the OAuth credential lacks {}", missing.join(", ")),
            "store all three keys",
        ));
    }
    let wanted = if is_static { &["access_token"][..] } else { &OAUTH[..] };
    let mut warning = None;
    for name in wanted {
        warning = warning.or(check_value(keys, name)?);
    }
    let secret = |name: &str| keys.secret(name).ok_or_else(|| missing_value(name));
    let credential = if is_static {
        Credential::Static(secret("access_token")?)
    } else {
        let client_id = secret("client_id")?.expose().to_owned();
        let app = OAuthApp { client_id, client_secret: secret("client_secret")? };
        Credential::OAuth(app, secret("refresh_token")?)
    };
    Ok((credential, warning))
}

/// Checks one value. Errors if it is unusable; warns if it has surrounding whitespace.
fn check_value(keys: &SecretData, name: &str) -> Result<Option<Remediation>, Remediation> {
    let text = keys.text(name).ok_or_else(|| missing_value(name))?;
    let inner = text.trim();
    if inner.is_empty() {
        return Err(missing_value(name));
    }
    if !inner.chars().all(|c| c.is_ascii_graphic()) {
        return Err(Remediation::new(
            format!("{name} contains whitespace or characters that are invalid in a token"),
            "copy it again as one piece, without the word Bearer",
        ));
    }
    let warning = || {
        let cause = format!("{name} has surrounding whitespace, which leadsd ignores");
        Remediation::new(cause, "store it without whitespace: use printf instead of echo")
    };
    Ok((inner != text).then(warning))
}

fn missing_value(name: &str) -> Remediation {
    Remediation::new(format!("{name} is empty or not a string"), "store it again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pairs: &[(&str, &str)]) -> SecretData {
        let mut keys = SecretData::default();
        pairs.iter().for_each(|(name, value)| keys.set(name, value));
        keys
    }

    #[test]
    fn parsing_a_secret_returns_a_credential_or_the_cause() {
        let complete = [("client_id", "c"), ("client_secret", "s"), ("refresh_token", "r")];
        let good = parse_credential(&keys(&complete)).ok().unwrap();
        assert!(matches!(good, (Credential::OAuth(..), None)));
        let good = parse_credential(&keys(&[("access_token", "a"), ("hub_id", "1")])).ok().unwrap();
        assert!(matches!(good, (Credential::Static(_), None)));
        let warning =
            parse_credential(&keys(&[("access_token", "hunter2\n")])).ok().unwrap().1.unwrap();
        assert!(warning.cause.contains("access_token has surrounding whitespace"));
        for (pairs, cause) in [
            (&[][..], "contains no credential"),
            (&[("token", "hunter2")], "its keys: token"),
            (&[("access_token", "")], "access_token is empty"),
            (&[("access_token", "Bearer hunter2")], "access_token contains whitespace"),
            (&[("access_token", "a"), ("client_id", "c")], "both kinds"),
            (&complete[..2], "lacks refresh_token"),
            (&complete[2..], "lacks client_id, client_secret"),
        ] {
            let remediation = parse_credential(&keys(pairs)).err().unwrap();
            assert!(remediation.cause.contains(cause), "{cause:?} in {remediation}");
            assert!(!remediation.to_string().contains("hunter2"), "{remediation}");
        }
    }
}
