//! Reads of the parts of the schema that need further permissions.

use tokio::time::Instant;

use super::{DiagnosticsClient, DiagnosticsError, results};
use crate::hubspot::{endpoints, operations::Operation};
use leadsd_base::secret::Secret;

// === impl DiagnosticsClient ===

impl DiagnosticsClient {
    /// Reads whether the account has owners; needs the scope for owners.
    pub async fn has_owners(
        &self,
        token: &Secret,
        deadline: Instant,
    ) -> Result<bool, DiagnosticsError> {
        let path: Vec<_> = Operation::ListOwners.spec().path(self.version).split('/').collect();
        let request = self.http.get(endpoints::url(&self.base, &path)).query(&[("limit", "1")]);
        let (body, _) = self.authorized(request, token, deadline).await?;
        Ok(!results(&body)?.is_empty())
    }

    /// Reads the number of association types from leads to an object type.
    pub async fn association_types(
        &self,
        to: &str,
        token: &Secret,
        deadline: Instant,
    ) -> Result<usize, DiagnosticsError> {
        let path = Operation::ListAssociationTypes.spec().path(self.version).split('/');
        let path: Vec<_> =
            path.map(|segment| if segment.starts_with('{') { to } else { segment }).collect();
        Ok(results(&self.get(&path, token, deadline).await?)?.len())
    }
}
