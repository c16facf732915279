//! Converts requests and responses of SchemaService.
//!
//! A list is returned in pages. The token of a page has the key of the last item, so that pages stay
//! consistent if the copy changes in between.

mod properties;

use std::{sync::Arc, time::Duration};

use leadsd_base::time::Timestamp;
use prost::Message;

use super::{
    duration,
    encoding::{field, timestamp},
};
use crate::{
    auth::{Access, Rights},
    grpc::{
        middleware::portals::PortalState,
        page_token::{Cursor, Fingerprint, PagePosition},
        pb, status,
        transport::call_state::CallState,
        validate::FieldFaults,
    },
    leads::{
        AssociationCategory, Error, FieldFault, PortalName, Reason,
        schema::{
            AssociationTypeDefinition, AssociationTypesResult, DEFAULT_MAX_AGE, HUBSPOT_DEFINED,
            Owner, OwnerCopy, Pipeline, PipelineCopy, PipelineStage, object_type,
        },
    },
};

/// Default number of items per page.
const DEFAULT_PAGE_SIZE: u32 = 100;

/// Maximum number of items per page.
const MAX_PAGE_SIZE: u32 = 1_000;

/// Encoded size of the fields beside the items, at most; the token has up to 1,024 bytes.
const PAGE_OVERHEAD: usize = 1_200;

/// Memory of an item in a message besides its encoded bytes.
const ITEM_OVERHEAD: usize = 512;

/// List of properties, owners or portals to return.
#[derive(Debug)]
pub(crate) struct ListPage {
    /// Maximum age of the copy.
    pub(crate) max_age: Duration,
    page_size: u32,
    position: PagePosition,
    filter: Filter,
}

/// Items of a list to return.
#[derive(Debug)]
enum Filter {
    All,
    /// Properties of these names; not empty.
    Names(Vec<String>),
    /// Owners with this e-mail address.
    Email(String),
}

/// Response of one call while it is built.
#[derive(Debug)]
pub(crate) struct SchemaFit {
    state: Arc<CallState>,
    max_bytes: usize,
}

/// Page of items that were converted.
struct Page<T> {
    items: Vec<T>,
    next_page_token: String,
}

pub(crate) fn list_properties(
    request: pb::ListLeadPropertiesRequest,
    portal: &PortalName,
) -> Result<ListPage, Error> {
    let pb::ListLeadPropertiesRequest {
        max_age,
        page_size,
        page_token,
        names,
        validation_rules: _,
    } = request;
    let mut faults = FieldFaults::default();
    let names = faults.names("names", names);
    let page_size = faults.page_size(page_size, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE);
    faults.finish(Some(()))?;
    let position =
        Fingerprint::new(&("schema properties", portal, &names)).position(&page_token)?;
    let filter = if names.is_empty() { Filter::All } else { Filter::Names(names) };
    Ok(ListPage { max_age: self::max_age(max_age)?, page_size, position, filter })
}

pub(crate) fn list_owners(
    request: pb::ListOwnersRequest,
    portal: &PortalName,
) -> Result<ListPage, Error> {
    let pb::ListOwnersRequest { max_age, page_size, page_token, email } = request;
    let mut faults = FieldFaults::default();
    let page_size = faults.page_size(page_size, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE);
    faults.finish(Some(()))?;
    let position = Fingerprint::new(&("schema owners", portal, &email)).position(&page_token)?;
    let filter = if email.is_empty() { Filter::All } else { Filter::Email(email) };
    Ok(ListPage { max_age: self::max_age(max_age)?, page_size, position, filter })
}

pub(crate) fn list_portals(request: pb::ListPortalsRequest) -> Result<ListPage, Error> {
    let pb::ListPortalsRequest { page_size, page_token } = request;
    let mut faults = FieldFaults::default();
    let page_size = faults.page_size(page_size, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE);
    faults.finish(Some(()))?;
    let position = Fingerprint::new(&"schema portals").position(&page_token)?;
    Ok(ListPage { max_age: Duration::ZERO, page_size, position, filter: Filter::All })
}

