//! Validates writes before they are sent, by the mode of the portal.
//!
//! A write is refused only by what HubSpot said a moment ago. A copy of the schema that is too old or missing
//! refuses nothing; it is read in the background. A violation that follows from a usable copy is confirmed
//! first, in one of these ways:
//!
//! - The copy is read again, within the calls that the portal has for its schema, and it still refuses the
//!   write. Then it counts as certain for [`CERTAIN_COPY`].
//! - HubSpot has rejected the same property and value within [`CERTAIN_REJECTION`].
//!
//! Otherwise the write is sent. So a portal that changes its schema is never refused by an outdated copy for
//! longer than these times, and a caller in a loop costs one HubSpot call a minute at most.

mod doubts;
mod settings;
mod stats;
mod writes;

use std::{collections::HashMap, sync::Arc, time::Duration};

use leadsd_base::cache::TtlCache;
use tokio::time::Instant;
use tracing::warn;

use self::{doubts::Refusals, stats::ValidationStats};
pub(super) use self::{
    doubts::{Doubts, Verdicts},
    writes::{Proposed, Writes},
};
pub use self::{
    settings::{ValidationMode, ValidationSettings},
    stats::{ValidationOutcome, ValidationSnapshot},
};
use super::{
    context::{CallContext, PortalName},
    error::Error,
    schema::{AssociationTypeCopy, PartCopy, PartKey, Schemas},
    validation::{Confirmation, Hints, SchemaView, Violation, ViolationKind},
};

/// Age of a copy up to which it refuses a write. The age up to which ListLeadProperties returns it.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Age of the validation rules up to which they are checked. No validation reads them, since properties and
/// association types need the calls of the portal more.
const RULES_MAX_AGE: Duration = Duration::from_secs(86_400);

/// Time for which a copy is certain that was read again for a refusal and confirmed it.
const CERTAIN_COPY: Duration = Duration::from_secs(5);

/// Time for which HubSpot's rejection of a value is certain.
const CERTAIN_REJECTION: Duration = Duration::from_secs(60);

/// Maximum number of rejections that are remembered.
const MAX_REJECTIONS: usize = 10_000;

/// Maximum number of copies that are remembered as certain, and of violations that were logged.
const MAX_REMEMBERED: usize = 1_000;

/// Time in which equal violations of a portal are logged once.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// Validator of the writes of all portals.
#[derive(Debug)]
pub(super) struct Validator {
    settings: ValidationSettings,
    schemas: Schemas,
    certain_copies: TtlCache<(PortalName, PartKey), ()>,
    rejections: TtlCache<(PortalName, Confirmation), ()>,
    /// Properties of which HubSpot has rejected a value that the copy refuses as well.
    agreed_properties: TtlCache<(PortalName, String), ()>,
    logged: TtlCache<(PortalName, ViolationKind), ()>,
    stats: ValidationStats,
}

/// Copies that a call was judged by, with the time at which HubSpot was asked for each.
#[derive(Debug, Default)]
struct Copies {
    view: SchemaView,
    association_types: Option<Arc<AssociationTypeCopy>>,
    times: HashMap<PartKey, Instant>,
}

// === impl Validator ===

impl Validator {
    /// Creates a validator over the copies of `schemas`.
    pub(super) fn new(settings: ValidationSettings, schemas: Schemas) -> Self {
        Self {
            settings,
            schemas,
            certain_copies: TtlCache::new(MAX_REMEMBERED, CERTAIN_COPY),
            rejections: TtlCache::new(MAX_REJECTIONS, CERTAIN_REJECTION),
            agreed_properties: TtlCache::new(MAX_REMEMBERED, CERTAIN_COPY),
            logged: TtlCache::new(MAX_REMEMBERED, LOG_PAUSE),
            stats: ValidationStats::default(),
        }
    }

    /// Counts so far.
    pub(super) fn snapshot(&self) -> ValidationSnapshot {
        self.stats.snapshot()
    }

    /// True if the writes of the portal are validated before they are sent.
    pub(super) fn is_on(&self, ctx: &CallContext) -> bool {
        self.settings.mode(&ctx.portal.name) != ValidationMode::Off
    }

    /// Decides which writes are sent. Waits for HubSpot only if a write would be refused, and then for three
    /// seconds at most.
    pub(super) async fn admit(&self, ctx: &CallContext, writes: &Writes<'_>) -> Verdicts {
        let mode = self.settings.mode(&ctx.portal.name);
        if mode == ValidationMode::Off {
            return Verdicts::default();
        }
        let mut copies = self.current_copies(ctx, writes);
        if !copies.can_judge(writes) {
            self.stats.count(ValidationOutcome::Unchecked, writes.count());
            return Verdicts::default();
        }
        let mut found = copies.violations(writes);
        if found.is_empty() {
            self.stats.count(ValidationOutcome::Valid, writes.count());
            return Verdicts::default();
        }
        if mode == ValidationMode::Warn {
            return self.warnings(ctx, writes.count(), found);
        }
        let uncertain = self.uncertain_parts(ctx, &found);
        if self.read_again(ctx, &mut copies, &uncertain).await {
            found = copies.violations(writes);
            self.remember(ctx, &uncertain, &found);
        }
        self.verdicts(ctx, writes.count(), found)
    }

