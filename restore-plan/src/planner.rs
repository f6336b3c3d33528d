//! Puts a plan together.

use node_model::{Content, Device, Filesystem, FilesystemDetails, Inventory, NodeSpec, Volume, VolumeKind};

use crate::boot::{self, is_esp};
use crate::intake::{CapturedDisk, CapturedPartition, Snapshot};
use crate::keepsake::KeptLog;
use crate::matching::{self, Match};
use crate::mkfs::{self, CannotMake, Place};
use crate::plan::{PLAN_VERSION, Plan, PlannedPartition, PlannedVolume, TargetDisk, VolumeFate};
use crate::policy::Policy;
use crate::step::ByteRange;
use crate::steps::{self, FilesystemStep, SwapStep};
use crate::{Change, Finding, PlanError, adapt, table};

/// Plans the restore of a snapshot onto a machine.
///
/// Deterministic: the same inputs make the same plan. A plan that is returned may still hold findings that forbid
/// carrying it out ([`Plan::blockers`]), so that an operator sees all of them at once.
///
/// # Errors
/// Why no plan can be made; see [`PlanError`] and [`PlanError::hint`].
pub fn plan(spec: &NodeSpec, volumes: &[Volume], inventory: &Inventory, policy: &Policy) -> Result<Plan, PlanError> {
    let snapshot = Snapshot::understand(spec, volumes)?;
    let mut findings = machine_findings(spec, inventory, policy);
    // What cannot be made again is refused before the machine is looked at: it cannot be helped by another disk.
    let made = made_devices(&snapshot, policy, &mut findings)?;
    let matches = matching::choose(&snapshot, inventory, policy)?;
    let targets = matches.iter().map(|found| target(found, policy)).collect::<Result<Vec<_>, _>>()?;
    let adapted = adapt::adapt(&snapshot, &matches, inventory, policy);
    let boot = boot::plan(&snapshot, &matches, inventory, policy);
    let log = KeptLog::of(spec, volumes, &policy.source.snapshot);
    let steps = steps::assemble(&steps::Parts {
        snapshot: &snapshot,
        matches: &matches,
        targets: &targets,
        filesystems: &made.filesystems,
        swaps: &made.swaps,
        adaptations: &adapted.files,
        loader_copies: &boot.loader_copies,
        efi_entries: &boot.efi_entries,
        log: log.as_ref(),
    });
    let mut changes: Vec<Change> = targets.iter().flat_map(disk_changes).collect();
    changes.extend(adapted.changes);
    changes.extend(boot.loader_copies.iter().flat_map(|(device, copies)| {
        copies.iter().map(move |copy| Change {
            what: format!("{device}: {} is copied to {}", copy.from, copy.to),
            reason: "firmware without a boot entry for the node finds it there".to_owned(),
        })
    }));
    match &log {
        Some(log) => changes.push(Change {
            what: format!("{} is added", log.node_path),
            reason: "the node keeps the log of its restore".to_owned(),
        }),
        None => findings.push(Finding::note(
            "log-not-kept",
            "the node keeps no log of this restore: no filesystem that was captured was mounted where /var/log lies",
        )),
    }
    findings.extend(adapted.findings);
    findings.extend(boot.findings);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(Plan {
        version: PLAN_VERSION,
        source: policy.source.clone(),
        untouched: matching::untouched(inventory, &matches, policy),
        targets,
        partitions: snapshot.partitions.iter().map(|partition| planned_partition(&snapshot, partition)).collect(),
        volumes: volumes.iter().map(|volume| planned_volume(volume, &made.filesystems)).collect(),
        steps,
        changes,
        findings,
    })
}

/// Whether this machine is the recorded one, and one that can run the node.
fn machine_findings(spec: &NodeSpec, inventory: &Inventory, policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !spec.identity.is_same_machine(&inventory.identity) {
        let name = spec.identity.hostname.as_deref().unwrap_or(policy.source.node.as_str());
        let serial = inventory.identity.system_serial.as_deref().unwrap_or("without a serial number");
        let what = format!("this machine ({serial}) is not the one that {name} was captured on");
        findings.push(if policy.other_machine_allowed {
            Finding::note("other-machine", what)
        } else {
            let node = &policy.source.node;
            Finding::blocker("other-machine", what, format!("if {node} is to live here, name it: `rerack.node={node}`"))
        });
    }
    let (old, new) = (&spec.hardware.architecture, &inventory.hardware.architecture);
    if old != new {
        let what = format!("the node was captured on {old}, and this machine is {new}");
        findings.push(Finding::blocker("other-architecture", what, format!("use a machine that is {old}")));
    }
    findings
}

