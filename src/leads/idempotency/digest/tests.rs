//! Fixed digests: replicas of different versions compare them.

use super::*;
use crate::leads::{
    AssociationCategory, PortalName, RequestId, contacts::ContactEmail, write::LEAD_NAME,
};
use leadsd_quota::Caller;

fn key() -> IdempotencyKey {
    IdempotencyKey {
        caller: Caller::new("web"),
        portal: PortalName::parse("default").unwrap(),
        request_id: RequestId::parse("7d0c3f52").unwrap(),
    }
}

fn create() -> CreateLead {
    CreateLead {
        properties: BTreeMap::from([(LEAD_NAME.to_owned(), "Ada".to_owned())]),
        associations: vec![Association {
            to_id: LeadId::parse("17").unwrap(),
            types: vec![AssociationType::PRIMARY_CONTACT],
            position: None,
        }],
        contact: None,
        trace_id: None,
    }
}

fn hex(digest: ContentDigest) -> String {
    RecordKey(digest.0).to_hex()
}

#[test]
fn digests_of_this_version_never_change() {
    assert_eq!(VERSION, 1);
    assert_eq!(
        RecordKey::new(&key()).to_hex(),
        "7ae7ac1a9b264ab9552fb6cc88c07db31f8b5c705188136ed9ec26059b505a20"
    );
    assert_eq!(
        hex(ContentDigest::new(&key(), "create", &create())),
        "6f88ddf2806c594bbbc2750655eec1f9a561d8d653d5027b1241b00f870c579d"
    );
}

#[test]
fn labels_are_content_and_an_input_without_any_has_the_digest_of_its_values() {
    let digest = |own: &Labelled<Traced<CreateLead>>| ContentDigest::new(&key(), "create", own);
    let traced = |trace_id: &str| Traced { trace_id: trace_id.to_owned(), input: create() };
    let plain = Labelled::from(traced("t"));
    assert_eq!(digest(&plain), ContentDigest::new(&key(), "create", &create()));
    let labelled = |property: &str, label: &str, to: &str| {
        let properties = BTreeMap::from([(property.to_owned(), label.to_owned())]);
        let own = AssociationLabel {
            association: None,
            index: 0,
            to: to.to_owned(),
            label: label.to_owned(),
        };
        let associations = vec![own];
        let labels = Labels { properties, associations, ..Labels::default() };
        Labelled { input: traced("u"), labels }
    };
    let inputs = [labelled("a", "b", "c"), labelled("a", "c", "c"), labelled("a", "b", "d"), plain];
    let digests: std::collections::HashSet<_> = inputs.iter().map(digest).collect();
    assert_eq!(digests.len(), 4);
}

#[test]
fn trace_ids_are_not_content_and_everything_else_is() {
    let digest = |create: &CreateLead| ContentDigest::new(&key(), "create", create);
    let traced = CreateLead { trace_id: Some("t".to_owned()), ..create() };
    assert_eq!(digest(&create()), digest(&traced));
    let mut others = vec![digest(&create())];
    others.push(ContentDigest::new(&key(), "upsert", &create()));
    others.push(digest(&CreateLead { associations: Vec::new(), ..create() }));
    let by_email = |email: &str| CreateLead {
        contact: Some(ContactByEmail {
            email: ContactEmail::parse(email).unwrap(),
            create_if_missing: None,
        }),
        ..create()
    };
    others.extend(["a@x.de", "b@x.de"].map(|email| digest(&by_email(email))));
    let creating = |name: &str| {
        let properties = BTreeMap::from([("firstname".to_owned(), name.to_owned())]);
        let mut create = by_email("a@x.de");
        let contact = create.contact.as_mut().unwrap();
        contact.create_if_missing = Some(ContactProperties(properties));
        create
    };
    others.extend(["Ada", "Alan"].map(|name| digest(&creating(name))));
    assert_eq!(digest(&by_email("A@X.de")), digest(&by_email("a@x.de")), "case is no content");
    let with = |name: &str, value: &str| CreateLead {
        properties: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ..create()
    };
    // Texts are not joined: "ab" and "c" differ from "a" and "bc".
    others.extend([with("ab", "c"), with("a", "bc"), with("", "abc")].map(|one| digest(&one)));
    let mut labelled = create();
    labelled.associations[0].types[0].category = AssociationCategory::UserDefined;
    others.push(digest(&labelled));
    let update = |id_property: Option<&str>| UpdateLead {
        id: LeadId::parse("1").unwrap(),
        id_property: id_property.map(str::to_owned),
        properties: BTreeMap::new(),
        trace_id: None,
    };
    let update_digest = |update: &UpdateLead| ContentDigest::new(&key(), "update", update);
    others.extend([None, Some(""), Some("x")].map(|property| update_digest(&update(property))));
    let id = |text: &str| LeadId::parse(text).unwrap();
    let archive = |ids: &Vec<LeadId>| ContentDigest::new(&key(), "batch_archive", ids);
    others.extend(
        [vec![id("1"), id("2")], vec![id("2"), id("1")], vec![id("12")]].map(|ids| archive(&ids)),
    );
    let count = others.len();
    let distinct: std::collections::HashSet<_> = others.into_iter().collect();
    assert_eq!(distinct.len(), count);
}

#[test]
fn the_request_id_is_part_of_the_digest_of_the_content() {
    let other = IdempotencyKey { request_id: RequestId::parse("other").unwrap(), ..key() };
    assert_ne!(
        ContentDigest::new(&key(), "create", &create()),
        ContentDigest::new(&other, "create", &create())
    );
}

#[test]
fn a_change_of_a_weight_does_not_change_the_caller() {
    let keys = [1, 7].map(|weight| {
        let caller = Caller::authenticated("billing", weight);
        RecordKey::new(&IdempotencyKey { caller, ..key() })
    });
    assert_eq!(keys[0], keys[1]);
}
