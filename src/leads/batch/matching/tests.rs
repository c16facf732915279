//! Results of batches without trace ids, of merged leads, and of unique values in several spellings.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::leads::{
    LEAD_NAME,
    batch::input::{MERGED_IDS, ReadInput},
    error::AffectedInputs,
    lead::Lead,
    query::LeadId,
    write::{CreateLead, Traced, UpdateLead},
};

type Values<'a> = &'a [(&'a str, &'a str)];

fn properties(values: Values<'_>) -> BTreeMap<String, String> {
    values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn item(id: &str, values: Values<'_>) -> BatchItem {
    let lead = Lead { id: id.to_owned(), properties: properties(values), ..Lead::default() };
    BatchItem { lead, trace_id: None, created: None }
}

fn create(number: usize, values: Values<'_>) -> Traced<CreateLead> {
    let input = CreateLead {
        properties: properties(values),
        associations: Vec::new(),
        contact: None,
        trace_id: None,
    };
    Traced { trace_id: format!("trace-{number}"), input }
}

fn update(id: &str, id_property: Option<&str>, values: Values<'_>) -> Traced<UpdateLead> {
    let input = UpdateLead {
        id: lead_id(id),
        id_property: id_property.map(str::to_owned),
        properties: properties(values),
        trace_id: None,
    };
    Traced { trace_id: format!("trace-{id}"), input }
}

fn read(id: &str, id_property: Option<&str>) -> ReadInput {
    ReadInput { id: lead_id(id), id_property: id_property.map(str::to_owned) }
}

fn lead_id(id: &str) -> LeadId {
    LeadId::parse_for_body(id).expect("a valid id")
}

fn unnamed_error() -> Error {
    Error::new(Reason::ValidationFailed, "no such option")
}

/// Ids of the matched results, in input order.
fn matched<I: BatchInput>(
    inputs: &[I],
    results: Vec<BatchItem>,
    errors: Vec<Error>,
) -> Vec<Option<String>> {
    let (outcomes, _) = match_response(inputs, BatchResponse { results, errors }, is_affected);
    let id = |outcome: Outcome| outcome.ok().flatten().map(|item| item.lead.id);
    outcomes.into_iter().map(|outcome| outcome.and_then(id)).collect()
}

/// One batch of creates: written values, shown values in the order of the response with the number of
/// the input that each belongs to, and the numbers of the inputs that are matched.
struct Creates<'a> {
    name: &'a str,
    written: &'a [Values<'a>],
    shown: &'a [(usize, Values<'a>)],
    has_error: bool,
    matched: &'a [usize],
}