/// Filesystems and swap areas, each with the tools that make it.
struct Made<'a> {
    filesystems: Vec<FilesystemStep<'a>>,
    swaps: Vec<SwapStep<'a>>,
}

/// Accounts for every captured partition: it is made again, or somebody said that it may be lost.
fn made_devices<'a>(
    snapshot: &Snapshot<'a>,
    policy: &Policy,
    findings: &mut Vec<Finding>,
) -> Result<Made<'a>, PlanError> {
    let mut made = Made { filesystems: Vec::new(), swaps: Vec::new() };
    for disk in &snapshot.disks {
        findings.extend(undescribed(snapshot, disk));
    }
    for partition in &snapshot.partitions {
        let device = partition.device;
        let place = Place { size: partition.range.length_bytes, first_lba: partition.entry.first_lba.0 };
        let refused = |kind| move |CannotMake(why)| PlanError::CannotMake { device: device.key.clone(), kind, why };
        match &device.content {
            Content::Filesystem { filesystem } => {
                let kind = filesystem.type_name();
                let commands = mkfs::filesystem_commands(filesystem, place).map_err(refused(kind))?;
                let volume = snapshot.files_volume(&device.key);
                if volume.is_none() {
                    findings.push(lost(device, &format!("a filesystem ({kind})"), policy)?);
                }
                let resumed = policy.resume.filesystems.contains(&device.key)
                    && policy.resume.tables.contains(partition.disk)
                    && !is_esp(partition);
                made.filesystems.push(FilesystemStep {
                    device: &device.key,
                    is_esp: is_esp(partition),
                    filesystem,
                    commands,
                    volume: volume.map(|volume| &volume.name),
                    resumed,
                    mount_options: mount_options(snapshot, device, filesystem),
                    node_path: node_path(snapshot, device),
                });
            }
            Content::Swap { swap } => {
                let commands = mkfs::swap_commands(swap, place).map_err(refused("swap area"))?;
                made.swaps.push(SwapStep { device: &device.key, swap, commands });
            }
            Content::Raw if snapshot.raw_volumes(&device.key).next().is_none() => {
                findings.push(lost(device, "raw bytes", policy)?);
            }
            Content::Unknown if snapshot.raw_volumes(&device.key).next().is_none() => {
                findings.push(comes_back_empty(&device.key.to_string()));
            }
            Content::Raw | Content::Unknown | Content::Table { .. } => {}
        }
    }
    Ok(made)
}

/// A device of which nothing was captured, where that is accepted.
fn lost(device: &Device, held: &str, policy: &Policy) -> Result<Finding, PlanError> {
    if !policy.accept_loss.contains(&device.key) {
        return Err(PlanError::NothingCaptured { device: device.key.clone(), held: held.to_owned() });
    }
    let what = format!("{} held {held} and comes back empty, as accepted", device.key);
    Ok(Finding::warning("accepted-loss", what, "restore its content from elsewhere"))
}

fn comes_back_empty(what: &str) -> Finding {
    let what = format!("{what} held nothing that was recognised, and comes back empty");
    Finding::warning("unknown-content", what, "if it held something, restore that from elsewhere")
}

/// Entries of a table that the layout says nothing about.
fn undescribed(snapshot: &Snapshot<'_>, disk: &CapturedDisk<'_>) -> Vec<Finding> {
    let described = |number| snapshot.partitions.iter().any(|p| p.disk == disk.key && p.entry.number == number);
    let entries = disk.table.partitions.iter().filter(|entry| !described(entry.number));
    entries.map(|entry| comes_back_empty(&format!("partition {} of {}", entry.number, disk.key))).collect()
}

/// Where the node mounts a device.
fn node_path(snapshot: &Snapshot<'_>, device: &Device) -> Option<String> {
    let mut mounts = snapshot.spec.mounts.iter();
    mounts.find(|mount| mount.device.as_ref() == Some(&device.key)).map(|mount| mount.target.clone())
}

