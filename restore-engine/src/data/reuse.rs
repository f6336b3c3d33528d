//! What an interrupted run left on the disk and may be kept. Nothing is kept by its size and time: everything is read
//! and hashed.

use std::os::fd::{AsFd, OwnedFd};

use bundle::catalog::CatalogEntry;
use linux_io::fs::{Excludes, Found, Visit, Walker, find_entry, hash_packed, stream_order};
use node_model::{Entry, EntryKind};

use super::files::FilesError;
use super::volume::CatalogReadError;

/// Looks below the root of a filesystem that was made under this claim before.
pub struct Reuse {
    root: OwnedFd,
}

impl Reuse {
    /// Looks below `root`.
    pub fn below(root: OwnedFd) -> Self {
        Self { root }
    }

    /// Whether all entries of one tar chunk are in place, so that the chunk need not be fetched. Hardlinks, the
    /// metadata of directories, and flags are made later in any case, and large files are looked at by piece.
    pub fn holds_all(&self, entries: &[CatalogEntry]) -> bool {
        entries.iter().all(|entry| self.holds(entry))
    }

    /// The paths that are there and not among `expected`, which must come in stream order. Of a directory that should
    /// not be there only itself is named.
    ///
    /// # Errors
    /// What `expected` yields, and what keeps the tree from being read.
    pub fn extras(
        &self,
        expected: impl Iterator<Item = Result<Vec<u8>, CatalogReadError>>,
    ) -> Result<Vec<Vec<u8>>, FilesError> {
        let mut expected = expected.peekable();
        let mut extras: Vec<Vec<u8>> = Vec::new();
        let root = self.root.try_clone().map_err(|source| FilesError::Tree { source: Box::new(source) })?;
        let walker =
            Walker::new(root, Excludes::default()).map_err(|source| FilesError::Tree { source: Box::new(source) })?;
        for visit in walker {
            let path = match visit.map_err(|source| FilesError::Tree { source: Box::new(source) })? {
                Visit::Entry(info) => info.entry.path,
                Visit::Covered { path } | Visit::Socket { path } => path,
                Visit::Vanished { .. } => continue,
            };
            let before = |due: &Result<Vec<u8>, _>| match due {
                Ok(due) => stream_order(due, &path).is_lt(),
                Err(_) => true,
            };
            while let Some(due) = expected.next_if(before) {
                due?;
            }
            let is_expected = matches!(expected.peek(), Some(Ok(due)) if *due == path);
            let inside_extra = extras
                .last()
                .is_some_and(|extra| path.strip_prefix(&extra[..]).is_some_and(|rest| rest.first() == Some(&b'/')));
            if !is_expected && !inside_extra {
                extras.push(path);
            }
        }
        Ok(extras)
    }

    fn holds(&self, wanted: &CatalogEntry) -> bool {
        if matches!(wanted.entry.kind, EntryKind::Hardlink { .. }) || wanted.placed.data_row_count > 0 {
            return true;
        }
        let Ok(Found::Entry(info)) = find_entry(self.root.as_fd(), &wanted.entry.path) else { return false };
        if matches!(wanted.entry.kind, EntryKind::Directory) {
            return matches!(info.entry.kind, EntryKind::Directory);
        }
        let comparable = |entry: &Entry| Entry { flags: 0, project_id: 0, ..entry.clone() };
        if comparable(&info.entry) != comparable(&wanted.entry) {
            return false;
        }
        match (&info.content, &wanted.placed.content_hash) {
            (Some(file), Some(hash)) => hash_packed(&wanted.entry, file).is_ok_and(|found| found == *hash.as_bytes()),
            (None, None) => true,
            _ => false,
        }
    }
}