    /// Validates writes that are not sent. Reads the parts of the schema that have no young copy, within the
    /// calls of the portal. Returns the error of each write that is invalid. Errors if there is no copy at all.
    pub(super) async fn validate(
        &self,
        ctx: &CallContext,
        writes: &Writes<'_>,
    ) -> Result<Vec<Option<Error>>, Error> {
        for key in writes.required_parts() {
            self.schemas.part(ctx, key, MAX_AGE).await?;
        }
        if let Some(key) = writes.optional_part() {
            // Without its copy, what HubSpot defines for every portal is checked.
            let _ = self.schemas.part(ctx, key, MAX_AGE).await;
        }
        let mut copies = self.any_copies(ctx, writes);
        let mut found = copies.violations(writes);
        if !found.is_empty() {
            let uncertain = self.uncertain_parts(ctx, &found);
            if self.read_again(ctx, &mut copies, &uncertain).await {
                found = copies.violations(writes);
                self.remember(ctx, &uncertain, &found);
            }
        }
        let mut errors = vec![None; writes.count()];
        let mut refusals = Refusals::default();
        for (index, violations) in found {
            errors[index] = Some(refusals.error(violations));
        }
        Ok(errors)
    }

    /// Takes the outcome of a write that was sent with doubts: `error` if HubSpot rejected it. A rejection
    /// confirms the violations that it names; a success contradicts the copies.
    pub(super) fn observe(&self, ctx: &CallContext, doubts: &Doubts, error: Option<&Error>) {
        let portal = &ctx.portal.name;
        match error {
            Some(error) => doubts.confirmed_by(error).for_each(|violation| {
                self.rejections.insert((portal.clone(), violation.confirmation()), ());
                if let Some(name) = violation.fault.property() {
                    self.agreed_properties.insert((portal.clone(), name.to_owned()), ());
                }
            }),
            None => doubts.parts().for_each(|key| self.schemas.contradict(portal, &key)),
        }
    }

    /// True if the copies have refused the values that HubSpot's error is about: then it is no evidence that
    /// they are outdated.
    pub(super) fn agrees(&self, portal: &PortalName, error: &Error) -> bool {
        let is_agreed =
            |name: &str| self.agreed_properties.get(&(portal.clone(), name.to_owned())).is_some();
        let mut names = error.fields().iter().map(|fault| fault.property());
        !error.fields().is_empty() && names.all(|name| name.is_some_and(is_agreed))
    }

    /// The parts from which no violation is certain. Empty if each write has a certain violation.
    fn uncertain_parts(
        &self,
        ctx: &CallContext,
        found: &[(usize, Vec<Violation>)],
    ) -> Vec<PartKey> {
        let mut parts = Vec::new();
        for (_, violations) in found {
            if violations.iter().any(|violation| self.is_certain(ctx, violation)) {
                continue;
            }
            for part in violations.iter().map(Violation::part) {
                if !parts.contains(&part) {
                    parts.push(part);
                }
            }
        }
        parts
    }

    fn is_certain(&self, ctx: &CallContext, violation: &Violation) -> bool {
        let portal = &ctx.portal.name;
        violation.is_universal()
            || self.certain_copies.get(&(portal.clone(), violation.part())).is_some()
            || self.rejections.get(&(portal.clone(), violation.confirmation())).is_some()
    }

    /// Reads parts again. True if there is a newer copy of one.
    async fn read_again(&self, ctx: &CallContext, copies: &mut Copies, parts: &[PartKey]) -> bool {
        let mut is_newer = false;
        for key in parts {
            let judged = copies.times.get(key).copied();
            // A check without a copy rests on what HubSpot defines for every portal.
            let Some(judged) = judged else { continue };
            if let Some((copy, at)) = self.schemas.newer(ctx, key, judged).await {
                copies.set(key.clone(), copy, at);
                is_newer = true;
            }
        }
        is_newer
    }

    /// Remembers the parts that refuse the write again after they were read again. A copy that has changed
    /// its answer may change again.
    fn remember(&self, ctx: &CallContext, parts: &[PartKey], found: &[(usize, Vec<Violation>)]) {
        let still = |key: &&PartKey| {
            found.iter().flat_map(|(_, all)| all).any(|violation| violation.part() == **key)
        };
        for key in parts.iter().filter(still) {
            self.certain_copies.insert((ctx.portal.name.clone(), key.clone()), ());
        }
    }

