//! Whether and how this machine will start the node: firmware, boot entries, the fallback path.

use node_model::{DeviceKey, FilesystemDetails, Firmware, Guid, Inventory, Transport};

use crate::finding::Finding;
use crate::intake::{CapturedPartition, Snapshot};
use crate::matching::Match;
use crate::plan::MatchedBy;
use crate::policy::Policy;
use crate::step::{LoaderCopy, PlannedEfiEntry};

/// What the plan does for the boot chain, boot sectors aside.
#[derive(Debug, Default)]
pub(crate) struct BootPlan {
    pub(crate) efi_entries: Vec<PlannedEfiEntry>,
    pub(crate) loader_copies: Vec<(DeviceKey, Vec<LoaderCopy>)>,
    pub(crate) findings: Vec<Finding>,
}

/// Whether a partition is an EFI system partition.
pub(crate) fn is_esp(partition: &CapturedPartition<'_>) -> bool {
    use node_model::Content::Filesystem;
    let is_fat = matches!(&partition.device.content,
        Filesystem { filesystem } if matches!(filesystem.details, FilesystemDetails::Vfat(_)));
    partition.entry.type_guid == Guid::ESP && is_fat
}

/// Decides the boot chain.
pub(crate) fn plan(snapshot: &Snapshot<'_>, matches: &[Match<'_>], inventory: &Inventory, policy: &Policy) -> BootPlan {
    let mut plan = BootPlan::default();
    // Disk images are started elsewhere: what this machine is says nothing about them.
    let is_image = |m: &Match<'_>| matches!(m.disk.identity.transport, Transport::Loop | Transport::File);
    let images = matches.iter().all(is_image);
    if !images {
        plan.findings.extend(firmware_findings(snapshot, inventory));
        if matches!(inventory.firmware, Firmware::Uefi { .. }) {
            plan.efi_entries = efi_entries(snapshot);
        }
    }
    plan.findings.extend(root_by_name(snapshot, matches));
    for esp in snapshot.partitions.iter().filter(|partition| is_esp(partition)) {
        let Some(volume) = snapshot.files_volume(&esp.device.key) else { continue };
        let Some(files) = policy.esp_files.get(&volume.name) else {
            let what = format!("the files of {} are not known here, so no fallback loader is planned", esp.device.key);
            plan.findings.push(Finding::note("fallback-unknown", what));
            continue;
        };
        match loader_copies(snapshot, esp, files) {
            Some(copies) if copies.is_empty() => {}
            Some(copies) => plan.loader_copies.push((esp.device.key.clone(), copies)),
            None => plan.findings.push(Finding::warning(
                "no-fallback-loader",
                format!("{} has no fallback loader, and no boot entry says which loader could be one", esp.device.key),
                "if the firmware does not start the node, choose its loader in the firmware's menu",
            )),
        }
    }
    plan
}

/// Whether this machine's firmware can start what was captured.
fn firmware_findings(snapshot: &Snapshot<'_>, inventory: &Inventory) -> Option<Finding> {
    let captured = snapshot.spec.boot.firmware;
    let has_bios_boot = snapshot.partitions.iter().any(|p| p.entry.type_guid == Guid::BIOS_BOOT);
    let has_boot_code = snapshot.disks.iter().any(|disk| snapshot.boot_block(disk.key).is_some());
    let has_esp = snapshot.partitions.iter().any(|p| is_esp(p) && snapshot.files_volume(&p.device.key).is_some());
    let other = |from: &str, to: &str, possible: bool| {
        let what = format!("the node was started by {from}, this machine starts by {to}");
        Some(if possible {
            let hint = format!("the snapshot has what {to} needs, but whether it is current is not known");
            Finding::warning("other-firmware", what, hint)
        } else {
            let hint = format!("set this machine's firmware to {from}, or use a machine that has it");
            Finding::blocker("other-firmware", format!("{what}, and the snapshot has nothing that {to} starts"), hint)
        })
    };
    match (captured, inventory.firmware) {
        (Firmware::Uefi { .. }, Firmware::Bios) => other("UEFI", "BIOS", has_bios_boot && has_boot_code),
        (Firmware::Bios, Firmware::Uefi { .. }) => other("BIOS", "UEFI", has_esp),
        (Firmware::Bios, Firmware::Bios) if !has_boot_code => Some(Finding::blocker(
            "no-boot-code",
            "the node was started by BIOS, and the snapshot has no boot code",
            "restore another snapshot of this node",
        )),
        (Firmware::Uefi { .. }, Firmware::Uefi { .. }) if !has_esp => Some(Finding::blocker(
            "no-esp",
            "the node was started by UEFI, and the snapshot has no EFI system partition",
            "restore another snapshot of this node",
        )),
        (Firmware::Uefi { secure_boot: false }, Firmware::Uefi { secure_boot: true }) => Some(Finding::warning(
            "secure-boot",
            "this machine enforces Secure Boot, and the captured one did not",
            "if the node does not start, turn Secure Boot off in the firmware",
        )),
        _ => None,
    }
}

