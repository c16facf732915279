//! Precedence of policies: the most specific policy wins.

use proptest::prelude::*;

use crate::{
    auth::{Policies, Rights},
    config::{Access, CallerPattern, Policy},
    leads::PortalName,
};

fn policy(callers: &[&str], portals: &[&str], access: Access, quota: bool) -> Policy {
    let callers = callers.iter().map(|caller| match caller.strip_suffix('*') {
        Some(beginning) => CallerPattern::Prefix(beginning.to_owned()),
        None => CallerPattern::Exact((*caller).to_owned()),
    });
    let names = portals.iter().map(|name| PortalName::parse(name).unwrap());
    let portals = if portals == ["*"] { None } else { Some(names.collect()) };
    let callers = callers.collect();
    Policy {
        callers,
        portals,
        access,
        quota,
        export: false,
        import: false,
        create_contacts: false,
        weight: 1,
    }
}

fn portal(name: &str) -> PortalName {
    PortalName::parse(name).unwrap()
}

#[test]
fn the_most_specific_policy_wins_and_the_default_is_denied() {
    let policies = [
        policy(&["*"], &["*"], Access::Read, false),
        policy(&["spiffe://x/ns/shop/*"], &["*"], Access::Write, false),
        policy(&["spiffe://x/ns/shop/sa/*"], &["us"], Access::None, true),
        policy(&["intern"], &["*"], Access::None, false),
        policy(&["intern"], &["eu"], Access::Read, false),
        policy(&["billing"], &["eu", "us"], Access::Write, true),
    ];
    let all = Policies::new(policies.iter());
    for (caller, name, access, quota) in [
        ("unknown", "eu", Access::Read, false),
        ("spiffe://x/ns/shop/job", "eu", Access::Write, false),
        ("spiffe://x/ns/shop", "eu", Access::Read, false),
        ("spiffe://x/ns/shop/sa/a", "eu", Access::Write, false),
        ("spiffe://x/ns/shop/sa/a", "us", Access::None, true),
        ("intern", "us", Access::None, false),
        ("intern", "eu", Access::Read, false),
        ("interns", "us", Access::Read, false),
        ("billing", "us", Access::Write, true),
        // The policy of billing does not name asia; the policy for all callers does.
        ("billing", "asia", Access::Read, false),
    ] {
        let rights = all.rights(caller, &portal(name));
        assert_eq!((rights.access, rights.quota), (access, quota), "{caller} in {name}");
    }
    let few = Policies::new(policies[3..].iter());
    assert_eq!(few.rights("unknown", &portal("eu")), Rights::NONE);
    assert_eq!(few.rights("billing", &portal("asia")), Rights::NONE);
    assert_eq!(few.rights("Billing", &portal("eu")), Rights::NONE, "names are exact");
}

#[test]
fn has_rights_is_false_for_a_caller_without_any_right() {
    let policies = [
        policy(&["*"], &["*"], Access::Read, false),
        policy(&["intern"], &["*"], Access::None, false),
        policy(&["auditor"], &["*"], Access::None, true),
        policy(&["guest"], &["*"], Access::None, false),
        policy(&["guest"], &["eu"], Access::Read, false),
        policy(&["former"], &["eu"], Access::None, false),
        policy(&["for*"], &["*"], Access::None, false),
    ];
    let all = Policies::new(policies.iter());
    for (caller, any) in [
        ("unknown", true),
        ("intern", false),
        ("auditor", true),
        ("guest", true),
        ("former", false),
        ("forward", false),
    ] {
        assert_eq!(all.has_rights(caller), any, "{caller}");
    }
    assert!(!Policies::new(policies[1..].iter()).has_rights("unknown"));
}

/// Reference implementation of the documented precedence.
fn reference_rights(policies: &[Policy], caller: &str, portal: &PortalName) -> Rights {
    let mut fitting = Vec::new();
    for policy in policies {
        for callers in &policy.callers {
            let exactness = match callers {
                CallerPattern::Exact(name) if name == caller => usize::MAX,
                CallerPattern::Prefix(text) if caller.starts_with(text.as_str()) => text.len(),
                CallerPattern::Exact(_) | CallerPattern::Prefix(_) => continue,
            };
            let named = match &policy.portals {
                None => false,
                Some(portals) if portals.contains(portal) => true,
                Some(_) => continue,
            };
            let Policy { access, quota, export, import, create_contacts, weight, .. } = *policy;
            let rights = Rights { access, quota, export, import, create_contacts, weight };
            fitting.push(((exactness, named), rights));
        }
    }
    fitting.sort_by_key(|(exactness, _)| *exactness);
    fitting.pop().map_or(Rights::NONE, |(_, rights)| rights)
}

proptest! {
    #[test]
    fn policies_match_the_reference_implementation(
        drawn in prop::collection::btree_map(
            ("[ab]{0,3}[*]?", prop::sample::select(vec!["*", "eu", "us"])),
            (0_u8..3, any::<bool>(), any::<bool>(), 1_u32..4),
            0..12,
        ),
        caller in "[ab]{1,4}",
    ) {
        let mut policies = Vec::new();
        for ((callers, portals), (access, quota, export, weight)) in drawn {
            if callers.is_empty() { continue; }
            let access = [Access::None, Access::Read, Access::Write][usize::from(access)];
            let policy = policy(&[&callers], &[portals], access, quota);
            policies.push(Policy { export, import: !export, weight, ..policy });
        }
        let all = Policies::new(policies.iter());
        let mut any = false;
        for name in ["eu", "us", "elsewhere"] {
            let rights = reference_rights(&policies, &caller, &portal(name));
            prop_assert_eq!(all.rights(&caller, &portal(name)), rights);
            any |= rights.any();
        }
        prop_assert_eq!(all.has_rights(&caller), any);
    }
}
