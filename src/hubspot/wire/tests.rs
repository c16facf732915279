//! Leads are read field by field where a response is not what HubSpot documents.

use proptest::prelude::*;

use super::*;

/// Values that JSON or HubSpot's documentation does not allow in most fields.
const ODD_VALUES: [&str; 24] = [
    "null",
    "true",
    "0",
    "-7",
    "1.0",
    "1e3",
    "1e999",
    "12345678901234567890",
    "123456789012345678901234567890",
    r#""""#,
    r#""x""#,
    r#""1""#,
    r#""\ud800""#,
    r#""a\ud800b\udc00\ud83d""#,
    r#""\x""#,
    "\"a\nb\"",
    "[]",
    "{}",
    r#"[1,"a",{"b":null},[[]]]"#,
    r#"{"a":{"b":[{}]},"a":"\ud800"}"#,
    r#"{"results":[null,1,{"id":{}}],"paging":7}"#,
    r#"{"results":[],"paging":{"next":{"after":[]}}}"#,
    "NaN",
    "-",
];

fn lead(json: &str) -> Lead {
    parse::<WireLead>(json.as_bytes(), &mut UnreadableFields::default()).unwrap().into_lead()
}

/// The lead, and the unreadable fields with their counts.
fn lead_and_losses(json: &[u8]) -> (Lead, Vec<(&'static str, u32)>) {
    let mut unreadable = UnreadableFields::default();
    let lead = parse::<WireLead>(json, &mut unreadable).unwrap().into_lead();
    (lead, unreadable.iter().map(|(field, count)| (field.as_str(), count)).collect())
}

#[test]
fn nulls_numbers_and_unknown_fields_are_accepted() {
    let lead = lead(
        r#"{"id":512,"properties":{"a":null,"b":3,"c":true,"d":"x"},"createdAt":"2026-04-01T10:00:00.000Z",
            "updatedAt":"2026-04-02T08:00:00Z","archivedAt":1775030400000,"archived":null,
            "associations":{"contacts":{"results":[{"id":4001,"type":"lead_to_contact"}],
            "paging":{"next":{"after":"7","link":"x"}}},"deals":null},
            "warnings":[{"category":"PROPERTY_VALUE_NORMALIZED","context":{"propertyName":"a","rawValue":["1"]}}],
            "propertiesWithHistory":{"d":[{"value":"x","timestamp":"bad","updatedByUserId":1},{"value":""}]},
            "new_thing":{"deep":[1]}}"#,
    );
    assert_eq!(lead.id, "512");
    assert_eq!(lead.properties.len(), 3);
    assert_eq!(lead.unset_properties, ["a"]);
    assert_eq!(lead.properties["b"], "3");
    assert_eq!(lead.create_time.unwrap().to_string(), "2026-04-01T10:00:00Z");
    assert_eq!(lead.archive_time.unwrap().as_second(), 1_775_030_400);
    assert_eq!(lead.associations["contacts"].objects[0].id, "4001");
    assert_eq!(lead.associations["contacts"].next.as_deref(), Some("7"));
    assert_eq!(lead.warnings[0].context["rawValue"], ["1"]);
    assert_eq!(lead.property_history["d"][0].value.as_deref(), Some("x"));
    assert_eq!(lead.property_history["d"][0].time, None);
    assert_eq!(lead.property_history["d"][1].value, None);
}

