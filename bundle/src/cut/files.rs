//! Files volumes: a tar stream, cut between entries and within large files.

use node_model::{Entry, EntryKind};

use super::fastcdc::first_cut;
use super::rule::ends_chunk;
use super::{ChunkSink, CutError, CutVolume, Output, PendingRow, Stopped, Ticket};
use crate::catalog::Placed;
use crate::limits::{CHUNK_BYTES_MAX, LARGE_FILE_BYTES};
use crate::list::{ChunkKind, RowFlags};
use crate::tar::{BLOCK_BYTES, END, encode_header, padded};
use crate::{Hash, Hasher};

/// Whether an entry's content goes into data chunks of its own, so that it is given by [`VolumeCutter::begin_large`].
pub fn is_large(entry: &Entry) -> bool {
    entry.stored_bytes() >= LARGE_FILE_BYTES
}

/// Cuts one filesystem's entries into chunks.
pub struct VolumeCutter<S> {
    cut_key: [u8; 32],
    output: Output<S>,
    open: OpenChunk,
    volume: CutVolume,
}

/// The tar chunk that entries are added to.
#[derive(Default)]
struct OpenChunk {
    content: Vec<u8>,
    first_entry: u64,
    changed: bool,
}

impl<S: ChunkSink> VolumeCutter<S> {
    /// A cutter of one volume. The key is the repository's, so that all its snapshots are cut alike.
    pub fn new(cut_key: [u8; 32], sink: S) -> Self {
        Self {
            cut_key,
            output: Output::new(sink),
            open: OpenChunk::default(),
            volume: CutVolume { rows: Vec::new(), entry_count: 0, stream_bytes: 0 },
        }
    }

    /// Bytes of the stream that lie in finished chunks.
    pub fn stream_bytes(&self) -> u64 {
        self.volume.stream_bytes
    }

    /// Adds an entry that is not large, with the bytes stored of it: exactly [`Entry::stored_bytes`]. `changed` says
    /// that the file changed while it was read.
    pub fn push(&mut self, entry: &Entry, content: &[u8], changed: bool) -> Result<Placed, CutError> {
        let path = || entry.display_path();
        if is_large(entry) {
            return Err(CutError::WrongWay { path: path(), bytes: entry.stored_bytes() });
        }
        if content.len() as u64 != entry.stored_bytes() {
            let (expected, found) = (entry.stored_bytes(), content.len() as u64);
            return Err(CutError::ContentLength { path: path(), expected, found });
        }
        let header = self.header(entry)?;
        let stream_bytes = header.len() as u64 + padded(content.len() as u64);
        self.make_room(stream_bytes)?;
        let offset_in_chunk = self.open.content.len() as u32;
        let first_row = self.volume.rows.len() as u64;
        self.open.content.extend_from_slice(&header);
        self.open.content.extend_from_slice(content);
        self.open.content.resize(offset_in_chunk as usize + stream_bytes as usize, 0);
        self.open.changed |= changed;
        let is_file = matches!(entry.kind, EntryKind::File { .. });
        let placed = Placed {
            ordinal: self.volume.entry_count,
            first_row,
            offset_in_chunk,
            data_row_count: 0,
            content_hash: is_file.then(|| Hash::of(content)),
            changed,
        };
        self.volume.entry_count += 1;
        if ends_chunk(&self.cut_key, &entry.path, stream_bytes) {
            self.close()?;
        }
        Ok(placed)
    }

    /// Begins a large file. Nothing of it is in the volume before [`LargeFile::commit`].
    pub fn begin_large(&mut self, entry: &Entry) -> Result<LargeFile<'_, S>, CutError> {
        let bytes = entry.stored_bytes();
        if !is_large(entry) {
            return Err(CutError::WrongWay { path: entry.display_path(), bytes });
        }
        let header = self.header(entry)?;
        self.make_room(header.len() as u64)?;
        let header_at = self.open.content.len();
        self.open.content.extend_from_slice(&header);
        Ok(LargeFile {
            path: entry.display_path(),
            stored_bytes: bytes,
            header_at,
            rows: Vec::new(),
            window: Vec::with_capacity(padded(bytes.min(CHUNK_BYTES_MAX.into())) as usize),
            taken: 0,
            cut: 0,
            hasher: Hasher::new(),
            committed: false,
            cutter: self,
        })
    }

    /// Ends the volume: the open chunk, then the chunk that ends every tar stream.
    pub fn finish(mut self) -> Result<CutVolume, CutError> {
        self.close()?;
        let ticket = self.output.give(END.to_vec())?;
        self.add_row(PendingRow {
            kind: ChunkKind::End,
            flags: RowFlags::default(),
            content_len: END.len() as u32,
            ticket,
            entry: 0,
            packed_offset: 0,
        });
        Ok(self.volume)
    }

    fn header(&self, entry: &Entry) -> Result<Vec<u8>, CutError> {
        if self.volume.entry_count == 0 && !entry.path.is_empty() {
            return Err(CutError::RootMissing { path: entry.display_path() });
        }
        Ok(encode_header(entry)?)
    }

    /// Closes the open chunk if `bytes` more would be more than a chunk holds. One entry's header and a small file's
    /// content always fit into an empty one: the bounds of PAX header, sparse map and small file add up to less.
    fn make_room(&mut self, bytes: u64) -> Result<(), Stopped> {
        if self.open.content.len() as u64 + bytes > u64::from(CHUNK_BYTES_MAX) {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stopped> {
        let OpenChunk { content, first_entry, changed } = std::mem::take(&mut self.open);
        self.open.first_entry = self.volume.entry_count;
        if content.is_empty() {
            return Ok(());
        }
        let content_len = content.len() as u32;
        let ticket = self.output.give(content)?;
        self.add_row(PendingRow {
            kind: ChunkKind::Tar,
            flags: RowFlags { changed },
            content_len,
            ticket,
            entry: first_entry,
            packed_offset: 0,
        });
        Ok(())
    }

    fn add_row(&mut self, row: PendingRow) {
        self.volume.stream_bytes += u64::from(row.content_len);
        self.volume.rows.push(row);
    }
}

/// A large file that is being read. Dropped without [`LargeFile::commit`], it leaves nothing in the volume; chunks
/// that it gave to the sink stay without a row.
pub struct LargeFile<'c, S: ChunkSink> {
    cutter: &'c mut VolumeCutter<S>,
    path: String,
    stored_bytes: u64,
    header_at: usize,
    /// The data chunks so far: ticket and length.
    rows: Vec<(Ticket, u32)>,
    /// Bytes taken and not yet cut: at most one chunk's.
    window: Vec<u8>,
    taken: u64,
    cut: u64,
    hasher: Hasher,
    committed: bool,
}

