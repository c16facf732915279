//! Prompts for a person at a terminal, with echo off for secrets. If standard input is no terminal, each
//! answer is its next line.
//!
//! Crates for prompts read `/dev/tty` in a thread that blocks and restore the terminal when that read
//! returns. SIGTERM or SIGHUP in between ends the process with echo off. Here the read is a future: a
//! signal drops it, and with it the guard that restores the terminal.

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

/// Maximum length of an answer: an access token has some hundred characters, a URL some thousand.
const MAX_LINE: usize = 16 * 1024;

/// Timeout for an answer.
const PATIENCE: Duration = Duration::from_secs(300);

/// Standard input, and whether it is a terminal.
pub(super) struct Terminal {
    input: BufReader<Stdin>,
    interactive: bool,
}

/// A prompt without an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("standard input ended before the {0} was given")]
    Ended(&'static str),
    #[error("the {0} was not given within {patience} minutes", patience = PATIENCE.as_secs() / 60)]
    Late(&'static str),
    #[error("the {0} is empty, or longer than {MAX_LINE} bytes, or no text")]
    Unusable(&'static str),
    #[error("the {0} cannot be read: {1}")]
    Io(&'static str, io::Error),
}

/// Turns echo off until it is dropped.
struct EchoOff(Option<Termios>);

/// Waits for Ctrl-C, SIGTERM, or the end of the terminal. A command that is killed by the signal itself
/// leaves echo off and temporary files behind.
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
        let echo_off = if self.interactive { EchoOff::begin() } else { EchoOff(None) };
        self.prompt(what, if self.interactive { " (not shown)" } else { "" });
        let line = self.line(what).await;
        drop(echo_off);
        line.map(Secret::new)
    }

    /// Prompts for a confirmation. False if standard input is no terminal.
    pub(super) async fn confirmed(&mut self, question: &str) -> bool {
        if !self.interactive {
            return false;
        }
        // If the prompt cannot be printed, the answer still counts.
        let _ = write!(io::stderr(), "{question} [y/N] ");
        self.line("answer").await.is_ok_and(|line| matches!(line.as_str(), "y" | "Y" | "yes"))
    }

    fn prompt(&self, what: &str, hint: &str) {
        if self.interactive {
            // If the prompt cannot be printed, the answer still counts.
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
                    Ok(_) => return Err(Error::Unusable(what)),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        return if line.is_empty() { Err(Error::Ended(what)) } else { Ok(()) };
                    }
                    Err(error) => return Err(Error::Io(what, error)),
                }
            }
        };
        timeout(PATIENCE, read).await.unwrap_or(Err(Error::Late(what)))?;
        let text = String::from_utf8(line).map_err(|_| Error::Unusable(what))?;
        let text = text.trim();
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(Error::Unusable(what));
        }
        Ok(text.to_owned())
    }
}

// === impl EchoOff ===

impl EchoOff {
    fn begin() -> Self {
        let Ok(shown) = tcgetattr(io::stdin()) else { return Self(None) };
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // The line end stays visible, so that what follows begins on a line of its own.
        hidden.local_modes.insert(LocalModes::ECHONL);
        let done = tcsetattr(io::stdin(), OptionalActions::Flush, &hidden);
        Self(done.is_ok().then_some(shown))
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        if let Some(shown) = &self.0 {
            // Discards half-typed input, which the shell would show. A terminal that has gone needs no
            // restoring.
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, shown);
        }
    }
}
