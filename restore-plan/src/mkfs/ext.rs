//! mke2fs, and tune2fs for what mke2fs does not set.

use node_model::{ExtDetails, ExtFlavor, Filesystem};

use super::{CannotMake, call, checked_label, checked_uuid};
use crate::step::ToolCall;

/// A bit and its name.
type Feature = (u32, &'static str);

/// Features by bit, as mke2fs names them. A bit that is not here is refused: what a newer mke2fs would make of it
/// cannot be known, and some (`bigalloc`, `casefold`, `fast_commit`, `mmp`) have parameters that are not captured.
const COMPAT: [Feature; 7] = [
    (0x4, "has_journal"),
    (0x8, "ext_attr"),
    (0x10, "resize_inode"),
    (0x20, "dir_index"),
    (0x200, "sparse_super2"),
    (0x800, "stable_inodes"),
    (0x1000, "orphan_file"),
];
const INCOMPAT: [Feature; 10] = [
    (0x2, "filetype"),
    (0x10, "meta_bg"),
    (0x40, "extent"),
    (0x80, "64bit"),
    (0x200, "flex_bg"),
    (0x400, "ea_inode"),
    (0x2000, "metadata_csum_seed"),
    (0x4000, "large_dir"),
    (0x8000, "inline_data"),
    (0x10000, "encrypt"),
];
const RO_COMPAT: [Feature; 10] = [
    (0x1, "sparse_super"),
    (0x2, "large_file"),
    (0x8, "huge_file"),
    (0x10, "uninit_bg"),
    (0x20, "dir_nlink"),
    (0x40, "extra_isize"),
    (0x100, "quota"),
    (0x400, "metadata_csum"),
    (0x2000, "project"),
    (0x8000, "verity"),
];

const HAS_JOURNAL: u32 = 0x4;
const DIR_INDEX: u32 = 0x20;
const FLEX_BG: u32 = 0x200;
const SIXTY_FOUR_BIT: u32 = 0x80;
const GDT_CSUM: u32 = 0x10;
const METADATA_CSUM: u32 = 0x400;

/// Default mount options by bit, as tune2fs names them. The journal's mode is a number in bits 5 and 6.
const MOUNT_OPTS: [Feature; 9] = [
    (0x1, "debug"),
    (0x2, "bsdgroups"),
    (0x4, "user_xattr"),
    (0x8, "acl"),
    (0x10, "uid16"),
    (0x100, "nobarrier"),
    (0x200, "block_validity"),
    (0x400, "discard"),
    (0x800, "nodelalloc"),
];
const JOURNAL_MODE: u32 = 0x60;
/// What mke2fs sets by itself.
const MOUNT_OPTS_MADE: u32 = 0xc;

/// The tools that make an ext filesystem.
pub(super) fn commands(fs: &Filesystem, ext: &ExtDetails) -> Result<Vec<ToolCall>, CannotMake> {
    check_geometry(ext)?;
    let mut args: Vec<String> = Vec::new();
    let mut arg = |option: &str, value: String| args.extend([option.to_owned(), value]);
    arg("-t", flavor(ext.flavor).to_owned());
    arg("-O", features(ext)?);
    arg("-b", ext.block_size_bytes.to_string());
    arg("-I", ext.inode_size_bytes.to_string());
    arg("-N", ext.inode_count.to_string());
    arg("-g", ext.blocks_per_group.to_string());
    if ext.feature_incompat & FLEX_BG != 0 {
        arg("-G", ext.groups_per_flex.to_string());
    }
    // The exact number of reserved blocks is tune2fs's business below.
    arg("-m", "0".to_owned());
    arg("-e", errors(ext.errors_behavior)?.to_owned());
    arg("-U", checked_uuid(&fs.uuid)?.to_owned());
    if let Some(label) = &fs.label {
        arg("-L", checked_label(label, 16)?.to_owned());
    }
    if let Some(journal) = journal_option(ext)? {
        arg("-J", journal);
    }
    arg("-E", extended_options(ext)?);
    let program = "mke2fs";
    let mut make = call(program, ["-F", "-q"].map(str::to_owned).into_iter().chain(args));
    // The size follows the device; it is exact, because a filesystem may be smaller than its partition.
    make.args.push(ext.block_count.to_string());
    Ok(std::iter::once(make).chain(tuning(ext)?).collect())
}

fn flavor(flavor: ExtFlavor) -> &'static str {
    match flavor {
        ExtFlavor::Ext2 => "ext2",
        ExtFlavor::Ext3 => "ext3",
        ExtFlavor::Ext4 => "ext4",
    }
}

