//! Rules about files as text: header, length, forbidden text, links.

use std::{ffi::OsStr, path::Path};

use crate::source::{Production, Token, tokens};

/// Maximum production code of one file, in lines. A longer file has more than one subject.
pub(crate) const MAX_LINES: usize = 400;

/// Maximum of the median over all production files, in lines.
pub(crate) const MAX_MEDIAN: usize = 150;

/// Minimum rustdoc at the head of a crate or of a module with a folder, in lines.
pub(crate) const MIN_PAGE: usize = 3;

/// Faults of one Rust file.
pub(crate) fn rust_faults(file: &Path, text: &str, code: &Production) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.starts_with("//! ") {
        faults.push(format!("{}: does not open with `//!`", file.display()));
    }
    if file.file_name() == Some(OsStr::new("mod.rs")) {
        faults.push(format!("{}: belongs beside its folder, named like it", file.display()));
    }
    if code.lines > MAX_LINES {
        faults.push(format!(
            "{}: {} lines of code, at most {MAX_LINES}",
            file.display(),
            code.lines
        ));
    }
    for line in unreasoned_ignores(text) {
        faults.push(format!("{}:{line}: ignores a test without a reason", file.display()));
    }
    faults
}

/// The fault of a crate root or folder module without a page of rustdoc, if it has that fault.
pub(crate) fn page_fault(file: &Path, text: &str) -> Option<String> {
    let lines = text.lines().take_while(|line| line.starts_with("//!")).count();
    (lines < MIN_PAGE).then(|| {
        format!("{}: {lines} lines of rustdoc at its head, at least {MIN_PAGE}", file.display())
    })
}

/// Median of these numbers.
pub(crate) fn median(mut lines: Vec<usize>) -> usize {
    lines.sort_unstable();
    lines.get(lines.len() / 2).copied().unwrap_or_default()
}

/// Faults of any text file.
pub(crate) fn text_faults(file: &Path, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |line: usize, what: &str| {
        faults.push(format!("{}:{}: {what}", file.display(), line + 1));
    };
    for (number, line) in text.split('\n').enumerate() {
        for mark in [concat!("TO", "DO"), concat!("FIX", "ME")] {
            if has_word(line, mark) {
                fault(number, "leaves work behind: do it, or file an issue");
            }
        }
        if names_a_home(line) {
            fault(number, "names a folder of one machine");
        }
        if ["<<<<<<< ", ">>>>>>> ", "||||||| "].iter().any(|mark| line.starts_with(mark)) {
            fault(number, "has the mark of an unfinished merge");
        }
        if line.ends_with([' ', '\t', '\r']) {
            fault(number, "ends with a blank");
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        fault(text.lines().count().saturating_sub(1), "lacks a newline at the end");
    }
    faults
}

/// Broken links and paths in a Markdown file. `exists` receives paths from the root of the repository.
pub(crate) fn broken_links(file: &Path, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let folder = file.parent().unwrap_or_else(|| Path::new(""));
    let mut faults = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let links = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let links = links
            .filter(|link| {
                !link.is_empty() && !link.contains("://") && !link.starts_with("mailto:")
            })
            .map(|link| folder.join(link));
        let mentioned = line.split('`').skip(1).step_by(2).filter(|code| is_own_path(code));
        for path in links.chain(mentioned.map(|code| Path::new(code).to_owned())) {
            if !exists(&path) {
                let at = format!("{}:{}", file.display(), number + 1);
                faults.push(format!("{at}: `{}` does not exist", path.display()));
            }
        }
    }
    faults
}

/// Rows of a page's tables that name no test in their last cell, and tests there that no file of `code` has.
pub(crate) fn missing_tests(page: &str, code: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    let is_row = |line: &&str| line.starts_with('|') && !line.contains("---");
    // The first row is the head of the table.
    for row in page.lines().filter(is_row).skip(1) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let tests: Vec<&str> =
            cells.last().into_iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        if tests.is_empty() {
            faults.push(format!("no test in `{row}`"));
        }
        for test in tests {
            if !code.iter().any(|text| has_test(text, test)) {
                faults.push(format!("no test `{test}`"));
            }
        }
    }
    if faults.is_empty() && !page.contains("|---") {
        faults.push("no table".to_owned());
    }
    faults
}

/// Findings from 1 to `count` without a row that has a scenario, a figure before and a figure now. The first
/// cell of a row is the number of its finding.
pub(crate) fn missing_findings(page: &str, count: usize) -> Vec<String> {
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let has_row = |finding: &usize| {
        let is_complete =
            |row: &&Vec<&str>| row.len() == 5 && row.iter().all(|cell| !cell.is_empty());
        let number = finding.to_string();
        rows.iter().filter(is_complete).any(|row| row[0] == number)
    };
    let missing = (1..=count).filter(|finding| !has_row(finding));
    missing.map(|finding| format!("finding {finding} has no complete row")).collect()
}

/// True if a file has a test function of this name.
fn has_test(text: &str, name: &str) -> bool {
    let function = format!("fn {name}(");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(number, line)| {
        let attributes = lines[..number].iter().rev().take_while(|line| line.starts_with("#["));
        let is_test =
            |line: &&str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        line.contains(&function) && attributes.into_iter().any(is_test)
    })
}

/// True if a piece of inline code is a path of this repository.
fn is_own_path(code: &str) -> bool {
    let roots = ["src/", "tests/", "proto/", "helm/", "docs/", "examples/", "fixtures/", ".ci/"];
    roots.iter().any(|root| code.starts_with(root))
        && !code.contains(|c: char| c.is_whitespace() || "*{}<>$".contains(c))
}

/// Lines of `#[ignore]` without a reason.
fn unreasoned_ignores(text: &str) -> Vec<usize> {
    use Token::{Sign, Text, Word};
    let all = tokens(text);
    let at = |index: usize| all.get(index).map(|(_, token)| *token);
    let is_reason = |token| matches!(token, Some(Text(reason)) if !reason.trim().is_empty());
    let mut lines = Vec::new();
    for (index, (line, token)) in all.iter().enumerate() {
        let opens = index.checked_sub(1).and_then(at);
        if *token == Word("ignore")
            && matches!(opens, Some(Sign('[' | ',')))
            && matches!(at(index + 1), Some(Sign(']' | ')' | '=')))
            && !(at(index + 1) == Some(Sign('=')) && is_reason(at(index + 2)))
        {
            lines.push(*line);
        }
    }
    lines
}

/// True if `word` stands in `line` by itself.
fn has_word(line: &str, word: &str) -> bool {
    let touches = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !touches(before.chars().next_back()) && !touches(after.chars().next())
    })
}

/// True if a line has a path into a home or work folder.
fn names_a_home(line: &str) -> bool {
    [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")]
        .iter()
        .flat_map(|root| line.match_indices(root))
        .any(|(at, _)| {
            // `https://host/home/x` and `src/work/x` are other paths.
            !line[..at]
                .chars()
                .next_back()
                .is_some_and(|c| c.is_alphanumeric() || "._-/".contains(c))
        })
}
