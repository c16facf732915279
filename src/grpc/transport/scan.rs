//! Scans the wire format of a message before it is decoded: counts elements, and computes the bytes that the
//! decoded message will take.
//!
//! The scan accepts data in any parts, so that it stops a message that is still arriving or being
//! decompressed. It accepts every message that prost decodes, within the maximum numbers of elements.

use hyper::body::Buf;

use crate::grpc::shape::{
    Container, Content, Field, MAX_COUNTERS, MAX_DEPTH, RequestShape, ShapeId, WireType,
};

/// Maximum depth of nested groups in unknown fields; prost's limit.
const MAX_GROUPS: u8 = 100;

/// Overhead of one heap allocation in bytes: rounding to size classes.
const ALLOCATION: usize = 16;

/// Bytes that an element of a repeated field takes at least when it is converted, beside those of the message:
/// an invalid input becomes its error.
const CONVERTED: usize = 24;

/// Scanner of the messages of one request.
#[derive(Debug)]
pub(crate) struct MessageScanner {
    shape: RequestShape,
    step: Step,
    /// Value of an incomplete varint.
    varint: u64,
    /// Number of bits of it so far.
    bits: u32,
    /// Number of bytes to skip: the rest of a value.
    skip: usize,
    /// Number of bytes of the message so far.
    position: usize,
    /// Depth of nested groups in unknown fields.
    groups: u8,
    /// Index of the innermost open message.
    depth: usize,
    open: [OpenMessage; MAX_DEPTH],
    /// Bytes that the decoded message will take.
    decoded: usize,
}

/// Message that is not complete, or the last complete one at its depth.
#[derive(Debug, Clone, Copy, Default)]
struct OpenMessage {
    shape: ShapeId,
    /// Number of its field in the message around it.
    field: u32,
    /// Position of its end.
    end: usize,
    /// Numbers of elements of its repeated fields.
    counts: [u32; MAX_COUNTERS],
    /// Bits of the numbers of its message fields that occurred and are not repeated.
    occurred: u64,
}

/// Next part of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Key of a field.
    Key,
    /// Value of a number.
    Varint,
    /// Length of a field with this number.
    Length(u32),
}

/// Reason to reject a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ScanError {
    /// The bytes are not a message of the method.
    Malformed(&'static str),
    /// A field has too many elements.
    TooMany {
        /// Path of the field, such as `filter_groups[0].filters`.
        field: String,
        /// Maximum number of elements.
        max: u32,
    },
    /// A message that is not repeated is sent in parts, with another message between them. Its elements
    /// could not be counted together.
    InParts {
        /// Path of the field.
        field: String,
    },
}

// === impl MessageScanner ===

impl MessageScanner {
    pub(crate) fn new(shape: RequestShape) -> Self {
        let open = [OpenMessage { shape: shape.root, end: 0, ..OpenMessage::default() }; MAX_DEPTH];
        Self {
            shape,
            step: Step::Key,
            varint: 0,
            bits: 0,
            skip: 0,
            position: 0,
            groups: 0,
            depth: 0,
            open,
            decoded: 0,
        }
    }

    /// Starts a message of at most this length.
    pub(crate) fn start(&mut self, length: usize) {
        (self.step, self.varint, self.bits) = (Step::Key, 0, 0);
        (self.skip, self.position, self.groups, self.depth, self.decoded) = (0, 0, 0, 0, 0);
        self.open_message(
            0,
            OpenMessage { shape: self.shape.root, end: length, ..OpenMessage::default() },
        );
    }

    /// Opens a message at this depth. The messages that were open below it are of another one.
    fn open_message(&mut self, depth: usize, message: OpenMessage) {
        self.open[depth] = message;
        if let Some(below) = self.open.get_mut(depth + 1) {
            *below = OpenMessage::default();
        }
    }

    /// Ignores the data until the next message starts.
    pub(crate) fn stop(&mut self) {
        self.start(usize::MAX);
        self.skip = usize::MAX;
    }

    /// Bytes that the decoded message will take, as far as it was scanned.
    pub(crate) fn decoded(&self) -> usize {
        self.decoded
    }

    /// Scans the next part of the message.
    pub(crate) fn scan(&mut self, mut data: &[u8]) -> Result<(), ScanError> {
        loop {
            let skipped = self.skip.min(data.len());
            data.advance(skipped);
            self.skip -= skipped;
            self.position += skipped;
            if self.skip > 0 {
                return Ok(());
            }
            if self.step == Step::Key && self.bits == 0 {
                while self.depth > 0 && self.position == self.open[self.depth].end {
                    self.depth -= 1;
                }
            }
            let Some(value) = self.read_varint(&mut data)? else { return Ok(()) };
            match self.step {
                Step::Key => self.on_key(value)?,
                Step::Varint => self.step = Step::Key,
                Step::Length(number) => self.on_length(number, value)?,
            }
        }
    }

    /// Reads a varint; `None` if the data ends before.
    fn read_varint(&mut self, data: &mut &[u8]) -> Result<Option<u64>, ScanError> {
        while let Some((byte, rest)) = data.split_first() {
            *data = rest;
            self.position += 1;
            if self.position > self.open[self.depth].end {
                return Err(ScanError::Malformed("a field exceeds its message"));
            }
            if self.bits == 63 && *byte > 1 {
                return Err(ScanError::Malformed("a varint exceeds 64 bits"));
            }
            self.varint |= u64::from(byte & 0x7f) << self.bits;
            if *byte < 0x80 {
                self.bits = 0;
                return Ok(Some(std::mem::take(&mut self.varint)));
            }
            self.bits += 7;
        }
        Ok(None)
    }

