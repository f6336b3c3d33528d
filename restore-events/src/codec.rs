//! Lines of JSON, versioned and bounded.

use std::io::{BufRead, Read};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Command, Event};

/// The version of this protocol. A reader refuses every other.
pub const PROTOCOL: u16 = 1;

/// The longest line read: a plan for a machine with hundreds of disks stays below it.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// One event with its place in the session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`PROTOCOL`].
    pub v: u16,
    /// Number within the session, from 0. It grows by one with every event told; a replay leaves numbers out.
    pub seq: u64,
    /// Milliseconds since the session's start of time (the kernel's start in the restore environment).
    pub at_ms: u64,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

impl Record {
    /// A record of this version.
    pub fn new(seq: u64, at_ms: u64, event: Event) -> Self {
        Self { v: PROTOCOL, seq, at_ms, event }
    }
}

/// One command as a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandLine {
    /// [`PROTOCOL`].
    pub v: u16,
    /// The command.
    #[serde(flatten)]
    pub command: Command,
}

impl CommandLine {
    /// A command of this version.
    pub fn new(command: Command) -> Self {
        Self { v: PROTOCOL, command }
    }
}

/// Why a line could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The connection or file failed.
    #[error("cannot read the next line")]
    Io(#[from] std::io::Error),
    /// The line is longer than [`LINE_BYTES_MAX`].
    #[error("a line is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// The last line has no end: its writer was killed.
    #[error("the last line is incomplete")]
    Truncated,
    /// The other side speaks another version.
    #[error("the line has protocol version {found}, this program speaks {PROTOCOL}")]
    Version {
        /// The version found.
        found: u64,
    },
    /// The line is not what it should be.
    #[error("the line is not a valid record")]
    Malformed(#[source] serde_json::Error),
}

impl CodecError {
    /// What to do about it, for operators.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Version { .. } => Some("use engine, screens and server of one rerack release"),
            _ => None,
        }
    }
}

/// A [`Record`] or [`CommandLine`] as one line, its line feed included.
///
/// # Errors
/// [`CodecError::TooLong`] if no reader would take it.
pub fn encode<T: Serialize>(line: &T) -> Result<String, CodecError> {
    let mut text = serde_json::to_string(line).map_err(CodecError::Malformed)?;
    text.push('\n');
    if text.len() > LINE_BYTES_MAX { Err(CodecError::TooLong) } else { Ok(text) }
}

/// Reads [`Record`]s or [`CommandLine`]s.
#[derive(Debug)]
pub struct LineReader<R> {
    source: R,
    line: Vec<u8>,
}

impl<R: BufRead> LineReader<R> {
    /// Reads from `source`.
    pub fn new(source: R) -> Self {
        Self { source, line: Vec::new() }
    }

    /// The next line, or `None` at the end. After [`CodecError::Malformed`] and [`CodecError::Version`] the next
    /// line can be read; after other errors the connection is of no more use.
    ///
    /// # Errors
    /// See [`CodecError`].
    pub fn next_line<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CodecError> {
        self.line.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let read = self.source.by_ref().take(limit).read_until(b'\n', &mut self.line)?;
        match self.line.last() {
            None => Ok(None),
            _ if read > LINE_BYTES_MAX => Err(CodecError::TooLong),
            Some(b'\n') => decode(&self.line).map(Some),
            Some(_) => Err(CodecError::Truncated),
        }
    }
}

/// Checks the version before anything else is believed.
fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, CodecError> {
    #[derive(Deserialize)]
    struct Version {
        v: u64,
    }
    let Version { v } = serde_json::from_slice(line).map_err(CodecError::Malformed)?;
    if v != u64::from(PROTOCOL) {
        return Err(CodecError::Version { found: v });
    }
    serde_json::from_slice(line).map_err(CodecError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogLevel, QuestionId};

    fn log(text: &str) -> Record {
        Record::new(7, 1234, Event::Log { level: LogLevel::Info, text: text.into() })
    }

    #[test]
    fn lines_come_back_as_they_went() {
        let records = [log("one\ntwo"), Record::new(8, 1300, Event::QuestionClosed { id: QuestionId(3) })];
        let text: String = records.iter().map(|record| encode(record).unwrap()).collect();
        let mut reader = LineReader::new(text.as_bytes());
        for record in records {
            assert_eq!(reader.next_line::<Record>().unwrap(), Some(record));
        }
        assert!(reader.next_line::<Record>().unwrap().is_none());
    }

    #[test]
    fn a_line_beyond_the_limit_takes_no_memory_beyond_it() {
        let endless = std::io::repeat(b'x');
        let mut reader = LineReader::new(std::io::BufReader::new(endless));
        assert!(matches!(reader.next_line::<Record>(), Err(CodecError::TooLong)));
        assert!(reader.line.capacity() <= 4 * LINE_BYTES_MAX);
        assert!(matches!(encode(&log(&"x".repeat(LINE_BYTES_MAX))), Err(CodecError::TooLong)));
    }

    #[test]
    fn another_version_is_refused_by_its_number() {
        let mut reader = LineReader::new(&b"{\"v\":2,\"event\":\"from-the-future\"}\n"[..]);
        let error = reader.next_line::<Record>().unwrap_err();
        assert!(matches!(error, CodecError::Version { found: 2 }), "{error}");
        assert!(error.hint().is_some());
    }

    #[test]
    fn a_bad_line_does_not_hide_the_next() {
        let text = format!("{{\"v\":1}}\nnot json\n{}{{\"v\":1", encode(&log("good")).unwrap());
        let mut reader = LineReader::new(text.as_bytes());
        assert!(matches!(reader.next_line::<Record>(), Err(CodecError::Malformed(_))));
        assert!(matches!(reader.next_line::<Record>(), Err(CodecError::Malformed(_))));
        assert_eq!(reader.next_line::<Record>().unwrap(), Some(log("good")));
        assert!(matches!(reader.next_line::<Record>(), Err(CodecError::Truncated)));
    }
}