const CREATES: [Creates<'_>; 13] = [
    Creates {
        name: "a date in another form does not veto",
        written: &[
            &[("hs_lead_name", "n1"), ("close_date", "1767225600000")],
            &[("hs_lead_name", "n2")],
            &[("hs_lead_name", "n3")],
        ],
        shown: &[
            (2, &[("hs_lead_name", "n3")]),
            (1, &[("hs_lead_name", "n2")]),
            (0, &[("hs_lead_name", "n1"), ("close_date", "2026-01-01")]),
        ],
        has_error: false,
        matched: &[0, 1, 2],
    },
    Creates {
        name: "number, flag, case, spaces and labels do not veto",
        written: &[
            &[("hs_lead_name", " N1 "), ("size", "1.0"), ("is_new", "1")],
            &[("hs_lead_name", "n2"), ("size", "1e1"), ("hs_lead_type", "NEW_BUSINESS")],
        ],
        shown: &[
            (1, &[("hs_lead_name", "n2"), ("size", "10"), ("hs_lead_type", "New business")]),
            (0, &[("hs_lead_name", "n1"), ("size", "1"), ("is_new", "true")]),
        ],
        has_error: true,
        matched: &[0, 1],
    },
    Creates {
        name: "dates of equal names are compared in their meaning",
        written: &[
            &[("hs_lead_name", "n"), ("close_date", "1767225600000")],
            &[("hs_lead_name", "n"), ("close_date", "1767312000000")],
        ],
        shown: &[
            (1, &[("hs_lead_name", "n"), ("close_date", "2026-01-02")]),
            (0, &[("hs_lead_name", "n"), ("close_date", "2026-01-01")]),
        ],
        has_error: true,
        matched: &[0, 1],
    },
    Creates {
        name: "lists in another order and entities do not veto",
        written: &[
            &[("hs_lead_name", "Tom & Co"), ("regions", "EAST;WEST")],
            &[("hs_lead_name", "Ann & Co"), ("regions", "EAST")],
        ],
        shown: &[
            (1, &[("hs_lead_name", "Ann &amp; Co"), ("regions", "EAST")]),
            (0, &[("hs_lead_name", "Tom &amp; Co"), ("regions", "WEST;EAST")]),
        ],
        has_error: true,
        matched: &[0, 1],
    },
    Creates {
        name: "other values that HubSpot sets decide nothing",
        written: &[&[("hs_lead_name", "a")], &[("hs_lead_name", "b"), ("note", "")]],
        shown: &[
            (1, &[("hs_lead_name", "b"), ("hs_pipeline", "p"), ("note", "default")]),
            (0, &[("hs_lead_name", "a"), ("hs_pipeline", "p")]),
        ],
        has_error: false,
        matched: &[0, 1],
    },
    Creates {
        name: "one input wrote a part of what the other wrote",
        written: &[&[("hs_lead_name", "a")], &[("hs_lead_name", "a"), ("hs_lead_label", "HOT")]],
        shown: &[
            (1, &[("hs_lead_name", "a"), ("hs_lead_label", "HOT")]),
            (0, &[("hs_lead_name", "a")]),
        ],
        has_error: false,
        matched: &[0, 1],
    },
    Creates {
        name: "names that differ in case only, which HubSpot keeps",
        written: &[&[("hs_lead_name", "ada")], &[("hs_lead_name", "Ada")]],
        shown: &[(1, &[("hs_lead_name", "Ada")]), (0, &[("hs_lead_name", "ada")])],
        has_error: false,
        matched: &[0, 1],
    },
    Creates {
        name: "equal inputs are not distinguished",
        written: &[&[("hs_lead_name", "a")], &[("hs_lead_name", "a")], &[("hs_lead_name", "b")]],
        shown: &[
            (2, &[("hs_lead_name", "b")]),
            (1, &[("hs_lead_name", "a")]),
            (0, &[("hs_lead_name", "a")]),
        ],
        has_error: false,
        matched: &[2],
    },
    Creates {
        name: "one of two equal inputs failed",
        written: &[&[("hs_lead_name", "a")], &[("hs_lead_name", "a")]],
        shown: &[(0, &[("hs_lead_name", "a")])],
        has_error: true,
        matched: &[],
    },
    Creates {
        name: "a plain difference outweighs an agreement",
        written: &[
            &[("hs_lead_name", "a"), ("hs_lead_label", "HOT")],
            &[("hs_lead_name", "b"), ("hs_lead_label", "HOT")],
        ],
        shown: &[(1, &[("hs_lead_name", "other"), ("hs_lead_label", "HOT")])],
        has_error: true,
        matched: &[],
    },
    Creates {
        name: "results without values match nothing",
        written: &[&[("hs_lead_name", "a")], &[("hs_lead_name", "b")]],
        shown: &[(1, &[]), (0, &[])],
        has_error: false,
        matched: &[],
    },
    Creates {
        name: "the last result is that of the last input",
        written: &[&[("hs_lead_name", "a")], &[("hs_lead_name", "b")]],
        shown: &[(1, &[]), (0, &[("hs_lead_name", "a")])],
        has_error: false,
        matched: &[0, 1],
    },
    Creates {
        name: "the last result shows another value",
        written: &[&[("hs_lead_name", "a")], &[("hs_lead_name", "b")]],
        shown: &[(1, &[("hs_lead_name", "c")]), (0, &[("hs_lead_name", "a")])],
        has_error: false,
        matched: &[0],
    },
];