/// Options to fill a filesystem under. Nothing on it is trusted while it is filled.
fn mount_options(snapshot: &Snapshot<'_>, device: &Device, filesystem: &Filesystem) -> String {
    let mut options = vec!["nosuid", "nodev", "noexec", "noatime"];
    match &filesystem.details {
        FilesystemDetails::Ext(_) => {}
        // The original may be mounted on the same machine when an image is made from it.
        FilesystemDetails::Xfs(_) => options.push("nouuid"),
        FilesystemDetails::Vfat(_) => {
            // Names and modes come back as they were seen, which is a matter of how it was mounted.
            const KEPT: [&str; 6] = ["fmask=", "dmask=", "codepage=", "iocharset=", "shortname=", "utf8"];
            let mount = snapshot.spec.mounts.iter().find(|mount| mount.device.as_ref() == Some(&device.key));
            let captured = mount.map_or("", |mount| mount.options.as_str());
            let plain = |option: &&str| option.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'-'));
            let kept = captured.split(',').filter(|option| KEPT.iter().any(|k| option.starts_with(k)));
            options.extend(kept.filter(plain));
            options.push("quiet");
        }
    }
    options.join(",")
}

fn target(found: &Match<'_>, policy: &Policy) -> Result<TargetDisk, PlanError> {
    let fitted = table::fit(&found.captured, found.disk)?;
    let identity = found.disk.identity.clone();
    let id = identity.stable_ids().into_iter().next().ok_or_else(|| PlanError::NotEligible {
        disk: matching::describe(found.disk),
        reason: "it cannot be told from another disk".to_owned(),
        hint: "use another disk".to_owned(),
        overruled_by: None,
    })?;
    Ok(TargetDisk {
        key: found.captured.key.clone(),
        old: found.captured.identity.clone(),
        identity,
        id,
        kernel_name: found.disk.kernel_name.clone(),
        sector_size_bytes: found.captured.sector,
        matched_by: found.by,
        erased: found.disk.signatures.clone(),
        table: fitted.table,
        backup_header_lba: fitted.backup_header_lba,
        keeps_table: policy.resume.tables.contains(found.captured.key),
    })
}

/// What differs because a disk is another one.
fn disk_changes(target: &TargetDisk) -> Option<Change> {
    let (old, new) = (target.old.size_bytes, target.identity.size_bytes);
    (old != new).then(|| Change {
        what: format!(
            "{}: the table's copy moves to block {}, and blocks up to {} are usable",
            target.key, target.backup_header_lba.0, target.table.last_usable_lba.0
        ),
        reason: format!("the disk has {} bytes instead of {}", new.get(), old.get()),
    })
}

fn planned_partition(snapshot: &Snapshot<'_>, partition: &CapturedPartition<'_>) -> PlannedPartition {
    let CapturedPartition { device, disk, entry, range } = partition;
    let holds = match &device.content {
        Content::Filesystem { filesystem } => {
            let path = node_path(snapshot, device).map_or_else(String::new, |path| format!(" for {path}"));
            format!("{}{path}, UUID {}", filesystem.type_name(), filesystem.uuid)
        }
        Content::Swap { swap } => format!("swap, UUID {}", swap.uuid.as_deref().unwrap_or("none")),
        Content::Raw => "raw bytes".to_owned(),
        Content::Unknown | Content::Table { .. } => "nothing".to_owned(),
    };
    PlannedPartition {
        key: device.key.clone(),
        disk: (*disk).clone(),
        number: entry.number,
        first_lba: entry.first_lba,
        last_lba: entry.last_lba,
        range: *range,
        holds,
    }
}

fn planned_volume(volume: &Volume, filesystems: &[FilesystemStep<'_>]) -> PlannedVolume {
    let file_count = match &volume.volume {
        VolumeKind::Files { file_count, .. } => *file_count,
        VolumeKind::Raw { .. } => 0,
    };
    PlannedVolume {
        volume: volume.name.clone(),
        device: volume.device.clone(),
        fate: VolumeFate::Create,
        resumed: filesystems.iter().any(|step| step.resumed && step.volume == Some(&volume.name)),
        stream_bytes: volume.stream_bytes,
        file_count,
    }
}

/// A volume's place on its device.
pub(crate) fn raw_range(volume: &Volume) -> Option<ByteRange> {
    match &volume.volume {
        VolumeKind::Raw { offset_bytes, length_bytes } => {
            Some(ByteRange { offset_bytes: *offset_bytes, length_bytes: *length_bytes })
        }
        VolumeKind::Files { .. } => None,
    }
}
