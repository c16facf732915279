//! Values with parts that their type rejects.

use serde::Deserialize;

use super::*;
use crate::hubspot::wire::{ResponseField, UnreadableFields};

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Definition {
    name: String,
    hidden: Option<bool>,
    order: Option<i64>,
    options: Vec<Choice>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Choice {
    value: String,
    order: i64,
}

fn read(json: &str) -> (Option<Definition>, u32) {
    let mut unreadable = UnreadableFields::default();
    let mut losses = Losses { field: ResponseField::Results, unreadable: &mut unreadable };
    let read = readable_part(json.as_bytes(), &mut losses);
    (read, unreadable.iter().map(|(_, count)| count).sum())
}

fn definition(name: &str, hidden: Option<bool>, order: Option<i64>) -> Definition {
    Definition { name: name.to_owned(), hidden, order, options: Vec::new() }
}

#[test]
fn only_the_part_that_cannot_be_read_is_lost() {
    let complete = || definition("n", Some(true), Some(7));
    for (json, expected, lost) in [
        (r#"{"name":"n","hidden":true,"order":7}"#, complete(), 0),
        // In another form.
        (r#"{"name":"n","hidden":"true","order":"7"}"#, complete(), 0),
        (r#"{"name":1.50,"hidden":true}"#, definition("1.50", Some(true), None), 0),
        // Lost.
        (r#"{"name":"n","hidden":"perhaps","order":7.5}"#, definition("n", None, None), 2),
        (r#"{"name":"\ud800","hidden":true}"#, definition("", Some(true), None), 1),
        (r#"{"name":"n","order":NaN,"hidden":true}"#, definition("n", Some(true), None), 1),
        (r#"{"name":"n","options":7}"#, definition("n", None, None), 1),
        // The last readable value of a name.
        (r#"{"name":"m","name":"n","name":{}}"#, definition("n", None, None), 1),
    ] {
        assert_eq!(read(json), (Some(expected), lost), "{json}");
    }
}

#[test]
fn the_other_members_and_elements_of_a_list_are_kept() {
    let json = r#"{"name":"n","options":[{"value":"a","order":1.5},7,{"value":"b","order":2},
        {"value":[],"order":3},null]}"#;
    let (read, lost) = read(json);
    let choice = |value: &str, order| Choice { value: value.to_owned(), order };
    assert_eq!(read.unwrap().options, [choice("a", 0), choice("b", 2), choice("", 3)]);
    assert_eq!(lost, 4);
}

#[test]
fn a_value_of_another_kind_is_lost_and_deep_ones_use_no_stack() {
    let deep = format!(r#"{{"name":"n","options":{}"#, "[".repeat(100_000));
    for json in ["7", r#""text""#, "null", "tru"] {
        assert_eq!(read(json), (None, 1), "{json}");
    }
    assert_eq!(read(&deep).0.map(|read| read.name).as_deref(), Some("n"));
}
