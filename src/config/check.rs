//! Validates values of the configuration and collects errors.

use std::{str::FromStr, time::Duration};

use figment::Figment;

use super::{
    error::{ConfigError, origin},
    units::{parse_duration, parse_size},
};
use leadsd_base::{net::listen_address::ListenAddress, time::Zone};

/// Converter of raw values, which collects errors.
pub(super) struct Checker<'a> {
    pub(super) figment: &'a Figment,
    pub(super) errors: Vec<ConfigError>,
}

// === impl Checker ===

impl Checker<'_> {
    pub(super) fn add_error(&mut self, key: &str, what: impl Into<String>) {
        let origin = origin(self.figment, key);
        self.errors.push(ConfigError { key: key.to_owned(), origin, what: what.into() });
    }

    pub(super) fn zone(&mut self, key: &str, name: &str) -> Option<Zone> {
        let zone = Zone::parse(name);
        if zone.is_none() {
            self.add_error(key, "must be an IANA time zone such as Europe/Berlin or UTC");
        }
        zone
    }

    pub(super) fn parsed<T: FromStr>(&mut self, key: &str, text: &str, wanted: &str) -> Option<T> {
        let value = text.parse().ok();
        if value.is_none() {
            self.add_error(key, format!("must be {wanted}"));
        }
        value
    }

    /// Converts a listen address. `port` is that of the example in the error.
    pub(super) fn listen(&mut self, key: &str, text: &str, port: u16) -> Option<ListenAddress> {
        let wanted = format!("HOST:PORT, such as 127.0.0.1:{port} or localhost:{port}");
        let is_unix = ListenAddress::unix_path(text).is_some();
        if is_unix && key != "grpc.listen" {
            self.add_error(key, format!("must be {wanted}; only grpc.listen may be a Unix socket"));
            return None;
        }
        if is_unix {
            let wanted =
                "unix: and an absolute path of at most 100 bytes, such as unix:/run/leadsd.sock";
            return self.parsed(key, text, wanted);
        }
        self.parsed(key, text, &wanted)
    }

    pub(super) fn url(&mut self, key: &str, text: &str) -> Option<url::Url> {
        let url = url::Url::parse(text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        if url.is_none() {
            // The value may contain a password, so it is not part of the message.
            self.add_error(
                key,
                "must be an http or https URL without credentials, query or fragment",
            );
        }
        url
    }

    /// Converts the base URL of HubSpot's API.
    pub(super) fn hubspot_url(&mut self, key: &str, text: &str) -> Option<url::Url> {
        let url = self.url(key, text)?;
        let mut segments = url.path_segments().into_iter().flatten();
        if segments.any(|segment| segment.eq_ignore_ascii_case("crm")) {
            self.add_error(
                key,
                "must be the base URL, without /crm and what follows it, which leadsd adds",
            );
            return None;
        }
        Some(url)
    }

    pub(super) fn number(
        &mut self,
        key: &str,
        value: usize,
        min: usize,
        max: usize,
    ) -> Option<usize> {
        if (min..=max).contains(&value) {
            return Some(value);
        }
        self.add_error(key, format!("must be {min} to {max}"));
        None
    }

    pub(super) fn duration(
        &mut self,
        key: &str,
        text: &str,
        min_ms: u64,
        max_ms: u64,
    ) -> Option<Duration> {
        let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(max_ms));
        match parse_duration(text) {
            Some(value) if (min..=max).contains(&value) => Some(value),
            Some(_) => {
                self.add_error(key, format!("must be {min:?} to {max:?}"));
                None
            }
            None => {
                self.add_error(key, "must be a whole number with a unit: ms, s, m or h");
                None
            }
        }
    }

    pub(super) fn size(&mut self, key: &str, text: &str, min: usize, max: usize) -> Option<usize> {
        match parse_size(text) {
            Some(value) if (min..=max).contains(&value) => Some(value),
            Some(_) => {
                self.add_error(key, format!("must be {}KiB to {}KiB", min >> 10, max >> 10));
                None
            }
            None => {
                self.add_error(key, "must be a whole number with a unit: B, KiB, MiB or GiB");
                None
            }
        }
    }
}
