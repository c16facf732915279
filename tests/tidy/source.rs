//! Minimal reader of Rust source that finds the paths in it: it drops comments, strings and test
//! code, expands `use` trees and follows `super`.
//!
//! A parser crate would be one more dependency to build, for few questions.

use std::collections::BTreeSet;

/// Token of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// An identifier, a keyword or a number.
    Word(&'a str),
    /// Content of a string literal.
    Text(&'a str),
    /// `::`
    Sep,
    /// Any other sign.
    Sign(char),
}

/// A token and its line, from 1 up.
pub(crate) type Placed<'a> = (usize, Token<'a>);

/// A path that production code names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Line, from 1 up.
    pub(crate) line: usize,
    /// `["crate", "leads", "Error"]`; a glob ends in `*`.
    pub(crate) segments: Vec<String>,
    /// Names of the modules written inline around it.
    pub(crate) inside: Vec<String>,
    /// Name that it has here, if it is imported.
    pub(crate) alias: Option<String>,
}

/// Production code of a file: no comments, no `#[cfg(test)]` items.
#[derive(Debug)]
pub(crate) struct Production {
    /// Every path of two or more segments, and everything imported.
    pub(crate) paths: Vec<Named>,
    /// Names that imports and `mod` declarations bring in; they hide crates of that name.
    pub(crate) local: BTreeSet<String>,
    /// Lines that are not test code.
    pub(crate) lines: usize,
}

/// Reads one file.
pub(crate) fn production(text: &str) -> Production {
    let all = tokens(text);
    let (kept, test_lines) = without_tests(&all);
    let mut reader = Reader { tokens: &kept, paths: Vec::new(), local: BTreeSet::new() };
    reader.read();
    let lines = text.lines().count().saturating_sub(test_lines);
    Production { paths: reader.paths, local: reader.local, lines }
}

/// A file up to the module of its tests, which stands last.
pub(crate) fn without_test_module(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {").map_or(text, |at| &text[..at])
}

/// Cuts a file into tokens; comments are dropped.
pub(crate) fn tokens(text: &str) -> Vec<Placed<'_>> {
    let mut lexer = Lexer { text, at: 0, line: 1 };
    let mut found = Vec::new();
    while let Some(token) = lexer.next_token() {
        found.push(token);
    }
    found
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

// === impl Lexer ===

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Moves on by `bytes`, counting lines.
    fn take(&mut self, bytes: usize) -> &'a str {
        let taken = &self.text[self.at..self.at + bytes];
        self.line += taken.matches('\n').count();
        self.at += bytes;
        taken
    }

    fn next_token(&mut self) -> Option<Placed<'a>> {
        loop {
            let rest = self.rest();
            let first = rest.chars().next()?;
            let line = self.line;
            if first.is_whitespace() {
                self.take(first.len_utf8());
            } else if rest.starts_with("//") {
                self.take(rest.find('\n').unwrap_or(rest.len()));
            } else if rest.starts_with("/*") {
                self.take(block_comment(rest));
            } else if let Some((open, content, close)) = string_literal(rest) {
                self.take(open);
                let content = self.take(content);
                self.take(close);
                return Some((line, Token::Text(content)));
            } else if first == '\'' {
                self.take(quote(rest));
            } else if is_word(first) {
                let raw = if rest.starts_with("r#") { 2 } else { 0 };
                self.take(raw);
                let rest = self.rest();
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len()).max(1);
                return Some((line, Token::Word(self.take(end))));
            } else if rest.starts_with("::") {
                self.take(2);
                return Some((line, Token::Sep));
            } else {
                self.take(first.len_utf8());
                return Some((line, Token::Sign(first)));
            }
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Length of the block comment at the start; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Lengths of the opening, the content and the closing of the string at the start, if there is one.
fn string_literal(text: &str) -> Option<(usize, usize, usize)> {
    let letters = text.find(|c| !matches!(c, 'b' | 'c' | 'r')).unwrap_or(text.len());
    if letters > 2 {
        return None;
    }
    let raw = text[..letters].ends_with('r');
    let hashes = if raw { text[letters..].chars().take_while(|c| *c == '#').count() } else { 0 };
    let open = letters + hashes + 1;
    if text[letters + hashes..].chars().next()? != '"' {
        return None;
    }
    let body = &text[open..];
    if raw {
        let closing = format!("\"{}", "#".repeat(hashes));
        let end = body.find(&closing).unwrap_or(body.len());
        return Some((open, end, closing.len().min(body.len() - end)));
    }
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some((open, at, 1)),
            _ => {}
        }
    }
    Some((open, body.len(), 0))
}

