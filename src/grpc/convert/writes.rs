//! Converts creates, updates and upserts to domain types.
//!
//! A single request, an input of a batch and a row of an import have one conversion: the request is the
//! message of an input, with a request id.

use super::{
    batch::{BatchCollector, BatchInputs, InputField, LeadName, lead_name, new_trace_id, traced},
    typed::{TypedNames, TypedWrite},
};
use crate::{
    grpc::{
        pb,
        validate::{FieldFaults, IdPlace, NamedContact, Values},
    },
    leads::{
        CreateLead, Error, Labelled, RequestId, Traced, UpdateLead, UpsertLead, import::RowWrite,
    },
};

/// Message of one write.
trait WriteMessage: TypedWrite {
    /// The write.
    type Write;

    /// Converts the message, and returns the trace id of the caller. `place` is that of the id of the lead.
    fn convert(self, faults: &mut FieldFaults, place: IdPlace) -> (Option<Self::Write>, String);
}

/// Write of a lead that its caller may name.
trait NamedLead {
    /// The name of the lead; `None` for a lead to create.
    fn name(&self) -> Option<LeadName>;
}

/// Write, and the request id of its caller.
type SingleWrite<T> = (T, Option<RequestId>);

/// Inputs of a batch write, and the request id of the batch.
type BatchWrite<T> = (BatchInputs<Labelled<Traced<T>>>, Option<RequestId>);

pub(crate) fn create(
    request: pb::CreateLeadRequest,
) -> Result<SingleWrite<Labelled<CreateLead>>, Error> {
    let pb::CreateLeadRequest {
        properties,
        primary_contact_id,
        associations,
        request_id,
        object_write_trace_id,
        contact,
        validate_only: _,
        labels,
        typed_properties,
        display: _,
    } = request;
    let input = pb::LeadCreate {
        properties,
        primary_contact_id,
        associations,
        object_write_trace_id,
        contact,
        labels,
        typed_properties,
    };
    single_create(input, &request_id)
}

pub(crate) fn update(
    request: pb::UpdateLeadRequest,
) -> Result<SingleWrite<Labelled<UpdateLead>>, Error> {
    let pb::UpdateLeadRequest {
        id,
        id_property,
        properties,
        request_id,
        object_write_trace_id,
        validate_only: _,
        labels,
        typed_properties,
        display: _,
    } = request;
    let input = pb::LeadUpdate {
        id,
        id_property,
        properties,
        object_write_trace_id,
        labels,
        typed_properties,
    };
    single_update(input, &request_id)
}

pub(crate) fn upsert(
    request: pb::UpsertLeadRequest,
) -> Result<SingleWrite<Labelled<Traced<UpsertLead>>>, Error> {
    let pb::UpsertLeadRequest {
        id,
        id_property,
        properties,
        request_id,
        object_write_trace_id,
        primary_contact_id,
        associations,
        contact,
        validate_only: _,
        labels,
        typed_properties,
        display: _,
    } = request;
    let input = pb::LeadUpsert {
        id,
        id_property,
        properties,
        object_write_trace_id,
        primary_contact_id,
        associations,
        contact,
        labels,
        typed_properties,
    };
    single_upsert(input, &request_id)
}

/// Converts a create in a row of an import.
pub(super) fn create_row(input: pb::LeadCreate) -> Result<RowWrite, Error> {
    row(input, |input| Ok(RowWrite::Create(single_create(input, "")?.0)))
}

/// Converts an update in a row of an import.
pub(super) fn update_row(input: pb::LeadUpdate) -> Result<RowWrite, Error> {
    row(input, |input| Ok(RowWrite::Update(single_update(input, "")?.0)))
}

/// Converts an upsert in a row of an import.
pub(super) fn upsert_row(input: pb::LeadUpsert) -> Result<RowWrite, Error> {
    row(input, |input| Ok(RowWrite::Upsert(single_upsert(input, "")?.0)))
}

pub(crate) fn batch_create(
    request: pb::BatchCreateLeadsRequest,
    cap: usize,
) -> Result<BatchWrite<CreateLead>, Error> {
    let pb::BatchCreateLeadsRequest { inputs, request_id, validate_only: _, display: _ } = request;
    batch(inputs, &request_id, cap)
}

pub(crate) fn batch_update(
    request: pb::BatchUpdateLeadsRequest,
    cap: usize,
) -> Result<BatchWrite<UpdateLead>, Error> {
    let pb::BatchUpdateLeadsRequest { inputs, request_id, validate_only: _, display: _ } = request;
    batch(inputs, &request_id, cap)
}

pub(crate) fn batch_upsert(
    request: pb::BatchUpsertLeadsRequest,
    cap: usize,
) -> Result<BatchWrite<UpsertLead>, Error> {
    let pb::BatchUpsertLeadsRequest { inputs, request_id, validate_only: _, display: _ } = request;
    batch(inputs, &request_id, cap)
}

// === impl WriteMessage ===

impl WriteMessage for pb::LeadCreate {
    type Write = Labelled<CreateLead>;

