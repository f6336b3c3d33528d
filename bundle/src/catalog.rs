//! The catalog of a files volume: every path with its metadata and the chunks that hold it.
//!
//! A catalog is stored in segments, each one zstd frame that decodes alone. It says all that the tar headers say, so
//! browsing, comparing, and the last pass of a restore (hardlinks, directories) need no chunk.

mod entry;

use node_model::{Entry, Timestamp};

use crate::Hash;
use crate::frame::{self, Compressor, Decompressor, FrameError};
use crate::limits::{CATALOG_SEGMENT_BYTES_TARGET, CATALOG_SEGMENT_PATH_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENTS_MAX};
use crate::tar::{TarError, check_entry};
use crate::wire::Input;

/// What the content of a catalog segment begins with.
pub const MAGIC: [u8; 8] = *b"RRCATL01";
/// The version of this layout.
pub const VERSION: u16 = 1;
const HEADER_BYTES: usize = 24;

/// What the source filesystem said of an entry, by which a later capture knows that it did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceStamp {
    /// Inode number.
    pub inode: u64,
    /// Time of the last change of the inode.
    pub ctime: Timestamp,
}

/// Where an entry is in its volume. Rows are numbers into the volume's chunk list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its number in the stream, from 0, which is the root directory.
    pub ordinal: u64,
    /// The row of the tar chunk that holds its header.
    pub first_row: u64,
    /// Where in that chunk's content its first header block is.
    pub offset_in_chunk: u32,
    /// How many data chunks hold its content: the rows that follow `first_row`. Zero where the content is in the tar
    /// chunk.
    pub data_row_count: u64,
    /// For a regular file, and for nothing else, BLAKE3 of the bytes stored of it: its content without its holes and
    /// without padding.
    pub content_hash: Option<Hash>,
    /// Whether it changed while it was read.
    pub changed: bool,
}

/// One entry of a catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogEntry {
    /// The entry, complete: what the header in the tar stream says.
    pub entry: Entry,
    /// What the source said.
    pub source: SourceStamp,
    /// Where it is.
    pub placed: Placed,
}

/// Why a catalog cannot be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The segment is no frame, or a damaged one.
    #[error("the catalog segment is damaged")]
    Frame(#[from] FrameError),
    /// The segment's content is wrong.
    #[error("not a catalog segment of this format: {why}")]
    Segment {
        /// What is wrong.
        why: &'static str,
    },
    /// The segment was written by a newer version.
    #[error("the catalog has layout version {found}; this program knows version {VERSION}")]
    NewerVersion {
        /// The version found.
        found: u16,
    },
    /// One entry is wrong.
    #[error("entry {ordinal} of the catalog is damaged")]
    Damaged {
        /// Its number in the stream.
        ordinal: u64,
    },
    /// One entry is such as no filesystem has.
    #[error(transparent)]
    Entry(#[from] TarError),
    /// An entry with more metadata than a segment holds.
    #[error("{path}: its metadata does not fit into a catalog segment")]
    TooLarge {
        /// Its path, as people read it.
        path: String,
    },
    /// An entry was not given in the order of the stream.
    #[error("{path}: entry {found} came where entry {expected} is due")]
    OutOfOrder {
        /// Its path, as people read it.
        path: String,
        /// The number that was due.
        expected: u64,
        /// The entry's number.
        found: u64,
    },
}

/// Turns entries into segments.
pub struct CatalogWriter {
    compressor: Compressor,
    first_entry: u64,
    count: u32,
    path_bytes: usize,
    content: Vec<u8>,
    previous: entry::Previous,
}

impl CatalogWriter {
    /// A writer of an empty catalog, which compresses at the given zstd level.
    pub fn new(level: i32) -> Result<Self, CatalogError> {
        let compressor = Compressor::new(level)?;
        let previous = entry::Previous::default();
        Ok(Self { compressor, first_entry: 0, count: 0, path_bytes: 0, content: vec![0; HEADER_BYTES], previous })
    }

    /// Takes the next entry; gives a segment each time one is large enough.
    pub fn push(&mut self, entry: &CatalogEntry) -> Result<Option<Vec<u8>>, CatalogError> {
        let path = || entry.entry.display_path();
        let expected = self.first_entry + u64::from(self.count);
        if entry.placed.ordinal != expected {
            return Err(CatalogError::OutOfOrder { path: path(), expected, found: entry.placed.ordinal });
        }
        check_entry(&entry.entry)?;
        let mut encoded = Vec::new();
        entry::encode(&mut encoded, entry, &self.previous);
        let mut full = None;
        if self.content.len() + encoded.len() > SEGMENT_BYTES_MAX as usize
            || self.path_bytes + entry.entry.path.len() > CATALOG_SEGMENT_PATH_BYTES_MAX
        {
            full = self.finish()?;
            encoded.clear();
            entry::encode(&mut encoded, entry, &self.previous);
            if self.content.len() + encoded.len() > SEGMENT_BYTES_MAX as usize {
                return Err(CatalogError::TooLarge { path: path() });
            }
        }
        self.content.append(&mut encoded);
        self.count += 1;
        self.path_bytes += entry.entry.path.len();
        self.previous = entry::Previous { path: entry.entry.path.clone(), first_row: entry.placed.first_row };
        if full.is_none() && self.content.len() >= CATALOG_SEGMENT_BYTES_TARGET {
            full = self.finish()?;
        }
        Ok(full)
    }

    /// The last segment, if entries wait for one.
    pub fn finish(&mut self) -> Result<Option<Vec<u8>>, CatalogError> {
        if self.count == 0 {
            return Ok(None);
        }
        self.content[..8].copy_from_slice(&MAGIC);
        self.content[8..10].copy_from_slice(&VERSION.to_le_bytes());
        self.content[12..16].copy_from_slice(&self.count.to_le_bytes());
        self.content[16..24].copy_from_slice(&self.first_entry.to_le_bytes());
        let segment = self.compressor.compress(&self.content)?;
        self.first_entry += u64::from(self.count);
        self.count = 0;
        self.path_bytes = 0;
        self.content = vec![0; HEADER_BYTES];
        // Each segment decodes alone, so the next one leans on nothing in this one.
        self.previous = entry::Previous::default();
        Ok(Some(segment))
    }
}

/// One segment of a catalog, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogSegment {
    /// Number of its first entry in the stream.
    pub first_entry: u64,
    /// Its entries, numbered on from there.
    pub entries: Vec<CatalogEntry>,
}