/// Object types of a request, each once, and the maximum age of their copies.
pub(crate) fn list_association_types(
    request: pb::ListAssociationTypesRequest,
) -> Result<(Vec<String>, Duration), Error> {
    let pb::ListAssociationTypesRequest { max_age, to_object_types } = request;
    let mut faults = FieldFaults::default();
    let mut to: Vec<String> = Vec::new();
    for name in faults.names("to_object_types", to_object_types) {
        let name = object_type(&name);
        if !to.iter().any(|known| known == name) {
            to.push(name.to_owned());
        }
    }
    faults.finish(Some(()))?;
    if to.is_empty() {
        to = HUBSPOT_DEFINED.iter().map(|known| known.to.to_owned()).collect();
        to.dedup();
    }
    Ok((to, self::max_age(max_age)?))
}

pub(crate) fn max_age(max_age: Option<prost_types::Duration>) -> Result<Duration, Error> {
    let Some(max_age) = max_age else { return Ok(DEFAULT_MAX_AGE) };
    duration::from_proto(max_age)
        .ok_or_else(|| Error::invalid(vec![FieldFault::new("max_age", "must not be negative")]))
}

// === impl SchemaFit ===

impl SchemaFit {
    pub(crate) fn new(state: Arc<CallState>, max_bytes: usize) -> Self {
        Self { state, max_bytes }
    }

    pub(crate) fn owners(
        &self,
        copy: &OwnerCopy,
        list: &ListPage,
    ) -> Result<pb::ListOwnersResponse, Error> {
        let all: Vec<&Owner> = match &list.filter {
            Filter::Email(email) => copy.by_email(email).collect(),
            Filter::All | Filter::Names(_) => copy.all().iter().collect(),
        };
        let order = |id: &str| (id.len(), id.to_owned());
        let start = list
            .position
            .after()
            .map(order)
            .map_or(0, |after| all.partition_point(|owner| order(&owner.id) <= after));
        let rest = all[start..].iter().copied();
        let page = self.page(list, rest, |owner| owner.id.as_str(), owner)?;
        Ok(pb::ListOwnersResponse {
            owners: page.items,
            next_page_token: page.next_page_token,
            fetch_time: Some(timestamp(copy.fetch_time)),
            incomplete: !copy.is_complete,
        })
    }

    pub(crate) fn pipelines(
        &self,
        copy: &PipelineCopy,
    ) -> Result<pb::ListLeadPipelinesResponse, Error> {
        let response = pb::ListLeadPipelinesResponse {
            pipelines: copy.all().iter().map(pipeline).collect(),
            fetch_time: Some(timestamp(copy.fetch_time)),
            incomplete: !copy.is_complete,
        };
        let stages: usize = copy.all().iter().map(|pipeline| 1 + pipeline.stages.len()).sum();
        self.admit(&response, stages)?;
        Ok(response)
    }

    pub(crate) fn association_types(
        &self,
        lists: Vec<AssociationTypesResult>,
    ) -> Result<pb::ListAssociationTypesResponse, Error> {
        let copies = || lists.iter().filter_map(|(_, result)| result.as_ref().ok());
        let fetch_time = copies().filter_map(|copy| copy.fetch_time).min().map(timestamp);
        let items: usize = lists.len() + copies().map(|copy| copy.all().len()).sum::<usize>();
        let list = |(to_object_type, result): AssociationTypesResult| match result {
            Ok(copy) => pb::AssociationTypeList {
                to_object_type,
                types: copy.all().iter().map(association_type).collect(),
                fetch_time: copy.fetch_time.map(timestamp),
                error: None,
            },
            Err(error) => pb::AssociationTypeList {
                to_object_type,
                types: Vec::new(),
                fetch_time: None,
                error: Some(status::for_item(&error)),
            },
        };
        let lists = lists.into_iter().map(list).collect();
        let response = pb::ListAssociationTypesResponse { lists, fetch_time };
        self.admit(&response, items)?;
        Ok(response)
    }

