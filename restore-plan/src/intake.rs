//! Judges a snapshot's description before anything is made of it: it comes from outside.

use std::collections::{BTreeMap, BTreeSet};

use node_model::{
    Content, Device, DeviceKey, DeviceKind, DiskIdentity, Gpt, GptPartition, Guid, NodeSpec, PartitionTable,
    SectorSize, Volume, VolumeKind,
};

use crate::PlanError;
use crate::step::ByteRange;

/// The most devices a layout may have: a rack's worth of disks, fully partitioned.
const DEVICES_MAX: usize = 16_384;
/// The most entries a table may have: eight times the usual.
const GPT_ENTRIES_MAX: u32 = 1024;
/// The largest entry: its size is a power of two, 128 as a rule.
const GPT_ENTRY_BYTES_MAX: u32 = 4096;
/// The longest raw volume: boot code, gaps and BIOS boot partitions are far smaller.
const RAW_BYTES_MAX: u64 = 64 << 20;

/// A captured disk that was understood.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CapturedDisk<'a> {
    pub(crate) key: &'a DeviceKey,
    pub(crate) identity: &'a DiskIdentity,
    pub(crate) sector: SectorSize,
    pub(crate) kernel_name: &'a str,
    pub(crate) table: &'a Gpt,
}

impl CapturedDisk<'_> {
    /// As people know it.
    pub(crate) fn describe(&self) -> String {
        format!("{} ({})", self.key, self.identity.describe())
    }
}

/// A captured partition that was understood.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CapturedPartition<'a> {
    pub(crate) device: &'a Device,
    pub(crate) disk: &'a DeviceKey,
    pub(crate) entry: &'a GptPartition,
    pub(crate) range: ByteRange,
}

/// A snapshot that was understood: every reference leads somewhere, nothing overlaps, every number is in bounds.
#[derive(Debug)]
pub(crate) struct Snapshot<'a> {
    pub(crate) spec: &'a NodeSpec,
    pub(crate) volumes: &'a [Volume],
    pub(crate) disks: Vec<CapturedDisk<'a>>,
    pub(crate) partitions: Vec<CapturedPartition<'a>>,
}

fn bad(device: impl ToString, why: impl Into<String>) -> PlanError {
    PlanError::BadLayout { device: device.to_string(), why: why.into() }
}

impl<'a> Snapshot<'a> {
    /// Understands a snapshot, or says what is wrong with it.
    pub(crate) fn understand(spec: &'a NodeSpec, volumes: &'a [Volume]) -> Result<Self, PlanError> {
        let devices = &spec.layout.devices;
        if devices.len() > DEVICES_MAX {
            return Err(bad("the layout", format!("it has {} devices, more than {DEVICES_MAX}", devices.len())));
        }
        let mut seen: BTreeMap<&DeviceKey, &Device> = BTreeMap::new();
        let (mut disks, mut partitions) = (Vec::new(), Vec::new());
        for device in devices {
            match &device.device {
                DeviceKind::Disk { identity, sector_size_bytes, kernel_name } => {
                    let table = disk_table(device, identity, *sector_size_bytes)?;
                    let (key, sector) = (&device.key, *sector_size_bytes);
                    disks.push(CapturedDisk { key, identity, sector, kernel_name, table });
                }
                DeviceKind::Partition { disk, number } => {
                    // Parents come before children, so that a cycle cannot be written down.
                    let Some(parent) = disks.iter().find(|parent: &&CapturedDisk<'_>| parent.key == disk) else {
                        return Err(bad(&device.key, format!("its disk {disk} is no disk that stands before it")));
                    };
                    partitions.push(partition(device, parent, *number)?);
                }
            }
            if seen.insert(&device.key, device).is_some() {
                return Err(bad(&device.key, "two devices have this key"));
            }
        }
        let mut numbers = BTreeSet::new();
        if let Some(twice) = partitions.iter().find(|p| !numbers.insert((p.disk, p.entry.number))) {
            return Err(bad(
                &twice.device.key,
                format!("two devices are partition {} of {}", twice.entry.number, twice.disk),
            ));
        }
        distinct_guids(&disks)?;
        let snapshot = Self { spec, volumes, disks, partitions };
        snapshot.check_volumes()?;
        snapshot.check_paths()?;
        if snapshot.disks.is_empty() { Err(PlanError::NoDisk) } else { Ok(snapshot) }
    }

