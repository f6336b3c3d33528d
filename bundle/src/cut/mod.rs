//! Where chunks begin and end: the capture side of the stream.
//!
//! A cutter takes entries and their content in stream order and gives chunks to a sink, each with a ticket. It neither
//! hashes nor compresses chunks: other threads do, and say later which hash a ticket got. What it keeps is one open
//! tar chunk, one piece of a large file, and a row for each chunk.
//!
//! ```
//! use bundle::cut::{ChunkHashes, RawChunk, VolumeCutter};
//! use bundle::node_model::{Entry, EntryKind, Timestamp};
//! use bundle::{Hash, frame, pack::PackBuilder};
//!
//! let root = Entry {
//!     path: vec![], kind: EntryKind::Directory, mode: 0o755, uid: 0, gid: 0,
//!     mtime: Timestamp::default(), xattrs: vec![], flags: 0, project_id: 0,
//! };
//! let mut chunks = Vec::new();
//! let mut cutter = VolumeCutter::new([0; 32], |chunk: RawChunk| {
//!     chunks.push(chunk);
//!     Ok(())
//! });
//! let placed = cutter.push(&root, b"", false)?;
//! assert_eq!((placed.ordinal, placed.first_row), (0, 0));
//! let volume = cutter.finish()?;
//!
//! // On other threads: hash each chunk, compress those that the server lacks, gather them in packs.
//! let (mut hashes, mut packs) = (ChunkHashes::new(), PackBuilder::new());
//! for chunk in &chunks {
//!     let hash = Hash::of(&chunk.content);
//!     hashes.set(chunk.ticket, hash);
//!     packs.push(hash, &frame::compress(&chunk.content, frame::LEVEL_DEFAULT)?)?;
//! }
//! assert_eq!(volume.list_segments(&hashes)?.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod fastcdc;
mod files;
mod raw;
mod rule;

pub use files::{LargeFile, VolumeCutter, is_large};
pub use raw::RawCutter;

use crate::Hash;
use crate::limits::LARGE_FILE_BYTES;
use crate::list::{ChunkKind, ListRow, ListWriter, RowFlags};
use crate::tar::TarError;

/// What stands for a chunk until its hash is known: numbers from 0 for each volume, in the order of cutting, which is
/// not the order of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A chunk, cut and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawChunk {
    /// Its ticket.
    pub ticket: Ticket,
    /// Its content.
    pub content: Vec<u8>,
}

/// Nobody takes chunks any more: the capture is being given up, for a reason that whoever gave up knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunks are not taken any more")]
pub struct Stopped;

/// Where chunks go. Taking one may wait until there is room.
pub trait ChunkSink {
    /// Takes the next chunk.
    fn take(&mut self, chunk: RawChunk) -> Result<(), Stopped>;
}

impl<F: FnMut(RawChunk) -> Result<(), Stopped>> ChunkSink for F {
    fn take(&mut self, chunk: RawChunk) -> Result<(), Stopped> {
        self(chunk)
    }
}

/// Why a volume cannot be cut on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// An entry cannot be written.
    #[error(transparent)]
    Entry(#[from] TarError),
    /// The sink takes nothing any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// Another amount of content came than the entry says.
    #[error("{path}: {found} bytes of content came for {expected} that its entry stores")]
    ContentLength {
        /// Its path, as people read it.
        path: String,
        /// Bytes that the entry stores.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// An entry was given as small that is large, or the reverse: its chunks would differ from those of another
    /// capture.
    #[error(
        "{path}: a file that stores {bytes} bytes goes into data chunks of its own only from {LARGE_FILE_BYTES} bytes on"
    )]
    WrongWay {
        /// Its path, as people read it.
        path: String,
        /// Bytes that the entry stores.
        bytes: u64,
    },
    /// The first entry is not the root directory.
    #[error("{path}: the first entry of a volume is its root directory")]
    RootMissing {
        /// Path of the entry that came first.
        path: String,
    },
}

/// One chunk of a cut volume whose hash is not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingRow {
    /// What the chunk holds.
    pub kind: ChunkKind,
    /// What else is known of it.
    pub flags: RowFlags,
    /// Bytes of content.
    pub content_len: u32,
    /// The chunk's ticket.
    pub ticket: Ticket,
    /// As [`ListRow::entry`].
    pub entry: u64,
    /// As [`ListRow::packed_offset`].
    pub packed_offset: u64,
}

impl PendingRow {
    /// The row, now that the chunk has a hash.
    pub fn with_hash(&self, hash: Hash) -> ListRow {
        let &Self { kind, flags, content_len, entry, packed_offset, .. } = self;
        ListRow { kind, flags, content_len, hash, entry, packed_offset }
    }
}

/// A volume, cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutVolume {
    /// Its chunks in the order of the stream. Tickets that are not here belong to files that were given up.
    pub rows: Vec<PendingRow>,
    /// Entries of all kinds; zero for a raw volume.
    pub entry_count: u64,
    /// Bytes of the whole stream.
    pub stream_bytes: u64,
}

/// A chunk of the volume was never hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunk with ticket {} has no hash", .0.0)]
pub struct Unhashed(pub Ticket);

impl CutVolume {
    /// The segments of the volume's chunk list.
    pub fn list_segments(&self, hashes: &ChunkHashes) -> Result<Vec<Vec<u8>>, Unhashed> {
        let mut writer = ListWriter::new();
        let mut segments = Vec::new();
        for row in &self.rows {
            let hash = hashes.get(row.ticket).ok_or(Unhashed(row.ticket))?;
            segments.extend(writer.push(&row.with_hash(hash)));
        }
        segments.extend(writer.finish());
        Ok(segments)
    }
}

/// Which hash each ticket got.
#[derive(Debug, Clone, Default)]
pub struct ChunkHashes(Vec<Option<Hash>>);

impl ChunkHashes {
    /// No hash known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a chunk's hash. Tickets are dense, so the table is as long as there are chunks.
    pub fn set(&mut self, ticket: Ticket, hash: Hash) {
        let index = ticket.0 as usize;
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        self.0[index] = Some(hash);
    }

    /// A chunk's hash, if it is known.
    pub fn get(&self, ticket: Ticket) -> Option<Hash> {
        self.0.get(ticket.0 as usize).copied().flatten()
    }
}

/// Gives out tickets and passes chunks on.
struct Output<S> {
    sink: S,
    next: u64,
}

impl<S: ChunkSink> Output<S> {
    fn new(sink: S) -> Self {
        Self { sink, next: 0 }
    }

    fn give(&mut self, content: Vec<u8>) -> Result<Ticket, Stopped> {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.sink.take(RawChunk { ticket, content })?;
        Ok(ticket)
    }
}