    fn on_key(&mut self, key: u64) -> Result<(), ScanError> {
        let key = u32::try_from(key).ok().filter(|key| *key >= 8);
        let key = key.ok_or(ScanError::Malformed("a field number is invalid"))?;
        let wire = WireType::from_key(key).ok_or(ScanError::Malformed("a wire type is invalid"))?;
        let number = key >> 3;
        if self.groups == 0 && wire != WireType::EndGroup {
            self.check_wire_type(number, wire)?;
        }
        match wire {
            WireType::Varint => self.step = Step::Varint,
            WireType::Fixed64 => self.skip_bytes(8)?,
            WireType::Fixed32 => self.skip_bytes(4)?,
            WireType::Length => self.step = Step::Length(number),
            WireType::StartGroup if self.groups < MAX_GROUPS => self.groups += 1,
            WireType::EndGroup if self.groups > 0 => self.groups -= 1,
            WireType::StartGroup | WireType::EndGroup => {
                return Err(ScanError::Malformed("groups are not nested correctly"));
            }
        }
        Ok(())
    }

    /// Checks the wire type of a known field. Any is accepted for an unknown field.
    fn check_wire_type(&mut self, number: u32, wire: WireType) -> Result<(), ScanError> {
        let Some(field) = self.shape.shapes.field(self.open[self.depth].shape, number) else {
            return Ok(());
        };
        let expected = match field.content {
            // A repeated number may be packed.
            Content::Scalar(_) if wire == WireType::Length && field.repeated.is_some() => wire,
            Content::Scalar(scalar) => scalar,
            Content::Text | Content::Message(_) => WireType::Length,
        };
        if wire != expected {
            return Err(ScanError::Malformed("a field has the wire type of another type"));
        }
        if wire != WireType::Length && field.repeated.is_some() {
            self.on_element(number)?;
        }
        Ok(())
    }

    fn on_length(&mut self, number: u32, length: u64) -> Result<(), ScanError> {
        self.step = Step::Key;
        let end = usize::try_from(length).ok().and_then(|length| self.position.checked_add(length));
        let end = end.filter(|end| *end <= self.open[self.depth].end);
        let end = end.ok_or(ScanError::Malformed("a field exceeds its message"))?;
        let length = end - self.position;
        let field = self.field(number).filter(|_| self.groups == 0);
        let is_repeated = field.is_some_and(|field| field.repeated.is_some());
        match field.map(|field| field.content) {
            None => self.skip = length,
            Some(Content::Text) => {
                self.on_element(number)?;
                self.skip = length;
                if length > 0 {
                    self.decoded = self.decoded.saturating_add(length + ALLOCATION);
                }
            }
            Some(Content::Scalar(_)) => {
                // Each byte can be a number of eight.
                self.skip = length;
                self.decoded = self.decoded.saturating_add(length.saturating_mul(8) + ALLOCATION);
            }
            Some(Content::Message(shape)) => {
                self.on_element(number)?;
                let depth = self.depth + 1;
                let open = self.open.get_mut(depth);
                let open = open.ok_or(ScanError::Malformed("messages are nested too deeply"))?;
                if open.field == number && !is_repeated {
                    // The field occurs again: prost merges it into the same message.
                    open.end = end;
                } else {
                    if !is_repeated {
                        self.on_first_part(number)?;
                    }
                    let message =
                        OpenMessage { shape, field: number, end, ..OpenMessage::default() };
                    self.open_message(depth, message);
                }
                self.depth = depth;
            }
        }
        Ok(())
    }

    /// Records that a message which is not repeated starts.
    fn on_first_part(&mut self, number: u32) -> Result<(), ScanError> {
        let occurred = &mut self.open[self.depth].occurred;
        let bit = 1_u64.checked_shl(number).unwrap_or(0);
        if *occurred & bit != 0 {
            return Err(ScanError::InParts { field: self.path(number) });
        }
        *occurred |= bit;
        Ok(())
    }

    /// Counts an element of a field, if it is repeated.
    fn on_element(&mut self, number: u32) -> Result<(), ScanError> {
        let message = &mut self.open[self.depth];
        let Some(field) = self.shape.shapes.field(message.shape, number) else { return Ok(()) };
        let Some(repeated) = field.repeated else { return Ok(()) };
        let count = &mut message.counts[usize::from(repeated.counter)];
        if *count == repeated.max {
            return Err(ScanError::TooMany { field: self.path(number), max: repeated.max });
        }
        *count += 1;
        let growth = repeated.container.growth(*count);
        self.decoded = self.decoded.saturating_add(growth + CONVERTED);
        Ok(())
    }

    fn skip_bytes(&mut self, bytes: usize) -> Result<(), ScanError> {
        if self.open[self.depth].end - self.position < bytes {
            return Err(ScanError::Malformed("a field exceeds its message"));
        }
        self.skip = bytes;
        Ok(())
    }

    /// Field of the innermost open message.
    fn field(&self, number: u32) -> Option<&Field> {
        self.shape.shapes.field(self.open[self.depth].shape, number)
    }

    /// Path of a field of the innermost open message.
    fn path(&self, number: u32) -> String {
        let mut path = String::new();
        let levels = self.open[..=self.depth].windows(2);
        for (around, field) in levels.map(|pair| (pair[0], pair[1].field)) {
            let Some(field) = self.shape.shapes.field(around.shape, field) else { continue };
            path.push_str(&field.name);
            if let Some(repeated) = field.repeated
                && !matches!(repeated.container, Container::Map(_))
            {
                let index = around.counts[usize::from(repeated.counter)].saturating_sub(1);
                path.push_str(&format!("[{index}]"));
            }
            path.push('.');
        }
        path.push_str(self.field(number).map_or("", |field| &field.name));
        path
    }
}

#[cfg(test)]
mod tests;
