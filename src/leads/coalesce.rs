//! Group commit: single calls that have to wait for a permit leave together as one batch call, and
//! identical reads under way share one call. No caller can tell, but by the time it takes.
//!
//! A call that finds a permit free goes at once, alone. Nothing waits for company: what waits, waits
//! for the quota.

mod flights;
mod get;
mod group;
mod kinds;
mod learned;
mod missing;
mod names;
mod order;
mod tell;

use std::sync::Arc;

use async_trait::async_trait;

use self::{
    flights::Flights,
    get::Get,
    group::Groups,
    kinds::{Archive, Create, Update, Upsert},
    learned::Portals,
    order::{Key, Order, Turn},
};
use super::{
    call::{CallContext, Prepaid},
    error::Error,
    lead::Lead,
    query::{BatchRead, GetLead, LeadId, ListLeads, Page, SearchLeads, SearchPage},
    upstream::{BatchAnswer, Links, Upstream},
    write::{CreateLead, Traced, UpdateLead, UpsertLead},
};
use leadsd_quota::{BucketName, Quota};

/// An upstream whose single calls leave together where permits are short.
#[derive(Debug, Clone)]
pub struct Coalesced(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    upstream: Arc<dyn Upstream>,
    quota: Arc<Quota>,
    /// Whether calls leave together and share; the order of writes is kept in any case.
    on: bool,
    learned: Arc<Portals>,
    order: Order,
    gets: Groups<Get>,
    creates: Groups<Create>,
    updates: Groups<Update>,
    archives: Groups<Archive>,
    upserts: Groups<Upsert>,
    leads: Flights<GetLead, Lead>,
    pages: Flights<ListLeads, Page>,
    searches: Flights<SearchLeads, SearchPage>,
}

// === impl Coalesced ===

impl Coalesced {
    /// Decorates `upstream`, whose permits are of `quota` and whose answers are read up to
    /// `max_answer` bytes. With `on` false every call goes alone.
    pub fn new(
        upstream: Arc<dyn Upstream>,
        quota: Arc<Quota>,
        max_answer: usize,
        on: bool,
    ) -> Self {
        let learned: Arc<Portals> = Arc::default();
        let order = Order::new(Arc::clone(&quota), quota.max_queue());
        let parts = group::Parts {
            upstream: Arc::clone(&upstream),
            quota: Arc::clone(&quota),
            learned: Arc::clone(&learned),
            max_answer,
        };
        Self(Arc::new(Parts {
            upstream,
            quota,
            on,
            learned,
            order,
            gets: Groups::new(parts.clone()),
            creates: Groups::new(parts.clone()),
            updates: Groups::new(parts.clone()),
            archives: Groups::new(parts.clone()),
            upserts: Groups::new(parts),
            leads: Flights::default(),
            pages: Flights::default(),
            searches: Flights::default(),
        }))
    }

    /// The right to write to these leads, which the next part of the same write then has already.
    async fn turn(
        &self,
        call: &CallContext,
        keys: impl Iterator<Item = Key> + Send,
    ) -> Result<Option<Turn>, Error> {
        if call.claim.is_taken() {
            return Ok(None);
        }
        let turn = self.0.order.turn(call, keys).await?;
        Ok(call.claim.keep(turn))
    }

    /// A write is through: reads that begin now must not join one that began before.
    fn written(&self, call: &CallContext, id: Option<&LeadId>) {
        let is_about = |request: &GetLead| {
            request.id_property.is_some() || id.is_none_or(|id| *id == request.id)
        };
        self.0.leads.forget(&call.portal, is_about);
        self.0.pages.forget(&call.portal, |_| true);
        self.0.searches.forget(&call.portal, |_| true);
    }
}

impl Parts {
    /// The call with a permit of its own, if one is free: then it goes at once, alone.
    fn free(&self, call: &CallContext) -> Result<Option<CallContext>, Error> {
        let account = self.quota.account(call.portal.as_str());
        let permit = account.try_acquire(BucketName::Burst, &call.who)?;
        Ok(permit.map(|permit| CallContext { prepaid: Prepaid::new(permit), ..call.clone() }))
    }

    async fn get(&self, call: &CallContext, request: &GetLead) -> Result<Lead, Error> {
        let learned = self.learned.of(&call.portal);
        if let Some(call) = self.free(call)? {
            let answer = self.upstream.get(&call, request).await;
            if request.id_property.is_none() {
                learned.missing.learn(request.archived, &request.id, &answer);
            }
            return answer;
        }
        match Get::of(request, &learned) {
            Some(kind) => self.gets.wait(call, kind, request.id.clone()).await,
            None => self.upstream.get(call, request).await,
        }
    }

    async fn create(&self, call: &CallContext, request: &CreateLead) -> Result<Lead, Error> {
        if let Some(call) = self.free(call)? {
            return self.upstream.create(&call, request).await;
        }
        match Create::of(request, &self.learned.of(&call.portal)) {
            Some(kind) => self.creates.wait(call, kind, request.clone()).await,
            None => self.upstream.create(call, request).await,
        }
    }

    async fn update(&self, call: &CallContext, request: &UpdateLead) -> Result<Lead, Error> {
        if let Some(call) = self.free(call)? {
            return self.upstream.update(&call, request).await;
        }
        match Update::of(request, &self.learned.of(&call.portal)) {
            Some(kind) => self.updates.wait(call, kind, request.clone()).await,
            None => self.upstream.update(call, request).await,
        }
    }

    async fn archive(&self, call: &CallContext, id: &LeadId) -> Result<(), Error> {
        if let Some(call) = self.free(call)? {
            return self.upstream.archive(&call, id).await;
        }
        match Archive::of(id) {
            Some(kind) => self.archives.wait(call, kind, id.clone()).await,
            None => self.upstream.archive(call, id).await,
        }
    }

