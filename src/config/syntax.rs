//! Describes a syntax error of the configuration file by its place. The parser's own text prints the
//! line, which may contain a secret that was put into the file by mistake.

/// Start of the text of a syntax error.
pub(super) const NOT_TOML: &str = "is not valid TOML";

/// Describes the first syntax error of a TOML text; `None` if it is valid.
pub(super) fn syntax_error(text: &str) -> Option<String> {
    let error = text.parse::<toml::Table>().err()?;
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    // The message names keys and expected characters, never values.
    let cause = error.message().trim().replace('\n', ": ");
    Some(format!("{NOT_TOML} at line {line}, column {column}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_error_names_its_place_and_quotes_no_value() {
        assert_eq!(syntax_error("[log]\nlevel = \"info\"\n"), None);
        for (line, place) in [
            ("token = pat-hunter2", "line 2, column 9"),
            ("token = \"hunter2", "line 2, column"),
            ("token = 'hunter2\"", "line 2, column"),
            ("token = \"\"\"hunter2", "line"),
            ("token = \"\\qhunter2\"", "line 2, column"),
            ("hunter2", "line 2, column"),
            ("token = [\"hunter2\"", "line"),
            ("token = {a = hunter2}", "line 2, column"),
            ("token = 12hunter2", "line 2, column"),
            ("token = 1979-hunter2", "line 2, column"),
            ("token = \"a\"hunter2", "line 2, column"),
            ("token = 99999999999999999999", "line 2, column"),
            ("[hunter2", "line 2, column"),
        ] {
            let text = format!("[log]\n{line}\n");
            let said = syntax_error(&text).expect(line);
            assert!(said.contains(place), "{line}: {said}");
            assert!(!said.contains("hunter2") && !said.contains("9999"), "{line}: {said}");
            assert!(!said.contains('\n'), "{said}");
        }
    }
}
