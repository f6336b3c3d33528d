//! The content of one regular file, written by offset.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use node_model::{Entry, EntryKind, Extent};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, ftruncate, seek};
use rustix::io::Errno;

use super::metadata;
use crate::fs::{FsError, inode_flags, path};

/// Below this size a file is written at once, and reserving room for it first would only cost a call.
const PREALLOCATED_BYTES_MIN: u64 = 128 << 10;

/// The largest block of a filesystem here: data that lies in a hole's first or last block is its neighbour's.
const BLOCK_BYTES: u64 = 4096;

/// A file that is being written. Offsets are those of the packed stream: the file without its holes.
#[derive(Debug)]
pub struct FileWriter {
    file: File,
    entry: Entry,
    /// For a sparse file, where in the packed stream each extent begins.
    packed_starts: Vec<u64>,
    stored: u64,
}

impl FileWriter {
    /// Gives a new file its size and reserves room for its data.
    pub(super) fn new(file: File, entry: &Entry) -> Result<Self, FsError> {
        let writer = Self::resumed(file, entry)?;
        let EntryKind::File { size, .. } = writer.entry.kind else { return Ok(writer) };
        if size >= PREALLOCATED_BYTES_MIN || writer.extents().is_some() {
            ftruncate(&writer.file, size).map_err(|errno| FsError::io("set the size of", &entry.path, errno))?;
        }
        for extent in writer.extents().unwrap_or(&[Extent { offset: 0, length: size }]) {
            if extent.length < PREALLOCATED_BYTES_MIN {
                continue;
            }
            match fallocate(&writer.file, FallocateFlags::empty(), extent.offset, extent.length) {
                Ok(()) => {}
                // FAT cannot reserve; the writes will allocate.
                Err(Errno::OPNOTSUPP) => break,
                Err(errno) => return Err(FsError::io("reserve room for", &entry.path, errno)),
            }
        }
        Ok(writer)
    }

    /// Takes an open file as it is.
    pub(super) fn resumed(file: File, entry: &Entry) -> Result<Self, FsError> {
        let EntryKind::File { size, sparse } = &entry.kind else {
            return Err(FsError::Changed { path: path::display(&entry.path), expected: "regular file" });
        };
        let mut packed_starts = Vec::new();
        let mut stored = *size;
        if let Some(extents) = sparse {
            let wrong = |why| FsError::HostileName { path: path::display(&entry.path), why };
            packed_starts.reserve_exact(extents.len());
            let mut end = 0;
            stored = 0;
            for extent in extents {
                let stop = extent.offset.checked_add(extent.length).filter(|stop| stop <= size);
                if extent.offset < end {
                    return Err(wrong("its extents overlap or are not in order"));
                }
                end = stop.ok_or_else(|| wrong("an extent lies beyond its end"))?;
                packed_starts.push(stored);
                stored += extent.length;
            }
        }
        Ok(Self { file, entry: entry.clone(), packed_starts, stored })
    }

    /// Whether a file made earlier has the entry's size.
    pub(super) fn has_its_size(&self) -> Result<bool, FsError> {
        let EntryKind::File { size, .. } = self.entry.kind else { return Ok(false) };
        let failed = |error| FsError::io("read the status of", &self.entry.path, error);
        Ok(self.file.metadata().map_err(failed)?.len() == size)
    }

    /// Whether a file made earlier holds data in one of the entry's holes, the block at a hole's ends aside.
    pub(super) fn fills_holes(&self) -> Result<bool, FsError> {
        let (EntryKind::File { size, .. }, Some(kept)) = (&self.entry.kind, self.extents()) else { return Ok(false) };
        let ends = kept.iter().map(|extent| (extent.offset, extent.offset + extent.length));
        let mut at = 0;
        for (start, end) in ends.chain([(size.next_multiple_of(BLOCK_BYTES), *size)]) {
            let (from, to) = (at, start);
            at = end;
            let (from, to) = (from.next_multiple_of(BLOCK_BYTES), to / BLOCK_BYTES * BLOCK_BYTES);
            if from >= to {
                continue;
            }
            match seek(&self.file, SeekFrom::Data(from)) {
                Ok(data) if data < to => return Ok(true),
                Ok(_) | Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(FsError::io("find the holes of", &self.entry.path, errno)),
            }
        }
        Ok(false)
    }

