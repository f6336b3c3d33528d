//! What stands on one disk of a node.

use std::fs::File;
use std::path::PathBuf;

use node_model::{Bytes, Content, Device, DeviceKey, DeviceKind, Gpt, Guid, PartitionTable};

use super::node::Unsupported;
use super::signatures::{Found, probe};
use super::{ScanError, key_of};
use crate::blockdev::Disk;
use crate::gpt::{self, GptCopies, GptFound, HybridMbr};
use crate::partitions::{KnownPartition, list_in_sysfs};
use crate::superblock::{self, Described, SuperblockError, SuperblockKind, Window};

/// The partition from which Open Firmware machines start: bytes without a filesystem.
const PREP_BOOT: Guid =
    Guid([0x38, 0x2d, 0x1a, 0x9e, 0x12, 0xc6, 0x16, 0x43, 0xaa, 0x26, 0x8b, 0x49, 0x52, 0x1e, 0x5a, 0x8b]);

/// A disk or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) start: Bytes,
    pub(super) length: Bytes,
    /// Partition number; `None` for the whole disk.
    pub(super) number: Option<u32>,
}

/// What was found on one disk of a node.
#[derive(Debug, Default)]
pub(super) struct DiskLayout {
    /// The disk, then its partitions.
    pub(super) devices: Vec<(Device, Region)>,
    pub(super) unsupported: Vec<Unsupported>,
    pub(super) warnings: Vec<String>,
}

/// The partitions of a disk, from its own table and from what the kernel knows, which may each know more.
pub(super) fn partition_regions(disk: &Disk) -> Vec<Region> {
    // A table that is damaged is a signature of its own; its partitions are then those that the kernel knows.
    let table = gpt::read(disk, disk.size(), disk.sector_size()).ok().flatten();
    let mut regions: Vec<Region> = table.iter().flat_map(|found| regions_of(&found.table, disk)).collect();
    for known in kernel_partitions(disk) {
        let region = Region { start: known.place.start, length: known.place.length, number: Some(known.place.number) };
        if !regions.contains(&region) {
            regions.push(region);
        }
    }
    regions.retain(|region| region.start.checked_add(region.length).is_some_and(|end| end <= disk.size()));
    regions
}

/// The name of a partition for screens and errors: the kernel's if it knows one, else the disk's with a number.
pub(super) fn region_name(disk: &Disk, number: Option<u32>) -> String {
    let path = disk.path().canonicalize().unwrap_or_else(|_| disk.path().to_owned());
    let name = match path.strip_prefix("/dev") {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => path.to_string_lossy().into_owned(),
    };
    let Some(number) = number else { return name };
    let known = kernel_partitions(disk).into_iter().find(|known| known.place.number == number);
    known.map_or_else(|| format!("{name}#{number}"), |known| known.kernel_name)
}

/// Where the bytes of a region are read: through the partition's own node where the kernel knows it, because a
/// filesystem that is mounted from it is coherent with that one alone; else at its place on the disk.
pub(super) fn source_of(disk: &Disk, region: &Region) -> (PathBuf, u64) {
    let same = |known: &KnownPartition| {
        (Some(known.place.number), known.place.start, known.place.length)
            == (region.number, region.start, region.length)
    };
    match kernel_partitions(disk).into_iter().find(same) {
        Some(known) => (disk.roots().dev.join(known.kernel_name), 0),
        None => (disk.path().to_owned(), region.start.get()),
    }
}

/// The partitions of the disk that the kernel knows.
pub(super) fn kernel_partitions(disk: &Disk) -> Vec<KnownPartition> {
    let directory =
        disk.number().map(|number| disk.roots().sysfs.join(format!("dev/block/{}:{}", number.major, number.minor)));
    directory.and_then(|directory| list_in_sysfs(&directory).ok()).unwrap_or_default()
}

fn regions_of(table: &Gpt, disk: &Disk) -> Vec<Region> {
    let sector = disk.sector_size();
    let region = |partition: &node_model::GptPartition| {
        let start = partition.first_lba.start_byte(sector)?;
        let blocks = partition.last_lba.0.checked_sub(partition.first_lba.0)?.checked_add(1)?;
        let length = Bytes(blocks.checked_mul(sector.get())?);
        Some(Region { start, length, number: Some(partition.number) })
    };
    table.partitions.iter().filter_map(region).collect()
}

/// Describes the disk and its partitions, whose keys begin with `key`.
pub(super) fn describe(disk: &Disk, key: &DeviceKey, kernel_name: &str) -> Result<DiskLayout, ScanError> {
    let mut layout = DiskLayout::default();
    let name = region_name(disk, None);
    let table = match gpt::read(disk, disk.size(), disk.sector_size()) {
        Ok(found) => found.and_then(|found| table_in_use(disk, found)),
        Err(source) => return Err(ScanError::Table { device: name, source }),
    };
    let content = match &table {
        Some(found) => {
            layout.judge_table(found, disk, &name);
            Content::Table { table: PartitionTable::Gpt(found.table.clone()) }
        }
        None => {
            let found = probed(disk, Region { start: Bytes(0), length: disk.size(), number: None }, &name)?;
            let what = found.first().map_or_else(
                || "a disk without a partition table".to_owned(),
                |found| match found.is_table {
                    true => found.for_people(),
                    false => format!("{} on a whole disk", found.for_people()),
                },
            );
            layout.unsupported.push(Unsupported { device: name.clone(), what });
            Content::Unknown
        }
    };
    let whole = Region { start: Bytes(0), length: disk.size(), number: None };
    let kind = DeviceKind::Disk {
        identity: disk.identity().clone(),
        sector_size_bytes: disk.sector_size(),
        kernel_name: kernel_name.to_owned(),
    };
    layout.devices.push((Device { key: key.clone(), size_bytes: disk.size(), device: kind, content }, whole));
    let Some(found) = table else { return Ok(layout) };
    for (region, partition) in regions_of(&found.table, disk).into_iter().zip(&found.table.partitions) {
        let content = layout.partition_content(disk, region, partition.type_guid)?;
        let kind = DeviceKind::Partition { disk: key.clone(), number: partition.number };
        let key = key_of(key, Some(partition.number));
        layout.devices.push((Device { key, size_bytes: region.length, device: kind, content }, region));
    }
    Ok(layout)
}