#[test]
fn creates_without_trace_ids_are_matched_by_what_agrees_and_is_unique() {
    for Creates { name, written, shown, has_error, matched: expected } in CREATES {
        let inputs: Vec<_> =
            written.iter().enumerate().map(|(number, values)| create(number, values)).collect();
        let results: Vec<_> =
            shown.iter().map(|(number, values)| item(&number.to_string(), values)).collect();
        let errors = if has_error { vec![unnamed_error()] } else { Vec::new() };
        let expected: Vec<_> = (0..inputs.len())
            .map(|number| expected.contains(&number).then(|| number.to_string()))
            .collect();
        assert_eq!(matched(&inputs, results, errors), expected, "{name}");
    }
}

#[test]
fn the_only_result_is_that_of_the_only_create_whatever_it_shows() {
    let inputs = [create(0, &[(LEAD_NAME, "a"), ("regions", "EAST;WEST")])];
    let shown: [Values<'_>; 4] = [
        &[(LEAD_NAME, "a"), ("regions", "WEST;EAST")],
        &[(LEAD_NAME, "b"), ("regions", "NORTH")],
        &[(LEAD_NAME, "b")],
        &[],
    ];
    let none = vec![None];
    for shown in shown {
        let found = |errors| matched(&inputs, vec![item("1", shown)], errors);
        assert_eq!(found(Vec::new()), [Some("1".to_owned())], "{shown:?}");
        assert_eq!(matched(&inputs, vec![item("1", shown), item("2", shown)], Vec::new()), none);
    }
    let other = BatchItem { trace_id: Some("other".to_owned()), ..item("1", &[(LEAD_NAME, "b")]) };
    assert_eq!(matched(&inputs, vec![other], Vec::new()), none);
    // An update of another lead.
    let update = [update("7", Some("crm_key"), &[(LEAD_NAME, "a")])];
    assert_eq!(matched(&update, vec![item("1", &[(LEAD_NAME, "b")])], Vec::new()), none);
}

#[test]
fn updates_are_matched_by_key_or_else_by_what_they_wrote() {
    let key = Some("crm_key");
    let by_key = [
        update("K-1", key, &[("hs_lead_name", "a")]),
        update("k-2", key, &[("hs_lead_name", "b"), ("close_date", "1767225600000")]),
        update("k-3", key, &[("hs_lead_name", "a")]),
    ];
    let shown = |id: &str, key: &str| item(id, &[("crm_key", key), ("hs_lead_name", "a")]);
    let results =
        || vec![shown("3", "K-3"), item("2", &[("hs_lead_name", "b")]), shown("1", "k-1")];
    let all = ["1", "2", "3"].map(|id| Some(id.to_owned()));
    assert_eq!(matched(&by_key, results(), Vec::new()), all);
    // A failure that names no input decides nothing about the others.
    assert_eq!(matched(&by_key, results(), vec![unnamed_error()]), all);
    // Two merged leads: the results have other ids.
    let merged = [
        update("1", None, &[("hs_lead_name", "a"), ("size", "1.0")]),
        update("2", None, &[("hs_lead_name", "b")]),
        update("9", None, &[("hs_lead_name", "a"), ("size", "1.0")]),
    ];
    let shown = |id: &str, name: &str| item(id, &[("hs_lead_name", name), ("size", "1")]);
    let results = vec![shown("9", "a"), shown("102", "b"), shown("101", "a")];
    let expected = ["101", "102", "9"].map(|id| Some(id.to_owned()));
    assert_eq!(matched(&merged, results, Vec::new()), expected);
}

