//! XFS.

use node_model::{Bytes, Filesystem, FilesystemDetails, XfsDetails};

use super::{Fields, SuperblockError, read_bytes};
use crate::blockdev::ReadAt;

/// The kernel sets these when the first extended attribute is written and when quotas are first turned on.
const VERSION_BITS_OF_THE_KERNEL: u16 = 0x0010 | 0x0040;
const INCOMPAT_META_UUID: u32 = 0x4;
const INCOMPAT_NEEDS_REPAIR: u32 = 0x10;

pub(super) fn read<R: ReadAt + ?Sized>(device: &R) -> Result<Filesystem, SuperblockError> {
    let bytes: [u8; 512] = read_bytes(device, 0)?;
    let sb = Fields(&bytes);
    if !bytes.starts_with(b"XFSB") {
        return Err(SuperblockError::Absent { kind: "xfs" });
    }
    let damaged = |field, value: u64| SuperblockError::Damaged { kind: "xfs", field, value };
    let block_size = u64::from(sb.be32(4));
    if !block_size.is_power_of_two() || !(512..=65536).contains(&block_size) {
        return Err(damaged("blocksize", block_size));
    }
    if sb.be64(16) != 0 {
        return Err(SuperblockError::Unsupported { what: "an XFS filesystem with a realtime device" });
    }
    if sb.be64(48) == 0 {
        return Err(SuperblockError::Unsupported { what: "an XFS filesystem with its log on another device" });
    }
    let block_count = sb.be64(8);
    let size = block_count.checked_mul(block_size).ok_or(damaged("dblocks", block_count))?;
    let directory_log = u32::from(sb.u8(192));
    if directory_log > 16 {
        return Err(damaged("dirblklog", directory_log.into()));
    }
    let incompat = sb.be32(216);
    let log_blocks = u64::from(sb.be32(96));
    let details = XfsDetails {
        block_size_bytes: block_size,
        sector_size_bytes: sb.be16(102).into(),
        block_count,
        inode_size_bytes: sb.be16(104).into(),
        directory_block_size_bytes: block_size << directory_log,
        ag_count: sb.be32(88).into(),
        ag_blocks: sb.be32(84).into(),
        log_blocks,
        stripe_unit_blocks: sb.be32(184).into(),
        stripe_width_blocks: sb.be32(188).into(),
        inode_max_percent: sb.u8(127),
        version: sb.be16(100) & !VERSION_BITS_OF_THE_KERNEL,
        features2: sb.be32(200),
        feature_compat: sb.be32(208),
        feature_ro_compat: sb.be32(212),
        feature_incompat: incompat & !INCOMPAT_NEEDS_REPAIR,
        meta_uuid: (incompat & INCOMPAT_META_UUID != 0).then(|| sb.uuid(248)),
    };
    let free_blocks = sb.be64(144);
    let used = block_count.saturating_sub(log_blocks).saturating_sub(free_blocks) * block_size;
    Ok(Filesystem {
        uuid: sb.uuid(32),
        label: sb.label::<12>(108),
        size_bytes: Bytes(size),
        used_bytes: Bytes(used),
        details: FilesystemDetails::Xfs(details),
    })
}
