//! Order: each disk is made unbootable before anything else and bootable after everything else, and nothing is
//! used before it is ready.

use std::collections::{BTreeMap, BTreeSet};

use node_model::{DeviceKey, VolumeName};

use super::{Case, Faults};
use crate::{Plan, Step, ToolCall};

/// Programs that a plan may start.
const PROGRAMS: [&str; 8] = ["mke2fs", "tune2fs", "e2fsck", "mkfs.xfs", "xfs_db", "mkfs.fat", "fsck.fat", "mkswap"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum DiskState {
    Untouched,
    Unbootable,
    Announced,
    Bootable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mounted {
    ForWriting,
    ForReading,
}

/// What has happened up to a step.
struct Progress<'a> {
    plan: &'a Plan,
    disks: BTreeMap<&'a DeviceKey, DiskState>,
    made: BTreeSet<&'a DeviceKey>,
    mounted: BTreeMap<&'a DeviceKey, Mounted>,
    filled: BTreeSet<&'a VolumeName>,
    verified: BTreeSet<&'a VolumeName>,
}

pub(super) fn judge(case: &Case<'_>, faults: &mut Faults) {
    let plan = case.plan;
    let mut progress = Progress {
        plan,
        disks: plan.targets.iter().map(|target| (&target.key, DiskState::Untouched)).collect(),
        made: BTreeSet::new(),
        mounted: BTreeMap::new(),
        filled: BTreeSet::new(),
        verified: BTreeSet::new(),
    };
    for step in &plan.steps {
        progress.disk_order(step, faults);
        progress.device_order(step, faults);
    }
    for (disk, state) in &progress.disks {
        if *state != DiskState::Bootable {
            faults.add("never-bootable", format!("{disk} is never made bootable"));
        }
    }
    for device in progress.mounted.keys() {
        faults.add("left-mounted", format!("{device} is still mounted in the end"));
    }
}

impl<'a> Progress<'a> {
    /// The state of the disk that a step touches.
    fn disk_order(&mut self, step: &'a Step, faults: &mut Faults) {
        if matches!(step, Step::RegisterEfiEntries { .. }) {
            if self.disks.values().any(|state| *state != DiskState::Bootable) {
                faults.add("too-early", "the firmware is told of the node before its disks are bootable");
            }
            return;
        }
        let Some(disk) = step.device().and_then(|device| self.plan.place(device)).map(|(target, _)| &target.key) else {
            return;
        };
        // As long as one disk could still start something, no disk is written to.
        let others_touched = self.disks.values().any(|state| *state == DiskState::Untouched);
        let all_verified = self.filled == self.verified && self.mounted.is_empty();
        let Some(state) = self.disks.get_mut(disk) else { return };
        let wanted = match step {
            Step::MakeUnbootable { .. } => DiskState::Untouched,
            Step::WipeSignatures { .. } | Step::WriteGpt { .. } | Step::AnnouncePartitions { .. } => {
                DiskState::Unbootable
            }
            _ => DiskState::Announced,
        };
        if *state != wanted {
            faults.add("wrong-order", format!("{disk} is {state:?} where it should be {wanted:?}: {step}"));
        }
        match step {
            Step::MakeUnbootable { .. } => *state = DiskState::Unbootable,
            Step::AnnouncePartitions { .. } => *state = DiskState::Announced,
            Step::MakeBootable { .. } => {
                *state = DiskState::Bootable;
                if !all_verified {
                    faults.add("not-verified", format!("{disk} becomes bootable before everything was read back"));
                }
            }
            _ => {}
        }
        if others_touched && !matches!(step, Step::MakeUnbootable { .. }) {
            faults.add("wrong-order", format!("a disk is still bootable while others are written: {step}"));
        }
    }

    /// The state of the filesystem or volume that a step touches.
    fn device_order(&mut self, step: &'a Step, faults: &mut Faults) {
        let mut wrong = |what: &str| faults.add("wrong-order", format!("{what}: {step}"));
        match step {
            Step::MakeFilesystem { device, commands, .. } | Step::MakeSwap { device, commands, .. } => {
                if commands.is_empty() || !commands.iter().all(is_known) {
                    wrong("a program is unknown, or its device is not named once");
                }
                if !self.made.insert(device) {
                    wrong("it is made twice");
                }
            }
            Step::CheckFilesystem { device, commands, otherwise, .. } => {
                if otherwise.is_empty() || !commands.iter().chain(otherwise).all(is_known) {
                    wrong("a program is unknown, or its device is not named once");
                }
                if !self.made.insert(device) {
                    wrong("it is made twice");
                }
            }
            Step::Mount { device, read_only, .. } => {
                let how = if *read_only { Mounted::ForReading } else { Mounted::ForWriting };
                if !self.made.contains(device) {
                    wrong("it is mounted before it is made");
                }
                if self.mounted.insert(device, how).is_some() {
                    wrong("it is mounted twice");
                }
            }
            Step::Unmount { device } => {
                if self.mounted.remove(device).is_none() {
                    wrong("it is not mounted");
                }
            }
            Step::RestoreFiles { device, volume, .. } => {
                if self.mounted.get(device) != Some(&Mounted::ForWriting) {
                    wrong("it is not mounted for writing");
                }
                if !self.filled.insert(volume) {
                    wrong("it is restored twice");
                }
            }
            Step::Adapt(adaptation) => {
                if self.mounted.get(&adaptation.device) != Some(&Mounted::ForWriting) {
                    wrong("it is not mounted for writing");
                }
            }
            Step::KeepLog { device, .. } => {
                if self.mounted.get(device) != Some(&Mounted::ForWriting) {
                    wrong("it is not mounted for writing");
                }
                let mut volumes = self.plan.volumes.iter().filter(|volume| volume.device == *device);
                if !volumes.any(|volume| self.filled.contains(&volume.volume)) {
                    wrong("its filesystem is not restored yet");
                }
                if !self.verified.is_empty() {
                    wrong("it is written after something was read back");
                }
            }
            Step::EnsureFallbackLoader { device, .. } => {
                if self.mounted.get(device) != Some(&Mounted::ForWriting) {
                    wrong("it is not mounted for writing");
                }
            }
            Step::VerifyFiles { device, volume, .. } => {
                if self.mounted.get(device) != Some(&Mounted::ForReading) {
                    wrong("it is not mounted for reading only");
                }
                if !self.filled.contains(volume) || !self.verified.insert(volume) {
                    wrong("it is read back before it is restored, or twice");
                }
            }
            Step::WriteRaw { device, volume, .. } => {
                if self.made.contains(device) || !self.filled.insert(volume) {
                    wrong("it is written twice, or over a filesystem");
                }
            }
            Step::VerifyRaw { volume, .. } => {
                if !self.filled.contains(volume) || !self.verified.insert(volume) {
                    wrong("it is read back before it is written, or twice");
                }
            }
            Step::MakeUnbootable { .. }
            | Step::WipeSignatures { .. }
            | Step::WriteGpt { .. }
            | Step::AnnouncePartitions { .. }
            | Step::MakeBootable { .. }
            | Step::RegisterEfiEntries { .. } => {}
        }
    }
}

fn is_known(call: &ToolCall) -> bool {
    let devices = call.args.iter().filter(|arg| arg.contains(crate::DEVICE_WORD)).count();
    let whole = call.args.iter().any(|arg| arg == crate::DEVICE_WORD);
    PROGRAMS.contains(&call.program.as_str()) && devices == 1 && whole
}
