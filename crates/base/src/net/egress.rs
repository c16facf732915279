//! Egress policy: the proxy, its exceptions and credentials, and the trusted CAs. One for all clients.
//!
//! [`Egress`] is a handle. The configuration makes it, [`super::http`] and [`super::tunnel`] follow it,
//! and a task stores the proxy's credentials in it. A client asks for the [`Route`] to its peer and shows
//! it to operators.
//!
//! ```
//! use leadsd_base::net::egress::{Egress, NoProxy, Proxy, Settings};
//!
//! let proxy = Proxy::new("http://proxy.example:3128".parse()?, "egress.proxy");
//! let egress = Egress::new(Settings {
//!     https: Some(proxy.clone()),
//!     http: Some(proxy),
//!     no_proxy: vec![NoProxy::parse(".internal", "egress.no_proxy")],
//!     ..Settings::default()
//! });
//! let route = |url: &str| egress.route(&url.parse().expect("a URL")).to_string();
//! assert_eq!(route("https://api.example"), "proxy proxy.example:3128 (egress.proxy)");
//! assert_eq!(route("https://vault.internal:8200"), "direct (egress.no_proxy)");
//! # Ok::<(), url::ParseError>(())
//! ```

mod credentials;
mod no_proxy;

use std::{fmt, sync::Arc, time::Duration};

use reqwest::{Response, StatusCode};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use url::{Host, Url};

pub use self::{
    credentials::{InvalidCredentials, ProxyCredentials},
    no_proxy::{InvalidEntry, NoProxy},
};
use super::{
    connect_error::{self, ConnectError, CredentialsMissing, ProxyError, TunnelFailure},
    trust::CaSource,
};

/// Proxy by its URL, and the key or variable that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    url: Url,
    origin: String,
}

/// Settings of [`Egress`]. The default: every peer is reached directly, and only public CAs are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Proxy for `https` URLs.
    pub https: Option<Proxy>,
    /// Proxy for `http` URLs.
    pub http: Option<Proxy>,
    /// Exceptions: peers that are reached directly.
    pub no_proxy: Vec<NoProxy>,
    /// CAs that are trusted beside the public ones.
    pub ca_sources: Vec<CaSource>,
    /// True if the proxy's credentials are read from Vault: connections wait for them.
    pub has_credentials: bool,
}

/// Way to a peer. `Display` is for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Without a proxy.
    Direct(DirectReason),
    /// Through this proxy.
    Proxy(Proxy),
}

/// Reason why a peer is reached directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectReason {
    /// There is no proxy for the scheme of the URL.
    NoProxy,
    /// The URL is plain `http` to a loopback host: through a proxy, its secrets would leave the machine
    /// unencrypted.
    Loopback,
    /// The key or variable with this name lists the host.
    Listed(String),
}

/// Egress policy of the process. Clones share the credentials of the proxy.
#[derive(Clone)]
pub struct Egress {
    shared: Arc<Shared>,
    is_anonymous: bool,
}

struct Shared {
    settings: Settings,
    credentials: watch::Sender<Option<ProxyCredentials>>,
    /// Wakes the reader of the credentials when the proxy rejects them.
    rejected: Notify,
}

// === impl Proxy ===

impl Proxy {
    /// A proxy at this `http` or `https` URL without credentials. `origin` is the key or variable with
    /// the URL.
    pub fn new(url: Url, origin: impl Into<String>) -> Self {
        Self { url, origin: origin.into() }
    }

    /// URL, without credentials.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Host and port.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host(), self.port())
    }

    pub(super) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    pub(super) fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(80)
    }
}

// === impl Egress ===

impl Egress {
    /// Creates a handle without credentials.
    pub fn new(settings: Settings) -> Self {
        let shared =
            Shared { settings, credentials: watch::Sender::new(None), rejected: Notify::new() };
        Self { shared: Arc::new(shared), is_anonymous: false }
    }

