//! Stream of ExportLeads: passes the messages of an export on, and ends it with a resume token when its
//! connection closes or its deadline is near.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use prost_types::Duration as PbDuration;
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep_until},
};
use tonic::Status;

use super::{
    convert::{PropertyForm, ResponseFit},
    middleware::call_context::AuthorizedCall,
    pb, status,
    transport::{admission::ExportSlot, call_state::CallState},
};
use crate::leads::{CallContext, DisplayLabels, Error, Export, ExportMessage, Lead, Service};

/// Messages of one call of ExportLeads.
pub(crate) type ExportStream =
    Pin<Box<dyn Stream<Item = Result<pb::ExportLeadsResponse, Status>> + Send>>;

/// State of the stream.
struct ExportState {
    export: Export,
    call: Arc<CallState>,
    closing: watch::Receiver<bool>,
    /// Time at which the stream ends, so that a client with this deadline receives its last message.
    until: Instant,
    max_response_bytes: usize,
    types: Option<SchemaLookup>,
    labels: Option<SchemaLookup>,
    is_ended: bool,
    _slot: ExportSlot,
}

/// Lookup in the copy of the schema: of the types of properties, or of labels.
struct SchemaLookup {
    service: Service,
    context: CallContext,
}

/// Parts of the leads that come from the copy of the schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SchemaParts {
    /// True if the values have types.
    pub(crate) typed: bool,
    /// True if there are labels beside ids.
    pub(crate) display: bool,
}

/// Starts the stream of a call. `start` creates the export.
pub(crate) fn start(
    call: AuthorizedCall,
    max_response_bytes: usize,
    service: &Service,
    parts: SchemaParts,
    start: impl FnOnce(CallContext) -> Result<Export, Error>,
) -> Result<ExportStream, Error> {
    let AuthorizedCall { context, state: call } = call;
    let until = context.ending_early().deadline;
    let _slot = call.guard.start_export()?;
    let lookup =
        |is_wanted: bool| is_wanted.then(|| SchemaLookup::new(service.clone(), context.clone()));
    let (types, labels) = (lookup(parts.typed), lookup(parts.display));
    let export = start(context)?;
    call.send_deadline.start_for_each_message();
    let closing = call.connection.closing.clone();
    let is_ended = false;
    let state = ExportState {
        export,
        call,
        closing,
        until,
        max_response_bytes,
        types,
        labels,
        is_ended,
        _slot,
    };
    Ok(Box::pin(stream::unfold(state, ExportState::next)))
}

/// The next message of an export, and the form of its properties. Cancel-safe.
async fn next_message(
    export: &mut Export,
    types: Option<&SchemaLookup>,
    form: &mut PropertyForm,
) -> Option<Result<ExportMessage, Error>> {
    if let Some(SchemaLookup { service, context }) = types {
        *form = PropertyForm::Typed(service.property_types(context).await);
    }
    export.next().await
}

/// Labels for the leads of a message; `None` if they are not wanted.
async fn labels_of(lookup: Option<&SchemaLookup>, leads: &[Lead]) -> Option<DisplayLabels> {
    let SchemaLookup { service, context } = lookup.filter(|_| !leads.is_empty())?;
    Some(service.labels(context, leads.iter()).await)
}

// === impl SchemaLookup ===

impl SchemaLookup {
    fn new(service: Service, context: CallContext) -> Self {
        Self { service, context }
    }
}

// === impl ExportState ===

impl ExportState {
    async fn next(mut self) -> Option<(Result<pb::ExportLeadsResponse, Status>, Self)> {
        if self.is_ended {
            return None;
        }
        let mut form = PropertyForm::Text;
        let message = select! {
            biased;
            // An error means that the connection was dropped.
            _ = self.closing.wait_for(|closing| *closing) => self.export.pause().map(Ok),
            () = sleep_until(self.until) => self.export.pause().map(Ok),
            message = next_message(&mut self.export, self.types.as_ref(), &mut form) => message,
        };
        let message = match message? {
            Ok(message) => {
                // Read here, where the message is not lost if it takes long: three seconds at most, and not
                // beyond the end of the stream.
                let labels = labels_of(self.labels.as_ref(), &message.leads).await;
                self.build(message, form, labels.as_ref())
            }
            Err(error) => Err(error),
        };
        let message = message.map_err(|error| {
            self.is_ended = true;
            self.call.fail(error)
        });
        Some((message, self))
    }

    /// Builds a message and charges its memory.
    fn build(
        &self,
        message: ExportMessage,
        form: PropertyForm,
        labels: Option<&DisplayLabels>,
    ) -> Result<pb::ExportLeadsResponse, Error> {
        let ExportMessage { mut leads, resume_token, exported, total, remaining, complete } =
            message;
        let mut fit = ResponseFit::new(Arc::clone(&self.call), self.max_response_bytes);
        fit.set_form(form);
        let mut labels_error = None;
        if let Some(labels) = labels {
            leads.iter_mut().for_each(|lead| labels.add(lead));
            labels_error = labels.error().map(status::for_item_short);
            if let Err(error) = fit.fits_message(&leads, resume_token.len()) {
                leads.iter_mut().for_each(|lead| lead.labels.clear());
                labels_error = Some(status::for_item_short(&error));
            }
        }
        let remaining_time = remaining.and_then(|time| PbDuration::try_from(time).ok());
        let count = |number| i64::try_from(number).unwrap_or(i64::MAX);
        let progress = pb::ExportProgress {
            exported: count(exported),
            total: total.map(count),
            remaining_time,
        };
        Ok(pb::ExportLeadsResponse {
            leads: fit.exported(leads)?,
            resume_token,
            progress: Some(progress),
            complete,
            labels_error,
        })
    }
}
