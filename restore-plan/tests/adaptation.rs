//! Files that are rewritten because the machine differs.

mod common;

use common::*;
use node_model::*;
use restore_plan::{Adaptation, Plan, Policy, Step, check, plan};

fn planned(node: &Node, machine: &Inventory, policy: &Policy) -> Plan {
    let plan = plan(&node.spec, &node.volumes, machine, policy).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(check(&plan, &node.spec, &node.volumes, machine), []);
    plan
}

fn adaptations(plan: &Plan) -> Vec<&Adaptation> {
    plan.steps
        .iter()
        .filter_map(|step| if let Step::Adapt(adaptation) = step { Some(adaptation) } else { None })
        .collect()
}

fn new_text(plan: &Plan, path: &str) -> Option<String> {
    let found = adaptations(plan).into_iter().find(|adaptation| adaptation.node_path == path)?;
    Some(String::from_utf8(found.new_content.0.clone()).unwrap())
}

const FSTAB: &str = "\
# /etc/fstab: by hand
/dev/vda2\t/\text4\terrors=remount-ro 0 1
/dev/disk/by-id/virtio-OLD1-part1 /boot/efi vfat umask=0077 0 1
/dev/disk/by-path/pci-0000:00:05.0 /srv/data xfs defaults 0 2
#/dev/vda9 /old ext4 defaults 0 2
UUID=03030303-0303-0303-0303-030303030303 /again ext4 defaults 0 0
/dev/vdz1 /gone ext4 noauto 0 0
/dev/vda1 /srv/data xfs noauto 0 0
tmpfs /tmp tmpfs defaults 0 0
";

