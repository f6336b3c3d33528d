//! Random nodes on random machines: every plan passes the checker, or there is none and a reason is given.

mod common;

use common::*;
use node_model::*;
use proptest::prelude::*;
use restore_plan::{PlanError, Policy, check, plan};

/// A partition to be: gap before it, size, and what it holds, all in mebibytes and choices.
type Part = (u64, u64, u8);

fn node_of(disks: &[(u64, bool, Vec<Part>)]) -> Node {
    let mut node = Node::new();
    let mut unique = 0x20;
    for (index, (size_mib, large_blocks, parts)) in disks.iter().enumerate() {
        let sector = if *large_blocks { SectorSize::B4096 } else { SectorSize::B512 };
        let key = node.disk(&format!("OLD{index}"), size_mib << 20, sector);
        let per_mib = (1 << 20) / sector.get();
        let mut at = 1;
        for (number, (gap, size, choice)) in (1..).zip(parts) {
            let first = at + gap;
            if first + size + 1 > *size_mib {
                break;
            }
            unique += 1;
            let bytes = size << 20;
            let target = format!("/m{index}-{number}");
            let target: &'static str = Box::leak(target.into_boxed_str());
            let holds = match choice % 6 {
                0 => Holds::Swap(swap(unique, bytes)),
                1 => Holds::Unknown,
                2 if *size >= 34 && !large_blocks => Holds::Files(esp(bytes), target),
                3 if *size >= 400 => Holds::Files(xfs(unique, bytes), target),
                _ => Holds::Files(ext4(unique, bytes, None), target),
            };
            node.part(&key, number, first * per_mib, (first + size) * per_mib - 1, holds);
            at = first + size;
        }
    }
    node.spec.boot.firmware = Firmware::Uefi { secure_boot: false };
    node
}

/// A disk of a machine: serial, size, and which things are wrong with it.
fn disk_of(index: usize, (serial, size_mib, off, flaws): (u8, u64, u64, u16)) -> InventoryDisk {
    let serial = if serial < 3 { format!("OLD{serial}") } else { format!("NEW{index}") };
    let mut disk = disk(&format!("sd{index}"), &serial, (size_mib << 20) - 512 * off);
    let has = |bit: u32| flaws & (1 << bit) != 0 && flaws & 0x8000 != 0;
    disk.removable = has(0);
    disk.read_only = has(1);
    disk.boot_medium = has(2);
    if has(3) {
        disk.held_by.push(HeldBy { device: disk.kernel_name.clone(), reason: "mounted".into() });
    }
    if has(4) {
        disk.identity.serial = None;
    }
    if has(5) {
        disk.identity.transport = Transport::San;
    }
    if flaws & 0x40 != 0 {
        disk.sector_size_bytes = SectorSize::B4096;
        disk.identity.size_bytes = Bytes(disk.identity.size_bytes.get() / 4096 * 4096);
    }
    if flaws & 0x80 != 0 {
        disk.signatures.push(signature(&disk.kernel_name, if has(6) { "LVM2_member" } else { "vfat" }, 3 << 20));
    }
    disk
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn every_plan_passes_the_checker_or_is_refused_with_a_reason(
        disks in prop::collection::vec(
            (prop::sample::select(vec![600u64, 900, 2000]), any::<bool>(),
             prop::collection::vec((0u64..3, 1u64..500, any::<u8>()), 0..5)), 1..4),
        here in prop::collection::vec(
            (0u8..8, prop::sample::select(vec![600u64, 900, 2000]), 0u64..2, any::<u16>()), 0..6),
        named in prop::option::of((0usize..3, 0usize..6)),
    ) {
        let node = node_of(&disks);
        let here: Vec<InventoryDisk> = here.into_iter().enumerate().map(|(index, disk)| disk_of(index, disk)).collect();
        let machine = machine(&node, here);
        let mut policy = policy();
        if let Some((key, index)) = named
            && let Some(id) = machine.disks.get(index).and_then(|disk| disk.identity.stable_ids().pop())
        {
            policy.mapping.insert(DeviceKey::disk(key), id);
        }
        match plan(&node.spec, &node.volumes, &machine, &policy) {
            Ok(plan) => {
                let faults = check(&plan, &node.spec, &node.volumes, &machine);
                prop_assert!(faults.is_empty(), "{:#?}\n{}", faults, plan.render());
                for target in &plan.targets {
                    let disk = machine.disks.iter().find(|disk| disk.identity == target.identity).unwrap();
                    prop_assert!(!disk.boot_medium && !disk.read_only && disk.held_by.is_empty());
                }
                let again = restore_plan::plan(&node.spec, &node.volumes, &machine, &policy).unwrap();
                prop_assert_eq!(again.digest(), plan.digest());
            }
            Err(error) => {
                prop_assert!(!error.to_string().is_empty() && !error.hint().is_empty());
                prop_assert!(!matches!(error, PlanError::BadLayout { .. }), "a good layout: {}", error);
            }
        }
    }

    #[test]
    fn a_node_always_comes_back_to_its_own_disks(
        disks in prop::collection::vec(
            (prop::sample::select(vec![600u64, 900, 2000]), Just(false),
             prop::collection::vec((0u64..3, 17u64..500, any::<u8>()), 0..5)), 1..4),
        rotation in 0usize..3,
    ) {
        let node = node_of(&disks);
        let own = node.spec.layout.disks().enumerate().map(|(index, device)| {
            disk(&format!("sd{index}"), &format!("OLD{index}"), device.size_bytes.get())
        });
        let mut own: Vec<InventoryDisk> = own.collect();
        let by = rotation % own.len();
        own.rotate_left(by);
        let machine = machine(&node, own);
        let plan = plan(&node.spec, &node.volumes, &machine, &Policy { other_machine_allowed: true, ..policy() });
        let plan = plan.map_err(|error| TestCaseError::fail(error.to_string()))?;
        for (index, target) in plan.targets.iter().enumerate() {
            prop_assert_eq!(target.serial(), format!("OLD{index}"));
            prop_assert_eq!(&target.old, &target.identity);
        }
        prop_assert_eq!(check(&plan, &node.spec, &node.volumes, &machine), vec![]);
    }
}
