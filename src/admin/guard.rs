//! Rejects requests that a web page makes a browser send, and changes by clients without a key.
//!
//! The port has no login for reading. A browser on the same machine or in the same network must still
//! not become a way in:
//! - `Host` must name this server, so that a page cannot rebind its own name to this address;
//! - `Origin`, if a browser sends it, must be this server;
//! - a change needs the header `leadsd-admin: 1`, which a page cannot send to another origin;
//! - with `admin.api_keys_secret`, a change also needs a key.

use std::{collections::BTreeSet, net::IpAddr};

use axum::http::{
    HeaderMap, Method, StatusCode,
    header::{HOST, ORIGIN},
    uri::Authority,
};

use crate::auth::{ApiKeyVerifier, AuthError, HeaderValue};

/// Header that every change needs.
const CHANGE_HEADER: &str = "leadsd-admin";

/// Value of that header.
const CHANGE_VALUE: &str = "1";

/// Header with the key.
const KEY_HEADER: &str = "x-api-key";

/// Rules for requests.
#[derive(Debug)]
pub(super) struct Guard {
    /// Configured names of this server, in lower case.
    hosts: BTreeSet<String>,
    /// Keys for changes; `None` if changes need no key.
    keys: Option<ApiKeyVerifier>,
}

/// Status and text of a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rejection(pub(super) StatusCode, pub(super) &'static str);

// === impl Guard ===

impl Guard {
    pub(super) fn new(hosts: &[String], keys: Option<ApiKeyVerifier>) -> Self {
        Self { hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(), keys }
    }

    /// Checks a request that arrived at the address `local` of this server.
    pub(super) fn check(
        &self,
        method: &Method,
        headers: &HeaderMap,
        local: IpAddr,
    ) -> Result<(), Rejection> {
        let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !self.is_this_server(host, local) {
            return Err(Rejection(
                StatusCode::MISDIRECTED_REQUEST,
                "the Host header does not name this server; use its address, localhost, or a name \
                 in admin.hosts",
            ));
        }
        if !headers.get_all(ORIGIN).iter().all(|origin| is_same_origin(origin.as_bytes(), host)) {
            return Err(Rejection(
                StatusCode::FORBIDDEN,
                "the Origin header names another site; send the request without it or from this host",
            ));
        }
        if method.is_safe() { Ok(()) } else { self.check_change(headers) }
    }

    /// True if the host of a `Host` header is a loopback name, the address of the connection, or a
    /// configured name. Ports may differ, since ports are forwarded.
    fn is_this_server(&self, host: &str, local: IpAddr) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        if host.contains('@') {
            return false;
        }
        let name = authority.host().to_ascii_lowercase();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>().map(|address| address.to_canonical()) {
            Ok(address) if address.is_loopback() || address == local.to_canonical() => true,
            Ok(_) => self.hosts.contains(bare),
            Err(_) => {
                let name = name.strip_suffix('.').unwrap_or(&name);
                name == "localhost" || self.hosts.contains(name)
            }
        }
    }

    fn check_change(&self, headers: &HeaderMap) -> Result<(), Rejection> {
        let value = headers.get(CHANGE_HEADER).map(axum::http::HeaderValue::as_bytes);
        if value != Some(CHANGE_VALUE.as_bytes()) {
            return Err(Rejection(
                StatusCode::FORBIDDEN,
                "a change needs the header \"leadsd-admin: 1\"",
            ));
        }
        let Some(keys) = &self.keys else { return Ok(()) };
        let values = headers.get_all(KEY_HEADER).iter().map(axum::http::HeaderValue::as_bytes);
        let verified = match HeaderValue::from_values(values) {
            HeaderValue::Absent => Err(AuthError::Missing),
            HeaderValue::One(key) => keys.verify(key).map(|_| ()),
            HeaderValue::Multiple => Err(AuthError::Invalid("several x-api-key headers; send one")),
        };
        verified.map_err(|error| match error {
            AuthError::Missing => Rejection(
                StatusCode::UNAUTHORIZED,
                "a change needs a key of admin.api_keys_secret in the header x-api-key",
            ),
            AuthError::Invalid(text) => Rejection(StatusCode::UNAUTHORIZED, text),
            AuthError::Unavailable(text) => Rejection(StatusCode::SERVICE_UNAVAILABLE, text),
        })
    }
}

/// True if an `Origin` header has the host and port of the `Host` header.
fn is_same_origin(origin: &[u8], host: &str) -> bool {
    let Ok(origin) = str::from_utf8(origin) else { return false };
    let site = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    site.is_some_and(|site| site.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(guard: &Guard, method: &Method, pairs: &[(&str, &str)]) -> Result<(), u16> {
        let header = |(name, value): &(&str, &str)| {
            let name: axum::http::HeaderName = name.parse().unwrap();
            (name, axum::http::HeaderValue::from_str(value).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.iter().map(header) {
            headers.append(name, value);
        }
        let local = "10.1.2.3".parse().unwrap();
        guard.check(method, &headers, local).map_err(|Rejection(status, _)| status.as_u16())
    }

    #[test]
    fn only_names_of_this_server_are_accepted_as_host() {
        let guard = Guard::new(&["Leadsd.crm.svc".to_owned(), "192.0.2.7".to_owned()], None);
        for host in [
            "localhost",
            "LOCALHOST:9090",
            "localhost.",
            "127.0.0.1:9090",
            "127.8.8.8",
            "[::1]:9090",
            "[::ffff:10.1.2.3]",
            "10.1.2.3:1",
            "leadsd.crm.svc:9090",
            "LEADSD.CRM.SVC.",
            "192.0.2.7:9090",
        ] {
            assert_eq!(check(&guard, &Method::GET, &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9090",
            "10.1.2.4",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example@localhost",
            "localhost@evil.example",
            "crm.svc",
            "",
            " ",
        ] {
            assert_eq!(check(&guard, &Method::GET, &[("host", host)]), Err(421), "{host}");
        }
    }

    #[test]
    fn another_origin_is_rejected_even_for_reads() {
        let guard = Guard::new(&[], None);
        let of =
            |origin| check(&guard, &Method::GET, &[("host", "localhost:9090"), ("origin", origin)]);
        for same in ["http://localhost:9090", "https://LOCALHOST:9090"] {
            assert_eq!(of(same), Ok(()), "{same}");
        }
        for other in ["null", "http://localhost:3000", "http://evil.example", "localhost:9090", ""]
        {
            assert_eq!(of(other), Err(403), "{other}");
        }
        let two =
            [("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://evil")];
        assert_eq!(check(&guard, &Method::GET, &two), Err(403));
    }

    #[test]
    fn a_change_needs_the_header() {
        let guard = Guard::new(&[], None);
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            assert_eq!(check(&guard, &method, &[("host", "localhost")]), Err(403));
            for (value, expected) in [("1", Ok(())), ("", Err(403)), ("yes", Err(403))] {
                let pairs = [("host", "localhost"), (CHANGE_HEADER, value)];
                assert_eq!(check(&guard, &method, &pairs), expected, "{method} {value}");
            }
        }
    }
}