#[test]
fn properties_keep_the_text_of_numbers_and_lose_only_unreadable_values() {
    for (value, expected, losses) in [
        (r#""x""#, Some("x"), 0),
        (r#""""#, Some(""), 0),
        (r#""\u00e4\n""#, Some("ä\n"), 0),
        ("0", Some("0"), 0),
        ("-0", Some("-0"), 0),
        ("18446744073709551615", Some("18446744073709551615"), 0),
        ("-9223372036854775808", Some("-9223372036854775808"), 0),
        ("12345678901234567890", Some("12345678901234567890"), 0),
        ("123456789012345678901234567890", Some("123456789012345678901234567890"), 0),
        ("1.0", Some("1.0"), 0),
        ("1e3", Some("1e3"), 0),
        ("1E+3", Some("1E+3"), 0),
        ("-2.50e-9", Some("-2.50e-9"), 0),
        ("1e999", Some("1e999"), 0),
        ("true", Some("true"), 0),
        ("false", Some("false"), 0),
        ("null", None, 0),
        ("[]", None, 1),
        (r#"[1,["a"],{"b":null}]"#, None, 1),
        ("{}", None, 1),
        (r#"{"a":[{}],"b":"c"}"#, None, 1),
        (r#""\ud800""#, None, 1),
        (r#""\ud800\ud800""#, None, 1),
        ("\"\u{1}\"", None, 1),
        ("NaN", None, 1),
        ("01", None, 1),
    ] {
        let json = format!(r#"{{"id":"1","properties":{{"a":{value},"z":"after it"}},"url":"u"}}"#);
        let (lead, lost) = lead_and_losses(json.as_bytes());
        assert_eq!(lead.properties.get("a").map(String::as_str), expected, "{value}");
        assert_eq!(lead.properties["z"], "after it", "{value}");
        assert_eq!((lead.id.as_str(), lead.url.as_deref()), ("1", Some("u")), "{value}");
        let expected = if losses == 0 { Vec::new() } else { vec![("properties", losses)] };
        assert_eq!(lost, expected, "{value}");
        // An unreadable value is not an absent one.
        assert_eq!(lead.unset_properties.len(), usize::from(value == "null"), "{value}");
    }
    let twice = lead(r#"{"properties":{"a":"1","b":"1","a":"2","b":null}}"#);
    assert_eq!(twice.properties, BTreeMap::from([("a".to_owned(), "2".to_owned())]));
    assert_eq!(twice.unset_properties, ["b"]);
    let twice = lead(r#"{"properties":{"a":null,"b":null,"a":"2"}}"#);
    assert_eq!(
        (twice.properties["a"].as_str(), &*twice.unset_properties),
        ("2", &["b".to_owned()][..])
    );
    let names = lead(r#"{"properties":{"b":null,"a":null,"b":null}}"#).unset_properties;
    assert_eq!(names, ["a", "b"], "each once");
    assert_eq!(lead(r#"{"properties":null}"#), Lead::default());
}

#[test]
fn only_the_field_of_an_odd_value_is_lost_and_counted() {
    /// Body, id of the lead, and unreadable fields with their counts.
    type Case<'a> = (&'a [u8], &'a str, Vec<(&'a str, u32)>);
    let cases: [Case<'_>; 14] = [
        (br#"{"id":{"a":1},"properties":{"hs_object_id":"7"}}"#, "7", vec![("id", 1)]),
        (br#"{"id":"7","properties":[]}"#, "7", vec![("properties", 1)]),
        (br#"{"id":"7","properties":{"a":"\ud800","b":[],"c":"x"}}"#, "7", vec![("properties", 2)]),
        (b"{\"id\":\"7\",\"properties\":{\"a\":\"\xff\"}}", "7", vec![("properties", 1)]),
        (br#"{"id":"6","id":"7","id":[]}"#, "7", vec![("id", 1)]),
        (br#"{"id":7.0}"#, "7", vec![]),
        (
            br#"{"id":"7","createdAt":"soon","updatedAt":{},"archivedAt":1e30}"#,
            "7",
            vec![("createdAt", 1), ("updatedAt", 1), ("archivedAt", 1)],
        ),
        (
            br#"{"id":"7","archived":"no","url":["u"],"new":"true"}"#,
            "7",
            vec![("archived", 1), ("url", 1)],
        ),
        (
            br#"{"id":"7","warnings":"none","objectWriteTraceId":{}}"#,
            "7",
            vec![("warnings", 1), ("objectWriteTraceId", 1)],
        ),
        (
            br#"{"id":"7","warnings":[{"message":[]},5,{"context":{"a":["x",{}]}}]}"#,
            "7",
            vec![("warnings", 3)],
        ),
        (
            br#"{"id":"7","associations":{"contacts":[],"deals":{"results":[{"id":[]}]}}}"#,
            "7",
            vec![("associations", 2)],
        ),
        (
            br#"{"id":"7","propertiesWithHistory":{"a":[{"value":{}},null]}}"#,
            "7",
            vec![("propertiesWithHistory", 2)],
        ),
        (br#"{"\ud800":1,"id":"7"}"#, "7", vec![("name", 1)]),
        (br#"{"id":"7","novel":"\ud800","other":[1e999]}"#, "7", vec![]),
    ];
    for (json, id, losses) in cases {
        let text = String::from_utf8_lossy(json);
        let (lead, lost) = lead_and_losses(json);
        assert_eq!(lead.id, id, "{text}");
        assert_eq!(lost, losses, "{text}");
    }
}

#[test]
fn times_are_read_in_every_form_and_odd_ones_are_left_out() {
    for (json, expected) in [
        (r#""2026-04-01T10:00:00Z""#, Some("2026-04-01T10:00:00Z")),
        (r#""2026-04-01T10:00:00.123Z""#, Some("2026-04-01T10:00:00.123Z")),
        (r#""2026-04-01T12:00:00+02:00""#, Some("2026-04-01T10:00:00Z")),
        (r#""2026-04-01T10:00:00""#, Some("2026-04-01T10:00:00Z")),
        (r#""2026-04-01""#, Some("2026-04-01T00:00:00Z")),
        (r#""1775037600000""#, Some("2026-04-01T10:00:00Z")),
        ("1775037600000", Some("2026-04-01T10:00:00Z")),
        ("0", Some("1970-01-01T00:00:00Z")),
        (r#""""#, None),
        ("null", None),
        (r#""soon""#, None),
        ("1.5", None),
        ("99999999999999999999", None),
        ("{}", None),
        ("true", None),
    ] {
        let lead = lead(&format!(r#"{{"id":"7","createdAt":{json},"updatedAt":"2026-04-01"}}"#));
        assert_eq!(lead.create_time.map(|time| time.to_string()).as_deref(), expected, "{json}");
        assert!(lead.update_time.is_some() && lead.id == "7", "{json}");
    }
}

#[test]
fn results_and_cursors_survive_their_neighbours() {
    let mut unreadable = UnreadableFields::default();
    let json = br#"{"total":"7","results":[{"id":"1"},null,[],{"id":"2","url":{}}],"results2":0,
        "paging":{"next":{"after":1.0,"link":"\ud800"},"next":{"after":"30"}}}"#;
    let page = parse::<WirePage>(json, &mut unreadable).unwrap().into_search_page().unwrap();
    let ids: Vec<_> = page.leads.iter().map(|lead| lead.id.as_str()).collect();
    assert_eq!((ids, page.after.as_deref(), page.total), (vec!["1", "2"], Some("30"), 7));
    let lost: Vec<_> = unreadable.iter().map(|(field, count)| (field.as_str(), count)).collect();
    assert_eq!(lost, [("url", 1), ("results", 2)]);
    // Without a readable cursor the list would end early; without results it would be empty.
    for json in [
        r#"{"results":[],"paging":7}"#,
        r#"{"results":[],"paging":{"next":[]}}"#,
        r#"{"results":[],"paging":{"next":{"after":{}}}}"#,
        r#"{"results":[],"paging":{"next":{"after":"\ud800"}}}"#,
        r#"{"results":[],"paging":{"next":{"link":"https://example.com/?after=100"}}}"#,
        r#"{"results":[],"paging":{"next":{"after":null}}}"#,
        r#"{"results":[],"paging":{"next":{"after":""}}}"#,
        r#"{"results":[],"paging":{"next":{}}}"#,
        r#"{"results":{}}"#,
        r#"{"results":"\ud800"}"#,
        r#"{"results":[{"id":"1"}"#,
        r#"{"results":[{"id":"1"}]"#,
        r#"{"results":[{"id":"1"}]]"#,
    ] {
        let page = parse::<WirePage>(json.as_bytes(), &mut UnreadableFields::default());
        assert!(page.is_err(), "{json}");
    }
}

#[test]
fn one_odd_field_of_an_association_costs_no_other_association() {
    let json = br#"{"results":[
        {"from":{"id":"1"},"to":[{"toObjectId":9,"associationTypes":[
            {"category":"HUBSPOT_DEFINED","typeId":"578"},{"category":[],"typeId":580}]},
            {"toObjectId":8,"associationTypes":7}]},
        {"from":{"id":2},"to":[]},
        {"from":{"id":"3"},"to":[{"toObjectId":4}],"paging":{"next":{"after":[]}}}]}"#;
    let batch = parse::<WireAssociationBatch>(json, &mut UnreadableFields::default()).unwrap();
    let (links, _) = batch.into_links().unwrap();
    let leads: Vec<_> = links
        .iter()
        .map(|own| {
            let ids = own.page.objects.iter().map(|object| object.id.as_str());
            (own.lead.as_str(), Vec::from_iter(ids))
        })
        .collect();
    assert_eq!(leads[..2], [("1", vec!["8", "9", "9"]), ("2", vec![])]);
    assert_eq!(links[0].page.objects[1].association_type.as_ref().unwrap().type_id, 578);
    // Without its cursor, the third list would seem complete.
    assert_eq!(leads.len(), 2);
}

#[test]
fn errors_of_a_batch_keep_what_can_be_read() {
    let json = br#"{"results":[{"id":"1"}],"errors":[
        {"category":"OBJECT_NOT_FOUND","message":"\ud800","context":{"ids":["2","\ud800"]}}]}"#;
    let batch: WireBatch = parse(json, &mut UnreadableFields::default()).unwrap();
    let error = &batch.errors.unwrap()[0];
    assert_eq!(error["category"], "OBJECT_NOT_FOUND");
    assert_eq!(error["context"]["ids"], serde_json::json!(["2"]));
    assert!(error.get("message").is_none());
    assert_eq!(batch.results.unwrap().len(), 1);
    let body = b"\xef\xbb\xbf{\"category\":\"CONFLICT\",\"message\":\"\\udfff\"}";
    assert_eq!(parse_value(body).unwrap(), serde_json::json!({"category": "CONFLICT"}));
    let deep = format!(r#"{{"a":{}"\ud800"{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(parse_value(deep.as_bytes()).map(|value| value["a"].is_array()), Some(true));
    assert_eq!(parse_value(b"<html>"), None);
}

#[test]
fn an_empty_object_is_an_empty_lead() {
    assert_eq!(lead("{}"), Lead::default());
}

/// Members of the documented form of a lead.
fn members(number: usize) -> Vec<(&'static str, String)> {
    vec![
        ("id", format!(r#""{number}""#)),
        ("properties", format!(r#"{{"hs_object_id":"{number}","a":"x{number}","b":null}}"#)),
        ("createdAt", r#""2026-04-01T10:00:00.000Z""#.to_owned()),
        ("updatedAt", r#""2026-04-02T08:00:00Z""#.to_owned()),
        ("archived", "true".to_owned()),
        ("archivedAt", r#""2026-04-02T08:00:00Z""#.to_owned()),
        ("url", r#""https://app.hubspot.com/x""#.to_owned()),
        ("associations", r#"{"contacts":{"results":[{"id":"4","type":"t"}]}}"#.to_owned()),
        ("propertiesWithHistory", r#"{"a":[{"value":"x","sourceType":"API"}]}"#.to_owned()),
        ("warnings", r#"[{"category":"c","context":{"rawValue":["1"]}}]"#.to_owned()),
        ("objectWriteTraceId", r#""t""#.to_owned()),
        ("new", "false".to_owned()),
    ]
}

fn object(members: &[(&str, String)]) -> String {
    let members: Vec<_> =
        members.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
    format!("{{{}}}", members.join(","))
}

fn page(objects: &[String]) -> Vec<u8> {
    format!(r#"{{"results":[{}],"paging":{{"next":{{"after":"9"}}}}}}"#, objects.join(","))
        .into_bytes()
}

/// The lead without the part that a member is about.
fn without(mut lead: Lead, member: &str) -> Lead {
    match member {
        "id" => lead.id.clear(),
        "properties" => {
            lead.properties.clear();
            lead.unset_properties.clear();
        }
        "createdAt" => lead.create_time = None,
        "updatedAt" => lead.update_time = None,
        "archived" => lead.archived = false,
        "archivedAt" => lead.archive_time = None,
        "url" => lead.url = None,
        "associations" => lead.associations.clear(),
        "propertiesWithHistory" => lead.property_history.clear(),
        "warnings" => lead.warnings.clear(),
        _ => {}
    }
    lead
}

/// Any JSON value, and values that are almost JSON.
fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(ODD_VALUES.to_vec()).prop_map(str::to_owned),
        "[0-9]{1,30}(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec(("[a-z]{1,8}", inner), 0..4).prop_map(|all| {
                let all: Vec<_> = all.iter().map(|(k, v)| format!(r#""{k}":{v}"#)).collect();
                format!("{{{}}}", all.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn a_mutation_of_one_field_of_one_result_loses_nothing_else(
        result in 0..3_usize,
        member in 0..12_usize,
        kind in 0..4_usize,
        value in any_value(),
    ) {
        let mut all: Vec<_> = (1..=3).map(members).collect();
        let read = |all: &[Vec<(&str, String)>]| {
            let objects: Vec<_> = all.iter().map(|members| object(members)).collect();
            parse::<WirePage>(&page(&objects), &mut UnreadableFields::default()).map(WirePage::into_page)
        };
        let original = read(&all).unwrap().unwrap();
        let name = all[result][member].0;
        let slot = &mut all[result];
        match kind {
            0 => slot[member].1 = value,
            1 => slot.insert(0, (name, value)),
            2 => slot.push((name, value)),
            _ => slot[1].1 = format!(r#"{{"hs_object_id":"1","b":{value},"c":"kept"}}"#),
        }
        let mutated = read(&all);
        prop_assert!(mutated.is_ok(), "{mutated:?}");
        let mutated = mutated.unwrap().unwrap();
        prop_assert_eq!(&mutated.after, &original.after);
        prop_assert_eq!(mutated.leads.len(), 3);
        let name = if kind == 3 { "properties" } else { name };
        for (index, (now, before)) in mutated.leads.into_iter().zip(original.leads).enumerate() {
            if index != result {
                prop_assert_eq!(now, before);
                continue;
            }
            if kind == 3 {
                prop_assert_eq!(&now.properties["c"], "kept");
            }
            prop_assert_eq!(without(now, name), without(before, name));
        }
    }
}