    /// Refuses the writes with a certain violation, and doubts the others.
    fn verdicts(
        &self,
        ctx: &CallContext,
        count: usize,
        found: Vec<(usize, Vec<Violation>)>,
    ) -> Verdicts {
        let mut verdicts = Verdicts::new(&ctx.memory);
        let mut refusals = Refusals::default();
        self.stats.count(ValidationOutcome::Valid, count - found.len());
        for (index, violations) in found {
            let (certain, uncertain): (Vec<_>, Vec<_>) =
                violations.into_iter().partition(|violation| self.is_certain(ctx, violation));
            if certain.is_empty() {
                self.stats.count(ValidationOutcome::Unconfirmed, 1);
                verdicts.doubt(index, Doubts::new(uncertain));
                continue;
            }
            self.stats.count(ValidationOutcome::Refused, 1);
            certain.iter().for_each(|violation| self.stats.count_violation(violation.kind));
            verdicts.refuse(index, refusals.error(certain));
        }
        verdicts
    }

    /// Counts and logs violations, and sends each write.
    fn warnings(
        &self,
        ctx: &CallContext,
        count: usize,
        found: Vec<(usize, Vec<Violation>)>,
    ) -> Verdicts {
        let mut verdicts = Verdicts::new(&ctx.memory);
        self.stats.count(ValidationOutcome::Valid, count - found.len());
        self.stats.count(ValidationOutcome::Warned, found.len());
        for (index, violations) in found {
            self.warn(&ctx.portal.name, &violations);
            verdicts.doubt(index, Doubts::new(violations));
        }
        verdicts
    }

    /// Counts violations, and logs each kind once a minute.
    fn warn(&self, portal: &PortalName, violations: &[Violation]) {
        for violation in violations {
            self.stats.count_violation(violation.kind);
            let key = (portal.clone(), violation.kind);
            if self.logged.get(&key).is_none() {
                self.logged.insert(key, ());
                warn!(
                    portal = %portal,
                    violation = violation.kind.as_str(),
                    "Sent a write that violates the schema of the portal"
                );
            }
        }
    }

    /// The copies that are young enough to judge writes. Others are read in the background.
    fn current_copies(&self, ctx: &CallContext, writes: &Writes<'_>) -> Copies {
        self.copies(ctx, writes, |key| self.schemas.current(ctx, key, MAX_AGE))
    }

    /// The copies of any age.
    fn any_copies(&self, ctx: &CallContext, writes: &Writes<'_>) -> Copies {
        self.copies(ctx, writes, |key| self.schemas.old(&ctx.portal.name, key))
    }

    /// The copy of a part that is checked only if it is known. Rules change rarely, and a violation of one is
    /// confirmed before a write is refused.
    fn young_rules(&self, ctx: &CallContext, key: &PartKey) -> Option<(PartCopy, Instant)> {
        let copy = self.schemas.old(&ctx.portal.name, key);
        copy.filter(|(_, at)| at.elapsed() <= RULES_MAX_AGE)
    }

    fn copies(
        &self,
        ctx: &CallContext,
        writes: &Writes<'_>,
        read: impl Fn(&PartKey) -> Option<(PartCopy, Instant)>,
    ) -> Copies {
        let view = SchemaView { dates: self.settings.dates, ..SchemaView::default() };
        let mut copies = Copies { view, ..Copies::default() };
        for key in writes.required_parts().into_iter().chain(writes.optional_part()) {
            if let Some((copy, at)) = read(&key) {
                copies.set(key, copy, at);
            }
        }
        if let Some((copy, at)) = writes.known_part().and_then(|key| self.young_rules(ctx, &key)) {
            copies.set(PartKey::ValidationRules, copy, at);
        }
        copies
    }
}

// === impl Copies ===

impl Copies {
    fn set(&mut self, key: PartKey, copy: PartCopy, at: Instant) {
        self.times.insert(key, at);
        match copy {
            PartCopy::Properties(copy) => self.view.properties = Some(copy),
            PartCopy::ValidationRules(copy) => self.view.rules = Some(copy),
            PartCopy::Pipelines(copy) => self.view.pipelines = Some(copy),
            PartCopy::AssociationTypes(copy) => self.association_types = Some(copy),
            PartCopy::Owners(_) => {}
        }
    }

    /// False if the writes cannot be checked at all.
    fn can_judge(&self, writes: &Writes<'_>) -> bool {
        match writes {
            Writes::Leads(_) => self.view.properties.is_some(),
            Writes::Associations { .. } => true,
        }
    }

    /// The violations of each write that has some, with its index.
    fn violations(&self, writes: &Writes<'_>) -> Vec<(usize, Vec<Violation>)> {
        writes.violations(&self.view, self.association_types.as_deref(), &mut Hints::default())
    }
}
