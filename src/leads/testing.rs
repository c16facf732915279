//! Doubles of the domain's ports for unit tests of this crate.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    context::{CallContext, Portal, PortalName, Upstream},
    error::{Error, Reason},
    request::{Request, Response},
};

/// An upstream that no test calls.
#[derive(Debug)]
struct NoUpstream;

#[async_trait]
impl Upstream for NoUpstream {
    async fn call(&self, _: &CallContext, _: Request) -> Result<Response, Error> {
        Err(Error::new(Reason::Internal, "the test has no upstream"))
    }
}

/// A portal of this name whose upstream no test calls.
pub(crate) fn portal(name: &PortalName) -> Arc<Portal> {
    let upstream = Arc::new(NoUpstream);
    Arc::new(Portal { name: name.clone(), upstream, request_id_property: None })
}