    /// The captured disk with this key.
    pub(crate) fn disk(&self, key: &DeviceKey) -> Option<&CapturedDisk<'a>> {
        self.disks.iter().find(|disk| disk.key == key)
    }

    /// The device's entry among the partitions.
    pub(crate) fn partition(&self, key: &DeviceKey) -> Option<&CapturedPartition<'a>> {
        self.partitions.iter().find(|partition| partition.device.key == *key)
    }

    /// The raw volume that begins at byte 0 of a disk: the block with its boot code.
    pub(crate) fn boot_block(&self, disk: &DeviceKey) -> Option<&'a Volume> {
        self.raw_volumes(disk).find(|(_, range)| range.offset_bytes.get() == 0).map(|(volume, _)| volume)
    }

    /// The raw volumes of a device, with their places.
    pub(crate) fn raw_volumes(&self, device: &DeviceKey) -> impl Iterator<Item = (&'a Volume, ByteRange)> {
        let device = device.clone();
        self.volumes.iter().filter(move |volume| volume.device == device).filter_map(|volume| match &volume.volume {
            VolumeKind::Raw { offset_bytes, length_bytes } => {
                Some((volume, ByteRange { offset_bytes: *offset_bytes, length_bytes: *length_bytes }))
            }
            VolumeKind::Files { .. } => None,
        })
    }

    /// The files volume of a device.
    pub(crate) fn files_volume(&self, device: &DeviceKey) -> Option<&'a Volume> {
        self.volumes.iter().find(|v| v.device == *device && matches!(v.volume, VolumeKind::Files { .. }))
    }

    fn check_volumes(&self) -> Result<(), PlanError> {
        let mut names = BTreeSet::new();
        let mut places: BTreeMap<&DeviceKey, Vec<Option<ByteRange>>> = BTreeMap::new();
        for volume in self.volumes {
            let name = format!("volume {}", volume.name);
            if !names.insert(&volume.name) {
                return Err(bad(name, "two volumes have this name"));
            }
            let Some(device) = self.spec.layout.get(&volume.device) else {
                return Err(bad(name, format!("there is no device {}", volume.device)));
            };
            let place = match &volume.volume {
                VolumeKind::Files { content_bytes, .. } => {
                    let Content::Filesystem { filesystem } = &device.content else {
                        return Err(bad(name, format!("{} holds no filesystem", device.key)));
                    };
                    if *content_bytes > filesystem.size_bytes && filesystem.used_bytes > filesystem.size_bytes {
                        return Err(bad(name, format!("it holds more than {} can", device.key)));
                    }
                    None
                }
                VolumeKind::Raw { offset_bytes, length_bytes } => {
                    let range = ByteRange { offset_bytes: *offset_bytes, length_bytes: *length_bytes };
                    self.check_raw(&name, device, range)?;
                    Some(range)
                }
            };
            let others = places.entry(&device.key).or_default();
            let meets = |other: &Option<ByteRange>| match (place, other) {
                (Some(range), Some(other)) => range.overlaps(other),
                _ => true,
            };
            if others.iter().any(meets) {
                return Err(bad(name, format!("another volume holds the same bytes of {}", device.key)));
            }
            others.push(place);
        }
        Ok(())
    }

    /// Raw bytes of a disk lie outside its table and its partitions; its first block alone may be one.
    fn check_raw(&self, name: &str, device: &Device, range: ByteRange) -> Result<(), PlanError> {
        let length = range.length_bytes.get();
        if length == 0 || length > RAW_BYTES_MAX || range.end() > device.size_bytes.get() {
            let end = range.end();
            return Err(bad(name, format!("its {length} bytes up to byte {end} are not in bounds of {}", device.key)));
        }
        if matches!(device.content, Content::Filesystem { .. } | Content::Swap { .. }) {
            return Err(bad(name, format!("{} holds a filesystem or swap, not raw bytes", device.key)));
        }
        let Some(disk) = self.disk(&device.key) else {
            return Ok(());
        };
        let block = disk.sector.get();
        let tables = table_ranges(disk.table, disk.sector, device.size_bytes.get());
        let boot_block = range.offset_bytes.get() == 0 && length <= block;
        let meets_block = range.offset_bytes.get() < block;
        let meets = |other: &ByteRange| range.overlaps(other);
        let mut partitions = self.partitions.iter().filter(|p| p.disk == disk.key).map(|p| p.range);
        if !boot_block && (meets_block || tables.iter().any(meets) || partitions.any(|p| meets(&p))) {
            return Err(bad(name, format!("it overlaps the table or a partition of {}", device.key)));
        }
        Ok(())
    }

    /// Paths that the plan will show or rewrite are absolute and plain.
    fn check_paths(&self) -> Result<(), PlanError> {
        let files = self.spec.fstab.iter().chain(&self.spec.network.files);
        let paths = files
            .map(|file| &file.path)
            .chain(self.spec.mounts.iter().filter(|m| m.device.is_some()).map(|m| &m.target));
        for path in paths {
            let plain = |part: &str| !matches!(part, "" | "." | "..");
            let right = path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain));
            if !right || path.contains('\0') {
                return Err(bad(path.escape_default(), "it is no plain absolute path"));
            }
        }
        for mount in &self.spec.mounts {
            if let Some(key) = &mount.device
                && self.spec.layout.get(key).is_none()
            {
                return Err(bad(
                    format!("mount {}", mount.target.escape_default()),
                    format!("there is no device {key}"),
                ));
            }
        }
        Ok(())
    }
}

