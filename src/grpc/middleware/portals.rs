//! Resolves the portal of a call from its metadata.
//!
//! A caller learns about no portal but its own: a name that is not configured and one that it may not
//! use get the same error.

use std::{fmt, sync::Arc};

use http::HeaderMap;

use crate::leads::{Error, Portal, PortalName, Reason};

/// Metadata key that names the portal.
const PORTAL: &str = "leadsd-portal";

/// Portal of calls that name none.
const DEFAULT_PORTAL: &str = "default";

/// Maximum number of names in an error.
const MAX_LISTED: usize = 50;

/// True if the caller may use a portal.
type MayUse<'a> = &'a dyn Fn(&PortalName) -> bool;

/// Returns the portal of a name.
type Find = dyn Fn(&PortalName) -> Option<Arc<Portal>> + Send + Sync;

/// The portals of this service. They may be added and removed while it runs.
#[derive(Clone)]
pub struct Portals {
    /// Parsed once: most calls name no portal.
    default: Option<PortalName>,
    find: Arc<Find>,
    all: Arc<dyn Fn() -> Vec<PortalName> + Send + Sync>,
}

// === impl Portals ===

impl Portals {
    /// `find` returns the portal of a name; `all` returns the names of all portals in order.
    pub fn new(
        find: impl Fn(&PortalName) -> Option<Arc<Portal>> + Send + Sync + 'static,
        all: impl Fn() -> Vec<PortalName> + Send + Sync + 'static,
    ) -> Self {
        let default = PortalName::parse(DEFAULT_PORTAL);
        Self { default, find: Arc::new(find), all: Arc::new(all) }
    }

    /// The portal that a call names, or the default one, or the only one. `may_use` tells which
    /// portals its caller may use; without it, all of them.
    pub(crate) fn resolve(
        &self,
        headers: &HeaderMap,
        may_use: Option<MayUse<'_>>,
    ) -> Result<Arc<Portal>, Error> {
        let allowed = |name: &PortalName| may_use.is_none_or(|may_use| may_use(name));
        let find = |name: &PortalName| if allowed(name) { (self.find)(name) } else { None };
        let unknown = |what| self.unknown(what, &allowed);
        let mut values = headers.get_all(PORTAL).iter();
        let Some(value) = values.next() else {
            if let Some(default) = self.default.as_ref().and_then(find) {
                return Ok(default);
            }
            let mut all = self.all(&allowed);
            return match all.pop() {
                Some(only) if all.is_empty() => {
                    find(&only).ok_or_else(|| unknown("the call names no portal"))
                }
                Some(_) | None => Err(unknown("the call names no portal")),
            };
        };
        if values.next().is_some() {
            return Err(unknown("the call names more than one portal"));
        }
        let not_configured = || unknown("the call names a portal that is not configured");
        let named = value.to_str().ok().and_then(PortalName::parse).ok_or_else(not_configured)?;
        if !allowed(&named) {
            let text = self.with_names(
                "the caller may not use a portal of that name",
                "it may use",
                &allowed,
            );
            return Err(Error::new(Reason::CallerForbidden, text));
        }
        find(&named).ok_or_else(not_configured)
    }

    fn all(&self, allowed: MayUse<'_>) -> Vec<PortalName> {
        (self.all)().into_iter().filter(|name| allowed(name)).collect()
    }

    fn unknown(&self, what: &str, allowed: MayUse<'_>) -> Error {
        Error::new(Reason::UnknownPortal, self.with_names(what, "configured are", allowed))
    }

    /// An error text with the names of the portals that the caller may use.
    fn with_names(&self, what: &str, are: &str, allowed: MayUse<'_>) -> String {
        let all = self.all(allowed);
        let names: Vec<&str> = all.iter().take(MAX_LISTED).map(PortalName::as_str).collect();
        let mut names = names.join(", ");
        if all.len() > MAX_LISTED {
            names = format!("{names} and {} more", all.len() - MAX_LISTED);
        }
        format!("{PORTAL}: {what}; {are}: {names}")
    }
}

impl fmt::Debug for Portals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((self.all)()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leads::testing::portal;

    fn portals(names: &[&str]) -> Portals {
        let names: Vec<_> = names.iter().map(|name| PortalName::parse(name).unwrap()).collect();
        let all = names.clone();
        Portals::new(move |name| names.contains(name).then(|| portal(name)), move || all.clone())
    }

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PORTAL, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_portal_is_named_or_the_default_or_the_only_one() {
        let chosen = |names: &[&str], values: &[&'static str]| {
            portals(names).resolve(&headers(values), None).map(|portal| portal.name.to_string())
        };
        assert_eq!(chosen(&["eu"], &[]).unwrap(), "eu");
        assert_eq!(chosen(&["default", "eu"], &[]).unwrap(), "default");
        assert_eq!(chosen(&["default", "eu"], &["eu"]).unwrap(), "eu");
        for (names, values) in [
            (&["eu", "us"][..], &[][..]),
            (&["eu"], &["us"]),
            (&["eu"], &["../eu"]),
            (&["eu"], &[""]),
            (&["eu", "us"], &["eu", "us"]),
        ] {
            let error = portals(names).resolve(&headers(values), None).unwrap_err();
            assert_eq!(error.reason(), Reason::UnknownPortal);
            assert!(error.message().ends_with(&names.join(", ")), "{error}");
        }
    }
    #[test]
    fn a_caller_learns_about_no_portal_but_its_own() {
        let all = portals(&["default", "eu", "us"]);
        let chosen = |mine: &[&str], values: &[&'static str]| {
            let may_use = |name: &PortalName| mine.contains(&name.as_str());
            all.resolve(&headers(values), Some(&may_use)).map(|portal| portal.name.to_string())
        };
        assert_eq!(chosen(&["default", "eu"], &[]).unwrap(), "default");
        assert_eq!(chosen(&["eu"], &[]).unwrap(), "eu", "the only one of its own");
        assert_eq!(chosen(&["eu", "us"], &["us"]).unwrap(), "us");
        let there = chosen(&["eu"], &["us"]).unwrap_err();
        let nowhere = chosen(&["eu"], &["asia"]).unwrap_err();
        assert_eq!(there, nowhere);
        assert_eq!(there.reason(), Reason::CallerForbidden);
        for error in [
            there,
            chosen(&["eu"], &["us", "us"]).unwrap_err(),
            chosen(&["eu"], &["../us"]).unwrap_err(),
            // Allowed by a policy, but not configured.
            chosen(&["eu", "asia"], &["asia"]).unwrap_err(),
        ] {
            assert!(error.message().ends_with(": eu"), "{error}");
        }
        let none = chosen(&["eu", "us"], &[]).unwrap_err();
        assert!(none.message().ends_with(": eu, us"), "{none}");
    }
}
