//! What callers may do: one policy decides each call, the one that names caller and portal most
//! exactly, and what none allows is denied.

use std::collections::HashMap;

use crate::{
    config::{Access, Callers, Policy},
    leads::PortalName,
};

/// What a caller may do in a portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// With leads.
    pub access: Access,
    /// Whether it may ask for the quota.
    pub quota: bool,
    /// Its part of the quota when callers wait.
    pub share: u32,
}

/// All policies.
#[derive(Debug)]
pub struct Policies {
    named: HashMap<String, Vec<Rule>>,
    /// The longest first.
    beginnings: Vec<(String, Vec<Rule>)>,
}

/// What a policy gives, in one portal or in all.
#[derive(Debug)]
struct Rule {
    portal: Option<PortalName>,
    rights: Rights,
}

// === impl Rights ===

impl Rights {
    /// Nothing at all.
    pub const NONE: Self = Self { access: Access::None, quota: false, share: 1 };

    /// Whether there is anything that the caller may do in the portal: then it may know of it.
    pub fn any(&self) -> bool {
        self.access > Access::None || self.quota
    }
}

// === impl Policies ===

impl Policies {
    /// Takes the policies of a checked configuration: no two fit the same caller and portal equally
    /// well.
    pub fn new<'a>(policies: impl Iterator<Item = &'a Policy>) -> Self {
        let mut named: HashMap<String, Vec<Rule>> = HashMap::new();
        let mut beginnings: HashMap<String, Vec<Rule>> = HashMap::new();
        for Policy { callers, portals, access, quota, share } in policies {
            let rights = Rights { access: *access, quota: *quota, share: *share };
            for callers in callers {
                let rules = match callers {
                    Callers::Named(name) => named.entry(name.clone()).or_default(),
                    Callers::Beginning(text) => beginnings.entry(text.clone()).or_default(),
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
        let mut beginnings: Vec<_> = beginnings.into_iter().collect();
        beginnings.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        Self { named, beginnings }
    }

    /// What `caller` may do in `portal`.
    pub fn of(&self, caller: &str, portal: &PortalName) -> Rights {
        let decides = |rules: &Vec<Rule>| {
            let exact = rules.iter().find(|rule| rule.portal.as_ref() == Some(portal));
            let any = || rules.iter().find(|rule| rule.portal.is_none());
            exact.or_else(any).map(|rule| rule.rights)
        };
        self.fitting(caller).find_map(decides).unwrap_or(Rights::NONE)
    }

    /// Whether `caller` may do anything in any portal.
    pub fn any(&self, caller: &str) -> bool {
        for rules in self.fitting(caller) {
            let mut named = rules.iter().filter_map(|rule| rule.portal.as_ref());
            if named.any(|portal| self.of(caller, portal).any()) {
                return true;
            }
            // It decides all portals that were not named so far.
            if let Some(rest) = rules.iter().find(|rule| rule.portal.is_none()) {
                return rest.rights.any();
            }
        }
        false
    }

    /// Rules for a caller, those that fit it best first.
    fn fitting<'a>(&'a self, caller: &'a str) -> impl Iterator<Item = &'a Vec<Rule>> {
        let beginnings = self.beginnings.iter();
        let beginnings = beginnings.filter(move |(text, _)| caller.starts_with(text.as_str()));
        self.named.get(caller).into_iter().chain(beginnings.map(|(_, rules)| rules))
    }
}
