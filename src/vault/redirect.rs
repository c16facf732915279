//! Redirects of standby nodes: one is followed, with method, body and token.

use reqwest::{Response, header::LOCATION};
use url::Url;

use super::error::Error;

/// Remedy for a redirect that is not followed.
const REMEDY: &str = "set vault.address to an address of the active node, or set api_addr of the \
                      nodes to an address that leadsd reaches over the same scheme";

/// Reports whether a response is a redirect that keeps method and body. Vault uses no other.
pub(super) fn is_redirect(response: &Response) -> bool {
    matches!(response.status().as_u16(), 307 | 308)
}

/// Target of the redirect of a request to `from`. The scheme must be the same: a token must not leave over
/// plain HTTP, and a certificate of `vault.ca_file` proves nothing about a server without TLS.
pub(super) fn target(from: &Url, response: &Response) -> Result<Url, Error> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    resolve(from, location).ok_or_else(|| not_followed("redirects to another scheme or to no URL"))
}

/// Error of a redirect to a node that redirects again.
pub(super) fn repeated() -> Error {
    not_followed("redirects to a node that redirects again")
}

fn not_followed(what: &str) -> Error {
    Error::Unavailable(format!("a standby node {what}; {REMEDY}"))
}

fn resolve(from: &Url, location: Option<&str>) -> Option<Url> {
    let target = from.join(location?).ok()?;
    let has_credentials = !target.username().is_empty() || target.password().is_some();
    (target.scheme() == from.scheme() && target.has_host() && !has_credentials).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_followed_within_its_scheme() {
        for (from, location, wanted) in [
            (
                "https://a/v1/x",
                "https://b:8200/v1/x?list=true",
                Some("https://b:8200/v1/x?list=true"),
            ),
            ("http://a:8200/v1/x", "http://b:8200/v1/x", Some("http://b:8200/v1/x")),
            ("https://a/v1/x", "/v1/y", Some("https://a/v1/y")),
            ("https://a/v1/x", "//b/v1/x", Some("https://b/v1/x")),
            ("https://a/v1/x", "http://b/v1/x", None),
            ("http://a/v1/x", "https://b/v1/x", None),
            ("https://a/v1/x", "ftp://b/v1/x", None),
            ("https://a/v1/x", "https://user:secret@b/v1/x", None),
            ("https://a/v1/x", "https://", None),
        ] {
            let from: Url = from.parse().unwrap();
            let target = resolve(&from, Some(location));
            assert_eq!(target.as_ref().map(Url::as_str), wanted, "{from} {location}");
            assert_eq!(resolve(&from, None), None);
        }
    }
}
