//! Framing of gRPC messages: one flag byte, four length bytes, then the message.

use std::convert::Infallible;

/// Length of the prefix of a message in bytes.
pub(crate) const PREFIX: usize = 5;

/// Tracker of the messages of a body by their prefixes, for any split into DATA frames.
#[derive(Debug, Default)]
pub(crate) struct FrameTracker {
    prefix: [u8; PREFIX],
    /// Number of received bytes of the prefix.
    prefix_len: usize,
    /// Number of missing bytes of the message.
    missing: usize,
    /// Number of received bytes of the incomplete message, including its prefix.
    open: usize,
    /// Size of the largest complete message in bytes, including its prefix.
    largest: usize,
    /// Number of complete messages since [`take_complete`](Self::take_complete).
    complete: u64,
    /// Number of messages of which at least one byte arrived.
    started: u64,
}

/// Part of the data of a body.
#[derive(Debug)]
pub(crate) enum Part<'a> {
    /// Prefix of a message.
    Prefix {
        /// 0 if the message is not compressed, 1 if it is; other flags are invalid.
        flag: u8,
        /// Length of the message in bytes, without the prefix.
        length: usize,
    },
    /// Next bytes of the message.
    Message(&'a [u8]),
}

/// Error of data that is added. `E` is the error of a part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FrameError<E> {
    /// The length of a message exceeds the maximum.
    TooLarge(usize),
    /// A part was rejected.
    Rejected(E),
}

// === impl FrameTracker ===

impl FrameTracker {
    /// Maximum number of bytes in use after `data` bytes are added: the incomplete message, and a
    /// complete message that the decoder may still hold.
    pub(crate) fn footprint(&self, data: usize) -> usize {
        self.largest.saturating_add(self.open).saturating_add(data)
    }

    /// Records the uncompressed size of a complete message, without its prefix.
    pub(crate) fn on_decompressed(&mut self, message: usize) {
        self.largest = self.largest.max(message.saturating_add(PREFIX));
    }

    /// Number of messages of which at least one byte arrived.
    pub(crate) fn started(&self) -> u64 {
        self.started
    }

    /// Returns the number of messages that were completed since the last call.
    pub(crate) fn take_complete(&mut self) -> u64 {
        std::mem::take(&mut self.complete)
    }

    /// Adds data.
    pub(crate) fn add(&mut self, data: &[u8]) {
        // No length exceeds the maximum, and no part is rejected.
        let _ = self.add_parts(data, usize::MAX, |_| Ok::<_, Infallible>(()));
    }

    /// Adds data, and passes its parts on.
    pub(crate) fn add_parts<E>(
        &mut self,
        mut data: &[u8],
        max_message: usize,
        mut on_part: impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), FrameError<E>> {
        while !data.is_empty() {
            if self.missing == 0 {
                if self.prefix_len == 0 {
                    self.started += 1;
                }
                let take = data.len().min(PREFIX - self.prefix_len);
                self.prefix[self.prefix_len..self.prefix_len + take].copy_from_slice(&data[..take]);
                self.prefix_len += take;
                self.open += take;
                data = &data[take..];
                if self.prefix_len < PREFIX {
                    return Ok(());
                }
                let [flag, length @ ..] = self.prefix;
                let length = u32::from_be_bytes(length) as usize;
                if length > max_message {
                    return Err(FrameError::TooLarge(length));
                }
                on_part(Part::Prefix { flag, length }).map_err(FrameError::Rejected)?;
                self.missing = length;
            }
            let take = data.len().min(self.missing);
            self.missing -= take;
            self.open += take;
            let (message, rest) = data.split_at(take);
            on_part(Part::Message(message)).map_err(FrameError::Rejected)?;
            data = rest;
            if self.missing == 0 {
                self.largest = self.largest.max(self.open);
                self.complete += 1;
                (self.prefix_len, self.open) = (0, 0);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(lengths: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for length in lengths {
            bytes.push(0);
            bytes.extend(u32::try_from(*length).unwrap().to_be_bytes());
            bytes.extend(vec![7; *length]);
        }
        bytes
    }

    #[test]
    fn the_footprint_covers_a_complete_message_and_the_next_one() {
        let mut tracker = FrameTracker::default();
        assert_eq!(tracker.footprint(15), 15);
        tracker.add(&encoded(&[10]));
        assert_eq!(tracker.footprint(0), 15);
        assert_eq!(tracker.footprint(3), 18);
        tracker.add(&encoded(&[20])[..8]);
        assert_eq!(tracker.footprint(0), 15 + 8);
    }

    proptest! {
        #[test]
        fn messages_are_tracked_for_any_split_into_frames(
            lengths in prop::collection::vec(0_usize..40, 0..6),
            cuts in prop::collection::vec(1_usize..17, 1..60),
        ) {
            let bytes = encoded(&lengths);
            let mut tracker = FrameTracker::default();
            let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
            let (mut counted, mut parts) = (0, Vec::new());
            while at < bytes.len() {
                let end = (at + cuts.next().unwrap()).min(bytes.len());
                let added = tracker.add_parts(&bytes[at..end], 40, |part| {
                    match part {
                        Part::Prefix { flag, length } => parts.push((flag, length, 0)),
                        Part::Message(data) => parts.last_mut().unwrap().2 += data.len(),
                    }
                    Ok::<_, Infallible>(())
                });
                prop_assert_eq!(added, Ok(()));
                counted += tracker.take_complete();
                at = end;
                // Bytes after the last complete message are open.
                let (mut complete, mut largest, mut messages) = (0, 0, 0);
                for length in &lengths {
                    if complete + PREFIX + length > at {
                        break;
                    }
                    complete += PREFIX + length;
                    largest = largest.max(PREFIX + length);
                    messages += 1;
                }
                prop_assert_eq!((tracker.open, tracker.largest), (at - complete, largest));
                prop_assert_eq!(counted, messages);
            }
            let expected: Vec<_> = lengths.iter().map(|length| (0, *length, *length)).collect();
            prop_assert_eq!(parts, expected);
            prop_assert_eq!(tracker.started(), lengths.len() as u64);
        }

        #[test]
        fn a_message_over_the_maximum_is_found_by_its_prefix(
            before in prop::collection::vec(0_usize..40, 0..4),
            length in 41_u32..,
        ) {
            let mut bytes = encoded(&before);
            bytes.push(1);
            bytes.extend(length.to_be_bytes());
            let added = FrameTracker::default().add_parts(&bytes, 40, |_| Ok::<_, Infallible>(()));
            prop_assert_eq!(added, Err(FrameError::TooLarge(length as usize)));
        }
    }
}
