//! Durations of requests.

use std::time::Duration;

/// Duration of a request. `None` if it is negative.
///
/// The conversion of `prost_types` negates a negative number of seconds, which overflows for the smallest.
pub(crate) fn from_proto(duration: prost_types::Duration) -> Option<Duration> {
    let prost_types::Duration { seconds, nanos } = duration;
    Some(Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?))
}

#[cfg(test)]
mod tests;
