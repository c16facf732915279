//! Scans of encoded messages of the contract: what they accept, and that memory is what they compute.

use std::{collections::BTreeMap, hint::black_box, sync::LazyLock};

use allocation_counter::measure;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::{
    grpc::{
        convert,
        methods::Methods,
        pb::{self, import_leads_request::Content, typed_value::Kind},
    },
    leads::PortalName,
};

/// Maximum number of inputs of a batch.
const MAX_INPUTS: usize = 2_000;

fn scanner(method: &str) -> MessageScanner {
    static METHODS: LazyLock<Methods> = LazyLock::new(|| Methods::new(MAX_INPUTS));
    let methods = &*METHODS;
    let found = methods.get(methods.find(&format!("/leadsd.v1.LeadsService/{method}")));
    assert!(!found.is_unknown());
    MessageScanner::new(found.request.shape.clone())
}

/// Scans a whole message. Returns the bytes that it takes when decoded.
fn scan(method: &str, message: &[u8]) -> Result<usize, ScanError> {
    let mut scanner = scanner(method);
    scanner.start(message.len());
    scanner.scan(message)?;
    Ok(scanner.decoded())
}

fn too_many(field: &str, max: u32) -> ScanError {
    ScanError::TooMany { field: field.to_owned(), max }
}

fn in_parts(field: &str) -> ScanError {
    ScanError::InParts { field: field.to_owned() }
}

/// A field of wire type 2.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    bytes.extend(content);
    bytes
}

#[test]
fn a_search_with_millions_of_empty_filters_is_stopped_at_the_first_ones() {
    let group = [10, 0].repeat(2_097_144);
    let message = field(2, &group);
    let mut scanner = scanner("SearchLeads");
    scanner.start(message.len());
    let stopped = scanner.scan(&message).unwrap_err();
    assert_eq!(stopped, too_many("filter_groups[0].filters", 6));
    assert!(scanner.position < 32, "{}", scanner.position);
    assert!(scanner.decoded() < 4_096);
}

#[test]
fn the_error_names_the_field_by_its_path() {
    let second = [field(1, &[]), field(1, &field(3, &field(2, &[]).repeat(101)))].concat();
    assert_eq!(
        scan("BatchCreateLeads", &second),
        Err(too_many("inputs[1].associations[0].types", 100))
    );
    let properties = field(1, &[]).repeat(2_001);
    assert_eq!(scan("CreateLead", &properties), Err(too_many("properties", 2_000)));
    let inputs = field(1, &[]).repeat(MAX_INPUTS + 1);
    for (method, name) in
        [("BatchGetLeads", "ids"), ("BatchCreateLeads", "inputs"), ("BatchArchiveLeads", "ids")]
    {
        assert_eq!(scan(method, &inputs), Err(too_many(name, 2_000)));
        scan(method, &inputs[2..]).unwrap();
    }
    assert_eq!(scan("SearchLeads", &field(3, &[]).repeat(2)), Err(too_many("sorts", 1)));
}

#[test]
fn elements_of_a_message_that_is_sent_in_parts_are_counted_together() {
    // Two parts of one row, and of its create.
    let create = field(2, &field(2, &field(1, &[]).repeat(1_500)));
    let fits = [create.clone(), field(2, &field(3, &[]))].concat();
    scan("ImportLeads", &fits).unwrap();
    let decoded = pb::ImportLeadsRequest::decode(&*create.repeat(2)).unwrap();
    assert!(decoded.content.is_some(), "prost merges both parts");
    let expected = too_many("row.create.properties", 2_000);
    assert_eq!(scan("ImportLeads", &create.repeat(2)), Err(expected));
    // An update replaces the create, and so would a second create.
    let update = field(2, &field(3, &field(3, &[]).repeat(1_500)));
    scan("ImportLeads", &[&create[..], &update].concat()).unwrap();
    let parts = [&create[..], &update, &create].concat();
    assert_eq!(scan("ImportLeads", &parts), Err(in_parts("row.create")));
    // Another message comes between two parts of a contact.
    let contact = field(7, &field(3, &field(1, &[]).repeat(20)));
    let property = field(15, &field(1, b"p"));
    scan("CreateLead", &[&contact[..], &property].concat()).unwrap();
    let parts = [&contact[..], &property, &contact].concat();
    assert_eq!(scan("CreateLead", &parts), Err(in_parts("contact")));
    // Two parts of the values of one property, in one value and in two.
    let values = field(7, &field(1, &[]).repeat(600));
    let property = |value: &[u8]| field(15, &[field(1, b"p"), value.to_vec()].concat());
    let (one, two) = (field(2, &values.repeat(2)), field(2, &values).repeat(2));
    let expected = too_many("typed_properties.value.enum_values.values", 1_000);
    for value in [one, two] {
        assert_eq!(scan("CreateLead", &property(&value)).unwrap_err(), expected);
    }
    // Two properties.
    scan("CreateLead", &property(&field(2, &values)).repeat(2)).unwrap();
}

