//! Whether a filesystem that was made is the one that was captured.

use node_model::{ExtDetails, Filesystem, FilesystemDetails, Swap, VfatDetails, XfsDetails};

use crate::mkfs::VERSION_BITS_OF_THE_KERNEL;

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDifference {
    /// The field's name.
    pub field: &'static str,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl std::fmt::Display for FieldDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is {}, should be {}", self.field, self.found, self.expected)
    }
}

/// Collects differences.
#[derive(Default)]
struct Fields(Vec<FieldDifference>);

impl Fields {
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, field: &'static str, expected: &T, found: &T) {
        if expected != found {
            let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
            self.0.push(FieldDifference { field, expected, found });
        }
    }
}

macro_rules! same {
    ($fields:expr, $expected:expr, $found:expr, $($name:ident),+ $(,)?) => {
        $($fields.same(stringify!($name), &$expected.$name, &$found.$name);)+
    };
}

/// The fields by which `found` is not `expected`. Bytes in use do not count, nor do feature bits that kernels set
/// by themselves and stripe geometry that nobody asked for.
pub fn compare_filesystems(expected: &Filesystem, found: &Filesystem) -> Vec<FieldDifference> {
    let mut fields = Fields::default();
    fields.same("uuid", &expected.uuid.to_lowercase(), &found.uuid.to_lowercase());
    same!(fields, expected, found, label, size_bytes);
    match (&expected.details, &found.details) {
        (FilesystemDetails::Ext(expected), FilesystemDetails::Ext(found)) => compare_ext(&mut fields, expected, found),
        (FilesystemDetails::Xfs(expected), FilesystemDetails::Xfs(found)) => compare_xfs(&mut fields, expected, found),
        (FilesystemDetails::Vfat(expected), FilesystemDetails::Vfat(found)) => {
            compare_vfat(&mut fields, expected, found);
        }
        _ => fields.same("type", &expected.type_name(), &found.type_name()),
    }
    fields.0
}

fn compare_ext(fields: &mut Fields, expected: &ExtDetails, found: &ExtDetails) {
    same!(fields, expected, found, flavor, block_size_bytes, block_count, inode_count, inode_size_bytes);
    same!(fields, expected, found, reserved_block_count, inodes_per_group, blocks_per_group, groups_per_flex);
    same!(fields, expected, found, feature_compat, feature_incompat, feature_ro_compat, journal_blocks);
    same!(fields, expected, found, default_mount_opts, errors_behavior);
    // An all-zero seed means "none": mke2fs then draws one.
    if expected.hash_seed.0.iter().any(|byte| *byte != 0) {
        same!(fields, expected, found, hash_seed, hash_version);
    }
    if expected.raid_stride != 0 {
        same!(fields, expected, found, raid_stride);
    }
    if expected.raid_stripe_width != 0 {
        same!(fields, expected, found, raid_stripe_width);
    }
}

fn compare_xfs(fields: &mut Fields, expected: &XfsDetails, found: &XfsDetails) {
    same!(fields, expected, found, block_size_bytes, sector_size_bytes, block_count, inode_size_bytes);
    same!(fields, expected, found, directory_block_size_bytes, ag_count, ag_blocks, log_blocks);
    same!(fields, expected, found, stripe_unit_blocks, stripe_width_blocks, inode_max_percent);
    let version = |xfs: &XfsDetails| format!("{:#x}", xfs.version & !VERSION_BITS_OF_THE_KERNEL);
    fields.same("version", &version(expected), &version(found));
    same!(fields, expected, found, features2, feature_compat, feature_ro_compat, feature_incompat, meta_uuid);
}

fn compare_vfat(fields: &mut Fields, expected: &VfatDetails, found: &VfatDetails) {
    same!(fields, expected, found, bits, volume_id, sector_size_bytes, sectors_per_cluster, reserved_sectors);
    same!(fields, expected, found, fat_count, root_entries, sector_count, media);
}

/// The fields by which the swap area `found` is not `expected`.
pub fn compare_swap(expected: &Swap, found: &Swap) -> Vec<FieldDifference> {
    let mut fields = Fields::default();
    same!(fields, expected, found, uuid, label, page_size_bytes, size_bytes);
    fields.0
}
