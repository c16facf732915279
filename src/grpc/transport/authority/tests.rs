//! Bytes of HEADERS frames before and after, split at every position.

use super::*;

/// First bytes of the field `:authority`: index 1 with and without indexing, and its name as a text.
const NAMES: [&[u8]; 4] = [b"\x41", b"\x01", b"\x11", b"\x40\x0a:authority"];

/// Values and what they become; `None` if they stay.
const VALUES: [(&str, Option<&str>); 14] = [
    ("127.0.0.1:50051,127.0.0.1:50052", Some("127.0.0.1:50051-127.0.0.1-50052")),
    ("127.0.0.1:50051%2C127.0.0.1:50052", Some("127.0.0.1:50051-2C127.0.0.1-50052")),
    ("[::1]:50051,[::1]:50052", Some("[::1]:50051----1--50052")),
    ("[fe80::1%25eth0]:1,[fe80::2%25eth0]:2", Some("[fe80::1%25eth0]:1--fe80--2-25eth0--2")),
    ("a:1,b:2,c_d:3~", Some("a:1-b-2-c_d-3~")),
    ("a:1,", Some("a:1-")),
    (",", Some("-")),
    ("/run/leadsd.sock", Some("-run-leadsd.sock")),
    ("%2Frun%2Fleadsd.sock", Some("-2Frun-2Fleadsd.sock")),
    ("", None),
    ("leadsd", None),
    ("user@leadsd.crm.svc:50051", None),
    ("[::1]:50051", None),
    ("[fe80::1%25eth0]:50051", None),
];

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

fn length(value: &str) -> Vec<u8> {
    match u8::try_from(value.len()) {
        Ok(length @ 0..0x7f) => vec![length],
        _ => {
            let rest = value.len() - 0x7f;
            let [low, high] = [rest % 128, rest / 128].map(|part| u8::try_from(part).unwrap());
            if high == 0 { vec![0x7f, low] } else { vec![0x7f, low | 0x80, high] }
        }
    }
}

fn field(name: &[u8], value: &str) -> Vec<u8> {
    [name, &length(value), value.as_bytes()].concat()
}

/// Reads the preface and the frames in pieces of this size.
fn read(frames: &[u8], piece: usize) -> Vec<u8> {
    let mut bytes = [&[b'P'; PREFACE][..], frames].concat();
    let mut reader = Frames::Skip(PREFACE);
    for piece in bytes.chunks_mut(piece) {
        reader.read(piece);
    }
    bytes.split_off(PREFACE)
}

/// Reads the frames in pieces of every size, and asserts what they become.
#[track_caller]
fn assert_becomes(frames: &[u8], expected: &[u8]) {
    for piece in 1..=PREFACE + frames.len() {
        let found = read(frames, piece);
        assert!(found == expected, "pieces of {piece}: {:?}", String::from_utf8_lossy(&found));
    }
}

#[test]
fn an_invalid_authority_becomes_a_valid_one_of_the_same_length() {
    for (value, replaced) in VALUES {
        let replaced = replaced.unwrap_or(value);
        assert_eq!(replaced.len(), value.len());
        assert!(value.is_empty() || replaced.parse::<http::uri::Authority>().is_ok(), "{replaced}");
        for name in NAMES {
            let of = |value: &str| {
                // :path, :method and :scheme, of which two are in the table; te follows.
                let path = field(b"\x04", "/a,b");
                frame(
                    HEADERS,
                    4,
                    &[&path[..], b"\x83", &field(name, value), b"\x86", b"\x02te"].concat(),
                )
            };
            assert_becomes(&of(value), &of(replaced));
        }
    }
}

#[test]
fn bytes_beyond_ascii_become_text_that_rejects_only_the_request() {
    let of = |value: &[u8]| {
        let length = u8::try_from(value.len()).unwrap();
        frame(HEADERS, 4, &[&b"\x41"[..], &[length], value, b"\x86"].concat())
    };
    for (value, replaced) in [
        (&b"\xff\xfe"[..], &b"  "[..]),
        (b"h\xc3\xb4st:50051", b"h  st:50051"),
        (b"a:1,b\xff:2", b"a:1-b--2"),
    ] {
        assert_becomes(&of(value), &of(replaced));
    }
}

