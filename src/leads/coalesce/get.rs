//! Reads of single leads that leave together: as one batch read, and one read of the associations for
//! each type of record that was asked for.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;

use super::{
    group::{Kind, Shared},
    kinds::is_record_id,
    learned::Learned,
    names::Unknown,
};
use crate::leads::{
    BatchRead, CallContext, Error, GetLead, Lead, LeadId, Links, Reason, Selection, Upstream,
    batch::{self, Fate, Unmentioned, Unsettled},
    inputs::ReadInput,
    service::MAX_CHUNK_WITH_HISTORY,
};

/// Longest list of property names, in bytes, of a read that may leave with others: one that is too
/// long for a URL must fail alone and together alike.
const MAX_NAMES: usize = 2_000;

/// Most types of records whose associations are read for many leads. HubSpot has a limit of its own for
/// such calls, three quarters of the one for all: with more they could use it up.
const MAX_TYPES: usize = 3;

/// Most leads of a batch that are read alone to find out what single reads call their associations.
const TEACHERS: usize = 4;

/// Reads of one selection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Get {
    id_property: Option<String>,
    selection: Selection,
    archived: bool,
}

/// For how long associations are not read for many after HubSpot has refused that for its limits,
/// without a word on how long: the window of its limits.
const LIMITED: Duration = Duration::from_secs(10);

/// The associations of leads to one type of record, by lead.
type Linked<'a> = (&'a str, HashMap<String, Links>);

// === impl Get ===

impl Get {
    /// The kind of a read, if batches can read it and their answer would show the same.
    pub(super) fn of(request: &GetLead, learned: &Learned) -> Option<Self> {
        let GetLead { id, id_property, selection, archived } = request;
        let Selection { properties, properties_with_history, associations } = selection;
        let names = properties.iter().chain(properties_with_history);
        let length: usize = names.map(|name| name.len() + 1).sum();
        let can_be_found = match id_property.as_deref() {
            None => is_record_id(id),
            // Only its value tells whose answer it is. If that is not asked for and yet shown, or if
            // nothing is asked for, the answer would show more than a single one.
            Some("hs_object_id") => false,
            Some(name) => {
                !properties.is_empty() && !properties_with_history.iter().any(|own| own == name)
            }
        };
        // Nobody knows whether the associations of archived leads can be read for many.
        let may_ask = associations.is_empty()
            || !archived
                && associations.len() <= MAX_TYPES
                && associations.iter().all(|to| learned.names.may_ask(to));
        (can_be_found && may_ask && length <= MAX_NAMES).then(|| Self {
            id_property: id_property.clone(),
            selection: selection.clone(),
            archived: *archived,
        })
    }

    /// The properties to ask for, and whether the unique one is among them only to find the lead
    /// again.
    fn properties(&self) -> (Vec<String>, bool) {
        let mut properties = self.selection.properties.clone();
        match &self.id_property {
            Some(id_property) if !properties.contains(id_property) => {
                properties.push(id_property.clone());
                (properties, true)
            }
            Some(_) | None => (properties, false),
        }
    }

