//! Measured values and their bounds, printed while they are measured.

use std::{
    fmt,
    io::{self, Write as _},
    time::Duration,
};

/// All values, in the order measured.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    scenario: &'static str,
    table: String,
    pub(crate) rows: Vec<Figure>,
}

/// One measured value.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) scenario: &'static str,
    /// Title of the table that the value belongs to; empty if the scenario has only one.
    pub(crate) table: String,
    pub(crate) label: Label,
    value: f64,
    /// Smallest and largest value, if the value is the median over several rounds.
    range: Option<(f64, f64)>,
    unit: Unit,
    bound: Option<Bound>,
}

/// Place of a value: a line of a list, or a cell of a matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) row: String,
    /// `None` in a list.
    pub(crate) column: Option<&'static str>,
}

/// Unit of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Count,
    PerSecond,
    /// Quotient of two measured values.
    Ratio,
    /// Part of a whole; 1 is all of it.
    Fraction,
    Milliseconds,
    Microseconds,
    Kibibytes,
    Mebibytes,
}

/// Promise that a value must keep.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// A value that may still get its bound; printed when dropped.
pub(crate) struct FigureBuilder<'a>(&'a mut Figure);

/// A value with its unit, as it is printed.
struct Formatted(f64, Unit);

/// Durations in ascending order.
#[derive(Debug)]
pub(crate) struct Durations(Vec<Duration>);

// === impl Figures ===

impl Figures {
    /// Starts a scenario: the following values belong to it.
    pub(crate) fn begin(&mut self, scenario: &'static str) {
        self.scenario = scenario;
        self.table.clear();
        print(&format!("\n== {scenario}"));
    }

    /// Starts a table of the scenario.
    pub(crate) fn begin_table(&mut self, title: impl Into<String>) {
        self.table = title.into();
        print(&format!("  {}", self.table));
    }

    /// Adds a value.
    pub(crate) fn add(
        &mut self,
        label: impl Into<Label>,
        value: f64,
        unit: Unit,
    ) -> FigureBuilder<'_> {
        self.add_figure(label.into(), value, None, unit)
    }

    /// Adds a duration.
    pub(crate) fn add_duration(
        &mut self,
        label: impl Into<Label>,
        value: Duration,
    ) -> FigureBuilder<'_> {
        self.add(label, value.as_secs_f64() * 1e3, Unit::Milliseconds)
    }

    /// Adds the median of one value per round, with the smallest and the largest.
    pub(crate) fn add_rounds(
        &mut self,
        label: impl Into<Label>,
        mut values: Vec<f64>,
        unit: Unit,
    ) -> FigureBuilder<'_> {
        values.sort_unstable_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else {
            panic!("a figure needs at least one round");
        };
        self.add_figure(label.into(), values[values.len() / 2], Some((*min, *max)), unit)
    }

    /// Counts the values that miss their bound.
    pub(crate) fn missed(&self) -> usize {
        self.rows.iter().filter(|figure| !figure.holds()).count()
    }

    fn add_figure(
        &mut self,
        label: Label,
        value: f64,
        range: Option<(f64, f64)>,
        unit: Unit,
    ) -> FigureBuilder<'_> {
        let (scenario, table) = (self.scenario, self.table.clone());
        self.rows.push(Figure { scenario, table, label, value, range, unit, bound: None });
        let last = self.rows.len() - 1;
        FigureBuilder(&mut self.rows[last])
    }
}

// === impl FigureBuilder ===

impl FigureBuilder<'_> {
    /// Fails the run if the value is smaller.
    pub(crate) fn at_least(self, bound: f64) {
        self.0.bound = Some(Bound::AtLeast(bound));
    }

    /// Fails the run if the value is larger.
    pub(crate) fn at_most(self, bound: f64) {
        self.0.bound = Some(Bound::AtMost(bound));
    }
}

