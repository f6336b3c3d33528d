//! Packs: the objects that chunks are stored in.
//!
//! A pack is zstd frames one after another, then one skippable frame that holds the index. `zstd -d` of a pack gives
//! the contents of its chunks, one after another. Numbers are little-endian.

use std::collections::HashSet;

use crate::Hash;
use crate::frame::{self, Decompressor, FrameError};
use crate::limits::{CHUNK_BYTES_MAX, FRAME_OVERHEAD_BYTES_MAX, PACK_BYTES_MAX, PACK_BYTES_TARGET, PACK_ROWS_MAX};

/// What an index begins and ends with.
pub const MAGIC: [u8; 8] = *b"RRPACK01";
/// The version of the index's layout.
pub const VERSION: u16 = 1;
/// The magic number of the skippable frame around the index.
pub const SKIPPABLE_MAGIC: u32 = 0x184D_2A5D;
/// The last bytes of every pack: the length of the index's content, then [`MAGIC`].
pub const TRAILER_BYTES: usize = 12;
/// The longest content of an index.
pub const INDEX_BYTES_MAX: usize = HEADER_BYTES + PACK_ROWS_MAX as usize * ROW_BYTES + TRAILER_BYTES;

const HEADER_BYTES: usize = 16;
const ROW_BYTES: usize = 40;
const SKIPPABLE_HEADER_BYTES: usize = 8;
/// Cipher suite "none", the only one yet.
const CIPHER_NONE: u8 = 0;

/// One chunk in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRow {
    /// Hash of the chunk's content.
    pub hash: Hash,
    /// Where its frame begins in the pack: the sum of the stored lengths before it.
    pub offset: u64,
    /// Bytes of its frame.
    pub stored_len: u32,
    /// Bytes of its content.
    pub content_len: u32,
}

/// What a pack holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackIndex {
    rows: Vec<PackRow>,
}

/// Why bytes are not a pack or its index, or a chunk cannot go into one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The index is not one.
    #[error("not a pack index of this format: {why}")]
    Index {
        /// What is wrong.
        why: &'static str,
    },
    /// The index was written by a newer version.
    #[error("the pack's index has layout version {found}; this program knows version {VERSION}")]
    NewerVersion {
        /// The version found.
        found: u16,
    },
    /// The pack is encrypted in a way this program does not know.
    #[error("the pack uses cipher suite {suite}; this program knows none but 0, unencrypted")]
    UnknownCipher {
        /// The suite's number.
        suite: u8,
    },
    /// The pack has another length than its index says.
    #[error("the pack is {found} bytes long and should be {expected}")]
    WrongLength {
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// The pack's bytes have another hash than its name says.
    #[error("the pack named {name} has the hash {found}")]
    WrongName {
        /// Its name.
        name: Hash,
        /// The hash of its bytes.
        found: Hash,
    },
    /// A chunk in the pack is damaged.
    #[error("chunk {chunk} in the pack is damaged")]
    Chunk {
        /// The chunk.
        chunk: Hash,
        /// How.
        source: FrameError,
    },
    /// The chunk is in the pack already.
    #[error("chunk {chunk} is in the pack twice")]
    Duplicate {
        /// The chunk.
        chunk: Hash,
    },
    /// The pack has no room for another chunk.
    #[error("the pack is full")]
    Full,
}

impl PackIndex {
    /// The chunks, in the order in which they lie in the pack.
    pub fn rows(&self) -> &[PackRow] {
        &self.rows
    }

    /// Bytes of all frames: where the skippable frame begins.
    pub fn frames_bytes(&self) -> u64 {
        self.rows.last().map_or(0, |row| row.offset + u64::from(row.stored_len))
    }

    /// Bytes of the whole pack.
    pub fn pack_bytes(&self) -> u64 {
        self.frames_bytes() + SKIPPABLE_HEADER_BYTES as u64 + content_bytes(self.rows.len()) as u64
    }

