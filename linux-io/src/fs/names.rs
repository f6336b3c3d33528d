//! The names in one directory, in stream order.

use std::os::fd::BorrowedFd;

use rustix::fs::RawDir;
use rustix::io::Errno;

use super::FsError;

/// Bytes asked of the kernel at once.
const READ_BYTES: usize = 64 << 10;

/// Most bytes of names in one directory: some ten million names.
const NAMES_BYTES_MAX: u64 = 512 << 20;

/// Names of one directory in one allocation, sorted bytewise, handed out one after another.
#[derive(Debug, Default)]
pub(crate) struct SortedNames {
    bytes: Vec<u8>,
    spans: Vec<(u32, u16)>,
    next: usize,
}

impl SortedNames {
    /// Reads and sorts the names in an open directory.
    pub(crate) fn read(directory: BorrowedFd<'_>, path: &[u8]) -> Result<Self, FsError> {
        let mut names = Self::default();
        let mut buffer = Vec::with_capacity(READ_BYTES);
        let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(FsError::io("list the directory", path, errno)),
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if (names.bytes.len() + name.len()) as u64 > NAMES_BYTES_MAX {
                let path = super::path::display(path);
                return Err(FsError::TooLarge { path, what: "bytes of names", limit: NAMES_BYTES_MAX });
            }
            // Both fit: the bound is below 4 GiB, and the kernel's names are at most 255 bytes long.
            names.spans.push((names.bytes.len() as u32, name.len() as u16));
            names.bytes.extend_from_slice(name);
        }
        let Self { bytes, spans, .. } = &mut names;
        spans.sort_unstable_by(|&a, &b| slice(bytes, a).cmp(slice(bytes, b)));
        Ok(names)
    }

    /// The next name.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        let span = *self.spans.get(self.next)?;
        self.next += 1;
        Some(slice(&self.bytes, span).to_vec())
    }
}

fn slice(bytes: &[u8], (start, length): (u32, u16)) -> &[u8] {
    &bytes[start as usize..start as usize + usize::from(length)]
}
