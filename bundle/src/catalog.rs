//! The catalog of a files volume: every path with its metadata and the chunks that hold it.

use node_model::{Entry, Timestamp};

use crate::Hash;

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
    /// For a regular file, BLAKE3 of the bytes stored of it: its content without its holes.
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