/// The captured boot entries whose partition is restored.
fn efi_entries(snapshot: &Snapshot<'_>) -> Vec<PlannedEfiEntry> {
    let entries = snapshot.spec.boot.efi_entries.iter();
    let planned = entries.filter_map(|entry| {
        let esp = snapshot.partitions.iter().find(|p| p.entry.guid == entry.partition_guid)?;
        Some(PlannedEfiEntry {
            disk: esp.disk.clone(),
            partition_number: esp.entry.number,
            first_lba: esp.entry.first_lba,
            length_sectors: esp.entry.last_lba.0 - esp.entry.first_lba.0 + 1,
            partition_guid: esp.entry.guid,
            description: entry.description.clone(),
            loader_path: entry.loader_path.clone(),
            optional_data: entry.optional_data.clone(),
        })
    });
    planned.collect()
}

/// A kernel that looks for its root by a name which another disk will have.
fn root_by_name(snapshot: &Snapshot<'_>, matches: &[Match<'_>]) -> Option<Finding> {
    let cmdline = &snapshot.spec.boot.kernel_cmdline;
    let root = cmdline.split_whitespace().find_map(|word| word.strip_prefix("root=/dev/"))?;
    let stable = root.starts_with("mapper/") || root.starts_with("disk/by-uuid/") || root.starts_with("disk/by-part");
    let replaced = matches.iter().any(|m| m.by != MatchedBy::Identity);
    (replaced && !stable).then(|| {
        Finding::warning(
            "root-by-name",
            format!("the node's kernel looks for its root as /dev/{root}, which may be another disk here"),
            "if it does not find its root, start it with root=UUID=… and run update-grub",
        )
    })
}

/// Where firmware looks on a disk without a boot entry.
const FALLBACK_DIRECTORY: &str = "EFI/BOOT";

/// What firmware tries there.
fn fallback_name(architecture: &str) -> Option<&'static str> {
    match architecture {
        "x86_64" => Some("BOOTX64.EFI"),
        "aarch64" => Some("BOOTAA64.EFI"),
        "riscv64" => Some("BOOTRISCV64.EFI"),
        _ => None,
    }
}

/// `directory` in the spelling that `files` have for as much of it as there is. FAT finds a name in any spelling, and
/// whoever reads the filesystem back meets the one that it was made with.
fn as_spelled(files: &[String], directory: &str) -> String {
    let mut spelled = String::new();
    for (depth, name) in directory.split('/').enumerate() {
        let above = if spelled.is_empty() { String::new() } else { format!("{spelled}/") };
        let beginning = format!("{above}{name}");
        let there = files.iter().find_map(|file| {
            let way = file.split('/').take(depth + 1).collect::<Vec<_>>().join("/");
            way.eq_ignore_ascii_case(&beginning).then_some(way)
        });
        spelled = there.unwrap_or(beginning);
    }
    spelled
}

/// The copies that make a fallback loader out of the first boot entry's; empty if there is one, or if the
/// architecture has none; `None` if there should be one and nothing says which.
fn loader_copies(snapshot: &Snapshot<'_>, esp: &CapturedPartition<'_>, files: &[String]) -> Option<Vec<LoaderCopy>> {
    let find = |path: &str| files.iter().find(|file| file.eq_ignore_ascii_case(path)).cloned();
    let Some(name) = fallback_name(&snapshot.spec.hardware.architecture) else {
        return Some(Vec::new());
    };
    if find(&format!("{FALLBACK_DIRECTORY}/{name}")).is_some() {
        return Some(Vec::new());
    }
    let mut entries = snapshot.spec.boot.efi_entries.iter().filter(|entry| entry.partition_guid == esp.entry.guid);
    let loader =
        entries.find_map(|entry| find(entry.loader_path.trim_start_matches('\\').replace('\\', "/").as_str()))?;
    let (directory, file) = loader.rsplit_once('/')?;
    let fallback = as_spelled(files, FALLBACK_DIRECTORY);
    let mut copies = vec![LoaderCopy { from: loader.clone(), to: format!("{fallback}/{name}") }];
    // The shim starts the loader, and the key manager, that lie beside it.
    if file.to_ascii_lowercase().starts_with("shim") {
        let beside = files.iter().filter_map(|path| {
            let name = path.strip_prefix(directory)?.strip_prefix('/')?;
            let lower = name.to_ascii_lowercase();
            let wanted = lower.ends_with(".efi") && (lower.starts_with("grub") || lower.starts_with("mm"));
            wanted.then(|| LoaderCopy { from: path.clone(), to: format!("{fallback}/{name}") })
        });
        copies.extend(beside.filter(|copy| find(&copy.to).is_none()));
    }
    Some(copies)
}