fn probed(disk: &Disk, region: Region, device: &str) -> Result<Vec<Found>, ScanError> {
    let (path, start) = source_of(disk, &region);
    probe(&path, start, region.length.get())
        .map_err(|source| ScanError::Signatures { device: device.to_owned(), source })
}

fn superblock_of(disk: &Disk, region: &Region, kind: SuperblockKind) -> Result<Described, SuperblockError> {
    let (path, start) = source_of(disk, region);
    let device = File::open(path).map_err(|source| SuperblockError::Read { source })?;
    superblock::read(&Window::new(&device, start, region.length.get()), kind)
}

/// The disk's table as the kernel sees it. What is left of one at the disk's end, or without a protective MBR, is no
/// table of a running node, unless partitions of it are in use.
fn table_in_use(disk: &Disk, found: GptFound) -> Option<GptFound> {
    let remnant = found.block_zero == HybridMbr::Absent && kernel_partitions(disk).is_empty();
    (!remnant).then_some(found)
}

impl DiskLayout {
    fn judge_table(&mut self, found: &GptFound, disk: &Disk, name: &str) {
        let blocks = disk.size().get() / disk.sector_size().get();
        if let Err(unfit) = gpt::check(&found.table, blocks, disk.sector_size()) {
            let what = format!("a partition table that could not be written again ({unfit})");
            self.unsupported.push(Unsupported { device: name.to_owned(), what });
        }
        if found.block_zero == HybridMbr::Hybrid {
            let what = "a hybrid MBR beside its GPT".to_owned();
            self.unsupported.push(Unsupported { device: name.to_owned(), what });
        }
        match &found.copies {
            GptCopies::Both => {}
            GptCopies::PrimaryOnly(why) => {
                self.warnings.push(format!("{name}: the backup partition table is of no use: {why}"));
            }
            GptCopies::BackupOnly(why) => {
                self.warnings.push(format!("{name}: the first partition table is of no use: {why}"));
            }
        }
    }

    fn partition_content(&mut self, disk: &Disk, region: Region, kind: Guid) -> Result<Content, ScanError> {
        if kind == Guid::BIOS_BOOT {
            return Ok(Content::Raw);
        }
        let device = region_name(disk, region.number);
        if kind == PREP_BOOT {
            let what = "a PReP boot partition".to_owned();
            self.unsupported.push(Unsupported { device, what });
            return Ok(Content::Unknown);
        }
        let found = probed(disk, region, &device)?;
        // Boot sectors of filesystems look like small partition tables to some versions of blkid.
        let contents: Vec<&Found> = match found.iter().any(|found| !found.is_table) {
            true => found.iter().filter(|found| !found.is_table).collect(),
            false => found.iter().collect(),
        };
        let refuse = |layout: &mut Self, what: String| {
            layout.unsupported.push(Unsupported { device: device.clone(), what });
            Ok(Content::Unknown)
        };
        let one = match contents[..] {
            [] => {
                self.warnings.push(format!("{device}: nothing is recognised on it; a restore brings it back empty"));
                return Ok(Content::Unknown);
            }
            [one] => one,
            [..] => {
                let kinds: Vec<String> = contents.iter().map(|found| found.for_people()).collect();
                return refuse(self, format!("several things at once: {}", kinds.join(", ")));
            }
        };
        let Some(kind) = SuperblockKind::from_blkid(&one.kind).filter(|_| !one.is_table) else {
            return refuse(self, one.for_people());
        };
        match superblock_of(disk, &region, kind) {
            Ok(Described::Filesystem(filesystem)) => Ok(Content::Filesystem { filesystem }),
            Ok(Described::Swap(swap)) => Ok(Content::Swap { swap }),
            Err(SuperblockError::Unsupported { what }) => refuse(self, what.to_owned()),
            Err(error) => refuse(self, format!("{}, whose details are of no use: {error}", one.for_people())),
        }
    }
}

impl Found {
    /// What blkid's word means.
    fn for_people(&self) -> String {
        let known = match self.kind.as_str() {
            "LVM2_member" | "LVM1_member" => "an LVM physical volume",
            "linux_raid_member" => "a member of a Linux RAID array",
            "crypto_LUKS" => "a LUKS container",
            "btrfs" => "a btrfs filesystem",
            "zfs_member" => "a member of a ZFS pool",
            "dos" => "an MBR partition table",
            "ntfs" => "an NTFS filesystem",
            "bcache" => "a bcache device",
            "ceph_bluestore" => "a Ceph BlueStore device",
            kind if self.is_table => return format!("a {kind} partition table"),
            kind => return format!("{kind} data"),
        };
        known.to_owned()
    }
}
