//! The steps of a plan. Each is exact: whoever carries it out has nothing to decide.

use node_model::{Bytes, DeviceKey, EfiBootEntry, Filesystem, Gpt, Guid, HexBytes, Lba, Swap, VolumeName};
use serde::{Deserialize, Serialize};

/// Some bytes of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ByteRange {
    /// Where it begins.
    pub offset_bytes: Bytes,
    /// How long it is.
    pub length_bytes: Bytes,
}

impl ByteRange {
    /// `length` bytes from `offset`.
    pub const fn new(offset: u64, length: u64) -> Self {
        Self { offset_bytes: Bytes(offset), length_bytes: Bytes(length) }
    }

    /// The first byte after it; saturates, so that a range beyond 16 EiB is out of every disk's bounds.
    pub const fn end(&self) -> u64 {
        self.offset_bytes.get().saturating_add(self.length_bytes.get())
    }

    /// Whether the two have a byte in common.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.offset_bytes.get() < other.end() && other.offset_bytes.get() < self.end()
    }
}

/// The word in a [`ToolCall`]'s arguments that stands for the device's private node.
pub const DEVICE_WORD: &str = "{device}";

/// A program and its arguments. No shell ever sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ToolCall {
    /// The program's name, without a path.
    pub program: String,
    /// Its arguments; exactly one of them is [`DEVICE_WORD`].
    pub args: Vec<String>,
    /// The exit codes that mean success: 0, and for checkers 1, "errors corrected".
    pub exit_codes_ok: Vec<i32>,
}

impl ToolCall {
    /// The arguments with `device` in its place.
    pub fn args_for(&self, device: &str) -> Vec<String> {
        self.args.iter().map(|arg| if arg == DEVICE_WORD { device.to_owned() } else { arg.clone() }).collect()
    }
}

/// One partition as the kernel is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AnnouncedPartition {
    /// The device of the plan that it is.
    pub device: DeviceKey,
    /// Its number.
    pub number: u32,
    /// Its place on the disk.
    pub range: ByteRange,
}

/// What the first block of a disk holds in the end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum BootSector {
    /// The captured block, byte for byte: the disk has the captured one's size.
    Verbatim {
        /// The raw volume that begins at byte 0 of the captured disk.
        volume: VolumeName,
    },
    /// Bytes 0 to 445 (boot code and disk signature) of the captured block, if there is one, else zeros; then a
    /// protective MBR for this disk's size.
    Rebuilt {
        /// The raw volume that begins at byte 0 of the captured disk.
        volume: Option<VolumeName>,
        /// `SizeInLBA` of the protective entry, which starts at block 1: the disk's last block, at most 0xffffffff.
        protective_sectors: u32,
    },
}

/// How the files of a volume are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FillMode {
    /// The filesystem is new and empty.
    Fresh,
    /// The filesystem was made under this claim before: what is right is kept after it was read and hashed, what
    /// is wrong is replaced, what does not belong is removed.
    Differential,
}

/// One file of the restored node that is rewritten because the machine differs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Adaptation {
    /// The filesystem that holds it.
    pub device: DeviceKey,
    /// Its path in the node.
    pub node_path: String,
    /// Its path from that filesystem's root, without a leading slash.
    pub path: String,
    /// BLAKE3 of the content that the plan was made from. A file with another content is left alone and reported.
    pub old_blake3: HexBytes,
    /// Its new content.
    pub new_content: HexBytes,
    /// Why, for people.
    pub reason: String,
}

/// One file of the ESP that is copied within it, so that firmware without a boot entry finds a loader.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LoaderCopy {
    /// Existing path from the ESP's root, with `/` between its parts.
    pub from: String,
    /// Path to be made.
    pub to: String,
}

/// A boot entry for the firmware.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlannedEfiEntry {
    /// The disk that holds the ESP.
    pub disk: DeviceKey,
    /// Number of the ESP's partition.
    pub partition_number: u32,
    /// Its first block.
    pub first_lba: Lba,
    /// Its length in blocks.
    pub length_sectors: u64,
    /// Its GUID.
    pub partition_guid: Guid,
    /// What the firmware's menu shows.
    pub description: String,
    /// The loader's path as the firmware writes it.
    pub loader_path: String,
    /// Bytes handed to the loader.
    pub optional_data: HexBytes,
}

impl PlannedEfiEntry {
    /// Whether this is what `entry` says about the loader.
    pub fn repeats(&self, entry: &EfiBootEntry) -> bool {
        self.partition_guid == entry.partition_guid
            && self.description == entry.description
            && self.loader_path == entry.loader_path
            && self.optional_data == entry.optional_data
    }
}

