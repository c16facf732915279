//! Authorization: finds the caller and the portal of a call, and decides whether this caller may do
//! that there, from the headers alone.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;

use super::portals::Portals;
use crate::{
    auth::{Access, Auth, AuthError, HeaderValue, PresentedCredentials, Rights},
    grpc::{methods::Method, transport::call_state::CallState},
    leads::{self, Error, Portal, PortalName, Reason},
};
use leadsd_quota::Caller;

/// Metadata key of a caller's API key.
const API_KEY: &str = "x-api-key";

/// Metadata key by which a caller names itself, where callers have no identity.
const CALLER: &str = "leadsd-caller";

/// `RetryInfo` of a call whose caller could not be authenticated because a source of keys is
/// unavailable.
const AUTH_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Weight of callers that have no portal in this call.
const DEFAULT_SHARE: u32 = 1;

/// What a method requires of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    /// Nothing: health probes are unauthenticated.
    Public,
    /// Any authenticated caller with at least one policy. Reflection shows the contract, which is no
    /// secret but no public page either.
    AnyAuthenticated,
    /// Read access to leads of the portal.
    Read,
    /// Write access to leads of the portal.
    Write,
    /// Access to the quota of the portal.
    Quota,
}

/// A caller that may do what it asks for in this portal.
#[derive(Debug, Clone)]
pub(crate) struct Authorized {
    pub(crate) caller: Caller,
    pub(crate) portal: Arc<Portal>,
}

/// Why an authenticated caller is rejected.
#[derive(Debug)]
struct Denial {
    error: Error,
    /// The portal; `None` unless the caller may know it.
    portal: Option<PortalName>,
}

/// What the policies grant a caller.
struct Granted<'a> {
    /// True if they grant anything anywhere.
    anything: bool,
    /// Its rights in a portal, whether or not the portal exists.
    in_portal: &'a dyn Fn(&PortalName) -> Rights,
}

/// Authorizes calls.
#[derive(Debug)]
pub(crate) struct Authorizer {
    /// Authenticates callers; `None` if callers have no identity and may do everything.
    pub(crate) auth: Option<Arc<Auth>>,
    pub(crate) portals: Portals,
}

// === impl Permission ===

impl Permission {
    /// The permission that the method at this path requires. A method of this service that is not
    /// listed requires write access, so that a missing entry grants nothing.
    pub(crate) fn for_path(path: &str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        let Some((service, method)) = path.split_once('/') else { return Self::AnyAuthenticated };
        match (service, method) {
            ("grpc.health.v1.Health", _) => Self::Public,
            (
                "leadsd.v1.LeadsService",
                "GetLead" | "ListLeads" | "SearchLeads" | "BatchGetLeads",
            ) => Self::Read,
            ("leadsd.v1.QuotaService", _) => Self::Quota,
            (service, _) if service.starts_with("leadsd.") => Self::Write,
            (_, _) => Self::AnyAuthenticated,
        }
    }
}

// === impl Authorizer ===

