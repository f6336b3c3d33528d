//! ext2, ext3, ext4.

use node_model::{Bytes, ExtDetails, ExtFlavor, Filesystem, FilesystemDetails, HexBytes};

use super::{Fields, SuperblockError, read_bytes};
use crate::blockdev::ReadAt;

const MAGIC: u16 = 0xEF53;

const COMPAT_HAS_JOURNAL: u32 = 0x4;
const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_JOURNAL_DEV: u32 = 0x8;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_FLEX_BG: u32 = 0x200;
const INCOMPAT_CASEFOLD: u32 = 0x2_0000;
const RO_COMPAT_BIGALLOC: u32 = 0x200;
const RO_COMPAT_ORPHAN_PRESENT: u32 = 0x1_0000;

/// What ext3 knows: compression, filetype, recover, journal device, meta_bg.
const INCOMPAT_EXT3: u32 = 0x1f;
/// What ext3 knows: sparse_super, large_file, btree_dir.
const RO_COMPAT_EXT3: u32 = 0x7;

pub(super) fn read<R: ReadAt + ?Sized>(device: &R) -> Result<Filesystem, SuperblockError> {
    let bytes: [u8; 1024] = read_bytes(device, 1024)?;
    let sb = Fields(&bytes);
    if sb.le16(0x38) != MAGIC {
        return Err(SuperblockError::Absent { kind: "ext" });
    }
    let damaged = |field, value: u64| SuperblockError::Damaged { kind: "ext", field, value };
    let unsupported = |what| Err(SuperblockError::Unsupported { what });
    let log_block_size = sb.le32(0x18);
    // 1 KiB to 64 KiB.
    if log_block_size > 6 {
        return Err(damaged("log_block_size", log_block_size.into()));
    }
    let block_size = 1024_u64 << log_block_size;
    let (compat, incompat, ro_compat) = (sb.le32(0x5C), sb.le32(0x60), sb.le32(0x64));
    if incompat & INCOMPAT_JOURNAL_DEV != 0 {
        return unsupported("a journal device");
    }
    if incompat & INCOMPAT_CASEFOLD != 0 {
        return unsupported("an ext4 filesystem with case folding");
    }
    if ro_compat & RO_COMPAT_BIGALLOC != 0 {
        return unsupported("an ext4 filesystem with clusters (bigalloc)");
    }
    let wide = |low: usize, high: usize| {
        let high = if incompat & INCOMPAT_64BIT != 0 { sb.le32(high) } else { 0 };
        u64::from(high) << 32 | u64::from(sb.le32(low))
    };
    let block_count = wide(0x4, 0x150);
    let free_blocks = wide(0xC, 0x158);
    let size = block_count.checked_mul(block_size).ok_or(damaged("blocks_count", block_count))?;
    let flex = if incompat & INCOMPAT_FLEX_BG != 0 { u32::from(sb.u8(0x174)) } else { 0 };
    if flex > 31 {
        return Err(damaged("log_groups_per_flex", flex.into()));
    }
    let flavor = match compat & COMPAT_HAS_JOURNAL {
        _ if incompat & !INCOMPAT_EXT3 != 0 || ro_compat & !RO_COMPAT_EXT3 != 0 => ExtFlavor::Ext4,
        0 => ExtFlavor::Ext2,
        _ => ExtFlavor::Ext3,
    };
    let details = ExtDetails {
        flavor,
        block_size_bytes: block_size,
        block_count,
        inode_count: sb.le32(0).into(),
        // The first revision had inodes of one size and no field for it.
        inode_size_bytes: if sb.le32(0x4C) == 0 { 128 } else { sb.le16(0x58).into() },
        reserved_block_count: wide(0x8, 0x154),
        inodes_per_group: sb.le32(0x28).into(),
        blocks_per_group: sb.le32(0x20).into(),
        groups_per_flex: 1 << flex,
        feature_compat: compat,
        feature_incompat: incompat & !INCOMPAT_RECOVER,
        feature_ro_compat: ro_compat & !RO_COMPAT_ORPHAN_PRESENT,
        journal_blocks: if compat & COMPAT_HAS_JOURNAL != 0 { Some(journal_blocks(&sb, block_size)?) } else { None },
        hash_seed: HexBytes(sb.bytes::<16>(0xEC).to_vec()),
        hash_version: sb.u8(0xFC),
        default_mount_opts: sb.le32(0x100),
        errors_behavior: sb.le16(0x3C),
        raid_stride: sb.le16(0x164),
        raid_stripe_width: sb.le32(0x170),
    };
    Ok(Filesystem {
        uuid: sb.uuid(0x68),
        label: sb.label::<16>(0x78),
        size_bytes: Bytes(size),
        used_bytes: Bytes(block_count.saturating_sub(free_blocks) * block_size),
        details: FilesystemDetails::Ext(details),
    })
}

/// The journal's size, from the copy of its inode that the superblock keeps.
fn journal_blocks(sb: &Fields<'_>, block_size: u64) -> Result<u64, SuperblockError> {
    const BACKUP_OF_BLOCKS: u8 = 1;
    if sb.le32(0xE0) == 0 {
        return Err(SuperblockError::Unsupported { what: "an ext filesystem with its journal on another device" });
    }
    if sb.u8(0xFD) != BACKUP_OF_BLOCKS {
        return Err(SuperblockError::Unsupported {
            what: "an ext filesystem whose superblock has no copy of its journal's inode",
        });
    }
    let copy = |index: usize| u64::from(sb.le32(0x10C + 4 * index));
    Ok((copy(15) << 32 | copy(16)) / block_size)
}