    /// The leads without their associations.
    async fn read(
        &self,
        upstream: &Arc<dyn Upstream>,
        learned: &Learned,
        call: &Shared,
        ids: &[LeadId],
    ) -> Vec<Fate<Lead>> {
        let (properties, added) = self.properties();
        let (distinct, positions) = distinct(ids, self.id_property.is_some());
        let inputs: Vec<ReadInput> = distinct
            .into_iter()
            .map(|id| ReadInput { id, id_property: self.id_property.clone() })
            .collect();
        let send = |first: usize, inputs: Vec<ReadInput>| {
            let first = positions.iter().position(|position| *position == first);
            let call = call.part(first.unwrap_or_default());
            let request = BatchRead {
                ids: inputs.into_iter().map(|input| input.id).collect(),
                id_property: self.id_property.clone(),
                properties: properties.clone(),
                properties_with_history: self.selection.properties_with_history.clone(),
                archived: self.archived,
            };
            async move { upstream.batch_read(&call, &request).await }
        };
        let found = batch::together(&inputs, Unmentioned::NotFound, Unsettled::Repeat, send).await;
        let fate = |position: usize| match found[position].clone() {
            Fate::Told(Ok(Some(mut item))) => {
                if added && let Some(id_property) = &self.id_property {
                    item.lead.properties.remove(id_property);
                }
                Fate::Told(Ok(item.lead))
            }
            // A lead that was merged away is answered with the id of the one it became, or not at
            // all: a single read of its record id finds it, unless it has not done so before.
            Fate::Told(Err(error))
                if error.reason() != Reason::LeadNotFound
                    || self.id_property.is_some()
                    || learned.missing.is(self.archived, &inputs[position].id) =>
            {
                Fate::Told(Err(error))
            }
            Fate::Told(Ok(None) | Err(_)) | Fate::Alone => Fate::Alone,
        };
        positions.into_iter().map(fate).collect()
    }

    /// Puts their associations to the leads that were found.
    async fn link(
        &self,
        upstream: &Arc<dyn Upstream>,
        learned: &Learned,
        call: &Shared,
        inputs: &[LeadId],
        mut fates: Vec<Fate<Lead>>,
    ) -> Vec<Fate<Lead>> {
        let mut found = BTreeMap::new();
        for (index, fate) in fates.iter_mut().enumerate() {
            if let Fate::Told(Ok(lead)) = fate {
                found.insert(index, std::mem::take(lead));
                *fate = Fate::Alone;
            }
        }
        let linked = match self.linked(upstream, call.whole(), &found).await {
            Ok(linked) => linked,
            Err((to, error)) if is_refused(&error) => {
                learned.names.refuse(to, None);
                return fates;
            }
            // That is the limit of such calls: single reads have another one.
            Err((to, error)) if is_limit(&error) => {
                learned.names.refuse(to, Some(error.retry_after().unwrap_or(LIMITED)));
                return fates;
            }
            Err((_, error)) => {
                found.keys().for_each(|&index| fates[index] = Fate::Told(Err(error.clone())));
                return fates;
            }
        };
        for _ in 0..TEACHERS {
            let Some(index) = teacher(learned, &found, &linked) else { break };
            let single = self.alone(&**upstream, &call.part(index), &inputs[index]).await;
            if let Ok(lead) = &single {
                for (to, by_lead) in &linked {
                    if let Some(links) = by_lead.get(&lead.id) {
                        learned.names.learn(to, links, lead.associations.get(*to));
                    }
                }
            }
            found.remove(&index);
            fates[index] = Fate::Told(single);
        }
        for (index, mut lead) in found {
            if linked.iter().all(|(to, by_lead)| put(learned, to, by_lead, &mut lead).is_ok()) {
                fates[index] = Fate::Told(Ok(lead));
            }
        }
        fates
    }

    /// What is told of the associations of these leads; or of which type nothing is told, and why.
    async fn linked(
        &self,
        upstream: &Arc<dyn Upstream>,
        call: &CallContext,
        leads: &BTreeMap<usize, Lead>,
    ) -> Result<Vec<Linked<'_>>, (&str, Error)> {
        let mut ids: Vec<LeadId> =
            leads.values().filter_map(|lead| LeadId::parse(&lead.id).ok()).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids = &ids;
        let reads = self.selection.associations.iter().map(|to| async move {
            let links = upstream.associations(call, ids, to).await;
            let links = links.map_err(|error| (to.as_str(), error))?;
            let by_lead = links.into_iter().map(|links| (links.lead.clone(), links)).collect();
            Ok((to.as_str(), by_lead))
        });
        join_all(reads).await.into_iter().collect()
    }
}

#[async_trait]
impl Kind for Get {
    type Input = LeadId;
    type Output = Lead;

