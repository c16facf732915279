//! Authorization: determines the caller and the portal of a call from its headers, and checks the
//! caller's rights.

use std::{
    future::{Ready, ready},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt as _, TryFutureExt as _,
    future::{BoxFuture, Either},
};
use http::HeaderMap;

use super::{
    call_log_limit::{CallLogLimit, Origin},
    portals::PortalResolver,
};
use crate::{
    auth::{Access, AuthError, Authenticator, HeaderValue, PresentedCredentials, Rights},
    grpc::{methods::Method, transport::call_state::CallState},
    leads::{self, Error, Portal, PortalName, Reason},
};
use leadsd_quota::Caller;

/// Metadata key of a caller's API key.
const API_KEY: &str = "x-api-key";

/// Metadata key with the name of an unauthenticated caller.
const CALLER: &str = "leadsd-caller";

/// `RetryInfo` of a call that cannot be authenticated because an auth source is unavailable.
const AUTH_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Weight of callers of calls without a portal.
const DEFAULT_SHARE: u32 = 1;

/// Permission that a method requires of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    /// None: health probes are unauthenticated.
    Public,
    /// Any authenticated caller with at least one policy, for reflection.
    AnyAuthenticated,
    /// Read access to leads of the portal.
    Read,
    /// Write access to leads of the portal.
    Write,
    /// Read access to leads of the portal, as a stream of all of them.
    Export,
    /// Write access to leads of the portal, as a stream.
    Import,
    /// Access to the quota of the portal.
    Quota,
    /// Any right in any portal, to list the portals.
    Portals,
}

/// Caller that is authorized for the call, and what the call is about.
#[derive(Debug, Clone)]
pub(crate) enum Authorized {
    /// One portal.
    InPortal {
        caller: Caller,
        portal: Arc<Portal>,
        /// True if the caller may create contacts with new leads.
        may_create_contacts: bool,
    },
    /// The list of the portals that the caller may use, with its rights.
    Portals { caller: Caller, granted: Vec<(PortalName, Rights)> },
}

/// Authorization of a call, ready at once without authentication. `None` if the method concerns no portal.
pub(crate) type Authorization<'a> = Either<
    Ready<Result<Option<Authorized>, Error>>,
    BoxFuture<'a, Result<Option<Authorized>, Error>>,
>;

/// Denial of a call of an authenticated caller.
#[derive(Debug)]
struct Denial {
    error: Error,
    /// Portal of the call; `None` if the caller must not learn that it exists.
    portal: Option<PortalName>,
}

/// Rights of a caller.
struct CallerRights<'a> {
    /// True if the caller has any right in any portal.
    anything: bool,
    /// Looks up the rights in a portal, which need not exist.
    in_portal: &'a dyn Fn(&PortalName) -> Rights,
}

/// Authorizer of calls.
#[derive(Debug)]
pub(crate) struct Authorizer {
    /// Authenticator; `None` if every call is allowed without authentication.
    pub(crate) auth: Option<Arc<Authenticator>>,
    pub(crate) portals: PortalResolver,
    /// Limit of audit events of refused writes.
    pub(crate) refused_writes: CallLogLimit,
}

// === impl Permission ===

impl Permission {
    /// Permission that a call requires. Any authenticated caller learns that a method does not exist.
    fn for_call(method: &Method, path: &str) -> Self {
        if method.is_unknown() { Self::AnyAuthenticated } else { Self::for_path(path) }
    }

    /// Permission that the method at this path requires. An unlisted method of this API requires write
    /// access, so that a missing entry grants nothing.
    pub(crate) fn for_path(path: &str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        let Some((service, method)) = path.split_once('/') else { return Self::AnyAuthenticated };
        match (service, method) {
            ("grpc.health.v1.Health", _) => Self::Public,
            (
                "leadsd.v1.LeadsService",
                "GetLead" | "ListLeads" | "SearchLeads" | "BatchGetLeads" | "ListLeadAssociations",
            ) => Self::Read,
            ("leadsd.v1.LeadsService", "ExportLeads") => Self::Export,
            ("leadsd.v1.LeadsService", "ImportLeads") => Self::Import,
            ("leadsd.v1.QuotaService", _) => Self::Quota,
            ("leadsd.v1.SchemaService", "ListPortals") => Self::Portals,
            (
                "leadsd.v1.SchemaService",
                "ListLeadProperties" | "ListLeadPipelines" | "ListOwners" | "ListAssociationTypes",
            ) => Self::Read,
            (service, _) if service.starts_with("leadsd.") => Self::Write,
            (_, _) => Self::AnyAuthenticated,
        }
    }
}

// === impl Authorizer ===

