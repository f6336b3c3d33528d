//! The terminal itself: its size, raw mode, and keys.

use std::io::{self, Stdout, Write};
use std::str::FromStr;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use crossterm::event::{self, DisableBracketedPaste, EnableBracketedPaste, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{cursor, execute};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

use crate::{EscapeJoiner, Input, Key};

/// What every terminal can do.
pub const SIZE_BASE: Size = Size { width: 80, height: 24 };
/// Larger answers to the probe are not believed.
const SIDE_MAX: u16 = 500;
/// How long a terminal at the far end of a serial line has to tell its size.
const PROBE_PATIENCE: Duration = Duration::from_millis(400);
/// Bytes of one key arrive within this.
const KEY_PATIENCE: Duration = Duration::from_millis(80);

/// Columns and lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Lines.
    pub height: u16,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sides = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
        match sides {
            Some((width @ 20..=SIDE_MAX, height @ 7..=SIDE_MAX)) => Ok(Self { width, height }),
            _ => Err(format!("`{text}` is not a size such as 80x24")),
        }
    }
}

/// A terminal in raw mode; dropping it puts it back in order.
#[derive(Debug)]
pub struct RawTerminal {
    /// What is drawn on.
    pub terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl RawTerminal {
    /// Takes over standard input and output. A terminal that does not know its size is given `size`, or asked, or
    /// given [`SIZE_BASE`].
    ///
    /// # Errors
    /// Where standard input or output is no terminal.
    pub fn open(size: Option<Size>) -> io::Result<Self> {
        enable_raw_mode()?;
        let known = tcgetwinsize(rustix::stdio::stdout())?;
        if size.is_some() || known.ws_col == 0 || known.ws_row == 0 {
            let size = size.or_else(|| probe().ok().flatten()).unwrap_or(SIZE_BASE);
            let told = Winsize { ws_col: size.width, ws_row: size.height, ws_xpixel: 0, ws_ypixel: 0 };
            tcsetwinsize(rustix::stdio::stdout(), told)?;
        }
        execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)?;
        Ok(Self { terminal: Terminal::new(CrosstermBackend::new(io::stdout()))? })
    }

    /// Clears the terminal, so that the next picture is painted whole. `Terminal::clear` would ask where the cursor
    /// is, which a script at the far end of a line never answers.
    ///
    /// # Errors
    /// Where the terminal is gone.
    pub fn repaint(&mut self) -> io::Result<()> {
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::new(0, 0, size.width, size.height))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to put in order.
        let _ = execute!(io::stdout(), DisableBracketedPaste, LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}

/// Whether the far end hung up. Reading keys does not always notice: crossterm waits on after the end of its input.
pub fn is_hung_up() -> bool {
    let stdin = rustix::stdio::stdin();
    let mut line = [PollFd::new(&stdin, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // A poll that fails says nothing about the line.
    poll(&mut line, Some(&now)).is_ok() && line[0].revents().intersects(PollFlags::HUP | PollFlags::NVAL)
}

/// Moves the cursor as far as it goes and asks where it is.
fn probe() -> io::Result<Option<Size>> {
    let mut output = io::stdout();
    output.write_all(b"\x1b7\x1b[999;999H\x1b[6n\x1b8")?;
    output.flush()?;
    let until = Instant::now() + PROBE_PATIENCE;
    let mut answer = Vec::new();
    while answer.len() < 64 {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: 0, tv_nsec: left.as_nanos() as i64 };
        if poll(&mut [PollFd::new(&rustix::stdio::stdin(), PollFlags::IN)], Some(&left))? == 0 {
            return Ok(None);
        }
        let mut byte = [0];
        if rustix::io::read(rustix::stdio::stdin(), &mut byte)? == 0 {
            return Ok(None);
        }
        answer.push(byte[0]);
        if byte[0] == b'R' {
            return Ok(position_told(&answer));
        }
    }
    Ok(None)
}

/// Reads `ESC [ LINE ; COLUMN R`, whatever was typed before it.
fn position_told(answer: &[u8]) -> Option<Size> {
    let text = std::str::from_utf8(answer).ok()?;
    let (_, told) = text.strip_suffix('R')?.rsplit_once("\x1b[")?;
    let (height, width) = told.split_once(';')?;
    format!("{width}x{height}").parse().ok()
}

/// Reads keys until the line closes, and passes them on.
///
/// # Errors
/// Where the terminal is gone: a closed line is not an answer to anything.
pub fn read_keys(inputs: &Sender<Input>) -> io::Result<()> {
    let mut joiner = EscapeJoiner::default();
    loop {
        let heard = if joiner.is_waiting() && !event::poll(KEY_PATIENCE)? {
            joiner.flush().into_iter().map(Input::Key).collect()
        } else {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    let keys = key_of(key.code, key.modifiers).map(|key| joiner.push(key));
                    keys.unwrap_or_default().into_iter().map(Input::Key).collect()
                }
                Event::Paste(text) => vec![Input::Paste(text)],
                Event::Resize(width, height) => vec![Input::Resize { width, height }],
                _ => Vec::new(),
            }
        };
        for input in heard {
            if inputs.send(input).is_err() {
                return Ok(());
            }
        }
    }
}

fn key_of(code: KeyCode, modifiers: KeyModifiers) -> Option<Key> {
    Some(match code {
        KeyCode::Char(c) if modifiers.contains(KeyModifiers::CONTROL) => match c.to_ascii_lowercase() {
            // Some lines send a bare line feed for Enter.
            'j' | 'm' => Key::Enter,
            c => Key::Ctrl(c),
        },
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Delete => Key::Delete,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Esc => Key::Esc,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bounded() {
        assert_eq!("132x43".parse(), Ok(Size { width: 132, height: 43 }));
        for wrong in ["0x0", "80", "80x24x1", "9999x24", "-1x24", "x"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_answer_to_the_probe_is_found_behind_typed_text() {
        assert_eq!(position_told(b"yes\x1b[43;132R"), Some(Size { width: 132, height: 43 }));
        assert_eq!(position_told(b"\x1b[43R"), None);
        assert_eq!(position_told(b"R"), None);
    }
}
