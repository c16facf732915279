//! Prompts at a terminal, with echo off for secrets. If standard input is not a terminal, each value is
//! its next line.
//!
//! Prompt crates read `/dev/tty` in a blocking thread and restore the terminal when the read returns, so
//! SIGTERM or SIGHUP in between leaves echo off. Here the read is a future: a signal drops it together
//! with the guard that restores the terminal.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::{
    io::{AsyncReadExt as _, BufReader, Stdin},
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use leadsd_base::secret::Secret;

/// Maximum length of an input line: access tokens have some hundred bytes, URLs some thousand.
const MAX_LINE: usize = 16 * 1024;

/// Timeout for an input line.
const INPUT_TIMEOUT: Duration = Duration::from_secs(300);

/// Standard input.
pub(super) struct Terminal {
    input: BufReader<Stdin>,
    interactive: bool,
}

/// Error of a prompt.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("standard input ended before the {0}")]
    Ended(&'static str),
    #[error("no {0} entered within {minutes} minutes", minutes = INPUT_TIMEOUT.as_secs() / 60)]
    Timeout(&'static str),
    #[error("the {0} is empty, longer than {MAX_LINE} bytes, or not printable text")]
    Invalid(&'static str),
    #[error("cannot read the {0}: {1}")]
    Io(&'static str, io::Error),
}

/// Guard that keeps terminal echo off until drop.
struct EchoOff(Option<Termios>);

/// Waits for SIGINT, SIGTERM or SIGHUP. Their default actions would end the process with echo off and
/// temporary files in place.
pub(super) async fn interrupted() -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

// === impl Terminal ===

impl Terminal {
    pub(super) fn new() -> Self {
        let interactive = io::stdin().is_terminal();
        Self { input: BufReader::new(tokio::io::stdin()), interactive }
    }

    /// Prompts for text.
    pub(super) async fn text(&mut self, what: &'static str) -> Result<String, Error> {
        self.prompt(what, "");
        self.line(what).await
    }

    /// Prompts for a secret, with echo off.
    pub(super) async fn secret(&mut self, what: &'static str) -> Result<Secret, Error> {
        let echo_off = if self.interactive { EchoOff::enable() } else { EchoOff(None) };
        self.prompt(what, if self.interactive { " (not shown)" } else { "" });
        let line = self.line(what).await;
        drop(echo_off);
        line.map(Secret::new)
    }

    /// Prompts for a confirmation. Returns false if standard input is not a terminal.
    pub(super) async fn confirmed(&mut self, question: &str) -> bool {
        if !self.interactive {
            return false;
        }
        // If the prompt cannot be printed, input is still read.
        let _ = write!(io::stderr(), "{question} [y/N] ");
        self.line("answer").await.is_ok_and(|line| matches!(line.as_str(), "y" | "Y" | "yes"))
    }

    fn prompt(&self, what: &str, hint: &str) {
        if self.interactive {
            // If the prompt cannot be printed, input is still read.
            let _ = write!(io::stderr(), "Enter the {what}{hint}: ");
        }
    }

    async fn line(&mut self, what: &'static str) -> Result<String, Error> {
        let mut line = Vec::new();
        let read = async {
            loop {
                match self.input.read_u8().await {
                    Ok(b'\n') => return Ok(()),
                    Ok(byte) if line.len() < MAX_LINE => line.push(byte),
                    Ok(_) => return Err(Error::Invalid(what)),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        return if line.is_empty() { Err(Error::Ended(what)) } else { Ok(()) };
                    }
                    Err(error) => return Err(Error::Io(what, error)),
                }
            }
        };
        timeout(INPUT_TIMEOUT, read).await.unwrap_or(Err(Error::Timeout(what)))?;
        let text = String::from_utf8(line).map_err(|_| Error::Invalid(what))?;
        let text = text.trim();
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(Error::Invalid(what));
        }
        Ok(text.to_owned())
    }
}

// === impl EchoOff ===

impl EchoOff {
    fn enable() -> Self {
        let Ok(shown) = tcgetattr(io::stdin()) else { return Self(None) };
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // The newline is echoed, so that the next output starts on a new line.
        hidden.local_modes.insert(LocalModes::ECHONL);
        let done = tcsetattr(io::stdin(), OptionalActions::Flush, &hidden);
        Self(done.is_ok().then_some(shown))
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        if let Some(shown) = &self.0 {
            // Flush discards unread input, which the shell would print. An error means that the
            // terminal is closed.
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, shown);
        }
    }
}
