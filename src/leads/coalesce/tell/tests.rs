//! What tells creates apart, and what does not.

use super::*;
use crate::leads::Lead;

fn create(pairs: &[(&str, &str)]) -> CreateLead {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    CreateLead { properties: pairs.iter().map(pair).collect(), associations: Vec::new() }
}

fn traced(pairs: &[(&str, &str)]) -> Traced<CreateLead> {
    Traced { trace_id: "t".to_owned(), input: create(pairs) }
}

fn shows(pairs: &[(&str, &str)]) -> BatchItem {
    let properties = create(pairs).properties;
    BatchItem { lead: Lead { properties, ..Lead::default() }, trace_id: None, created: None }
}

fn answer(results: Vec<BatchItem>) -> Result<BatchAnswer, Error> {
    Ok(BatchAnswer { results, errors: Vec::new() })
}

/// Names are shown as they were written, dates are not.
fn learned() -> Shown {
    let shown = Shown::default();
    let written = [("name", "Jane"), ("when", "Apr 1 2026"), ("size", "1.0")];
    let answered = shows(&[("name", "Jane"), ("when", "2026-04-01"), ("size", "1")]);
    shown.learn(&[traced(&written)], &answer(vec![answered]));
    shown
}

fn batches(shown: &Shown, all: &[&[(&str, &str)]]) -> Option<Vec<Option<usize>>> {
    let creates: Vec<CreateLead> = all.iter().map(|pairs| create(pairs)).collect();
    shown.batches(&creates.iter().collect::<Vec<_>>())
}

#[test]
fn only_words_that_differ_by_more_than_case_tell() {
    let shown = learned();
    let all: [&[(&str, &str)]; 7] = [
        &[("name", "Jane")],
        &[("name", "Joan")],
        &[("name", "JANE")],
        &[("name", " Jane")],
        &[("name", "7 of 9")],
        &[("when", "May 1 2026")],
        &[("name", "J\u{e4}ne")],
    ];
    let expected = [Some(0), Some(0), Some(1), None, None, None, None];
    assert_eq!(batches(&shown, &all), Some(expected.to_vec()));
}

#[test]
fn the_property_with_the_most_different_words_is_taken() {
    let shown = learned();
    shown.set("key", Known::Yes);
    let all: [&[(&str, &str)]; 3] = [
        &[("name", "Jane"), ("key", "a")],
        &[("name", "Jane"), ("key", "b")],
        &[("name", "Joan"), ("key", "c")],
    ];
    assert_eq!(batches(&shown, &all), Some(vec![Some(0); 3]));
    let told = shown.told(&all.map(traced)).expect("they differ");
    assert_eq!(told[0].is_answered_by(&shows(&[("key", "A")])), Some(true));
    assert_eq!(told[0].is_answered_by(&shows(&[("key", "b")])), Some(false));
    assert_eq!(told[0].is_answered_by(&shows(&[("name", "Jane")])), Some(false));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_tried_and_what_is_not_shown_is_not_for_a_time() {
    let shown = learned();
    let dates: [&[(&str, &str)]; 2] = [&[("when", "May 1 2026")], &[("when", "May 2 2026")]];
    assert_eq!(batches(&shown, &dates), Some(vec![None; 2]));
    assert!(!shown.may_tell(&create(dates[0])));
    assert_eq!(batches(&shown, &[&[("key", "a")], &[("key", "b")]]), None, "nobody knows");
    tokio::time::sleep(Shown::FORGET).await;
    assert_eq!(batches(&shown, &dates), None);
    assert!(shown.may_tell(&create(dates[0])));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_shows_what_nobody_wrote_ends_it() {
    let shown = learned();
    let inputs = [traced(&[("name", "Jane")]), traced(&[("name", "Joan")])];
    let told = shown.told(&inputs).expect("they differ");
    shown.check(&told, &answer(vec![shows(&[("name", "jane")]), shows(&[("name", "Joan")])]));
    assert!(shown.told(&inputs).is_some());
    shown.check(&told, &answer(vec![shows(&[("name", "Jane")]), shows(&[])]));
    assert!(shown.told(&inputs).is_none());
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let shown = Shown::default();
    for number in 0..1_000 {
        shown.set(&format!("p{number}"), Known::No(Instant::now()));
    }
    assert_eq!(shown.0.lock().len(), MOST);
    tokio::time::sleep(Shown::FORGET).await;
    shown.set("new", Known::Yes);
    assert_eq!(shown.0.lock().len(), 1);
}
