//! Names of callers.

use super::*;

#[test]
fn an_unauthenticated_name_is_truncated_between_characters() {
    assert_eq!(Caller::new(&"a".repeat(128)).as_str(), "a".repeat(128));
    assert_eq!(Caller::new(&"a".repeat(129)).as_str(), "a".repeat(128));
    let long = format!("{}ä", "a".repeat(127));
    assert_eq!(Caller::new(&long).as_str(), "a".repeat(127));
    assert_eq!(Caller::new("").as_str(), "");
}

#[test]
fn only_an_authenticated_caller_has_a_configured_weight() {
    let known = Caller::authenticated("billing", 3);
    assert_eq!((known.is_authenticated(), known.weight()), (true, Some(3)));
    let unknown = Caller::new("billing");
    assert_eq!((unknown.is_authenticated(), unknown.weight()), (false, None));
    assert_ne!(known, unknown, "they do not share a queue");
}

#[test]
fn the_account_is_the_identity_or_else_the_address_whatever_the_name() {
    let at = |name: &str, address: &str| {
        Caller::new(name).with_address(address.parse().unwrap()).account()
    };
    assert_eq!(at("a", "192.0.2.1"), at("b", "::ffff:192.0.2.1"));
    assert_ne!(at("a", "192.0.2.1"), at("a", "192.0.2.2"));
    assert_eq!(at("a", "2001:db8::1"), at("b", "2001:db8::ffff:1"));
    assert_ne!(at("a", "2001:db8:0:1::1"), at("a", "2001:db8:0:2::1"));
    let known = Caller::authenticated("a", 1);
    assert_eq!(known.account(), AccountKey::Identity("a".into()));
    assert_eq!(known.clone().with_address([192, 0, 2, 1].into()), known);
    assert_eq!(Caller::new("a").account(), AccountKey::Name("a".into()));
}

#[test]
fn callers_of_one_user_have_one_account_whatever_their_names() {
    let at = |name: &str, uid: u32| Caller::new(name).with_peer(RemotePeer::User(uid)).account();
    assert_eq!(at("a", 1), at("b", 1));
    assert_ne!(at("a", 1), at("a", 2));
    assert_eq!(at("a", 1), AccountKey::from_peer(RemotePeer::User(1)));
    assert_eq!(RemotePeer::User(7).to_string(), "uid:7");
    assert_eq!(RemotePeer::Address("::ffff:10.0.0.1".parse().unwrap()).to_string(), "10.0.0.1");
}
