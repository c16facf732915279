//! Converts between protobuf messages and domain types.
//!
//! Parses and validates requests, and builds responses. It calls no HubSpot API, and the domain does not
//! know the messages.

mod request;
mod response;

pub(crate) use self::{
    request::{
        archive, batch_archive, batch_create, batch_get, batch_update, batch_upsert, create, get,
        list, search, update, upsert,
    },
    response::{
        archive_result, lead, list_response, read_result, search_response, upsert_result,
        write_result,
    },
};