/// The places of the primary and the backup table, headers included.
pub(crate) fn table_ranges(table: &Gpt, sector: SectorSize, disk_bytes: u64) -> [ByteRange; 2] {
    let block = sector.get();
    let entries = entry_blocks(table, sector);
    let length = (entries + 1) * block;
    [ByteRange::new(block, length), ByteRange::new(disk_bytes.saturating_sub(length), length)]
}

/// Blocks that the entries of a table take.
pub(crate) fn entry_blocks(table: &Gpt, sector: SectorSize) -> u64 {
    (u64::from(table.entry_count) * u64::from(table.entry_size)).div_ceil(sector.get())
}

/// The table of a captured disk, checked.
fn disk_table<'a>(device: &'a Device, identity: &DiskIdentity, sector: SectorSize) -> Result<&'a Gpt, PlanError> {
    let unsupported = |what: &str| PlanError::Unsupported { device: device.key.clone(), what: what.to_owned() };
    let table = match &device.content {
        Content::Table { table: PartitionTable::Gpt(table) } => table,
        Content::Table { table: PartitionTable::Mbr(_) } => return Err(unsupported("it has an MBR partition table")),
        Content::Filesystem { .. } => return Err(unsupported("a filesystem stands on the whole disk")),
        Content::Swap { .. } => return Err(unsupported("a swap area stands on the whole disk")),
        Content::Unknown | Content::Raw => return Err(unsupported("the disk has no partition table")),
    };
    if identity.size_bytes != device.size_bytes || !device.size_bytes.get().is_multiple_of(sector.get()) {
        let (a, b) = (identity.size_bytes.get(), device.size_bytes.get());
        return Err(bad(&device.key, format!("its size is {a} bytes and {b} bytes, in blocks of {}", sector.get())));
    }
    let wrong = |why: String| Err(bad(&device.key, why));
    if !(1..=GPT_ENTRIES_MAX).contains(&table.entry_count)
        || !(128..=GPT_ENTRY_BYTES_MAX).contains(&table.entry_size)
        || !table.entry_size.is_power_of_two()
    {
        return wrong(format!("its table has {} entries of {} bytes", table.entry_count, table.entry_size));
    }
    let blocks = device.size_bytes.get() / sector.get();
    let entries = entry_blocks(table, sector);
    let (first, last) = (table.first_usable_lba.0, table.last_usable_lba.0);
    // Block 0, header and entries in front; entries and header behind.
    if first < 2 + entries || last < first || last.checked_add(entries + 1).is_none_or(|end| end >= blocks) {
        return wrong(format!("its blocks {first} to {last} cannot be usable on a disk of {blocks}"));
    }
    let mut by_place: Vec<&GptPartition> = table.partitions.iter().collect();
    for entry in &by_place {
        let number = entry.number;
        if !(1..=table.entry_count).contains(&number) {
            return wrong(format!("partition {number} is not among {} entries", table.entry_count));
        }
        if entry.first_lba.0 < first || entry.last_lba.0 > last || entry.first_lba > entry.last_lba {
            let (a, b) = (entry.first_lba.0, entry.last_lba.0);
            return wrong(format!("partition {number}, blocks {a} to {b}, is not within blocks {first} to {last}"));
        }
        if entry.type_guid == Guid::NIL || entry.guid == Guid::NIL {
            return wrong(format!("partition {number} has no type or no GUID"));
        }
        let name = entry.name_utf16le.0.len();
        if !name.is_multiple_of(2) || name > table.entry_size as usize - 56 {
            return wrong(format!("the name of partition {number} has {name} bytes"));
        }
    }
    if table.partitions.windows(2).any(|pair| pair[0].number >= pair[1].number) {
        return wrong("its partitions are not in ascending order of their numbers".to_owned());
    }
    by_place.sort_by_key(|entry| entry.first_lba);
    if let Some(pair) = by_place.windows(2).find(|pair| pair[0].last_lba >= pair[1].first_lba) {
        return wrong(format!("partitions {} and {} overlap", pair[0].number, pair[1].number));
    }
    Ok(table)
}

