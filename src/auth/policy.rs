//! Evaluates policies. The most specific policy wins:
//!
//! 1. Exact caller over prefix.
//! 2. Longer prefix over shorter prefix.
//! 3. Named portal over all portals.
//!
//! Without a matching policy, access is denied.

use std::collections::HashMap;

use crate::{
    config::{Access, CallerPattern, Policy},
    leads::PortalName,
};

/// Rights of a caller in a portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// Access to leads.
    pub access: Access,
    /// True if the caller may read the quota.
    pub quota: bool,
    /// True if the caller may export the leads that it may read.
    pub export: bool,
    /// True if the caller may import leads, if it may write them.
    pub import: bool,
    /// True if the caller may create contacts with new leads, if it may write leads.
    pub create_contacts: bool,
    /// Weight of the caller in the fair queue for quota.
    pub weight: u32,
}

/// Policies of all callers.
#[derive(Debug)]
pub struct Policies {
    exact: HashMap<String, Vec<Rule>>,
    /// Longest prefix first.
    prefixes: Vec<(String, Vec<Rule>)>,
}

/// Rights in one portal, or in all portals if `portal` is `None`.
#[derive(Debug)]
struct Rule {
    portal: Option<PortalName>,
    rights: Rights,
}

// === impl Rights ===

impl Rights {
    /// No rights.
    pub const NONE: Self = Self {
        access: Access::None,
        quota: false,
        export: false,
        import: false,
        create_contacts: false,
        weight: 1,
    };

    /// All rights, of a service that does not authenticate its callers.
    pub const ALL: Self = Self {
        access: Access::Write,
        quota: true,
        export: true,
        import: true,
        create_contacts: true,
        weight: 1,
    };

    /// Reports whether there is any right. Only then may the caller learn that the portal exists.
    pub fn any(&self) -> bool {
        self.access > Access::None || self.quota
    }

    /// Reports whether the caller may export leads.
    pub fn may_export(&self) -> bool {
        self.export && self.access >= Access::Read
    }

    /// Reports whether the caller may import leads.
    pub fn may_import(&self) -> bool {
        self.import && self.access >= Access::Write
    }

    /// Reports whether the caller may create contacts with new leads.
    pub fn may_create_contacts(&self) -> bool {
        self.create_contacts && self.access >= Access::Write
    }
}

// === impl Policies ===

impl Policies {
    /// Creates the index of validated policies: no two are equally specific for one caller and portal.
    pub fn new<'a>(policies: impl Iterator<Item = &'a Policy>) -> Self {
        let mut exact: HashMap<String, Vec<Rule>> = HashMap::new();
        let mut prefixes: HashMap<String, Vec<Rule>> = HashMap::new();
        for policy in policies {
            let Policy { callers, portals, access, quota, export, import, create_contacts, weight } =
                policy;
            let rights = Rights {
                access: *access,
                quota: *quota,
                export: *export,
                import: *import,
                create_contacts: *create_contacts,
                weight: *weight,
            };
            for callers in callers {
                let rules = match callers {
                    CallerPattern::Exact(name) => exact.entry(name.clone()).or_default(),
                    CallerPattern::Prefix(text) => prefixes.entry(text.clone()).or_default(),
                };
                match portals {
                    None => rules.push(Rule { portal: None, rights }),
                    Some(portals) => {
                        let rule =
                            |portal: &PortalName| Rule { portal: Some(portal.clone()), rights };
                        rules.extend(portals.iter().map(rule));
                    }
                }
            }
        }
        let mut prefixes: Vec<_> = prefixes.into_iter().collect();
        prefixes.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        Self { exact, prefixes }
    }

    /// Rights of `caller` in `portal`.
    pub fn rights(&self, caller: &str, portal: &PortalName) -> Rights {
        let decides = |rules: &Vec<Rule>| {
            let exact = rules.iter().find(|rule| rule.portal.as_ref() == Some(portal));
            let any = || rules.iter().find(|rule| rule.portal.is_none());
            exact.or_else(any).map(|rule| rule.rights)
        };
        self.matching_rules(caller).find_map(decides).unwrap_or(Rights::NONE)
    }

    /// Reports whether `caller` has any right in any portal.
    pub fn has_rights(&self, caller: &str) -> bool {
        for rules in self.matching_rules(caller) {
            let mut named = rules.iter().filter_map(|rule| rule.portal.as_ref());
            if named.any(|portal| self.rights(caller, portal).any()) {
                return true;
            }
            // This rule applies to all portals that no rule has named so far.
            if let Some(rest) = rules.iter().find(|rule| rule.portal.is_none()) {
                return rest.rights.any();
            }
        }
        false
    }

    /// Rules that match a caller, most specific first.
    fn matching_rules<'a>(&'a self, caller: &'a str) -> impl Iterator<Item = &'a Vec<Rule>> {
        let prefixes = self.prefixes.iter();
        let prefixes = prefixes.filter(move |(text, _)| caller.starts_with(text.as_str()));
        self.exact.get(caller).into_iter().chain(prefixes.map(|(_, rules)| rules))
    }
}
