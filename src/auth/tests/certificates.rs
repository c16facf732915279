//! Names and ends of certificates that rcgen made.

use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::CertificateDer;

use crate::auth::{AuthMethod, certificate};

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn made(names: Vec<SanType>, until: (i32, u8, u8)) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.not_before = date_time_ymd(1975, 1, 1);
    params.not_after = date_time_ymd(until.0, until.1, until.2);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

#[test]
fn a_caller_is_named_by_the_first_uri_else_the_first_dns_name() {
    let spiffe = "spiffe://cluster.local/ns/shop/sa/billing";
    for (names, caller) in [
        (vec![uri(spiffe)], Some(spiffe)),
        (vec![dns("billing.shop.svc"), uri(spiffe), uri("spiffe://x/y")], Some(spiffe)),
        (vec![dns("billing.shop.svc"), dns("b")], Some("billing.shop.svc")),
        (vec![dns("*.shop.svc")], None),
        (vec![uri("spiffe://x/*")], None),
        (vec![uri(&"x".repeat(513)), dns("billing.shop.svc")], None),
        (vec![uri("spiffe://x/a b"), dns("billing.shop.svc")], None),
        (vec![SanType::IpAddress("10.0.0.1".parse().unwrap())], None),
        // The common name, which rcgen gives every certificate, names no one.
        (vec![], None),
    ] {
        let identity = certificate::identity(&made(names.clone(), (2040, 1, 1)));
        assert_eq!(identity.as_ref().map(|identity| identity.name()), caller, "{names:?}");
        assert!(identity.is_none_or(|identity| identity.method() == AuthMethod::Certificate));
    }
}

#[test]
fn the_end_of_a_certificate_is_read_before_and_after_2050() {
    for (until, text) in [
        ((1999, 12, 31), "1999-12-31T00:00:00Z"),
        ((2030, 2, 28), "2030-02-28T00:00:00Z"),
        ((2049, 12, 31), "2049-12-31T00:00:00Z"),
        ((2050, 1, 1), "2050-01-01T00:00:00Z"),
        ((4096, 1, 1), "4096-01-01T00:00:00Z"),
    ] {
        let expires = certificate::expires(&made(vec![dns("a")], until)).unwrap();
        assert_eq!(expires.to_string(), text);
    }
    assert_eq!(certificate::expires(&CertificateDer::from(vec![])), None);
}

proptest! {
    #[test]
    fn a_broken_certificate_never_panics(at in 0_usize..400, byte in any::<u8>(), length in 0_usize..500) {
        let mut der = made(vec![dns("a"), uri("spiffe://x/y")], (2040, 1, 1)).as_ref().to_vec();
        let at = at % der.len();
        der[at] = byte;
        der.truncate(length);
        let der = CertificateDer::from(der);
        let _ = (certificate::expires(&der), certificate::identity(&der));
    }
}
