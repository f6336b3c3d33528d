//! What the plan's own steps wrote besides the volumes, so that it can be required when it is read back.

use std::os::fd::BorrowedFd;

use bundle::Hash;
use linux_io::fs::{Expected, Found, FsError, compare_found, find_entry, hash_packed};
use node_model::{DeviceKey, Entry};

use super::LiveMachine;

/// A file or directory that a step wrote.
#[derive(Debug, Clone)]
pub(super) struct Written {
    /// As it was written.
    pub(super) entry: Entry,
    /// The hash of a file's content.
    pub(super) hash: Option<Hash>,
}

/// What a step wrote, and what an operator should know of it.
#[derive(Debug, Default)]
pub(super) struct Wrote {
    pub(super) written: Vec<Written>,
    pub(super) warnings: Vec<String>,
}

impl Wrote {
    /// Nothing, for this reason.
    pub(super) fn nothing(why: String) -> Self {
        Self { written: Vec::new(), warnings: vec![why] }
    }
}

impl Written {
    /// Whether `path` is its path, or that of a directory on the way to it.
    pub(super) fn is_reached_through(&self, path: &[u8]) -> bool {
        self.entry.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// How it differs from what is there now. Only its time of modification is left out: what a filesystem keeps of
    /// it depends on the filesystem.
    pub(super) fn differences(&self, root: BorrowedFd<'_>) -> Result<Vec<String>, FsError> {
        let missing = || format!("/{}: missing", self.entry.path.escape_ascii());
        let found = match find_entry(root, &self.entry.path) {
            Ok(Found::Entry(found)) => found,
            Ok(Found::Socket) => return Ok(vec![missing()]),
            Err(error) if error.is_vanished() => return Ok(vec![missing()]),
            Err(error) => return Err(error),
        };
        let content_hash = self.hash.map(|hash| *hash.as_bytes());
        let expected = Expected { entry: self.entry.clone(), content_hash, allocated: None };
        let differences = compare_found(&expected, &found, &|entry, file| hash_packed(entry, file));
        Ok(differences.iter().filter(|one| one.what() != "mtime").map(ToString::to_string).collect())
    }
}

impl LiveMachine {
    /// Remembers what a step wrote on `device`, and hands on what is to be told.
    pub(super) fn remember(&mut self, device: &DeviceKey, wrote: Wrote) -> Vec<String> {
        self.written.entry(device.clone()).or_default().extend(wrote.written);
        wrote.warnings
    }
}
