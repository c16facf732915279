//! `[egress]`: the way to HubSpot, Vault, the token issuer and the trace collector.
//!
//! It also reads the usual variables of the environment: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`,
//! `NO_PROXY`, `SSL_CERT_FILE` and `SSL_CERT_DIR`. Rules that they follow:
//! - `egress.proxy` replaces all variables about proxies.
//! - A lower-case name takes precedence, and an empty value means that there is no proxy.
//! - `HTTP_PROXY` is ignored in a CGI program, in which clients can set it by the header `Proxy`.

use std::{collections::BTreeMap, path::Path};

use leadsd_base::net::{
    egress::{Egress, NoProxy, Proxy, Settings},
    trust::{CaSource, CaSourceKind},
};
use leadsd_credentials::SecretPath;
use url::Url;

use super::{check::Checker, error::ENVIRONMENT, raw};

/// Key of the proxy.
const PROXY: &str = "egress.proxy";

/// Key of the exceptions.
const NO_PROXY: &str = "egress.no_proxy";

/// Variable that every CGI program has.
const CGI: &str = "REQUEST_METHOD";

/// `[egress]`
#[derive(Debug, Clone)]
pub struct EgressConfig {
    /// Policy for all clients.
    pub policy: Egress,
    /// Path of the secret with the credentials of the proxy; `None` if it requires none.
    pub credentials_secret: Option<SecretPath>,
}

/// Variables about egress, by name.
#[derive(Debug, Default)]
pub(super) struct Variables(BTreeMap<String, String>);

// === impl Variables ===

impl Variables {
    /// Keeps a variable if it is about egress.
    pub(super) fn add(&mut self, name: String, value: String) {
        let is_proxy = name.to_ascii_lowercase().ends_with("_proxy");
        if is_proxy || name.starts_with("SSL_CERT_") || name == CGI {
            self.0.insert(name, value);
        }
    }

    fn get(&self, name: &str) -> Option<(&str, &str)> {
        self.0.get_key_value(name).map(|(name, value)| (name.as_str(), value.trim()))
    }

    /// First of the variables that is set, with its name. The lower-case name of each comes first.
    fn first(&self, names: &[&str]) -> Option<(&str, &str)> {
        names.iter().find_map(|name| {
            let lower = self.get(&name.to_ascii_lowercase());
            // In a CGI program, the variable is a header of the request.
            let is_header = *name == "HTTP_PROXY" && self.0.contains_key(CGI);
            lower.or_else(|| self.get(name).filter(|_| !is_header))
        })
    }
}

// === impl Checker ===

impl Checker<'_> {
    /// Converts `[egress]`, with the variables of the environment.
    pub(super) fn egress(
        &mut self,
        raw: &raw::Egress,
        variables: &Variables,
    ) -> Option<EgressConfig> {
        let raw::Egress { proxy, no_proxy, credentials_secret, ca_files, from_environment } = raw;
        let errors = self.errors.len();
        let none = Variables::default();
        let variables = if *from_environment { variables } else { &none };
        let mut settings = Settings::default();
        for entry in no_proxy {
            if NoProxy::check(entry).is_err() {
                let text = "must be a list of host names, IP addresses, CIDR blocks, or *; ports as in host:443";
                self.add_error(NO_PROXY, text);
            }
        }
        settings.no_proxy.push(NoProxy::parse(&no_proxy.join(","), NO_PROXY));
        match proxy {
            Some(proxy) => {
                let proxy = self.proxy(PROXY, proxy);
                (settings.https, settings.http) = (proxy.clone(), proxy);
            }
            None => {
                settings.https = self.variable(variables.first(&["HTTPS_PROXY", "ALL_PROXY"]));
                settings.http = self.variable(variables.first(&["HTTP_PROXY", "ALL_PROXY"]));
                let exceptions = variables.first(&["NO_PROXY"]);
                settings.no_proxy.extend(exceptions.map(|(name, list)| NoProxy::parse(list, name)));
            }
        }
        let credentials_secret = match credentials_secret.as_deref().map(SecretPath::parse) {
            Some(Err(what)) => {
                self.add_error("egress.credentials_secret", what);
                None
            }
            Some(Ok(path)) => Some(path),
            None => None,
        };
        settings.has_credentials = credentials_secret.is_some();
        if self.errors.len() == errors
            && settings.has_credentials
            && settings.https.is_none()
            && settings.http.is_none()
        {
            let text = "needs a proxy: set egress.proxy or HTTPS_PROXY";
            self.add_error("egress.credentials_secret", text);
        }
        settings.ca_sources =
            ca_files.iter().map(|file| CaSource::file("egress.ca_files", file)).collect();
        settings.ca_sources.extend(ca_variables(variables));
        (self.errors.len() == errors)
            .then(|| EgressConfig { policy: Egress::new(settings), credentials_secret })
    }

    /// Proxy in a variable; `None` without one.
    fn variable(&mut self, variable: Option<(&str, &str)>) -> Option<Proxy> {
        let (name, value) = variable.filter(|(_, value)| !value.is_empty())?;
        let errors = self.errors.len();
        let proxy = self.proxy(name, value);
        for error in &mut self.errors[errors..] {
            error.origin = format!("{ENVIRONMENT}{name}");
        }
        proxy
    }

    /// Converts the URL of a proxy. Without a scheme, it is `http`.
    fn proxy(&mut self, key: &str, text: &str) -> Option<Proxy> {
        let with_scheme =
            if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&with_scheme).ok();
        // The value may contain a password, so it is not part of a message.
        let what = match &url {
            Some(url) if !url.username().is_empty() || url.password().is_some() => {
                "must not contain credentials: store username and password in Vault, and set \
                 egress.credentials_secret"
            }
            Some(url) if url.scheme().starts_with("socks") => {
                "must be an HTTP proxy: SOCKS is not supported; set egress.proxy to an HTTP proxy, or \
                 egress.from_environment to false"
            }
            Some(url)
                if matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && matches!(url.path(), "" | "/")
                    && url.query().is_none()
                    && url.fragment().is_none() =>
            {
                return Some(Proxy::new(url.clone(), key));
            }
            _ => "must be an http or https URL of a proxy, such as http://proxy.example:3128",
        };
        self.add_error(key, what);
        None
    }
}

/// CAs that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
fn ca_variables(variables: &Variables) -> Vec<CaSource> {
    let named =
        |name: &str, path: &str, kind| CaSource { key: name.to_owned(), path: path.into(), kind };
    let file = variables.get("SSL_CERT_FILE").into_iter();
    let file = file.map(|(name, path)| named(name, path, CaSourceKind::Bundle));
    let folders = variables.get("SSL_CERT_DIR").into_iter();
    let folders = folders.flat_map(|(name, list)| list.split(':').map(move |path| (name, path)));
    let folders = folders.map(|(name, path)| named(name, path, CaSourceKind::Directory));
    file.chain(folders).filter(|source| source.path != Path::new("")).collect()
}
