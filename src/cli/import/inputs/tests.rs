//! Tests of inputs: their keys, properties and contacts.

use super::*;
use crate::cli::{
    file_kind::{Compression, Format},
    import::mapping::Pair,
};

fn options(id_property: Option<&str>) -> Options {
    Options {
        file_bytes: 0,
        id_property: id_property.map(str::to_owned),
        contact_id: Some("101".into()),
        create_contacts: false,
        clear_empty: false,
        dry_run: false,
        map: Vec::new(),
    }
}

fn inputs(text: &str, pairs: &[&str], options: &Options) -> Vec<Input> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leads.csv");
    std::fs::write(&file, text).unwrap();
    let pairs: Vec<Pair> = pairs.iter().map(|pair| pair.parse().unwrap()).collect();
    let rows = Rows::open(&file, Format::Csv, Compression::None).unwrap();
    let mapping = Mapping::new(&pairs, options.id_property.as_deref())
        .creating_contacts(options.create_contacts);
    let mut inputs = Inputs::new(rows, mapping, options);
    let mut all = Vec::new();
    while let Some(input) = inputs.next().unwrap() {
        all.push(input);
    }
    all
}

const TEXT: &str = "key,Mail,hs_lead_name,label\nk1,ada@example.com,007,\nk2,,Bob,HOT\n";

const PAIRS: [&str; 2] = ["Mail=contact.email", "label=hs_lead_label"];

fn contact(contact: Option<&pb::ContactReference>) -> Key {
    contact.unwrap().key.clone().unwrap()
}

#[test]
fn rows_create_leads_under_their_number() {
    let rows = inputs(TEXT, &PAIRS, &options(None));
    let create = |input: Input| {
        let Some(Write::Create(create)) = input.row.write else { panic!("{input:?}") };
        (input.number, input.row.key, create)
    };
    let creates: Vec<_> = rows.into_iter().map(create).collect();
    let properties = |index: usize| -> Vec<(&str, &str)> {
        let all = creates[index].2.properties.iter();
        all.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    };
    assert_eq!((creates[0].0, creates[0].1.as_str()), (1, "1"));
    assert_eq!((creates[1].0, creates[1].1.as_str()), (2, "2"));
    assert_eq!(properties(0), [("hs_lead_name", "007"), ("key", "k1")]);
    assert_eq!(properties(1), [("hs_lead_label", "HOT"), ("hs_lead_name", "Bob"), ("key", "k2")]);
    assert_eq!(contact(creates[0].2.contact.as_ref()), Key::Email("ada@example.com".into()));
    assert_eq!(contact(creates[1].2.contact.as_ref()), Key::Id("101".into()));
}

#[test]
fn rows_with_an_id_property_are_upserts() {
    for (id_property, pairs, id, has_contact) in [
        ("key", &PAIRS[..], "k1", true),
        // A record id names a lead that exists and has a contact.
        (RECORD_ID, &[PAIRS[0], PAIRS[1], "key=hs_object_id"], "k1", false),
    ] {
        let clearing = Options { clear_empty: true, ..options(Some(id_property)) };
        let row = inputs(TEXT, pairs, &clearing).remove(0).row;
        let Some(Write::Upsert(upsert)) = row.write else { panic!("{row:?}") };
        assert_eq!((upsert.id.as_str(), upsert.id_property.as_str()), (id, id_property));
        assert_eq!(upsert.properties["hs_lead_label"], "");
        assert!(!upsert.properties.contains_key("key"), "{upsert:?}");
        assert_eq!(upsert.contact.is_some(), has_contact);
    }
}

#[test]
fn missing_contacts_are_created_by_address_only_and_labels_stand_for_ids() {
    let text = "Mail,First,hs_lead_name,Stage\nada@example.com,Ada,a,New\n,Bob,b,\n";
    let pairs = ["Mail=contact.email", "First=contact.firstname", "Stage=labels.hs_pipeline_stage"];
    let creating = Options { create_contacts: true, ..options(None) };
    let rows = inputs(text, &pairs, &creating);
    let create = |input: Input| {
        let Some(Write::Create(create)) = input.row.write else { panic!("{input:?}") };
        (create.contact.unwrap().create_if_missing, create.labels)
    };
    let creates: Vec<_> = rows.into_iter().map(create).collect();
    let map = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let created = Some(pb::NewContact { properties: map("firstname", "Ada") });
    assert_eq!(creates[0], (created, map("hs_pipeline_stage", "New")));
    // The second row has the contact of --contact-id.
    assert_eq!(creates[1], (None, BTreeMap::new()));
    let plain = inputs(text, &pairs, &options(None)).remove(0);
    assert_eq!(create(plain).0, None);
}