    /// The index's content as it is stored in the pack, and as its own object beside it.
    pub fn encode(&self) -> Vec<u8> {
        let content_len = content_bytes(self.rows.len());
        let mut content = Vec::with_capacity(content_len);
        content.extend_from_slice(&MAGIC);
        content.extend_from_slice(&VERSION.to_le_bytes());
        content.extend_from_slice(&[CIPHER_NONE, 0]);
        content.extend_from_slice(&(self.rows.len() as u32).to_le_bytes());
        for row in &self.rows {
            content.extend_from_slice(row.hash.as_bytes());
            content.extend_from_slice(&row.stored_len.to_le_bytes());
            content.extend_from_slice(&row.content_len.to_le_bytes());
        }
        content.extend_from_slice(&(content_len as u32).to_le_bytes());
        content.extend_from_slice(&MAGIC);
        content
    }

    /// Reads an index's content.
    pub fn decode(content: &[u8]) -> Result<Self, PackError> {
        let wrong = |why| PackError::Index { why };
        if content.len() > INDEX_BYTES_MAX {
            return Err(wrong("it is longer than an index can be"));
        }
        let (header, rest) =
            content.split_first_chunk::<HEADER_BYTES>().ok_or_else(|| wrong("it ends within its header"))?;
        let (rows, trailer) =
            rest.split_last_chunk::<TRAILER_BYTES>().ok_or_else(|| wrong("it ends within its header"))?;
        if header[..8] != MAGIC {
            return Err(wrong("it does not begin with RRPACK01"));
        }
        let version = u16::from_le_bytes([header[8], header[9]]);
        if version > VERSION {
            return Err(PackError::NewerVersion { found: version });
        }
        if version != VERSION || header[11] != 0 {
            return Err(wrong("its version is wrong or its reserved byte is not zero"));
        }
        if header[10] != CIPHER_NONE {
            return Err(PackError::UnknownCipher { suite: header[10] });
        }
        if index_content_len(trailer)? != content.len() {
            return Err(wrong("it has another length than it says"));
        }
        let count = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
        let (rows, odd) = rows.as_chunks::<ROW_BYTES>();
        if rows.len() != count as usize || !odd.is_empty() || rows.is_empty() {
            return Err(wrong("it has another number of rows than it says"));
        }
        let mut index = Self { rows: Vec::with_capacity(rows.len()) };
        let mut seen = HashSet::with_capacity(rows.len());
        for row in rows {
            let hash = Hash::from_bytes(std::array::from_fn(|i| row[i]));
            let stored_len = u32::from_le_bytes([row[32], row[33], row[34], row[35]]);
            let content_len = u32::from_le_bytes([row[36], row[37], row[38], row[39]]);
            if !(1..=CHUNK_BYTES_MAX).contains(&content_len)
                || !(1..=CHUNK_BYTES_MAX + FRAME_OVERHEAD_BYTES_MAX).contains(&stored_len)
            {
                return Err(wrong("a chunk's length is out of bounds"));
            }
            if !seen.insert(hash) {
                return Err(PackError::Duplicate { chunk: hash });
            }
            index.rows.push(PackRow { hash, offset: index.frames_bytes(), stored_len, content_len });
        }
        if index.pack_bytes() > PACK_BYTES_MAX {
            return Err(wrong("its chunks are more than a pack may hold"));
        }
        Ok(index)
    }
}

const fn content_bytes(rows: usize) -> usize {
    HEADER_BYTES + rows * ROW_BYTES + TRAILER_BYTES
}

/// The length of a pack's index content, from the pack's last [`TRAILER_BYTES`]. The content is what precedes the
/// pack's end by that length, trailer included.
pub fn index_content_len(trailer: &[u8; TRAILER_BYTES]) -> Result<usize, PackError> {
    if trailer[4..] != MAGIC {
        return Err(PackError::Index { why: "it does not end with RRPACK01" });
    }
    let length = u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]) as usize;
    if (content_bytes(1)..=INDEX_BYTES_MAX).contains(&length) {
        Ok(length)
    } else {
        Err(PackError::Index { why: "its length is out of bounds" })
    }
}

