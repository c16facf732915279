//! Validation of the inputs of a batch that is not sent.

use super::LeadsHandler;
use crate::{
    grpc::{
        convert::{BatchInputs, ResponseFit},
        pb,
    },
    leads::{CallContext, Error, Traced, Validated},
};

// === impl LeadsHandler ===

impl LeadsHandler {
    /// Validates the inputs that have a valid form. Without any, the schema is not read.
    pub(super) async fn validate(
        &self,
        call: &CallContext,
        writes: Validated<'_>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        match writes.is_empty() {
            true => Ok(Vec::new()),
            false => self.service.validate(call, writes).await,
        }
    }
    /// Validates the inputs of a batch create or update, and builds the results of all inputs.
    pub(super) async fn validated_writes<T>(
        &self,
        call: &CallContext,
        mut fit: ResponseFit,
        inputs: BatchInputs<Traced<T>>,
        traces: Vec<String>,
        writes: Validated<'_>,
    ) -> Result<Vec<pb::LeadWriteResult>, Error> {
        let results = self.validate(call, writes).await?;
        let results = inputs.merge(results).zip(traces);
        Ok(results.map(|(result, id)| fit.validated_write(result, id)).collect())
    }
}