/// Refuses numbers that do not fit together, before a tool trips over them or silently makes something else.
fn check_geometry(ext: &ExtDetails) -> Result<(), CannotMake> {
    if !matches!(ext.block_size_bytes, 1024 | 2048 | 4096) {
        return Err(CannotMake(format!("its block size is {} bytes, not 1024, 2048 or 4096", ext.block_size_bytes)));
    }
    let inode_size = ext.inode_size_bytes;
    if !inode_size.is_power_of_two() || !(128..=ext.block_size_bytes).contains(&inode_size) {
        return Err(CannotMake(format!("its inodes have {inode_size} bytes")));
    }
    let group = ext.blocks_per_group;
    if group == 0 || !group.is_multiple_of(8) || group > 8 * ext.block_size_bytes {
        return Err(CannotMake(format!("its block groups have {group} blocks")));
    }
    if ext.feature_incompat & FLEX_BG != 0 && !ext.groups_per_flex.is_power_of_two() {
        return Err(CannotMake(format!("its flex groups have {} groups, not a power of two", ext.groups_per_flex)));
    }
    let first_data_block = u64::from(ext.block_size_bytes == 1024);
    let groups = ext.block_count.saturating_sub(first_data_block).div_ceil(group);
    if groups == 0 || groups.checked_mul(ext.inodes_per_group) != Some(ext.inode_count) {
        return Err(CannotMake(format!(
            "it has {} inodes, but {groups} groups of {} each",
            ext.inode_count, ext.inodes_per_group
        )));
    }
    if ext.block_count > u64::from(u32::MAX) && ext.feature_incompat & SIXTY_FOUR_BIT == 0 {
        return Err(CannotMake(format!("it has {} blocks without the 64bit feature", ext.block_count)));
    }
    if ext.reserved_block_count > ext.block_count / 2 {
        return Err(CannotMake(format!("{} of its {} blocks are reserved", ext.reserved_block_count, ext.block_count)));
    }
    Ok(())
}

/// `none` and then exactly the captured features.
fn features(ext: &ExtDetails) -> Result<String, CannotMake> {
    let mut names = vec!["none"];
    let words: [(&str, u32, &[Feature]); 3] = [
        ("compat", ext.feature_compat, &COMPAT),
        ("incompat", ext.feature_incompat, &INCOMPAT),
        ("ro_compat", ext.feature_ro_compat, &RO_COMPAT),
    ];
    for (word, bits, known) in words {
        let unknown = known.iter().fold(bits, |bits, (bit, _)| bits & !bit);
        if unknown != 0 {
            return Err(CannotMake(format!("its feature word {word} has bits {unknown:#x}, which rerack cannot make")));
        }
        names.extend(known.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name));
    }
    Ok(names.join(","))
}

fn errors(behavior: u16) -> Result<&'static str, CannotMake> {
    match behavior {
        1 => Ok("continue"),
        2 => Ok("remount-ro"),
        3 => Ok("panic"),
        other => Err(CannotMake(format!("its behaviour on errors is {other}, not 1 to 3"))),
    }
}

