//! Changes of associations, singly and in batches.

use std::iter::repeat_n;

use super::{LeadsHandler, ids::with_id};
use crate::{
    grpc::{
        convert::{BatchInputs, InputField, ResponseFit},
        pb,
    },
    leads::{
        AssociationAction, AssociationChange, CallContext, Error, Labelled, LeadId, RequestId,
        Validated,
    },
};

/// Kind of a call that changes associations.
#[derive(Debug, Clone, Copy)]
pub(super) struct AssociationWrite {
    pub(super) action: AssociationAction,
    /// True if nothing is written.
    pub(super) validate_only: bool,
}

// === impl AssociationWrite ===

impl AssociationWrite {
    pub(super) fn new(action: AssociationAction, validate_only: bool) -> Self {
        Self { action, validate_only }
    }
}

// === impl LeadsHandler ===

impl LeadsHandler {
    pub(super) async fn change_association(
        &self,
        call: &CallContext,
        write: AssociationWrite,
        (to, change, request_id): (String, Labelled<AssociationChange>, Option<RequestId>),
    ) -> Result<(), Error> {
        let AssociationWrite { action, validate_only } = write;
        if validate_only {
            let changes = vec![change];
            return self.service.validate_one(call, Validated::Associations { to, changes }).await;
        }
        let lead = change.input.lead.clone();
        let done = self.service.change_association(call, request_id, action, to, change).await;
        with_id(done, &lead)
    }

    pub(super) async fn change_associations(
        &self,
        call: &CallContext,
        mut fit: ResponseFit,
        write: AssociationWrite,
        (to, mut inputs, request_id): (
            String,
            BatchInputs<Labelled<AssociationChange>>,
            Option<RequestId>,
        ),
    ) -> Result<Vec<pb::LeadAssociationResult>, Error> {
        fit.reserve(InputField::Inputs.name(), repeat_n("", inputs.count()))?;
        let AssociationWrite { action, validate_only } = write;
        let valid = inputs.take_valid();
        let leads: Vec<LeadId> = valid.iter().map(|change| change.input.lead.clone()).collect();
        let results = match valid.is_empty() {
            true => Vec::new(),
            false if validate_only => {
                self.service.validate(call, Validated::Associations { to, changes: valid }).await?
            }
            false => self.service.change_associations(call, request_id, action, to, valid).await?,
        };
        let results = results.into_iter().zip(&leads).map(|(result, id)| with_id(result, id));
        Ok(inputs.merge(results).map(|result| fit.association_result(result)).collect())
    }
}
