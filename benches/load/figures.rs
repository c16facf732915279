//! Measured values and their bounds, printed while they are measured and as Markdown tables.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    time::Duration,
};

/// All rows, in the order measured.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    scenario: &'static str,
    rows: Vec<Row>,
}

/// One measured value.
#[derive(Debug, Clone)]
struct Row {
    scenario: &'static str,
    label: String,
    value: f64,
    /// Smallest and largest value, if the value is the median over several rounds.
    range: Option<(f64, f64)>,
    unit: Unit,
    bound: Option<Bound>,
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

/// A row that may still get its bound; printed when dropped.
pub(crate) struct RowBuilder<'a>(&'a mut Row);

/// A value with its unit, as it is printed.
struct Formatted(f64, Unit);

/// Durations in ascending order.
#[derive(Debug)]
pub(crate) struct Durations(Vec<Duration>);

// === impl Figures ===

impl Figures {
    /// Starts a scenario: the following rows belong to it.
    pub(crate) fn begin(&mut self, scenario: &'static str) {
        self.scenario = scenario;
        print(&format!("\n== {scenario}"));
    }

    /// Adds a value.
    pub(crate) fn add(
        &mut self,
        label: impl Into<String>,
        value: f64,
        unit: Unit,
    ) -> RowBuilder<'_> {
        self.add_row(label.into(), value, None, unit)
    }

    /// Adds a duration.
    pub(crate) fn add_duration(
        &mut self,
        label: impl Into<String>,
        value: Duration,
    ) -> RowBuilder<'_> {
        self.add(label, value.as_secs_f64() * 1e3, Unit::Milliseconds)
    }

    /// Adds the median of one value per round, with the smallest and the largest.
    pub(crate) fn add_rounds(
        &mut self,
        label: impl Into<String>,
        mut values: Vec<f64>,
        unit: Unit,
    ) -> RowBuilder<'_> {
        values.sort_unstable_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else {
            panic!("a figure needs at least one round");
        };
        self.add_row(label.into(), values[values.len() / 2], Some((*min, *max)), unit)
    }

    /// Counts the rows that miss their bound.
    pub(crate) fn missed(&self) -> usize {
        self.rows.iter().filter(|row| !row.holds()).count()
    }

    /// Renders one table per scenario.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        let mut scenario = "";
        for row in &self.rows {
            if row.scenario != scenario {
                scenario = row.scenario;
                let gap = if text.is_empty() { "" } else { "\n" };
                let _ = write!(
                    text,
                    "{gap}### {scenario}\n\n`cargo bench --bench load -- {scenario}`\n\n\
                     | | measured | promised |\n|---|---|---|\n"
                );
            }
            let missed = if row.holds() { "" } else { " (missed)" };
            let (label, value, promise) = (&row.label, row.format_value(), row.format_bound());
            let _ = writeln!(text, "| {label} | {value}{missed} | {promise} |");
        }
        text
    }

    fn add_row(
        &mut self,
        label: String,
        value: f64,
        range: Option<(f64, f64)>,
        unit: Unit,
    ) -> RowBuilder<'_> {
        self.rows.push(Row { scenario: self.scenario, label, value, range, unit, bound: None });
        let last = self.rows.len() - 1;
        RowBuilder(&mut self.rows[last])
    }
}

// === impl RowBuilder ===

impl RowBuilder<'_> {
    /// Fails the run if the value is smaller.
    pub(crate) fn at_least(self, bound: f64) {
        self.0.bound = Some(Bound::AtLeast(bound));
    }

    /// Fails the run if the value is larger.
    pub(crate) fn at_most(self, bound: f64) {
        self.0.bound = Some(Bound::AtMost(bound));
    }
}

impl Drop for RowBuilder<'_> {
    /// Prints the row as soon as it is complete: a run takes minutes.
    fn drop(&mut self) {
        let row = &self.0;
        let mark = if row.holds() { ' ' } else { '!' };
        let (label, value, bound) = (&row.label, row.format_value(), row.format_bound());
        print(&format!("{mark} {label:<72} {value:>16}   {bound}"));
    }
}

// === impl Row ===

impl Row {
    fn holds(&self) -> bool {
        match self.bound {
            None => true,
            Some(Bound::AtLeast(bound)) => self.value >= bound,
            Some(Bound::AtMost(bound)) => self.value <= bound,
        }
    }

    fn format_value(&self) -> String {
        let value = Formatted(self.value, self.unit);
        match self.range {
            None => value.to_string(),
            Some((min, max)) => {
                let (min, max) = (Formatted(min, self.unit), Formatted(max, self.unit));
                format!("{value} ({min} to {max})")
            }
        }
    }

    fn format_bound(&self) -> String {
        match self.bound {
            None => String::new(),
            Some(Bound::AtLeast(bound)) => format!("≥ {}", Formatted(bound, self.unit)),
            Some(Bound::AtMost(bound)) => format!("≤ {}", Formatted(bound, self.unit)),
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
