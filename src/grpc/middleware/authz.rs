//! Lets calls in: finds out who calls, which portal is meant and whether this caller
//! may do that there, before a byte of the message is read.
//!
//! A caller learns of no portal but its own: a name that is not configured and one that it may not use
//! get the same answer.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Request};
use tonic::body::Body;

use crate::grpc::transport::call_state::{Authorized, CallState, Portals};
use crate::{
    auth::{Access, Auth, AuthError, HeaderValue, Identity, PresentedCredentials, Rights},
    leads::{self, Error, PortalName, Reason},
};
use leadsd_quota::Caller;

/// Where a caller's API key is.
const API_KEY: &str = "x-api-key";

/// How long to wait before a call that could not be checked is worth another try.
const UNCHECKED: Duration = Duration::from_secs(1);

/// What a method asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    /// Nothing: probes have no identity.
    Public,
    /// To be somebody who may do something: the contract is no secret, and no stranger's business.
    AnyAuthenticated,
    /// To read leads in the portal.
    Read,
    /// To write leads in the portal.
    Write,
    /// To ask for the portal's quota.
    Quota,
}

/// Why a known caller is not let in.
#[derive(Debug)]
struct Denial {
    error: Error,
    /// The portal, if the caller may know it.
    portal: Option<PortalName>,
}

/// Lets calls in.
#[derive(Debug)]
pub(crate) struct Authorizer {
    /// Knows callers; `None` lets everybody in.
    pub(crate) auth: Option<Arc<Auth>>,
    pub(crate) portals: Portals,
}

// === impl Permission ===

impl Permission {
    /// What the method at this path asks for. A method of ours that is not listed is taken for a
    /// write, so that whoever adds one and forgets it here gives nothing away.
    pub(crate) fn of(path: &str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        let Some((service, method)) = path.split_once('/') else { return Self::AnyAuthenticated };
        match (service, method) {
            ("grpc.health.v1.Health", _) => Self::Public,
            (
                "hubspot.leads.v1.LeadsService",
                "GetLead" | "ListLeads" | "SearchLeads" | "BatchGetLeads",
            ) => Self::Read,
            ("hubspot.leads.v1.QuotaService", _) => Self::Quota,
            (service, _) if service.starts_with("hubspot.") => Self::Write,
            (_, _) => Self::AnyAuthenticated,
        }
    }
}

// === impl Authorizer ===

impl Authorizer {
    /// Lets the call in, with what is known of its caller, or says why not.
    pub(crate) async fn admit(
        &self,
        facts: &CallState,
        request: &mut Request<Body>,
    ) -> Result<(), Error> {
        let Some(auth) = &self.auth else {
            request.extensions_mut().insert(Authorized::Anonymous);
            return Ok(());
        };
        // In a box of its own, which is gone when the call goes on: it is large, and calls wait.
        Box::pin(self.admit_known(auth, facts, request)).await
    }

    async fn admit_known(
        &self,
        auth: &Auth,
        facts: &CallState,
        request: &mut Request<Body>,
    ) -> Result<(), Error> {
        let portals = &self.portals;
        let need = Permission::of(request.uri().path());
        if need == Permission::Public {
            return Ok(());
        }
        let headers = request.headers();
        let presented = PresentedCredentials {
            authorization: sent(headers, http::header::AUTHORIZATION.as_str()),
            api_key: sent(headers, API_KEY),
            certificate: facts.line.certificate.as_ref(),
        };
        let identity = auth.identify(presented, facts.deadline).await.map_err(unknown)?;
        let caller = |share| Caller::authenticated(identity.name(), share);
        match authorize(auth, portals, headers, &identity, need) {
            Ok(Some((portal, rights))) => {
                let caller = caller(rights.share);
                facts.set_caller(caller.clone());
                request.extensions_mut().insert(Authorized::Known { caller, portal });
                Ok(())
            }
            Ok(None) => {
                facts.set_caller(caller(1));
                Ok(())
            }
            Err(Denial { error, portal }) => {
                facts.set_caller(caller(1));
                if error.reason() == Reason::CallerForbidden {
                    auth.count_forbidden();
                }
                if need == Permission::Write {
                    let method = request.uri().path().rsplit('/').next().unwrap_or_default();
                    let (portal, id) = (portal.as_ref(), &facts.request_id);
                    leads::audit_refused(method, &caller(1), portal, id, error.reason());
                }
                Err(error)
            }
        }
    }
}

