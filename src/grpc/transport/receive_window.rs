//! Flow-control windows of connections: how much a client may send before the service has read it.
//!
//! HTTP/2 buffers received data until the service reads it. Every connection gets the smallest window that
//! HTTP/2 permits. A limited number of connections gets a larger one, so that a large message over a long
//! distance needs fewer round trips. All windows together thus have a known size.

use std::sync::Arc;

use super::{
    caller_accounts::CallerAccount,
    limits::{CallerShare, SharedLimit},
};

/// Flow-control windows for received data, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReceiveWindow {
    /// Window of each stream.
    pub(crate) stream: u32,
    /// Window of all streams of the connection together.
    pub(crate) connection: u32,
}

/// Limit of large windows.
#[derive(Debug)]
pub(crate) struct ReceiveWindows(SharedLimit);

/// Window of a connection. A large one is released on drop.
#[derive(Debug)]
pub(crate) struct WindowGuard {
    pub(crate) window: ReceiveWindow,
    large: Option<(Arc<ReceiveWindows>, Arc<CallerAccount>)>,
}

// === impl ReceiveWindow ===

impl ReceiveWindow {
    /// Initial window of HTTP/2, below which a connection cannot start.
    pub(crate) const SMALL: Self = Self { stream: 65_535, connection: 65_535 };

    /// Window of a connection that transfers large messages.
    pub(crate) const LARGE: Self = Self { stream: 256 * 1024, connection: 1024 * 1024 };
}

// === impl ReceiveWindows ===

impl ReceiveWindows {
    /// Creates the limit for these bytes of large windows.
    pub(crate) fn new(bytes: usize, caller_share: CallerShare) -> Self {
        let connections = bytes / ReceiveWindow::LARGE.connection as usize;
        Self(SharedLimit::new("receive_windows", connections, caller_share))
    }

    /// Chooses the window of a connection from this address.
    pub(crate) fn acquire(self: &Arc<Self>, address: &Arc<CallerAccount>) -> WindowGuard {
        match self.0.try_acquire(&address.receive_windows, 1) {
            Ok(()) => WindowGuard {
                window: ReceiveWindow::LARGE,
                large: Some((Arc::clone(self), Arc::clone(address))),
            },
            Err(_) => WindowGuard { window: ReceiveWindow::SMALL, large: None },
        }
    }
}

// === impl WindowGuard ===

impl Drop for WindowGuard {
    fn drop(&mut self) {
        if let Some((windows, address)) = &self.large {
            windows.0.release(&address.receive_windows, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::transport::caller_accounts::{AccountKey, CallerAccounts};

    #[test]
    fn windows_are_small_when_the_large_ones_are_taken() {
        let memory = SharedLimit::new("memory", 1_000, CallerShare(0.5));
        let accounts = Arc::new(CallerAccounts::new(Arc::new(memory)));
        let [one, other] =
            [1, 2].map(|host| accounts.get(AccountKey::from_address([10, 0, 0, host].into())));
        let windows = Arc::new(ReceiveWindows::new(8 << 20, CallerShare(0.5)));
        let mut held: Vec<_> = (0..20).map(|_| windows.acquire(&one)).collect();
        let count = |held: &[WindowGuard], window| {
            held.iter().filter(|guard| guard.window == window).count()
        };
        assert_eq!(count(&held, ReceiveWindow::LARGE), 4, "the share of one address");
        assert_eq!(windows.acquire(&other).window, ReceiveWindow::LARGE);
        held.clear();
        assert_eq!((windows.0.used(), one.receive_windows.used()), (0, 0));
        let none = Arc::new(ReceiveWindows::new(1_000, CallerShare(0.5)));
        assert_eq!(none.acquire(&one).window, ReceiveWindow::SMALL);
    }
}
