//! Puts the steps in order: unbootable first, bootable last, and nothing bootable before it was read back.

use node_model::{Bytes, DeviceKey, Filesystem, SectorSize, Swap, Volume, VolumeName};

use crate::boot::is_esp;
use crate::intake::Snapshot;
use crate::keepsake::{KeptLog, with_parents};
use crate::matching::Match;
use crate::mkfs;
use crate::plan::TargetDisk;
use crate::planner::raw_range;
use crate::step::{
    Adaptation, AnnouncedPartition, BootSector, ByteRange, FillMode, LoaderCopy, PlannedEfiEntry, Step, ToolCall,
};

/// How much is cleared where a signature could stand: enough for every superblock that blkid knows and both pairs
/// of ZFS labels.
const WIPE_BYTES: u64 = 1 << 20;

/// A filesystem to be made and filled.
#[derive(Debug, Clone)]
pub(crate) struct FilesystemStep<'a> {
    pub(crate) device: &'a DeviceKey,
    pub(crate) is_esp: bool,
    pub(crate) filesystem: &'a Filesystem,
    pub(crate) commands: Vec<ToolCall>,
    pub(crate) volume: Option<&'a VolumeName>,
    pub(crate) resumed: bool,
    pub(crate) mount_options: String,
    pub(crate) node_path: Option<String>,
}

/// A swap area to be made.
#[derive(Debug, Clone)]
pub(crate) struct SwapStep<'a> {
    pub(crate) device: &'a DeviceKey,
    pub(crate) swap: &'a Swap,
    pub(crate) commands: Vec<ToolCall>,
}

/// Everything the steps are made of.
pub(crate) struct Parts<'a> {
    pub(crate) snapshot: &'a Snapshot<'a>,
    pub(crate) matches: &'a [Match<'a>],
    pub(crate) targets: &'a [TargetDisk],
    pub(crate) filesystems: &'a [FilesystemStep<'a>],
    pub(crate) swaps: &'a [SwapStep<'a>],
    pub(crate) adaptations: &'a [Adaptation],
    pub(crate) loader_copies: &'a [(DeviceKey, Vec<LoaderCopy>)],
    pub(crate) efi_entries: &'a [PlannedEfiEntry],
    pub(crate) log: Option<&'a KeptLog>,
}

/// All steps, in order.
pub(crate) fn assemble(parts: &Parts<'_>) -> Vec<Step> {
    let mut steps: Vec<Step> = parts.matches.iter().map(|found| make_unbootable(parts.snapshot, found)).collect();
    for (found, target) in parts.matches.iter().zip(parts.targets) {
        steps.extend(layout(parts, found, target));
    }
    steps.extend(parts.filesystems.iter().filter(|fs| !fs.is_esp).map(make));
    for swap in parts.swaps {
        let (device, commands, expect) = (swap.device.clone(), swap.commands.clone(), swap.swap.clone());
        steps.push(Step::MakeSwap { device, commands, expect });
    }
    // ESPs come last: until then the firmware finds nothing on them.
    let (esps, others): (Vec<_>, Vec<_>) = parts.filesystems.iter().partition(|fs| fs.is_esp);
    for filesystem in others {
        steps.extend(fill(parts, filesystem));
    }
    for filesystem in esps {
        steps.push(make(filesystem));
        steps.extend(fill(parts, filesystem));
    }
    let raw: Vec<(&Volume, ByteRange)> =
        parts.snapshot.volumes.iter().filter_map(|v| written_raw(parts.snapshot, v)).collect();
    for (volume, range) in &raw {
        let (volume, device, range) = (volume.name.clone(), volume.device.clone(), *range);
        steps.push(Step::WriteRaw { volume, device, range });
    }
    // Last of what is written, so that it tells of everything; before the reading, so that it is read back, too.
    steps.extend(parts.log.iter().flat_map(|log| keep_log(parts, log)));
    for filesystem in parts.filesystems {
        steps.extend(verify(parts, filesystem));
    }
    for (volume, range) in raw {
        let (volume, device) = (volume.name.clone(), volume.device.clone());
        steps.push(Step::VerifyRaw { volume, device, range });
    }
    // The first disk is the one that nodes start from as a rule: it is the last to become bootable.
    steps.extend(parts.targets.iter().rev().map(|target| make_bootable(parts.snapshot, target)));
    if !parts.efi_entries.is_empty() {
        steps.push(Step::RegisterEfiEntries { entries: parts.efi_entries.to_vec() });
    }
    steps
}

