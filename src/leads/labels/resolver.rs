//! Reads the copies of the schema that labels need, and resolves the labels.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    labelled::Labelled,
    lookup::{Lookup, SchemaCopies},
    target::{LabelFault, LabelTarget},
};
use crate::leads::{
    charge::MemoryCharge,
    context::CallContext,
    error::{Error, FieldFault, Reason},
    memory::memory_of,
    schema::{DEFAULT_MAX_AGE, PartCopy, PartKey, Schemas},
};

/// Age of a copy from which it is read again for a label that is not resolved. A caller that repeats an
/// unknown label does not use up the calls for the schema at once.
const CERTAIN_COPY: Duration = Duration::from_secs(5);

/// Maximum number of faults in the error of a single input.
const MAX_FAULTS: usize = 16;

/// Maximum number of faults in the error of an input of a batch: those of all inputs are held at once.
const MAX_INPUT_FAULTS: usize = 1;

/// Resolver of the labels of all portals.
#[derive(Debug, Clone)]
pub(in crate::leads) struct LabelResolver {
    schemas: Schemas,
}

/// Results of the inputs of one call, and the charge of their errors.
#[derive(Debug)]
pub(in crate::leads) struct ResolvedInputs<T> {
    /// One result per input, in input order.
    pub(in crate::leads) results: Vec<Result<T, Error>>,
    /// Memory of the errors. `None` without labels.
    pub(in crate::leads) charge: Option<MemoryCharge>,
}

/// Parts of the schema that labels need.
#[derive(Debug, Default)]
struct Parts {
    copies: SchemaCopies,
    /// Time at which HubSpot was asked for each copy.
    times: Vec<(PartKey, Instant)>,
    /// Errors of the parts that have no copy.
    errors: Vec<(PartKey, Error)>,
    /// Age of the parts that could not be read again.
    outdated: Vec<(PartKey, Duration)>,
}

// === impl LabelResolver ===

impl LabelResolver {
    /// Creates a resolver over the copies of `schemas`.
    pub(in crate::leads) fn new(schemas: Schemas) -> Self {
        Self { schemas }
    }

    /// Resolves the labels of one input. Without labels it does nothing.
    pub(in crate::leads) async fn resolve_one<T: LabelTarget>(
        &self,
        ctx: &CallContext,
        input: Labelled<T>,
    ) -> Result<T, Error> {
        if input.labels.is_empty() {
            return Ok(input.input);
        }
        // Boxed, so that a write without labels has no place for it.
        let mut resolved = Box::pin(self.resolve_labels(ctx, vec![input])).await;
        resolved.results.pop().unwrap_or_else(|| Err(no_result()))
    }

    /// Resolves the labels of the inputs of a batch. Without labels it does nothing.
    pub(in crate::leads) async fn resolve<T: LabelTarget>(
        &self,
        ctx: &CallContext,
        inputs: Vec<Labelled<T>>,
    ) -> ResolvedInputs<T> {
        if inputs.iter().all(|input| input.labels.is_empty()) {
            let results = inputs.into_iter().map(|input| Ok(input.input)).collect();
            return ResolvedInputs { results, charge: None };
        }
        Box::pin(self.resolve_labels(ctx, inputs)).await
    }

    async fn resolve_labels<T: LabelTarget>(
        &self,
        ctx: &CallContext,
        mut inputs: Vec<Labelled<T>>,
    ) -> ResolvedInputs<T> {
        let max_faults = if inputs.len() == 1 { MAX_FAULTS } else { MAX_INPUT_FAULTS };
        let mut keys = Vec::new();
        inputs.iter().for_each(|own| own.input.parts(&own.labels, &mut keys));
        let mut parts = self.read(ctx, keys).await;
        let mut faults = BTreeMap::new();
        resolve_all(&mut inputs, &parts, 0.., &mut faults);
        if !faults.is_empty() && self.read_again(ctx, &mut parts, &faults).await {
            let open: Vec<usize> = faults.keys().copied().collect();
            faults.clear();
            resolve_all(&mut inputs, &parts, open, &mut faults);
        }
        let mut charge = MemoryCharge::new(&ctx.memory);
        let result = |(index, own): (usize, Labelled<T>)| match faults.get(&index) {
            None => Ok(own.input),
            Some(faults) => {
                let error = parts.error(faults, max_faults);
                charge.set(charge.bytes() + memory_of(&error));
                Err(error)
            }
        };
        let results = inputs.into_iter().enumerate().map(result).collect();
        ResolvedInputs { results, charge: Some(charge) }
    }

