//! Where the chunks of one snapshot lie.
//!
//! The answer of `GET .../placement`, numbers little-endian:
//!
//! ```text
//! header   16 bytes   magic `RRWHERE1`, u32 number of packs, u32 number of chunks
//! packs    40 bytes   BLAKE3 (32), u64 length of the pack in bytes
//! chunks   56 bytes   BLAKE3 (32), u32 pack (position in the table above), u32 stored length, u32 content length,
//!                     u32 zero, u64 offset of the frame in its pack
//! ```
//!
//! Packs ascend by hash. Chunks ascend by hash; each chunk of the snapshot appears once, whatever number of rows of
//! its lists name it.

use bundle::Hash;
use bundle::limits::{CHUNK_BYTES_MAX, FRAME_OVERHEAD_BYTES_MAX, PACK_BYTES_MAX};

use crate::limits::PLACEMENT_BYTES_MAX;

const MAGIC: [u8; 8] = *b"RRWHERE1";
const HEADER_BYTES: usize = 16;
const PACK_ROW_BYTES: usize = 40;
const CHUNK_ROW_BYTES: usize = 56;

/// A pack that the snapshot needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacedPack {
    /// Its name.
    pub hash: Hash,
    /// Its length.
    pub length_bytes: u64,
}

/// A chunk of the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacedChunk {
    /// Hash of its content.
    pub hash: Hash,
    /// Its pack, as a position in [`SnapshotPlacement::packs`].
    pub pack: u32,
    /// Where its frame begins in the pack.
    pub offset: u64,
    /// Bytes of its frame.
    pub stored_len: u32,
    /// Bytes of its content.
    pub content_len: u32,
}

/// Where every chunk of a snapshot lies. It is a hint, not a truth: what it leads to is checked by hash.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotPlacement {
    packs: Vec<PlacedPack>,
    chunks: Vec<PlacedChunk>,
}

/// Bytes that are no placement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a placement of this format: {why}")]
pub struct BadPlacement {
    why: &'static str,
}

impl SnapshotPlacement {
    /// A placement of these packs and chunks, in any order; `pack` of a chunk is the position in `packs` as given.
    pub fn new(packs: Vec<PlacedPack>, mut chunks: Vec<PlacedChunk>) -> Result<Self, BadPlacement> {
        let mut order: Vec<usize> = (0..packs.len()).collect();
        order.sort_unstable_by_key(|&index| packs[index].hash);
        let mut new_position = vec![0_u32; packs.len()];
        for (position, &index) in order.iter().enumerate() {
            new_position[index] = u32::try_from(position).map_err(|_| BadPlacement { why: "too many packs" })?;
        }
        for chunk in &mut chunks {
            let position = new_position.get(chunk.pack as usize);
            chunk.pack = *position.ok_or(BadPlacement { why: "a chunk names a pack that is not in the table" })?;
        }
        chunks.sort_unstable_by_key(|chunk| chunk.hash);
        chunks.dedup_by_key(|chunk| chunk.hash);
        let placement = Self { packs: order.into_iter().map(|index| packs[index]).collect(), chunks };
        placement.check()?;
        Ok(placement)
    }

    /// The packs, ascending by hash.
    pub fn packs(&self) -> &[PlacedPack] {
        &self.packs
    }

    /// The chunks, ascending by hash.
    pub fn chunks(&self) -> &[PlacedChunk] {
        &self.chunks
    }

    /// Where a chunk lies.
    pub fn find(&self, chunk: &Hash) -> Option<&PlacedChunk> {
        self.chunks.binary_search_by_key(chunk, |placed| placed.hash).ok().map(|index| &self.chunks[index])
    }

