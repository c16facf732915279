//! Batches of creates, updates and upserts. With `validate_only` they are not sent.

use super::{LeadsHandler, ids::with_id, reads::BatchLabels};
use crate::{
    grpc::{
        convert::{self, BatchInputs, InputField, ResponseFit, trace_ids},
        pb,
    },
    leads::{CallContext, Error, Labelled, LeadId, Traced, Upserted, Validated},
};

// === impl LeadsHandler ===

impl LeadsHandler {
    pub(super) async fn batch_create(
        &self,
        call: CallContext,
        message: pb::BatchCreateLeadsRequest,
        mut fit: ResponseFit,
    ) -> Result<pb::BatchCreateLeadsResponse, Error> {
        let (validate_only, display) = (message.validate_only, message.display);
        let (mut inputs, request_id) = convert::batch_create(message, self.max_batch_inputs)?;
        let traces = trace_ids(&inputs);
        fit.reserve(InputField::Inputs.name(), traces.iter().map(String::as_str))?;
        let valid = inputs.take_valid();
        if validate_only {
            let writes = Validated::Creates(valid);
            let results = self.validated_writes(&call, fit, inputs, traces, writes).await?;
            return Ok(pb::BatchCreateLeadsResponse { results, labels_error: None });
        }
        let results = match valid.is_empty() {
            true => Vec::new(),
            false => self.service.batch_create(&call, request_id, valid).await?,
        };
        let leads = results.iter().flatten().map(|lead| &**lead);
        let labels = BatchLabels::read(&self.service, &call, display, leads).await;
        let results = inputs.merge(results).zip(traces);
        let results = results.map(|(result, id)| fit.write_result(labels.add_to(result), id));
        let results = results.collect();
        Ok(pb::BatchCreateLeadsResponse { results, labels_error: labels.error() })
    }

    pub(super) async fn batch_update(
        &self,
        call: CallContext,
        message: pb::BatchUpdateLeadsRequest,
        mut fit: ResponseFit,
    ) -> Result<pb::BatchUpdateLeadsResponse, Error> {
        let (validate_only, display) = (message.validate_only, message.display);
        let (mut inputs, request_id) = convert::batch_update(message, self.max_batch_inputs)?;
        let traces = trace_ids(&inputs);
        fit.reserve(InputField::Inputs.name(), traces.iter().map(String::as_str))?;
        let valid = inputs.take_valid();
        if validate_only {
            let writes = Validated::Updates(valid);
            let results = self.validated_writes(&call, fit, inputs, traces, writes).await?;
            return Ok(pb::BatchUpdateLeadsResponse { results, labels_error: None });
        }
        let ids: Vec<LeadId> = valid.iter().map(|own| own.input.input.id.clone()).collect();
        let results = match valid.is_empty() {
            true => Vec::new(),
            false => self.service.batch_update(&call, request_id, valid).await?,
        };
        let leads = results.iter().flatten().map(|lead| &**lead);
        let labels = BatchLabels::read(&self.service, &call, display, leads).await;
        let results = results.into_iter().zip(&ids).map(|(result, id)| with_id(result, id));
        let results = inputs.merge(results).zip(traces);
        let results = results.map(|(result, id)| fit.write_result(labels.add_to(result), id));
        let results = results.collect();
        Ok(pb::BatchUpdateLeadsResponse { results, labels_error: labels.error() })
    }

    pub(super) async fn batch_upsert(
        &self,
        call: CallContext,
        message: pb::BatchUpsertLeadsRequest,
        mut fit: ResponseFit,
    ) -> Result<pb::BatchUpsertLeadsResponse, Error> {
        let (validate_only, display) = (message.validate_only, message.display);
        let (mut inputs, request_id) = convert::batch_upsert(message, self.max_batch_inputs)?;
        let traces = trace_ids(&inputs);
        fit.reserve(InputField::Inputs.name(), traces.iter().map(String::as_str))?;
        let valid = inputs.take_valid();
        if validate_only {
            let results = self.service.validate(&call, Validated::Upserts(valid)).await?;
            let results = inputs.merge(results).zip(traces);
            let results = results.map(|(result, id)| fit.validated_upsert(result, id)).collect();
            return Ok(pb::BatchUpsertLeadsResponse { results, labels_error: None });
        }
        let ids: Vec<LeadId> = valid.iter().map(|own| own.input.input.id.clone()).collect();
        let results = match valid.is_empty() {
            true => Vec::new(),
            false => self.service.batch_upsert(&call, request_id, valid).await?,
        };
        let leads = results.iter().flatten().map(|done| &*done.lead);
        let labels = BatchLabels::read(&self.service, &call, display, leads).await;
        let results = results.into_iter().zip(&ids).map(|(result, id)| with_id(result, id));
        let results = inputs.merge(results).zip(traces).map(|(result, id)| {
            let displayed = result.map(|Upserted { lead, created }| {
                let lead = labels.add(lead);
                Upserted { lead, created }
            });
            fit.upsert_result(displayed, id)
        });
        let results = results.collect();
        Ok(pb::BatchUpsertLeadsResponse { results, labels_error: labels.error() })
    }

    /// Validates the inputs of a batch create or update, and builds the results of all inputs.
    async fn validated_writes<T>(
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
