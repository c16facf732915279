//! OAuth authorization request (RFC 6749, section 4.1): consent URL and redirect parameters.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use subtle::ConstantTimeEq as _;
use url::Url;

use leadsd_base::secret::Secret;

/// Path of the redirect URL on loopback.
pub(super) const PATH: &str = "/oauth-callback";

/// Value of the `state` parameter, 256 random bits: binds a redirect to this login.
#[derive(Clone)]
pub(super) struct Nonce(String);

/// Query parameters of a redirect.
#[derive(Deserialize, Default, Clone, PartialEq, Eq)]
#[serde(default)]
pub(super) struct Redirect {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Outcome of an authorization request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AuthorizationOutcome {
    /// Access was granted.
    Code(Secret),
    /// Access was not granted.
    Denied,
    /// HubSpot returned an error: code and description.
    Error(String, String),
    /// The `state` parameter is missing or belongs to another login.
    WrongState,
    /// The redirect has neither a code nor an error.
    Empty,
}

// === impl Nonce ===

impl Nonce {
    pub(super) fn new() -> Self {
        Self(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
    }

    /// Compares in constant time.
    fn matches(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

/// Redirect URL on loopback. HubSpot accepts http only for the host name localhost.
pub(super) fn loopback_url(port: u16) -> String {
    format!("http://localhost:{port}{PATH}")
}

/// URL of the consent page. It contains no secret.
pub(super) fn consent_url(
    base: &Url,
    client_id: &str,
    redirect: &str,
    scopes: &[String],
    nonce: &Nonce,
) -> Url {
    let mut url = base.clone();
    url.query_pairs_mut()
        .append_pair("client_id", client_id)
        .append_pair("redirect_uri", redirect)
        .append_pair("scope", &scopes.join(" "))
        .append_pair("state", &nonce.0);
    // HubSpot encodes spaces as %20. A plus in a value is encoded as %2B already.
    let query = url.query().unwrap_or_default().replace('+', "%20");
    url.set_query(Some(&query));
    url
}

// === impl Redirect ===

impl Redirect {
    /// Parses a URL that was copied from the browser; `None` if the text is not an HTTP URL.
    pub(super) fn from_url(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let value = |name: &str| {
            let found = url.query_pairs().find(|(key, _)| key == name);
            found.map(|(_, value)| value.into_owned())
        };
        Some(Self {
            code: value("code"),
            state: value("state"),
            error: value("error"),
            error_description: value("error_description"),
        })
    }

    /// Evaluates the parameters. They are ignored unless `state` belongs to this login.
    pub(super) fn evaluate(self, nonce: &Nonce) -> AuthorizationOutcome {
        let Self { code, state, error, error_description } = self;
        if !nonce.matches(state.as_deref().unwrap_or_default()) {
            return AuthorizationOutcome::WrongState;
        }
        let clean = |text: String| -> String {
            text.chars().filter(|c| !c.is_control()).take(300).collect()
        };
        match (error, code.filter(|code| !code.trim().is_empty())) {
            (Some(error), _) if error == "access_denied" => AuthorizationOutcome::Denied,
            (Some(error), _) => AuthorizationOutcome::Error(
                clean(error),
                clean(error_description.unwrap_or_default()),
            ),
            (None, Some(code)) => AuthorizationOutcome::Code(Secret::new(code.trim())),
            (None, None) => AuthorizationOutcome::Empty,
        }
    }
}

impl fmt::Debug for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redirect").field("error", &self.error).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(query: &str) -> Redirect {
        Redirect::from_url(&format!("http://localhost:1{PATH}?{query}")).unwrap()
    }

    #[test]
    fn the_consent_url_has_all_parameters_and_a_random_state() {
        let base = Url::parse("https://app.hubspot.com/oauth/authorize").unwrap();
        let scopes = ["a.read".to_owned(), "a.write".to_owned()];
        let nonce = Nonce::new();
        let url = consent_url(&base, "c d+e", &loopback_url(8976), &scopes, &nonce);
        assert_eq!(
            url.as_str(),
            format!(
                "https://app.hubspot.com/oauth/authorize?client_id=c%20d%2Be\
                 &redirect_uri=http%3A%2F%2Flocalhost%3A8976%2Foauth-callback\
                 &scope=a.read%20a.write&state={}",
                nonce.0
            )
        );
        assert_eq!(URL_SAFE_NO_PAD.decode(&nonce.0).unwrap().len(), 32);
        assert_ne!(nonce.0, Nonce::new().0);
    }

    #[test]
    fn a_redirect_with_the_wrong_state_is_ignored() {
        let nonce = Nonce::new();
        let state = &nonce.0;
        let code = back(&format!("code=abc&state={state}")).evaluate(&nonce);
        assert_eq!(code, AuthorizationOutcome::Code(Secret::new("abc")));
        let short = &state[..state.len() - 1];
        for foreign in [
            "code=abc".to_owned(),
            "code=abc&state=".to_owned(),
            format!("code=abc&state={short}"),
            format!("code=abc&state={short}%00"),
            format!("error=access_denied&state={}", Nonce::new().0),
        ] {
            assert_eq!(
                back(&foreign).evaluate(&nonce),
                AuthorizationOutcome::WrongState,
                "{foreign}"
            );
        }
        let refused = back(&format!("error=access_denied&state={state}")).evaluate(&nonce);
        assert_eq!(refused, AuthorizationOutcome::Denied);
        let error = back(&format!("error=x%0Ay&error_description=why&state={state}"));
        assert_eq!(
            error.evaluate(&nonce),
            AuthorizationOutcome::Error("xy".to_owned(), "why".to_owned())
        );
        assert_eq!(back(&format!("state={state}")).evaluate(&nonce), AuthorizationOutcome::Empty);
        assert_eq!(
            back(&format!("code=%20&state={state}")).evaluate(&nonce),
            AuthorizationOutcome::Empty
        );
        assert_eq!(Redirect::from_url("abc"), None);
        assert_eq!(Redirect::from_url("code:abc"), None);
    }
}