/// The first block, and the boot sector of everything that is or will be an ESP.
fn make_unbootable(snapshot: &Snapshot<'_>, found: &Match<'_>) -> Step {
    let (block, disk_bytes) = (found.captured.sector.get(), found.disk.identity.size_bytes.get());
    let fat = found.disk.signatures.iter().filter(|s| s.kind.eq_ignore_ascii_case("vfat"));
    let existing = fat.map(|signature| signature.offset_bytes.get());
    let planned = snapshot.partitions.iter().filter(|p| p.disk == found.captured.key && is_esp(p));
    let mut offsets: Vec<u64> = existing.chain(planned.map(|p| p.range.offset_bytes.get())).collect();
    offsets.retain(|offset| *offset >= block && offset.saturating_add(block) <= disk_bytes);
    offsets.push(0);
    offsets.sort_unstable();
    offsets.dedup();
    let zero = offsets.into_iter().map(|offset| ByteRange::new(offset, block)).collect();
    Step::MakeUnbootable { disk: found.captured.key.clone(), zero }
}

fn layout(parts: &Parts<'_>, found: &Match<'_>, target: &TargetDisk) -> Vec<Step> {
    let disk = target.key.clone();
    let on_disk = || parts.snapshot.partitions.iter().filter(|partition| *partition.disk == disk);
    let mut steps = Vec::new();
    if !target.keeps_table {
        let places = on_disk().map(|partition| partition.range);
        let left = found.disk.signatures.iter().map(|signature| signature.offset_bytes);
        let ranges = wipe_ranges(target, places, left);
        steps.push(Step::WipeSignatures { disk: disk.clone(), ranges });
        let (table, backup_header_lba) = (target.table.clone(), target.backup_header_lba);
        steps.push(Step::WriteGpt { disk: disk.clone(), table, backup_header_lba });
    }
    let announced = on_disk().map(|partition| AnnouncedPartition {
        device: partition.device.key.clone(),
        number: partition.entry.number,
        range: partition.range,
    });
    let mut partitions: Vec<AnnouncedPartition> = announced.collect();
    partitions.sort_by_key(|partition| partition.number);
    steps.push(Step::AnnouncePartitions { disk, partitions });
    steps
}

