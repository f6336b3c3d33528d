//! The chunk list of a volume: which chunks, in which order, make its stream.
//!
//! A list is stored in segments of fixed-width rows, uncompressed, so that a shell with `od` can read it. Numbers are
//! little-endian.

use crate::Hash;
use crate::limits::{CHUNK_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENTS_MAX};
use crate::tar::{BLOCK_BYTES, END, padded};

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
    /// The rows of one large file are wrong.
    #[error("the content of entry {entry}: {why}")]
    Content {
        /// The entry's number in the stream.
        entry: u64,
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

/// Checks the whole list of a files volume: entries ascend, each large file's rows follow the tar chunk of its header
/// without a gap, every chunk is whole blocks, and the end comes once and last. `entry_count` is the manifest's.
pub fn check_files(rows: &[ListRow], entry_count: u64) -> Result<(), ListError> {
    let mut due_offset = 0;
    let mut data_of = None;
    let mut tar_entry = None;
    for (number, row) in (0..).zip(rows) {
        let wrong = |why| Err(ListError::Row { row: number, why });
        if !(row.content_len as usize).is_multiple_of(BLOCK_BYTES) {
            return wrong("its chunk is no whole number of blocks");
        }
        match row.kind {
            ChunkKind::Tar => {
                let follows = tar_entry.map_or(row.entry == 0, |previous| row.entry > previous)
                    && data_of.is_none_or(|entry| row.entry == entry + 1);
                if !follows || row.entry >= entry_count || row.packed_offset != 0 {
                    return wrong("its entry is not in order");
                }
                (tar_entry, data_of) = (Some(row.entry), None);
            }
            ChunkKind::Data => {
                let is_first = data_of.is_none();
                let in_range = tar_entry.is_some_and(|first| row.entry >= first) && row.entry < entry_count;
                if !in_range || data_of.is_some_and(|entry| entry != row.entry) {
                    return wrong("its entry is not in order");
                }
                if row.packed_offset != if is_first { 0 } else { due_offset } {
                    return wrong("it does not follow on the data before it");
                }
                due_offset = row.packed_offset.saturating_add(row.content_len.into());
                data_of = Some(row.entry);
            }
            ChunkKind::End => {
                if number + 1 != rows.len() as u64 || row.content_len as usize != END.len() || tar_entry.is_none() {
                    return wrong("the end is not at the end");
                }
                return Ok(());
            }
            ChunkKind::Map => return wrong("a files volume has no map"),
        }
    }
    Err(ListError::Row { row: rows.len() as u64, why: "the end of the volume is missing" })
}

/// The data chunks that follow the tar chunk in row `tar_row`: the content of its last entry, if that is large.
pub fn data_rows_behind(rows: &[ListRow], tar_row: usize) -> &[ListRow] {
    let behind = rows.get(tar_row.saturating_add(1)..).unwrap_or_default();
    let count = behind.iter().take_while(|row| row.kind == ChunkKind::Data).count();
    &behind[..count]
}

/// Checks that these rows hold the content of entry `number`, which stores `stored_bytes`: no more and no less, its
/// padding included. A tar chunk whose last entry has its content elsewhere does not say itself that it is there.
pub fn check_data(data: &[ListRow], number: u64, stored_bytes: u64) -> Result<(), ListError> {
    let mut due = 0;
    for row in data {
        if row.kind != ChunkKind::Data || row.entry != number || row.packed_offset != due {
            return Err(ListError::Content { entry: number, why: "its chunks do not follow on each other" });
        }
        due = row.packed_offset.saturating_add(row.content_len.into());
    }
    if due != padded(stored_bytes) {
        return Err(ListError::Content { entry: number, why: "its chunks are more or less than it stores" });
    }
    Ok(())
}

/// Checks the whole list of a raw volume: its chunks follow on each other and make `length` bytes.
pub fn check_raw(rows: &[ListRow], length: u64) -> Result<(), ListError> {
    let mut due = 0;
    for (number, row) in (0..).zip(rows) {
        if row.kind != ChunkKind::Data || row.entry != 0 || row.packed_offset != due {
            return Err(ListError::Row { row: number, why: "it does not follow on the data before it" });
        }
        due = row.packed_offset.saturating_add(row.content_len.into());
    }
    if due != length {
        return Err(ListError::Row { row: rows.len() as u64, why: "the volume has another length than its chunks" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: ChunkKind, content_len: u32, entry: u64, packed_offset: u64) -> ListRow {
        let hash = Hash::of(&packed_offset.to_le_bytes());
        ListRow { kind, flags: RowFlags::default(), content_len, hash, entry, packed_offset }
    }

    /// A header, a large file of two chunks, another header, the end.
    fn rows() -> Vec<ListRow> {
        let mut rows = vec![
            row(ChunkKind::Tar, 2048, 0, 0),
            row(ChunkKind::Data, 4 << 20, 1, 0),
            row(ChunkKind::Data, 512, 1, 4 << 20),
            row(ChunkKind::Tar, 512, 2, 0),
            row(ChunkKind::End, 1024, 0, 0),
        ];
        rows[2].flags.changed = true;
        rows
    }

    fn segments(rows: &[ListRow]) -> Vec<Vec<u8>> {
        let mut writer = ListWriter::new();
        let mut segments: Vec<_> = rows.iter().filter_map(|row| writer.push(row)).collect();
        segments.extend(writer.finish());
        segments
    }

    #[test]
    fn a_list_of_several_segments_survives() {
        let many: Vec<_> = (0..SEGMENT_ROWS_MAX as u64 + 3).map(|i| row(ChunkKind::Data, 512, 0, 512 * i)).collect();
        let written = segments(&many);
        assert_eq!(written.iter().map(Vec::len).collect::<Vec<_>>(), [4 << 20, 64 * 4]);
        assert_eq!(read_list(written.iter().map(Vec::as_slice)).unwrap(), many);
        assert!(read_list(written.iter().rev().map(Vec::as_slice)).is_err(), "segments in another order");
        check_raw(&many, 512 * many.len() as u64).unwrap();
        assert!(check_raw(&many, 512).is_err());
        assert!(check_raw(&many[1..], 512 * (many.len() as u64 - 1)).is_err());
    }

    #[test]
    fn a_segment_with_anything_unexpected_is_refused() {
        let good = segments(&rows()).remove(0);
        assert_eq!(read_segment(&good).unwrap().rows, rows());
        for (at, byte, why) in [
            (0, b'X', "magic"),
            (9, 1, "a newer version"),
            (10, 65, "row width"),
            (12, 4, "row count"),
            (24, 1, "reserved"),
            (64, 4, "kind"),
            (65, 2, "flags"),
            (66, 1, "reserved in a row"),
            (71, 1, "a length beyond 4 MiB"),
            (127, 1, "reserved at a row's end"),
        ] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(read_segment(&bad).is_err(), "{why}");
        }
        assert!(read_segment(&good[..good.len() - 1]).is_err());
        assert!(read_segment(&[]).is_err());
    }

    #[test]
    fn a_list_that_could_not_be_a_stream_is_refused() {
        check_files(&rows(), 3).unwrap();
        let (all, stored) = (rows(), (4 << 20) + 7);
        let data = data_rows_behind(&all, 0);
        assert_eq!(data, &all[1..3]);
        assert_eq!(data_rows_behind(&all, 3), []);
        check_data(data, 1, stored).unwrap();
        assert!(check_data(data, 2, stored).is_err(), "another entry");
        assert!(check_data(data, 1, stored + 512).is_err(), "a file that stores more");
        assert!(check_data(&data[..1], 1, stored).is_err(), "a chunk missing");
        assert!(check_data(&[], 1, 1).is_err(), "no chunk at all");
        type Break = fn(&mut Vec<ListRow>);
        let broken: [(&str, Break); 9] = [
            ("no end", |rows| rows.truncate(4)),
            ("an end within", |rows| rows.swap(3, 4)),
            ("a data chunk missing", |rows| drop(rows.drain(1..2))),
            ("data chunks swapped", |rows| rows.swap(1, 2)),
            ("data of another entry", |rows| rows[2].entry = 2),
            ("data before any header", |rows| drop(rows.drain(..1))),
            ("an entry twice", |rows| rows[3].entry = 1),
            ("an entry beyond the last", |rows| rows[3].entry = 3),
            ("a chunk of odd length", |rows| rows[0].content_len = 2000),
        ];
        for (why, breaks) in broken {
            let mut rows = rows();
            breaks(&mut rows);
            assert!(check_files(&rows, 3).is_err(), "{why}");
        }
    }
}
