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
    pb,
    transport::{admission::ExportSlot, call_state::CallState},
};
use crate::leads::{CallContext, Error, Export, ExportMessage, Service};

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
    types: Option<TypeLookup>,
    is_ended: bool,
    _slot: ExportSlot,
}

/// Lookup of the types of properties.
struct TypeLookup {
    service: Service,
    context: CallContext,
}

/// Starts the stream of a call. `start` creates the export. `types` has the types of properties if the leads
/// have typed values.
pub(crate) fn start(
    call: AuthorizedCall,
    max_response_bytes: usize,
    types: Option<Service>,
    start: impl FnOnce(CallContext) -> Result<Export, Error>,
) -> Result<ExportStream, Error> {
    let AuthorizedCall { context, state: call } = call;
    let until = context.ending_early().deadline;
    let _slot = call.guard.start_export()?;
    let types = types.map(|service| TypeLookup { service, context: context.clone() });
    let export = start(context)?;
    call.send_deadline.start_for_each_message();
    let closing = call.connection.closing.clone();
    let is_ended = false;
    let state =
        ExportState { export, call, closing, until, max_response_bytes, types, is_ended, _slot };
    Ok(Box::pin(stream::unfold(state, ExportState::next)))
}

/// The next message of an export, and the form of its properties. Cancel-safe.
async fn next_message(
    export: &mut Export,
    types: Option<&TypeLookup>,
    form: &mut PropertyForm,
) -> Option<Result<ExportMessage, Error>> {
    if let Some(TypeLookup { service, context }) = types {
        *form = PropertyForm::Typed(service.property_types(context).await);
    }
    export.next().await
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
            Ok(message) => self.build(message, form),
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
    ) -> Result<pb::ExportLeadsResponse, Error> {
        let ExportMessage { leads, resume_token, exported, total, remaining, complete } = message;
        let mut fit = ResponseFit::new(Arc::clone(&self.call), self.max_response_bytes);
        fit.set_form(form);
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
        })
    }
}
