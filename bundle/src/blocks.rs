//! Blocks volumes: a device's bytes by extents. Specified and pinned, and not written by any program yet.
//!
//! A blocks volume is map chunks first, which say of every byte of the device whether it holds data, is zero or is
//! unused, then one data chunk for each aligned unit of 1 MiB in which there is data. A data chunk's row carries the
//! unit's place on the device, so the list alone says where data goes. Unused and zero bytes inside a stored unit are
//! stored as zero; zero extents are written as zeros on restore, never assumed.

use crate::limits::{CHUNK_BYTES_MAX, FILE_BYTES_MAX};
use crate::wire::{Input, put_number};

/// What a map chunk begins with.
pub const MAGIC: [u8; 8] = *b"RRBLKS01";
/// Data is stored in units of this size, aligned to it; the device's last one may be shorter.
pub const UNIT_BYTES: u64 = 1 << 20;

/// What a stretch of a device holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentState {
    /// Bytes that are stored.
    Data,
    /// Bytes that are zero and have to be.
    Zero,
    /// Bytes that nobody reads.
    Unused,
}

/// A stretch of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockExtent {
    /// What it holds.
    pub state: ExtentState,
    /// Its length; it begins where the one before it ends.
    pub length: u64,
}

/// The extents of a device, or of a part of it that one map chunk describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMap {
    /// Where on the device the first extent begins: zero in the first map chunk, later the end of the one before.
    pub start: u64,
    /// Extents, gapless; neighbours differ in state.
    pub extents: Vec<BlockExtent>,
}

/// Why bytes are not a map chunk, or a map is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an extent map of this format: {why}")]
pub struct BlockMapError {
    /// What is wrong.
    pub why: &'static str,
}

impl BlockMap {
    /// Where the last extent ends.
    pub fn end(&self) -> u64 {
        self.extents.iter().fold(self.start, |end, extent| end.saturating_add(extent.length))
    }

    fn check(&self) -> Result<(), BlockMapError> {
        let why = if self.extents.is_empty() || self.extents.iter().any(|extent| extent.length == 0) {
            "an extent is empty"
        } else if self.extents.windows(2).any(|pair| pair[0].state == pair[1].state) {
            "neighbours of one state are two extents"
        } else if self.end() > FILE_BYTES_MAX {
            "it ends beyond what a device can have"
        } else {
            return Ok(());
        };
        Err(BlockMapError { why })
    }

    /// The map as the content of a map chunk.
    pub fn encode(&self) -> Result<Vec<u8>, BlockMapError> {
        self.check()?;
        let mut content = MAGIC.to_vec();
        put_number(&mut content, self.start);
        put_number(&mut content, self.extents.len() as u64);
        for extent in &self.extents {
            content.push(match extent.state {
                ExtentState::Data => 0,
                ExtentState::Zero => 1,
                ExtentState::Unused => 2,
            });
            put_number(&mut content, extent.length);
        }
        if content.len() > CHUNK_BYTES_MAX as usize {
            return Err(BlockMapError { why: "it is more than a chunk holds: divide it" });
        }
        Ok(content)
    }

    /// Reads the content of a map chunk.
    pub fn decode(content: &[u8]) -> Result<Self, BlockMapError> {
        let wrong = |why| BlockMapError { why };
        let rest = content.strip_prefix(&MAGIC).ok_or_else(|| wrong("it does not begin with RRBLKS01"))?;
        let mut input = Input(rest);
        let map = Self::take(&mut input).ok_or_else(|| wrong("it is damaged"))?;
        if !input.0.is_empty() {
            return Err(wrong("bytes follow it"));
        }
        map.check()?;
        Ok(map)
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        let start = input.number()?;
        // An extent takes at least two bytes.
        let count = usize::try_from(input.number()?).ok().filter(|&count| count <= input.0.len() / 2)?;
        let mut extents = Vec::with_capacity(count);
        for _ in 0..count {
            let state = match input.byte()? {
                0 => ExtentState::Data,
                1 => ExtentState::Zero,
                2 => ExtentState::Unused,
                _ => return None,
            };
            extents.push(BlockExtent { state, length: input.number()? });
        }
        Some(Self { start, extents })
    }

    /// The places of the units that are stored: every aligned unit that a data extent touches, ascending, each once.
    /// Extents that share a unit share its chunk.
    pub fn stored_units(&self) -> impl Iterator<Item = u64> + '_ {
        let mut at = self.start;
        let mut free_from = 0;
        self.extents.iter().flat_map(move |extent| {
            let (begin, end) = (at, at + extent.length);
            at = end;
            let first = (begin / UNIT_BYTES * UNIT_BYTES).max(free_from);
            let last = if extent.state == ExtentState::Data { end.next_multiple_of(UNIT_BYTES) } else { first };
            free_from = free_from.max(last);
            (first..last).step_by(UNIT_BYTES as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use ExtentState::{Data, Unused, Zero};

    use super::*;

    fn map(extents: &[(ExtentState, u64)]) -> BlockMap {
        let extents = extents.iter().map(|&(state, length)| BlockExtent { state, length }).collect();
        BlockMap { start: 0, extents }
    }

    #[test]
    fn the_layout_of_a_map_is_pinned() {
        let map = map(&[(Data, 4096), (Unused, 1 << 20), (Zero, 512), (Data, 1)]);
        let content = map.encode().unwrap();
        let golden = b"RRBLKS01\x00\x04\x00\x80\x20\x02\x80\x80\x40\x01\x80\x04\x00\x01";
        assert_eq!(content, golden);
        assert_eq!(BlockMap::decode(golden).unwrap(), map);
    }

    #[test]
    fn every_unit_that_data_touches_is_stored_once() {
        let mib = UNIT_BYTES;
        let map = map(&[(Data, 10), (Zero, 10), (Data, mib), (Unused, 5 * mib), (Data, 1), (Zero, 3 * mib)]);
        assert_eq!(map.stored_units().collect::<Vec<_>>(), [0, mib, 6 * mib]);
    }

    #[test]
    fn a_map_with_two_spellings_or_none_is_refused() {
        for (wrong, why) in [
            (map(&[]), "empty"),
            (map(&[(Data, 0)]), "empty"),
            (map(&[(Data, 1), (Data, 1)]), "neighbours"),
            (map(&[(Data, u64::MAX), (Zero, u64::MAX)]), "beyond"),
        ] {
            assert!(wrong.encode().unwrap_err().why.contains(why));
        }
        for wrong in [&b"RRBLKS02\x00\x00"[..], b"RRBLKS01\x00\x01\x03\x01", b"RRBLKS01\x00\xff\x7f\x00\x01"] {
            assert!(BlockMap::decode(wrong).is_err());
        }
        assert!(BlockMap::decode(b"RRBLKS01\x00\x01\x00\x01\x00").is_err(), "a byte behind");
    }
}