    /// The copies of parts, and the errors of those that have none. They are awaited for `wait` at most.
    pub(super) async fn read_copies(
        &self,
        ctx: &CallContext,
        keys: Vec<PartKey>,
        wait: Duration,
    ) -> (SchemaCopies, Vec<Error>) {
        let early = ctx.ending_early();
        let ctx = CallContext { deadline: early.deadline.min(Instant::now() + wait), ..early };
        let Parts { copies, errors, .. } = self.read(&ctx, keys).await;
        (copies, errors.into_iter().map(|(_, error)| error).collect())
    }

    /// Reads the parts that have no young copy, within the calls of the portal for its schema.
    async fn read(&self, ctx: &CallContext, keys: Vec<PartKey>) -> Parts {
        let reads = keys.into_iter().map(|key| async move {
            let read = self.read_part(ctx, &key).await;
            (key, read)
        });
        let mut parts = Parts::default();
        for (key, read) in join_all(reads).await {
            match read {
                Ok(copy) => {
                    let old = self.schemas.old(&ctx.portal.name, &key);
                    let at = old.map_or_else(Instant::now, |(_, at)| at);
                    parts.set(key, copy, at);
                }
                Err(error) => parts.errors.push((key, error)),
            }
        }
        parts
    }

    /// Reads a part that has no young copy.
    async fn read_part(&self, ctx: &CallContext, key: &PartKey) -> Result<PartCopy, Error> {
        match key {
            PartKey::AssociationTypes(to) => {
                let to = std::slice::from_ref(to);
                let lists = self.schemas.association_types(ctx, to, DEFAULT_MAX_AGE).await;
                let list = lists.into_iter().next().map(|(_, list)| list);
                list.unwrap_or_else(|| Err(no_result())).map(PartCopy::AssociationTypes)
            }
            PartKey::Properties
            | PartKey::ValidationRules
            | PartKey::Pipelines
            | PartKey::Owners => self.schemas.part(ctx, key.clone(), DEFAULT_MAX_AGE).await,
        }
    }

    /// Reads the parts again in which a label was not found. True if there is a newer copy of one.
    async fn read_again(
        &self,
        ctx: &CallContext,
        parts: &mut Parts,
        faults: &BTreeMap<usize, Vec<LabelFault>>,
    ) -> bool {
        let is_failed =
            |key: &PartKey| faults.values().flatten().any(|fault| fault.unresolved.part == *key);
        let times: Vec<(PartKey, Instant)> =
            parts.times.iter().filter(|(key, _)| is_failed(key)).cloned().collect();
        let mut is_newer = false;
        for (key, at) in times {
            if at.elapsed() < CERTAIN_COPY {
                continue;
            }
            match self.schemas.newer(ctx, &key, at).await {
                Some((copy, at)) => {
                    parts.set(key, copy, at);
                    is_newer = true;
                }
                None => parts.outdated.push((key, at.elapsed())),
            }
        }
        is_newer
    }
}

/// Resolves the inputs at `indices`, and collects the faults of each.
fn resolve_all<T: LabelTarget>(
    inputs: &mut [Labelled<T>],
    parts: &Parts,
    indices: impl IntoIterator<Item = usize>,
    faults: &mut BTreeMap<usize, Vec<LabelFault>>,
) {
    let mut lookup = Lookup::new(&parts.copies);
    for index in indices {
        let Some(Labelled { input, labels }) = inputs.get_mut(index) else { return };
        if labels.is_empty() {
            continue;
        }
        if let Err(own) = input.resolve(labels, &mut lookup) {
            faults.insert(index, own);
        }
    }
}

fn no_result() -> Error {
    Error::new(Reason::Internal, "internal error: an input has no result")
}

// === impl Parts ===

impl Parts {
    fn set(&mut self, key: PartKey, copy: PartCopy, at: Instant) {
        self.copies.set(&key, copy);
        self.times.retain(|(own, _)| *own != key);
        self.times.push((key, at));
    }

    /// The error of an input with these faults. A part that cannot be read is the cause for all of them.
    fn error(&self, faults: &[LabelFault], max: usize) -> Error {
        for LabelFault { field, unresolved } in faults {
            let cause = self.errors.iter().find(|(key, _)| *key == unresolved.part);
            if let (None, Some((_, error))) = (&unresolved.description, cause) {
                let text = format!(
                    "{field} needs the schema of the portal, which is not known: {}; use ids in place of \
                     labels",
                    error.message()
                );
                return error.clone().with_message(text);
            }
        }
        let faults = faults.iter().take(max).map(|LabelFault { field, unresolved }| {
            let text = unresolved.description.as_deref().unwrap_or("cannot be looked up");
            let age = self.outdated.iter().find(|(key, _)| *key == unresolved.part);
            let age = age.map(|(_, age)| {
                format!(
                    "; HubSpot was asked {} seconds ago, and cannot be asked again now",
                    age.as_secs()
                )
            });
            FieldFault::new(field, format!("{text}{}", age.unwrap_or_default()))
        });
        Error::invalid(faults.collect())
    }
}
