//! Conversion between the messages of the contract and the types of the domain: requests are parsed and
//! validated, responses are built. Nothing here asks HubSpot, and nothing below it knows the messages of
//! the contract.

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