/// The portal and what the caller may do there; `None` where no portal is needed.
fn authorize(
    auth: &Auth,
    portals: &Portals,
    headers: &HeaderMap,
    identity: &Identity,
    need: Permission,
) -> Result<Option<(PortalName, Rights)>, Denial> {
    let forbidden =
        |text: &str, portal| Denial { error: Error::new(Reason::CallerForbidden, text), portal };
    if !auth.has_rights(identity) {
        return Err(forbidden("no policy lets this caller do anything", None));
    }
    if matches!(need, Permission::Public | Permission::AnyAuthenticated) {
        return Ok(None);
    }
    let may_use = |portal: &PortalName| auth.rights(identity, portal).any();
    let portal = portals.choose(headers, Some(&may_use));
    let portal = portal.map_err(|error| Denial { error, portal: None })?;
    let rights = auth.rights(identity, &portal);
    let refusal = match need {
        Permission::Read if rights.access < Access::Read => {
            "this caller may not read leads in this portal"
        }
        Permission::Write if rights.access < Access::Write => {
            "this caller may not write leads in this portal"
        }
        Permission::Quota if !rights.quota => {
            "this caller may not ask for the quota of this portal"
        }
        Permission::Public
        | Permission::AnyAuthenticated
        | Permission::Read
        | Permission::Write
        | Permission::Quota => {
            return Ok(Some((portal, rights)));
        }
    };
    Err(forbidden(refusal, Some(portal)))
}

fn sent<'a>(headers: &'a HeaderMap, name: &str) -> HeaderValue<'a> {
    HeaderValue::from_values(headers.get_all(name).iter().map(http::HeaderValue::as_bytes))
}

fn unknown(refused: AuthError) -> Error {
    match refused {
        AuthError::Missing => Error::new(
            Reason::Unauthenticated,
            "the call does not prove who calls: it needs a client certificate, a bearer token or an API key",
        ),
        AuthError::Invalid(why) => Error::new(Reason::Unauthenticated, why),
        AuthError::Unavailable(why) => {
            Error::new(Reason::AuthenticationUnavailable, why).with_retry_after(UNCHECKED)
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::grpc::DESCRIPTORS;

    /// Every method of the contract with what it needs: whoever adds one decides here as well.
    const NEEDS: &[(&str, Permission)] = &[
        ("LeadsService/GetLead", Permission::Read),
        ("LeadsService/ListLeads", Permission::Read),
        ("LeadsService/CreateLead", Permission::Write),
        ("LeadsService/UpdateLead", Permission::Write),
        ("LeadsService/ArchiveLead", Permission::Write),
        ("LeadsService/UpsertLead", Permission::Write),
        ("LeadsService/SearchLeads", Permission::Read),
        ("LeadsService/BatchGetLeads", Permission::Read),
        ("LeadsService/BatchCreateLeads", Permission::Write),
        ("LeadsService/BatchUpdateLeads", Permission::Write),
        ("LeadsService/BatchUpsertLeads", Permission::Write),
        ("LeadsService/BatchArchiveLeads", Permission::Write),
        ("QuotaService/GetQuota", Permission::Quota),
        ("QuotaService/WatchQuota", Permission::Quota),
    ];

    #[test]
    fn every_method_of_the_contract_has_its_need() {
        let mut methods = Vec::new();
        for file in FileDescriptorSet::decode(DESCRIPTORS).unwrap().file {
            for service in &file.service {
                for method in &service.method {
                    methods.push(format!(
                        "{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
        assert_eq!(methods.len(), NEEDS.len(), "{methods:?}");
        for (method, need) in NEEDS {
            let path = format!("hubspot.leads.v1.{method}");
            assert!(methods.contains(&path), "{path}");
            assert_eq!(Permission::of(&format!("/{path}")), *need, "{path}");
        }
    }

    #[test]
    fn only_health_is_for_everybody() {
        for (path, need) in [
            ("/grpc.health.v1.Health/Check", Permission::Public),
            ("/grpc.health.v1.Health/Watch", Permission::Public),
            (
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                Permission::AnyAuthenticated,
            ),
            ("/grpc.health.v1.Healthy/Check", Permission::AnyAuthenticated),
            ("/grpc.health.v1.Health", Permission::AnyAuthenticated),
            ("//grpc.health.v1.Health/Check", Permission::AnyAuthenticated),
            ("/x/grpc.health.v1.Health/Check", Permission::AnyAuthenticated),
            ("/", Permission::AnyAuthenticated),
            ("", Permission::AnyAuthenticated),
            ("/hubspot.leads.v1.LeadsService/GetLeads", Permission::Write),
            ("/hubspot.leads.v1.LeadsService/", Permission::Write),
            ("/hubspot.leads.v2.LeadsService/GetLead", Permission::Write),
        ] {
            assert_eq!(Permission::of(path), need, "{path}");
        }
    }
}