/// Length of the character literal or the lifetime at the start.
fn quote(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((after, escaped))) => {
            let from = after + escaped.len_utf8();
            text[from..].find('\'').map_or(text.len(), |end| from + end + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => text[1..].find(|c| !is_word(c)).map_or(text.len(), |end| end + 1),
    }
}

/// Drops every item behind `#[cfg(test)]`; returns the rest and the number of dropped lines.
fn without_tests<'a>(all: &[Placed<'a>]) -> (Vec<Placed<'a>>, usize) {
    let (mut kept, mut lines, mut at) = (Vec::new(), 0, 0);
    while at < all.len() {
        if is_test_attribute(&all[at..], true) {
            let last = all.last().map_or(0, |(line, _)| *line);
            return (Vec::new(), last);
        }
        if is_test_attribute(&all[at..], false) {
            let end = item_end(all, at);
            lines += all[end].0 - all[at].0 + 1;
            at = end + 1;
        } else {
            kept.push(all[at]);
            at += 1;
        }
    }
    (kept, lines)
}

/// True if `#[cfg(test)]` or `#[cfg(all(test, ...))]` starts here; `inner` asks for `#![...]`.
fn is_test_attribute(at: &[Placed<'_>], inner: bool) -> bool {
    use Token::{Sign, Word};
    let mut rest = at.iter().map(|(_, token)| *token);
    let opens = rest.next() == Some(Sign('#'))
        && (!inner || rest.next() == Some(Sign('!')))
        && rest.next() == Some(Sign('['))
        && rest.next() == Some(Word("cfg"))
        && rest.next() == Some(Sign('('));
    let first = rest.next();
    opens
        && (first == Some(Word("test"))
            || first == Some(Word("all"))
                && rest.next() == Some(Sign('('))
                && rest.next() == Some(Word("test")))
}

/// Index of the last token of the item whose first attribute starts at `at`.
fn item_end(all: &[Placed<'_>], mut at: usize) -> usize {
    let last = all.len() - 1;
    while all[at].1 == Token::Sign('#') {
        at = closing(all, at + 1) + 1;
        if at > last {
            return last;
        }
    }
    // Fields, variants and arms end with a comma; in the head of an item one may be in generics.
    let is_item = matches!(
        all[at].1,
        Token::Word(
            "pub"
                | "fn"
                | "mod"
                | "impl"
                | "struct"
                | "enum"
                | "use"
                | "const"
                | "static"
                | "trait"
                | "type"
                | "async"
                | "unsafe"
                | "extern"
                | "let"
                | "macro_rules"
        )
    );
    while at <= last {
        match all[at].1 {
            Token::Sign(';') => return at,
            Token::Sign(',') if !is_item => return at,
            Token::Sign('{') => return closing(all, at),
            Token::Sign('(' | '[') => at = closing(all, at) + 1,
            _ => at += 1,
        }
    }
    last
}

/// Index of the bracket that closes the one at `at`.
fn closing(all: &[Placed<'_>], at: usize) -> usize {
    let mut depth = 0_usize;
    for (index, (_, token)) in all.iter().enumerate().skip(at) {
        match token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')' | ']' | '}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index;
                }
            }
            _ => {}
        }
    }
    all.len() - 1
}

struct Reader<'t, 'a> {
    tokens: &'t [Placed<'a>],
    paths: Vec<Named>,
    local: BTreeSet<String>,
}

// === impl Reader ===