    /// Builds the list of portals. A portal that was removed meanwhile is left out.
    pub(crate) fn portals(
        &self,
        granted: &[(PortalName, Rights)],
        state: impl Fn(&PortalName) -> Option<PortalState>,
        list: &ListPage,
        now: Timestamp,
    ) -> Result<pb::ListPortalsResponse, Error> {
        let start = list
            .position
            .after()
            .map_or(0, |after| granted.partition_point(|(name, _)| name.as_str() <= after));
        let rest =
            granted[start..].iter().filter_map(|(name, rights)| Some((name, rights, state(name)?)));
        let key = |(name, _, _): &(&PortalName, &Rights, PortalState)| name.to_string();
        let page = self.page(list, rest, key, |(name, rights, state)| pb::Portal {
            name: name.to_string(),
            can_read: rights.access >= Access::Read,
            can_write: rights.access >= Access::Write,
            can_read_quota: rights.quota,
            can_export: rights.may_export(),
            can_import: rights.may_import(),
            can_create_contacts: rights.may_create_contacts(),
            usable: state.usable,
            credential_state: state.credential_state.to_owned(),
        })?;
        Ok(pb::ListPortalsResponse {
            portals: page.items,
            next_page_token: page.next_page_token,
            fetch_time: Some(timestamp(now)),
        })
    }

    /// Converts items until the page is full. At least one is returned, or the page fails.
    fn page<I, T: Message, K: AsRef<str>>(
        &self,
        list: &ListPage,
        items: impl Iterator<Item = I>,
        key: impl Fn(&I) -> K,
        convert: impl Fn(I) -> T,
    ) -> Result<Page<T>, Error> {
        let (mut converted, mut bytes, mut last) = (Vec::new(), PAGE_OVERHEAD, String::new());
        let mut is_last = true;
        for item in items {
            if converted.len() >= list.page_size as usize {
                is_last = false;
                break;
            }
            let own = key(&item).as_ref().to_owned();
            let message = convert(item);
            let size = field(message.encoded_len());
            if bytes + size > self.max_bytes {
                if converted.is_empty() {
                    return Err(too_large(bytes + size, self.max_bytes));
                }
                is_last = false;
                break;
            }
            bytes += size;
            last = own;
            converted.push(message);
        }
        self.charge(bytes, converted.len())?;
        let next = (!is_last).then_some(last.as_str());
        let token = list.position.next_token(next, converted.len(), Cursor::Opaque)?;
        Ok(Page { items: converted, next_page_token: token.unwrap_or_default() })
    }

    /// Admits a response that is not paged. Errors if it is too large.
    fn admit(&self, response: &impl Message, items: usize) -> Result<(), Error> {
        let bytes = response.encoded_len();
        if bytes > self.max_bytes {
            return Err(too_large(bytes, self.max_bytes));
        }
        self.charge(bytes, items)
    }

    fn charge(&self, bytes: usize, items: usize) -> Result<(), Error> {
        self.state.guard.try_set_response_bytes(bytes + items * ITEM_OVERHEAD)
    }
}

fn too_large(bytes: usize, limit: usize) -> Error {
    let text = format!(
        "the list is too large for a response ({bytes} bytes, limit {limit} bytes); request fewer \
         items, or let the operator raise grpc.max_response_size"
    );
    Error::new(Reason::ResponseTooLarge, text)
}

fn pipeline(pipeline: &Pipeline) -> pb::LeadPipeline {
    let stage = |stage: &PipelineStage| pb::LeadPipelineStage {
        id: stage.id.clone(),
        label: stage.label.clone(),
        display_order: stage.display_order,
        metadata: stage.metadata.clone(),
    };
    pb::LeadPipeline {
        id: pipeline.id.clone(),
        label: pipeline.label.clone(),
        display_order: pipeline.display_order,
        stages: pipeline.stages.iter().map(stage).collect(),
    }
}

fn owner(owner: &Owner) -> pb::Owner {
    pb::Owner {
        id: owner.id.clone(),
        email: owner.email.clone(),
        first_name: owner.first_name.clone(),
        last_name: owner.last_name.clone(),
        active: owner.is_active,
    }
}

fn association_type(own: &AssociationTypeDefinition) -> pb::AssociationTypeDefinition {
    let category = match own.association_type.category {
        AssociationCategory::HubspotDefined => pb::AssociationCategory::HubspotDefined,
        AssociationCategory::UserDefined => pb::AssociationCategory::UserDefined,
        AssociationCategory::IntegratorDefined => pb::AssociationCategory::IntegratorDefined,
        AssociationCategory::Work => pb::AssociationCategory::Work,
    };
    pb::AssociationTypeDefinition {
        type_id: own.association_type.type_id,
        category: category.into(),
        label: own.label.clone(),
        inverse_type_id: own.inverse_type_id,
    }
}
