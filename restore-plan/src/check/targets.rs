//! Targets: each is one disk of this machine, identified and fit to be erased.

use node_model::{DeviceKind, InventoryDisk, Transport};

use super::{Case, Faults};
use crate::MatchedBy;

pub(super) fn judge(case: &Case<'_>, faults: &mut Faults) {
    let targets = &case.plan.targets;
    if targets.is_empty() {
        faults.add("no-target", "the plan has no target");
    }
    for (index, target) in targets.iter().enumerate() {
        let key = &target.key;
        if targets[..index].iter().any(|other| other.key == *key || other.identity.is_same_disk(&target.identity)) {
            faults.add("target-twice", format!("{key} or its disk is a target twice"));
        }
        match case.spec.layout.get(key).map(|device| &device.device) {
            Some(DeviceKind::Disk { identity, sector_size_bytes, .. }) => {
                if *identity != target.old {
                    faults.add("other-old-disk", format!("{key} is not the captured disk of this name"));
                }
                if *sector_size_bytes != target.sector_size_bytes {
                    faults.add("sector-size", format!("{key} had blocks of {} bytes", sector_size_bytes.get()));
                }
            }
            _ => faults.add("unknown-disk", format!("{key} is no captured disk")),
        }
        let ids = target.identity.stable_ids();
        if ids.is_empty() || !ids.contains(&target.id) {
            faults.add("not-identified", format!("the target of {key} is not identified by {}", target.id));
        }
        let disks = case.inventory.disks.iter();
        let here: Vec<&InventoryDisk> = disks.filter(|disk| disk.identity.is_same_disk(&target.identity)).collect();
        match here[..] {
            [disk] => judge_disk(key.as_str(), target.matched_by, disk, target, faults),
            [] => faults.add("target-absent", format!("the target of {key} is not in this machine")),
            _ => faults.add("target-ambiguous", format!("several disks of this machine could be the target of {key}")),
        }
    }
    let captured = case.spec.layout.disks().count();
    if captured != targets.len() {
        faults.add("disk-missing", format!("{captured} disks were captured, and {} have a target", targets.len()));
    }
}

fn judge_disk(key: &str, by: MatchedBy, disk: &InventoryDisk, target: &crate::TargetDisk, faults: &mut Faults) {
    let named = by == MatchedBy::Named || disk.named_explicitly;
    let by_name_only = matches!(disk.identity.transport, Transport::Loop | Transport::File | Transport::Usb);
    let reasons = [
        (disk.boot_medium, "this machine was started from it"),
        (disk.read_only, "it refuses writes"),
        (!disk.held_by.is_empty(), "it is in use"),
        (disk.identity.transport == Transport::San, "it is shared over a network"),
        ((disk.removable || by_name_only) && !named, "nobody named it"),
        (disk.sector_size_bytes != target.sector_size_bytes, "its blocks have another size"),
        (disk.signatures != target.erased, "the plan does not tell what lies on it"),
    ];
    for (_, reason) in reasons.iter().filter(|(wrong, _)| *wrong) {
        faults.add("target-not-eligible", format!("the target of {key} must not be erased: {reason}"));
    }
}