    /// Same policy for a client that sends no credentials to the proxy: they are read with its help.
    pub fn anonymous(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), is_anonymous: true }
    }

    /// Settings.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Finds the route to a URL.
    pub fn route(&self, url: &Url) -> Route {
        let Settings { https, http, no_proxy, .. } = &self.shared.settings;
        let proxy = if url.scheme() == "https" { https } else { http };
        let Some(proxy) = proxy else { return Route::Direct(DirectReason::NoProxy) };
        if url.scheme() == "http" && is_loopback(url) {
            return Route::Direct(DirectReason::Loopback);
        }
        match no_proxy.iter().find(|list| list.lists(url)) {
            Some(list) => Route::Direct(DirectReason::Listed(list.origin().to_owned())),
            None => Route::Proxy(proxy.clone()),
        }
    }

    /// True if a URL may be reached through a proxy.
    pub(super) fn has_proxy(&self) -> bool {
        self.shared.settings.https.is_some() || self.shared.settings.http.is_some()
    }

    /// Stores the credentials of the proxy, for connections from now on. Returns true if they differ
    /// from the previous ones.
    pub fn set_credentials(&self, credentials: ProxyCredentials) -> bool {
        self.shared.credentials.send_if_modified(|current| {
            let differs = current.as_ref() != Some(&credentials);
            *current = Some(credentials);
            differs
        })
    }

    /// Waits until the proxy rejects a connection for its credentials.
    pub async fn credentials_rejected(&self) {
        self.shared.rejected.notified().await;
    }

    /// Credentials for the proxy; `None` if there are none, or none for this client.
    pub(super) fn credentials(&self) -> Option<ProxyCredentials> {
        if self.is_anonymous { None } else { self.shared.credentials.borrow().clone() }
    }

    /// True if connections to this URL wait for credentials from Vault.
    pub(super) fn awaits_credentials(&self, url: &Url) -> bool {
        let awaits = self.shared.settings.has_credentials && !self.is_anonymous;
        awaits && matches!(self.route(url), Route::Proxy(_))
    }

    /// Waits for the first credentials from Vault, at most for `wait`.
    pub(super) async fn await_credentials(&self, wait: Duration) -> Result<(), CredentialsMissing> {
        if self.is_anonymous || !self.shared.settings.has_credentials {
            return Ok(());
        }
        let mut credentials = self.shared.credentials.subscribe();
        let found = timeout(wait, credentials.wait_for(Option::is_some)).await;
        if matches!(found, Ok(Ok(_))) { Ok(()) } else { Err(CredentialsMissing) }
    }

    /// URL of the proxy for a target, with credentials; `None` if the target is reached directly.
    pub(super) fn proxy_url(&self, target: &Url) -> Option<Url> {
        let Route::Proxy(Proxy { mut url, .. }) = self.route(target) else { return None };
        if let Some(credentials) = self.credentials() {
            credentials.write_to(&mut url);
        }
        Some(url)
    }

    /// Classifies a request without a response. Failures of the proxy name the proxy.
    pub fn cause(&self, error: &reqwest::Error) -> ConnectError {
        let plain = connect_error::cause(error);
        let Some(Route::Proxy(proxy)) = error.url().map(|url| self.route(url)) else {
            return plain;
        };
        let is_tunneled = error.url().is_some_and(|url| url.scheme() == "https");
        let before_response = error.is_connect();
        let cause = match connect_error::tunnel_failure(error) {
            Some(TunnelFailure::AuthenticationRequired) => self.authentication_required(),
            Some(TunnelFailure::NoCredentials) => ProxyError::NoCredentials,
            Some(TunnelFailure::Rejected) => ProxyError::Rejected,
            Some(TunnelFailure::InvalidResponse) => ProxyError::InvalidResponse,
            Some(TunnelFailure::Closed) => ProxyError::Closed,
            Some(TunnelFailure::Broken) => ProxyError::from(plain),
            None if before_response && plain == ConnectError::Timeout => ProxyError::Timeout,
            None if !is_tunneled && matches!(plain, ConnectError::Dns | ConnectError::Refused) => {
                ProxyError::from(plain)
            }
            None => return plain,
        };
        ConnectError::Proxy { proxy: proxy.authority(), cause }
    }

    /// Errors if a response is the proxy's own: it asks for credentials. A plain `http` request gets it
    /// instead of the response of the server.
    pub fn check(&self, response: &Response) -> Result<(), ConnectError> {
        if response.status() != StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Ok(());
        }
        match self.route(response.url()) {
            Route::Direct(_) => Ok(()),
            Route::Proxy(proxy) => Err(ConnectError::Proxy {
                proxy: proxy.authority(),
                cause: self.authentication_required(),
            }),
        }
    }

    /// Cause of a response with status 407; wakes the reader of the credentials.
    pub(super) fn authentication_required(&self) -> ProxyError {
        if self.is_anonymous && self.shared.settings.has_credentials {
            return ProxyError::AnonymousRejected;
        }
        if self.credentials().is_none() {
            return ProxyError::CredentialsRequired;
        }
        self.shared.rejected.notify_one();
        ProxyError::CredentialsRejected
    }
}

impl PartialEq for Egress {
    fn eq(&self, other: &Self) -> bool {
        self.is_anonymous == other.is_anonymous && self.settings() == other.settings()
    }
}

impl Eq for Egress {}

impl Default for Egress {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.shared.settings;
        f.debug_struct("Egress").field("settings", settings).finish_non_exhaustive()
    }
}

/// True if the host of a URL is loopback.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    }
}

// === impl Route ===

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(DirectReason::NoProxy) => f.write_str("direct"),
            Self::Direct(DirectReason::Loopback) => f.write_str("direct (loopback)"),
            Self::Direct(DirectReason::Listed(origin)) => write!(f, "direct ({origin})"),
            Self::Proxy(proxy) => write!(f, "proxy {} ({})", proxy.authority(), proxy.origin),
        }
    }
}

#[cfg(test)]
mod tests;
