//! Who calls, for which portal, until when: from metadata and the layers to a [`crate::leads::Call`].

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use tokio::{sync::watch, time::Instant};
use tonic::{Extensions, Status, metadata::MetadataMap};

use super::{load::Slot, status};
use crate::{
    leads::{Call, Error, FieldFault, Hold, PortalName, Prepaid, Reason, Spent},
    quota::{Caller, Priority, Who},
};

/// Metadata key that picks the portal.
const PORTAL: &str = "leadsd-portal";

/// Metadata key by which a caller names itself, where it is not known by an identity.
const CALLER: &str = "x-leadsd-caller";

/// Metadata key for how much a call's wait matters.
const PRIORITY: &str = "leadsd-priority";

/// Portal that is taken when the caller names none.
const DEFAULT_PORTAL: &str = "default";

/// What the outer layer knows of a call; travels in the request's extensions.
#[derive(Debug, Clone)]
pub(super) struct CallFacts {
    pub(super) request_id: Arc<str>,
    /// Where the reasons of errors are explained.
    pub(super) catalogue: Arc<str>,
    pub(super) deadline: Instant,
    pub(super) spent: Arc<Spent>,
    /// Filled once the portal is known, for the access event.
    pub(super) portal: Arc<OnceLock<PortalName>>,
    /// Filled when the call fails, for the access event.
    pub(super) failure: Arc<OnceLock<Error>>,
    /// What of the load is this call's.
    pub(super) slot: Arc<Slot>,
    /// The connection it came on.
    pub(super) line: Arc<Line>,
}

/// What all calls of one connection share.
#[derive(Debug)]
pub(super) struct Line {
    /// Where they come from.
    pub(super) peer: IpAddr,
    /// Whether there were too many connections already: then only probes are answered.
    pub(super) is_crowded: bool,
    /// Turns true when the connection is about to end: what would go on for long ends then.
    pub(super) closing: watch::Receiver<bool>,
}

/// Most names listed in an error.
const MAX_LISTED: usize = 50;

/// The portals there are now: they may come and go while the service runs.
#[derive(Clone)]
pub struct Portals {
    has: Arc<dyn Fn(&PortalName) -> bool + Send + Sync>,
    all: Arc<dyn Fn() -> Vec<PortalName> + Send + Sync>,
}

// === impl CallFacts ===

impl CallFacts {
    /// The status of this call, which fails; a call fails once.
    pub(super) fn failed(&self, error: Error) -> Status {
        let status = status::of_call(&error, &self.request_id, &self.catalogue);
        // If the call has failed before, that is the better reason.
        let _ = self.failure.set(error);
        status
    }

    /// Holds this many bytes of the request.
    pub(super) fn hold(&self, bytes: usize) -> Result<(), Status> {
        self.slot.hold(bytes).map_err(|full| self.failed(full))
    }

    /// Holds at least this many bytes of the request.
    pub(super) fn hold_at_least(&self, bytes: usize) -> Result<(), Status> {
        self.slot.hold_at_least(bytes).map_err(|full| self.failed(full))
    }
}

// === impl Portals ===

impl Portals {
    /// `has` says whether there is a portal of that name, `all` names all of them in order.
    pub fn new(
        has: impl Fn(&PortalName) -> bool + Send + Sync + 'static,
        all: impl Fn() -> Vec<PortalName> + Send + Sync + 'static,
    ) -> Self {
        Self { has: Arc::new(has), all: Arc::new(all) }
    }

    /// The call as the domain sees it.
    pub(super) fn call(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<Call, Error> {
        let facts = extensions
            .get::<CallFacts>()
            .ok_or_else(|| Error::new(Reason::Internal, "the call came past its layers"))?;
        let portal = self.choose(metadata)?;
        // Only the first portal counts, and a call has one.
        let _ = facts.portal.set(portal.clone());
        Ok(Call {
            portal,
            deadline: facts.deadline,
            who: Who { caller: caller(metadata, &facts.line), priority: priority(metadata)? },
            request_id: Arc::clone(&facts.request_id),
            spent: Arc::clone(&facts.spent),
            prepaid: Prepaid::default(),
            hold: Hold::new(&facts.slot),
        })
    }

    fn choose(&self, metadata: &MetadataMap) -> Result<PortalName, Error> {
        let mut values = metadata.get_all(PORTAL).iter();
        let Some(value) = values.next() else {
            if let Some(default) = PortalName::parse(DEFAULT_PORTAL).filter(|name| (self.has)(name))
            {
                return Ok(default);
            }
            let mut all = (self.all)();
            return match all.pop() {
                Some(only) if all.is_empty() => Ok(only),
                Some(_) | None => Err(self.unknown("the call names no portal")),
            };
        };
        if values.next().is_some() {
            return Err(self.unknown("the call names more than one portal"));
        }
        let named = value.to_str().ok().and_then(PortalName::parse);
        named
            .filter(|named| (self.has)(named))
            .ok_or_else(|| self.unknown("the call names a portal that is not configured"))
    }

    fn unknown(&self, what: &str) -> Error {
        let all = (self.all)();
        let names: Vec<&str> = all.iter().take(MAX_LISTED).map(PortalName::as_str).collect();
        let mut names = names.join(", ");
        if all.len() > MAX_LISTED {
            names = format!("{names} and {} more", all.len() - MAX_LISTED);
        }
        Error::new(Reason::UnknownPortal, format!("{PORTAL}: {what}; configured are: {names}"))
    }
}

/// Who calls, as far as it says so; else where the call comes from.
fn caller(metadata: &MetadataMap, line: &Line) -> Caller {
    let named = metadata.get(CALLER).and_then(|value| value.to_str().ok()).map(str::trim);
    match named.filter(|name| !name.is_empty()) {
        Some(name) => Caller::new(name),
        None => Caller::new(&line.peer.to_canonical().to_string()),
    }
}

fn priority(metadata: &MetadataMap) -> Result<Priority, Error> {
    match metadata.get(PRIORITY).map(|value| value.as_bytes()) {
        None | Some(b"interactive") => Ok(Priority::Interactive),
        Some(b"bulk") => Ok(Priority::Bulk),
        Some(_) => {
            let fault = FieldFault::new(PRIORITY, "must be interactive or bulk");
            Err(Error::invalid(vec![fault]))
        }
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

    fn portals(names: &[&str]) -> Portals {
        let names: Vec<_> = names.iter().map(|name| PortalName::parse(name).unwrap()).collect();
        let all = names.clone();
        Portals::new(move |name| names.contains(name), move || all.clone())
    }

    fn metadata(values: &[&'static str]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for value in values {
            metadata.append(PORTAL, value.parse().unwrap());
        }
        metadata
    }

    #[test]
    fn a_portal_is_named_or_the_default_or_the_only_one() {
        let chosen = |names: &[&str], values: &[&'static str]| {
            portals(names).choose(&metadata(values)).map(|name| name.to_string())
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
            let error = portals(names).choose(&metadata(values)).unwrap_err();
            assert_eq!(error.reason(), Reason::UnknownPortal);
            assert!(error.message().ends_with(&names.join(", ")), "{error}");
        }
    }
}