    fn extents(&self) -> Option<&[Extent]> {
        match &self.entry.kind {
            EntryKind::File { sparse, .. } => sparse.as_deref(),
            _ => None,
        }
    }

    /// The entry being written.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The file, open for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes bytes of the packed stream at their place in the file.
    pub fn write_packed_at(&self, offset: u64, bytes: &[u8]) -> Result<(), FsError> {
        self.each_piece(offset, bytes.len() as u64, |at, packed, length| {
            let start = (packed - offset) as usize;
            self.file.write_all_at(&bytes[start..start + length as usize], at)
        })
    }

    /// Reads bytes of the packed stream from their place in the file, as `write_packed_at` would put them.
    pub fn read_packed_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), FsError> {
        self.each_piece(offset, bytes.len() as u64, |at, packed, length| {
            let start = (packed - offset) as usize;
            self.file.read_exact_at(&mut bytes[start..start + length as usize], at)
        })
    }

    /// Whether this stretch of the packed stream is on the disk as data. Room that was reserved and never written
    /// reads as zeros, and is a hole all the same.
    pub fn is_data_at(&self, offset: u64, length: u64) -> Result<bool, FsError> {
        let mut is_data = true;
        self.each_piece(offset, length, |at, _, length| {
            match seek(&self.file, SeekFrom::Hole(at)) {
                Ok(hole) => is_data &= hole >= at + length,
                // Beyond the end there is nothing; a filesystem that cannot tell has no holes.
                Err(Errno::NXIO) => is_data = false,
                Err(Errno::INVAL | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno.into()),
            }
            Ok(())
        })?;
        Ok(is_data)
    }

    /// Cuts a stretch of the packed stream into its pieces (place in the file, place in the packed stream, length).
    fn each_piece(
        &self,
        offset: u64,
        length: u64,
        mut piece: impl FnMut(u64, u64, u64) -> io::Result<()>,
    ) -> Result<(), FsError> {
        let end = offset.checked_add(length).filter(|&end| end <= self.stored);
        let end = end.ok_or_else(|| self.beyond(length, offset))?;
        let failed = |error| FsError::io("write or read back the content of", &self.entry.path, error);
        let Some(extents) = self.extents() else { return piece(offset, offset, length).map_err(failed) };
        let mut packed = offset;
        let mut index = self.packed_starts.partition_point(|&start| start <= offset).saturating_sub(1);
        while packed < end {
            let (extent, start) = (extents[index], self.packed_starts[index]);
            let inside = packed - start;
            let length = (extent.length - inside).min(end - packed);
            if length > 0 {
                piece(extent.offset + inside, packed, length).map_err(failed)?;
            }
            packed += length;
            index += 1;
        }
        Ok(())
    }

    /// The error of bytes that do not fit the entry.
    pub(super) fn beyond(&self, given: u64, offset: u64) -> FsError {
        FsError::BeyondEnd { path: path::display(&self.entry.path), offset, given, stored: self.stored }
    }

    /// Puts the entry's metadata on the file: after its last byte, because writing changes times and clears bits.
    /// Flags and project id that it inherited from its directory are taken away; its own come in
    /// [`RootWriter::finish`](super::RootWriter::finish).
    pub fn finish(&self) -> Result<(), FsError> {
        inode_flags::write_flags(self.file.as_fd(), 0, &self.entry.path)?;
        inode_flags::write_project(self.file.as_fd(), 0, &self.entry.path)?;
        metadata::apply(self.file.as_fd(), &self.entry)
    }
}