/// Reads the index at the end of a whole pack and checks that the pack is as long as it says. The chunks are not
/// looked at: [`verify`] does that.
pub fn read_index(pack: &[u8]) -> Result<PackIndex, PackError> {
    let wrong = |why| PackError::Index { why };
    let trailer = pack.last_chunk::<TRAILER_BYTES>().ok_or_else(|| wrong("the pack is too short to have one"))?;
    let content_len = index_content_len(trailer)?;
    let content_at = pack.len().checked_sub(content_len).ok_or_else(|| wrong("it is longer than the pack"))?;
    let index = PackIndex::decode(&pack[content_at..])?;
    if index.pack_bytes() != pack.len() as u64 {
        return Err(PackError::WrongLength { expected: index.pack_bytes(), found: pack.len() as u64 });
    }
    let header = &pack[content_at - SKIPPABLE_HEADER_BYTES..content_at];
    if header[..4] != SKIPPABLE_MAGIC.to_le_bytes() || header[4..] != (content_len as u32).to_le_bytes() {
        return Err(wrong("no skippable frame is around it"));
    }
    Ok(index)
}

/// Checks a whole pack: its name, its index, and that every frame decodes to the content its row names.
pub fn verify(pack: &[u8], name: &Hash) -> Result<PackIndex, PackError> {
    let found = Hash::of(pack);
    if found != *name {
        return Err(PackError::WrongName { name: *name, found });
    }
    let index = read_index(pack)?;
    let mut decompressor = Decompressor::new();
    for row in index.rows() {
        let frame = &pack[row.offset as usize..][..row.stored_len as usize];
        decompressor
            .decompress_exact(frame, row.content_len, &row.hash)
            .map_err(|source| PackError::Chunk { chunk: row.hash, source })?;
    }
    Ok(index)
}

/// A finished pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// The hash of its bytes.
    pub name: Hash,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it holds.
    pub index: PackIndex,
}

/// Gathers frames into a pack.
#[derive(Debug, Default)]
pub struct PackBuilder {
    bytes: Vec<u8>,
    index: PackIndex,
    chunks: HashSet<Hash>,
}

impl PackBuilder {
    /// An empty pack.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one chunk: the hash of its content, and the frame that holds it. The frame's header is checked, its
    /// content is not.
    pub fn push(&mut self, hash: Hash, frame: &[u8]) -> Result<(), PackError> {
        let content_len = frame::content_len_of(frame).map_err(|source| PackError::Chunk { chunk: hash, source })?;
        if content_len == 0 {
            return Err(PackError::Index { why: "a chunk's length is out of bounds" });
        }
        let grown = self.index.pack_bytes() + frame.len() as u64 + ROW_BYTES as u64;
        if self.index.rows.len() == PACK_ROWS_MAX as usize || grown > PACK_BYTES_MAX {
            return Err(PackError::Full);
        }
        if !self.chunks.insert(hash) {
            return Err(PackError::Duplicate { chunk: hash });
        }
        let offset = self.bytes.len() as u64;
        if self.bytes.is_empty() {
            // Address space only until it is written to. Growing by copies would need twice the pack's memory.
            self.bytes.reserve_exact(PACK_BYTES_MAX as usize);
        }
        self.bytes.extend_from_slice(frame);
        let (stored_len, content_len) = (frame.len() as u32, content_len as u32);
        self.index.rows.push(PackRow { hash, offset, stored_len, content_len });
        Ok(())
    }

    /// Whether the chunk is in it.
    pub fn contains(&self, hash: &Hash) -> bool {
        self.chunks.contains(hash)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.index.rows.is_empty()
    }

    /// Bytes of the frames in it.
    pub fn stored_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether it has reached the size at which packs are closed. One more chunk always fits before.
    pub fn is_full(&self) -> bool {
        self.stored_bytes() >= PACK_BYTES_TARGET || self.index.rows.len() >= PACK_ROWS_MAX as usize
    }

