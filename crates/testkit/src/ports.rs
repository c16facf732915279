//! Ports for servers that cannot tell which port they got.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

/// A port of loopback without a listener, for a server that cannot tell which port it got.
///
/// It is below the ports that Linux gives to outgoing connections and to listeners without a port:
/// one of those could be in use by another test before the server has started.
///
/// # Panics
///
/// If all ports of its range are in use.
pub fn unused_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 20_000;
    // Suites that run at once begin at different ports.
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("in range");
    for _ in 0..COUNT {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind(("127.0.0.1", FIRST + offset)).is_ok() {
            return FIRST + offset;
        }
    }
    panic!("no port of {COUNT} is unused")
}