impl Authorizer {
    /// Authorizes a call and records caller and portal in its state. `None` if its method concerns no
    /// portal. `peer` is the caller if it has neither an identity nor a name.
    pub(crate) fn authorize<'a>(
        &'a self,
        state: &'a CallState,
        peer: &Caller,
        method: &Method,
        path: &'a str,
        headers: &'a HeaderMap,
    ) -> Authorization<'a> {
        let record = |authorized: &Option<Authorized>| match authorized {
            Some(Authorized::InPortal { caller, portal, may_create_contacts: _ }) => {
                state.set_caller(caller.clone());
                state.set_portal(portal.name.clone());
            }
            Some(Authorized::Portals { caller, .. }) => state.set_caller(caller.clone()),
            None => {}
        };
        let Some(auth) = &self.auth else {
            let authorized = self.authorize_anonymous(state, peer, method, path, headers);
            return Either::Left(ready(authorized.inspect(record)));
        };
        // Boxed, because the future is large: the box is freed before the handler waits for quota.
        let permission = Permission::for_call(method, path);
        let authorized = self.authorize_authenticated(auth, state, permission, path, headers);
        Either::Right(authorized.inspect_ok(record).boxed())
    }

    fn authorize_anonymous(
        &self,
        state: &CallState,
        peer: &Caller,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Option<Authorized>, Error> {
        // An unknown method is UNIMPLEMENTED for any portal.
        if !method.is_public_api || method.is_unknown() {
            return Ok(None);
        }
        let named = named_caller(headers).map(|named| named.with_peer(state.connection.peer));
        let caller = named.unwrap_or_else(|| peer.clone());
        state.set_caller(caller.clone());
        if Permission::for_call(method, path) == Permission::Portals {
            let granted = self.portals.granted(&|_| Rights::ALL);
            return Ok(Some(Authorized::Portals { caller, granted }));
        }
        let portal = self.portals.resolve(headers, None)?;
        Ok(Some(Authorized::InPortal { caller, portal, may_create_contacts: true }))
    }

    async fn authorize_authenticated(
        &self,
        auth: &Authenticator,
        state: &CallState,
        permission: Permission,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Option<Authorized>, Error> {
        if permission == Permission::Public {
            return Ok(None);
        }
        let presented = PresentedCredentials {
            authorization: header_value(headers, http::header::AUTHORIZATION.as_str()),
            api_key: header_value(headers, API_KEY),
            certificate: state.connection.certificate.as_ref(),
        };
        let identity =
            auth.authenticate(presented, state.deadline).await.map_err(unauthenticated)?;
        let caller = |weight| Caller::authenticated(identity.name(), weight);
        let granted = CallerRights {
            anything: auth.has_rights(&identity),
            in_portal: &|portal| auth.rights(&identity, portal),
        };
        match decide(permission, &granted, &self.portals, headers) {
            Ok(Some((portal, rights))) => {
                let may_create_contacts = rights.may_create_contacts();
                let caller = caller(rights.weight);
                Ok(Some(Authorized::InPortal { caller, portal, may_create_contacts }))
            }
            Ok(None) if permission == Permission::Portals => {
                let granted = self.portals.granted(granted.in_portal);
                Ok(Some(Authorized::Portals { caller: caller(DEFAULT_SHARE), granted }))
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
                let origin = Origin::new(Some(&caller), state.connection.peer);
                if matches!(permission, Permission::Write | Permission::Export | Permission::Import)
                    && self.refused_writes.admit(origin, error.reason().as_str())
                {
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

/// Resolves the portal and checks the caller's rights there. `None` if the method concerns no portal.
fn decide(
    permission: Permission,
    granted: &CallerRights<'_>,
    portals: &PortalResolver,
    headers: &HeaderMap,
) -> Result<Option<(Arc<Portal>, Rights)>, Denial> {
    if !granted.anything {
        return Err(forbidden("no policy grants this caller any right", None));
    }
    let missing = match permission {
        Permission::Public | Permission::AnyAuthenticated | Permission::Portals => return Ok(None),
        Permission::Read => "the caller may not read leads",
        Permission::Write => "the caller may not write leads",
        Permission::Export => "the caller may not export leads (needs access and `export = true`)",
        Permission::Import => {
            "the caller may not import leads (needs write access and `import = true`)"
        }
        Permission::Quota => "the caller may not read the quota",
    };
    let may_use = |portal: &PortalName| (granted.in_portal)(portal).any();
    let portal = portals.resolve(headers, Some(&may_use));
    let portal = portal.map_err(|error| Denial { error, portal: None })?;
    let rights = (granted.in_portal)(&portal.name);
    if is_granted(permission, &rights) {
        Ok(Some((portal, rights)))
    } else {
        let text = format!("{missing} in portal {}", portal.name);
        Err(forbidden(&text, Some(portal.name.clone())))
    }
}

fn is_granted(permission: Permission, rights: &Rights) -> bool {
    match permission {
        Permission::Public | Permission::AnyAuthenticated | Permission::Portals => true,
        Permission::Read => rights.access >= Access::Read,
        Permission::Write => rights.access >= Access::Write,
        Permission::Export => rights.may_export(),
        Permission::Import => rights.may_import(),
        Permission::Quota => rights.quota,
    }
}

fn forbidden(text: &str, portal: Option<PortalName>) -> Denial {
    Denial { error: Error::new(Reason::CallerForbidden, text), portal }
}

/// Name in the metadata of an unauthenticated caller.
fn named_caller(headers: &HeaderMap) -> Option<Caller> {
    let named = headers.get(CALLER)?.to_str().ok()?.trim();
    (!named.is_empty()).then(|| Caller::new(named))
}

fn header_value<'a>(headers: &'a HeaderMap, name: &str) -> HeaderValue<'a> {
    HeaderValue::from_values(headers.get_all(name).iter().map(http::HeaderValue::as_bytes))
}

fn unauthenticated(error: AuthError) -> Error {
    match error {
        AuthError::Missing => Error::new(
            Reason::Unauthenticated,
            "the call is not authenticated; send a client certificate, a bearer token or an API key",
        ),
        AuthError::Invalid(why) => Error::new(Reason::Unauthenticated, why),
        AuthError::Unavailable(why) => {
            Error::new(Reason::AuthenticationUnavailable, why).with_retry_after(AUTH_RETRY_AFTER)
        }
    }
}

#[cfg(test)]
mod tests;