/// A captured partition, found in its disk's table.
fn partition<'a>(device: &'a Device, disk: &CapturedDisk<'a>, number: u32) -> Result<CapturedPartition<'a>, PlanError> {
    let Some(entry) = disk.table.partitions.iter().find(|entry| entry.number == number) else {
        return Err(bad(&device.key, format!("{} has no partition {number}", disk.key)));
    };
    if matches!(device.content, Content::Table { .. }) {
        let what = "a partition table stands inside the partition".to_owned();
        return Err(PlanError::Unsupported { device: device.key.clone(), what });
    }
    let block = disk.sector.get();
    let range = ByteRange::new(entry.first_lba.0 * block, (entry.last_lba.0 - entry.first_lba.0 + 1) * block);
    if range.length_bytes != device.size_bytes {
        let (a, b) = (device.size_bytes.get(), range.length_bytes.get());
        return Err(bad(&device.key, format!("it has {a} bytes, its table says {b}")));
    }
    Ok(CapturedPartition { device, disk: disk.key, entry, range })
}

/// GUIDs tell the partitions of a disk apart. (Two disks may bear the same ones: one was copied from the other.)
fn distinct_guids(disks: &[CapturedDisk<'_>]) -> Result<(), PlanError> {
    for disk in disks {
        let mut seen = BTreeSet::from([disk.table.disk_guid]);
        for entry in &disk.table.partitions {
            if !seen.insert(entry.guid) {
                return Err(bad(disk.key, format!("the GUID {} is there twice", entry.guid)));
            }
        }
    }
    Ok(())
}
