//! The checker judges plans it did not make: each way of spoiling a good plan is found.

mod common;

use common::*;
use node_model::*;
use restore_plan::{BootSector, ByteRange, Plan, Policy, Step, check, plan};

struct Case {
    node: Node,
    machine: Inventory,
    plan: Plan,
}

fn good() -> Case {
    let mut node = uefi_node();
    let disk = DeviceKey::disk(0);
    node.part(&disk, 3, 4095 * MIB, 4095 * MIB + 1023, Holds::Raw);
    node.part(&disk, 4, 4095 * MIB + 1024, 4095 * MIB + 1535, Holds::Swap(swap(9, 1 << 18)));
    node.fstab("/dev/vda2 / ext4 defaults 0 1\n");
    let mut disks = vec![common::disk("sda", "NEW1", 5 * GIB), common::disk("sdb", "OLD2", 8 * GIB)];
    disks.push(common::disk("sdc", "OTHER", GIB));
    disks[0].signatures = vec![signature("sda", "gpt", 0)];
    let machine = machine(&node, disks);
    let plan = plan(&node.spec, &node.volumes, &machine, &policy()).unwrap();
    assert_eq!(check(&plan, &node.spec, &node.volumes, &machine), []);
    Case { node, machine, plan }
}

impl Case {
    fn codes(&self) -> Vec<String> {
        let faults = check(&self.plan, &self.node.spec, &self.node.volumes, &self.machine);
        faults.into_iter().map(|fault| fault.code).collect()
    }

    fn at(&self, is: impl Fn(&Step) -> bool) -> usize {
        self.plan.steps.iter().position(is).expect("the plan has such a step")
    }
}

#[track_caller]
fn spoiled(code: &str, spoil: impl Fn(&mut Case)) {
    let mut case = good();
    spoil(&mut case);
    let codes = case.codes();
    assert!(codes.iter().any(|found| found == code), "{code} is not among {codes:?}");
}

#[test]
fn targets_that_are_not_what_they_were_are_found() {
    spoiled("target-absent", |case| drop(case.machine.disks.remove(0)));
    spoiled("target-absent", |case| case.machine.disks[0].identity.size_bytes = Bytes(6 * GIB));
    spoiled("target-ambiguous", |case| case.machine.disks.push(case.machine.disks[0].clone()));
    spoiled("target-not-eligible", |case| case.machine.disks[0].boot_medium = true);
    spoiled("target-not-eligible", |case| case.machine.disks[0].read_only = true);
    spoiled("target-not-eligible", |case| case.machine.disks[0].removable = true);
    spoiled("target-not-eligible", |case| case.machine.disks[0].identity.transport = Transport::San);
    spoiled("target-not-eligible", |case| {
        case.machine.disks[0].held_by.push(HeldBy { device: "sda1".into(), reason: "swap".into() });
    });
    spoiled("target-not-eligible", |case| case.machine.disks[0].signatures.push(signature("sda2", "xfs", 5)));
    spoiled("target-twice", |case| {
        case.plan.targets[1].identity = case.plan.targets[0].identity.clone();
    });
    spoiled("disk-missing", |case| drop(case.plan.targets.pop()));
    spoiled("not-identified", |case| case.plan.targets[0].id = DiskId::Serial("OTHER".into()));
    spoiled("other-old-disk", |case| case.plan.targets[0].old.size_bytes = Bytes(7));
    spoiled("sector-size", |case| case.plan.targets[0].sector_size_bytes = SectorSize::B4096);
}

#[test]
fn tables_and_places_that_differ_are_found() {
    spoiled("table-changed", |case| case.plan.targets[0].table.disk_guid = guid(0x77));
    spoiled("table-changed", |case| case.plan.targets[0].table.partitions[0].attributes = 4);
    spoiled("overlap", |case| {
        let partitions = &mut case.plan.targets[0].table.partitions;
        partitions[1].first_lba = partitions[0].last_lba;
    });
    spoiled("out-of-bounds", |case| case.plan.targets[0].table.last_usable_lba = Lba(10_485_759));
    spoiled("out-of-bounds", |case| case.plan.targets[0].table.last_usable_lba = Lba(MIB));
    spoiled("backup-misplaced", |case| case.plan.targets[0].backup_header_lba = Lba(8_388_607));
    spoiled("place-differs", |case| case.plan.partitions[0].first_lba = Lba(34));
    spoiled("place-differs", |case| case.plan.partitions[0].range = ByteRange::new(0, 512));
    spoiled("place-differs", |case| case.plan.partitions[0].number = 2);
    spoiled("unknown-disk", |case| case.plan.partitions[0].disk = "disk7".parse().unwrap());
}

