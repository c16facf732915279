//! Deterministic generator of inputs: a seed yields the same input on every machine and with every
//! dependency version.

/// Boundary values of integers.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    100,
    101,
    127,
    128,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    1 << 32,
    (1 << 53) + 1,
    9_223_372_036_854_775_807,
    9_223_372_036_854_775_808,
    9_223_372_036_854_775_809,
    u64::MAX,
];

/// Texts with a meaning in some format or layer, and texts that no layer accepts.
const TEXTS: [&str; 56] = [
    "",
    " ",
    "0",
    "7",
    "-1",
    "512",
    "18446744073709551616",
    "1e999",
    "NaN",
    "null",
    "true",
    "[]",
    "{}",
    "..",
    "../..",
    "/",
    "%2f",
    "%",
    "%zz",
    "?a=b",
    "#",
    "\0",
    "\n",
    "\r\nx: y",
    "\u{feff}",
    "\u{202e}",
    "ä",
    "😀",
    "e\u{301}",
    "hs_lead_name",
    "hs_lead_label",
    "hs_object_id",
    "crm_key",
    "createdate",
    "HOT",
    "contacts",
    "companies",
    "0-1",
    "default",
    "1970-01-01T00:00:00Z",
    "2026-04-01T10:00:00.000Z",
    "-999999-01-01T00:00:00Z",
    "99999999999999999999",
    "\"",
    "'",
    "\\",
    "\\u0000",
    ": [{",
    ": [{\"name\":",
    "Existing ID: ",
    "Existing ID: 99999999999999999999999",
    "already has that value",
    "<html>",
    "application/grpc",
    "Bearer ",
    "a@b.c",
];

/// Byte sequences with a meaning in the wire formats.
const PIECES: [&[u8]; 22] = [
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98\x80",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"null",
    b"1e400",
    b"-",
    b"\r\n",
    b"\x1f\x8b\x08",
];

/// Generator for one input.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

// === impl Random ===

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed);
        // Spreads seeds that are close together.
        random.0 = random.next_u64();
        random
    }

    /// Next number of SplitMix64.
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Number below `end`, which must not be zero.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next_u64() % end as u64).unwrap()
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    pub(crate) fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => self.next_u64(),
            1 => self.next_u64() >> self.below(64),
            2 => self.pick(&NUMBERS).wrapping_neg(),
            _ => *self.pick(&NUMBERS),
        }
    }

    pub(crate) fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| u8::try_from(self.next_u64() & 255).unwrap()).collect()
    }

    pub(crate) fn text(&mut self) -> String {
        match self.below(10) {
            0 => self.number().to_string(),
            1 => String::from_utf8_lossy(&self.bytes(40)).into_owned(),
            2 => self.pick(&TEXTS).repeat(self.below(400)),
            3 => format!("{}{}", self.pick(&TEXTS), self.pick(&TEXTS)),
            _ => (*self.pick(&TEXTS)).to_owned(),
        }
    }

    /// Mutates some bytes: flips, inserts, removes, repeats or truncates.
    pub(crate) fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(6) {
            let at = self.below(bytes.len() + 1);
            let end = (at + self.below(16)).min(bytes.len());
            match self.below(8) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = u8::try_from(self.next_u64() & 255).unwrap(),
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
                4 => bytes.truncate(at),
                5 => {
                    let some = self.bytes(8);
                    bytes.splice(at..at, some);
                }
                _ => {
                    let piece = self.pick(&PIECES).to_vec();
                    bytes.splice(at..end, piece);
                }
            }
        }
    }

    /// Mutates some bytes of a text; the result is valid UTF-8.
    pub(crate) fn mutated(&mut self, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        self.mutate(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[test]
fn same_seed_yields_the_same_input() {
    let text = |seed| (0..20).map(|_| Random::new(seed).text()).collect::<Vec<_>>();
    assert_eq!(text(3), text(3));
    assert_ne!(Random::new(3).bytes(40), Random::new(4).bytes(40));
    let mut random = Random::new(1);
    let mutated =
        (0..100).filter(|_| random.mutated("a text of some length") != "a text of some length");
    assert!(mutated.count() > 90);
}
