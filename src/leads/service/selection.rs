//! Properties that a read returns: the portal's default set if the caller selects none, and all that
//! have a value for `*`. The names of all properties come from the copy of the schema.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;

use super::Service;
use crate::leads::{
    context::{CallContext, Portal, Upstream},
    error::{Error, Reason},
    lead::Lead,
    request::{Request, Response},
    schema::DEFAULT_MAX_AGE,
};

/// Name that selects all properties that have a value.
pub const ALL_PROPERTIES: &str = "*";

/// Upstream that drops the names of properties without a value from the leads of reads, except for those
/// that the caller selected by name.
#[derive(Debug)]
struct WithoutUnset {
    inner: Arc<dyn Upstream>,
    named: BTreeSet<String>,
}

// === impl Service ===

impl Service {
    /// Resolves the selected properties of a read, and returns the context in which to send it. Errors if
    /// the caller selects all and their names are not known.
    pub(super) async fn select(
        &self,
        ctx: &CallContext,
        properties: &mut Vec<String>,
    ) -> Result<CallContext, Error> {
        if !selects_all(properties) {
            select_default(&ctx.portal, properties);
            return Ok(ctx.clone());
        }
        let copy = self.schemas.properties(ctx, DEFAULT_MAX_AGE).await.map_err(unknown_names)?;
        if !copy.is_complete {
            let text = "the portal has more lead properties than leadsd keeps";
            return Err(unknown_names(Error::new(Reason::ResponseTooLarge, text)));
        }
        properties.retain(|name| name != ALL_PROPERTIES);
        let named: BTreeSet<String> = properties.drain(..).collect();
        let others = copy.all().iter().map(|own| &own.name).filter(|own| !named.contains(*own));
        properties.extend(others.chain(&named).cloned());
        let Portal { name, upstream, settings } = &*ctx.portal;
        let upstream = Arc::new(WithoutUnset { inner: Arc::clone(upstream), named });
        let portal = Portal { name: name.clone(), upstream, settings: settings.clone() };
        Ok(CallContext { portal: Arc::new(portal), ..ctx.clone() })
    }
}

/// True if the caller selects all properties.
pub(super) fn selects_all(properties: &[String]) -> bool {
    properties.iter().any(|name| name == ALL_PROPERTIES)
}

/// Selects the portal's default set if the caller selects none.
pub(super) fn select_default(portal: &Portal, properties: &mut Vec<String>) {
    if properties.is_empty() {
        properties.extend_from_slice(&portal.settings.default_properties);
    }
}

fn unknown_names(error: Error) -> Error {
    let text = format!(
        "properties: `*` needs the names of the portal's lead properties, which are not known: {}; select \
         properties by name instead",
        error.message()
    );
    error.with_message(text)
}

// === impl WithoutUnset ===

impl WithoutUnset {
    fn clean(&self, lead: &mut Lead) {
        lead.unset_properties.retain(|name| self.named.contains(name));
    }
}

#[async_trait]
impl Upstream for WithoutUnset {
    async fn call(&self, ctx: &CallContext, request: Request) -> Result<Response, Error> {
        Ok(match self.inner.call(ctx, request).await? {
            Response::Lead(lead) => {
                let mut lead = Arc::unwrap_or_clone(lead);
                self.clean(&mut lead);
                Response::Lead(lead.into())
            }
            Response::Page(page) => {
                let mut page = Arc::unwrap_or_clone(page);
                page.leads.iter_mut().for_each(|lead| self.clean(lead));
                Response::Page(page.into())
            }
            Response::SearchPage(page) => {
                let mut page = Arc::unwrap_or_clone(page);
                page.leads.iter_mut().for_each(|lead| self.clean(lead));
                Response::SearchPage(page.into())
            }
            Response::Outcomes(mut chunk) => {
                for outcome in &mut chunk.outcomes {
                    if let Ok(Some(item)) = outcome {
                        self.clean(&mut item.lead);
                    }
                }
                Response::Outcomes(chunk)
            }
            response @ (Response::Archived
            | Response::Batch(_)
            | Response::Associations(_)
            | Response::Associated(_)
            | Response::Schema(_)) => response,
        })
    }
}

#[cfg(test)]
mod tests;
