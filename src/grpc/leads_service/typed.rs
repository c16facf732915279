//! Typed properties: reads that look their types up, and writes whose errors name them.

use std::future::Future;

use futures_util::{
    TryFutureExt as _,
    future::{Either, join},
};
use tonic::{Request, Response, Status};

use super::LeadsHandler;
use crate::{
    grpc::convert::{PropertyForm, ResponseFit, TypedNames, TypedWrite},
    leads::{CallContext, Error, Service},
};

/// Runs a read. With `typed`, looks the types of properties up beside it, for the response.
// Not an async function, which would store the read twice while it waits.
pub(super) fn read<T: Send>(
    service: &Service,
    call: &CallContext,
    typed: bool,
    fit: &mut ResponseFit,
    read: impl Future<Output = Result<T, Error>> + Send,
) -> impl Future<Output = Result<T, Error>> + Send {
    if !typed {
        return Either::Right(read);
    }
    // Boxed, so that other reads have no place for it.
    Either::Left(Box::pin(async move {
        let (result, types) = join(read, service.property_types(call)).await;
        fit.set_form(PropertyForm::Typed(types));
        result
    }))
}

// === impl LeadsHandler ===

impl LeadsHandler {
    /// Runs a write of one lead. Its errors name typed properties by their paths in the request.
    pub(super) fn run_write<In, Out, F>(
        &self,
        request: Request<In>,
        use_case: impl FnOnce(CallContext, In, ResponseFit) -> F,
    ) -> impl Future<Output = Result<Response<Out>, Status>> + Send
    where
        In: TypedWrite + Send,
        Out: Send,
        F: Future<Output = Result<Out, Error>> + Send,
    {
        let names = TypedNames::new(request.get_ref());
        self.run(request, move |call, message, fit| {
            use_case(call, message, fit).map_err(move |error| names.rename(error))
        })
    }
}
