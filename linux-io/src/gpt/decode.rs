//! Reading a table.

use std::io::Cursor;

use mbrman::MBRHeader;
use node_model::{Bytes, Gpt, GptPartition, Guid, HexBytes, Lba, SectorSize};

use super::{GptError, HEADER_BYTES, NAME_BYTES_MAX, SIGNATURE, entries_possible};
use crate::blockdev::ReadAt;

/// The type of the one MBR entry that guards a GPT.
const PROTECTIVE_TYPE: u8 = 0xEE;

/// A table as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GptFound {
    /// The table.
    pub table: Gpt,
    /// Which copies of it are whole.
    pub copies: GptCopies,
    /// What block 0 holds.
    pub block_zero: HybridMbr,
}

/// Which copies of a table are whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GptCopies {
    /// Both, and they say the same.
    Both,
    /// The first alone; why the second is none: damaged, not at the disk's end, or another table.
    PrimaryOnly(String),
    /// The second alone; why the first is none.
    BackupOnly(String),
}

/// What block 0 of a GPT disk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HybridMbr {
    /// The entry of type 0xEE and nothing else.
    Protective,
    /// No MBR at all: firmware and kernels see no table on the disk.
    Absent,
    /// Other entries besides: a table of its own that some systems prefer.
    Hybrid,
}

/// Reads the table of a disk; `None` where there is no trace of one. The protective MBR is not asked for: a disk in
/// the middle of a restore has none.
pub fn read<R: ReadAt + ?Sized>(disk: &R, size: Bytes, sector: SectorSize) -> Result<Option<GptFound>, GptError> {
    let blocks = size.get() / sector.get();
    // Block 0, two headers, two tables of a block each and one block between them.
    if blocks < 6 {
        return Ok(None);
    }
    let primary = read_copy(disk, 1, blocks, sector)?;
    let backup = read_copy(disk, blocks - 1, blocks, sector)?;
    let (table, copies) = match (primary, backup) {
        (Copy::Absent, Copy::Absent) => return Ok(None),
        (Copy::Whole(first), Copy::Whole(second)) if first == second => (first, GptCopies::Both),
        (Copy::Whole(first), other) => (first, GptCopies::PrimaryOnly(other.complaint())),
        (other, Copy::Whole(second)) => (second, GptCopies::BackupOnly(other.complaint())),
        (primary, backup) => {
            return Err(GptError::Damaged { primary: primary.complaint(), backup: backup.complaint() });
        }
    };
    let block_zero = read_block_zero(disk)?;
    Ok(Some(GptFound { table, copies, block_zero }))
}

enum Copy {
    Absent,
    Damaged(String),
    Whole(Gpt),
}

impl Copy {
    fn complaint(self) -> String {
        match self {
            Self::Absent => "absent".to_owned(),
            Self::Damaged(why) => why,
            Self::Whole(_) => "another table".to_owned(),
        }
    }
}

fn read_copy<R: ReadAt + ?Sized>(disk: &R, lba: u64, blocks: u64, sector: SectorSize) -> Result<Copy, GptError> {
    let mut block = vec![0; sector.get() as usize];
    disk.read_exact_at(&mut block, lba * sector.get()).map_err(|source| GptError::Read { source })?;
    if !block.starts_with(SIGNATURE) {
        return Ok(Copy::Absent);
    }
    let header = match Header::parse(&block, lba, blocks) {
        Ok(header) => header,
        Err(why) => return Ok(Copy::Damaged(why.to_owned())),
    };
    let length = header.entry_count as usize * header.entry_size as usize;
    let mut entries = vec![0; length];
    let within =
        (length as u64).div_ceil(sector.get()).checked_add(header.entries_lba).is_some_and(|end| end <= blocks);
    if !within {
        return Ok(Copy::Damaged("its entries lie beyond the disk".to_owned()));
    }
    disk.read_exact_at(&mut entries, header.entries_lba * sector.get()).map_err(|source| GptError::Read { source })?;
    if crc32fast::hash(&entries) != header.entries_crc {
        return Ok(Copy::Damaged("the checksum of its entries is wrong".to_owned()));
    }
    Ok(header.with_entries(&entries))
}

