//! Partition tables, exactly.

use serde::{Deserialize, Serialize};

use crate::{Guid, HexBytes, Lba};

/// A partition table with everything needed to write it again bit for bit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum PartitionTable {
    /// GUID partition table.
    Gpt(Gpt),
    /// MBR ("dos") table.
    Mbr(Mbr),
}

/// A GUID partition table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpt {
    /// The disk's GUID.
    pub disk_guid: Guid,
    /// First block that a partition may use.
    pub first_usable_lba: Lba,
    /// Last block that a partition may use.
    pub last_usable_lba: Lba,
    /// How many entries the table has room for: 128 as a rule.
    pub entry_count: u32,
    /// Bytes of one entry: 128 as a rule.
    pub entry_size: u32,
    /// The used entries, ascending by number; numbers may have gaps.
    pub partitions: Vec<GptPartition>,
}

/// One used entry of a GPT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GptPartition {
    /// Slot number, from 1. It is the partition's number in Linux.
    pub number: u32,
    /// What the partition is for.
    pub type_guid: Guid,
    /// The partition's own GUID (`PARTUUID`).
    pub guid: Guid,
    /// First block.
    pub first_lba: Lba,
    /// Last block, inclusive.
    pub last_lba: Lba,
    /// Attribute bits.
    pub attributes: u64,
    /// The partition's name (`PARTLABEL`): the UTF-16LE code units before the first NUL, as bytes, because names
    /// need not be valid text.
    pub name_utf16le: HexBytes,
}

impl GptPartition {
    /// The name as text, for people.
    pub fn name(&self) -> String {
        let units: Vec<u16> =
            self.name_utf16le.0.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        String::from_utf16_lossy(&units)
    }
}

/// An MBR table. Logical partitions carry the block of the EBR that describes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mbr {
    /// The disk signature at byte 440.
    pub disk_signature: u32,
    /// Partitions, ascending by number: 1 to 4 primary or extended, from 5 logical.
    pub partitions: Vec<MbrPartition>,
}

/// One partition of an MBR table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MbrPartition {
    /// Number in Linux: 1 to 4, or from 5 for logical ones.
    pub number: u32,
    /// The type byte.
    pub type_byte: u8,
    /// Whether it is marked active.
    pub active: bool,
    /// First block, absolute.
    pub first_lba: Lba,
    /// Number of blocks.
    pub sectors: u64,
    /// For a logical partition, the block of its EBR, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebr_lba: Option<Lba>,
}
