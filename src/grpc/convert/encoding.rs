//! Parts of messages: points in time, and encoded sizes of fields.

use leadsd_base::time::Timestamp;
use prost::length_delimiter_len;
use prost_types::Timestamp as PbTimestamp;

/// Message of a point in time.
pub(super) fn timestamp(time: Timestamp) -> PbTimestamp {
    // The nanoseconds of a protobuf timestamp are never negative, even before 1970.
    let (mut seconds, mut nanos) = (time.as_second(), time.subsec_nanosecond());
    if nanos < 0 {
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    PbTimestamp { seconds, nanos }
}

/// Encoded size of a field with a number below 16 that has `bytes` bytes.
pub(super) fn field(bytes: usize) -> usize {
    1 + length_delimiter_len(bytes) + bytes
}

/// Encoded size of a text field with a number below 16; empty texts are omitted.
pub(super) fn text(text: &str) -> usize {
    nested(text.len())
}

/// Encoded size of a field of `bytes` bytes; an empty one is omitted.
pub(super) fn nested(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { field(bytes) }
}
