//! Mutated JSON: the expected shape with some unexpected keys and values.

use serde_json::{Map, Value, json};

use crate::random::Random;

/// Mutates some keys and values.
pub(crate) fn mutate(random: &mut Random, value: &mut Value) {
    for _ in 0..=random.below(3) {
        let depth = random.below(6);
        change(random, value, depth);
    }
}

/// Descends up to `depth` levels at random, then mutates the value found.
fn change(random: &mut Random, value: &mut Value, depth: usize) {
    if depth > 0 {
        let inner = match value {
            Value::Array(all) if !all.is_empty() => {
                let at = random.below(all.len());
                all.get_mut(at)
            }
            Value::Object(all) if !all.is_empty() => {
                let at = random.below(all.len());
                all.values_mut().nth(at)
            }
            _ => None,
        };
        if let Some(inner) = inner {
            return change(random, inner, depth - 1);
        }
    }
    match (random.below(6), &mut *value) {
        (0, Value::Object(all)) if !all.is_empty() => {
            let key = all.keys().nth(random.below(all.len())).unwrap().clone();
            let taken = all.remove(&key);
            if random.one_in(2) {
                all.insert(random.text(), taken.unwrap_or_default());
            }
        }
        (1, Value::Object(all)) => drop(all.insert(random.text(), unusual_value(random))),
        (0, Value::Array(all)) if !all.is_empty() => drop(all.remove(random.below(all.len()))),
        (1, Value::Array(all)) if !all.is_empty() => {
            let one = random.pick(all).clone();
            all.extend(std::iter::repeat_n(one, random.below(300)));
        }
        (2, value) => *value = Value::Array(vec![value.take()]),
        (3, Value::String(text)) => *text = random.mutated(text),
        (_, value) => *value = unusual_value(random),
    }
}

fn unusual_value(random: &mut Random) -> Value {
    match random.below(12) {
        0 => Value::Null,
        1 => json!({}),
        2 => json!([]),
        3 => random.one_in(2).into(),
        4 => random.number().into(),
        5 => i64::from_ne_bytes(random.number().to_ne_bytes()).into(),
        6 => f64::from_bits(random.next_u64()).into(),
        7 => random.number().to_string().into(),
        8 => {
            let mut deep = json!(1);
            for _ in 0..random.below(200) {
                deep = if random.one_in(2) { json!([deep]) } else { json!({ "a": deep }) };
            }
            deep
        }
        9 => {
            let some = (0..random.below(5)).map(|_| (random.text(), random.text().into()));
            some.collect::<Map<_, _>>().into()
        }
        _ => random.text().into(),
    }
}

/// Serialises with defects that a `Value` cannot have: duplicate keys, oversized numbers, deep
/// nesting, truncation, invalid UTF-8.
pub(crate) fn serialize(random: &mut Random, value: &Value) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    match random.below(10) {
        0 => random.mutate(&mut bytes),
        1 => {
            let deep = random.below(100_000);
            let at = bytes.iter().rposition(|byte| *byte == b'}').unwrap_or(bytes.len());
            let open = if random.one_in(2) { "[" } else { "{\"a\":" };
            let tail = format!(",\"deep\":{}", open.repeat(deep));
            bytes.splice(at..at, tail.into_bytes());
        }
        2 => {
            let twice = format!("{{\"id\":1,\"id\":{},", random.number());
            if bytes.first() == Some(&b'{') && bytes.len() > 2 {
                bytes.splice(..1, twice.into_bytes());
            }
        }
        3 => {
            let digits = "9".repeat(random.below(500) + 1);
            let at = bytes.iter().position(|byte| *byte == b':').map_or(0, |at| at + 1);
            bytes.splice(at..at, digits.into_bytes());
        }
        _ => {}
    }
    bytes
}
