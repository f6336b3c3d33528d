//! Writing a table.

use node_model::{Gpt, GptPartition, SectorSize};

use super::{GptError, HEADER_BYTES, REVISION, SIGNATURE, Unfit, check, table_blocks};
use crate::blockdev::ClaimedDisk;

/// Bytes of boot code before the disk signature in block 0.
const BOOT_CODE_BYTES: usize = 440;

/// A table as bytes, each piece with the byte at which it goes, in the order in which the pieces are written: the
/// backup first, so that at every moment at least one copy is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GptImage {
    /// Entries and header of the backup at the disk's end.
    pub backup: [(u64, Vec<u8>); 2],
    /// Entries and header of the primary.
    pub primary: [(u64, Vec<u8>); 2],
}

/// The bytes of `gpt` on a disk of `disk_blocks` blocks.
pub fn encode(gpt: &Gpt, disk_blocks: u64, sector: SectorSize) -> Result<GptImage, Unfit> {
    check(gpt, disk_blocks, sector)?;
    let entries = encode_entries(gpt, sector);
    let entries_crc = crc32fast::hash(&entries[..gpt.entry_count as usize * gpt.entry_size as usize]);
    let last = disk_blocks - 1;
    let backup_entries = last - table_blocks(gpt, sector);
    let header = |own, other, entries_lba| encode_header(gpt, own, other, entries_lba, entries_crc, sector);
    let at = |lba: u64| lba * sector.get();
    Ok(GptImage {
        backup: [(at(backup_entries), entries.clone()), (at(last), header(last, 1, backup_entries))],
        primary: [(at(2), entries), (at(1), header(1, last, 2))],
    })
}

/// Writes both copies of the table, each flushed before the next is begun. Block 0 stays as it is.
pub fn write(disk: &ClaimedDisk, gpt: &Gpt) -> Result<(), GptError> {
    let sector = disk.sector_size();
    let image = encode(gpt, disk.size().get() / sector.get(), sector).map_err(GptError::Unfit)?;
    for copy in [&image.backup, &image.primary] {
        for (offset, bytes) in copy {
            disk.write_at(bytes, *offset)?;
        }
        disk.flush()?;
    }
    Ok(())
}

/// Block 0 of a GPT disk: `boot_code` (its first 440 bytes; what follows is ignored) and one entry of type 0xEE
/// over the whole disk.
pub fn protective_mbr(boot_code: &[u8], disk_blocks: u64, sector: SectorSize) -> Vec<u8> {
    let mut block = vec![0; sector.get() as usize];
    let code = &boot_code[..boot_code.len().min(BOOT_CODE_BYTES)];
    block[..code.len()].copy_from_slice(code);
    // Not active; from head 0, sector 2 to the farthest address; beyond 32 bits the count is all ones.
    let blocks = u32::try_from(disk_blocks.saturating_sub(1)).unwrap_or(u32::MAX);
    block[446..454].copy_from_slice(&[0, 0, 2, 0, 0xEE, 0xFF, 0xFF, 0xFF]);
    block[454..458].copy_from_slice(&1_u32.to_le_bytes());
    block[458..462].copy_from_slice(&blocks.to_le_bytes());
    block[510..512].copy_from_slice(&[0x55, 0xAA]);
    block
}

fn encode_entries(gpt: &Gpt, sector: SectorSize) -> Vec<u8> {
    let size = gpt.entry_size as usize;
    let mut entries = vec![0; (table_blocks(gpt, sector) * sector.get()) as usize];
    for partition in &gpt.partitions {
        let slot = (partition.number - 1) as usize * size;
        encode_entry(partition, &mut entries[slot..slot + size]);
    }
    entries
}

fn encode_entry(partition: &GptPartition, entry: &mut [u8]) {
    entry[..16].copy_from_slice(&partition.type_guid.0);
    entry[16..32].copy_from_slice(&partition.guid.0);
    entry[32..40].copy_from_slice(&partition.first_lba.0.to_le_bytes());
    entry[40..48].copy_from_slice(&partition.last_lba.0.to_le_bytes());
    entry[48..56].copy_from_slice(&partition.attributes.to_le_bytes());
    let name = &partition.name_utf16le.0;
    entry[56..56 + name.len()].copy_from_slice(name);
}

fn encode_header(gpt: &Gpt, own: u64, other: u64, entries_lba: u64, entries_crc: u32, sector: SectorSize) -> Vec<u8> {
    let mut header = Vec::with_capacity(sector.get() as usize);
    header.extend(SIGNATURE);
    header.extend(REVISION.to_le_bytes());
    header.extend((HEADER_BYTES as u32).to_le_bytes());
    header.extend([0; 8]); // its checksum, filled in below, and four reserved bytes
    header.extend(own.to_le_bytes());
    header.extend(other.to_le_bytes());
    header.extend(gpt.first_usable_lba.0.to_le_bytes());
    header.extend(gpt.last_usable_lba.0.to_le_bytes());
    header.extend(gpt.disk_guid.0);
    header.extend(entries_lba.to_le_bytes());
    header.extend(gpt.entry_count.to_le_bytes());
    header.extend(gpt.entry_size.to_le_bytes());
    header.extend(entries_crc.to_le_bytes());
    let crc = crc32fast::hash(&header);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    header.resize(sector.get() as usize, 0);
    header
}
