//! The serial console: what a machine prints, and what is typed into it.
//!
//! A thread reads the line all the time. It keeps three views of the same bytes: the transcript (a file, everything),
//! the text (escape sequences taken out, for output that scrolls) and the screen (a VT100, for output that is drawn).

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::Error;

/// Text kept for `wait_for`: older text can no longer be waited for. The transcript keeps everything.
const TEXT_BYTES_MAX: usize = 8 << 20;

/// The screen that a serial line is given, as real terminals have it.
const SCREEN_ROWS: u16 = 24;
const SCREEN_COLUMNS: u16 = 80;

/// The serial console of a running machine.
pub struct Console {
    machine: String,
    transcript: PathBuf,
    writer: UnixStream,
    shared: Arc<Shared>,
    /// How far into the text the last `wait_for` has read.
    seen: usize,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    text: String,
    /// Bytes dropped from the front of `text`.
    dropped: usize,
    screen: vt100::Parser,
    closed: bool,
}

impl Console {
    /// Starts to read a connected line. Everything that arrives is written to `transcript`.
    pub fn attach(machine: &str, line: UnixStream, transcript: &Path) -> Result<Self, Error> {
        let file = File::create(transcript).map_err(Error::file("create", transcript))?;
        let duplicate = || line.try_clone().map_err(Error::file("duplicate the console of", machine));
        let (reader, answers) = (duplicate()?, duplicate()?);
        let screen = vt100::Parser::new(SCREEN_ROWS, SCREEN_COLUMNS, 0);
        let shared = Arc::new(Shared {
            state: Mutex::new(State { text: String::new(), dropped: 0, screen, closed: false }),
            changed: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        thread::spawn(move || read_line(reader, answers, file, &theirs));
        Ok(Console { machine: machine.into(), transcript: transcript.into(), writer: line, shared, seen: 0 })
    }

    /// Waits until this text is printed after what the last wait has found, and returns what came before it.
    ///
    /// This looks at the stream, so it finds each text once; for a screen that is drawn use `wait_for_screen`.
    pub fn wait_for(&mut self, wanted: &str, limit: Duration) -> Result<String, Error> {
        self.wait_for_any(&[wanted], limit).map(|(_, before)| before)
    }

    /// As `wait_for`, for the first of several texts: returns which one, and what came before it.
    pub fn wait_for_any(&mut self, wanted: &[&str], limit: Duration) -> Result<(usize, String), Error> {
        let seen = self.seen;
        let (which, before, end) = self.wait(limit, &wanted.join("` or `"), |state| {
            let text = state.text.get(seen.saturating_sub(state.dropped)..)?;
            let (position, which) =
                wanted.iter().enumerate().filter_map(|(which, one)| text.find(one).map(|at| (at, which))).min()?;
            let end = seen.max(state.dropped) + position + wanted[which].len();
            Some((which, text[..position].to_owned(), end))
        })?;
        self.seen = end;
        Ok((which, before))
    }

    /// Waits until the screen shows this text somewhere.
    pub fn wait_for_screen(&self, wanted: &str, limit: Duration) -> Result<(), Error> {
        self.wait_until(&format!("`{wanted}` on the screen"), limit, |screen| screen.contains(wanted))
    }

    /// Waits until the screen's text satisfies a condition; `what` names it in the error.
    pub fn wait_until(&self, what: &str, limit: Duration, accept: impl Fn(&str) -> bool) -> Result<(), Error> {
        self.wait(limit, what, |state| accept(&state.screen.screen().contents()).then_some(()))
    }

    /// Skips everything that was printed so far: a later `wait_for` finds only what is new.
    pub fn skip(&mut self) {
        let state = self.shared.lock();
        self.seen = state.dropped + state.text.len();
    }

    /// What the screen shows: rows of text, without trailing blanks.
    pub fn screen(&self) -> String {
        self.shared.lock().screen.screen().contents()
    }

    /// The file that keeps everything the machine has printed.
    pub fn transcript(&self) -> &Path {
        &self.transcript
    }

    /// Types these characters as they are.
    pub fn type_text(&mut self, text: &str) -> Result<(), Error> {
        self.writer.write_all(text.as_bytes()).map_err(Error::file("type on the console of", self.machine.as_str()))
    }

    /// Types a line and presses Enter.
    pub fn type_line(&mut self, line: &str) -> Result<(), Error> {
        self.type_text(&format!("{line}\r"))
    }

    fn wait<T>(&self, limit: Duration, wanted: &str, look: impl Fn(&State) -> Option<T>) -> Result<T, Error> {
        let deadline = Instant::now() + limit;
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = look(&state) {
                return Ok(found);
            }
            let (machine, wanted) = (self.machine.clone(), format!("`{wanted}`"));
            let (screen, transcript) = (state.screen.screen().contents(), self.transcript.clone());
            if state.closed {
                return Err(Error::Closed { machine, wanted, screen, transcript });
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Err(Error::Timeout { machine, wanted, waited: limit, screen, transcript });
            };
            (state, _) = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A reader that panicked has left readable text behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_line(mut reader: UnixStream, mut answers: UnixStream, mut transcript: File, shared: &Shared) {
    let mut buffer = [0_u8; 4096];
    let mut strip = Strip::default();
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        // A full disk must not hang the guest; the screen still goes on.
        let _ = transcript.write_all(&buffer[..count]);
        let mut state = shared.lock();
        state.screen.process(&buffer[..count]);
        let asked = strip.push(&buffer[..count], &mut state.text);
        if state.text.len() > TEXT_BYTES_MAX {
            let mut cut = state.text.len() / 2;
            while !state.text.is_char_boundary(cut) {
                cut += 1;
            }
            state.text.drain(..cut);
            state.dropped += cut;
        }
        if asked {
            let (row, column) = state.screen.screen().cursor_position();
            let _ = write!(answers, "\x1b[{};{}R", row + 1, column + 1);
        }
        drop(state);
        shared.changed.notify_all();
    }
    shared.lock().closed = true;
    shared.changed.notify_all();
}

/// Takes escape sequences out of a stream, across the borders of reads.
#[derive(Default)]
struct Strip {
    state: Sequence,
    parameters: String,
    utf8: Vec<u8>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Sequence {
    #[default]
    Text,
    Escape,
    Control,
    Charset,
    OperatingSystem,
}

impl Strip {
    /// Appends the text of these bytes. True when the machine asked where the cursor is, as a terminal must answer.
    fn push(&mut self, bytes: &[u8], text: &mut String) -> bool {
        let mut asked = false;
        for &byte in bytes {
            match (self.state, byte) {
                (Sequence::Text, 0x1b) => self.state = Sequence::Escape,
                (Sequence::Text, b'\n') => self.put(b'\n', text),
                // Blanks that a status line is wiped with: what is written over them is the line.
                (Sequence::Text, b'\r') => {
                    let line = text.rfind('\n').map_or(0, |at| at + 1);
                    if text[line..].bytes().all(|byte| byte == b' ') {
                        text.truncate(line);
                    }
                }
                (Sequence::Text, byte) if byte < 0x20 || byte == 0x7f => {}
                (Sequence::Text, byte) => self.put(byte, text),
                (Sequence::Escape, b'[') => {
                    self.parameters.clear();
                    self.state = Sequence::Control;
                }
                (Sequence::Escape, b']') => self.state = Sequence::OperatingSystem,
                (Sequence::Escape, b'(' | b')' | b'#') => self.state = Sequence::Charset,
                (Sequence::Escape | Sequence::Charset, _) => self.state = Sequence::Text,
                (Sequence::Control, 0x40..=0x7e) => {
                    asked |= byte == b'n' && self.parameters == "6";
                    // What is drawn elsewhere is not the same word.
                    if matches!(byte, b'H' | b'f' | b'A'..=b'G' | b'd') {
                        self.put(b'\n', text);
                    }
                    self.state = Sequence::Text;
                }
                (Sequence::Control, byte) if self.parameters.len() < 32 => self.parameters.push(char::from(byte)),
                (Sequence::Control, _) => {}
                (Sequence::OperatingSystem, 0x07) => self.state = Sequence::Text,
                (Sequence::OperatingSystem, 0x1b) => self.state = Sequence::Escape,
                (Sequence::OperatingSystem, _) => {}
            }
        }
        asked
    }

    fn put(&mut self, byte: u8, text: &mut String) {
        self.utf8.push(byte);
        match std::str::from_utf8(&self.utf8) {
            Ok(whole) => text.push_str(whole),
            // The first bytes of a character: wait for the rest.
            Err(error) if error.error_len().is_none() => return,
            Err(_) => text.push(char::REPLACEMENT_CHARACTER),
        }
        self.utf8.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Console, UnixStream, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Console::attach("test", ours, &dir.path().join("transcript")).unwrap(), theirs, dir)
    }

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn each_text_is_found_once_and_in_order() {
        let (mut console, mut guest, _dir) = pair();
        guest.write_all(b"one login: two login: three").unwrap();
        assert_eq!(console.wait_for("login:", SOON).unwrap(), "one ");
        assert_eq!(console.wait_for("login:", SOON).unwrap(), " two ");
        assert!(matches!(console.wait_for("login:", Duration::from_millis(50)), Err(Error::Timeout { .. })));
    }

    #[test]
    fn a_text_is_found_across_reads_and_colours() {
        let (mut console, mut guest, _dir) = pair();
        guest.write_all(b"\x1b[1;31mRestore\x1b[0").unwrap();
        thread::sleep(Duration::from_millis(20));
        guest.write_all(b"m code\xe2\x94").unwrap();
        thread::sleep(Duration::from_millis(20));
        guest.write_all(b"\x80").unwrap();
        console.wait_for("Restore code\u{2500}", SOON).unwrap();
    }

    #[test]
    fn a_status_line_that_was_wiped_leaves_no_blanks() {
        let (mut console, mut guest, _dir) = pair();
        guest.write_all(b"one\r\n\r        \rtwo\r\n  three\r\nend").unwrap();
        assert_eq!(console.wait_for("end", SOON).unwrap(), "one\ntwo\n  three\n");
    }

    #[test]
    fn a_drawn_word_is_found_on_the_screen_only() {
        let (mut console, mut guest, _dir) = pair();
        // Drawn out of order, as a differential update does.
        guest.write_all(b"\x1b[2;5Hent\x1b[2;1HCons").unwrap();
        console.wait_for_screen("Consent", SOON).unwrap();
        assert!(console.wait_for("Consent", Duration::from_millis(50)).is_err());
    }

    #[test]
    fn a_time_out_shows_the_last_screen() {
        let (mut console, mut guest, _dir) = pair();
        guest.write_all(b"Trouble: no network").unwrap();
        let error = console.wait_for("Server address", Duration::from_millis(100)).unwrap_err().to_string();
        assert!(error.contains("Server address") && error.contains("Trouble: no network"), "{error}");
    }

    #[test]
    fn a_closed_line_ends_the_wait_at_once() {
        let (mut console, guest, _dir) = pair();
        drop(guest);
        assert!(matches!(console.wait_for("anything", SOON), Err(Error::Closed { .. })));
    }

    #[test]
    fn the_cursor_question_is_answered_as_a_terminal_does() {
        let (_console, mut guest, _dir) = pair();
        guest.write_all(b"\x1b[999;999H\x1b[6n").unwrap();
        let mut answer = [0_u8; 8];
        guest.set_read_timeout(Some(SOON)).unwrap();
        guest.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"\x1b[24;80R");
    }
}