/// One step of a plan.
///
/// Devices are named by the captured layout's keys; [`crate::Plan::targets`] and [`crate::Plan::partitions`] say
/// where on which disk they are. Offsets count from the start of the device named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum Step {
    /// The first write to a disk: its first block and the boot sector of everything on it that looks like an ESP
    /// become zeros; then flush. After it no firmware starts anything from this disk.
    MakeUnbootable {
        /// The disk.
        disk: DeviceKey,
        /// What becomes zeros, ascending; the first range is the first block.
        zero: Vec<ByteRange>,
    },
    /// Zeros wherever a signature of what was there before could be found again; then flush.
    WipeSignatures {
        /// The disk.
        disk: DeviceKey,
        /// What becomes zeros, ascending, none of it beyond the disk's end.
        ranges: Vec<ByteRange>,
    },
    /// Writes the table, backup before primary, and leaves the first block alone; then flush.
    WriteGpt {
        /// The disk.
        disk: DeviceKey,
        /// The table.
        table: Gpt,
        /// The block of the backup header: the disk's last.
        backup_header_lba: Lba,
    },
    /// Tells the kernel of the partitions, removing others it knows on this disk.
    AnnouncePartitions {
        /// The disk.
        disk: DeviceKey,
        /// The partitions, ascending by number.
        partitions: Vec<AnnouncedPartition>,
    },
    /// Makes a filesystem, then reads its superblock back and compares it ([`crate::compare_filesystems`]).
    MakeFilesystem {
        /// Where.
        device: DeviceKey,
        /// The tools, one after another; each must succeed.
        commands: Vec<ToolCall>,
        /// What the superblock must show.
        expect: Filesystem,
    },
    /// Replays the journal of, and repairs, a filesystem that was made under this claim before; if that fails it is
    /// made anew by `otherwise`.
    CheckFilesystem {
        /// Where.
        device: DeviceKey,
        /// The checks, one after another; none where mounting replays the journal.
        commands: Vec<ToolCall>,
        /// How it is made anew.
        otherwise: Vec<ToolCall>,
        /// What the superblock must show.
        expect: Filesystem,
    },
    /// Makes a swap area.
    MakeSwap {
        /// Where.
        device: DeviceKey,
        /// The tool.
        commands: Vec<ToolCall>,
        /// What the area must show.
        expect: Swap,
    },
    /// Mounts a filesystem on a private directory of its own: filesystems are never mounted into one another, as
    /// each volume holds the directories onto which others are mounted.
    Mount {
        /// The filesystem.
        device: DeviceKey,
        /// Type for `mount`.
        fstype: String,
        /// Options for `mount`, comma-separated.
        options: String,
        /// Whether it is mounted for reading only.
        read_only: bool,
        /// Where the node mounts it, for people.
        node_path: Option<String>,
    },
    /// Writes the files of a volume; then `syncfs`.
    RestoreFiles {
        /// The volume.
        volume: VolumeName,
        /// The mounted filesystem.
        device: DeviceKey,
        /// How.
        mode: FillMode,
    },
    /// Rewrites one file. A file that is not there, or whose content is not what the plan was made from, is
    /// reported and left alone.
    Adapt(Adaptation),
    /// Writes the log of the restore as far as it has come, for root alone to read, and makes the directories it
    /// needs. Those that are there stay as they are, their times included. A log that cannot be kept is reported and
    /// stops nothing.
    KeepLog {
        /// The filesystem, mounted for writing after everything is on it.
        device: DeviceKey,
        /// The log's path in the node.
        node_path: String,
        /// Its path from that filesystem's root, without a leading slash.
        path: String,
    },
    /// Copies files within the ESP to the path that firmware tries without a boot entry. None of the targets is in
    /// the volume. Copies for which there is no room are left out, all of them, and reported.
    EnsureFallbackLoader {
        /// The mounted ESP.
        device: DeviceKey,
        /// The copies.
        copies: Vec<LoaderCopy>,
    },
    /// Unmounts; then flushes and drops the device's buffers.
    Unmount {
        /// The filesystem.
        device: DeviceKey,
    },
    /// Reads every file of a volume back and compares it, metadata included. What the plan's own steps wrote must be
    /// there as they wrote it.
    VerifyFiles {
        /// The volume.
        volume: VolumeName,
        /// The filesystem, mounted for reading only.
        device: DeviceKey,
        /// Paths from the filesystem's root that may differ, as far as a step before made them: files adapted in
        /// their content, loaders copied, with their directories, in being there.
        except: Vec<String>,
        /// Paths from the filesystem's root that may be there although they were not captured: the restore's log and
        /// its directories. Those that were captured must be as they were.
        added: Vec<String>,
    },
    /// Writes a raw volume; then flush.
    WriteRaw {
        /// The volume.
        volume: VolumeName,
        /// The disk or partition.
        device: DeviceKey,
        /// Where on it.
        range: ByteRange,
    },
    /// Reads a raw volume back past the cache and compares it.
    VerifyRaw {
        /// The volume.
        volume: VolumeName,
        /// The disk or partition.
        device: DeviceKey,
        /// Where on it.
        range: ByteRange,
    },
    /// Reads the partition table back, then makes the last write to a disk: its first block; flushes, and reads that
    /// back, too.
    MakeBootable {
        /// The disk.
        disk: DeviceKey,
        /// What it holds.
        boot_sector: BootSector,
    },
    /// Puts the node's entries first into the firmware's boot order. Its failure is a warning.
    RegisterEfiEntries {
        /// The entries, first one first.
        entries: Vec<PlannedEfiEntry>,
    },
}

impl Step {
    /// The device or disk that this step writes to, mounts or reads; `None` for the firmware's variables.
    pub fn device(&self) -> Option<&DeviceKey> {
        match self {
            Self::MakeUnbootable { disk, .. }
            | Self::WipeSignatures { disk, .. }
            | Self::WriteGpt { disk, .. }
            | Self::AnnouncePartitions { disk, .. }
            | Self::MakeBootable { disk, .. } => Some(disk),
            Self::MakeFilesystem { device, .. }
            | Self::CheckFilesystem { device, .. }
            | Self::MakeSwap { device, .. }
            | Self::Mount { device, .. }
            | Self::RestoreFiles { device, .. }
            | Self::KeepLog { device, .. }
            | Self::EnsureFallbackLoader { device, .. }
            | Self::Unmount { device }
            | Self::VerifyFiles { device, .. }
            | Self::WriteRaw { device, .. }
            | Self::VerifyRaw { device, .. } => Some(device),
            Self::Adapt(adaptation) => Some(&adaptation.device),
            Self::RegisterEfiEntries { .. } => None,
        }
    }
}
