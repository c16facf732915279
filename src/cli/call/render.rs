//! Output of a message: JSON on one line for programs, YAML for people.

use super::{
    escape::{is_unsafe, push_json_string},
    tree::Tree,
};

/// Words that YAML does not read as text.
const WORDS: &[&str] =
    &["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity"];

/// JSON on one line, without its end.
pub(super) fn json_line(tree: &Tree) -> String {
    let mut out = String::new();
    push_json(&mut out, tree);
    out
}

fn push_json(out: &mut String, tree: &Tree) {
    match tree {
        Tree::Literal(literal) => out.push_str(literal),
        Tree::Integer(text) | Tree::Text(text) => push_json_string(out, text),
        Tree::List(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_json(out, element);
            }
            out.push(']');
        }
        Tree::Object(entries) => {
            out.push('{');
            for (index, (name, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_json_string(out, name);
                out.push(':');
                push_json(out, value);
            }
            out.push('}');
        }
    }
}

/// YAML with an end of line.
pub(super) fn yaml(tree: &Tree) -> String {
    let mut out = String::new();
    if let Some(children) = Children::from_tree(tree) {
        children.push(&mut out, 0);
    } else {
        push_inline(&mut out, tree);
        out.push('\n');
    }
    out
}

/// Children of a list or object that is not empty: they are on lines below it.
enum Children<'a> {
    Elements(&'a [Tree]),
    Entries(&'a [(String, Tree)]),
}

// === impl Children ===

impl<'a> Children<'a> {
    fn from_tree(tree: &'a Tree) -> Option<Self> {
        match tree {
            Tree::Object(entries) => (!entries.is_empty()).then_some(Self::Entries(entries)),
            Tree::List(elements) => (!elements.is_empty()).then_some(Self::Elements(elements)),
            Tree::Literal(_) | Tree::Integer(_) | Tree::Text(_) => None,
        }
    }

    fn push(&self, out: &mut String, indent: usize) {
        match self {
            Self::Elements(elements) => push_list(out, elements, indent),
            Self::Entries(entries) => push_object(out, entries, indent, false),
        }
    }
}

/// Appends a value behind `name:` or `-`.
fn push_value(out: &mut String, value: &Tree, indent: usize) {
    if let Some(children) = Children::from_tree(value) {
        out.push('\n');
        children.push(out, indent);
    } else {
        out.push(' ');
        push_inline(out, value);
        out.push('\n');
    }
}

/// Appends the entries of an object. The first one is not indented if it follows a dash.
fn push_object(out: &mut String, entries: &[(String, Tree)], indent: usize, after_dash: bool) {
    for (index, (name, value)) in entries.iter().enumerate() {
        if index > 0 || !after_dash {
            push_indent(out, indent);
        }
        push_text(out, name);
        out.push(':');
        push_value(out, value, indent + 2);
    }
}

fn push_list(out: &mut String, elements: &[Tree], indent: usize) {
    for element in elements {
        push_indent(out, indent);
        out.push('-');
        if let Some(Children::Entries(entries)) = Children::from_tree(element) {
            out.push(' ');
            push_object(out, entries, indent + 2, true);
        } else {
            push_value(out, element, indent + 2);
        }
    }
}

fn push_indent(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn push_inline(out: &mut String, value: &Tree) {
    match value {
        Tree::Literal(text) | Tree::Integer(text) => out.push_str(text),
        Tree::Text(text) => push_text(out, text),
        // Only empty ones are inline.
        Tree::List(_) => out.push_str("[]"),
        Tree::Object(_) => out.push_str("{}"),
    }
}

/// Appends text, in quotes unless YAML reads it as the same text without.
fn push_text(out: &mut String, text: &str) {
    if is_plain(text) { out.push_str(text) } else { push_json_string(out, text) }
}

fn is_plain(text: &str) -> bool {
    let is_word = WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    text.starts_with(char::is_alphabetic)
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.contains(|c: char| is_unsafe(c) || (c.is_whitespace() && c != ' '))
        && !is_word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Tree {
        Tree::Text(text.to_owned())
    }

    fn object(entries: &[(&str, Tree)]) -> Tree {
        let entries = entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        Tree::Object(entries.collect())
    }

    #[test]
    fn the_same_tree_is_json_for_programs_and_yaml_for_people() {
        let tree = object(&[
            ("lead", object(&[("id", text("112")), ("properties", object(&[("a", text("b"))]))])),
            ("total", Tree::Integer("5".into())),
            ("archived", Tree::Literal("true".into())),
            ("empty", object(&[])),
            ("none", Tree::List(vec![])),
            (
                "list",
                Tree::List(vec![
                    text("x"),
                    object(&[("k", text("v")), ("l", Tree::List(vec![text("1")]))]),
                    Tree::List(vec![text("z")]),
                    object(&[]),
                ]),
            ),
        ]);
        assert_eq!(
            json_line(&tree),
            r#"{"lead":{"id":"112","properties":{"a":"b"}},"total":"5","archived":true,"empty":{},"none":[],"list":["x",{"k":"v","l":["1"]},["z"],{}]}"#
        );
        assert_eq!(
            yaml(&tree),
            "lead:\n  id: \"112\"\n  properties:\n    a: b\ntotal: 5\narchived: true\nempty: {}\n\
             none: []\nlist:\n  - x\n  - k: v\n    l:\n      - \"1\"\n  -\n    - z\n  - {}\n"
        );
        assert_eq!(yaml(&object(&[])), "{}\n");
    }

    #[test]
    fn text_that_yaml_would_read_otherwise_is_quoted() {
        for plain in ["Ada wants ten seats", "a:b", "https://x/y#z", "ü, 漢!", "a - b", "hs_x"] {
            assert!(is_plain(plain), "{plain}");
        }
        for quoted in [
            "",
            " a",
            "a ",
            "a: b",
            "a #b",
            "a:",
            "- a",
            "112",
            "1.5",
            "true",
            "No",
            "NULL",
            "~",
            "\"a\"",
            "'a'",
            "[a]",
            "{a}",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "|",
            ">",
            "?",
            "#a",
            "a\nb",
            "a\tb",
            "a\u{1b}",
            "a\u{85}b",
            "a\u{a0}b",
            ".inf",
            "-",
            "=",
            "2026-01-01",
        ] {
            assert!(!is_plain(quoted), "{quoted:?}");
        }
    }

    #[test]
    fn text_of_a_server_cannot_add_lines_or_obey_the_terminal() {
        let tree = object(&[("a\nb: c", text("\u{1b}[2J\nroot: true\u{202e}"))]);
        for out in [json_line(&tree), yaml(&tree).trim_end().to_owned()] {
            assert!(!out.contains(is_unsafe), "{out:?}");
        }
        assert_eq!(yaml(&tree), "\"a\\nb: c\": \"\\u001b[2J\\nroot: true\\u202e\"\n");
    }
}