    async fn upsert(
        &self,
        call: &CallContext,
        inputs: &[Traced<UpsertLead>],
        input: &UpsertLead,
    ) -> Result<BatchAnswer, Error> {
        if let Some(call) = self.free(call)? {
            return self.upstream.batch_upsert(&call, inputs).await;
        }
        let Some(kind) = Upsert::of(input, &self.learned.of(&call.portal)) else {
            return self.upstream.batch_upsert(call, inputs).await;
        };
        let item = self.upserts.wait(call, kind, input.clone()).await?;
        Ok(BatchAnswer { results: vec![item], errors: Vec::new() })
    }
}

#[async_trait]
impl Upstream for Coalesced {
    async fn get(&self, call: &CallContext, request: &GetLead) -> Result<Lead, Error> {
        if !self.0.on {
            return self.0.upstream.get(call, request).await;
        }
        let work = |call: CallContext, request: Arc<GetLead>| {
            let parts = Arc::clone(&self.0);
            async move { parts.get(&call, &request).await }
        };
        self.0.leads.run(call, request, work).await
    }

    async fn list(&self, call: &CallContext, request: &ListLeads) -> Result<Page, Error> {
        if !self.0.on {
            return self.0.upstream.list(call, request).await;
        }
        let work = |call: CallContext, request: Arc<ListLeads>| {
            let upstream = Arc::clone(&self.0.upstream);
            async move { upstream.list(&call, &request).await }
        };
        self.0.pages.run(call, request, work).await
    }

    async fn search(&self, call: &CallContext, request: &SearchLeads) -> Result<SearchPage, Error> {
        if !self.0.on {
            return self.0.upstream.search(call, request).await;
        }
        let work = |call: CallContext, request: Arc<SearchLeads>| {
            let upstream = Arc::clone(&self.0.upstream);
            async move { upstream.search(&call, &request).await }
        };
        self.0.searches.run(call, request, work).await
    }

    async fn create(&self, call: &CallContext, request: &CreateLead) -> Result<Lead, Error> {
        let done = if self.0.on {
            self.0.create(call, request).await
        } else {
            self.0.upstream.create(call, request).await
        };
        self.written(call, None);
        done
    }

    async fn update(&self, call: &CallContext, request: &UpdateLead) -> Result<Lead, Error> {
        let key = Key::new(&request.id, request.id_property.as_deref());
        let _turn = self.turn(call, std::iter::once(key)).await?;
        let done = if self.0.on {
            self.0.update(call, request).await
        } else {
            self.0.upstream.update(call, request).await
        };
        self.written(call, request.id_property.is_none().then_some(&request.id));
        done
    }

    async fn archive(&self, call: &CallContext, id: &LeadId) -> Result<(), Error> {
        let _turn = self.turn(call, std::iter::once(Key::new(id, None))).await?;
        let done = if self.0.on {
            self.0.archive(call, id).await
        } else {
            self.0.upstream.archive(call, id).await
        };
        self.written(call, Some(id));
        done
    }

    async fn batch_read(
        &self,
        call: &CallContext,
        request: &BatchRead,
    ) -> Result<BatchAnswer, Error> {
        self.0.upstream.batch_read(call, request).await
    }

    async fn batch_create(
        &self,
        call: &CallContext,
        inputs: &[Traced<CreateLead>],
    ) -> Result<BatchAnswer, Error> {
        let done = self.0.upstream.batch_create(call, inputs).await;
        let learned = self.0.learned.of(&call.portal);
        learned.create.learn(&done);
        learned.shown.learn(inputs, &done);
        self.written(call, None);
        done
    }

    async fn batch_update(
        &self,
        call: &CallContext,
        inputs: &[Traced<UpdateLead>],
    ) -> Result<BatchAnswer, Error> {
        let key = |Traced { input, .. }: &Traced<UpdateLead>| {
            Key::new(&input.id, input.id_property.as_deref())
        };
        let _turn = self.turn(call, inputs.iter().map(key)).await?;
        let done = self.0.upstream.batch_update(call, inputs).await;
        self.0.learned.of(&call.portal).update.learn(&done);
        self.written(call, None);
        done
    }

    async fn batch_upsert(
        &self,
        call: &CallContext,
        inputs: &[Traced<UpsertLead>],
    ) -> Result<BatchAnswer, Error> {
        let key = |Traced { input, .. }: &Traced<UpsertLead>| {
            Key::new(&input.id, Some(input.id_property.as_deref().unwrap_or_default()))
        };
        let _turn = self.turn(call, inputs.iter().map(key)).await?;
        let done = match inputs {
            // There is no other call to upsert a single lead.
            [Traced { input, .. }] if self.0.on => self.0.upsert(call, inputs, input).await,
            _ => self.0.upstream.batch_upsert(call, inputs).await,
        };
        self.0.learned.of(&call.portal).upsert.learn(&done);
        self.written(call, None);
        done
    }

    async fn batch_archive(
        &self,
        call: &CallContext,
        ids: &[LeadId],
    ) -> Result<BatchAnswer, Error> {
        let _turn = self.turn(call, ids.iter().map(|id| Key::new(id, None))).await?;
        let done = self.0.upstream.batch_archive(call, ids).await;
        self.written(call, None);
        done
    }

    async fn associations(
        &self,
        call: &CallContext,
        leads: &[LeadId],
        to: &str,
    ) -> Result<Vec<Links>, Error> {
        self.0.upstream.associations(call, leads, to).await
    }
}
