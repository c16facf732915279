//! Finds the members of a JSON object and the elements of an array without validating the values.
//!
//! A value may be malformed, for example contain a lone surrogate, invalid UTF-8 or `NaN`. Its extent is
//! known, so that the values after it are found. Nothing is copied, and nesting does not use the stack.
//! Truncated values at the end of the text are left out, except for objects and arrays, which are returned
//! up to the end.

/// Members of an object: raw name with its quotation marks, and raw value.
pub(super) struct Members<'a>(&'a [u8]);

/// Elements of an array.
pub(super) struct Elements<'a>(&'a [u8]);

// === impl Members ===

impl<'a> Members<'a> {
    /// `None` if the value is not an object.
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        value.trim_ascii_start().strip_prefix(b"{").map(Self)
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let start = after_comma(self.0);
        if !start.starts_with(b"\"") {
            return None;
        }
        let (name, rest) = split_value(start)?;
        let rest = rest.trim_ascii_start().strip_prefix(b":")?;
        let (value, rest) = split_value(rest.trim_ascii_start())?;
        self.0 = rest;
        Some((name, value))
    }
}

// === impl Elements ===

impl<'a> Elements<'a> {
    /// `None` if the value is not an array.
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        value.trim_ascii_start().strip_prefix(b"[").map(Self)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let (element, rest) = split_value(after_comma(self.0))?;
        self.0 = rest;
        Some(element)
    }
}

/// True if the text is one object that ends where the text ends.
pub(in crate::hubspot) fn is_complete_object(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    text.starts_with(b"{") && text.ends_with(b"}") && container_end(text) == Some(text.len())
}

fn after_comma(rest: &[u8]) -> &[u8] {
    let rest = rest.trim_ascii_start();
    rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start()
}

/// Splits the first value from the text. `None` without a value, or if it is a truncated scalar.
fn split_value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = match text.first()? {
        b'"' => string_end(text)?,
        b'{' | b'[' => container_end(text).unwrap_or(text.len()),
        b',' | b':' | b'}' | b']' => return None,
        _ => text
            .iter()
            .position(|byte| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace())?,
    };
    Some(text.split_at(end))
}

/// Index after the string at the start of the text. `None` if it is truncated.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    for (index, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(index + 1),
            _ => {}
        }
    }
    None
}

/// Index after the object or array at the start of the text. `None` if it is truncated.
fn container_end(text: &[u8]) -> Option<usize> {
    let (mut depth, mut index) = (0_usize, 0);
    while let Some(byte) = text.get(index) {
        match byte {
            b'"' => {
                index += string_end(&text[index..])?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        index += 1;
        if depth == 0 {
            return Some(index);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<'a>(raw: impl IntoIterator<Item = &'a [u8]>) -> Vec<&'a str> {
        raw.into_iter().map(|raw| str::from_utf8(raw).unwrap()).collect()
    }

    #[test]
    fn members_and_elements_are_found_whatever_their_values_are() {
        for value in [
            "1",
            "-1.50e+3",
            "NaN",
            "null",
            r#""""#,
            r#""a\\""#,
            r#""a\"b""#,
            r#""\\\\""#,
            r#""\ud800""#,
            r#""{[,:\"]}""#,
            "[]",
            "{}",
            r#"[1,{"a":"]"},[[]]]"#,
            r#"{"a":[{}],"b":"}"}"#,
        ] {
            let object = format!(r#" {{ "x":{value} ,"x" : {value},"y\"":0}} "#);
            let found: Vec<_> = Members::parse(object.as_bytes()).unwrap().collect();
            let names = texts(found.iter().map(|(name, _)| *name));
            assert_eq!(names, [r#""x""#, r#""x""#, r#""y\"""#], "{value}");
            assert_eq!(texts(found.into_iter().map(|(_, raw)| raw)), [value, value, "0"]);
            let array = format!("[{value}, {value} ,0]");
            let found = Elements::parse(array.as_bytes()).unwrap();
            assert_eq!(texts(found), [value, value, "0"]);
        }
        assert!(Members::parse(b"[]").is_none() && Members::parse(b"").is_none());
        assert!(Elements::parse(b"{}").is_none() && Elements::parse(b"1").is_none());
    }

    #[test]
    fn a_truncated_scalar_is_left_out_and_a_truncated_container_ends_with_the_text() {
        for (cut, expected) in [
            ("{\"a\":1,\"b\":5", 1),
            ("{\"a\":1,\"b\":\"5", 1),
            ("{\"a\":1,\"b\":", 1),
            ("{\"a\":1,\"b", 1),
            ("{\"a\":1,\"b\":[1,2", 2),
            ("{\"a\":1,\"b\":{\"c\":\"", 2),
        ] {
            assert_eq!(Members::parse(cut.as_bytes()).unwrap().count(), expected, "{cut}");
            assert!(!is_complete_object(cut.as_bytes()), "{cut}");
        }
        for (text, is_complete) in [
            ("{}", true),
            (" {\"a\":\"}\"}\n", true),
            ("{}}", false),
            ("{}{}", false),
            ("[]", false),
        ] {
            assert_eq!(is_complete_object(text.as_bytes()), is_complete, "{text}");
        }
    }

    #[test]
    fn nesting_does_not_use_the_stack() {
        let deep = format!("{{\"a\":{}", "[{\"a\":".repeat(1_000_000));
        assert_eq!(Members::parse(deep.as_bytes()).unwrap().count(), 1);
    }
}
