//! The encoding that `ledger.lua` reads and writes.

use serde_json::{json, to_value};

use super::*;
use crate::ledger::LedgerObservation;

fn request() -> ExchangeRequest {
    ExchangeRequest {
        replica: "a".into(),
        size: 190,
        window: Duration::from_secs(10),
        paced: true,
        want: 3,
        spare: 1,
        first: 7,
        ahead: true,
        spread: false,
        hold: Duration::from_millis(100),
        spare_hold: Duration::from_millis(400),
        transit: [Duration::from_millis(250), Duration::from_millis(25)],
        slots: vec![
            SlotReport { number: 1 << 53, counted: Some([1_500, 2_250]) },
            SlotReport { number: 2, counted: None },
        ],
        observed: Some(LedgerObservation {
            size: 100,
            window: Duration::from_secs(5),
            used: 40,
            oldest: 9,
        }),
        learned: Some([Some(90), None]),
        close: Some(Duration::from_micros(1_500)),
        detached: false,
        leave: true,
    }
}

#[test]
fn a_request_is_encoded_in_milliseconds_with_numbers_of_slots_as_text() {
    let encoded = to_value(Message::new(&request())).unwrap();
    let expected = json!({
        "replica": "a", "size": 190, "window": 10_000.0, "paced": true,
        "want": 3, "spare": 1, "first": 7, "ahead": true, "spread": false,
        "hold": 100.0, "spare_hold": 400.0, "transit_window": 250.0, "transit_second": 25.0,
        "slots": [
            {"number": "9007199254740992", "window": 1.5, "second": 2.25},
            {"number": "2"},
        ],
        "observed": {"size": 100, "window": 5_000.0, "used": 40, "oldest": 9},
        "learned": {"window": 90, "second": 0}, "close": 1.5, "detached": false, "leave": true,
    });
    assert_eq!(encoded, expected);
}

#[test]
fn absent_values_are_left_out() {
    let request = ExchangeRequest { observed: None, learned: None, close: None, ..request() };
    let encoded = to_value(Message::new(&request)).unwrap();
    let is_absent = |name: &&str| encoded.get(name).is_none();
    assert!(["observed", "learned", "close"].iter().all(is_absent), "{encoded}");
}

#[test]
fn a_response_is_decoded_by_position() {
    let mut response = vec![5, 1, 3, 17, 190, 10_000_000, 2_000, 4, 99, 2, 90, 0, 7];
    response.extend(10..20);
    response.extend([101, 102]);
    let grant = parse_grant(&response).expect("a response");
    let expected = Grant {
        now: 5,
        permits: vec![101, 102],
        next: 99,
        used: 17,
        used_in_second: 7,
        learned: [Some(90), None],
        leaving: [10, 11, 12, 13, 14, 15, 16, 17, 18, 19],
        size: 190,
        window: Duration::from_secs(10),
        closed: Duration::from_millis(2),
        replicas: 3,
        live_others: 2,
        oldest: 4,
        warming: true,
    };
    assert_eq!(grant, expected);
    response[1] = 0;
    assert!(!parse_grant(&response).expect("a response").warming);
}

#[test]
fn a_response_of_another_shape_is_invalid() {
    assert_eq!(parse_grant(&[1; HEADER + TENTHS - 1]), None);
    let mut negative = vec![1; HEADER + TENTHS];
    negative[3] = -1;
    assert_eq!(parse_grant(&negative), None);
}
