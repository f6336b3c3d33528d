//! GUID partition tables, read and written exactly: every slot number, attribute bit and name as it was.
//!
//! Block 0 is not touched here: [`protective_mbr`] makes its content, which a restore writes last of all, because
//! neither firmware starts a disk without it.

mod decode;
mod encode;

use std::io;

use node_model::{Gpt, Lba, SectorSize};

pub use decode::{GptCopies, GptFound, HybridMbr, read};
pub use encode::{GptImage, encode, protective_mbr, write};

/// Bytes of a header that mean something.
const HEADER_BYTES: usize = 92;
/// What every header begins with.
const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Version 1.0, the only one.
const REVISION: u32 = 0x0001_0000;
/// The least bytes of an entry, and all of them that mean something.
const ENTRY_BYTES_MIN: u32 = 128;
/// Larger entries exist on paper; a page is far beyond.
pub const ENTRY_BYTES_MAX: u32 = 4096;
/// Entries of all partitions together. 128 entries of 128 bytes, the usual, are 16 KiB.
pub const TABLE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a partition's name: 36 code units.
pub const NAME_BYTES_MAX: usize = 72;

/// Why a table cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// The disk failed.
    #[error("the partition table cannot be read")]
    Read {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There was a table once, but neither copy is whole.
    #[error("both copies of the partition table are damaged: {primary}; {backup}")]
    Damaged {
        /// What is wrong with the first.
        primary: String,
        /// What is wrong with the second.
        backup: String,
    },
    /// A table that cannot be expressed on this disk.
    #[error("the partition table does not fit: {0}")]
    Unfit(Unfit),
    /// The disk failed while the table was written.
    #[error(transparent)]
    Disk(#[from] crate::blockdev::BlockDevError),
}

impl GptError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Damaged { .. } => Some("repair it with `gdisk` or `sfdisk` while the node runs".to_owned()),
            Self::Disk(error) => error.hint(),
            _ => None,
        }
    }
}

/// What about a table does not fit its disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Entry size or count is no possible one.
    #[error("{count} entries of {size} bytes are not a possible table")]
    Entries {
        /// Number of entries.
        count: u32,
        /// Bytes of one.
        size: u32,
    },
    /// The area for partitions overlaps the table or leaves the disk.
    #[error(
        "usable blocks {first} to {last} do not lie between the two copies of the table ({room_first} to {room_last})"
    )]
    Usable {
        /// First usable block.
        first: u64,
        /// Last usable block.
        last: u64,
        /// First block after the first copy.
        room_first: u64,
        /// Last block before the second.
        room_last: u64,
    },
    /// A partition's number has no slot, or is used twice.
    #[error("partition number {number} has no slot of its own among {count}")]
    Slot {
        /// The number.
        number: u32,
        /// Number of slots.
        count: u32,
    },
    /// A partition lies outside of the usable blocks.
    #[error("partition {number} ({first} to {last}) lies outside of the usable blocks")]
    Outside {
        /// Its number.
        number: u32,
        /// Its first block.
        first: u64,
        /// Its last block.
        last: u64,
    },
    /// Two partitions share blocks.
    #[error("partitions {one} and {other} overlap")]
    Overlap {
        /// The number of one.
        one: u32,
        /// The number of the other.
        other: u32,
    },
    /// A name has more than 36 code units, or half of one.
    #[error("the name of partition {number} has {bytes} bytes; it may have {NAME_BYTES_MAX}, in pairs")]
    Name {
        /// The partition.
        number: u32,
        /// Bytes of its name.
        bytes: usize,
    },
    /// A used slot must have a type.
    #[error("partition {number} has no type")]
    NoType {
        /// The partition.
        number: u32,
    },
}

/// Blocks that the entries of one copy take.
fn table_blocks(gpt: &Gpt, sector: SectorSize) -> u64 {
    (u64::from(gpt.entry_count) * u64::from(gpt.entry_size)).div_ceil(sector.get())
}

/// Whether `count` entries of `size` bytes are a table: sizes are 128 times a power of two.
fn entries_possible(count: u32, size: u32) -> bool {
    let size_right = (ENTRY_BYTES_MIN..=ENTRY_BYTES_MAX).contains(&size) && size.is_power_of_two();
    size_right && count > 0 && u64::from(count) * u64::from(size) <= TABLE_BYTES_MAX
}

/// Whether the table could be written to a disk of `disk_blocks` blocks: both copies fit, each partition has a slot
/// of its own and lies among the usable blocks, and none overlap.
pub fn check(gpt: &Gpt, disk_blocks: u64, sector: SectorSize) -> Result<(), Unfit> {
    if !entries_possible(gpt.entry_count, gpt.entry_size) {
        return Err(Unfit::Entries { count: gpt.entry_count, size: gpt.entry_size });
    }
    let blocks = table_blocks(gpt, sector);
    let (first, last) = (gpt.first_usable_lba.0, gpt.last_usable_lba.0);
    // Block 0, header and entries in front; entries and header behind.
    let (room_first, room_end) = (2 + blocks, disk_blocks.saturating_sub(1 + blocks));
    if first < room_first || last >= room_end || first > last {
        return Err(Unfit::Usable { first, last, room_first, room_last: room_end.saturating_sub(1) });
    }
    let mut places: Vec<(Lba, Lba, u32)> = Vec::with_capacity(gpt.partitions.len());
    let mut numbers = std::collections::BTreeSet::new();
    for partition in &gpt.partitions {
        let number = partition.number;
        if number == 0 || number > gpt.entry_count || !numbers.insert(number) {
            return Err(Unfit::Slot { number, count: gpt.entry_count });
        }
        let (begin, end) = (partition.first_lba, partition.last_lba);
        if begin > end || begin.0 < first || end.0 > last {
            return Err(Unfit::Outside { number, first: begin.0, last: end.0 });
        }
        let bytes = partition.name_utf16le.0.len();
        if bytes > NAME_BYTES_MAX || bytes % 2 != 0 {
            return Err(Unfit::Name { number, bytes });
        }
        if partition.type_guid == node_model::Guid::NIL {
            return Err(Unfit::NoType { number });
        }
        places.push((begin, end, number));
    }
    places.sort_unstable();
    match places.windows(2).find(|pair| pair[0].1 >= pair[1].0) {
        Some(pair) => Err(Unfit::Overlap { one: pair[0].2, other: pair[1].2 }),
        None => Ok(()),
    }
}
