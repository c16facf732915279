//! JSON that has the shape that is expected but for something.

use serde_json::{Map, Value, json};

use crate::dice::Dice;

/// Changes some of the values and keys in it.
pub(crate) fn spoil(dice: &mut Dice, value: &mut Value) {
    for _ in 0..=dice.below(3) {
        let depth = dice.below(6);
        change(dice, value, depth);
    }
}

/// Goes down as far as the dice say and changes what is there.
fn change(dice: &mut Dice, value: &mut Value, depth: usize) {
    if depth > 0 {
        let inner = match value {
            Value::Array(all) if !all.is_empty() => {
                let at = dice.below(all.len());
                all.get_mut(at)
            }
            Value::Object(all) if !all.is_empty() => {
                let at = dice.below(all.len());
                all.values_mut().nth(at)
            }
            _ => None,
        };
        if let Some(inner) = inner {
            return change(dice, inner, depth - 1);
        }
    }
    match (dice.below(6), &mut *value) {
        (0, Value::Object(all)) if !all.is_empty() => {
            let key = all.keys().nth(dice.below(all.len())).unwrap().clone();
            let taken = all.remove(&key);
            if dice.one_in(2) {
                all.insert(dice.text(), taken.unwrap_or_default());
            }
        }
        (1, Value::Object(all)) => drop(all.insert(dice.text(), odd(dice))),
        (0, Value::Array(all)) if !all.is_empty() => drop(all.remove(dice.below(all.len()))),
        (1, Value::Array(all)) if !all.is_empty() => {
            let one = dice.pick(all).clone();
            all.extend(std::iter::repeat_n(one, dice.below(300)));
        }
        (2, value) => *value = Value::Array(vec![value.take()]),
        (3, Value::String(text)) => *text = dice.spoilt(text),
        (_, value) => *value = odd(dice),
    }
}

fn odd(dice: &mut Dice) -> Value {
    match dice.below(12) {
        0 => Value::Null,
        1 => json!({}),
        2 => json!([]),
        3 => dice.one_in(2).into(),
        4 => dice.number().into(),
        5 => i64::from_ne_bytes(dice.number().to_ne_bytes()).into(),
        6 => f64::from_bits(dice.roll()).into(),
        7 => dice.number().to_string().into(),
        8 => {
            let mut deep = json!(1);
            for _ in 0..dice.below(200) {
                deep = if dice.one_in(2) { json!([deep]) } else { json!({ "a": deep }) };
            }
            deep
        }
        9 => {
            let some = (0..dice.below(5)).map(|_| (dice.text(), dice.text().into()));
            some.collect::<Map<_, _>>().into()
        }
        _ => dice.text().into(),
    }
}

/// As text, with what a value cannot be: keys twice, numbers without end, cut off, no text at all.
pub(crate) fn written(dice: &mut Dice, value: &Value) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    match dice.below(10) {
        0 => dice.spoil(&mut bytes),
        1 => {
            let deep = dice.below(100_000);
            let at = bytes.iter().rposition(|byte| *byte == b'}').unwrap_or(bytes.len());
            let open = if dice.one_in(2) { "[" } else { "{\"a\":" };
            let tail = format!(",\"deep\":{}", open.repeat(deep));
            bytes.splice(at..at, tail.into_bytes());
        }
        2 => {
            let twice = format!("{{\"id\":1,\"id\":{},", dice.number());
            if bytes.first() == Some(&b'{') && bytes.len() > 2 {
                bytes.splice(..1, twice.into_bytes());
            }
        }
        3 => {
            let digits = "9".repeat(dice.below(500) + 1);
            let at = bytes.iter().position(|byte| *byte == b':').map_or(0, |at| at + 1);
            bytes.splice(at..at, digits.into_bytes());
        }
        _ => {}
    }
    bytes
}