impl<S: ChunkSink> LargeFile<'_, S> {
    /// Bytes that may still come.
    pub fn remaining_bytes(&self) -> u64 {
        self.stored_bytes - self.taken
    }

    /// Takes the next stored bytes, in pieces of any size.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), CutError> {
        if bytes.len() as u64 > self.remaining_bytes() {
            let found = self.taken.saturating_add(bytes.len() as u64);
            return Err(CutError::ContentLength { path: self.path.clone(), expected: self.stored_bytes, found });
        }
        self.hasher.update(bytes);
        self.taken += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = CHUNK_BYTES_MAX as usize - self.window.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.window.extend_from_slice(now);
            bytes = later;
            // The last window is not cut before the file is committed.
            if self.window.len() == CHUNK_BYTES_MAX as usize
                && self.cut + (self.window.len() as u64) < self.stored_bytes
            {
                self.cut_first()?;
            }
        }
        Ok(())
    }

    /// Puts the file into the volume. With `changed` it may have come short: zeros stand for what is missing.
    pub fn commit(mut self, changed: bool) -> Result<Placed, CutError> {
        if self.remaining_bytes() > 0 {
            if !changed {
                let (expected, found) = (self.stored_bytes, self.taken);
                return Err(CutError::ContentLength { path: self.path.clone(), expected, found });
            }
            let zeros = vec![0; CHUNK_BYTES_MAX as usize];
            while self.remaining_bytes() > 0 {
                let now = self.remaining_bytes().min(zeros.len() as u64);
                self.write(&zeros[..now as usize])?;
            }
        }
        if self.stored_bytes <= u64::from(CHUNK_BYTES_MAX) {
            self.cut_at(self.window.len())?;
        }
        while !self.window.is_empty() {
            self.cut_first()?;
        }
        self.committed = true;
        let rows = std::mem::take(&mut self.rows);
        let (offset_in_chunk, content_hash) = (self.header_at as u32, Some(self.hasher.finalize()));
        let cutter = &mut *self.cutter;
        let ordinal = cutter.volume.entry_count;
        cutter.open.changed |= changed;
        let first_row = cutter.volume.rows.len() as u64;
        cutter.close()?;
        cutter.volume.entry_count += 1;
        cutter.open.first_entry = cutter.volume.entry_count;
        let data_row_count = rows.len() as u64;
        let mut packed_offset = 0;
        let flags = RowFlags { changed };
        for (ticket, content_len) in rows {
            cutter.add_row(PendingRow {
                kind: ChunkKind::Data,
                flags,
                content_len,
                ticket,
                entry: ordinal,
                packed_offset,
            });
            packed_offset += u64::from(content_len);
        }
        Ok(Placed { ordinal, first_row, offset_in_chunk, data_row_count, content_hash, changed })
    }

    /// Gives the file up: it can be begun again, or left out.
    pub fn abort(self) {}

    fn cut_first(&mut self) -> Result<(), Stopped> {
        self.cut_at(first_cut(&self.window))
    }

    fn cut_at(&mut self, at: usize) -> Result<(), Stopped> {
        let mut content = if at == self.window.len() {
            std::mem::take(&mut self.window)
        } else {
            // The chunk waits in queues: it takes no more memory than it has bytes, and the window keeps its own.
            let mut content = Vec::with_capacity(at.next_multiple_of(BLOCK_BYTES));
            content.extend_from_slice(&self.window[..at]);
            self.window.drain(..at);
            content
        };
        self.cut += content.len() as u64;
        // Only the file's last chunk is no whole number of blocks.
        content.resize(content.len().next_multiple_of(BLOCK_BYTES), 0);
        let content_len = content.len() as u32;
        let ticket = self.cutter.output.give(content)?;
        self.rows.push((ticket, content_len));
        Ok(())
    }
}

impl<S: ChunkSink> Drop for LargeFile<'_, S> {
    fn drop(&mut self) {
        if !self.committed {
            self.cutter.open.content.truncate(self.header_at);
        }
    }
}
