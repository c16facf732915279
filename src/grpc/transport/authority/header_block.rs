//! Finds `:authority` in a compressed header block (RFC 7541, section 6), without the table of the
//! connection: representations have lengths, and the name is either index 1 of the static table or a text.

/// Index of `:authority` in the static table.
const AUTHORITY_INDEX: u8 = 1;

const AUTHORITY: &[u8] = b":authority";

/// Maximum number of fields that are inspected: the pseudo-header fields of a request and changes of the
/// table size.
const MAX_FIELDS: u8 = 8;

/// Maximum number of further bytes of a length. Longer ones are not valid.
const MAX_LENGTH_BYTES: u32 = 4;

/// Result of inspecting a part of a header block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// `:authority` may follow.
    More,
    /// `:authority` does not follow.
    Done,
}

/// Position in a header block.
#[derive(Debug)]
pub(super) struct HeaderBlock {
    fields: u8,
    next: Next,
}

/// Meaning of the next byte.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// Byte before the first field; the number of them.
    Prefix(usize),
    /// First byte of a field.
    Field,
    /// Further byte of a number whose value does not matter; `ends_field` if no text follows.
    Number { ends_field: bool },
    /// First byte of the length of a text.
    Length(Text),
    /// Further byte of the length of a text.
    LengthRest { text: Text, length: usize, bytes: u32 },
    /// Byte of a text; the number of them.
    Byte(Text, usize),
}

/// Text of a field.
#[derive(Debug, Clone, Copy)]
enum Text {
    /// Name, and whether it agrees with `:authority` so far.
    Name { agrees: bool },
    /// Value of `:authority`.
    Authority(Authority),
    /// Value of another field.
    Other,
}

/// Position in the value of `:authority`.
#[derive(Debug, Clone, Copy, Default)]
struct Authority {
    in_brackets: bool,
    is_invalid: bool,
}

// === impl HeaderBlock ===

impl HeaderBlock {
    /// Header block after this number of other bytes.
    pub(super) fn after(prefix: usize) -> Self {
        let next = if prefix == 0 { Next::Field } else { Next::Prefix(prefix) };
        Self { fields: 0, next }
    }

    /// Inspects bytes, and replaces those of an invalid `:authority`. Returns the number of inspected bytes:
    /// all of them, or those up to the end of what may be `:authority`.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> (usize, Progress) {
        for (at, byte) in bytes.iter_mut().enumerate() {
            if self.step(byte) == Progress::Done {
                return (at + 1, Progress::Done);
            }
        }
        (bytes.len(), Progress::More)
    }

    fn step(&mut self, byte: &mut u8) -> Progress {
        let next = match self.next {
            Next::Prefix(1) => Next::Field,
            Next::Prefix(left) => Next::Prefix(left - 1),
            Next::Field => match field(*byte) {
                Some(next) => next,
                None => return self.end_field(),
            },
            Next::Number { .. } if *byte & 0x80 != 0 => return Progress::More,
            Next::Number { ends_field: true } => return self.end_field(),
            Next::Number { ends_field: false } => Next::Length(Text::Other),
            Next::Length(text) => {
                // A coded text is not compared and not changed.
                let text = if *byte & 0x80 == 0 { text } else { text.coded() };
                match usize::from(*byte & 0x7f) {
                    length @ 0x7f => Next::LengthRest { text, length, bytes: 0 },
                    length => return self.begin(text, length),
                }
            }
            Next::LengthRest { text, length, bytes } => {
                if bytes == MAX_LENGTH_BYTES {
                    return Progress::Done;
                }
                let length = length + (usize::from(*byte & 0x7f) << (7 * bytes));
                if *byte & 0x80 == 0 {
                    return self.begin(text, length);
                }
                Next::LengthRest { text, length, bytes: bytes + 1 }
            }
            Next::Byte(text, left) => {
                let text = text.step(byte, left);
                if left == 1 {
                    return self.end(text);
                }
                Next::Byte(text, left - 1)
            }
        };
        self.next = next;
        Progress::More
    }

    fn begin(&mut self, text: Text, length: usize) -> Progress {
        let text = match text {
            Text::Name { agrees } => Text::Name { agrees: agrees && length == AUTHORITY.len() },
            Text::Authority(_) | Text::Other => text,
        };
        if length == 0 {
            return self.end(text);
        }
        self.next = Next::Byte(text, length);
        Progress::More
    }

    fn end(&mut self, text: Text) -> Progress {
        match text {
            Text::Name { agrees: true } => {
                self.next = Next::Length(Text::Authority(Authority::default()));
                Progress::More
            }
            Text::Name { agrees: false } => {
                self.next = Next::Length(Text::Other);
                Progress::More
            }
            Text::Authority(_) => Progress::Done,
            Text::Other => self.end_field(),
        }
    }

    fn end_field(&mut self) -> Progress {
        self.fields += 1;
        self.next = Next::Field;
        if self.fields == MAX_FIELDS { Progress::Done } else { Progress::More }
    }
}

/// Meaning of the byte after the first one of a field; `None` if it is the whole field.
fn field(byte: u8) -> Option<Next> {
    // Bits of the index or table size in this byte, and whether texts follow.
    let (bits, has_texts) = match byte {
        0x80.. => (0x7f, false),
        0x40.. => (0x3f, true),
        0x20.. => (0x1f, false),
        0x00.. => (0x0f, true),
    };
    let index = byte & bits;
    match (index == bits, has_texts) {
        (true, _) => Some(Next::Number { ends_field: !has_texts }),
        (false, false) => None,
        (false, true) => Some(Next::Length(match index {
            0 => Text::Name { agrees: true },
            AUTHORITY_INDEX => Text::Authority(Authority::default()),
            _ => Text::Other,
        })),
    }
}

// === impl Text ===

impl Text {
    /// The same text with Huffman coding.
    fn coded(self) -> Self {
        match self {
            Self::Name { .. } => Self::Name { agrees: false },
            Self::Authority(_) | Self::Other => Self::Other,
        }
    }

    /// Text after one more byte, with `left` bytes up to the end.
    fn step(self, byte: &mut u8, left: usize) -> Self {
        match self {
            Self::Name { agrees } => Self::Name {
                agrees: agrees && AUTHORITY.get(AUTHORITY.len().wrapping_sub(left)) == Some(byte),
            },
            Self::Authority(authority) => Self::Authority(authority.step(byte)),
            Self::Other => self,
        }
    }
}

// === impl Authority ===

impl Authority {
    /// Replaces the byte if it cannot follow what is before it. Commas separate addresses, `%` encodes a
    /// comma, and `/` is of the path of a Unix socket. `%` in brackets begins the zone of an address.
    ///
    /// Bytes beyond ASCII become spaces, which are not valid either: the HTTP/2 implementation closes the
    /// connection for text that is not UTF-8, and rejects only the request for a space.
    fn step(mut self, byte: &mut u8) -> Self {
        if !byte.is_ascii() {
            *byte = b' ';
        }
        match *byte {
            b'[' => self.in_brackets = true,
            b']' => self.in_brackets = false,
            b',' | b'%' | b'/' if !self.in_brackets => self.is_invalid = true,
            _ => {}
        }
        let is_name = byte.is_ascii_alphanumeric() || matches!(*byte, b'-' | b'.' | b'_' | b'~');
        if self.is_invalid && !is_name {
            *byte = b'-';
        }
        self
    }
}