#[test]
fn a_write_does_not_share_its_result() {
    let key = Some("crm_key");
    let values = [("hs_lead_name", "a")];
    let inputs = [update("K-1", key, &values), update("k-1", key, &values)];
    let results = vec![item("1", &[("crm_key", "k-1"), ("hs_lead_name", "a")])];
    let (outcomes, _) =
        match_response(&inputs, BatchResponse { results, errors: Vec::new() }, is_affected);
    assert!(outcomes.iter().flatten().count() <= 1, "{outcomes:?}");
}

#[test]
fn reads_share_a_lead_that_they_name_in_several_ways() {
    /// Inputs, unique property, results with their values, and the ids of the matched results.
    type Case<'a> =
        (&'a [&'a str], Option<&'a str>, &'a [(&'a str, Values<'a>)], &'a [Option<&'a str>]);
    let key = Some("crm_key");
    let cases: [Case<'_>; 10] = [
        (
            &["Key-1", "key-1", "b"],
            key,
            &[("100", &[("crm_key", "key-1")]), ("101", &[("crm_key", "b")])],
            &[Some("100"), Some("100"), Some("101")],
        ),
        // An account that distinguishes case.
        (
            &["Key-1", "key-1", "KEY-1"],
            key,
            &[("100", &[("crm_key", "key-1")]), ("101", &[("crm_key", "Key-1")])],
            &[Some("101"), Some("100"), None],
        ),
        (&["\u{c4}", "\u{e4}"], key, &[("1", &[("crm_key", "\u{e4}")])], &[Some("1"), Some("1")]),
        (
            &["7", "1767225600000", "b"],
            key,
            &[
                ("3", &[("crm_key", "b")]),
                ("2", &[("crm_key", "2026-01-01")]),
                ("1", &[("crm_key", "7.0")]),
            ],
            &[Some("1"), Some("2"), Some("3")],
        ),
        (&["101", "901"], None, &[("901", &[])], &[None, Some("901")]),
        (
            &["101", "102", "901", "5"],
            None,
            &[("901", &[(MERGED_IDS, "101; 102")]), ("5", &[])],
            &[Some("901"), Some("901"), Some("901"), Some("5")],
        ),
        (
            &["101", "102"],
            None,
            &[("902", &[(MERGED_IDS, "77;102")]), ("901", &[(MERGED_IDS, "101")])],
            &[Some("901"), Some("902")],
        ),
        // The record id of a lead comes before one that was merged.
        (&["5"], None, &[("9", &[(MERGED_IDS, "5")]), ("5", &[])], &[Some("5")]),
        // A repeated result is not that of another id.
        (&["101", "901"], None, &[("901", &[]), ("901", &[])], &[None, Some("901")]),
        (&["101", "102"], None, &[("901", &[]), ("902", &[])], &[None, None]),
    ];
    for (ids, id_property, shown, expected) in cases {
        let inputs: Vec<_> = ids.iter().map(|id| read(id, id_property)).collect();
        let results = || shown.iter().map(|(id, values)| item(id, values));
        let expected: Vec<_> = expected.iter().map(|id| id.map(str::to_owned)).collect();
        assert_eq!(matched(&inputs, results().collect(), Vec::new()), expected, "{ids:?}");
        assert_eq!(matched(&inputs, results().rev().collect(), Vec::new()), expected, "{ids:?}");
    }
}

fn named(id: &str) -> Error {
    let affected = AffectedInputs { ids: vec![id.to_owned()], ..AffectedInputs::default() };
    Error::new(Reason::LeadNotFound, "not found").with_affected_inputs(affected)
}

