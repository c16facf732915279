//! SchemaService: lists the names and ids of a portal from the copies of the domain, and the portals of
//! a caller.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    convert::schema::{self as convert, SchemaFit},
    middleware::{
        call_context::{AuthorizedCall, PortalsCall},
        portals::PortalResolver,
    },
    pb,
    transport::call_state::CallState,
};
use crate::leads::schema::Schemas;

/// Handler of SchemaService.
#[derive(Debug, Clone)]
pub(crate) struct SchemaHandler {
    pub(crate) schemas: Schemas,
    pub(crate) portals: PortalResolver,
    /// Maximum size of a response message in bytes.
    pub(crate) max_response_bytes: usize,
}

// === impl SchemaHandler ===

impl SchemaHandler {
    fn fit(&self, state: &Arc<CallState>) -> SchemaFit {
        SchemaFit::new(Arc::clone(state), self.max_response_bytes)
    }
}

#[tonic::async_trait]
impl pb::schema_service_server::SchemaService for SchemaHandler {
    async fn list_lead_properties(
        &self,
        request: Request<pb::ListLeadPropertiesRequest>,
    ) -> Result<Response<pb::ListLeadPropertiesResponse>, Status> {
        let (AuthorizedCall { context, state }, message) = AuthorizedCall::take_from(request)?;
        let run = async {
            let has_rules = message.validation_rules;
            let list = convert::list_properties(message, &context.portal.name)?;
            let copy = self.schemas.properties(&context, list.max_age).await?;
            let rules = match has_rules {
                true => Some(self.schemas.validation_rules(&context, list.max_age).await),
                false => None,
            };
            self.fit(&state).properties(&copy, rules, &list)
        };
        run.await.map(Response::new).map_err(|error| state.fail(error))
    }

    async fn list_lead_pipelines(
        &self,
        request: Request<pb::ListLeadPipelinesRequest>,
    ) -> Result<Response<pb::ListLeadPipelinesResponse>, Status> {
        let (AuthorizedCall { context, state }, message) = AuthorizedCall::take_from(request)?;
        let run = async {
            let max_age = convert::max_age(message.max_age)?;
            let copy = self.schemas.pipelines(&context, max_age).await?;
            self.fit(&state).pipelines(&copy)
        };
        run.await.map(Response::new).map_err(|error| state.fail(error))
    }

    async fn list_owners(
        &self,
        request: Request<pb::ListOwnersRequest>,
    ) -> Result<Response<pb::ListOwnersResponse>, Status> {
        let (AuthorizedCall { context, state }, message) = AuthorizedCall::take_from(request)?;
        let run = async {
            let list = convert::list_owners(message, &context.portal.name)?;
            let copy = self.schemas.owners(&context, list.max_age).await?;
            self.fit(&state).owners(&copy, &list)
        };
        run.await.map(Response::new).map_err(|error| state.fail(error))
    }

    async fn list_association_types(
        &self,
        request: Request<pb::ListAssociationTypesRequest>,
    ) -> Result<Response<pb::ListAssociationTypesResponse>, Status> {
        let (AuthorizedCall { context, state }, message) = AuthorizedCall::take_from(request)?;
        let run = async {
            let (to, max_age) = convert::list_association_types(message)?;
            let lists = self.schemas.association_types(&context, &to, max_age).await;
            self.fit(&state).association_types(lists)
        };
        run.await.map(Response::new).map_err(|error| state.fail(error))
    }

    async fn list_portals(
        &self,
        request: Request<pb::ListPortalsRequest>,
    ) -> Result<Response<pb::ListPortalsResponse>, Status> {
        let (PortalsCall { state, granted }, message) = PortalsCall::take_from(request)?;
        let list = convert::list_portals(message).map_err(|error| state.fail(error))?;
        let portals = |name: &_| self.portals.state(name);
        let response = self.fit(&state).portals(&granted, portals, &list, self.schemas.now());
        response.map(Response::new).map_err(|error| state.fail(error))
    }
}