impl Authorizer {
    /// Decides on a call. Records the caller and the portal in its state, and returns them if its
    /// method works on a portal. `peer` is the caller if it has neither an identity nor a name.
    pub(crate) async fn authorize(
        &self,
        state: &CallState,
        peer: &Caller,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Option<Authorized>, Error> {
        let authorized = match &self.auth {
            None => self.authorize_anonymous(state, peer, method, headers)?,
            // In a box of its own, which is freed before the handler runs: it is large, and calls
            // wait for quota.
            Some(auth) => {
                Box::pin(self.authorize_authenticated(auth, state, path, headers)).await?
            }
        };
        if let Some(Authorized { caller, portal }) = &authorized {
            state.set_caller(caller.clone());
            state.set_portal(portal.name.clone());
        }
        Ok(authorized)
    }

    fn authorize_anonymous(
        &self,
        state: &CallState,
        peer: &Caller,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Option<Authorized>, Error> {
        // A method that does not exist is UNIMPLEMENTED, whatever the portal.
        if !method.is_public_api || method.is_unknown() {
            return Ok(None);
        }
        let caller = named_caller(headers).unwrap_or_else(|| peer.clone());
        state.set_caller(caller.clone());
        let portal = self.portals.resolve(headers, None)?;
        Ok(Some(Authorized { caller, portal }))
    }

    async fn authorize_authenticated(
        &self,
        auth: &Auth,
        state: &CallState,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Option<Authorized>, Error> {
        let permission = Permission::for_path(path);
        if permission == Permission::Public {
            return Ok(None);
        }
        let presented = PresentedCredentials {
            authorization: sent(headers, http::header::AUTHORIZATION.as_str()),
            api_key: sent(headers, API_KEY),
            certificate: state.connection.certificate.as_ref(),
        };
        let identity =
            auth.authenticate(presented, state.deadline).await.map_err(unauthenticated)?;
        let caller = |share| Caller::authenticated(identity.name(), share);
        let granted = Granted {
            anything: auth.has_rights(&identity),
            in_portal: &|portal| auth.rights(&identity, portal),
        };
        match decide(permission, &granted, &self.portals, headers) {
            Ok(Some((portal, rights))) => {
                Ok(Some(Authorized { caller: caller(rights.share), portal }))
            }
            Ok(None) => {
                state.set_caller(caller(DEFAULT_SHARE));
                Ok(None)
            }
            Err(Denial { error, portal }) => {
                let caller = caller(DEFAULT_SHARE);
                if error.reason() == Reason::CallerForbidden {
                    auth.count_forbidden();
                }
                if permission == Permission::Write {
                    let method = path.rsplit('/').next().unwrap_or_default();
                    let (portal, id) = (portal.as_ref(), &state.request_id);
                    leads::audit_refused(method, &caller, portal, id, error.reason());
                }
                state.set_caller(caller);
                Err(error)
            }
        }
    }
}

/// The portal and the caller's rights there; `None` if the method works on no portal.
fn decide(
    permission: Permission,
    granted: &Granted<'_>,
    portals: &Portals,
    headers: &HeaderMap,
) -> Result<Option<(Arc<Portal>, Rights)>, Denial> {
    if !granted.anything {
        return Err(forbidden("no policy lets this caller do anything", None));
    }
    let missing = match permission {
        Permission::Public | Permission::AnyAuthenticated => return Ok(None),
        Permission::Read => "this caller may not read leads in this portal",
        Permission::Write => "this caller may not write leads in this portal",
        Permission::Quota => "this caller may not ask for the quota of this portal",
    };
    let may_use = |portal: &PortalName| (granted.in_portal)(portal).any();
    let portal = portals.resolve(headers, Some(&may_use));
    let portal = portal.map_err(|error| Denial { error, portal: None })?;
    let rights = (granted.in_portal)(&portal.name);
    if is_granted(permission, &rights) {
        Ok(Some((portal, rights)))
    } else {
        Err(forbidden(missing, Some(portal.name.clone())))
    }
}

fn is_granted(permission: Permission, rights: &Rights) -> bool {
    match permission {
        Permission::Public | Permission::AnyAuthenticated => true,
        Permission::Read => rights.access >= Access::Read,
        Permission::Write => rights.access >= Access::Write,
        Permission::Quota => rights.quota,
    }
}

fn forbidden(text: &str, portal: Option<PortalName>) -> Denial {
    Denial { error: Error::new(Reason::CallerForbidden, text), portal }
}

/// The name that a caller gives itself.
fn named_caller(headers: &HeaderMap) -> Option<Caller> {
    let named = headers.get(CALLER)?.to_str().ok()?.trim();
    (!named.is_empty()).then(|| Caller::new(named))
}

fn sent<'a>(headers: &'a HeaderMap, name: &str) -> HeaderValue<'a> {
    HeaderValue::from_values(headers.get_all(name).iter().map(http::HeaderValue::as_bytes))
}

fn unauthenticated(error: AuthError) -> Error {
    match error {
        AuthError::Missing => Error::new(
            Reason::Unauthenticated,
            "the call does not prove who calls: it needs a client certificate, a bearer token or an API key",
        ),
        AuthError::Invalid(why) => Error::new(Reason::Unauthenticated, why),
        AuthError::Unavailable(why) => {
            Error::new(Reason::AuthenticationUnavailable, why).with_retry_after(AUTH_RETRY_AFTER)
        }
    }
}

#[cfg(test)]
mod tests;