/// Both ends of the disk, both ends of every new partition, and the beginning of every old one.
fn wipe_ranges(
    target: &TargetDisk,
    places: impl Iterator<Item = ByteRange>,
    left: impl Iterator<Item = Bytes>,
) -> Vec<ByteRange> {
    let size =
        target.identity.size_bytes.get() / block_of(target.sector_size_bytes) * block_of(target.sector_size_bytes);
    let ends = |range: ByteRange| {
        let (offset, length) = (range.offset_bytes.get(), range.length_bytes.get().min(WIPE_BYTES));
        [(offset, offset + length), (range.end() - length, range.end())]
    };
    let mut spans: Vec<(u64, u64)> = places.flat_map(ends).collect();
    spans.extend(left.map(|offset| (offset.get(), offset.get().saturating_add(WIPE_BYTES))));
    spans.extend([(0, WIPE_BYTES), (size.saturating_sub(WIPE_BYTES), size)]);
    let mut spans: Vec<(u64, u64)> = spans.into_iter().map(|(from, to)| (from.min(size), to.min(size))).collect();
    spans.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (from, to) in spans.into_iter().filter(|(from, to)| from < to) {
        match merged.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    merged.into_iter().map(|(from, to)| ByteRange::new(from, to - from)).collect()
}

const fn block_of(sector: SectorSize) -> u64 {
    sector.get()
}

fn make(step: &FilesystemStep<'_>) -> Step {
    let (device, commands, expect) = (step.device.clone(), step.commands.clone(), step.filesystem.clone());
    if step.resumed {
        let checks = mkfs::check_commands(step.filesystem);
        return Step::CheckFilesystem { device, commands: checks, otherwise: commands, expect };
    }
    Step::MakeFilesystem { device, commands, expect }
}

fn mount(step: &FilesystemStep<'_>, read_only: bool) -> Step {
    Step::Mount {
        device: step.device.clone(),
        fstype: step.filesystem.type_name().to_owned(),
        options: step.mount_options.clone(),
        read_only,
        node_path: step.node_path.clone(),
    }
}

/// Mounts a filesystem, writes everything that belongs on it, and unmounts it.
fn fill(parts: &Parts<'_>, step: &FilesystemStep<'_>) -> Vec<Step> {
    let Some(volume) = step.volume.cloned() else {
        return Vec::new();
    };
    let device = step.device.clone();
    let mode = if step.resumed { FillMode::Differential } else { FillMode::Fresh };
    let mut steps = vec![mount(step, false), Step::RestoreFiles { volume, device: device.clone(), mode }];
    let here = parts.adaptations.iter().filter(|adaptation| adaptation.device == device);
    steps.extend(here.cloned().map(Step::Adapt));
    let copies = parts.loader_copies.iter().filter(|(esp, _)| *esp == device);
    steps.extend(
        copies.map(|(_, copies)| Step::EnsureFallbackLoader { device: device.clone(), copies: copies.clone() }),
    );
    steps.push(Step::Unmount { device });
    steps
}

/// Reads a filesystem back after it was unmounted.
fn verify(parts: &Parts<'_>, step: &FilesystemStep<'_>) -> Vec<Step> {
    let Some(volume) = step.volume.cloned() else {
        return Vec::new();
    };
    let device = step.device.clone();
    let adapted = parts.adaptations.iter().filter(|a| a.device == device).map(|a| a.path.clone());
    let copied = parts.loader_copies.iter().filter(|(esp, _)| *esp == device).flat_map(|(_, copies)| copies);
    // A file that is added changes the times of the directory it is added to.
    let with_parents = copied.flat_map(|copy| with_parents(&copy.to));
    let mut except: Vec<String> = adapted.chain(with_parents).collect();
    except.sort_unstable();
    except.dedup();
    let log = parts.log.filter(|log| log.device == device);
    let added = log.map_or_else(Vec::new, KeptLog::added);
    let read_back = Step::VerifyFiles { volume, device: device.clone(), except, added };
    vec![mount(step, true), read_back, Step::Unmount { device }]
}

/// Mounts the filesystem that holds the log once more, when all data is on the disks.
fn keep_log(parts: &Parts<'_>, log: &KeptLog) -> Vec<Step> {
    let Some(filesystem) = parts.filesystems.iter().find(|filesystem| *filesystem.device == log.device) else {
        return Vec::new();
    };
    let KeptLog { device, node_path, path } = log.clone();
    vec![mount(filesystem, false), Step::KeepLog { device: device.clone(), node_path, path }, Step::Unmount { device }]
}

/// A raw volume that is written in the middle of the restore: all but boot blocks.
fn written_raw<'a>(snapshot: &Snapshot<'_>, volume: &'a Volume) -> Option<(&'a Volume, ByteRange)> {
    let range = raw_range(volume)?;
    let is_boot_block = snapshot.disk(&volume.device).is_some() && range.offset_bytes.get() == 0;
    (!is_boot_block).then_some((volume, range))
}

fn make_bootable(snapshot: &Snapshot<'_>, target: &TargetDisk) -> Step {
    let volume = snapshot.boot_block(&target.key);
    let block = target.sector_size_bytes.get();
    let whole = volume.and_then(raw_range).is_some_and(|range| range.length_bytes.get() == block);
    let volume = volume.map(|volume| volume.name.clone());
    let boot_sector = match volume {
        Some(volume) if whole && target.old.size_bytes == target.identity.size_bytes => BootSector::Verbatim { volume },
        volume => {
            let protective_sectors = u32::try_from(target.backup_header_lba.0).unwrap_or(u32::MAX);
            BootSector::Rebuilt { volume, protective_sectors }
        }
    };
    Step::MakeBootable { disk: target.key.clone(), boot_sector }
}