#[test]
fn an_error_that_names_a_value_comes_before_a_lead_with_another_spelling_of_it() {
    let key = Some("crm_key");
    for (other, value) in [("key-1", "Key-1"), ("7.0", "7"), (" Key-1 ", "Key-1")] {
        let inputs = [read(value, key), read(other, key)];
        let results = vec![item("1", &[("crm_key", value)])];
        let found = matched(&inputs, results, vec![named(other)]);
        assert_eq!(found, [Some("1".to_owned()), None], "{other}");
    }
    // An error that names none may be about one of the two.
    for (other, expected) in [("key-1", None), ("Key-1", Some("1".to_owned()))] {
        let inputs = [read("Key-1", key), read("KEY-1", key), read("b", key)];
        let results = vec![item("1", &[("crm_key", other)])];
        let found = matched(&inputs, results, vec![unnamed_error()]);
        assert_eq!(found, [expected, None, None], "{other}");
    }
}

#[test]
fn an_error_that_names_a_record_id_leaves_its_lead_to_the_id_that_was_merged() {
    // The lead 901 is not archived, and 101 was merged into it.
    let inputs = [read("901", None), read("101", None)];
    let found = matched(&inputs, vec![item("901", &[])], vec![named("901")]);
    assert_eq!(found, [None, Some("901".to_owned())]);
    // A write that has a result succeeded.
    let inputs = [update("7", None, &[("a", "x")]), update("8", None, &[("a", "x")])];
    let found = matched(&inputs, vec![item("7", &[("a", "x")])], vec![named("7")]);
    assert_eq!(found, [Some("7".to_owned()), None]);
}

#[test]
fn an_error_names_a_unique_value_in_any_case() {
    assert!(is_named(&read("Key-1", Some("crm_key")), &named("key-1")));
    assert!(!is_named(&read("Key-1", Some("crm_key")), &named("key-2")));
    assert!(is_named(&read("7", None), &named("7")));
    assert!(is_named(&read("\u{c4}-1", Some("crm_key")), &named("\u{e4}-1")));
    assert!(!is_named(&read("\u{c4}-1", Some("crm_key")), &named("a-1")));
}

/// Form in which HubSpot shows the values of one property.
#[derive(Debug, Clone, Copy)]
enum Form {
    AsWritten,
    Another,
    Absent,
}

/// Written values of a lead: numbers of a name, a day, an amount and a label.
#[derive(Debug, Clone)]
struct Written {
    name: usize,
    day: Option<i64>,
    amount: Option<u32>,
    label: Option<bool>,
}

// === impl Written ===

impl Written {
    fn input(&self, number: usize) -> Traced<CreateLead> {
        let Self { name, day, amount, label } = self;
        let mut values = BTreeMap::from([(LEAD_NAME.to_owned(), format!("Lead {name}"))]);
        let millis = |day: i64| (1_767_225_600_000 + day * 86_400_000).to_string();
        values.extend(day.map(|day| ("close_date".to_owned(), millis(day))));
        values.extend(amount.map(|amount| ("amount".to_owned(), format!("{amount}.50"))));
        let word = |is_hot| if is_hot { "HOT" } else { "WARM" }.to_owned();
        values.extend(label.map(|is_hot| ("hs_lead_label".to_owned(), word(is_hot))));
        let input = CreateLead {
            properties: values,
            associations: Vec::new(),
            contact: None,
            trace_id: None,
        };
        Traced { trace_id: format!("trace-{number}"), input }
    }
}

/// The result of a create. The names are always shown, in one case or the other.
fn shown(
    number: usize,
    input: &Traced<CreateLead>,
    forms: [Form; 3],
    is_folded: bool,
) -> BatchItem {
    let value = |(name, value): (&String, &String)| {
        let form = match name.as_str() {
            "close_date" => forms[0],
            "amount" => forms[1],
            "hs_lead_label" => forms[2],
            _ if is_folded => return Some((name.clone(), value.to_lowercase())),
            _ => Form::AsWritten,
        };
        let another = || match name.as_str() {
            "close_date" => {
                let millis = value.parse().expect("milliseconds");
                let time = leadsd_base::time::Timestamp::from_millisecond(millis).expect("a time");
                time.to_string().split_once('T').expect("a date").0.to_owned()
            }
            "amount" => value.trim_end_matches('0').to_owned(),
            _ => value.to_lowercase(),
        };
        match form {
            Form::AsWritten => Some((name.clone(), value.clone())),
            Form::Another => Some((name.clone(), another())),
            Form::Absent => None,
        }
    };
    let properties = input.input.properties.iter().filter_map(value).collect();
    let lead = Lead { id: number.to_string(), properties, ..Lead::default() };
    BatchItem { lead, trace_id: None, created: None }
}