    /// The finished pack, or `None` if nothing is in it.
    pub fn finish(self) -> Option<Pack> {
        if self.is_empty() {
            return None;
        }
        let Self { mut bytes, index, .. } = self;
        let content = index.encode();
        bytes.extend_from_slice(&SKIPPABLE_MAGIC.to_le_bytes());
        bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&content);
        Some(Pack { name: Hash::of(&bytes), bytes, index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::compress;

    fn pack() -> Pack {
        let mut builder = PackBuilder::new();
        for content in [&b"one"[..], &[7; 10_000], b"three"] {
            builder.push(Hash::of(content), &compress(content, 3).unwrap()).unwrap();
        }
        builder.finish().unwrap()
    }

    #[test]
    fn a_pack_says_what_it_holds() {
        let pack = pack();
        assert_eq!(verify(&pack.bytes, &pack.name).unwrap(), pack.index);
        assert_eq!(pack.index.pack_bytes(), pack.bytes.len() as u64);
        assert_eq!(PackIndex::decode(&pack.index.encode()).unwrap(), pack.index);
        let third = pack.index.rows()[2];
        assert_eq!((third.hash, third.content_len), (Hash::of(b"three"), 5));
    }

    #[test]
    fn a_chunk_goes_into_a_pack_once() {
        let mut builder = PackBuilder::new();
        let frame = compress(b"one", 3).unwrap();
        builder.push(Hash::of(b"one"), &frame).unwrap();
        assert_eq!(builder.push(Hash::of(b"one"), &frame), Err(PackError::Duplicate { chunk: Hash::of(b"one") }));
        assert!(matches!(builder.push(Hash::of(b"two"), b"no frame"), Err(PackError::Chunk { .. })));
        assert!(builder.push(Hash::of(b""), &compress(b"", 3).unwrap()).is_err(), "an empty chunk");
        assert_eq!(PackBuilder::new().finish(), None);
    }

    #[test]
    fn a_pack_that_is_full_takes_one_chunk_more_and_no_end_of_them() {
        let mut builder = PackBuilder::new();
        let mut seed = 0_u64;
        let mut next = || {
            seed += 1;
            let mut content = vec![0; CHUNK_BYTES_MAX as usize];
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut content);
            (Hash::of(&content), compress(&content, -5).unwrap())
        };
        while !builder.is_full() {
            let (hash, frame) = next();
            builder.push(hash, &frame).unwrap();
        }
        let refused = (0..5).map(|_| next()).find_map(|(hash, frame)| builder.push(hash, &frame).err());
        assert_eq!(refused, Some(PackError::Full));
        let pack = builder.finish().unwrap();
        assert!(pack.bytes.len() as u64 <= PACK_BYTES_MAX);
        verify(&pack.bytes, &pack.name).unwrap();
    }

    #[test]
    fn fault_18_no_flipped_byte_goes_unnoticed() {
        let pack = pack();
        for at in 0..pack.bytes.len() {
            let mut bytes = pack.bytes.clone();
            bytes[at] ^= 0x10;
            assert!(matches!(verify(&bytes, &pack.name), Err(PackError::WrongName { .. })));
            // Even under the name that the damaged bytes would have, no wrong chunk comes out.
            if let Ok(index) = verify(&bytes, &Hash::of(&bytes)) {
                assert_eq!(index, pack.index, "byte {at}");
            }
        }
        for length in 0..pack.bytes.len() {
            assert!(read_index(&pack.bytes[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn an_index_of_another_kind_is_refused_for_what_it_is() {
        let content = pack().index.encode();
        let with = |at: usize, byte: u8| {
            let mut content = content.clone();
            content[at] = byte;
            PackIndex::decode(&content).unwrap_err()
        };
        assert_eq!(with(8, 2), PackError::NewerVersion { found: 2 });
        assert_eq!(with(10, 1), PackError::UnknownCipher { suite: 1 });
        for at in [0, 11, 12, content.len() - 12, content.len() - 1] {
            assert!(matches!(with(at, 0x77), PackError::Index { .. }), "byte {at}");
        }
        let mut twice = content.clone();
        twice.copy_within(16..48, 56);
        assert!(matches!(PackIndex::decode(&twice), Err(PackError::Duplicate { .. })));
    }
}