    fn most(&self) -> usize {
        match self.selection.properties_with_history.is_empty() {
            true => batch::MAX_CHUNK,
            false => MAX_CHUNK_WITH_HISTORY,
        }
    }

    /// One call for the leads, and one for each type of associations.
    fn least(&self) -> usize {
        self.selection.associations.len() + 2
    }

    async fn alone(
        &self,
        upstream: &dyn Upstream,
        call: &CallContext,
        id: &LeadId,
    ) -> Result<Lead, Error> {
        let request = GetLead {
            id: id.clone(),
            id_property: self.id_property.clone(),
            selection: self.selection.clone(),
            archived: self.archived,
        };
        upstream.get(call, &request).await
    }

    fn learn(&self, learned: &Learned, id: &LeadId, answer: &Result<Lead, Error>) {
        if self.id_property.is_none() {
            learned.missing.learn(self.archived, id, answer);
        }
    }

    async fn together(
        &self,
        upstream: &Arc<dyn Upstream>,
        learned: &Learned,
        call: &Shared,
        ids: &[LeadId],
    ) -> Vec<Fate<Lead>> {
        let fates = self.read(upstream, learned, call, ids).await;
        if self.selection.associations.is_empty() {
            return fates;
        }
        self.link(upstream, learned, call, ids, fates).await
    }
}

/// The lead to read alone, if the associations of any cannot be named: the one with the most of them,
/// for all with fewer can be shown then as well.
fn teacher(
    learned: &Learned,
    leads: &BTreeMap<usize, Lead>,
    linked: &[Linked<'_>],
) -> Option<usize> {
    let candidate = |(&index, lead): (&usize, &Lead)| {
        let mut records = 0;
        let mut is_unknown = false;
        for (to, by_lead) in linked {
            // One that is cut or missing teaches nothing.
            let links = by_lead.get(&lead.id).filter(|links| links.is_whole)?;
            records += links.records.len();
            is_unknown |= learned.names.show(to, links).is_err();
        }
        is_unknown.then_some((records, index))
    };
    leads.iter().filter_map(candidate).max().map(|(_, index)| index)
}

/// Puts its associations to a lead as a single read would show them.
fn put(
    learned: &Learned,
    to: &str,
    by_lead: &HashMap<String, Links>,
    lead: &mut Lead,
) -> Result<(), Unknown> {
    let links = by_lead.get(&lead.id).ok_or(Unknown)?;
    if let Some(shown) = learned.names.show(to, links)? {
        lead.associations.insert(to.to_owned(), shown);
    }
    Ok(())
}

/// Whether HubSpot refuses for its limits: our own have a name.
fn is_limit(error: &Error) -> bool {
    let is_limit = matches!(error.reason(), Reason::RateLimited | Reason::DailyLimitReached);
    is_limit && error.bucket().is_none()
}

/// Whether HubSpot does not tell, and would not if asked again.
fn is_refused(error: &Error) -> bool {
    matches!(
        error.reason(),
        Reason::ValidationFailed
            | Reason::MissingScopes
            | Reason::Forbidden
            | Reason::LeadNotFound
            | Reason::Conflict
            | Reason::UpstreamUnintelligible
            | Reason::AnswerTooLarge
    )
}

/// The different ids, and for each given one where it stands among them. Unique values are the same
/// without regard to case, as far as that is certain.
fn distinct(ids: &[LeadId], are_values: bool) -> (Vec<LeadId>, Vec<usize>) {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(ids.len());
    let mut distinct = Vec::with_capacity(ids.len());
    let mut positions = Vec::with_capacity(ids.len());
    for id in ids {
        let name = if are_values { id.as_str().to_ascii_lowercase() } else { id.to_string() };
        let position = *seen.entry(name).or_insert_with(|| {
            distinct.push(id.clone());
            distinct.len() - 1
        });
        positions.push(position);
    }
    (distinct, positions)
}