/// mke2fs takes the journal's size in MiB; every size that it chooses by itself is a whole number of them.
fn journal_option(ext: &ExtDetails) -> Result<Option<String>, CannotMake> {
    if ext.feature_compat & HAS_JOURNAL == 0 {
        return Ok(None);
    }
    let Some(blocks) = ext.journal_blocks else {
        return Err(CannotMake::new("its journal is on another device"));
    };
    let bytes = blocks.checked_mul(ext.block_size_bytes).filter(|bytes| *bytes > 0 && bytes.is_multiple_of(1 << 20));
    match bytes {
        Some(bytes) => Ok(Some(format!("size={}", bytes >> 20))),
        None => Err(CannotMake(format!("its journal of {blocks} blocks is not a whole number of MiB"))),
    }
}

fn extended_options(ext: &ExtDetails) -> Result<String, CannotMake> {
    // Without checksums in the group descriptors nothing tells which inode tables are still to be zeroed.
    let lazy = u8::from(ext.feature_ro_compat & (GDT_CSUM | METADATA_CSUM) != 0);
    // The journal is zeroed now: what an earlier filesystem with this UUID left in its place must not replay.
    // Discard does not promise zeros and takes long on some disks; the node's own fstrim does it later.
    let mut options = vec![format!("lazy_itable_init={lazy}"), "lazy_journal_init=0".into(), "nodiscard".into()];
    if ext.raid_stride != 0 {
        options.push(format!("stride={}", ext.raid_stride));
    }
    if ext.raid_stripe_width != 0 {
        options.push(format!("stripe_width={}", ext.raid_stripe_width));
    }
    let seed = &ext.hash_seed.0;
    if seed.len() != 16 {
        return Err(CannotMake(format!("its hash seed has {} bytes, not 16", seed.len())));
    }
    if seed.iter().any(|byte| *byte != 0) {
        let hex = ext.hash_seed.to_string();
        let groups = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        options.push(format!("hash_seed={}", groups.join("-")));
    }
    Ok(options.join(","))
}

/// What mke2fs does not set exactly.
fn tuning(ext: &ExtDetails) -> Result<Option<ToolCall>, CannotMake> {
    let mut args: Vec<String> = Vec::new();
    if ext.reserved_block_count != 0 {
        args.extend(["-r".to_owned(), ext.reserved_block_count.to_string()]);
    }
    if let Some(options) = mount_options(ext.default_mount_opts)? {
        args.extend(["-o".to_owned(), options]);
    }
    if ext.feature_compat & DIR_INDEX != 0 {
        match ext.hash_version {
            1 => {}
            0 => args.extend(["-E".to_owned(), "hash_alg=legacy".to_owned()]),
            2 => args.extend(["-E".to_owned(), "hash_alg=tea".to_owned()]),
            other => return Err(CannotMake(format!("its directory hash has version {other}, not 0 to 2"))),
        }
    }
    Ok((!args.is_empty()).then(|| call("tune2fs", args)))
}

/// The difference between what mke2fs sets and what was captured, in tune2fs's words.
fn mount_options(captured: u32) -> Result<Option<String>, CannotMake> {
    let unknown = MOUNT_OPTS.iter().fold(captured & !JOURNAL_MODE, |bits, (bit, _)| bits & !bit);
    if unknown != 0 {
        return Err(CannotMake(format!("its default mount options have bits {unknown:#x}, which rerack cannot set")));
    }
    let changed = |bit: u32| (captured ^ MOUNT_OPTS_MADE) & bit != 0;
    let mut words: Vec<String> = MOUNT_OPTS
        .iter()
        .filter(|(bit, _)| changed(*bit))
        .map(|(bit, name)| if captured & bit != 0 { (*name).to_owned() } else { format!("^{name}") })
        .collect();
    match captured & JOURNAL_MODE {
        0x20 => words.push("journal_data".to_owned()),
        0x40 => words.push("journal_data_ordered".to_owned()),
        0x60 => words.push("journal_data_writeback".to_owned()),
        _ => {}
    }
    Ok((!words.is_empty()).then(|| words.join(",")))
}