    fn convert(self, faults: &mut FieldFaults, _place: IdPlace) -> (Option<Self::Write>, String) {
        let Self {
            properties,
            primary_contact_id,
            associations,
            object_write_trace_id,
            contact,
            labels,
            typed_properties,
        } = self;
        let properties = faults.typed_properties(properties, typed_properties);
        let contact = NamedContact { primary_contact_id, contact };
        let values = Values { properties, labels };
        (faults.create("", values, contact, &associations), object_write_trace_id)
    }
}

impl WriteMessage for pb::LeadUpdate {
    type Write = Labelled<UpdateLead>;

    fn convert(self, faults: &mut FieldFaults, place: IdPlace) -> (Option<Self::Write>, String) {
        let Self { id, id_property, properties, object_write_trace_id, labels, typed_properties } =
            self;
        let properties = faults.typed_properties(properties, typed_properties);
        let values = Values { properties, labels };
        (faults.update(place, "", &id, &id_property, values), object_write_trace_id)
    }
}

impl WriteMessage for pb::LeadUpsert {
    type Write = Labelled<UpsertLead>;

    fn convert(self, faults: &mut FieldFaults, _place: IdPlace) -> (Option<Self::Write>, String) {
        let Self {
            id,
            id_property,
            properties,
            object_write_trace_id,
            primary_contact_id,
            associations,
            contact,
            labels,
            typed_properties,
        } = self;
        let properties = faults.typed_properties(properties, typed_properties);
        let contact = NamedContact { primary_contact_id, contact };
        let values = Values { properties, labels };
        let upsert = faults.upsert("", &id, &id_property, values, contact, &associations);
        (upsert, object_write_trace_id)
    }
}

// === impl NamedLead ===

impl NamedLead for CreateLead {
    fn name(&self) -> Option<LeadName> {
        None
    }
}

impl NamedLead for UpdateLead {
    fn name(&self) -> Option<LeadName> {
        Some(lead_name(&self.id, self.id_property.as_deref()))
    }
}

impl NamedLead for UpsertLead {
    fn name(&self) -> Option<LeadName> {
        Some(lead_name(&self.id, self.id_property.as_deref()))
    }
}

fn single_create(
    input: pb::LeadCreate,
    request_id: &str,
) -> Result<SingleWrite<Labelled<CreateLead>>, Error> {
    single(input, request_id, |mut create, trace_id| {
        create.input.trace_id = trace_id;
        create
    })
}

fn single_update(
    input: pb::LeadUpdate,
    request_id: &str,
) -> Result<SingleWrite<Labelled<UpdateLead>>, Error> {
    single(input, request_id, |mut update, trace_id| {
        update.input.trace_id = trace_id;
        update
    })
}

/// Converts a single upsert, which always has a trace id.
fn single_upsert(
    input: pb::LeadUpsert,
    request_id: &str,
) -> Result<SingleWrite<Labelled<Traced<UpsertLead>>>, Error> {
    single(input, request_id, |upsert, trace_id| {
        traced(upsert, trace_id.unwrap_or_else(new_trace_id))
    })
}

/// Converts a single write. `with_trace` adds the trace id of the caller.
fn single<In: WriteMessage, Out>(
    input: In,
    request_id: &str,
    with_trace: impl FnOnce(In::Write, Option<String>) -> Out,
) -> Result<SingleWrite<Out>, Error> {
    let mut faults = FieldFaults::default();
    let request_id = faults.request_id(request_id);
    let (write, trace_id) = input.convert(&mut faults, IdPlace::Url);
    let trace_id = faults.trace_id("object_write_trace_id", &trace_id);
    faults.finish(write.map(|write| (with_trace(write, trace_id), request_id)))
}

/// Converts the write of a row, whose errors have the paths of its typed properties.
fn row<In: TypedWrite>(
    input: In,
    convert: impl FnOnce(In) -> Result<RowWrite, Error>,
) -> Result<RowWrite, Error> {
    let names = TypedNames::new(&input);
    convert(input).map_err(|error| names.rename(error))
}

/// Converts and validates the inputs of a batch write.
fn batch<In, Out>(inputs: Vec<In>, request_id: &str, cap: usize) -> Result<BatchWrite<Out>, Error>
where
    In: WriteMessage<Write = Labelled<Out>>,
    Out: NamedLead,
{
    let mut faults = FieldFaults::default();
    let request_id = faults.request_id(request_id);
    faults.inputs("inputs", inputs.len(), cap);
    faults.finish(Some(()))?;
    let mut out = BatchCollector::new(InputField::Inputs);
    for input in inputs {
        let mut faults = FieldFaults::for_input();
        let typed = TypedNames::new(&input);
        let (input, given) = input.convert(&mut faults, IdPlace::Body);
        let own = faults.trace_id("object_write_trace_id", &given);
        // Only a valid input excludes later ones.
        if let Some(trace_id) = own.as_ref().filter(|_| faults.is_empty()) {
            out.check_trace(&mut faults, trace_id);
        }
        let name = input.as_ref().and_then(|own| own.input.name());
        if let Some(name) = name.filter(|_| faults.is_empty()) {
            out.check_lead(&mut faults, name);
        }
        match faults.finish_input(input) {
            Ok(input) => {
                let trace_id = own.unwrap_or_else(new_trace_id);
                out.push_typed(traced(input, trace_id), typed);
            }
            Err(fault) => out.push(Err(typed.rename_fault(fault)), own.unwrap_or_default()),
        }
    }
    Ok((out.finish(), request_id))
}
