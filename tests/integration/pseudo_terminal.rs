//! Commands at a pseudo-terminal, and what its screen shows.

use std::{
    io::Read as _,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

/// Columns of the terminal.
const COLUMNS: u16 = 100;

/// A command at a terminal, and its screen.
pub(crate) struct AtTerminal {
    pub(crate) child: Child,
    /// Keyboard.
    pub(crate) keys: std::fs::File,
    /// Program side; keeps the terminal open after the program exits.
    program: OwnedFd,
    printed: mpsc::Receiver<String>,
    /// Everything that was printed, with control sequences.
    pub(crate) seen: String,
}

// === impl AtTerminal ===

impl AtTerminal {
    pub(crate) fn start(mut command: Command) -> Self {
        let (typing, program) = terminal();
        let side = || Stdio::from(program.try_clone().unwrap());
        command.stdin(side()).stdout(side()).stderr(side());
        let child = command.spawn().unwrap();
        let mut screen = std::fs::File::from(typing);
        let keys = screen.try_clone().unwrap();
        let (sender, printed) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            let mut rest = Vec::new();
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                rest.extend_from_slice(&buffer[..length]);
                // A read may end inside a character.
                let valid = match std::str::from_utf8(&rest) {
                    Ok(text) => text.len(),
                    Err(error) => error.valid_up_to(),
                };
                let text: Vec<u8> = rest.drain(..valid).collect();
                if sender.send(String::from_utf8(text).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, program, printed, seen: String::new() }
    }

    /// Waits until the output contains a text.
    pub(crate) fn sees(&mut self, wanted: &str) {
        while !self.seen.contains(wanted) {
            let more = self.printed.recv_timeout(Duration::from_secs(20));
            let seen = &mut self.seen;
            seen.push_str(&more.unwrap_or_else(|_| panic!("no {wanted:?} on screen: {seen}")));
        }
    }

    /// True if input is echoed.
    pub(crate) fn shows(&self) -> bool {
        tcgetattr(&self.program).unwrap().local_modes.contains(LocalModes::ECHO)
    }
}

/// A pseudo-terminal: user side and program side.
fn terminal() -> (OwnedFd, OwnedFd) {
    let typing = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&typing).unwrap();
    unlockpt(&typing).unwrap();
    let size = Winsize { ws_row: 24, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&typing, size).unwrap();
    let name = ptsname(&typing, Vec::new()).unwrap();
    let program = rustix::fs::open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
    (typing, program.unwrap())
}

/// Lines that a terminal shows after this output. Knows the control sequences of progress bars.
pub(crate) fn screen(output: &str) -> Vec<String> {
    let mut lines: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0, 0);
    let mut chars = output.chars();
    while let Some(c) = chars.next() {
        match c {
            '\r' => column = 0,
            '\n' => row += 1,
            '\u{1b}' => {
                assert_eq!(chars.next(), Some('['), "a sequence of another kind: {output:?}");
                let mut number = String::new();
                let kind = loop {
                    match chars.next().expect("the sequence ends") {
                        part @ ('0'..='9' | ';' | '?') => number.push(part),
                        kind => break kind,
                    }
                };
                let count = number.parse().unwrap_or(1);
                match (kind, number.as_str()) {
                    ('A', _) => row -= count.min(row),
                    ('B', _) => row += count,
                    ('C', _) => column += count,
                    ('D', _) => column -= count.min(column),
                    ('G', _) => column = count - 1,
                    ('K', "2") => lines[row].clear(),
                    ('K', _) => lines[row].truncate(column),
                    ('J', _) => {
                        lines[row].truncate(column);
                        lines.truncate(row + 1);
                    }
                    // Colours, and the visibility of the cursor.
                    ('m' | 'h' | 'l', _) => {}
                    _ => panic!("unknown sequence {number}{kind} in {output:?}"),
                }
            }
            c => {
                if column == usize::from(COLUMNS) {
                    (row, column) = (row + 1, 0);
                    lines.resize(lines.len().max(row + 1), Vec::new());
                }
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
    }
    lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect()
}

#[test]
fn the_screen_shows_the_last_state_of_each_line() {
    for (output, expected) in [
        ("a\r\nb\r\n", &["a", "b", ""][..]),
        (&format!("{}b", "a".repeat(100)), &[&"a".repeat(100), "b"]),
        ("12\r3", &["32"]),
        ("12\r\u{1b}[2K3", &["3"]),
        ("123\r4\u{1b}[K", &["4"]),
        ("1\r\n2\u{1b}[1A\r9\u{1b}[?25h", &["9", "2"]),
        ("1\r\n2\u{1b}[1A\r\u{1b}[J9", &["9"]),
    ] {
        assert_eq!(screen(output), expected, "{output:?}");
    }
}
