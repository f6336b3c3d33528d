//! mkfs.xfs, and xfs_db where the UUID was changed after the filesystem was made.

use node_model::{Filesystem, XfsDetails};

use super::{CannotMake, call, checked_label, checked_uuid, cut};
use crate::step::ToolCall;

const VERSION_ATTR: u16 = 0x10;
const VERSION_QUOTA: u16 = 0x40;
const VERSION_ASCII_CI: u16 = 0x4000;
/// Bits of `sb_versionnum` that say something, its low four apart: attr, nlink, quota, align, dalign, logv2,
/// sector, extflg, dirv2, ascii-ci, more bits.
const VERSION_KNOWN: u16 = 0x10 | 0x20 | 0x40 | 0x80 | 0x100 | 0x400 | 0x800 | 0x1000 | 0x2000 | 0x4000 | 0x8000;
/// Those that every filesystem of the last twenty years has, and mkfs.xfs sets unasked.
const VERSION_ALWAYS: u16 = 0x20 | 0x80 | 0x400 | 0x1000 | 0x2000;

const FEATURES2_LAZYSBCOUNT: u32 = 0x2;
const FEATURES2_ATTR2: u32 = 0x8;
const FEATURES2_PROJID32: u32 = 0x80;
const FEATURES2_CRC: u32 = 0x100;
const FEATURES2_FTYPE: u32 = 0x200;

const RO_COMPAT: [(u32, &str); 4] = [(0x1, "finobt"), (0x2, "rmapbt"), (0x4, "reflink"), (0x8, "inobtcount")];

const INCOMPAT_FTYPE: u32 = 0x1;
const INCOMPAT_SPARSE_INODES: u32 = 0x2;
const INCOMPAT_META_UUID: u32 = 0x4;
const INCOMPAT_BIGTIME: u32 = 0x8;
const INCOMPAT_NREXT64: u32 = 0x20;
const INCOMPAT_EXCHANGE: u32 = 0x40;
const INCOMPAT_PARENT: u32 = 0x80;
const INCOMPAT_KNOWN: u32 = 0xef;

/// Below these mkfs.xfs refuses unless told that it is meant.
const USUAL_BYTES_MIN: u64 = 300 << 20;
const USUAL_LOG_BYTES_MIN: u64 = 64 << 20;
/// The least size of an allocation group that mkfs.xfs makes. A last group below it comes from growing.
const AG_BYTES_MIN: u64 = 16 << 20;

/// Bits of `sb_versionnum` that the kernel sets by itself when they are first needed.
pub(crate) const VERSION_BITS_OF_THE_KERNEL: u16 = VERSION_ATTR | VERSION_QUOTA;

/// The tools that make an XFS filesystem.
pub(super) fn commands(fs: &Filesystem, xfs: &XfsDetails) -> Result<Vec<ToolCall>, CannotMake> {
    check(fs, xfs)?;
    let block = xfs.block_size_bytes;
    let made_with_uuid = checked_uuid(xfs.meta_uuid.as_deref().unwrap_or(&fs.uuid))?;
    let mut args: Vec<String> = vec!["-f".into(), "-q".into(), "-K".into()];
    let mut arg = |option: &str, value: String| args.extend([option.to_owned(), value]);
    arg("-b", format!("size={block}"));
    arg("-s", format!("size={}", xfs.sector_size_bytes));
    arg("-m", metadata_options(xfs, made_with_uuid));
    arg("-d", data_options(xfs)?);
    arg("-i", inode_options(xfs));
    let lazy = u8::from(xfs.features2 & FEATURES2_LAZYSBCOUNT != 0);
    arg("-l", format!("internal=1,version=2,lazy-count={lazy},size={}", bytes_of(xfs.log_blocks, block)?));
    arg("-n", naming_options(xfs));
    if let Some(label) = &fs.label {
        arg("-L", checked_label(label, 12)?.to_owned());
    }
    if is_small(xfs)? {
        args.push("--unsupported".into());
    }
    let mut commands = vec![call("mkfs.xfs", args)];
    if xfs.meta_uuid.as_deref().is_some_and(|meta| meta != fs.uuid) {
        let uuid = checked_uuid(&fs.uuid)?;
        commands.push(call("xfs_db", ["-x", "-p", "rerack", "-c", &format!("uuid {uuid}")]));
    }
    Ok(commands)
}

fn bytes_of(blocks: u64, block: u64) -> Result<u64, CannotMake> {
    blocks.checked_mul(block).ok_or_else(|| CannotMake(format!("{blocks} blocks of {block} bytes are beyond 16 EiB")))
}

