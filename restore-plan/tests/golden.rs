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
