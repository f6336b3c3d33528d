//! The chunk list of a volume: which chunks, in which order, make its stream.
//!
//! A list is stored in segments of fixed-width rows, uncompressed, so that a shell with `od` can read it. Numbers are
//! little-endian.

use crate::Hash;
use crate::limits::{CHUNK_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENTS_MAX};

/// What a list segment begins with.
pub const MAGIC: [u8; 8] = *b"RRLIST01";
/// The version of this layout.
pub const VERSION: u16 = 1;
/// Bytes of one row, and of a segment's header.
pub const ROW_BYTES: usize = 64;
/// Rows in one full segment.
pub const SEGMENT_ROWS_MAX: usize = SEGMENT_BYTES_MAX as usize / ROW_BYTES - 1;

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkKind {
    /// Whole tar entries, the last one perhaps without its content, which the data chunks that follow hold.
    Tar,
    /// Content of one large file; in a raw volume, of the volume.
    Data,
    /// The 1024 zero bytes that end a tar stream.
    End,
    /// A piece of the extent map of a blocks volume.
    Map,
}

impl ChunkKind {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Tar => 0,
            Self::Data => 1,
            Self::End => 2,
            Self::Map => 3,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Tar),
            1 => Some(Self::Data),
            2 => Some(Self::End),
            3 => Some(Self::Map),
            _ => None,
        }
    }
}

/// What else is known of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowFlags {
    /// A file in it changed while it was read: its content may be torn, or padded with zeros where it shrank.
    pub changed: bool,
}

/// One chunk of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListRow {
    /// What it holds.
    pub kind: ChunkKind,
    /// What else is known of it.
    pub flags: RowFlags,
    /// Bytes of content.
    pub content_len: u32,
    /// Hash of the content.
    pub hash: Hash,
    /// Number of the entry that a data chunk belongs to; of the first entry that a tar chunk holds; zero for all else.
    pub entry: u64,
    /// Where a data chunk begins in the stored bytes of its file (the holes left out), or in its volume; zero for all
    /// else.
    pub packed_offset: u64,
}

/// Why bytes are not a chunk list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// A segment's header or length is wrong.
    #[error("not a chunk list segment of this format: {why}")]
    Segment {
        /// What is wrong.
        why: &'static str,
    },
    /// The segment was written by a newer version.
    #[error("the chunk list has layout version {found}; this program knows version {VERSION}")]
    NewerVersion {
        /// The version found.
        found: u16,
    },
    /// One row is wrong.
    #[error("row {row} of the chunk list: {why}")]
    Row {
        /// Its number in the whole list.
        row: u64,
        /// What is wrong.
        why: &'static str,
    },
}

impl ListRow {
    /// The row as it is stored.
    pub fn encode(&self) -> [u8; ROW_BYTES] {
        let mut row = [0; ROW_BYTES];
        row[0] = self.kind.to_byte();
        row[1] = u8::from(self.flags.changed);
        row[4..8].copy_from_slice(&self.content_len.to_le_bytes());
        row[8..40].copy_from_slice(self.hash.as_bytes());
        row[40..48].copy_from_slice(&self.entry.to_le_bytes());
        row[48..56].copy_from_slice(&self.packed_offset.to_le_bytes());
        row
    }

    /// Reads a stored row; says why it is none.
    fn decode(row: &[u8; ROW_BYTES]) -> Result<Self, &'static str> {
        let kind = ChunkKind::from_byte(row[0]).ok_or("its kind is unknown")?;
        if row[1] > 1 {
            return Err("it has unknown flags");
        }
        if row[2..4] != [0; 2] || row[56..] != [0; 8] {
            return Err("its reserved bytes are not zero");
        }
        let content_len = u32::from_le_bytes(array(&row[4..8]));
        if !(1..=CHUNK_BYTES_MAX).contains(&content_len) {
            return Err("its length is out of bounds");
        }
        Ok(Self {
            kind,
            flags: RowFlags { changed: row[1] == 1 },
            content_len,
            hash: Hash::from_bytes(array(&row[8..40])),
            entry: u64::from_le_bytes(array(&row[40..48])),
            packed_offset: u64::from_le_bytes(array(&row[48..56])),
        })
    }
}