fn forms() -> impl Strategy<Value = [Form; 3]> {
    let form = || prop::sample::select(vec![Form::AsWritten, Form::Another, Form::Absent]);
    [form(), form(), form()]
}

fn written(names: usize) -> impl Strategy<Value = Written> {
    let day = prop::option::of(0..3_i64);
    let parts = (0..names, day, prop::option::of(0..3_u32), any::<Option<bool>>());
    parts.prop_map(|(name, day, amount, label)| Written { name, day, amount, label })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// No input gets the result of another one, whatever the forms, the order and the failures are.
    #[test]
    fn a_result_is_matched_with_its_own_input_or_with_none(
        mut all in prop::collection::vec(written(3), 1..12),
        is_unique: bool,
        failed in prop::collection::btree_set(0..12_usize, 0..3),
        names_failures: bool,
        forms in forms(),
        is_folded: bool,
        order: prop::sample::Index,
    ) {
        if is_unique {
            all.iter_mut().enumerate().for_each(|(number, written)| written.name = number);
        }
        let inputs: Vec<_> =
            all.iter().enumerate().map(|(number, written)| written.input(number)).collect();
        let succeeded = |number: &usize| !failed.contains(number);
        let mut results: Vec<_> = (0..inputs.len())
            .filter(succeeded)
            .map(|number| shown(number, &inputs[number], forms, is_folded))
            .collect();
        let middle = order.index(results.len() + 1);
        results.rotate_left(middle);
        let errors: Vec<_> = (0..inputs.len())
            .filter(|number| failed.contains(number))
            .map(|number| {
                let trace_ids = if names_failures { vec![format!("trace-{number}")] } else { vec![] };
                let affected = AffectedInputs { trace_ids, ..AffectedInputs::default() };
                unnamed_error().with_affected_inputs(affected)
            })
            .collect();
        let count = results.len();
        let found = matched(&inputs, results, errors);
        for (number, id) in found.iter().enumerate() {
            if let Some(id) = id {
                prop_assert_eq!(id, &number.to_string());
            }
        }
        if is_unique {
            prop_assert_eq!(found.iter().flatten().count(), count, "what is unique is matched");
        }
    }
}

#[test]
fn an_error_names_its_input_by_trace_id_first_and_exactly() {
    let mut inputs = vec![update("1", None, &[]), update("2", None, &[]), update("3", None, &[])];
    inputs[0].trace_id = "a".to_owned();
    inputs[1].trace_id = "A".to_owned();
    let named = |trace_ids: &[&str], ids: &[&str], positions: &[usize], message: &str| {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let error =
            Error::new(Reason::ValidationFailed, message).with_affected_inputs(AffectedInputs {
                trace_ids: texts(trace_ids),
                ids: texts(ids),
                positions: positions.to_vec(),
                ..AffectedInputs::default()
            });
        let response = BatchResponse { results: Vec::new(), errors: vec![error] };
        let (outcomes, _) = match_response(&inputs, response, is_affected);
        let failed = outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_some());
        failed.map(|(index, _)| index).collect::<Vec<_>>()
    };
    assert_eq!(named(&["A"], &[], &[], "no"), [1], "trace ids differ in case");
    assert_eq!(named(&["a"], &["3"], &[], "no"), [0], "the id is that of another record");
    assert_eq!(named(&[], &["A"], &[], "no"), [1], "a trace id under another key");
    assert_eq!(named(&[], &["3", "1"], &[], "no"), [0, 2]);
    assert_eq!(named(&[], &[], &[2], "no"), [2]);
    assert_eq!(named(&["a"], &[], &[2], "no"), [0], "the trace id says more than the position");
    assert_eq!(named(&["other"], &[], &[2], "no"), [2], "a trace id of no input");
    assert_eq!(named(&[], &[], &[], "trace-3 is not valid"), [2]);
    assert_eq!(named(&[], &[], &[], "3 is not valid"), [0; 0], "short ids are ordinary numbers");
}

