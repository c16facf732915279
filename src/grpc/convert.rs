//! Converts between protobuf messages and domain types.
//!
//! Parses and validates requests, and builds responses. It calls no HubSpot API, and the domain does not
//! know the messages.

mod associations;
mod batch;
pub(crate) mod duration;
mod encoding;
mod fit;
mod import;
mod request;
mod response;
pub(crate) mod schema;
mod size;
mod typed;
mod writes;

pub(crate) use self::{
    associations::{associate, batch_associate, batch_dissociate, dissociate, list_associations},
    batch::{BatchInputs, InputField, trace_ids},
    fit::ResponseFit,
    import::{import_row, import_settings},
    request::{archive, batch_archive, batch_get, export, get, list, search},
    size::lead_size,
    typed::{PropertyForm, TypedNames, TypedWrite},
    writes::{batch_create, batch_update, batch_upsert, create, update, upsert},
};