#[test]
fn unknown_fields_and_groups_are_skipped() {
    // Unknown fields of each wire type, a group with a nested group, then a known field.
    let mut message = vec![0x98, 0x06, 0x96, 0x01];
    message.extend([0x99, 0x06, 1, 2, 3, 4, 5, 6, 7, 8, 0x9d, 0x06, 1, 2, 3, 4]);
    message.extend([0x9a, 0x06, 3, 10, 0, 10]);
    message.extend([0x9b, 0x06, 10, 1, 7, 0xa3, 0x06, 0x08, 1, 0xa4, 0x06, 0x9c, 0x06]);
    message.extend(field(1, b"7"));
    let decoded = pb::GetLeadRequest::decode(&*message).unwrap();
    assert_eq!(decoded.id, "7");
    assert_eq!(scan("GetLead", &message), Ok(1 + ALLOCATION));
}

#[test]
fn malformed_messages_are_rejected() {
    let unclosed_groups = [0x9b, 0x06].repeat(101);
    for message in [
        &[0][..],
        &[7],
        &[0x0e],
        &[0x0f],
        &[0xff; 11],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
        &[0x08, 1],
        &[0x09],
        &[0x0a, 5, 1],
        &[0x0b],
        &[0x0c],
        &[0x9d, 0x06, 1, 2],
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &unclosed_groups,
    ] {
        let scanned = scan("GetLead", message);
        assert!(matches!(scanned, Err(ScanError::Malformed(_))), "{message:?}: {scanned:?}");
        assert!(pb::GetLeadRequest::decode(message).is_err(), "{message:?}");
    }
    // A message that exceeds the one around it.
    let inner = [&[0x0a, 2][..], &[0x0a, 9]].concat();
    assert!(scan("BatchCreateLeads", &inner).is_err());
}

/// Heap of a decoded message, and the peak while it is decoded and converted.
struct Memory {
    live: usize,
    peak: usize,
}

/// Decodes and converts a message, and measures the memory.
fn decode<M: Message + Default>(bytes: &[u8], convert: impl FnOnce(M) -> bool) -> Memory {
    let mut live = 0;
    let info = measure(|| {
        let mut message = None;
        live = measure(|| message = M::decode(black_box(bytes)).ok()).bytes_current;
        black_box(message.map(convert));
    });
    Memory { live: usize::try_from(live).unwrap(), peak: usize::try_from(info.bytes_max).unwrap() }
}

/// Asserts that a decoded message takes what the scan computes.
fn assert_covered<M: Message + Default>(
    method: &str,
    bytes: &[u8],
    convert: impl FnOnce(M) -> bool,
) {
    let Ok(decoded) = scan(method, bytes) else { return };
    let Memory { live, peak } = decode(bytes, convert);
    // A handful of small allocations is not worth a count.
    assert!(live <= decoded + 256, "{method}: {live} bytes, computed {decoded}");
    let charged = bytes.len() + 2 * decoded;
    assert!(peak <= 2 * charged + 4_096, "{method}: peak {peak} bytes, charged {charged}");
}

