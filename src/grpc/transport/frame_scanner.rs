//! Finds the headers of HTTP/2 frames in a byte stream that arrives in pieces of any size.

/// Length of the client connection preface, which the first frame of a client follows.
pub(super) const PREFACE: usize = 24;

/// Length of the header of a frame.
pub(super) const FRAME_HEADER: usize = 9;

/// Frame type HEADERS.
pub(super) const HEADERS: u8 = 1;

/// Frame type RST_STREAM.
pub(super) const RST_STREAM: u8 = 3;

/// Header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Length of the payload.
    pub(super) length: usize,
    /// Type, such as [`HEADERS`].
    pub(super) kind: u8,
    /// Flags.
    pub(super) flags: u8,
    /// Stream id; 0 for the connection.
    pub(super) stream: u32,
}

/// Position in the frames of one direction of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum FrameScanner {
    /// Bytes of a preface or a payload.
    Skip(usize),
    /// Header of a frame, and how many of its bytes have arrived.
    Header([u8; FRAME_HEADER], usize),
}

// === impl FrameHeader ===

impl FrameHeader {
    pub(super) fn parse(header: [u8; FRAME_HEADER]) -> Self {
        let [high, middle, low, kind, flags, stream @ ..] = header;
        Self {
            length: u32::from_be_bytes([0, high, middle, low]) as usize,
            kind,
            flags,
            // The first bit is reserved.
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }
}

// === impl FrameScanner ===

impl FrameScanner {
    /// Scanner whose first frame follows this number of other bytes.
    pub(super) fn after(bytes: usize) -> Self {
        if bytes == 0 { Self::Header([0; FRAME_HEADER], 0) } else { Self::Skip(bytes) }
    }

    /// Scans the next bytes and passes on the header of each frame whose header ends in them.
    pub(super) fn advance(&mut self, bytes: &[u8], mut on_frame: impl FnMut(FrameHeader)) {
        self.scan(bytes, |_, frame| on_frame(frame));
    }

    /// The same, for frames that begin in these bytes; with their position.
    pub(super) fn advance_with_position(
        &mut self,
        bytes: &[u8],
        mut on_frame: impl FnMut(usize, FrameHeader),
    ) {
        self.scan(bytes, |at, frame| {
            if let Some(at) = at {
                on_frame(at, frame);
            }
        });
    }

    fn scan(&mut self, bytes: &[u8], mut on_frame: impl FnMut(Option<usize>, FrameHeader)) {
        let mut at = 0;
        while at < bytes.len() {
            let left = bytes.len() - at;
            match self {
                Self::Skip(skipped) => {
                    let read = left.min(*skipped);
                    at += read;
                    *self = Self::after(*skipped - read);
                }
                Self::Header(header, received) => {
                    let read = left.min(FRAME_HEADER - *received);
                    header[*received..*received + read].copy_from_slice(&bytes[at..at + read]);
                    *received += read;
                    at += read;
                    if *received == FRAME_HEADER {
                        let frame = FrameHeader::parse(*header);
                        on_frame(at.checked_sub(FRAME_HEADER), frame);
                        *self = Self::after(frame.length);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_in_pieces_of_every_size() {
        let frames: &[u8] = b"PP\0\0\x03\x01\x04\x80\0\0\x07abc\0\0\0\x03\0\0\0\x01\x02";
        let first = FrameHeader { length: 3, kind: HEADERS, flags: 4, stream: 7 };
        let second = FrameHeader { length: 0, kind: RST_STREAM, flags: 0, stream: 258 };
        for piece in 1..=frames.len() {
            let (mut scanner, mut found) = (FrameScanner::after(2), Vec::new());
            for bytes in frames.chunks(piece) {
                scanner.advance(bytes, |frame| found.push(frame));
            }
            assert_eq!(found, [first, second], "pieces of {piece}");
        }
        let mut found = Vec::new();
        FrameScanner::after(2).advance_with_position(frames, |at, frame| found.push((at, frame)));
        assert_eq!(found, [(2, first), (14, second)]);
        // The header of the first frame began before these bytes.
        let mut scanner = FrameScanner::after(2);
        scanner.advance(&frames[..4], |_| {});
        let mut found = Vec::new();
        scanner.advance_with_position(&frames[4..], |at, frame| found.push((at, frame)));
        assert_eq!(found, [(10, second)]);
    }
}
