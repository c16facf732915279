//! What was measured, against what was promised, for people and as a table for the documentation.

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
    what: String,
    value: f64,
    unit: Unit,
    bound: Option<Bound>,
}

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Things.
    Count,
    /// Things a second.
    PerSecond,
    /// By so much.
    Ratio,
    /// Part of a whole, 1 being all of it.
    Part,
    Millis,
    Micros,
    MiB,
}

/// What a value must keep to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// A row that may still get its bound.
pub(crate) struct Noted<'a>(&'a mut Row);

// === impl Figures ===

impl Figures {
    /// The rows that follow are of this scenario.
    pub(crate) fn begin(&mut self, scenario: &'static str) {
        self.scenario = scenario;
        say(&format!("\n== {scenario}"));
    }

    pub(crate) fn note(&mut self, what: impl Into<String>, value: f64, unit: Unit) -> Noted<'_> {
        let row = Row { scenario: self.scenario, what: what.into(), value, unit, bound: None };
        self.rows.push(row);
        let last = self.rows.len() - 1;
        Noted(&mut self.rows[last])
    }

    pub(crate) fn time(&mut self, what: impl Into<String>, value: Duration) -> Noted<'_> {
        self.note(what, value.as_secs_f64() * 1e3, Unit::Millis)
    }

    /// How many rows miss their bound.
    pub(crate) fn missed(&self) -> usize {
        self.rows.iter().filter(|row| !row.holds()).count()
    }

    /// One table per scenario.
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
            let _ =
                writeln!(text, "| {} | {}{missed} | {} |", row.what, row.shown(), row.promise());
        }
        text
    }
}

// === impl Noted ===

impl Noted<'_> {
    pub(crate) fn at_least(self, bound: f64) {
        self.0.bound = Some(Bound::AtLeast(bound));
    }

    pub(crate) fn at_most(self, bound: f64) {
        self.0.bound = Some(Bound::AtMost(bound));
    }
}

impl Drop for Noted<'_> {
    /// Says the row as soon as it is complete: a run takes minutes.
    fn drop(&mut self) {
        let row = &self.0;
        let mark = if row.holds() { ' ' } else { '!' };
        say(&format!("{mark} {:<66} {:>14}   {}", row.what, row.shown(), row.promise()));
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

    fn shown(&self) -> String {
        format!("{}", Shown(self.value, self.unit))
    }

    fn promise(&self) -> String {
        match self.bound {
            None => String::new(),
            Some(Bound::AtLeast(bound)) => format!("≥ {}", Shown(bound, self.unit)),
            Some(Bound::AtMost(bound)) => format!("≤ {}", Shown(bound, self.unit)),
        }
    }
}

/// A value with its unit.
struct Shown(f64, Unit);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, unit) = self;
        match unit {
            Unit::Count => write!(f, "{value:.0}"),
            Unit::PerSecond => write!(f, "{value:.1} /s"),
            Unit::Ratio => write!(f, "{value:.3} x"),
            Unit::Part => write!(f, "{:.1} %", value * 100.0),
            Unit::Millis if *value < 10.0 => write!(f, "{value:.3} ms"),
            Unit::Millis => write!(f, "{value:.1} ms"),
            Unit::Micros => write!(f, "{value:.1} µs"),
            Unit::MiB => write!(f, "{value:.1} MiB"),
        }
    }
}

/// Writes a line; who has closed the other end does not want it.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Times in order.
#[derive(Debug)]
pub(crate) struct Times(Vec<Duration>);

// === impl Times ===

impl Times {
    pub(crate) fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The time that this many of a thousand keep to.
    pub(crate) fn permille(&self, part: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * part / 1000).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.permille(500)
    }

    pub(crate) fn max(&self) -> Duration {
        self.permille(1000)
    }
}
