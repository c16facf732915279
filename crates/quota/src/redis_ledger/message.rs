//! Encoding of requests for the script, and decoding of its responses.

use std::time::Duration;

use serde::Serialize;

use crate::ledger::{ExchangeRequest, Grant, SlotReport, TENTHS};

/// Values in a response before the tenths and the permits.
const HEADER: usize = 13;

/// A request as the script reads it. Times are in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    replica: &'a str,
    size: u64,
    window: f64,
    paced: bool,
    want: usize,
    spare: usize,
    first: u64,
    ahead: bool,
    spread: bool,
    hold: f64,
    spare_hold: f64,
    transit_window: f64,
    transit_second: f64,
    slots: Vec<SlotEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observed: Option<ObservedEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    learned: Option<LearnedEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close: Option<f64>,
    detached: bool,
    leave: bool,
}

#[derive(Debug, Serialize)]
struct SlotEntry {
    /// Number as text, because Lua would format a large number with an exponent.
    number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    second: Option<f64>,
}

#[derive(Debug, Serialize)]
struct ObservedEntry {
    size: u64,
    window: f64,
    used: u64,
    oldest: u64,
}

/// Limits that were learned; 0 if there are none.
#[derive(Debug, Serialize)]
struct LearnedEntry {
    window: u64,
    second: u64,
}

// === impl Message ===

impl<'a> Message<'a> {
    pub(super) fn new(request: &'a ExchangeRequest) -> Self {
        let ExchangeRequest {
            replica,
            size,
            window,
            paced,
            want,
            spare,
            first,
            ahead,
            spread,
            hold,
            spare_hold,
            transit: [transit_window, transit_second],
            slots,
            observed,
            learned,
            close,
            detached,
            leave,
        } = request;
        Self {
            replica,
            size: *size,
            window: ms(*window),
            paced: *paced,
            want: *want,
            spare: *spare,
            first: *first,
            ahead: *ahead,
            spread: *spread,
            hold: ms(*hold),
            spare_hold: ms(*spare_hold),
            transit_window: ms(*transit_window),
            transit_second: ms(*transit_second),
            slots: slots.iter().map(SlotEntry::new).collect(),
            observed: observed.map(|observed| ObservedEntry {
                size: observed.size,
                window: ms(observed.window),
                used: observed.used,
                oldest: observed.oldest,
            }),
            learned: learned.map(|[window, second]| LearnedEntry {
                window: window.unwrap_or_default(),
                second: second.unwrap_or_default(),
            }),
            close: close.map(ms),
            detached: *detached,
            leave: *leave,
        }
    }
}

// === impl SlotEntry ===

impl SlotEntry {
    fn new(report: &SlotReport) -> Self {
        let SlotReport { number, counted } = report;
        #[expect(clippy::cast_precision_loss, reason = "the clock stays below 2^53 us until 2255")]
        let ms = |micros: i64| micros as f64 / 1e3;
        Self {
            number: number.to_string(),
            window: counted.map(|[window, _]| ms(window)),
            second: counted.map(|[_, second]| ms(second)),
        }
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Decodes a response. `None` if it is not one of the script.
pub(super) fn parse_grant(response: &[i64]) -> Option<Grant> {
    let number = |value: i64| u64::try_from(value).ok();
    let micros = |value: i64| number(value).map(Duration::from_micros);
    let (header, rest) = response.split_at_checked(HEADER)?;
    let (leaving, permits) = rest.split_at_checked(TENTHS)?;
    let [
        now,
        warming,
        replicas,
        used,
        size,
        window,
        closed,
        oldest,
        next,
        live_others,
        cap_window,
        cap_second,
        used_in_second,
    ] = header.try_into().ok()?;
    let cap = |value: i64| number(value).filter(|cap| *cap > 0);
    Some(Grant {
        now,
        leaving: std::array::from_fn(|part| u32::try_from(leaving[part]).unwrap_or_default()),
        permits: permits.to_vec(),
        next,
        used: number(used)?,
        used_in_second: number(used_in_second)?,
        learned: [cap(cap_window), cap(cap_second)],
        size: number(size)?,
        window: micros(window)?,
        closed: micros(closed)?,
        replicas: u32::try_from(replicas).ok()?,
        live_others: u32::try_from(live_others).ok()?,
        oldest: number(oldest)?,
        warming: warming != 0,
    })
}

#[cfg(test)]
mod tests;
