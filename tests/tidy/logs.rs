//! Field names of log events and spans.

use std::collections::BTreeSet;

use crate::source::{Token, tokens};

/// Macros that make events and spans.
const MACROS: [&str; 8] =
    ["trace", "debug", "info", "warn", "error", "event", "info_span", "debug_span"];

/// Names of the fields in production code.
pub(crate) fn fields(text: &str) -> BTreeSet<String> {
    let all: Vec<Token<'_>> = tokens(text).into_iter().map(|(_, token)| token).collect();
    let mut found = BTreeSet::new();
    for at in 0..all.len() {
        let opens = matches!(
            all[at..],
            [Token::Word(word), Token::Sign('!'), Token::Sign('('), ..] if MACROS.contains(&word)
        );
        if opens {
            for part in parts(&all[at + 3..]) {
                found.extend(field(part));
            }
        }
    }
    found
}

/// Arguments of a macro call.
fn parts<'a, 'b>(rest: &'a [Token<'b>]) -> Vec<&'a [Token<'b>]> {
    let (mut depth, mut from, mut parts) = (0_usize, 0, Vec::new());
    for (at, token) in rest.iter().enumerate() {
        match token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')') if depth == 0 => {
                parts.push(&rest[from..at]);
                break;
            }
            Token::Sign(')' | ']' | '}') => depth = depth.saturating_sub(1),
            Token::Sign(',') if depth == 0 => {
                parts.push(&rest[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts
}

/// `a.b = value`, `%a` or `a`.
fn field(part: &[Token<'_>]) -> Option<String> {
    let name = match part {
        [Token::Sign('%' | '?'), rest @ ..] => rest,
        _ => part,
    };
    let is_path = |token: &&Token<'_>| matches!(token, Token::Word(_) | Token::Sign('.'));
    let length = name.iter().take_while(is_path).count();
    let (name, rest) = name.split_at(length);
    let ends = matches!(rest, [] | [Token::Sign('='), ..]);
    let is_equal = matches!(rest, [Token::Sign('='), Token::Sign('='), ..]);
    let words: Vec<&str> = name
        .iter()
        .filter_map(|token| if let Token::Word(word) = token { Some(*word) } else { None })
        .collect();
    (ends && !is_equal && !words.is_empty()).then(|| words.join("."))
}

#[test]
fn fields_are_found_in_every_syntax() {
    let text = r#"
        info!(a.b = %x, c_d = y.len(), %error, ?f, portal, "Message, with = signs");
        event!(target: "x", parent: &self.span, $level, g = f(1, h == 2), "M");
        let span = info_span!("rpc", rpc.method = name);
        other!(not = 1);
    "#;
    let found = fields(text);
    let wanted = ["a.b", "c_d", "error", "f", "g", "portal", "rpc.method"];
    assert_eq!(found, wanted.map(str::to_owned).into());
}