/// Reads one segment. Its name, the hash of its bytes, has been checked by whoever fetched it.
pub fn read_segment(bytes: &[u8]) -> Result<CatalogSegment, CatalogError> {
    let wrong = |why| CatalogError::Segment { why };
    let content_len = frame::content_len_of(bytes)?;
    if content_len > u64::from(SEGMENT_BYTES_MAX) {
        return Err(wrong("it is longer than 4 MiB"));
    }
    let content = Decompressor::new().decompress_unhashed(bytes, content_len as u32)?;
    let (header, body) =
        content.split_first_chunk::<HEADER_BYTES>().ok_or_else(|| wrong("it ends within its header"))?;
    if header[..8] != MAGIC {
        return Err(wrong("it does not begin with RRCATL01"));
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version > VERSION {
        return Err(CatalogError::NewerVersion { found: version });
    }
    if version != VERSION || header[10..12] != [0; 2] {
        return Err(wrong("its version is wrong or its reserved bytes are not zero"));
    }
    let count = u32::from_le_bytes(std::array::from_fn(|i| header[12 + i])) as usize;
    let first_entry = u64::from_le_bytes(std::array::from_fn(|i| header[16 + i]));
    if count == 0 || count > body.len() / entry::BYTES_MIN || first_entry.checked_add(count as u64).is_none() {
        return Err(wrong("it has another number of entries than it says"));
    }
    let mut input = Input(body);
    let mut previous = entry::Previous::default();
    let mut entries = Vec::with_capacity(count);
    let mut path_bytes = 0;
    for ordinal in (first_entry..).take(count) {
        let read = entry::decode(&mut input, ordinal, &previous).ok_or(CatalogError::Damaged { ordinal })?;
        check_entry(&read.entry)?;
        path_bytes += read.entry.path.len();
        if path_bytes > CATALOG_SEGMENT_PATH_BYTES_MAX {
            return Err(wrong("its paths are longer than those of a segment may be"));
        }
        previous = entry::Previous { path: read.entry.path.clone(), first_row: read.placed.first_row };
        entries.push(read);
    }
    if !input.0.is_empty() {
        return Err(wrong("bytes follow its last entry"));
    }
    Ok(CatalogSegment { first_entry, entries })
}

/// Goes through the entries of a whole catalog, one segment in memory at a time, and checks that the segments follow
/// on each other. `segments` fetches them in order.
pub fn read_catalog<E: From<CatalogError>>(
    segments: impl IntoIterator<Item = Result<Vec<u8>, E>>,
) -> impl Iterator<Item = Result<CatalogEntry, E>> {
    let mut due = 0;
    segments.into_iter().enumerate().flat_map(move |(index, bytes)| {
        let segment = bytes.and_then(|bytes| {
            let segment = read_segment(&bytes)?;
            if segment.first_entry != due || index >= SEGMENTS_MAX {
                return Err(CatalogError::Segment { why: "it does not follow on the one before it" }.into());
            }
            due += segment.entries.len() as u64;
            Ok(segment.entries)
        });
        let (entries, error) = match segment {
            Ok(entries) => (entries, None),
            Err(error) => (Vec::new(), Some(Err(error))),
        };
        entries.into_iter().map(Ok).chain(error)
    })
}

#[cfg(test)]
mod tests {
    use node_model::EntryKind;

    use super::*;
    use crate::frame::compress;

    /// An empty file with this path.
    fn entry(ordinal: u64, path: Vec<u8>) -> CatalogEntry {
        let kind = if path.is_empty() { EntryKind::Directory } else { EntryKind::Fifo };
        let mtime = Timestamp::default();
        let entry = Entry { path, kind, mode: 0, uid: 0, gid: 0, mtime, xattrs: vec![], flags: 0, project_id: 0 };
        let (offset_in_chunk, content_hash) = (0, None);
        let placed =
            Placed { ordinal, first_row: ordinal, offset_in_chunk, data_row_count: 0, content_hash, changed: false };
        CatalogEntry { entry, source: SourceStamp::default(), placed }
    }

    /// Entries whose paths share 60 KiB and are 17 MiB together.
    fn long_paths() -> Vec<CatalogEntry> {
        let path =
            |ordinal: u64| [&[&[b'p'; 199][..], b"/"].concat().repeat(300), ordinal.to_string().as_bytes()].concat();
        (0..300).map(|ordinal| entry(ordinal, path(ordinal))).collect()
    }

    fn segments(entries: &[CatalogEntry]) -> Vec<Vec<u8>> {
        let mut writer = CatalogWriter::new(1).unwrap();
        let mut segments: Vec<_> = entries.iter().filter_map(|entry| writer.push(entry).unwrap()).collect();
        segments.extend(writer.finish().unwrap());
        segments
    }

    fn read(segments: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<CatalogEntry>, CatalogError> {
        read_catalog(segments.into_iter().map(Ok)).collect()
    }

    #[test]
    fn a_catalog_of_several_segments_survives_and_each_decodes_alone() {
        let many: Vec<_> = (0..60_000).map(|i| entry(i, format!("directory/{i}/file").into_bytes())).collect();
        let written = segments(&many);
        assert!(written.len() > 1);
        assert!(read(written.clone()).unwrap() == many);
        let second = read_segment(&written[1]).unwrap();
        assert!(second.entries[..] == many[second.first_entry as usize..][..second.entries.len()]);
        assert!(read(written.into_iter().rev()).is_err(), "segments in another order");
    }

    #[test]
    fn fault_37_paths_that_front_coding_blows_up_are_bounded() {
        let long = long_paths();
        let written = segments(&long);
        assert_eq!(written.len(), 2, "the writer closes a segment in time");
        assert!(read(written).unwrap() == long);

        let mut content = [&MAGIC[..], &VERSION.to_le_bytes(), &[0; 2], &300_u32.to_le_bytes(), &[0; 8]].concat();
        let mut previous = entry::Previous::default();
        for entry in &long {
            entry::encode(&mut content, entry, &previous);
            previous = entry::Previous { path: entry.entry.path.clone(), first_row: entry.placed.first_row };
        }
        assert!(content.len() < 100_000, "17 MiB of paths in 100 kB");
        let refused = read_segment(&compress(&content, 1).unwrap()).unwrap_err();
        assert!(matches!(refused, CatalogError::Segment { why } if why.contains("paths")), "{refused}");
    }

    #[test]
    fn a_segment_of_another_kind_is_refused_for_what_it_is() {
        let good = segments(&[entry(0, vec![]), entry(1, b"name".to_vec())]).remove(0);
        let content = Decompressor::new().decompress_unhashed(&good, content_len(&good)).unwrap();
        let with = |at: usize, byte: u8| {
            let mut content = content.clone();
            content[at] = byte;
            read_segment(&compress(&content, 1).unwrap()).map(|_| ())
        };
        assert_eq!(with(0, b'R'), Ok(()));
        assert_eq!(with(8, 2), Err(CatalogError::NewerVersion { found: 2 }));
        for (at, byte, why) in [(0, b'X', "magic"), (10, 1, "reserved"), (12, 1, "too few"), (12, 3, "too many")] {
            assert!(with(at, byte).is_err(), "{why}");
        }
        assert!(matches!(read_segment(&good[1..]), Err(CatalogError::Frame(_))));
    }

    #[test]
    fn entries_come_in_the_order_of_the_stream() {
        let mut writer = CatalogWriter::new(1).unwrap();
        let refused = writer.push(&entry(1, b"name".to_vec())).unwrap_err();
        assert_eq!(refused.to_string(), "/name: entry 1 came where entry 0 is due");
    }

    fn content_len(frame: &[u8]) -> u32 {
        frame::content_len_of(frame).unwrap() as u32
    }
}
