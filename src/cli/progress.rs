//! Progress of a long command: a bar on a terminal, and a line every few seconds elsewhere.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::output::print_progress;

/// Interval of lines without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Period over which the rate is measured.
const RATE_PERIOD: Duration = Duration::from_secs(10);

/// Updates of the bar per second. A terminal over a slow connection would hold the command back.
const UPDATES: u8 = 4;

/// Progress of a command.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    /// Name of the things that are counted, such as `leads`.
    unit: &'static str,
    /// Counts with their times, oldest first.
    samples: VecDeque<(Instant, u64)>,
    line_due: Instant,
}

/// Position of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) done: u64,
    /// Number of all; `None` if it is not known.
    pub(super) total: Option<u64>,
    /// Time to the end; `None` if it is not known.
    pub(super) remaining: Option<Duration>,
    /// Further text; empty for none.
    pub(super) note: String,
}

// === impl Progress ===

impl Progress {
    /// A bar if standard error is a terminal, and lines otherwise.
    pub(super) fn new(unit: &'static str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(UPDATES);
            ProgressBar::with_draw_target(Some(1), target).with_style(style(false))
        });
        let line_due = Instant::now() + LINE_INTERVAL;
        Self { bar, unit, samples: VecDeque::new(), line_due }
    }

    /// True if progress is shown on a terminal.
    pub(super) fn is_bar(&self) -> bool {
        self.bar.is_some()
    }

    /// Shows a position.
    pub(super) fn show(&mut self, position: &Position) {
        let now = Instant::now();
        let text = text(position, self.unit, self.rate(now, position.done));
        match &self.bar {
            Some(bar) => {
                bar.set_message(text);
                bar.set_style(style(position.total.is_some()));
                bar.set_length(position.total.unwrap_or(position.done).max(1));
                bar.set_position(position.done);
            }
            None if self.line_due <= now => {
                print_progress(&format!("leadsd: {text}"));
                self.line_due = now + LINE_INTERVAL;
            }
            None => {}
        }
    }

    /// Leaves the bar as it is, so that further output begins on a new line.
    pub(super) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.tick();
            bar.abandon();
        }
    }

    /// Units per second; `None` before the first second has passed.
    fn rate(&mut self, now: Instant, done: u64) -> Option<f64> {
        let is_new = self.samples.back().is_none_or(|(at, _)| now - *at >= Duration::from_secs(1));
        if is_new {
            self.samples.push_back((now, done));
        }
        // The oldest sample is at least as old as the period, or the first one.
        while self.samples.get(1).is_some_and(|(at, _)| now - *at >= RATE_PERIOD) {
            self.samples.pop_front();
        }
        let (at, count) = self.samples.front()?;
        let elapsed = now - *at;
        (elapsed >= Duration::from_secs(1))
            .then(|| to_f64(done.saturating_sub(*count)) / elapsed.as_secs_f64())
    }
}

/// Bar before the text if the total is known.
fn style(has_total: bool) -> ProgressStyle {
    let template = if has_total { "[{bar:20}] {wide_msg}" } else { "{spinner} {wide_msg}" };
    let style = ProgressStyle::with_template(template);
    // Both templates are valid, and a test builds them.
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// Position in words, such as `450 of 1,000 leads (45 %), 120/s, 5 s left`.
fn text(position: &Position, unit: &str, rate: Option<f64>) -> String {
    let Position { done, total, remaining, note } = position;
    let mut parts = vec![match total {
        Some(total) => {
            let percent = u128::from(*done) * 100 / u128::from((*total).max(1));
            format!("{} of {} {unit} ({} %)", grouped(*done), grouped(*total), percent.min(100))
        }
        None => format!("{} {unit}", grouped(*done)),
    }];
    parts.extend(rate.map(|rate| format!("{rate:.0}/s")));
    parts.extend(remaining.map(|time| format!("{} left", time_text(time))));
    if !note.is_empty() {
        parts.push(note.clone());
    }
    parts.join(", ")
}

/// Number with a comma before each group of three digits.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Time in its two largest units, such as `2 min 5 s`.
pub(super) fn time_text(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is shown without decimals")]
fn to_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_shown_in_words() {
        for (done, total, remaining, note, rate, expected) in [
            (0, None, None, "", None, "0 leads"),
            (1_234_567, None, None, "", Some(99.6), "1,234,567 leads, 100/s"),
            (
                450,
                Some(1_000),
                Some(5),
                "",
                Some(120.0),
                "450 of 1,000 leads (45 %), 120/s, 5 s left",
            ),
            (0, Some(0), Some(0), "", None, "0 of 0 leads (0 %), 0 s left"),
            (9, Some(8), None, "quota 3 %", None, "9 of 8 leads (100 %), quota 3 %"),
            (1, Some(8), Some(125), "", None, "1 of 8 leads (12 %), 2 min 5 s left"),
            (1, Some(8), Some(7_325), "", None, "1 of 8 leads (12 %), 2 h 2 min left"),
        ] {
            let remaining = remaining.map(Duration::from_secs);
            let position = Position { done, total, remaining, note: note.to_owned() };
            assert_eq!(text(&position, "leads", rate), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_that_of_the_last_seconds() {
        let mut progress = Progress {
            bar: None,
            unit: "leads",
            samples: VecDeque::new(),
            line_due: Instant::now() + Duration::from_secs(3_600),
        };
        assert_eq!(progress.rate(Instant::now(), 1_000), None);
        for second in 1..=60 {
            tokio::time::advance(Duration::from_secs(1)).await;
            let rate = progress.rate(Instant::now(), 1_000 + second * 50);
            assert_eq!(rate, Some(50.0));
        }
        for _ in 0..20 {
            tokio::time::advance(Duration::from_secs(1)).await;
            progress.rate(Instant::now(), 4_000);
        }
        assert_eq!(progress.rate(Instant::now(), 4_000), Some(0.0));
        assert!(progress.samples.len() <= 11);
    }

    #[test]
    fn the_templates_are_valid() {
        for template in ["[{bar:20}] {wide_msg}", "{spinner} {wide_msg}"] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
