//! Logs panics.
//!
//! The hook of the standard library writes to standard error itself. While nothing reads it, the thread
//! that panics would block, and with it every call that it serves.

use std::panic::{self, PanicHookInfo};

use tracing::error;

/// Maximum length in bytes of the message of a panic.
const MAX_MESSAGE: usize = 256;

/// Replaces the panic hook of the process.
pub(super) fn install() {
    panic::set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    let message = truncated(panic.payload_as_str().unwrap_or_default());
    let location = panic.location().map(ToString::to_string);
    error!(panic.message = message, panic.location = location, "Thread panicked");
}

fn truncated(message: &str) -> &str {
    &message[..message.floor_char_boundary(MAX_MESSAGE)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_truncated_at_a_character() {
        assert_eq!(truncated("short"), "short");
        assert_eq!(truncated(&"x".repeat(300)), "x".repeat(256));
        assert_eq!(truncated(&format!("{}€", "x".repeat(255))), "x".repeat(255));
    }
}