#[test]
fn an_error_that_names_an_associated_record_is_about_the_creates_with_this_record() {
    let create = |contact: &str| {
        let Traced { trace_id, input } = create(0, &[(LEAD_NAME, "Ada")]);
        Traced { trace_id, input: input.with_primary_contact(lead_id(contact)) }
    };
    let error = |reason: Reason, ids: &[&str], trace_ids: &[&str], message: &str| {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        let (ids, trace_ids) = (texts(ids), texts(trace_ids));
        let affected = AffectedInputs { ids, trace_ids, ..AffectedInputs::default() };
        Error::new(reason, message).with_affected_inputs(affected)
    };
    let invalid = Reason::ValidationFailed;
    for (error, expected) in [
        (error(invalid, &["4242"], &[], "no"), true),
        (error(invalid, &["7", "4242"], &[], "no"), true),
        (error(invalid, &["7"], &[], "no"), false),
        (error(invalid, &["4242"], &["trace-1"], "no"), false),
        (error(invalid, &["7"], &[], "contact 100004242 does not exist"), false),
        // The record that has a unique value.
        (error(Reason::AlreadyExists, &["4242"], &[], "no"), false),
        (error(Reason::Conflict, &["4242"], &[], "no"), false),
    ] {
        assert_eq!(is_named(&create("4242"), &error), expected, "{error:?}");
    }
    // Short ids are ordinary numbers in a message.
    for (contact, message, expected) in [
        ("100004242", "contact 100004242 does not exist", true),
        ("100004242", "contact 1000042421 does not exist", false),
        ("4242", "contact 4242 does not exist", false),
    ] {
        let error = error(invalid, &[], &[], message);
        assert_eq!(is_named(&create(contact), &error), expected, "{message}");
    }
    let clash = error(Reason::AlreadyExists, &[], &[], "100004242 has the value");
    assert!(!is_named(&create("100004242"), &clash));
}

#[test]
fn an_error_that_names_a_contact_is_that_of_each_create_with_the_contact() {
    let create = |number: usize, name: &str, contact: &str| {
        let Traced { trace_id, input } = create(number, &[(LEAD_NAME, name)]);
        Traced { trace_id, input: input.with_primary_contact(lead_id(contact)) }
    };
    let inputs = [create(0, "a", "7"), create(1, "b", "4242"), create(2, "c", "4242")];
    let ids = vec!["4242".to_owned()];
    let affected = AffectedInputs { ids, ..AffectedInputs::default() };
    let errors = vec![unnamed_error().with_affected_inputs(affected)];
    let results = vec![item("1", &[(LEAD_NAME, "a")])];
    let (outcomes, unmatched) =
        match_response(&inputs, BatchResponse { results, errors }, is_affected);
    let failed = |outcome: &Option<Outcome>| outcome.as_ref().map(Result::is_err);
    let failed: Vec<_> = outcomes.iter().map(failed).collect();
    assert_eq!(failed, [Some(false), Some(true), Some(true)]);
    assert!(unmatched.is_empty());
}

