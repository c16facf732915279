//! Requests per turn, with a client that sends many of them at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
};

use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

const HEADERS: u8 = 1;
const DATA: u8 = 0;

/// Counts how often a task is woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

/// What a connection read in one turn.
#[derive(Debug, PartialEq, Eq)]
struct Turn {
    requests: usize,
    bytes: usize,
    /// True if the task was woken for another turn.
    woken: bool,
}

// === impl Wakes ===

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Client connection preface, and frames with a payload of this length each.
fn sent(frames: &[(u8, usize)]) -> Vec<u8> {
    let mut bytes = vec![b'P'; 24];
    for (kind, length) in frames {
        bytes.extend(&u32::try_from(*length).unwrap().to_be_bytes()[1..]);
        bytes.extend([*kind, 0, 0, 0, 0, 1]);
        bytes.extend(vec![0x88; *length]);
    }
    bytes
}

/// Reads until a read is pending, into buffers of the size that HTTP/2 uses.
fn turn(reader: &mut RequestTurns<DuplexStream>) -> Turn {
    let (wakes, before) = (Arc::<Wakes>::default(), reader.io.requests());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut cx = Context::from_waker(&waker);
    let mut bytes = 0;
    loop {
        let mut memory = [0; 8_192];
        let mut buffer = ReadBuf::new(&mut memory);
        if Pin::new(&mut *reader).poll_read(&mut cx, &mut buffer).is_pending() {
            break;
        }
        bytes += buffer.filled().len();
    }
    let woken = wakes.0.load(Ordering::Relaxed) > 0;
    Turn { requests: reader.io.requests() - before, bytes, woken }
}

/// Turns up to the one after which nothing is left to read, for a client that sent these frames.
async fn turns(frames: &[(u8, usize)]) -> Vec<Turn> {
    let (mut client, server) = duplex(1 << 20);
    client.write_all(&sent(frames)).await.unwrap();
    let mut reader = RequestTurns::new(ValidAuthority::new(server));
    // The budget of tokio ends turns as well.
    let turns = tokio::task::unconstrained(async {
        let mut turns = Vec::new();
        while turns.last().is_none_or(|turn: &Turn| turn.woken) {
            turns.push(turn(&mut reader));
        }
        turns
    });
    turns.await
}

#[tokio::test]
async fn a_turn_ends_after_a_few_requests_and_every_byte_is_read() {
    for (length, most) in [(1, 30), (20, 11), (60, 6), (150, 4), (3_000, 4)] {
        let frames = vec![(HEADERS, length); 200];
        let turns = turns(&frames).await;
        let requests: Vec<_> = turns.iter().map(|turn| turn.requests).collect();
        assert!(requests.iter().all(|requests| *requests <= most), "{length}: {requests:?}");
        assert_eq!(requests.iter().sum::<usize>(), 200);
        assert_eq!(turns.iter().map(|turn| turn.bytes).sum::<usize>(), sent(&frames).len());
    }
}

#[tokio::test]
async fn a_few_requests_and_large_messages_take_one_turn() {
    let large = [(HEADERS, 60), (DATA, 16_384), (DATA, 16_384), (DATA, 16_384)];
    for frames in [&[(HEADERS, 60); REQUESTS - 1][..], &large] {
        let bytes = sent(frames).len();
        let requests = frames.iter().filter(|(kind, _)| *kind == HEADERS).count();
        assert_eq!(turns(frames).await, [Turn { requests, bytes, woken: false }]);
    }
}

#[tokio::test]
async fn requests_that_arrive_one_by_one_end_no_turn() {
    let (mut client, server) = duplex(1 << 20);
    let mut reader = RequestTurns::new(ValidAuthority::new(server));
    client.write_all(&sent(&[])).await.unwrap();
    turn(&mut reader);
    for _ in 0..3 * REQUESTS {
        client.write_all(&sent(&[(HEADERS, 60)])[24..]).await.unwrap();
        assert_eq!(turn(&mut reader), Turn { requests: 1, bytes: 69, woken: false });
    }
}
