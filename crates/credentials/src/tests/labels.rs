//! Labels that dashboards and alerts know.

use std::sync::Arc;

use crate::{FailureClass, Kind, PortalReadiness, Readiness, SecretPath, State};

#[test]
fn labels_of_states_kinds_and_failures() {
    let states = [State::Starting, State::Fresh, State::Stale, State::Failed, State::Suspended];
    let labels = states.map(State::as_str);
    assert_eq!(labels, ["starting", "fresh", "stale", "failed", "suspended"]);
    assert_eq!([Kind::Static, Kind::OAuth].map(Kind::as_str), ["static", "oauth"]);
    let failures = [
        (FailureClass::StoreUnavailable, "store_unavailable", true),
        (FailureClass::LoginRejected, "login_rejected", true),
        (FailureClass::StoreDenied, "store_denied", false),
        (FailureClass::SecretMissing, "secret_missing", false),
        (FailureClass::SecretMalformed, "secret_malformed", false),
        (FailureClass::StoreConflict, "store_conflict", true),
        (FailureClass::TokenThrottled, "token_throttled", true),
        (FailureClass::TokenUnavailable, "token_unavailable", true),
        (FailureClass::GrantRejected, "grant_rejected", false),
        (FailureClass::TokenRejected, "token_rejected", false),
    ];
    for (class, label, transient) in failures {
        assert_eq!((class.as_str(), class.is_transient()), (label, transient));
    }
}

#[test]
fn readiness_needs_a_usable_portal_and_a_first_listing() {
    let ready = Readiness::default();
    assert!(ready.is_ready());
    let unusable = PortalReadiness { discovered: false, usable: false };
    let portals = [(Arc::from("default"), unusable)].into();
    assert!(!Readiness { portals, ..ready.clone() }.is_ready());
    assert!(!Readiness { not_listed_yet: Some("hubspot".into()), ..ready }.is_ready());
}

#[test]
fn a_path_is_shown_as_it_was_written() {
    assert_eq!(SecretPath::parse("hubspot/eu-1").unwrap().to_string(), "hubspot/eu-1");
}
