//! Validation of the inputs of a batch that is not sent.

use super::LeadsHandler;
use crate::{
    grpc::{
        convert::{BatchInputs, ResponseFit},
        pb,
    },
    leads::{CallContext, Error, Labelled, Traced, Validated},
};

// === impl LeadsHandler ===

impl LeadsHandler {
    /// Validates the inputs of a batch create or update, and builds the results of all inputs.
    pub(super) async fn validated_writes<T>(
        &self,
        call: &CallContext,
        mut fit: ResponseFit,
        inputs: BatchInputs<Labelled<Traced<T>>>,
        traces: Vec<String>,
        writes: Validated,
    ) -> Result<Vec<pb::LeadWriteResult>, Error> {
        let results = self.service.validate(call, writes).await?;
        let results = inputs.merge(results).zip(traces);
        Ok(results.map(|(result, id)| fit.validated_write(result, id)).collect())
    }
}
