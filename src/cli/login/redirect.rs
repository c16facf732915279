//! Authorization request and redirect: the URL that is opened, and the parameters that come back.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use subtle::ConstantTimeEq as _;
use url::Url;

use leadsd_base::secret::Secret;

/// Path of the redirect URL on loopback.
pub(super) const PATH: &str = "/oauth-callback";

/// Value of `state`, which ties a redirect to this login: 256 random bits.
#[derive(Clone)]
pub(super) struct Nonce(String);

/// Parameters of a redirect.
#[derive(Deserialize, Default, Clone, PartialEq, Eq)]
#[serde(default)]
pub(super) struct Redirect {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Outcome of a redirect.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Access was granted.
    Code(Secret),
    /// Access was not granted.
    Refused,
    /// HubSpot reports an error: code and description.
    Error(String, String),
    /// It belongs to another login.
    Foreign,
    /// It has neither a code nor an error.
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
pub(super) fn on_loopback(port: u16) -> String {
    format!("http://localhost:{port}{PATH}")
}

/// URL of the consent page. It holds no secret.
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
    // HubSpot writes blanks as %20. A plus in a value is %2B already.
    let query = url.query().unwrap_or_default().replace('+', "%20");
    url.set_query(Some(&query));
    url
}

// === impl Redirect ===

impl Redirect {
    /// Parameters of a URL that was copied from the browser; `None` if it is no URL.
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

    /// Evaluates the parameters. None of them counts unless `state` belongs to this login.
    pub(super) fn evaluate(self, nonce: &Nonce) -> Answer {
        let Self { code, state, error, error_description } = self;
        if !nonce.matches(state.as_deref().unwrap_or_default()) {
            return Answer::Foreign;
        }
        let clean = |text: String| -> String {
            text.chars().filter(|c| !c.is_control()).take(300).collect()
        };
        match (error, code.filter(|code| !code.trim().is_empty())) {
            (Some(error), _) if error == "access_denied" => Answer::Refused,
            (Some(error), _) => {
                Answer::Error(clean(error), clean(error_description.unwrap_or_default()))
            }
            (None, Some(code)) => Answer::Code(Secret::new(code.trim())),
            (None, None) => Answer::Empty,
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
    fn the_consent_url_has_what_hubspot_wants_and_a_new_state_each_time() {
        let base = Url::parse("https://app.hubspot.com/oauth/authorize").unwrap();
        let scopes = ["a.read".to_owned(), "a.write".to_owned()];
        let nonce = Nonce::new();
        let url = consent_url(&base, "c d+e", &on_loopback(8976), &scopes, &nonce);
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
    fn nothing_counts_without_the_state_of_this_login() {
        let nonce = Nonce::new();
        let state = &nonce.0;
        let code = back(&format!("code=abc&state={state}")).evaluate(&nonce);
        assert_eq!(code, Answer::Code(Secret::new("abc")));
        let short = &state[..state.len() - 1];
        for foreign in [
            "code=abc".to_owned(),
            "code=abc&state=".to_owned(),
            format!("code=abc&state={short}"),
            format!("code=abc&state={short}%00"),
            format!("error=access_denied&state={}", Nonce::new().0),
        ] {
            assert_eq!(back(&foreign).evaluate(&nonce), Answer::Foreign, "{foreign}");
        }
        let refused = back(&format!("error=access_denied&state={state}")).evaluate(&nonce);
        assert_eq!(refused, Answer::Refused);
        let error = back(&format!("error=x%0Ay&error_description=why&state={state}"));
        assert_eq!(error.evaluate(&nonce), Answer::Error("xy".to_owned(), "why".to_owned()));
        assert_eq!(back(&format!("state={state}")).evaluate(&nonce), Answer::Empty);
        assert_eq!(back(&format!("code=%20&state={state}")).evaluate(&nonce), Answer::Empty);
        assert_eq!(Redirect::from_url("abc"), None);
        assert_eq!(Redirect::from_url("code:abc"), None);
    }
}