#[test]
fn steps_that_write_elsewhere_are_found() {
    spoiled("out-of-bounds", |case| {
        let at = case.at(|step| matches!(step, Step::WriteRaw { .. }));
        if let Step::WriteRaw { range, .. } = &mut case.plan.steps[at] {
            range.offset_bytes = Bytes(512);
        }
    });
    spoiled("overlap", |case| {
        let at = case.at(|step| matches!(step, Step::WriteRaw { .. }));
        if let Step::WriteRaw { device, .. } = &mut case.plan.steps[at] {
            *device = DeviceKey::disk(1);
        }
    });
    spoiled("out-of-bounds", |case| {
        let at = case.at(|step| matches!(step, Step::WipeSignatures { .. }));
        if let Step::WipeSignatures { ranges, .. } = &mut case.plan.steps[at] {
            ranges.push(ByteRange::new(5 * GIB - 512, 1024));
        }
    });
    spoiled("not-aligned", |case| {
        if let Step::MakeUnbootable { zero, .. } = &mut case.plan.steps[0] {
            zero.push(ByteRange::new(4096, 100));
        }
    });
    spoiled("still-bootable", |case| {
        if let Step::MakeUnbootable { zero, .. } = &mut case.plan.steps[0] {
            zero.remove(0);
        }
    });
    spoiled("unknown-device", |case| case.plan.steps.push(Step::Unmount { device: "disk5-p1".parse().unwrap() }));
    spoiled("table-changed", |case| {
        let at = case.at(|step| matches!(step, Step::WriteGpt { .. }));
        if let Step::WriteGpt { table, .. } = &mut case.plan.steps[at] {
            table.partitions.pop();
        }
    });
    spoiled("place-differs", |case| {
        let at = case.at(|step| matches!(step, Step::AnnouncePartitions { .. }));
        if let Step::AnnouncePartitions { partitions, .. } = &mut case.plan.steps[at] {
            partitions[0].range = ByteRange::new(0, 512);
        }
    });
    spoiled("protective-mbr", |case| {
        let at = case.at(|step| matches!(step, Step::MakeBootable { disk, .. } if *disk == DeviceKey::disk(0)));
        if let Step::MakeBootable { boot_sector, .. } = &mut case.plan.steps[at] {
            *boot_sector = BootSector::Verbatim { volume: "disk0-boot-code".parse().unwrap() };
        }
    });
}

/// Whether the step at `at` may stand at `to` instead: where the rules of order leave room.
fn moved(at: usize, to: usize) -> Vec<String> {
    let mut case = good();
    let step = case.plan.steps.remove(at);
    case.plan.steps.insert(to, step);
    case.codes()
}

#[test]
fn first_unbootable_last_bootable_and_nothing_unread() {
    let case = good();
    let last_bootable = case.at(|step| matches!(step, Step::MakeBootable { .. }));
    for at in 0..2 {
        assert!(matches!(case.plan.steps[at], Step::MakeUnbootable { .. }), "both disks first");
        assert!(!moved(at, 4).is_empty(), "a disk is made unbootable only after others were written");
    }
    for to in 0..last_bootable {
        assert!(!moved(last_bootable, to).is_empty(), "bootable already at step {to}");
    }
    for (at, step) in case.plan.steps.iter().enumerate() {
        let mut without = good();
        without.plan.steps.remove(at);
        // What these do depends on the machine, which the checker does not decide about.
        let needed =
            !matches!(step, Step::RegisterEfiEntries { .. } | Step::Adapt(_) | Step::EnsureFallbackLoader { .. });
        assert!(!needed || !without.codes().is_empty(), "nobody misses: {step}");
        let mut twice = good();
        twice.plan.steps.insert(at, step.clone());
        let harmless = matches!(step, Step::RegisterEfiEntries { .. } | Step::Adapt(_));
        assert!(harmless || !twice.codes().is_empty(), "nobody minds twice: {step}");
    }
}

#[test]
fn programs_and_their_arguments_are_looked_at() {
    let with_commands = |change: &dyn Fn(&mut restore_plan::ToolCall)| {
        let mut case = good();
        let at = case.at(|step| matches!(step, Step::MakeFilesystem { .. }));
        if let Step::MakeFilesystem { commands, .. } = &mut case.plan.steps[at] {
            change(&mut commands[0]);
        }
        case.codes()
    };
    assert!(with_commands(&|_| {}).is_empty());
    assert!(!with_commands(&|call| call.program = "sh".into()).is_empty());
    assert!(!with_commands(&|call| call.args.retain(|arg| arg != "{device}")).is_empty());
    assert!(!with_commands(&|call| call.args.push("{device}".into())).is_empty());
    assert!(!with_commands(&|call| call.args.push("--journal={device}".into())).is_empty());
}

