//! Resolves the portal of a call from its metadata.
//!
//! A caller learns only about portals it may use: the error for any other portal is the same, whether or
//! not the portal exists.

use std::{fmt, sync::Arc};

use http::HeaderMap;

use crate::{
    auth::Rights,
    leads::{Error, Portal, PortalName, Reason},
};

/// Metadata key that names the portal.
const PORTAL: &str = "leadsd-portal";

/// Portal of calls without portal metadata.
const DEFAULT_PORTAL: &str = "default";

/// Maximum number of portal names in an error message.
const MAX_LISTED: usize = 50;

/// Reports whether the caller may use a portal.
type MayUse<'a> = &'a dyn Fn(&PortalName) -> bool;

/// Finds a portal by name.
type FindPortal = dyn Fn(&PortalName) -> Option<Arc<Portal>> + Send + Sync;

/// Finds the state of a portal by name.
type FindState = dyn Fn(&PortalName) -> Option<PortalState> + Send + Sync;

/// Resolver of portals. Portals may be added and removed at run time.
#[derive(Clone)]
pub struct PortalResolver {
    /// Parsed once, since most calls name no portal.
    default: Option<PortalName>,
    find: Arc<FindPortal>,
    all: Arc<dyn Fn() -> Vec<PortalName> + Send + Sync>,
    state: Arc<FindState>,
}

/// State of a portal, as its callers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortalState {
    /// True if the portal has an unexpired access token that HubSpot has not rejected.
    pub usable: bool,
    /// Name of the state of its credential.
    pub credential_state: &'static str,
}

// === impl PortalResolver ===

impl PortalResolver {
    /// Creates a resolver. `find` finds a portal by name; `all` returns the names of all portals, sorted;
    /// `state` finds the state of a portal.
    pub fn new(
        find: impl Fn(&PortalName) -> Option<Arc<Portal>> + Send + Sync + 'static,
        all: impl Fn() -> Vec<PortalName> + Send + Sync + 'static,
        state: impl Fn(&PortalName) -> Option<PortalState> + Send + Sync + 'static,
    ) -> Self {
        let default = PortalName::parse(DEFAULT_PORTAL);
        Self { default, find: Arc::new(find), all: Arc::new(all), state: Arc::new(state) }
    }

    /// The state of a portal; `None` if there is none of this name.
    pub(crate) fn state(&self, name: &PortalName) -> Option<PortalState> {
        (self.state)(name)
    }

    /// Resolves the portal that a call names, else the default portal, else the only one. Without
    /// `may_use`, the caller may use all portals.
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
                    find(&only).ok_or_else(|| unknown("no portal named"))
                }
                Some(_) | None => Err(unknown("no portal named")),
            };
        };
        if values.next().is_some() {
            return Err(unknown("several portals named; name one"));
        }
        let not_configured = || unknown("the named portal is not configured");
        let named = value.to_str().ok().and_then(PortalName::parse).ok_or_else(not_configured)?;
        if !allowed(&named) {
            let text = self.with_names(
                "the caller may not use the named portal",
                "allowed portals",
                &allowed,
            );
            return Err(Error::new(Reason::CallerForbidden, text));
        }
        find(&named).ok_or_else(not_configured)
    }

    /// The portals in which a caller has any right, sorted by name.
    pub(crate) fn granted(
        &self,
        rights: &dyn Fn(&PortalName) -> Rights,
    ) -> Vec<(PortalName, Rights)> {
        let all = (self.all)().into_iter().map(|name| (rights(&name), name));
        let granted = all.filter(|(rights, _)| rights.any());
        granted.map(|(rights, name)| (name, rights)).collect()
    }

    fn all(&self, allowed: MayUse<'_>) -> Vec<PortalName> {
        (self.all)().into_iter().filter(|name| allowed(name)).collect()
    }

    fn unknown(&self, what: &str, allowed: MayUse<'_>) -> Error {
        Error::new(Reason::UnknownPortal, self.with_names(what, "configured portals", allowed))
    }

    /// Builds an error message with the names of the portals that the caller may use.
    fn with_names(&self, what: &str, list: &str, allowed: MayUse<'_>) -> String {
        let all = self.all(allowed);
        let names: Vec<&str> = all.iter().take(MAX_LISTED).map(PortalName::as_str).collect();
        let mut names = names.join(", ");
        if all.len() > MAX_LISTED {
            names = format!("{names} and {} more", all.len() - MAX_LISTED);
        }
        format!("{PORTAL}: {what}; {list}: {names}")
    }
}

impl fmt::Debug for PortalResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((self.all)()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leads::testing::portal;

    fn portals(names: &[&str]) -> PortalResolver {
        let names: Vec<_> = names.iter().map(|name| PortalName::parse(name).unwrap()).collect();
        let all = names.clone();
        PortalResolver::new(
            move |name| names.contains(name).then(|| portal(name)),
            move || all.clone(),
            |_| Some(PortalState { usable: true, credential_state: "fresh" }),
        )
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
        assert_eq!(chosen(&["eu"], &[]).unwrap(), "eu", "the only allowed portal");
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
