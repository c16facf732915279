//! Labels beside ids in leads of responses, and reads of many leads.

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

/// Labels for the leads of a batch; none if `display` is false.
pub(super) struct BatchLabels(Option<DisplayLabels>);

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

/// The error because of which labels are missing, for a response.
fn error(labels: &DisplayLabels) -> LabelsError {
    labels.error().map(status::for_item_short)
}

// === impl BatchLabels ===

impl BatchLabels {
    /// Reads the labels of these leads if `display` is true.
    pub(super) async fn read(
        service: &Service,
        call: &CallContext,
        display: bool,
        leads: impl Iterator<Item = &Lead>,
    ) -> Self {
        match display {
            true => Self(Some(Box::pin(service.labels(call, leads)).await)),
            false => Self(None),
        }
    }

    /// Adds labels to a lead. One lead at a time: equal ids share a lead, and each copy is charged with the
    /// response.
    pub(super) fn add(&self, lead: Arc<Lead>) -> Arc<Lead> {
        match &self.0 {
            Some(labels) => labels.add_to(lead),
            None => lead,
        }
    }

    /// Adds labels to the lead of a result.
    pub(super) fn add_to(&self, result: Result<Arc<Lead>, Error>) -> Result<Arc<Lead>, Error> {
        result.map(|lead| self.add(lead))
    }

    /// The error because of which labels are missing.
    pub(super) fn error(&self) -> LabelsError {
        self.0.as_ref().and_then(error)
    }
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
        let leads = results.iter().flatten().map(|lead| &**lead);
        let labels = BatchLabels::read(service, &call, display, leads).await;
        let results = results.into_iter().zip(&ids).map(|(result, id)| with_id(result, id));
        let results = inputs.merge(results.map(|result| labels.add_to(result)));
        let results = results.map(|result| fit.read_result(result)).collect();
        Ok(pb::BatchGetLeadsResponse { results, labels_error: labels.error() })
    }
}
