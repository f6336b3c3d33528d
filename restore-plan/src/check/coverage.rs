//! Coverage: everything captured comes back, once, as it was, and nothing else is written.

use node_model::{Content, DeviceKey, VolumeKind, VolumeName};

use super::{Case, Faults};
use crate::{BootSector, Step};

pub(super) fn judge(case: &Case<'_>, faults: &mut Faults) {
    judge_devices(case, faults);
    judge_volumes(case, faults);
    for step in &case.plan.steps {
        if let Step::Adapt(adaptation) = step {
            let files = case.spec.fstab.iter().chain(&case.spec.network.files);
            let mut captured = files.filter(|file| file.path == adaptation.node_path);
            let hash = |bytes: &[u8]| blake3::hash(bytes).as_bytes().to_vec();
            let known = captured.any(|file| hash(&file.content.0) == adaptation.old_blake3.0);
            if !known || !adaptation.node_path.ends_with(&format!("/{}", adaptation.path)) {
                faults.add("unknown-file", format!("{} was not captured as the plan says", adaptation.node_path));
            }
            if !is_plain(&adaptation.path) {
                faults.add("unknown-file", format!("{} is no plain path", adaptation.path));
            }
        }
    }
    judge_log(case, faults);
    judge_exceptions(case, faults);
}

fn is_plain(path: &str) -> bool {
    !path.split('/').any(|part| matches!(part, "" | "." | ".."))
}

/// At most one log, where logs are.
fn judge_log(case: &Case<'_>, faults: &mut Faults) {
    let logs = case.plan.steps.iter().filter_map(|step| match step {
        Step::KeepLog { node_path, path, .. } => Some((node_path, path)),
        _ => None,
    });
    for (number, (node_path, path)) in logs.enumerate() {
        let in_place = node_path.starts_with("/var/log/rerack/") && node_path.ends_with(&format!("/{path}"));
        if number > 0 || !in_place || !is_plain(path) {
            faults.add("unknown-file", format!("{node_path} is no place for the log of the restore, or one too many"));
        }
    }
}

/// What is not compared is what the plan itself changes, and the directories on the way there.
fn judge_exceptions(case: &Case<'_>, faults: &mut Faults) {
    let changed = |step: &Step, device: &DeviceKey, path: &str| match step {
        Step::Adapt(adaptation) => adaptation.device == *device && adaptation.path == path,
        Step::EnsureFallbackLoader { device: esp, copies } => {
            *esp == *device && copies.iter().any(|copy| leads_to(path, &copy.to))
        }
        _ => false,
    };
    let new = |step: &Step, on: &DeviceKey, log: &str| matches!(step, Step::KeepLog { device, path, .. } if device == on && leads_to(log, path));
    for step in &case.plan.steps {
        let Step::VerifyFiles { device, except, added, .. } = step else { continue };
        let unfounded = except.iter().find(|path| !case.plan.steps.iter().any(|step| changed(step, device, path)));
        let unfounded =
            unfounded.or_else(|| added.iter().find(|path| !case.plan.steps.iter().any(|step| new(step, device, path))));
        if let Some(path) = unfounded {
            faults.add("unknown-exception", format!("{path} on {device} is not compared, and no step changes it"));
        }
    }
}

/// Whether `path` is `file` or a directory on the way to it.
fn leads_to(path: &str, file: &str) -> bool {
    file.strip_prefix(path).is_some_and(|rest| !path.is_empty() && (rest.is_empty() || rest.starts_with('/')))
}

fn judge_devices(case: &Case<'_>, faults: &mut Faults) {
    for device in &case.spec.layout.devices {
        let key = &device.key;
        if case.plan.place(key).is_none() {
            faults.add("device-missing", format!("{key} was captured and is not in the plan"));
            continue;
        }
        let mut steps = case.plan.steps.iter().filter(|step| step.device() == Some(key));
        let as_captured = match &device.content {
            Content::Filesystem { filesystem } => steps.any(|step| {
                matches!(step, Step::MakeFilesystem { expect, .. } | Step::CheckFilesystem { expect, .. } if expect == filesystem)
            }),
            Content::Swap { swap } => steps.any(|step| matches!(step, Step::MakeSwap { expect, .. } if expect == swap)),
            Content::Unknown | Content::Raw | Content::Table { .. } => {
                let makes = |step: &Step| {
                    matches!(step, Step::MakeFilesystem { .. } | Step::CheckFilesystem { .. } | Step::MakeSwap { .. })
                };
                !steps.any(makes)
            }
        };
        if !as_captured {
            faults.add("made-otherwise", format!("{key} is not made as it was captured"));
        }
    }
    for partition in &case.plan.partitions {
        if case.spec.layout.get(&partition.key).is_none() {
            faults.add("unknown-device", format!("{} was not captured", partition.key));
        }
    }
}

/// How often a plan writes a volume, and to the right place.
fn judge_volumes(case: &Case<'_>, faults: &mut Faults) {
    for volume in case.volumes {
        let name = &volume.name;
        let writes = case.plan.steps.iter().filter(|step| writes(step) == Some(name)).count();
        if writes != 1 {
            faults.add("volume-count", format!("volume {name} is written {writes} times"));
        }
        let mut steps = case.plan.steps.iter().filter(|step| step.device() == Some(&volume.device));
        let right = match &volume.volume {
            VolumeKind::Files { .. } => {
                let read_back = |step: &Step| matches!(step, Step::VerifyFiles { volume, .. } if volume == name);
                let restored = |step: &Step| matches!(step, Step::RestoreFiles { volume, .. } if volume == name);
                steps.clone().any(restored) && steps.any(read_back)
            }
            VolumeKind::Raw { offset_bytes, length_bytes } => {
                let same = |range: &crate::ByteRange| {
                    range.offset_bytes == *offset_bytes && range.length_bytes == *length_bytes
                };
                let read_back = |step: &Step| matches!(step, Step::VerifyRaw { volume, range, .. } if volume == name && same(range));
                let written =
                    |step: &Step| matches!(step, Step::WriteRaw { volume, range, .. } if volume == name && same(range));
                let boot = |step: &Step| boot_block(step) == Some(name) && offset_bytes.get() == 0;
                steps.clone().any(boot) || (steps.clone().any(written) && steps.any(read_back))
            }
        };
        if !right {
            faults.add("volume-misplaced", format!("volume {name} is not written to {} and read back", volume.device));
        }
    }
    let known = |name: &VolumeName| case.volumes.iter().any(|volume| volume.name == *name);
    for name in case.plan.steps.iter().filter_map(writes).filter(|name| !known(name)) {
        faults.add("volume-count", format!("volume {name} is not in the snapshot"));
    }
}

/// The volume that a step writes.
fn writes(step: &Step) -> Option<&VolumeName> {
    match step {
        Step::RestoreFiles { volume, .. } | Step::WriteRaw { volume, .. } => Some(volume),
        step => boot_block(step),
    }
}

fn boot_block(step: &Step) -> Option<&VolumeName> {
    match step {
        Step::MakeBootable { boot_sector: BootSector::Verbatim { volume }, .. } => Some(volume),
        Step::MakeBootable { boot_sector: BootSector::Rebuilt { volume, .. }, .. } => volume.as_ref(),
        _ => None,
    }
}