/// Asserts the same for a message of any method.
fn assert_all_covered(bytes: &[u8]) {
    let portal = PortalName::parse("default").unwrap();
    let max = MAX_INPUTS;
    assert_covered::<pb::GetLeadRequest>("GetLead", bytes, |m| black_box(convert::get(m)).is_ok());
    assert_covered::<pb::ListLeadsRequest>("ListLeads", bytes, |m| {
        black_box(convert::list(m, &portal)).is_ok()
    });
    assert_covered::<pb::SearchLeadsRequest>("SearchLeads", bytes, |m| {
        black_box(convert::search(m, &portal)).is_ok()
    });
    assert_covered::<pb::CreateLeadRequest>("CreateLead", bytes, |m| {
        black_box(convert::create(m)).is_ok()
    });
    assert_covered::<pb::UpdateLeadRequest>("UpdateLead", bytes, |m| {
        black_box(convert::update(m)).is_ok()
    });
    assert_covered::<pb::UpsertLeadRequest>("UpsertLead", bytes, |m| {
        black_box(convert::upsert(m)).is_ok()
    });
    assert_covered::<pb::BatchGetLeadsRequest>("BatchGetLeads", bytes, |m| {
        black_box(convert::batch_get(m, max)).is_ok()
    });
    assert_covered::<pb::BatchCreateLeadsRequest>("BatchCreateLeads", bytes, |m| {
        black_box(convert::batch_create(m, max)).is_ok()
    });
    assert_covered::<pb::BatchUpdateLeadsRequest>("BatchUpdateLeads", bytes, |m| {
        black_box(convert::batch_update(m, max)).is_ok()
    });
    assert_covered::<pb::BatchUpsertLeadsRequest>("BatchUpsertLeads", bytes, |m| {
        black_box(convert::batch_upsert(m, max)).is_ok()
    });
    assert_covered::<pb::BatchArchiveLeadsRequest>("BatchArchiveLeads", bytes, |m| {
        black_box(convert::batch_archive(&m, max)).is_ok()
    });
    assert_covered::<pb::AssociateLeadRequest>("AssociateLead", bytes, |m| {
        black_box(convert::associate(m)).is_ok()
    });
    assert_covered::<pb::DissociateLeadRequest>("DissociateLead", bytes, |m| {
        black_box(convert::dissociate(m)).is_ok()
    });
    assert_covered::<pb::BatchAssociateLeadsRequest>("BatchAssociateLeads", bytes, |m| {
        black_box(convert::batch_associate(&m, max)).is_ok()
    });
    assert_covered::<pb::BatchDissociateLeadsRequest>("BatchDissociateLeads", bytes, |m| {
        black_box(convert::batch_dissociate(&m, max)).is_ok()
    });
    assert_covered::<pb::ExportLeadsRequest>("ExportLeads", bytes, |m| {
        black_box(convert::export(m)).is_ok()
    });
    assert_covered::<pb::ImportLeadsRequest>("ImportLeads", bytes, |m| match m.content {
        Some(Content::Row(row)) => black_box(convert::import_row(row)).is_ok(),
        Some(Content::Settings(settings)) => black_box(convert::import_settings(&settings)).is_ok(),
        None => false,
    });
}

/// Encoded fields, nested to some depth, with many small elements and few large ones.
fn fields(depth: u32) -> BoxedStrategy<Vec<u8>> {
    let leaf = prop_oneof![
        3 => Just(Vec::new()),
        3 => "[a-z0-9]{1,12}".prop_map(String::into_bytes),
        1 => prop::collection::vec(b'a'..=b'z', 0..3_000),
    ];
    let content = match depth {
        0 => leaf.boxed(),
        _ => prop_oneof![1 => leaf, 3 => fields(depth - 1)].boxed(),
    };
    let repeated = (1_u8..7, content, 1_usize..120).prop_map(|(number, content, times)| {
        let field = field(number, &content);
        // Deeper fields are repeated by those around them.
        field.repeat(times.min(1 + 20_000 / field.len()))
    });
    prop::collection::vec(repeated, 1..5).prop_map(|fields| fields.concat()).boxed()
}

