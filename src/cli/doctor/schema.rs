//! Check of what SchemaService lists beside properties and pipelines.

use super::{
    check::{CheckOutcome, CheckResult, deadline},
    location::SecretLocation,
};
use crate::{
    hubspot::{DiagnosticsClient, DiagnosticsError},
    leads::Reason,
};
use leadsd_base::secret::Secret;

/// Object type with the association types that new leads need.
const CONTACTS: &str = "contacts";

/// Reads association types and owners. A failure is a warning: calls with ids do not depend on them. Owners are optional: without their scope the check is ok and names
/// it, because a portal whose callers list no owners does not need it.
pub(super) async fn examine(
    location: &SecretLocation<'_>,
    client: &DiagnosticsClient,
    token: &Secret,
) -> CheckResult<()> {
    let types = match client.association_types(CONTACTS, token, deadline()).await {
        Ok(types) => types,
        Err(error) => return CheckOutcome::Warn(location.remediation(&error)).into(),
    };
    let owners = match client.has_owners(token, deadline()).await {
        Ok(true) => "owners".to_owned(),
        Ok(false) => "no owners".to_owned(),
        Err(DiagnosticsError::Api(error)) if error.reason() == Reason::MissingScopes => {
            let scopes = match &error.upstream().required_scopes[..] {
                [] => "for owners".to_owned(),
                scopes => scopes.join(" or "),
            };
            format!("ListOwners fails with MISSING_SCOPES: the scope {scopes} is missing")
        }
        Err(error) => return CheckOutcome::Warn(location.remediation(&error)).into(),
    };
    CheckResult::ok((), format!("{types} association types to {CONTACTS}; {owners}"))
}
