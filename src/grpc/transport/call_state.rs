//! Who calls, for which portal, until when: from metadata and the layers to a [`crate::leads::CallContext`].

use std::{
    fmt,
    net::IpAddr,
    ops::Deref,
    sync::{Arc, OnceLock, atomic::AtomicUsize},
};

use http::HeaderMap;
use tokio::{sync::watch, time::Instant};
use tonic::{Extensions, Status, metadata::MetadataMap};

use super::admission::CallGuard;
use crate::grpc::status;
use crate::{
    auth::Identity,
    leads::{
        CallContext, Claim, CostMeter, Error, FieldFault, Guard, Patience, PortalName, Prepaid,
        Reason,
    },
    telemetry::trace_context::TraceContext,
};
use leadsd_quota::{Caller, Priority, Requester};

/// Metadata key that picks the portal.
const PORTAL: &str = "leadsd-portal";

/// Metadata key by which a caller names itself, where it is not known by an identity.
const CALLER: &str = "x-leadsd-caller";

/// Metadata key for how much a call's wait matters.
const PRIORITY: &str = "leadsd-priority";

/// Portal that is taken when the caller names none.
const DEFAULT_PORTAL: &str = "default";

/// What the outer layer knows of a call; travels in the request's extensions and with its bodies, and
/// is shared rather than copied by all that follow it.
#[derive(Debug, Clone)]
pub(crate) struct CallState(Arc<CallStateInner>);

/// See [`CallState`].
#[derive(Debug)]
pub(crate) struct CallStateInner {
    pub(crate) request_id: Arc<str>,
    /// Where the reasons of errors are explained.
    pub(crate) catalogue: Arc<str>,
    pub(crate) deadline: Instant,
    /// The span of this call, in its caller's trace or one of its own.
    pub(crate) trace: TraceContext,
    pub(crate) cost: Arc<CostMeter>,
    /// Filled once the portal is known, for the access event.
    pub(crate) portal: OnceLock<PortalName>,
    /// Filled when the call fails, for the access event.
    pub(crate) failure: OnceLock<Error>,
    /// Filled once it is known who calls, for the access event.
    pub(crate) caller: OnceLock<Caller>,
    /// What of the load is this call's.
    pub(crate) slot: Arc<CallGuard>,
    /// The connection it came on.
    pub(crate) line: Arc<ConnInfo>,
}

/// What all calls of one connection share.
#[derive(Debug)]
pub(crate) struct ConnInfo {
    /// Where they come from.
    pub(crate) peer: IpAddr,
    /// Whose certificate it was made with.
    pub(crate) certificate: Option<Identity>,
    /// Whether there were too many connections already: then only probes are answered.
    pub(crate) over_limit: bool,
    /// Health probes under way.
    pub(crate) probes: Arc<AtomicUsize>,
    /// Turns true when the connection is about to end: what would go on for long ends then.
    pub(crate) closing: watch::Receiver<bool>,
}

/// Who was let in; travels in the request's extensions. A call without it came past the gate.
#[derive(Debug, Clone)]
pub(crate) enum Authorized {
    /// Whoever it is: callers have no identity here.
    Anonymous,
    /// A caller that may do what it asks for in this portal.
    Known { caller: Caller, portal: PortalName },
}

/// Most names listed in an error.
const MAX_LISTED: usize = 50;

/// Says whether a caller may know a portal.
type MayUse<'a> = &'a dyn Fn(&PortalName) -> bool;

/// The portals there are now: they may come and go while the service runs.
#[derive(Clone)]
pub struct Portals {
    has: Arc<dyn Fn(&PortalName) -> bool + Send + Sync>,
    all: Arc<dyn Fn() -> Vec<PortalName> + Send + Sync>,
}

// === impl CallState ===

impl CallState {
    pub(crate) fn new(facts: CallStateInner) -> Self {
        Self(Arc::new(facts))
    }

    /// The status of this call, which fails; a call fails once.
    pub(crate) fn failed(&self, error: Error) -> Status {
        let status = status::of_call(&error, &self.request_id, &self.catalogue);
        // If the call has failed before, that is the better reason.
        let _ = self.failure.set(error);
        status
    }

    /// Notes who calls.
    pub(crate) fn set_caller(&self, caller: Caller) {
        // The first one counts, and a call has one.
        let _ = self.caller.set(caller);
    }

    /// Holds this many bytes of the request.
    pub(crate) fn hold(&self, bytes: usize) -> Result<(), Status> {
        self.slot.hold(bytes).map_err(|full| self.failed(full))
    }

    /// Holds at least this many bytes of the request.
    pub(crate) fn reserve_at_least(&self, bytes: usize) -> Result<(), Status> {
        self.slot.reserve_at_least(bytes).map_err(|full| self.failed(full))
    }
}

