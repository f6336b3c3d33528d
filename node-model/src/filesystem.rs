//! Filesystems and swap areas: what mkfs must reproduce.

use serde::{Deserialize, Serialize};

use crate::{Bytes, HexBytes};

/// A filesystem with all that its mkfs is told and its superblock must show afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// UUID in the filesystem's own writing: `8-4-4-4-12` for ext and xfs, `ABCD-1234` for vfat.
    pub uuid: String,
    /// Label, absent if empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Size of the filesystem itself, which may be less than its partition's.
    pub size_bytes: Bytes,
    /// Bytes in use when it was captured.
    pub used_bytes: Bytes,
    /// What is particular to its kind.
    pub details: FilesystemDetails,
}

impl Filesystem {
    /// The name `mount -t` takes.
    pub fn type_name(&self) -> &'static str {
        match &self.details {
            FilesystemDetails::Ext(ext) => match ext.flavor {
                ExtFlavor::Ext2 => "ext2",
                ExtFlavor::Ext3 => "ext3",
                ExtFlavor::Ext4 => "ext4",
            },
            FilesystemDetails::Xfs(_) => "xfs",
            FilesystemDetails::Vfat(_) => "vfat",
        }
    }
}

/// What is particular to one kind of filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum FilesystemDetails {
    /// ext2, ext3 or ext4.
    Ext(ExtDetails),
    /// XFS.
    Xfs(XfsDetails),
    /// FAT12, FAT16 or FAT32.
    Vfat(VfatDetails),
}

/// Which of the ext family, by its features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExtFlavor {
    /// Without a journal.
    Ext2,
    /// With a journal, without extents and the like.
    Ext3,
    /// With any feature that only ext4 knows.
    Ext4,
}

/// The fields of an ext superblock that mkfs decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtDetails {
    /// Which of the family.
    pub flavor: ExtFlavor,
    /// Block size.
    pub block_size_bytes: u64,
    /// Number of blocks.
    pub block_count: u64,
    /// Number of inodes.
    pub inode_count: u64,
    /// Bytes of an inode.
    pub inode_size_bytes: u64,
    /// Blocks reserved for root.
    pub reserved_block_count: u64,
    /// Inodes of one block group.
    pub inodes_per_group: u64,
    /// Blocks of one block group.
    pub blocks_per_group: u64,
    /// Block groups of one flex group; 1 without `flex_bg`.
    pub groups_per_flex: u64,
    /// `s_feature_compat`, without bits that the kernel sets by itself while mounted.
    pub feature_compat: u32,
    /// `s_feature_incompat`, without `needs_recovery`.
    pub feature_incompat: u32,
    /// `s_feature_ro_compat`, without `orphan_present`.
    pub feature_ro_compat: u32,
    /// Journal size in blocks, where there is an internal journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal_blocks: Option<u64>,
    /// Seed of the directory hash, 16 bytes.
    pub hash_seed: HexBytes,
    /// Default directory hash version (`s_def_hash_version`).
    pub hash_version: u8,
    /// `s_default_mount_opts`.
    pub default_mount_opts: u32,
    /// What the kernel does on errors (`s_errors`): 1 continue, 2 remount read-only, 3 panic.
    pub errors_behavior: u16,
    /// `s_raid_stride`.
    pub raid_stride: u16,
    /// `s_raid_stripe_width`.
    pub raid_stripe_width: u32,
}

/// The fields of an XFS superblock that mkfs decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct XfsDetails {
    /// Block size.
    pub block_size_bytes: u64,
    /// Sector size the filesystem was made for.
    pub sector_size_bytes: u64,
    /// Number of blocks.
    pub block_count: u64,
    /// Bytes of an inode.
    pub inode_size_bytes: u64,
    /// Directory block size.
    pub directory_block_size_bytes: u64,
    /// Number of allocation groups.
    pub ag_count: u64,
    /// Blocks of one allocation group.
    pub ag_blocks: u64,
    /// Blocks of the internal log.
    pub log_blocks: u64,
    /// Stripe unit in blocks, 0 without.
    pub stripe_unit_blocks: u64,
    /// Stripe width in blocks, 0 without.
    pub stripe_width_blocks: u64,
    /// Largest share of space for inodes, in percent.
    pub inode_max_percent: u8,
    /// `sb_versionnum`.
    pub version: u16,
    /// `sb_features2`.
    pub features2: u32,
    /// `sb_features_compat`.
    pub feature_compat: u32,
    /// `sb_features_ro_compat`.
    pub feature_ro_compat: u32,
    /// `sb_features_incompat`, without `needs_repair`.
    pub feature_incompat: u32,
    /// UUID in the metadata, where it differs from the filesystem's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta_uuid: Option<String>,
}

/// The width of a FAT entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FatBits {
    /// 12 bits.
    Fat12,
    /// 16 bits.
    Fat16,
    /// 32 bits.
    Fat32,
}

/// The fields of a FAT boot sector that mkfs decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfatDetails {
    /// Width of an entry.
    pub bits: FatBits,
    /// Volume id.
    pub volume_id: u32,
    /// Bytes of a logical sector.
    pub sector_size_bytes: u64,
    /// Sectors of a cluster.
    pub sectors_per_cluster: u64,
    /// Sectors before the first table.
    pub reserved_sectors: u64,
    /// Number of tables.
    pub fat_count: u64,
    /// Entries of the root directory; 0 for FAT32.
    pub root_entries: u64,
    /// Number of sectors.
    pub sector_count: u64,
    /// Media descriptor.
    pub media: u8,
}

/// A swap area.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// UUID, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Label, absent if empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Page size of the machine that made it.
    pub page_size_bytes: u64,
    /// Size of the area.
    pub size_bytes: Bytes,
}