impl<'a> Reader<'_, 'a> {
    fn at(&self, index: usize) -> Option<Token<'a>> {
        self.tokens.get(index).map(|(_, token)| *token)
    }

    fn read(&mut self) {
        // Inline modules around the current token, each with the brace depth that it opened at.
        let mut inside: Vec<(String, usize)> = Vec::new();
        let (mut depth, mut at) = (0_usize, 0);
        while let Some(token) = self.at(at) {
            match token {
                Token::Word("use") if self.at(at + 1) != Some(Token::Sign('<')) => {
                    let modules: Vec<String> =
                        inside.iter().map(|(name, _)| name.clone()).collect();
                    at = self.use_tree(at + 1, &[], &modules);
                    continue;
                }
                Token::Word("mod") => {
                    if let Some(Token::Word(name)) = self.at(at + 1) {
                        self.local.insert(name.to_owned());
                        if self.at(at + 2) == Some(Token::Sign('{')) {
                            inside.push((name.to_owned(), depth));
                        }
                    }
                }
                Token::Sign('{') => depth += 1,
                Token::Sign('}') => {
                    depth = depth.saturating_sub(1);
                    if inside.last().is_some_and(|(_, opened)| *opened == depth) {
                        inside.pop();
                    }
                }
                Token::Word(_) if self.starts_path(at) => {
                    let modules: Vec<String> =
                        inside.iter().map(|(name, _)| name.clone()).collect();
                    at = self.plain_path(at, modules);
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// True if the word at `at` is the first segment of a path with more than one.
    fn starts_path(&self, at: usize) -> bool {
        if self.at(at + 1) != Some(Token::Sep) {
            return false;
        }
        let before = |back: usize| at.checked_sub(back).and_then(|index| self.at(index));
        match before(1) {
            // `a::b`: b is not the first. `::b`: it is.
            Some(Token::Sep) => !matches!(before(2), Some(Token::Word(_) | Token::Sign('>'))),
            _ => true,
        }
    }

    fn plain_path(&mut self, mut at: usize, inside: Vec<String>) -> usize {
        let line = self.tokens[at].0;
        let mut segments = Vec::new();
        while let Some(Token::Word(word)) = self.at(at) {
            segments.push(word.to_owned());
            at += 1;
            if self.at(at) != Some(Token::Sep) {
                break;
            }
            at += 1;
        }
        self.paths.push(Named { line, segments, inside, alias: None });
        at
    }

    /// Reads one branch of a `use` tree; returns the index after it.
    fn use_tree(&mut self, mut at: usize, prefix: &[String], inside: &[String]) -> usize {
        let mut segments = prefix.to_vec();
        let line = self.tokens.get(at).map_or(0, |(line, _)| *line);
        loop {
            match self.at(at) {
                Some(Token::Sep) => at += 1,
                Some(Token::Word("as")) => {
                    if let Some(Token::Word(alias)) = self.at(at + 1) {
                        self.import(line, segments, alias, inside);
                    }
                    return at + 2;
                }
                Some(Token::Word(word)) => {
                    segments.push(word.to_owned());
                    at += 1;
                }
                Some(Token::Sign('*')) => {
                    segments.push("*".to_owned());
                    at += 1;
                }
                Some(Token::Sign('{')) => {
                    at += 1;
                    while self.at(at).is_some_and(|token| token != Token::Sign('}')) {
                        at = self.use_tree(at, &segments, inside);
                        if self.at(at) == Some(Token::Sign(',')) {
                            at += 1;
                        }
                    }
                    return at + 1;
                }
                _ => {
                    let name = match segments.last().map(String::as_str) {
                        Some("self") => segments.iter().nth_back(1).cloned(),
                        last => last.map(str::to_owned),
                    };
                    self.import(line, segments, &name.unwrap_or_default(), inside);
                    // The caller consumes signs that end a branch; other signs are skipped.
                    let ends = matches!(self.at(at), Some(Token::Sign(',' | '}')) | None);
                    return if ends { at } else { at + 1 };
                }
            }
        }
    }

    fn import(&mut self, line: usize, segments: Vec<String>, name: &str, inside: &[String]) {
        // `use reqwest;`, `use reqwest as r;` and `use reqwest::{self}` do not hide the crate.
        if segments.len() > 1 && segments[0] != name {
            self.local.insert(name.to_owned());
        }
        let alias = Some(name.to_owned());
        self.paths.push(Named { line, segments, inside: inside.to_vec(), alias });
    }
}
