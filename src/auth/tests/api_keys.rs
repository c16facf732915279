//! Lookup of API keys by their hashes.

use std::collections::BTreeMap;

use crate::auth::api_keys::Hashes;
use leadsd_base::secret::Secret;

/// API keys with the output of `printf %s KEY | sha256sum`.
const BILLING: (&str, &str) =
    ("billing-key-0123456789", "0b0dad4080ba33f6785c296bf66e2ba506951e57ebce5bc39216ae7a464297b1");
const REPORTS: (&str, &str) =
    ("reports-key-0123456789", "713926e4a54bad0364af17bc75c1f09ac9fec38a4f73019c3b3385539739482f");

fn hashes(entries: &[(&str, &str)]) -> Hashes {
    let entry = |(name, text): &(&str, &str)| ((*name).to_owned(), Secret::new(*text));
    Hashes::parse(&entries.iter().map(entry).collect::<BTreeMap<_, _>>())
}

fn owner(hashes: &Hashes, key: &str) -> Option<String> {
    hashes.owner(key.as_bytes()).map(|identity| identity.name().to_owned())
}

#[test]
fn a_key_belongs_to_the_caller_with_its_hash() {
    let known = hashes(&[("billing", BILLING.1), ("reports", &REPORTS.1.to_uppercase())]);
    assert_eq!(owner(&known, BILLING.0).as_deref(), Some("billing"));
    assert_eq!(owner(&known, REPORTS.0).as_deref(), Some("reports"));
    for wrong in ["", "billing", "billing-key-0123456788", "billing-key-0123456789 ", BILLING.1] {
        assert_eq!(owner(&known, wrong), None, "{wrong:?}");
    }
    assert_eq!(owner(&hashes(&[]), BILLING.0), None);
}

#[test]
fn a_caller_may_have_two_keys_during_a_rotation() {
    let both = format!(" {} , {}\n", BILLING.1, REPORTS.1);
    let known = hashes(&[("billing", &both)]);
    for (key, _) in [BILLING, REPORTS] {
        assert_eq!(owner(&known, key).as_deref(), Some("billing"));
    }
    let twice = format!("{},{}", BILLING.1, BILLING.1);
    assert_eq!(owner(&hashes(&[("billing", &twice)]), BILLING.0).as_deref(), Some("billing"));
}

#[test]
fn an_invalid_hash_is_skipped_and_others_are_kept() {
    let third = format!("{},{},{}", BILLING.1, REPORTS.1, "0".repeat(64));
    let odd = format!("{}z", &BILLING.1[1..]);
    for bad in ["", BILLING.0, &BILLING.1[1..], &odd, &third, &format!("{},", BILLING.1)] {
        let known = hashes(&[("billing", bad), ("reports", REPORTS.1), ("no name", BILLING.1)]);
        assert_eq!(owner(&known, BILLING.0), None, "{bad:?}");
        assert_eq!(owner(&known, REPORTS.0).as_deref(), Some("reports"), "{bad:?}");
    }
}

#[test]
fn a_key_of_two_callers_belongs_to_neither() {
    let known = hashes(&[("billing", BILLING.1), ("reports", BILLING.1)]);
    assert_eq!(owner(&known, BILLING.0), None);
}

#[test]
fn hashes_of_empty_and_of_short_keys_are_rejected() {
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let newline = "01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b";
    for hash in [nothing, newline] {
        assert_eq!(owner(&hashes(&[("billing", hash)]), ""), None);
        assert_eq!(owner(&hashes(&[("billing", hash)]), "\n"), None);
    }
    // printf %s hunter2 | sha256sum
    let short = "f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7";
    assert_eq!(owner(&hashes(&[("billing", short)]), "hunter2"), None);
}