    /// The pack that a chunk lies in.
    pub fn pack_of(&self, chunk: &PlacedChunk) -> &PlacedPack {
        &self.packs[chunk.pack as usize]
    }

    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        let length = HEADER_BYTES + self.packs.len() * PACK_ROW_BYTES + self.chunks.len() * CHUNK_ROW_BYTES;
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&(self.packs.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.chunks.len() as u32).to_le_bytes());
        for pack in &self.packs {
            bytes.extend_from_slice(pack.hash.as_bytes());
            bytes.extend_from_slice(&pack.length_bytes.to_le_bytes());
        }
        for chunk in &self.chunks {
            bytes.extend_from_slice(chunk.hash.as_bytes());
            for number in [chunk.pack, chunk.stored_len, chunk.content_len, 0] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(&chunk.offset.to_le_bytes());
        }
        bytes
    }

    /// Reads them.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadPlacement> {
        let wrong = |why| BadPlacement { why };
        if bytes.len() > PLACEMENT_BYTES_MAX {
            return Err(wrong("it is longer than 1 GiB"));
        }
        let (header, body) =
            bytes.split_first_chunk::<HEADER_BYTES>().ok_or_else(|| wrong("it ends within its header"))?;
        if header[..8] != MAGIC {
            return Err(wrong("it does not begin with RRWHERE1"));
        }
        let pack_count = u32_at(header, 8) as usize;
        let chunk_count = u32_at(header, 12) as usize;
        // Both counts are below 2^32 and the widths below 2^6: no overflow in 64 bits.
        if body.len() as u64 != pack_count as u64 * PACK_ROW_BYTES as u64 + chunk_count as u64 * CHUNK_ROW_BYTES as u64
        {
            return Err(wrong("it has another length than its counts say"));
        }
        let (packs, chunks) = body.split_at(pack_count * PACK_ROW_BYTES);
        let packs = packs.as_chunks::<PACK_ROW_BYTES>().0.iter();
        let chunks = chunks.as_chunks::<CHUNK_ROW_BYTES>().0;
        if chunks.iter().any(|row| u32_at(row, 44) != 0) {
            return Err(wrong("its reserved bytes are not zero"));
        }
        let placement = Self {
            packs: packs.map(|row| PlacedPack { hash: hash_at(row), length_bytes: u64_at(row, 32) }).collect(),
            chunks: chunks
                .iter()
                .map(|row| PlacedChunk {
                    hash: hash_at(row),
                    pack: u32_at(row, 32),
                    stored_len: u32_at(row, 36),
                    content_len: u32_at(row, 40),
                    offset: u64_at(row, 48),
                })
                .collect(),
        };
        placement.check()?;
        Ok(placement)
    }

    /// What readers rely on: order, and every frame within its pack.
    fn check(&self) -> Result<(), BadPlacement> {
        let wrong = |why| Err(BadPlacement { why });
        if !self.packs.is_sorted_by(|a, b| a.hash < b.hash) || !self.chunks.is_sorted_by(|a, b| a.hash < b.hash) {
            return wrong("its rows do not ascend");
        }
        if self.chunks.len() > u32::MAX as usize || self.packs.iter().any(|pack| pack.length_bytes > PACK_BYTES_MAX) {
            return wrong("a pack is longer than packs can be");
        }
        for chunk in &self.chunks {
            let Some(pack) = self.packs.get(chunk.pack as usize) else {
                return wrong("a chunk names a pack that is not in the table");
            };
            let lengths_fit = (1..=CHUNK_BYTES_MAX).contains(&chunk.content_len)
                && (1..=CHUNK_BYTES_MAX + FRAME_OVERHEAD_BYTES_MAX).contains(&chunk.stored_len);
            let end = chunk.offset.checked_add(u64::from(chunk.stored_len));
            if !lengths_fit || end.is_none_or(|end| end > pack.length_bytes) {
                return wrong("a chunk lies outside its pack or has a length that no chunk has");
            }
        }
        Ok(())
    }
}

fn u32_at(row: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| row[at + i]))
}

fn u64_at(row: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| row[at + i]))
}

fn hash_at(row: &[u8]) -> Hash {
    Hash::from_bytes(std::array::from_fn(|i| row[i]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(n: u8) -> Hash {
        Hash::from_bytes([n; 32])
    }

    fn placement() -> SnapshotPlacement {
        let packs =
            vec![PlacedPack { hash: hash(9), length_bytes: 3000 }, PlacedPack { hash: hash(2), length_bytes: 1000 }];
        let chunk = |n, pack, offset| PlacedChunk { hash: hash(n), pack, offset, stored_len: 500, content_len: 4096 };
        SnapshotPlacement::new(packs, vec![chunk(7, 0, 2500), chunk(1, 1, 0), chunk(7, 0, 2500)]).unwrap()
    }

    #[test]
    fn a_chunk_is_found_in_its_pack() {
        let read = SnapshotPlacement::decode(&placement().encode()).unwrap();
        assert_eq!(read, placement());
        assert_eq!(read.chunks().len(), 2, "a chunk named twice is one chunk");
        let found = read.find(&hash(7)).unwrap();
        assert_eq!((read.pack_of(found).hash, found.offset), (hash(9), 2500));
        assert_eq!(read.find(&hash(3)), None);
    }

    #[test]
    fn what_would_lead_outside_a_pack_is_refused() {
        let mut bytes = placement().encode();
        let last = bytes.len() - 8;
        bytes[last..].copy_from_slice(&2501_u64.to_le_bytes());
        assert!(SnapshotPlacement::decode(&bytes).is_err());
        bytes[last..].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(SnapshotPlacement::decode(&bytes).is_err());
        assert!(SnapshotPlacement::decode(&bytes[..last]).is_err());
        assert!(SnapshotPlacement::new(vec![], vec![placement().chunks[0]]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0..208_usize, value: u8, cut in 0..208_usize) {
            let mut bytes = placement().encode();
            bytes[at] = value;
            if let Ok(read) = SnapshotPlacement::decode(&bytes) {
                prop_assert_eq!(read.encode(), bytes.clone());
            }
            let _ = SnapshotPlacement::decode(&bytes[..cut]);
        }
    }
}
