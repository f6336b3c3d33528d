//! What restores tell: one file of JSON lines for each run of the engine, under `server/events/ARM/SESSION.jsonl`.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use restore_events::{LineReader, Record, encode};
use server_api::limits::EVENTS_STORED_BYTES_MAX;

/// Runs of the engine kept of one restore.
const SESSIONS_MAX: usize = 256;

/// The files of all restores.
#[derive(Debug)]
pub(crate) struct EventFiles {
    directory: PathBuf,
    next: HashMap<PathBuf, u64>,
}

/// Why events were not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EventsError {
    #[error("a session is named by 1 to 64 lower-case letters, digits and `-`")]
    BadSession,
    #[error("this restore has told more than is kept of one")]
    Enough,
    #[error("the events cannot be stored")]
    Io(#[from] io::Error),
}

impl EventFiles {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, next: HashMap::new() }
    }

    /// Stores the records that are new; says which number comes next.
    pub(crate) fn store(&mut self, arm: &str, session: &str, records: &[Record]) -> Result<u64, EventsError> {
        let good = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if !(1..=64).contains(&session.len()) || !session.bytes().all(good) {
            return Err(EventsError::BadSession);
        }
        let directory = self.directory.join(arm);
        fs::create_dir_all(&directory)?;
        let path = directory.join(format!("{session}.jsonl"));
        let mut next = match self.next.get(&path) {
            Some(&next) => next,
            None => resume(&path)?,
        };
        let mut lines = String::new();
        let mut after = next;
        for record in records.iter().filter(|record| record.seq >= next) {
            // Every record came in a body far below the longest line.
            lines.push_str(&encode(record).map_err(|_| EventsError::Enough)?);
            after = after.max(record.seq.saturating_add(1));
        }
        if !lines.is_empty() {
            let (stored_bytes, sessions) = usage(&directory)?;
            let is_new = !path.exists();
            if stored_bytes + lines.len() as u64 > EVENTS_STORED_BYTES_MAX || (is_new && sessions >= SESSIONS_MAX) {
                return Err(EventsError::Enough);
            }
            // A write that fails half-way leaves a torn line; forgetting the number makes the next call cut it off.
            self.next.remove(&path);
            OpenOptions::new().create(true).append(true).open(&path)?.write_all(lines.as_bytes())?;
            next = after;
        }
        self.next.insert(path, next);
        Ok(next)
    }
}

/// Reads how far a file has come, and cuts off a last line that was torn.
fn resume(path: &Path) -> io::Result<u64> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        opened => opened?,
    };
    let mut reader = LineReader::new(BufReader::new(file));
    let mut next = 0;
    while let Ok(Some(record)) = reader.next_line::<Record>() {
        next = next.max(record.seq.saturating_add(1));
    }
    let bytes = fs::read(path)?;
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    if whole < bytes.len() {
        OpenOptions::new().write(true).open(path)?.set_len(whole as u64)?;
    }
    Ok(next)
}

fn usage(directory: &Path) -> io::Result<(u64, usize)> {
    fs::read_dir(directory)?.try_fold((0, 0), |(bytes, files), entry| Ok((bytes + entry?.metadata()?.len(), files + 1)))
}

#[cfg(test)]
mod tests {
    use restore_events::{Event, LogLevel};

    use super::*;

    fn record(seq: u64) -> Record {
        Record::new(seq, seq * 10, Event::Log { level: LogLevel::Info, text: format!("line {seq}") })
    }

    #[test]
    fn what_is_sent_twice_is_stored_once_even_across_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = EventFiles::new(dir.path().to_owned());
        assert_eq!(files.store("arm", "run-1", &[record(0), record(1)]).unwrap(), 2);
        assert_eq!(files.store("arm", "run-1", &[record(1), record(2)]).unwrap(), 3);
        let path = dir.path().join("arm/run-1.jsonl");
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"v\":1,\"se").unwrap();
        let mut restarted = EventFiles::new(dir.path().to_owned());
        assert_eq!(restarted.store("arm", "run-1", &[record(2), record(3)]).unwrap(), 4);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert_eq!(restarted.store("arm", "run-2", &[record(0)]).unwrap(), 1);
    }

    #[test]
    fn a_session_cannot_name_another_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = EventFiles::new(dir.path().to_owned());
        for bad in ["", "..", "a/b", "A", &"x".repeat(65)] {
            assert!(matches!(files.store("arm", bad, &[record(0)]), Err(EventsError::BadSession)), "{bad}");
        }
    }
}