impl Drop for FigureBuilder<'_> {
    /// Prints the value as soon as it is complete: a run takes minutes.
    fn drop(&mut self) {
        let figure = &self.0;
        let mark = if figure.holds() { ' ' } else { '!' };
        let label = figure.label.to_string();
        let (value, bound) = (figure.format_value(), figure.format_bound());
        print(&format!("{mark} {label:<64} {value:>16}   {bound}"));
    }
}

// === impl Figure ===

impl Figure {
    /// True if the value keeps its bound.
    pub(crate) fn holds(&self) -> bool {
        match self.bound {
            None => true,
            Some(Bound::AtLeast(bound)) => self.value >= bound,
            Some(Bound::AtMost(bound)) => self.value <= bound,
        }
    }

    /// The value, with its range.
    pub(crate) fn format_value(&self) -> String {
        let value = Formatted(self.value, self.unit);
        match self.range {
            None => value.to_string(),
            Some((min, max)) => {
                let (min, max) = (Formatted(min, self.unit), Formatted(max, self.unit));
                format!("{value} ({min} to {max})")
            }
        }
    }

    /// The bound; empty if there is none.
    pub(crate) fn format_bound(&self) -> String {
        match self.bound {
            None => String::new(),
            Some(Bound::AtLeast(bound)) => format!("≥ {}", Formatted(bound, self.unit)),
            Some(Bound::AtMost(bound)) => format!("≤ {}", Formatted(bound, self.unit)),
        }
    }
}

// === impl Label ===

impl From<&str> for Label {
    fn from(row: &str) -> Self {
        Self { row: row.to_owned(), column: None }
    }
}

impl From<String> for Label {
    fn from(row: String) -> Self {
        Self { row, column: None }
    }
}

impl From<(&str, &'static str)> for Label {
    /// A cell by its row and its column.
    fn from((row, column): (&str, &'static str)) -> Self {
        Self { row: row.to_owned(), column: Some(column) }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            None => f.write_str(&self.row),
            Some(column) => write!(f, "{}: {column}", self.row),
        }
    }
}

// === impl Formatted ===

impl fmt::Display for Formatted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, unit) = self;
        match unit {
            Unit::Count => write!(f, "{value:.0}"),
            Unit::PerSecond => write!(f, "{value:.1} /s"),
            Unit::Ratio => write!(f, "{value:.3} x"),
            Unit::Fraction => write!(f, "{:.1} %", value * 100.0),
            Unit::Milliseconds if *value < 10.0 => write!(f, "{value:.3} ms"),
            Unit::Milliseconds => write!(f, "{value:.1} ms"),
            Unit::Microseconds => write!(f, "{value:.1} µs"),
            Unit::Kibibytes => write!(f, "{value:.1} KiB"),
            Unit::Mebibytes => write!(f, "{value:.1} MiB"),
        }
    }
}

// === impl Durations ===

impl Durations {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The duration that this many of a thousand do not exceed.
    pub(crate) fn permille(&self, rank: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * rank / 1000).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.permille(500)
    }

    pub(crate) fn p99(&self) -> Duration {
        self.permille(990)
    }

    pub(crate) fn max(&self) -> Duration {
        self.permille(1000)
    }
}

impl FromIterator<Duration> for Durations {
    fn from_iter<T: IntoIterator<Item = Duration>>(durations: T) -> Self {
        let mut durations: Vec<Duration> = durations.into_iter().collect();
        durations.sort_unstable();
        Self(durations)
    }
}

/// Writes a line to standard output; a closed output is ignored.
pub(crate) fn print(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// A count as a value.
#[expect(clippy::cast_precision_loss, reason = "no count comes near 2^52")]
pub(crate) fn count(number: usize) -> f64 {
    number as f64
}

/// A total as a value.
#[expect(clippy::cast_precision_loss, reason = "no total comes near 2^52")]
pub(crate) fn total(number: u64) -> f64 {
    number as f64
}
