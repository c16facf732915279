//! Converts between protobuf messages and domain types.
//!
//! Parses and validates requests, and builds responses. It calls no HubSpot API, and the domain does not
//! know the messages.

mod fit;
mod request;
mod response;
mod size;

pub(crate) use self::{
    fit::ResponseFit,
    request::{
        archive, batch_archive, batch_create, batch_get, batch_update, batch_upsert, create, get,
        list, search, update, upsert,
    },
    size::lead_size,
};