#[test]
fn everything_captured_comes_back_as_it_was() {
    spoiled("table-count", |case| case.plan.targets[0].keeps_table = true);
    spoiled("made-otherwise", |case| {
        let at = case.at(|step| matches!(step, Step::MakeFilesystem { .. }));
        if let Step::MakeFilesystem { expect, .. } = &mut case.plan.steps[at] {
            expect.label = Some("other".into());
        }
    });
    spoiled("made-otherwise", |case| {
        let at = case.at(|step| matches!(step, Step::MakeSwap { .. }));
        case.plan.steps.remove(at);
    });
    spoiled("device-missing", |case| drop(case.plan.partitions.pop()));
    spoiled("volume-count", |case| {
        case.node.volumes.retain(|volume| volume.name.as_str() != "root");
    });
    spoiled("volume-misplaced", |case| {
        for step in &mut case.plan.steps {
            if let Step::RestoreFiles { volume, device, .. } = step
                && volume.as_str() == "srv-data"
            {
                *device = "disk0-p2".parse().unwrap();
            }
        }
    });
    spoiled("unknown-file", |case| {
        let at = case.at(|step| matches!(step, Step::Adapt(_)));
        if let Step::Adapt(adaptation) = &mut case.plan.steps[at] {
            adaptation.node_path = "/etc/shadow".into();
        }
    });
    spoiled("unknown-file", |case| {
        let at = case.at(|step| matches!(step, Step::Adapt(_)));
        if let Step::Adapt(adaptation) = &mut case.plan.steps[at] {
            adaptation.old_blake3.0[0] ^= 1;
        }
    });
}

#[test]
fn what_is_not_compared_must_be_what_the_plan_changes() {
    let except = |path: &'static str| {
        move |case: &mut Case| {
            let at = case.at(|step| matches!(step, Step::VerifyFiles { .. }));
            let Step::VerifyFiles { except, .. } = &mut case.plan.steps[at] else { unreachable!() };
            except.push(path.to_owned());
        }
    };
    let added = |path: &'static str| {
        move |case: &mut Case| {
            let at = case.at(|step| matches!(step, Step::VerifyFiles { .. }));
            let Step::VerifyFiles { added, .. } = &mut case.plan.steps[at] else { unreachable!() };
            added.push(path.to_owned());
        }
    };
    spoiled("unknown-exception", except("etc/shadow"));
    spoiled("unknown-exception", except("etc"));
    spoiled("unknown-exception", added("etc/cron.d/new"));
    spoiled("unknown-exception", added("var/log/rerack/other.log"));
    spoiled("unknown-exception", added("va"));
    let kept_as = |place: &'static str| {
        move |case: &mut Case| {
            let at = case.at(|step| matches!(step, Step::KeepLog { .. }));
            let Step::KeepLog { node_path, path, .. } = &mut case.plan.steps[at] else { unreachable!() };
            (*node_path, *path) = (format!("/{place}"), place.to_owned());
        }
    };
    spoiled("unknown-file", kept_as("etc/shadow"));
    spoiled("unknown-file", kept_as("var/log/rerack/../../../etc/shadow"));
    spoiled("wrong-order", |case| {
        let at = case.at(|step| matches!(step, Step::KeepLog { .. }));
        let keep = case.plan.steps.remove(at);
        let last = case.at(|step| matches!(step, Step::VerifyRaw { .. }));
        case.plan.steps.insert(last, keep);
    });
}

#[test]
fn the_checker_needs_no_policy_to_hold_a_plan_to_the_rules() {
    let mut case = good();
    case.machine.disks[0].named_explicitly = false;
    case.machine.disks[0].identity.transport = Transport::Loop;
    case.plan.targets[0].identity.transport = Transport::Loop;
    assert!(case.codes().contains(&"target-not-eligible".to_owned()), "nobody named the loop device");
    let named = Policy { mapping: [(DeviceKey::disk(0), DiskId::Serial("NEW1".into()))].into(), ..policy() };
    let plan = plan(&case.node.spec, &case.node.volumes, &case.machine, &named).unwrap();
    assert_eq!(check(&plan, &case.node.spec, &case.node.volumes, &case.machine), []);
}