/// Refuses what mkfs.xfs cannot make, or would make otherwise without a word.
fn check(fs: &Filesystem, xfs: &XfsDetails) -> Result<(), CannotMake> {
    let unknown = |word: &str, bits: u32| {
        if bits == 0 {
            return Ok(());
        }
        Err(CannotMake(format!("its feature word {word} has bits {bits:#x}, which rerack cannot make")))
    };
    let version = xfs.version & 0xf;
    if !matches!(version, 4 | 5) {
        return Err(CannotMake(format!("its format has version {version}, not 4 or 5")));
    }
    let flags = xfs.version & 0xfff0;
    unknown("versionnum", u32::from(flags & !VERSION_KNOWN))?;
    if flags & VERSION_ALWAYS != VERSION_ALWAYS {
        return Err(CannotMake(format!("its feature word versionnum {:#x} is of an old format", xfs.version)));
    }
    let features2 = FEATURES2_LAZYSBCOUNT | FEATURES2_ATTR2 | FEATURES2_PROJID32 | FEATURES2_CRC | FEATURES2_FTYPE;
    unknown("features2", xfs.features2 & !features2)?;
    unknown("compat", xfs.feature_compat)?;
    unknown("ro_compat", RO_COMPAT.iter().fold(xfs.feature_ro_compat, |bits, (bit, _)| bits & !bit))?;
    unknown("incompat", xfs.feature_incompat & !INCOMPAT_KNOWN)?;
    let sizes = [xfs.block_size_bytes, xfs.sector_size_bytes, xfs.inode_size_bytes, xfs.directory_block_size_bytes];
    if sizes.iter().any(|size| !size.is_power_of_two() || !(256..=65536).contains(size)) {
        return Err(CannotMake(format!("its block, sector, inode and directory block sizes are {sizes:?} bytes")));
    }
    if xfs.block_count == 0 || xfs.ag_blocks == 0 || xfs.block_count.div_ceil(xfs.ag_blocks) != xfs.ag_count {
        let XfsDetails { block_count, ag_count, ag_blocks, .. } = xfs;
        return Err(CannotMake(format!("{block_count} blocks are not {ag_count} groups of {ag_blocks}")));
    }
    let last = bytes_of(xfs.block_count - (xfs.ag_count - 1) * xfs.ag_blocks, xfs.block_size_bytes)?;
    if xfs.ag_count > 1 && last < AG_BYTES_MIN {
        return Err(CannotMake(format!(
            "its last allocation group has {last} bytes, and mkfs.xfs makes none so small"
        )));
    }
    let differs = xfs.meta_uuid.as_deref().is_some_and(|meta| meta != fs.uuid);
    if differs != (xfs.feature_incompat & INCOMPAT_META_UUID != 0) {
        let uuid = cut(xfs.meta_uuid.as_deref().unwrap_or("none"));
        return Err(CannotMake(format!("its metadata UUID is {uuid}, against what its features say")));
    }
    Ok(())
}

fn metadata_options(xfs: &XfsDetails, uuid: &str) -> String {
    let v5 = xfs.version & 0xf == 5;
    let mut options = format!("crc={},uuid={uuid}", u8::from(v5));
    for (bit, name) in RO_COMPAT {
        options.push_str(&format!(",{name}={}", u8::from(xfs.feature_ro_compat & bit != 0)));
    }
    options.push_str(&format!(",bigtime={}", u8::from(xfs.feature_incompat & INCOMPAT_BIGTIME != 0)));
    options
}

fn data_options(xfs: &XfsDetails) -> Result<String, CannotMake> {
    let block = xfs.block_size_bytes;
    let size = bytes_of(xfs.block_count, block)?;
    let group = bytes_of(xfs.ag_blocks, block)?;
    let stripe = match (xfs.stripe_unit_blocks, xfs.stripe_width_blocks) {
        // Else mkfs asks the device, and a device with another geometry would make another filesystem.
        (0, _) => "noalign".to_owned(),
        (unit, width) if width > 0 && width.is_multiple_of(unit) => {
            format!("su={},sw={}", bytes_of(unit, block)?, width / unit)
        }
        (unit, width) => return Err(CannotMake(format!("its stripe of {width} blocks is no multiple of {unit}"))),
    };
    Ok(format!("size={size},agsize={group},{stripe}"))
}

fn inode_options(xfs: &XfsDetails) -> String {
    let on = |bits: u32, bit: u32| u8::from(bits & bit != 0);
    let mut options = format!(
        "size={},maxpct={},attr={},projid32bit={},sparse={},nrext64={}",
        xfs.inode_size_bytes,
        xfs.inode_max_percent,
        if xfs.features2 & FEATURES2_ATTR2 != 0 { 2 } else { 1 },
        on(xfs.features2, FEATURES2_PROJID32),
        on(xfs.feature_incompat, INCOMPAT_SPARSE_INODES),
        on(xfs.feature_incompat, INCOMPAT_NREXT64),
    );
    // Not named unless needed: a mkfs that does not know the option does not make the feature either.
    if xfs.feature_incompat & INCOMPAT_EXCHANGE != 0 {
        options.push_str(",exchange=1");
    }
    options
}

fn naming_options(xfs: &XfsDetails) -> String {
    let version = if xfs.version & VERSION_ASCII_CI != 0 { "ci" } else { "2" };
    let ftype = xfs.feature_incompat & INCOMPAT_FTYPE != 0 || xfs.features2 & FEATURES2_FTYPE != 0;
    let mut options = format!("version={version},size={},ftype={}", xfs.directory_block_size_bytes, u8::from(ftype));
    if xfs.feature_incompat & INCOMPAT_PARENT != 0 {
        options.push_str(",parent=1");
    }
    options
}

fn is_small(xfs: &XfsDetails) -> Result<bool, CannotMake> {
    let size = bytes_of(xfs.block_count, xfs.block_size_bytes)?;
    let log = bytes_of(xfs.log_blocks, xfs.block_size_bytes)?;
    Ok(size < USUAL_BYTES_MIN || log < USUAL_LOG_BYTES_MIN || xfs.ag_count < 2)
}
