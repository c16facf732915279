//! HTTP/2 by hand: a caller that does what no client library would.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::PATIENCE;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One connection.
pub(crate) struct Raw(TcpStream);

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

// === impl Raw ===

impl Raw {
    /// A connection on which nothing was said.
    pub(crate) async fn silent(address: &str) -> Self {
        Self(TcpStream::connect(address).await.expect("a connection"))
    }

    /// A connection with the preface and these settings sent.
    pub(crate) async fn connect(address: &str, settings: &[(u16, u32)]) -> Self {
        let mut raw = Self::silent(address).await;
        raw.send(PREFACE).await;
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        raw.frame(SETTINGS, 0, 0, &payload).await;
        raw
    }

    /// Takes the other side's settings: its windows hold from then on.
    pub(crate) async fn greet(&mut self) {
        self.until(|frame| frame.kind == SETTINGS && frame.flags & ACK == 0)
            .await
            .expect("settings");
        self.frame(SETTINGS, ACK, 0, &[]).await;
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // The other side may have closed: what matters is what it says.
        let _ = self.0.write_all(bytes).await;
    }

    pub(crate) async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send(&frame(kind, flags, stream, payload)).await;
    }

    /// Begins a call of the LeadsService.
    pub(crate) async fn call(&mut self, stream: u32, method: &str, flags: u8) {
        let head = head(&format!("/hubspot.leads.v1.LeadsService/{method}"), &[]);
        self.frame(HEADERS, END_HEADERS | flags, stream, &head).await;
    }

    /// The next frame; none once the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let read = async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
        };
        tokio::time::timeout(PATIENCE, read).await.expect("a frame or the end")
    }

    /// Reads on, answering to nothing, until a frame is what is looked for or the connection ends.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let found = async {
            loop {
                let frame = self.next().await?;
                if wanted(&frame) {
                    return Some(frame);
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("found in time")
    }

    /// The same, but says that it is there whenever it is asked.
    pub(crate) async fn alive_until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let found = async {
            loop {
                let frame = self.next().await?;
                if frame.kind == PING && frame.flags & ACK == 0 {
                    self.frame(PING, ACK, 0, &frame.payload).await;
                }
                if wanted(&frame) {
                    return Some(frame);
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("found in time")
    }

    /// Everything up to the end of the connection, which has to come.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let read = self.0.read_to_end(&mut all);
        // A reset is an end as well.
        let _ = tokio::time::timeout(PATIENCE, read).await.expect("it ends in time");
        all
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    let mut bytes = vec![a, b, c, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The head of a gRPC request: every header as a literal that goes into no table.
pub(crate) fn head(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let fixed = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "leadsd"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut bytes = Vec::new();
    for (name, value) in fixed.iter().chain(more) {
        bytes.push(0);
        for text in [name, value] {
            bytes.extend(length(text.len()));
            bytes.extend(text.bytes());
        }
    }
    bytes
}

/// A length as HPACK writes it, in seven bits and more.
fn length(value: usize) -> Vec<u8> {
    if value < 127 {
        return vec![u8::try_from(value).expect("seven bits")];
    }
    let (mut bytes, mut rest) = (vec![127], value - 127);
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).expect("seven bits") | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).expect("seven bits"));
    bytes
}
