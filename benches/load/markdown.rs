//! Figures as Markdown: a section per scenario, in which lists and matrices become tables.

use std::{fs, io, path::Path};

use crate::figures::{Figure, Figures};

/// Beginning of a section.
const HEADING: &str = "## ";

/// Writes a section per scenario into a file. Sections that the file has are replaced, others are
/// appended.
pub(crate) fn update(file: &Path, figures: &Figures) -> io::Result<()> {
    let mut text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read?,
    };
    for figures in figures.rows.chunk_by(|one, next| one.scenario == next.scenario) {
        text = replace_section(&text, figures[0].scenario, &render_section(figures));
    }
    fs::write(file, text)
}

/// The text with this section in place of the one with the same title, or at the end.
fn replace_section(text: &str, title: &str, section: &str) -> String {
    let heading = format!("{HEADING}{title}\n");
    let is_heading = |start: &usize| *start == 0 || text[..*start].ends_with('\n');
    let start = text.match_indices(&heading).map(|(start, _)| start).find(is_heading);
    let Some(start) = start else { return format!("{text}{section}") };
    let rest = &text[start + heading.len()..];
    let rest = rest.find(&format!("\n{HEADING}")).map_or("", |end| &rest[end + 1..]);
    format!("{}{section}{rest}", &text[..start])
}

/// One scenario: its title, the command and its tables.
fn render_section(figures: &[Figure]) -> String {
    let scenario = figures[0].scenario;
    let mut lines = vec![format!("{HEADING}{scenario}"), String::new()];
    lines.push(match scenario {
        // Needs the wrappers, which the script builds.
        "peers" => "`benches/peers/run`".to_owned(),
        scenario => format!("`cargo bench --bench load -- {scenario}`"),
    });
    for table in figures.chunk_by(is_same_table) {
        lines.push(String::new());
        if !table[0].table.is_empty() {
            lines.extend([format!("{}:", table[0].table), String::new()]);
        }
        match table[0].label.column {
            None => render_list(table, &mut lines),
            Some(_) => render_matrix(table, &mut lines),
        }
    }
    lines.push("\n".to_owned());
    lines.join("\n")
}

fn is_same_table(one: &Figure, next: &Figure) -> bool {
    one.table == next.table && one.label.column.is_some() == next.label.column.is_some()
}

/// One line per value.
fn render_list(figures: &[Figure], lines: &mut Vec<String>) {
    lines.push("| | measured | promised |".to_owned());
    lines.push("|---|---|---|".to_owned());
    for figure in figures {
        let missed = if figure.holds() { "" } else { " (missed)" };
        let (value, bound) = (figure.format_value(), figure.format_bound());
        lines.push(format!("| {} | {value}{missed} | {bound} |", figure.label));
    }
}

/// One line per row, one cell per value.
fn render_matrix(figures: &[Figure], lines: &mut Vec<String>) {
    let mut columns: Vec<&str> = Vec::new();
    for column in figures.iter().filter_map(|figure| figure.label.column) {
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    lines.push(format!("| | {} |", columns.join(" | ")));
    lines.push(format!("|---|{}", "---|".repeat(columns.len())));
    for row in figures.chunk_by(|one, next| one.label.row == next.label.row) {
        let cell = |column: &&str| {
            let figure = row.iter().find(|figure| figure.label.column == Some(*column));
            figure.map(render_cell).unwrap_or_default()
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        lines.push(format!("| {} | {} |", row[0].label.row, cells.join(" | ")));
    }
}

fn render_cell(figure: &Figure) -> String {
    let (value, bound) = (figure.format_value(), figure.format_bound());
    match (bound.is_empty(), figure.holds()) {
        (true, _) => value,
        (false, true) => format!("{value}, promised {bound}"),
        (false, false) => format!("{value}, promised {bound} (missed)"),
    }
}
