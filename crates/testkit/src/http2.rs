//! HTTP/2 client that sends single frames, including invalid ones.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::wait::PATIENCE;

/// Frame type DATA.
pub const DATA: u8 = 0;
/// Frame type HEADERS.
pub const HEADERS: u8 = 1;
/// Frame type RST_STREAM.
pub const RST_STREAM: u8 = 3;
/// Frame type SETTINGS.
pub const SETTINGS: u8 = 4;
/// Frame type PING.
pub const PING: u8 = 6;
/// Frame type GOAWAY.
pub const GOAWAY: u8 = 7;
/// Frame type WINDOW_UPDATE.
pub const WINDOW_UPDATE: u8 = 8;

/// Flag of DATA and HEADERS: the last frame of this side of the stream.
pub const END_STREAM: u8 = 1;
/// Flag of SETTINGS and PING: an acknowledgement.
pub const ACK: u8 = 1;
/// Flag of HEADERS: the headers are complete.
pub const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A TCP connection on which a test writes and reads single frames.
#[derive(Debug)]
pub struct RawConnection(TcpStream);

/// A received frame.
#[derive(Debug)]
pub struct Frame {
    /// Type, such as [`DATA`].
    pub kind: u8,
    /// Flags, such as [`END_STREAM`].
    pub flags: u8,
    /// Stream id.
    pub stream: u32,
    /// Payload without the frame header.
    pub payload: Vec<u8>,
}

// === impl RawConnection ===

impl RawConnection {
    /// Connects and sends nothing.
    ///
    /// # Panics
    ///
    /// If the address does not accept.
    pub async fn silent(address: &str) -> Self {
        Self(TcpStream::connect(address).await.expect("a connection"))
    }

    /// Connects from another address of the loopback interface and sends nothing.
    ///
    /// # Panics
    ///
    /// If the address does not accept.
    pub async fn silent_from(local: Ipv4Addr, address: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((local, 0).into()).expect("a loopback address");
        let address = address.parse().expect("an address");
        Self(socket.connect(address).await.expect("a connection"))
    }

    /// Sends the preface with these settings.
    pub async fn start(&mut self, settings: &[(u16, u32)]) {
        self.send(PREFACE).await;
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        self.frame(SETTINGS, 0, 0, &payload).await;
    }

    /// Connects and sends the preface with these settings.
    ///
    /// # Panics
    ///
    /// If the address does not accept.
    pub async fn connect(address: &str, settings: &[(u16, u32)]) -> Self {
        let mut connection = Self::silent(address).await;
        connection.start(settings).await;
        connection
    }

    /// Receives and acknowledges the settings of the server.
    ///
    /// # Panics
    ///
    /// If they do not come.
    pub async fn acknowledge_settings(&mut self) {
        let settings = |frame: &Frame| frame.kind == SETTINGS && frame.flags & ACK == 0;
        self.until(settings).await.expect("settings");
        self.frame(SETTINGS, ACK, 0, &[]).await;
    }

    /// Reads and discards everything for this time; returns earlier if the connection ends.
    pub async fn discard(&mut self, time: Duration) {
        let mut buffer = [0; 4096];
        let read = async { while matches!(self.0.read(&mut buffer).await, Ok(1..)) {} };
        // The time passes on a connection that is open.
        let _ = timeout(time, read).await;
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: &[u8]) {
        // The server may have closed the connection; tests inspect its frames.
        let _ = self.0.write_all(bytes).await;
    }