#[test]
fn a_clash_is_not_about_the_input_of_the_lead_that_has_the_value() {
    let [first, second] = ["100000000001", "100000000002"];
    let by_id = [update(first, None, &[("crm_key", "k")]), update(second, None, &[("a", "x")])];
    let key = Some("crm_key");
    let by_key = [update("KEY-0001", key, &[]), update("KEY-0002", key, &[])];
    let clash = |owner: Option<&str>, ids: &[&str], message: &str| {
        let existing_id = owner.map(str::to_owned);
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        Error::new(Reason::AlreadyExists, message)
            .with_upstream(UpstreamFacts { existing_id, ..UpstreamFacts::default() })
            .with_affected_inputs(AffectedInputs { ids, ..AffectedInputs::default() })
    };
    let named = |inputs: &[Traced<UpdateLead>], error: &Error| {
        inputs.iter().map(|input| is_affected(input, error)).collect::<Vec<_>>()
    };
    let text = "Cannot set crm_key=k. 100000000002 already has that value.";
    for (owner, ids, message, expected) in [
        (Some(second), &[][..], text, [false, false]),
        (Some(second), &[], "no (existing record 100000000002)", [false, false]),
        (Some(second), &[], "100000000001: 100000000002 already has that value", [true, false]),
        (None, &[], "the value belongs to 100000000002", [false, false]),
        (Some(second), &[second], text, [false, false]),
        (Some(second), &[first, second], text, [true, false]),
        (Some("7"), &[second], "7 already has that value", [false, true]),
    ] {
        assert_eq!(named(&by_id, &clash(owner, ids, message)), expected, "{owner:?} {message}");
    }
    // The message shows the value that the first input writes, by which the second names its lead.
    let text = "Cannot set crm_key=KEY-0002. 100000000002 already has that value.";
    for owner in [Some(second), None] {
        assert_eq!(named(&by_key, &clash(owner, &[], text)), [false, false]);
    }
    let invalid = Error::new(Reason::ValidationFailed, "100000000002 is not valid");
    assert_eq!(named(&by_id, &invalid), [false, true]);
    // Trace ids name no record.
    let traced =
        clash(Some(second), &[], "trace-100000000001: 100000000002 already has that value");
    assert_eq!(named(&by_id, &traced), [true, false]);
}

#[test]
fn a_trace_id_anywhere_in_an_error_names_the_input() {
    const OWN: &str = "42fcd913-a832-458e-a10e-1ea2b660b842";
    const OTHER: &str = "5aeb4877-db4c-4808-8fb0-b44b455b6315";
    let traced = |trace_id: &str| Traced {
        trace_id: trace_id.to_owned(),
        ..create(1, &[("hs_lead_name", "n")])
    };
    let inputs = [traced(OWN), traced(OTHER)];
    let error = |affected: AffectedInputs| unnamed_error().with_affected_inputs(affected);
    let uuids = |uuid: &str| AffectedInputs {
        uuids: vec!["00000000-0000-4000-8000-000000000000".to_owned(), uuid.to_owned()],
        ..AffectedInputs::default()
    };
    let trace_ids =
        |id: String| AffectedInputs { trace_ids: vec![id], ..AffectedInputs::default() };
    for (affected, is_own_named, is_other_named) in [
        (uuids(OWN), true, false),
        (uuids(&OTHER.to_uppercase()), false, true),
        (trace_ids(OWN.to_uppercase()), true, false),
        // A key for trace ids says more than a text.
        (
            AffectedInputs { uuids: vec![OTHER.to_owned()], ..trace_ids(OWN.to_owned()) },
            true,
            false,
        ),
        // Ids and positions may be those of other things.
        (AffectedInputs { positions: vec![1], ..uuids(OWN) }, true, false),
        (AffectedInputs::default(), false, false),
    ] {
        let errors = vec![error(affected.clone())];
        let response = BatchResponse { results: Vec::new(), errors };
        let (outcomes, _) = match_response(&inputs, response, is_affected);
        let named: Vec<bool> = outcomes.iter().map(Option::is_some).collect();
        assert_eq!(named, [is_own_named, is_other_named], "{affected:?}");
    }
}
