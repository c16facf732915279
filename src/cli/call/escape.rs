//! Text of a server without control characters: it may contain anything, and a terminal obeys.

use std::{borrow::Cow, fmt::Write as _};

/// True if a terminal may interpret the character instead of showing it: control characters, line
/// separators, and marks that change the direction of text.
pub(super) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Text on one line, with unsafe characters as in Rust: `\n`, `\u{1b}`.
pub(in crate::cli) fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// Appends a JSON string, with unsafe characters as `\u001b`.
pub(super) fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_that_a_terminal_obeys_is_printed() {
        for (text, line) in [
            ("plain ü 漢 👩‍💻 \"x\" \\", "plain ü 漢 👩‍💻 \"x\" \\"),
            ("a\u{1b}[2J\u{7}b", "a\\u{1b}[2J\\u{7}b"),
            ("a\nb\r\tc\0", "a\\nb\\r\\tc\\u{0}"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("evil\u{202e}txt\u{2066}\u{200f}", "evil\\u{202e}txt\\u{2066}\\u{200f}"),
            ("a\u{2028}b\u{feff}", "a\\u{2028}b\\u{feff}"),
        ] {
            assert_eq!(one_line(text), line);
            let mut json = String::new();
            push_json_string(&mut json, text);
            assert!(!json.contains(is_unsafe), "{json:?}");
            let parsed: String = serde_json::from_str(&json).unwrap();
            assert_eq!(parsed, text);
        }
    }

    #[test]
    fn json_of_every_character_is_parsed_to_the_same_text() {
        let all: String = (0..=0x0010_ffff).filter_map(char::from_u32).collect();
        let mut json = String::new();
        push_json_string(&mut json, &all);
        assert!(!json.contains(is_unsafe));
        assert!(serde_json::from_str::<String>(&json).unwrap() == all);
    }
}