    /// Sends one frame.
    pub async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send(&frame(kind, flags, stream, payload)).await;
    }

    /// Sends the headers of a gRPC call to `path`.
    pub async fn call(&mut self, stream: u32, path: &str, flags: u8) {
        self.frame(HEADERS, END_HEADERS | flags, stream, &request_headers(path, &[])).await;
    }

    /// The next frame; `None` once the connection has ended.
    ///
    /// # Panics
    ///
    /// If neither comes within [`PATIENCE`].
    pub async fn next(&mut self) -> Option<Frame> {
        let read = async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
        };
        timeout(PATIENCE, read).await.expect("a frame or the end of the connection")
    }

    /// Reads until a frame matches; `None` if the connection ends before. Answers no ping.
    ///
    /// # Panics
    ///
    /// If neither happens within [`PATIENCE`].
    pub async fn until(&mut self, matches: impl Fn(&Frame) -> bool) -> Option<Frame> {
        self.read_until(matches, false).await
    }

    /// The same, and answers pings.
    ///
    /// # Panics
    ///
    /// If neither happens within [`PATIENCE`].
    pub async fn until_answering_pings(
        &mut self,
        matches: impl Fn(&Frame) -> bool,
    ) -> Option<Frame> {
        self.read_until(matches, true).await
    }

    async fn read_until(
        &mut self,
        matches: impl Fn(&Frame) -> bool,
        answer_pings: bool,
    ) -> Option<Frame> {
        let found = async {
            loop {
                let frame = self.next().await?;
                if answer_pings && frame.kind == PING && frame.flags & ACK == 0 {
                    self.frame(PING, ACK, 0, &frame.payload).await;
                }
                if matches(&frame) {
                    return Some(frame);
                }
            }
        };
        timeout(PATIENCE, found).await.expect("the frame or the end of the connection")
    }

    /// All bytes until the server closes the connection.
    ///
    /// # Panics
    ///
    /// If it does not within [`PATIENCE`].
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let read = self.0.read_to_end(&mut all);
        // A reset is an end as well.
        let _ = timeout(PATIENCE, read).await.expect("the connection ends");
        all
    }
}

/// A frame as bytes.
///
/// # Panics
///
/// If the payload is longer than a frame can be.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [0, a, b, c] = u32::try_from(payload.len()).expect("a length").to_be_bytes() else {
        panic!("the length of a frame has 24 bits");
    };
    let mut bytes = vec![a, b, c, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Headers of a gRPC request in HPACK.
pub fn request_headers(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let fixed = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "leadsd"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    hpack(&[&fixed, more].concat())
}

/// Headers in HPACK: each a literal without indexing.
pub fn hpack(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in headers {
        bytes.push(0);
        for text in [name, value] {
            bytes.extend(hpack_length(text.len()));
            bytes.extend(text.bytes());
        }
    }
    bytes
}

/// A length in the integer representation of HPACK with a prefix of seven bits.
fn hpack_length(value: usize) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn lengths_are_written_as_in_rfc_7541() {
        assert_eq!(hpack_length(126), [126]);
        assert_eq!(hpack_length(127), [127, 0]);
        assert_eq!(hpack_length(1_337), [127, 0b1011_1010, 0b0000_1001]);
    }

    #[tokio::test]
    async fn frames_are_read_as_they_are_written() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let mut client = RawConnection::connect(&address, &[(4, 1)]).await;
        let (mut accepted, _) = server.accept().await.unwrap();
        let mut received = vec![0; PREFACE.len()];
        accepted.read_exact(&mut received).await.unwrap();
        assert_eq!(received, PREFACE);
        let mut server = RawConnection(accepted);
        let settings = server.next().await.unwrap();
        assert_eq!((settings.kind, settings.payload), (SETTINGS, vec![0, 4, 0, 0, 0, 1]));
        server.frame(PING, 0, 0, &[7; 8]).await;
        server.frame(DATA, END_STREAM, 3, b"data").await;
        let data = client.until_answering_pings(|frame| frame.kind == DATA).await.unwrap();
        assert_eq!((data.flags, data.stream, &data.payload[..]), (END_STREAM, 3, &b"data"[..]));
        let pong = server.next().await.unwrap();
        assert_eq!((pong.kind, pong.flags), (PING, ACK));
        drop(client);
        assert!(server.until(|_| false).await.is_none());
    }
}
