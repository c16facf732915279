//! Reads with labels beside ids, and reads of many leads.

use std::{iter::repeat_n, sync::Arc};

use super::{LeadsHandler, ids::with_id, typed::read};
use crate::{
    grpc::{
        convert::{self, InputField, ResponseFit},
        pb, status,
    },
    leads::{CallContext, DisplayLabels, Error, Lead, Page, Service},
};

/// Error because of which labels are missing.
type LabelsError = Option<tonic_types::Status>;

/// Adds labels to a lead if `display` is true.
pub(super) async fn displayed(
    service: &Service,
    call: &CallContext,
    display: bool,
    lead: Arc<Lead>,
) -> (Arc<Lead>, LabelsError) {
    if !display {
        return (lead, None);
    }
    // Boxed, because most reads have no place for it.
    let labels = Box::pin(service.labels(call, std::iter::once(&*lead))).await;
    (labels.add_to(lead), error(&labels))
}

/// Adds labels to the leads of a page if `display` is true.
pub(super) async fn display_page(
    service: &Service,
    call: &CallContext,
    display: bool,
    leads: &mut [Lead],
) -> LabelsError {
    if !display {
        return None;
    }
    let labels = service.labels(call, leads.iter()).await;
    leads.iter_mut().for_each(|lead| labels.add(lead));
    error(&labels)
}

/// Adds labels to a list if `display` is true. A page without labels stays shared with identical reads.
pub(super) async fn display_list(
    service: &Service,
    call: &CallContext,
    display: bool,
    page: Arc<Page>,
) -> (Arc<Page>, LabelsError) {
    if !display {
        return (page, None);
    }
    let mut page = Arc::unwrap_or_clone(page);
    let error = Box::pin(display_page(service, call, display, &mut page.leads)).await;
    (Arc::new(page), error)
}

fn error(labels: &DisplayLabels) -> LabelsError {
    labels.error().map(status::for_item_short)
}

// === impl LeadsHandler ===

impl LeadsHandler {
    pub(super) async fn batch_get(
        &self,
        call: CallContext,
        message: pb::BatchGetLeadsRequest,
        mut fit: ResponseFit,
    ) -> Result<pb::BatchGetLeadsResponse, Error> {
        let (service, typed, display) = (&self.service, message.typed, message.display);
        let (batch, inputs) = convert::batch_get(message, self.max_batch_inputs)?;
        fit.reserve(InputField::Ids.name(), repeat_n("", inputs.count()))?;
        let ids = batch.ids.clone();
        let results = match ids.is_empty() {
            true => Vec::new(),
            false => read(service, &call, typed, &mut fit, service.batch_get(&call, batch)).await?,
        };
        let labels = match display {
            true => {
                let leads = results.iter().flatten().map(|lead| &**lead);
                Some(Box::pin(service.labels(&call, leads)).await)
            }
            false => None,
        };
        let labels_error = labels.as_ref().and_then(error);
        // One lead at a time: equal ids share a lead, and each copy is charged with the response.
        let displayed = |lead| match &labels {
            Some(labels) => labels.add_to(lead),
            None => lead,
        };
        let results = results.into_iter().zip(&ids).map(|(result, id)| with_id(result, id));
        let results = inputs.merge(results.map(|result| result.map(displayed)));
        let results = results.map(|result| fit.read_result(result)).collect();
        Ok(pb::BatchGetLeadsResponse { results, labels_error })
    }
}