struct Header {
    first_usable: u64,
    last_usable: u64,
    disk_guid: Guid,
    entries_lba: u64,
    entry_count: u32,
    entry_size: u32,
    entries_crc: u32,
}

impl Header {
    fn parse(block: &[u8], lba: u64, blocks: u64) -> Result<Self, &'static str> {
        let size = u32_at(block, 12) as usize;
        if size < HEADER_BYTES || size > block.len() {
            return Err("its header has an impossible size");
        }
        let mut without_crc = block[..size].to_vec();
        without_crc[16..20].fill(0);
        if crc32fast::hash(&without_crc) != u32_at(block, 16) {
            return Err("the checksum of its header is wrong");
        }
        if u64_at(block, 24) != lba {
            return Err("its header belongs elsewhere");
        }
        let header = Self {
            first_usable: u64_at(block, 40),
            last_usable: u64_at(block, 48),
            disk_guid: guid_at(block, 56),
            entries_lba: u64_at(block, 72),
            entry_count: u32_at(block, 80),
            entry_size: u32_at(block, 84),
            entries_crc: u32_at(block, 88),
        };
        if !entries_possible(header.entry_count, header.entry_size) {
            return Err("its entries have an impossible size or number");
        }
        if header.first_usable > header.last_usable || header.last_usable >= blocks {
            return Err("its usable blocks lie beyond the disk");
        }
        Ok(header)
    }

    fn with_entries(self, entries: &[u8]) -> Copy {
        let mut partitions = Vec::new();
        for (number, entry) in (1..).zip(entries.chunks_exact(self.entry_size as usize)) {
            let partition = GptPartition {
                number,
                type_guid: guid_at(entry, 0),
                guid: guid_at(entry, 16),
                first_lba: Lba(u64_at(entry, 32)),
                last_lba: Lba(u64_at(entry, 40)),
                attributes: u64_at(entry, 48),
                name_utf16le: HexBytes(name_before_nul(&entry[56..56 + NAME_BYTES_MAX])),
            };
            if partition.type_guid == Guid::NIL {
                continue;
            }
            if partition.first_lba > partition.last_lba || partition.last_lba.0 > self.last_usable {
                return Copy::Damaged(format!("partition {number} lies beyond the usable blocks"));
            }
            partitions.push(partition);
        }
        Copy::Whole(Gpt {
            disk_guid: self.disk_guid,
            first_usable_lba: Lba(self.first_usable),
            last_usable_lba: Lba(self.last_usable),
            entry_count: self.entry_count,
            entry_size: self.entry_size,
            partitions,
        })
    }
}

/// Judges the MBR of block 0 by its own four entries. The chain of extended partitions behind them is never followed:
/// `mbrman` adds up its places in 32 bits, and nothing here needs them.
fn read_block_zero<R: ReadAt + ?Sized>(disk: &R) -> Result<HybridMbr, GptError> {
    let mut block = [0; 512];
    disk.read_exact_at(&mut block, 0).map_err(|source| GptError::Read { source })?;
    let kinds: Vec<u8> = match MBRHeader::read_from(&mut Cursor::new(&block[..])) {
        Ok(mbr) => mbr.iter().filter(|(_, entry)| entry.is_used()).map(|(_, entry)| entry.sys).collect(),
        Err(mbrman::Error::InvalidSignature) => return Ok(HybridMbr::Absent),
        // A boot flag that is neither set nor unset: some system's own idea of a table.
        Err(_) => return Ok(HybridMbr::Hybrid),
    };
    Ok(match kinds[..] {
        [] => HybridMbr::Absent,
        [PROTECTIVE_TYPE] => HybridMbr::Protective,
        [..] => HybridMbr::Hybrid,
    })
}

fn name_before_nul(field: &[u8]) -> Vec<u8> {
    field.chunks_exact(2).take_while(|unit| **unit != [0, 0]).flatten().copied().collect()
}

/// Four bytes at a place that the caller knows to exist.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
}

fn guid_at(bytes: &[u8], at: usize) -> Guid {
    Guid(std::array::from_fn(|index| bytes[at + index]))
}