impl Deref for CallState {
    type Target = CallStateInner;

    fn deref(&self) -> &CallStateInner {
        &self.0
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
    pub(crate) fn call(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<CallContext, Error> {
        let past = || Error::new(Reason::Internal, "the call came past its layers");
        let facts = extensions.get::<CallState>().ok_or_else(past)?;
        let (caller, portal) = match extensions.get::<Authorized>().ok_or_else(past)? {
            Authorized::Known { caller, portal } => (caller.clone(), portal.clone()),
            Authorized::Anonymous => {
                (caller(metadata, &facts.line), self.choose(metadata.as_ref(), None)?)
            }
        };
        facts.set_caller(caller.clone());
        // Only the first portal counts, and a call has one.
        let _ = facts.portal.set(portal.clone());
        Ok(CallContext {
            portal,
            deadline: facts.deadline,
            who: Requester { caller, priority: priority(metadata)? },
            request_id: Arc::clone(&facts.request_id),
            trace: facts.trace.clone(),
            cost: Arc::clone(&facts.cost),
            prepaid: Prepaid::default(),
            guard: Guard::new(&facts.slot),
            patience: Patience::new(facts.deadline),
            made: 0,
            claim: Claim::default(),
        })
    }

    /// The portal that a call is about. `may_use` says which ones its caller may know; without it
    /// that is all of them.
    pub(crate) fn choose(
        &self,
        headers: &HeaderMap,
        may_use: Option<MayUse<'_>>,
    ) -> Result<PortalName, Error> {
        let allowed = |name: &PortalName| may_use.is_none_or(|may_use| may_use(name));
        let has = |name: &PortalName| allowed(name) && (self.has)(name);
        let unknown = |what| self.unknown(what, &allowed);
        let mut values = headers.get_all(PORTAL).iter();
        let Some(value) = values.next() else {
            if let Some(default) = PortalName::parse(DEFAULT_PORTAL).filter(has) {
                return Ok(default);
            }
            let mut all = self.all(&allowed);
            return match all.pop() {
                Some(only) if all.is_empty() => Ok(only),
                Some(_) | None => Err(unknown("the call names no portal")),
            };
        };
        if values.next().is_some() {
            return Err(unknown("the call names more than one portal"));
        }
        let none = "the call names a portal that is not configured";
        let named = value.to_str().ok().and_then(PortalName::parse).ok_or_else(|| unknown(none))?;
        if !allowed(&named) {
            let text =
                self.listed("the caller may not use a portal of that name", "it may use", &allowed);
            return Err(Error::new(Reason::CallerForbidden, text));
        }
        if has(&named) { Ok(named) } else { Err(unknown(none)) }
    }

    fn all(&self, allowed: MayUse<'_>) -> Vec<PortalName> {
        (self.all)().into_iter().filter(|name| allowed(name)).collect()
    }

    fn unknown(&self, what: &str, allowed: MayUse<'_>) -> Error {
        Error::new(Reason::UnknownPortal, self.listed(what, "configured are", allowed))
    }

    /// What is wrong with the portal, and which ones there are for the caller.
    fn listed(&self, what: &str, are: &str, allowed: MayUse<'_>) -> String {
        let all = self.all(allowed);
        let names: Vec<&str> = all.iter().take(MAX_LISTED).map(PortalName::as_str).collect();
        let mut names = names.join(", ");
        if all.len() > MAX_LISTED {
            names = format!("{names} and {} more", all.len() - MAX_LISTED);
        }
        format!("{PORTAL}: {what}; {are}: {names}")
    }
}

/// Who calls, as far as it says so; else where the call comes from.
fn caller(metadata: &MetadataMap, line: &ConnInfo) -> Caller {
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
            portals(names).choose(&headers(values), None).map(|name| name.to_string())
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
            let error = portals(names).choose(&headers(values), None).unwrap_err();
            assert_eq!(error.reason(), Reason::UnknownPortal);
            assert!(error.message().ends_with(&names.join(", ")), "{error}");
        }
    }
    #[test]
    fn a_caller_learns_of_no_portal_but_its_own() {
        let all = portals(&["default", "eu", "us"]);
        let chosen = |mine: &[&str], values: &[&'static str]| {
            let may_use = |name: &PortalName| mine.contains(&name.as_str());
            all.choose(&headers(values), Some(&may_use)).map(|name| name.to_string())
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
            // Allowed by a policy, and not there.
            chosen(&["eu", "asia"], &["asia"]).unwrap_err(),
        ] {
            assert!(error.message().ends_with(": eu"), "{error}");
        }
        let none = chosen(&["eu", "us"], &[]).unwrap_err();
        assert!(none.message().ends_with(": eu, us"), "{none}");
    }
}