#[test]
fn fstab_names_that_die_with_a_disk_become_uuids() {
    let mut node = uefi_node();
    node.fstab(FSTAB);
    let machine = machine(&node, vec![disk("sda", "NEW1", 4 * GIB), disk("sdb", "OLD2", 8 * GIB)]);
    let plan = planned(&node, &machine, &policy());
    insta::assert_snapshot!(new_text(&plan, "/etc/fstab").unwrap(), @"
    # /etc/fstab: by hand
    UUID=03030303-0303-0303-0303-030303030303	/	ext4	errors=remount-ro 0 1
    UUID=1234-ABCD /boot/efi vfat umask=0077 0 1
    UUID=05050505-0505-0505-0505-050505050505 /srv/data xfs defaults 0 2
    #/dev/vda9 /old ext4 defaults 0 2
    UUID=03030303-0303-0303-0303-030303030303 /again ext4 defaults 0 0
    /dev/vdz1 /gone ext4 noauto 0 0
    /dev/vda1 /srv/data xfs noauto 0 0
    tmpfs /tmp tmpfs defaults 0 0
    ");
    let told: Vec<&str> =
        plan.findings.iter().filter(|f| f.code == "fstab-name").map(|finding| finding.what.as_str()).collect();
    assert_eq!(told.len(), 2, "a device that is unknown, and a line that contradicts what was mounted: {told:?}");
    let [adaptation] = adaptations(&plan)[..] else { panic!("one file") };
    assert_eq!((adaptation.device.as_str(), adaptation.path.as_str()), ("disk0-p2", "etc/fstab"));
    assert_eq!(adaptation.old_blake3.0, blake3::hash(FSTAB.as_bytes()).as_bytes());
}

#[test]
fn on_its_own_disks_a_node_keeps_its_fstab() {
    let mut node = uefi_node();
    node.fstab(FSTAB);
    let machine = machine(&node, vec![disk("sdb", "OLD1", 4 * GIB), disk("sda", "OLD2", 8 * GIB)]);
    assert!(adaptations(&planned(&node, &machine, &policy())).is_empty());
}

#[test]
fn a_new_network_card_is_known_to_every_file_that_named_the_old_one() {
    let mut node = uefi_node();
    let files = [
        (
            "/etc/network/interfaces",
            NetworkBackend::Ifupdown,
            "iface eth0 inet dhcp\n  hwaddress ether 52:54:00:00:00:01\n",
        ),
        ("/etc/netplan/01.yaml", NetworkBackend::Netplan, "match:\n  macaddress: 52:54:00:00:00:01\n"),
        ("/etc/udev/rules.d/70-persistent-net.rules", NetworkBackend::Udev, "ATTR{address}==\"52:54:00:00:00:01\"\n"),
        ("/etc/systemd/network/20-other.network", NetworkBackend::SystemdNetworkd, "[Match]\nName=eth1\n"),
    ];
    for (path, backend, text) in files {
        node.network_file(path, backend, text);
    }
    let mut machine = machine(&node, vec![disk("sda", "OLD1", 4 * GIB), disk("sdb", "OLD2", 8 * GIB)]);
    machine.interfaces = vec![interface("ens1", 0xee, "pci0000:00/0000:00:09.0")];
    let plan = planned(&node, &machine, &policy());
    for (path, _, text) in &files[..3] {
        assert_eq!(new_text(&plan, path).unwrap(), text.replace("52:54:00:00:00:01", "52:54:00:00:00:ee"));
    }
    assert_eq!(adaptations(&plan).len(), 3, "a file that names no card keeps its bytes");
    assert!(plan.findings.iter().any(|finding| finding.code == "interface-moved"));
    let kept = planned(&node, &machine, &Policy { keep_network: true, ..policy() });
    assert!(adaptations(&kept).is_empty(), "an image for another machine");
}

#[test]
fn a_file_that_no_volume_holds_is_told_and_not_planned() {
    let mut node = uefi_node();
    node.spec.mounts.push(Mount {
        device: None,
        source: "srv:/etc".into(),
        target: "/etc/netplan".into(),
        fstype: "nfs".into(),
        options: String::new(),
    });
    node.network_file("/etc/netplan/01.yaml", NetworkBackend::Netplan, "macaddress: 52:54:00:00:00:01\n");
    let mut machine = machine(&node, vec![disk("sda", "OLD1", 4 * GIB), disk("sdb", "OLD2", 8 * GIB)]);
    machine.interfaces[0].permanent_mac = mac(0xee);
    let plan = planned(&node, &machine, &policy());
    assert!(adaptations(&plan).is_empty());
    assert!(plan.findings.iter().any(|finding| finding.code == "file-not-captured"));
}

#[test]
fn a_fallback_loader_is_planned_only_where_there_is_none() {
    let node = uefi_node();
    let machine = machine(&node, vec![disk("sda", "OLD1", 4 * GIB), disk("sdb", "OLD2", 8 * GIB)]);
    let with = |files: &[&str]| {
        let mut policy = policy();
        policy.esp_files.insert("boot-efi".parse().unwrap(), files.iter().map(|file| (*file).to_owned()).collect());
        let plan = planned(&node, &machine, &policy);
        let copies = plan.steps.iter().find_map(|step| match step {
            Step::EnsureFallbackLoader { copies, .. } => Some(copies.clone()),
            _ => None,
        });
        let pairs = copies.unwrap_or_default().into_iter().map(|copy| format!("{} -> {}", copy.from, copy.to));
        (pairs.collect::<Vec<_>>(), plan.findings.iter().any(|finding| finding.code == "no-fallback-loader"))
    };
    assert_eq!(with(&["EFI/Debian/SHIMX64.EFI", "EFI/boot/bootx64.efi"]), (vec![], false));
    let shim = "EFI/debian/shimx64.efi -> EFI/BOOT/BOOTX64.EFI".to_owned();
    let grub = "EFI/debian/grubx64.efi -> EFI/BOOT/grubx64.efi".to_owned();
    assert_eq!(
        with(&["EFI/debian/shimx64.efi", "EFI/debian/grubx64.efi", "EFI/x/grubx64.efi"]),
        (vec![shim, grub], false)
    );
    assert_eq!(with(&["EFI/other/loader.efi"]), (vec![], true));
}

#[test]
fn a_fallback_loader_goes_into_the_directory_that_is_there_however_it_is_spelled() {
    let node = uefi_node();
    let machine = machine(&node, vec![disk("sda", "OLD1", 4 * GIB), disk("sdb", "OLD2", 8 * GIB)]);
    for (files, places) in [
        (&["efi/boot", "efi/debian/shimx64.efi"][..], ["efi", "efi/boot", "efi/boot/BOOTX64.EFI"]),
        (&["EFI/Boot/readme.txt", "EFI/debian/shimx64.efi"], ["EFI", "EFI/Boot", "EFI/Boot/BOOTX64.EFI"]),
        (&["Efi", "Efi/Debian/ShimX64.efi"], ["Efi", "Efi/BOOT", "Efi/BOOT/BOOTX64.EFI"]),
    ] {
        let mut policy = policy();
        policy.esp_files.insert("boot-efi".parse().unwrap(), files.iter().map(|file| (*file).to_owned()).collect());
        let plan = planned(&node, &machine, &policy);
        let copied_to = plan.steps.iter().find_map(|step| match step {
            Step::EnsureFallbackLoader { copies, .. } => Some(copies[0].to.as_str()),
            _ => None,
        });
        assert_eq!(copied_to, Some(places[2]));
        // What is read back afterwards is met under these names, and no other difference is let pass.
        let excepted = plan.steps.iter().find_map(|step| match step {
            Step::VerifyFiles { volume, except, .. } if volume.as_str() == "boot-efi" => Some(except.clone()),
            _ => None,
        });
        assert_eq!(excepted.unwrap(), places);
    }
}
