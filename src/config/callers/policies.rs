//! `[policy.<name>]`: rights of callers in portals.

use std::collections::{BTreeMap, BTreeSet};

use super::{Access, CallerPattern, Policy, WEIGHT, is_name};
use crate::{
    config::{check::Checker, portals::Portal, raw},
    leads::PortalName,
};

/// Name for all portals.
const ALL: &str = "*";

// === impl Checker ===

impl Checker<'_> {
    /// Converts the policies. `portals` are the configured portals; `None` if portals are discovered.
    pub(in crate::config) fn policies(
        &mut self,
        raw: BTreeMap<String, raw::Policy>,
        portals: Option<&BTreeMap<PortalName, Portal>>,
    ) -> Option<BTreeMap<String, Policy>> {
        let before = self.errors.len();
        let mut policies = BTreeMap::new();
        let mut decided: BTreeMap<(CallerPattern, Option<PortalName>), String> = BTreeMap::new();
        for (name, raw) in raw {
            let Some(policy) = self.policy(&name, raw, portals) else { continue };
            for callers in &policy.callers {
                for portal in each_portal(&policy) {
                    if let Some(other) = decided.insert((callers.clone(), portal), name.clone()) {
                        // Two equally specific policies would be ambiguous.
                        let what = format!("has the same caller and portal as [policy.{other}]");
                        self.add_error(&format!("policy.{name}.callers"), what);
                    }
                }
            }
            policies.insert(name, policy);
        }
        (self.errors.len() == before).then_some(policies)
    }

    fn policy(
        &mut self,
        name: &str,
        raw: raw::Policy,
        known: Option<&BTreeMap<PortalName, Portal>>,
    ) -> Option<Policy> {
        let raw::Policy {
            callers,
            portals,
            access,
            quota,
            export,
            import,
            create_contacts,
            weight,
        } = raw;
        let key = |key: &str| format!("policy.{name}.{key}");
        if callers.is_empty() {
            self.add_error(&key("callers"), "must name at least one caller");
        }
        let mut patterns = Vec::new();
        for caller in callers {
            let pattern = pattern(&caller);
            if pattern.is_none() {
                let what =
                    "must be caller names: printable ASCII without spaces, `*` only at the end";
                self.add_error(&key("callers"), what);
            }
            patterns.push(pattern?);
        }
        let portals = self.policy_portals(&key("portals"), &portals, known);
        let access = match access.as_deref() {
            Some("none") => Some(Access::None),
            Some("read") => Some(Access::Read),
            Some("write") => Some(Access::Write),
            Some(_) | None => {
                self.add_error(&key("access"), "must be none, read or write");
                None
            }
        };
        if export == Some(true) && access == Some(Access::None) {
            self.add_error(&key("export"), "needs access = \"read\" or \"write\"");
        }
        if import == Some(true) && access.is_some_and(|access| access < Access::Write) {
            self.add_error(&key("import"), "needs access = \"write\"");
        }
        if create_contacts == Some(true) && access.is_some_and(|access| access < Access::Write) {
            self.add_error(&key("create_contacts"), "needs access = \"write\"");
        }
        let weight = self.number(&key("weight"), weight.unwrap_or(WEIGHT), 1, 1_000);
        Some(Policy {
            callers: patterns,
            portals: portals?,
            access: access?,
            quota: quota.unwrap_or(false),
            export: export.unwrap_or(false),
            import: import.unwrap_or(false),
            create_contacts: create_contacts.unwrap_or(false),
            weight: u32::try_from(weight?).unwrap_or(1),
        })
    }

    fn policy_portals(
        &mut self,
        key: &str,
        names: &[String],
        known: Option<&BTreeMap<PortalName, Portal>>,
    ) -> Option<Option<Vec<PortalName>>> {
        if names == [ALL] {
            return Some(None);
        }
        if names.is_empty() {
            self.add_error(key, "must name at least one portal, or be [\"*\"] for all portals");
            return None;
        }
        let mut portals = Vec::new();
        for name in names {
            let Some(portal) = PortalName::parse(name) else {
                self.add_error(key, "must be portal names, or [\"*\"] for all portals");
                return None;
            };
            if known.is_some_and(|known| !known.contains_key(&portal)) {
                self.add_error(
                    key,
                    format!("names the portal `{portal}`, which is not configured"),
                );
            }
            portals.push(portal);
        }
        Some(Some(portals))
    }
}

/// Portals of a policy; `None` for all portals.
fn each_portal(policy: &Policy) -> BTreeSet<Option<PortalName>> {
    match &policy.portals {
        None => BTreeSet::from([None]),
        Some(portals) => portals.iter().cloned().map(Some).collect(),
    }
}

/// Parses a caller pattern: a name, or a prefix followed by `*`.
fn pattern(text: &str) -> Option<CallerPattern> {
    if !is_name(text) {
        return None;
    }
    match text.split_once('*') {
        None => Some(CallerPattern::Exact(text.to_owned())),
        Some((beginning, "")) => Some(CallerPattern::Prefix(beginning.to_owned())),
        Some(_) => None,
    }
}