/// The bytes of `slice`, whose length the caller has just written down.
fn array<const N: usize>(slice: &[u8]) -> [u8; N] {
    std::array::from_fn(|i| slice[i])
}

/// Turns rows into segments.
#[derive(Debug, Default)]
pub struct ListWriter {
    written: u64,
    rows: Vec<u8>,
}

impl ListWriter {
    /// A writer of an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next row; gives a segment each time one is full.
    pub fn push(&mut self, row: &ListRow) -> Option<Vec<u8>> {
        self.rows.extend_from_slice(&row.encode());
        if self.rows.len() / ROW_BYTES == SEGMENT_ROWS_MAX { self.finish() } else { None }
    }

    /// The last segment, if rows wait for one.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        if self.rows.is_empty() {
            return None;
        }
        let count = self.rows.len() / ROW_BYTES;
        let mut segment = Vec::with_capacity(ROW_BYTES + self.rows.len());
        segment.extend_from_slice(&MAGIC);
        segment.extend_from_slice(&VERSION.to_le_bytes());
        segment.extend_from_slice(&(ROW_BYTES as u16).to_le_bytes());
        segment.extend_from_slice(&(count as u32).to_le_bytes());
        segment.extend_from_slice(&self.written.to_le_bytes());
        segment.resize(ROW_BYTES, 0);
        segment.append(&mut self.rows);
        self.written += count as u64;
        Some(segment)
    }
}

/// One segment of a list, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListSegment {
    /// Number of its first row in the whole list.
    pub first_row: u64,
    /// Its rows.
    pub rows: Vec<ListRow>,
}

/// Reads one segment. Every row is checked by itself; [`read_list`] checks them together.
pub fn read_segment(bytes: &[u8]) -> Result<ListSegment, ListError> {
    let wrong = |why| Err(ListError::Segment { why });
    if bytes.len() > SEGMENT_BYTES_MAX as usize {
        return wrong("it is longer than 4 MiB");
    }
    let Some((header, body)) = bytes.split_first_chunk::<ROW_BYTES>() else {
        return wrong("it ends within its header");
    };
    if header[..8] != MAGIC {
        return wrong("it does not begin with RRLIST01");
    }
    let version = u16::from_le_bytes(array(&header[8..10]));
    if version > VERSION {
        return Err(ListError::NewerVersion { found: version });
    }
    if version != VERSION || usize::from(u16::from_le_bytes(array(&header[10..12]))) != ROW_BYTES {
        return wrong("its version or row width is wrong");
    }
    if header[24..] != [0; 40] {
        return wrong("its reserved bytes are not zero");
    }
    let count = u32::from_le_bytes(array(&header[12..16])) as usize;
    let (rows, rest) = body.as_chunks::<ROW_BYTES>();
    if count == 0 || count != rows.len() || !rest.is_empty() {
        return wrong("it has another number of rows than it says");
    }
    let first_row = u64::from_le_bytes(array(&header[16..24]));
    let decode =
        |(i, row)| ListRow::decode(row).map_err(|why| ListError::Row { row: first_row.saturating_add(i), why });
    Ok(ListSegment { first_row, rows: (0..).zip(rows).map(decode).collect::<Result<_, _>>()? })
}

/// Reads all segments of one list, in order, and checks that they follow on each other.
pub fn read_list<'a>(segments: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ListRow>, ListError> {
    let mut rows = Vec::new();
    for (index, bytes) in segments.into_iter().enumerate() {
        if index >= SEGMENTS_MAX {
            return Err(ListError::Segment { why: "the list has more than 16384 segments" });
        }
        let segment = read_segment(bytes)?;
        if segment.first_row != rows.len() as u64 {
            return Err(ListError::Segment { why: "it does not follow on the one before it" });
        }
        rows.extend(segment.rows);
    }
    Ok(rows)
}
