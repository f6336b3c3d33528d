//! Plans in text: what an operator reads, and what execution carries out.

mod common;

use common::*;
use node_model::*;
use restore_plan::{Plan, Policy, check, plan};

fn planned(node: &Node, machine: &Inventory, policy: &Policy) -> Plan {
    let plan = plan(&node.spec, &node.volumes, machine, policy).unwrap_or_else(|error| panic!("{error}"));
    let faults = check(&plan, &node.spec, &node.volumes, machine);
    assert!(faults.is_empty(), "the checker objects: {faults:#?}");
    plan
}

#[test]
fn a_bios_node_on_a_larger_disk_with_another_network_card() {
    let node = bios_node();
    let mut machine = machine(&node, vec![disk("sda", "NEW1", 10 * GIB), disk("sr0", "CD", 700 << 20)]);
    machine.disks[0].signatures = vec![signature("sda", "gpt", 0), signature("sda1", "vfat", 1 << 20)];
    machine.disks[1].boot_medium = true;
    machine.interfaces = vec![interface("ens3", 9, "pci0000:00/0000:00:03.0")];
    insta::assert_snapshot!(planned(&node, &machine, &policy()).render());
}

#[test]
fn a_uefi_node_with_two_disks_on_its_own_machine() {
    let node = uefi_node();
    let machine = machine(&node, vec![disk("vdb", "OLD1", 4 * GIB), disk("vda", "OLD2", 8 * GIB)]);
    let mut policy = policy();
    let files = ["EFI/debian/shimx64.efi", "EFI/debian/grubx64.efi", "EFI/debian/grub.cfg", "EFI/debian/mmx64.efi"];
    policy.esp_files.insert("boot-efi".parse().unwrap(), files.map(str::to_owned).to_vec());
    insta::assert_snapshot!(planned(&node, &machine, &policy).render());
}

#[test]
fn a_node_with_large_blocks_keeps_them() {
    let mut node = Node::new();
    let disk_key = node.disk("OLD1", 4 * GIB, SectorSize::B4096);
    let boot = VolumeKind::Raw { offset_bytes: Bytes(0), length_bytes: Bytes(4096) };
    node.volume("boot-code", &disk_key, boot);
    node.part(&disk_key, 1, 256, 512 - 1, Holds::Raw);
    node.part(&disk_key, 2, 512, 262144 - 256 - 1, Holds::Files(ext4(3, (262144 - 768) * 4096, None), "/"));
    let mut target = disk("nvme0n1", "NEW1", 4 * GIB);
    target.sector_size_bytes = SectorSize::B4096;
    let machine = machine(&node, vec![target]);
    insta::assert_snapshot!(planned(&node, &machine, &policy()).render());
}

#[test]
fn an_interrupted_restore_is_planned_again_under_the_same_digest() {
    let node = uefi_node();
    let disks = || vec![disk("sda", "NEW1", 5 * GIB), disk("sdb", "NEW2", 9 * GIB)];
    let mut first_policy = policy();
    let id = |serial: &str| DiskId::Serial(serial.into());
    first_policy.mapping = [(DeviceKey::disk(0), id("NEW1")), (DeviceKey::disk(1), id("NEW2"))].into();
    let first = planned(&node, &machine(&node, disks()), &first_policy);
    // The power failed in the data phase: tables stand, and so do some filesystems, the ESP among them.
    let mut left = disks();
    left[0].signatures = vec![signature("sda", "gpt", 0), signature("sda1", "vfat", 1 << 20)];
    left[1].signatures = vec![signature("sdb", "gpt", 0), signature("sdb1", "xfs", 1 << 20)];
    let mut second_policy = first_policy.clone();
    second_policy.resume.tables = [DeviceKey::disk(0), DeviceKey::disk(1)].into();
    let made = ["disk0-p1", "disk0-p2", "disk1-p1"].map(|key| key.parse().unwrap());
    second_policy.resume.filesystems = made.into();
    let second = planned(&node, &machine(&node, left), &second_policy);
    assert_eq!(second.digest(), first.digest(), "consent given once holds until the restore is done");
    insta::assert_snapshot!(second.render());
}

#[test]
fn the_digest_tells_plans_apart_by_what_they_do() {
    let node = bios_node();
    let plan_for = |disk: InventoryDisk, policy: &Policy| planned(&node, &machine(&node, vec![disk]), policy).digest();
    let blank = plan_for(disk("sda", "NEW1", 10 * GIB), &policy());
    let mut used = disk("sdx", "NEW1", 10 * GIB);
    used.signatures = vec![signature("sdx1", "vfat", 1 << 20), signature("sdx", "gpt", 0)];
    assert_eq!(plan_for(used, &policy()), blank, "not by what lies on the disk or what it is called");
    assert_ne!(plan_for(disk("sda", "NEW2", 10 * GIB), &policy()), blank, "another disk");
    assert_ne!(plan_for(disk("sda", "NEW1", 11 * GIB), &policy()), blank, "another size");
    let mut other = policy();
    other.source.manifest_blake3 = HexBytes(vec![1; 32]);
    assert_ne!(plan_for(disk("sda", "NEW1", 10 * GIB), &other), blank, "another snapshot");
    let mut machine = machine(&node, vec![disk("sda", "NEW1", 10 * GIB)]);
    machine.interfaces[0].permanent_mac = mac(7);
    assert_ne!(planned(&node, &machine, &policy()).digest(), blank, "a file rewritten");
}