#[test]
fn a_list_of_any_length_is_replaced() {
    for addresses in [7, 8, 9, 20, 120] {
        let list = vec!["127.0.0.1:50051"; addresses].join(",");
        let replaced = format!("127.0.0.1:50051{}", "-127.0.0.1-50051".repeat(addresses - 1));
        let of = |value: &str| frame(HEADERS, 4, &field(NAMES[3], value));
        for piece in [1, 2, 100, usize::MAX / 2] {
            assert_eq!(read(&of(&list), piece), of(&replaced), "{addresses}");
        }
    }
}

#[test]
fn padding_and_priority_precede_the_fields() {
    for (flags, prefix) in
        [(PADDED, &[2][..]), (PRIORITY, b"\x40\x01\x41\x03\x10"), (PADDED | PRIORITY, b"\x0212345")]
    {
        let of = |value: &str| {
            frame(HEADERS, 4 | flags, &[prefix, &field(NAMES[0], value), &[0, 0]].concat())
        };
        assert_becomes(&of("a,b"), &of("a-b"));
    }
}

#[test]
fn every_request_of_a_connection_is_inspected_and_nothing_else() {
    let of = |value: &str| {
        let headers = frame(HEADERS, 4, &field(NAMES[3], value));
        // Data, settings, a continuation and an unknown frame with the same bytes, and an empty frame.
        let others = [0, 4, 9, 0x20].map(|kind| frame(kind, 0, &field(NAMES[3], "a,b")));
        let empty = [frame(4, 1, b""), frame(HEADERS, 4, b"")].concat();
        [&headers[..], &others.concat(), &empty, &headers].concat()
    };
    assert_becomes(&of("a,b"), &of("a-b"));
}

#[test]
fn other_fields_and_coded_texts_stay() {
    for fields in [
        field(b"\x40\x0a:authoritx", "a,b"),
        field(b"\x40\x0b:authority1", "a,b"),
        field(b"\x40\x09:authorit", "a,b"),
        field(b"\x40\x00", "a,b"),
        // Index 62 + 1 of the dynamic table, in two bytes, and a change of the table size.
        field(b"\x7f\x00", "a,b"),
        [b"\x3f\xe1\x1f", &field(b"\x44", "a,b")[..]].concat(),
        // Huffman coding of the name, and of the value.
        [b"\x40\x87", &[0; 7][..], &field(b"", "a,b")].concat(),
        b"\x41\x83a,b".to_vec(),
        // Behind the first eight fields.
        [&[0x82; 8][..], &field(NAMES[0], "a,b")].concat(),
        // A length that no frame has.
        b"\x41\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff,,,,".to_vec(),
        // A text that ends with the frame.
        b"\x40".to_vec(),
        b"\x41\x7f".to_vec(),
    ] {
        let frames = frame(HEADERS, 4, &fields);
        let next = frame(0, 1, b",,");
        assert_becomes(&[&frames[..], &next].concat(), &[&frames[..], &next].concat());
    }
}

#[tokio::test]
async fn a_connection_is_read_and_written_through_it() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let of = |value: &str| frame(HEADERS, 4, &field(NAMES[3], value));
    let (mut client, server) = tokio::io::duplex(7);
    let mut server = ValidAuthority::new(server);
    let sent = [&[b'P'; PREFACE][..], &of("a,b")].concat();
    let mut received = vec![0; sent.len()];
    let (written, read) = tokio::join!(client.write_all(&sent), server.read_exact(&mut received));
    written.unwrap();
    read.unwrap();
    assert_eq!(received[PREFACE..], of("a-b"));
    let mut answer = [0; 2];
    let (written, read) = tokio::join!(server.write_all(b"a,"), client.read_exact(&mut answer));
    written.unwrap();
    read.unwrap();
    assert_eq!(&answer, b"a,");
}