/// Encoded properties of a lead with distinct names.
fn properties() -> impl Strategy<Value = Vec<u8>> {
    let values = prop::collection::vec("[ -~]{0,30}", 0..120);
    (values, 1_u8..4).prop_map(|(values, number)| {
        let entry = |(at, value): (usize, String)| {
            field(
                number,
                &[field(1, format!("p{at}").as_bytes()), field(2, value.as_bytes())].concat(),
            )
        };
        values.into_iter().enumerate().flat_map(entry).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_decoded_message_takes_no_more_than_computed(bytes in fields(3)) {
        assert_all_covered(&bytes);
    }

    #[test]
    fn a_decoded_batch_takes_no_more_than_computed(
        inputs in prop::collection::vec(properties(), 1..4),
        times in 1_usize..40,
    ) {
        let inputs: Vec<u8> = inputs.iter().flat_map(|input| field(1, input)).collect();
        assert_all_covered(&inputs.repeat(times));
    }

    #[test]
    fn a_message_that_prost_decodes_is_not_malformed(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        for method in ["GetLead", "CreateLead", "SearchLeads", "BatchCreateLeads"] {
            let is_valid = match method {
                "GetLead" => pb::GetLeadRequest::decode(&*bytes).is_ok(),
                "CreateLead" => pb::CreateLeadRequest::decode(&*bytes).is_ok(),
                "SearchLeads" => pb::SearchLeadsRequest::decode(&*bytes).is_ok(),
                _ => pb::BatchCreateLeadsRequest::decode(&*bytes).is_ok(),
            };
            let scanned = scan(method, &bytes);
            prop_assert!(!is_valid || !matches!(scanned, Err(ScanError::Malformed(_))), "{:?}", scanned);
        }
    }

    #[test]
    fn the_result_is_the_same_for_any_parts(
        bytes in prop_oneof![fields(2), prop::collection::vec(any::<u8>(), 0..60)],
        cuts in prop::collection::vec(1_usize..40, 1..20),
    ) {
        for method in ["GetLead", "SearchLeads", "BatchCreateLeads"] {
            let mut scanner = scanner(method);
            // The length of a compressed message is not known before its end.
            for length in [bytes.len(), usize::MAX] {
                scanner.start(length);
                let whole = scanner.scan(&bytes).map(|()| scanner.decoded());
                scanner.start(length);
                let (mut rest, mut cuts, mut parts) = (bytes.as_slice(), cuts.iter().cycle(), Ok(()));
                while parts.is_ok() && !rest.is_empty() {
                    let (part, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                    parts = scanner.scan(part);
                    rest = later;
                }
                prop_assert_eq!(parts.map(|()| scanner.decoded()), whole);
            }
        }
    }
}

#[test]
fn large_legitimate_batches_take_no_more_than_computed() {
    for text in ["", "7", "a value of some length", &"x".repeat(500)] {
        let value = |at| (format!("property_{at}"), text.to_owned());
        let properties: BTreeMap<_, _> = (0..20).map(value).collect();
        let input = pb::LeadCreate {
            properties,
            primary_contact_id: "101".to_owned(),
            ..Default::default()
        };
        let batch =
            pb::BatchCreateLeadsRequest { inputs: vec![input; 1_000], ..Default::default() };
        let bytes = batch.encode_to_vec();
        assert_all_covered(&bytes);
        let computed = scan("BatchCreateLeads", &bytes).unwrap();
        let live = decode::<pb::BatchCreateLeadsRequest>(&bytes, |_| true).live;
        assert!(computed <= 3 * live, "{computed} bytes computed, {live} taken");
    }
}

#[test]
fn typed_properties_take_no_more_than_computed() {
    let list = |count| {
        let values = (0..count).map(|at| format!("value {at}")).collect();
        Kind::EnumValues(pb::EnumValues { values })
    };
    for kind in [
        Kind::BoolValue(true),
        Kind::Int64Value(i64::MIN),
        Kind::DecimalValue("12.5".to_owned()),
        Kind::StringValue("x".repeat(500)),
        Kind::TimestampValue(prost_types::Timestamp { seconds: 1, nanos: 1_000_000 }),
        Kind::DateValue(pb::Date { year: 2026, month: 11, day: 30 }),
        list(0),
        list(1),
        list(40),
    ] {
        let value = pb::TypedValue { kind: Some(kind.clone()) };
        for count in [1, 11, 12, 60] {
            let value = |at| (format!("property_{at}"), value.clone());
            let typed_properties: BTreeMap<_, _> = (0..count).map(value).collect();
            let input = pb::LeadUpdate { typed_properties, ..Default::default() };
            let inputs = vec![pb::LeadUpdate { id: "1".to_owned(), ..input }; 100];
            let batch = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
            let bytes = batch.encode_to_vec();
            assert_all_covered(&bytes);
            let computed = scan("BatchUpdateLeads", &bytes).unwrap();
            let live = decode::<pb::BatchUpdateLeadsRequest>(&bytes, |_| true).live;
            assert!(computed <= 3 * live, "{computed} bytes computed, {live} taken: {kind:?}");
        }
    }
}

#[test]
fn a_scan_allocates_nothing() {
    let bytes =
        field(1, &field(1, &[field(1, b"a"), field(2, b"b")].concat()).repeat(20)).repeat(100);
    let mut scanner = scanner("BatchCreateLeads");
    let info = measure(|| {
        scanner.start(bytes.len());
        scanner.scan(black_box(&bytes)).unwrap();
    });
    assert_eq!(info.count_total, 0);
}
