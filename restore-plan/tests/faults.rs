//! What is refused, by the numbers of the fault matrix, and how an operator reads it.

mod common;

use common::*;
use node_model::*;
use restore_plan::{AllowedForeign, MatchedBy, Plan, PlanError, Policy, Severity, Step, check, plan};

fn refused(node: &Node, machine: &Inventory, policy: &Policy) -> PlanError {
    match plan(&node.spec, &node.volumes, machine, policy) {
        Ok(plan) => panic!("this should not be planned:\n{}", plan.render()),
        Err(error) => error,
    }
}

fn planned(node: &Node, machine: &Inventory, policy: &Policy) -> Plan {
    let plan = plan(&node.spec, &node.volumes, machine, policy).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(check(&plan, &node.spec, &node.volumes, machine), []);
    plan
}

/// What an operator reads.
fn shown(error: &PlanError) -> String {
    let overruled = error.overruled_by().map_or_else(String::new, |by| format!("\noverruled by: {by:?}"));
    // It is shown on the boot CD, too, where there is nobody to give options to.
    assert!(!error.hint().contains("--"), "{}", error.hint());
    format!("error: {error}\nhint: {}{overruled}", error.hint())
}

/// The serial numbers of the targets, in the captured disks' order, and why.
fn targets(plan: &Plan) -> Vec<(String, MatchedBy)> {
    plan.targets.iter().map(|target| (target.serial(), target.matched_by)).collect()
}

#[test]
fn fault_39_hostile_layouts_are_refused_in_planning() {
    let machine = |node: &Node| machine(node, vec![disk("sda", "NEW1", 10 * GIB)]);
    let mut told = Vec::new();
    let mut attack = |name: &str, change: &dyn Fn(&mut Node)| {
        let mut node = bios_node();
        change(&mut node);
        told.push(format!("{name}\n  {}", refused(&node, &machine(&node), &policy())));
    };
    let first = DeviceKey::disk(0);
    attack("overlapping partitions", &|node| node.table(&first).partitions[1].last_lba = Lba(5000));
    attack("a partition beyond the disk", &|node| node.table(&first).partitions[0].last_lba = Lba(u64::MAX));
    attack("a partition that ends before it begins", &|node| node.table(&first).partitions[0].last_lba = Lba(1));
    attack("a partition over the table", &|node| node.table(&first).partitions[1].first_lba = Lba(2));
    attack("usable blocks over the table's copy", &|node| node.table(&first).last_usable_lba = Lba(8388607));
    attack("usable blocks up to the end of numbers", &|node| node.table(&first).last_usable_lba = Lba(u64::MAX));
    attack("no usable blocks", &|node| node.table(&first).first_usable_lba = Lba(u64::MAX));
    attack("no entries", &|node| node.table(&first).entry_count = 0);
    attack("entries without end", &|node| node.table(&first).entry_count = u32::MAX);
    attack("entries of an odd size", &|node| node.table(&first).entry_size = 129);
    attack("a partition number without an entry", &|node| node.table(&first).partitions[2].number = 129);
    attack("partition number 0", &|node| node.table(&first).partitions[0].number = 0);
    attack("two entries of one number", &|node| node.table(&first).partitions[1].number = 15);
    attack("two partitions of one GUID", &|node| node.table(&first).partitions[1].guid = guid(0xd0));
    attack("a name longer than its entry", &|node| {
        node.table(&first).partitions[0].name_utf16le = HexBytes(vec![65; 74]);
    });
    attack("a partition on itself", &|node| {
        let device = node.spec.layout.devices.iter_mut().find(|device| device.key.as_str() == "disk0-p1").unwrap();
        device.device = DeviceKind::Partition { disk: device.key.clone(), number: 1 };
    });
    attack("a partition before its disk", &|node| node.spec.layout.devices.rotate_left(1));
    attack("two devices of one name", &|node| {
        let twin = node.spec.layout.devices[0].clone();
        node.spec.layout.devices.push(twin);
    });
    attack("one partition described twice", &|node| {
        let mut twin = node.spec.layout.devices[3].clone();
        twin.key = "twin".parse().unwrap();
        node.spec.layout.devices.push(twin);
    });
    attack("a device of another size than its partition", &|node| {
        node.spec.layout.devices[3].size_bytes = Bytes(1);
    });
    attack("a table without a disk's size", &|node| node.spec.layout.devices[0].size_bytes = Bytes(u64::MAX));
    attack("a volume of no device", &|node| node.volumes[0].device = "disk9".parse().unwrap());
    attack("a volume twice", &|node| node.volumes[1].name = node.volumes[0].name.clone());
    attack("raw bytes over the table", &|node| {
        node.volumes[0].volume = VolumeKind::Raw { offset_bytes: Bytes(0), length_bytes: Bytes(1024) };
    });
    attack("raw bytes beyond the device", &|node| {
        node.volumes[1].volume = VolumeKind::Raw { offset_bytes: Bytes(u64::MAX), length_bytes: Bytes(u64::MAX) };
    });
    attack("files of a swap area", &|node| node.volumes[2].device = "disk0-p15".parse().unwrap());
    attack("a file outside the node", &|node| {
        node.spec.fstab.as_mut().unwrap().path = "/../../etc/fstab".into();
    });
    attack("a mount of no device", &|node| node.spec.mounts[0].device = Some("disk7".parse().unwrap()));
    attack("a UUID that is an option", &|node| filesystem(node, 3).uuid = "--force".into());
    attack("a label that does not fit", &|node| filesystem(node, 3).label = Some("seventeen letters".into()));
    attack("a label with a line feed", &|node| filesystem(node, 3).label = Some("a\nb".into()));
    attack("a label that is the device's word", &|node| filesystem(node, 3).label = Some("{device}".into()));
    attack("a filesystem larger than its partition", &|node| filesystem(node, 3).size_bytes = Bytes(u64::MAX));
    attack("a feature that nobody knows", &|node| ext(node).feature_incompat |= 1 << 30);
    attack("inodes that do not add up", &|node| ext(node).inodes_per_group += 8);
    attack("a group without blocks", &|node| ext(node).blocks_per_group = 0);
    attack("a block of no size", &|node| ext(node).block_size_bytes = 0);
    insta::assert_snapshot!(told.join("\n"));
}

fn filesystem(node: &mut Node, index: usize) -> &mut Filesystem {
    match &mut node.spec.layout.devices[index].content {
        Content::Filesystem { filesystem } => filesystem,
        other => panic!("device {index} holds {other:?}"),
    }
}

fn ext(node: &mut Node) -> &mut ExtDetails {
    match &mut filesystem(node, 3).details {
        FilesystemDetails::Ext(ext) => ext,
        other => panic!("{other:?}"),
    }
}

#[test]
fn fault_39_a_label_that_looks_like_an_option_is_a_label() {
    let mut node = bios_node();
    filesystem(&mut node, 3).label = Some("--force".into());
    let machine = machine(&node, vec![disk("sda", "NEW1", 10 * GIB)]);
    let plan = planned(&node, &machine, &policy());
    let calls = plan.steps.iter().find_map(|step| match step {
        Step::MakeFilesystem { commands, .. } => Some(commands),
        _ => None,
    });
    let args = &calls.unwrap()[0].args;
    let at = args.iter().position(|arg| arg == "--force").unwrap();
    assert_eq!(args[at - 1], "-L", "it stands where mke2fs takes the next word for a label, whatever it is");
}

#[test]
fn fault_41_another_machine_needs_a_named_override() {
    let node = bios_node();
    let mut other = machine(&node, vec![disk("sda", "NEW1", 10 * GIB)]);
    other.identity.system_uuid = Some("99999999-2222-3333-4444-555555555555".into());
    let strict = planned(&node, &other, &policy());
    let blockers: Vec<String> = strict.blockers().map(ToString::to_string).collect();
    insta::assert_snapshot!(blockers.join("\n"));
    let named = planned(&node, &other, &Policy { other_machine_allowed: true, ..policy() });
    assert_eq!(named.blockers().count(), 0);
    assert!(named.findings.iter().any(|finding| finding.code == "other-machine"), "it is still told");
    assert_eq!(strict.digest(), named.digest(), "consent is to what happens, not to who may ask for it");
}

#[test]
fn fault_43_disks_of_one_size_are_matched_by_serial_whatever_their_order() {
    let mut node = Node::new();
    for serial in ["OLD1", "OLD2"] {
        let disk = node.disk(serial, 4 * GIB, SectorSize::B512);
        node.boot_code(&disk);
    }
    for names in [["sda", "sdb"], ["sdb", "sda"]] {
        let mut disks = vec![disk(names[0], "OLD2", 4 * GIB), disk(names[1], "OLD1", 4 * GIB)];
        disks[0].signatures = vec![signature(names[0], "gpt", 0)];
        let plan = planned(&node, &machine(&node, disks), &policy());
        let own = [("OLD1".to_owned(), MatchedBy::Identity), ("OLD2".to_owned(), MatchedBy::Identity)];
        assert_eq!(targets(&plan), own);
    }
    // One was replaced: the other keeps its place, and the new one takes the one that is left.
    let disks = vec![disk("sda", "NEW1", 4 * GIB), disk("sdb", "OLD1", 4 * GIB)];
    let plan = planned(&node, &machine(&node, disks), &policy());
    let own = [("OLD1".to_owned(), MatchedBy::Identity), ("NEW1".to_owned(), MatchedBy::OnlyOne)];
    assert_eq!(targets(&plan), own);
}

#[test]
fn fault_43_doubt_about_disks_of_one_size_stops() {
    let mut node = Node::new();
    for serial in ["OLD1", "OLD2"] {
        let disk = node.disk(serial, 4 * GIB, SectorSize::B512);
        node.boot_code(&disk);
    }
    let blank = |serial: &str| disk("sda", serial, 4 * GIB);
    // As many blank disks as needed are taken in the order of their places.
    let plan = planned(&node, &machine(&node, vec![blank("B"), blank("A")]), &policy());
    assert_eq!(targets(&plan), [("A".to_owned(), MatchedBy::Order), ("B".to_owned(), MatchedBy::Order)]);
    // One more, or something on one of them, and it is doubtful which was meant.
    let three = refused(&node, &machine(&node, vec![blank("B"), blank("A"), blank("C")]), &policy());
    let mut used = vec![blank("B"), blank("A")];
    used[0].signatures = vec![signature("sda1", "ext4", 1 << 20)];
    let used = refused(&node, &machine(&node, used), &policy());
    insta::assert_snapshot!([shown(&three), shown(&used)].join("\n\n"));
    let PlanError::Ambiguous { disks, .. } = three else { panic!("{three}") };
    assert_eq!(disks, ["B", "A", "C"].map(|serial| DiskId::Serial(serial.into())), "who is asked may name any of them");
    let id = |serial: &str| DiskId::Serial(serial.into());
    let mapping = [(DeviceKey::disk(0), id("C")), (DeviceKey::disk(1), id("A"))].into_iter().collect();
    let named = Policy { mapping, ..policy() };
    let plan = planned(&node, &machine(&node, vec![blank("B"), blank("A"), blank("C")]), &named);
    assert_eq!(targets(&plan), [("C".to_owned(), MatchedBy::Named), ("A".to_owned(), MatchedBy::Named)]);
}

#[test]
fn fault_47_a_disk_seen_by_two_paths_is_no_target() {
    let node = bios_node();
    let error =
        refused(&node, &machine(&node, vec![disk("sda", "OLD1", 4 * GIB), disk("sdb", "OLD1", 4 * GIB)]), &policy());
    assert!(matches!(error, PlanError::DuplicateIdentity { .. }), "{error}");
    let error = refused(&node, &machine(&node, vec![disk("sda", "X", 9 * GIB), disk("sdb", "X", 9 * GIB)]), &policy());
    assert!(matches!(error, PlanError::Ambiguous { .. }), "{error}");
    // One path is in use already: that makes the other no better.
    let mut paths = vec![disk("sda", "X", 9 * GIB), disk("sdb", "X", 9 * GIB)];
    paths[0].held_by = vec![HeldBy { device: "sda1".into(), reason: "mounted at /srv".into() }];
    let error = refused(&node, &machine(&node, paths), &policy());
    assert!(matches!(error, PlanError::DuplicateIdentity { .. }), "{error}");
}

#[test]
fn fault_48_foreign_signatures_refuse_until_disk_and_signature_are_named() {
    let node = bios_node();
    let mut target = disk("sda", "NEW1", 10 * GIB);
    target.signatures = vec![signature("sda2", "zfs_member", 1 << 20)];
    let machine = machine(&node, vec![target]);
    insta::assert_snapshot!(shown(&refused(&node, &machine, &policy())));
    let allow = |serial: &str, kind: &str| {
        let allowed = AllowedForeign { disk: DiskId::Serial(serial.into()), kind: kind.into() };
        Policy { foreign_allowed: vec![allowed], ..policy() }
    };
    refused(&node, &machine, &allow("OTHER", "zfs_member"));
    refused(&node, &machine, &allow("NEW1", "VMFS"));
    let plan = planned(&node, &machine, &allow("NEW1", "zfs_member"));
    assert_eq!(plan.targets[0].erased.len(), 1);
}

#[test]
fn fault_49_block_size_size_and_identity_are_judged_before_writing() {
    let node = bios_node();
    let with = |change: &dyn Fn(&mut InventoryDisk)| {
        let mut disk = disk("sda", "NEW1", 4 * GIB);
        change(&mut disk);
        shown(&refused(&node, &machine(&node, vec![disk]), &policy()))
    };
    let mut told = vec![
        with(&|disk| disk.sector_size_bytes = SectorSize::B4096),
        with(&|disk| disk.identity.size_bytes = Bytes(2 * GIB)),
        with(&|disk| disk.identity.serial = None),
    ];
    // A disk that is the captured one by its serial number is never passed over for another.
    let mut busy = disk("sda", "OLD1", 4 * GIB);
    busy.held_by = vec![HeldBy { device: "sda2".into(), reason: "swap".into() }];
    told.push(shown(&refused(&node, &machine(&node, vec![busy, disk("sdb", "NEW1", 4 * GIB)]), &policy())));
    told.push(shown(&refused(&node, &machine(&node, vec![]), &policy())));
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn fault_49_one_block_less_is_replanned_while_every_partition_keeps_its_place() {
    let node = bios_node();
    let plan = planned(&node, &machine(&node, vec![disk("sda", "NEW1", 4 * GIB - 512)]), &policy());
    assert_eq!(plan.targets[0].table.last_usable_lba, Lba(8388608 - 1 - 34));
    let mut full = bios_node();
    let last = full.table(&DeviceKey::disk(0)).last_usable_lba;
    full.part(&DeviceKey::disk(0), 16, 4095 * MIB, last.0, Holds::Unknown);
    let error = refused(&full, &machine(&full, vec![disk("sda", "NEW1", 4 * GIB - 512)]), &policy());
    insta::assert_snapshot!(shown(&error));
}

#[test]
fn fault_50_other_firmware_is_decided_before_anything_is_erased() {
    let bios = bios_node();
    let mut on_uefi = machine(&bios, vec![disk("sda", "NEW1", 10 * GIB)]);
    on_uefi.firmware = Firmware::Uefi { secure_boot: false };
    let uefi = uefi_node();
    let mut on_bios = machine(&uefi, vec![disk("sda", "OLD1", 4 * GIB), disk("sdb", "OLD2", 8 * GIB)]);
    on_bios.firmware = Firmware::Bios;
    let mut told = Vec::new();
    for (node, machine) in [(&bios, &mut on_uefi), (&uefi, &mut on_bios)] {
        let plan = planned(node, machine, &policy());
        told.extend(plan.blockers().map(ToString::to_string));
        assert!(!plan.steps.iter().any(|step| matches!(step, Step::RegisterEfiEntries { .. })));
        // An image will be started elsewhere.
        for disk in &mut machine.disks {
            disk.identity.transport = Transport::File;
            disk.named_explicitly = true;
        }
        assert_eq!(planned(node, machine, &policy()).blockers().count(), 0);
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn what_must_not_be_erased_is_not_a_candidate() {
    let node = bios_node();
    type Change = fn(&mut InventoryDisk);
    let changes: [(&str, Change); 7] = [
        ("boot medium", |disk| disk.boot_medium = true),
        ("read-only", |disk| disk.read_only = true),
        ("removable", |disk| disk.removable = true),
        ("usb", |disk| disk.identity.transport = Transport::Usb),
        ("san", |disk| disk.identity.transport = Transport::San),
        ("loop", |disk| disk.identity.transport = Transport::Loop),
        ("file", |disk| disk.identity.transport = Transport::File),
    ];
    let disks = changes.map(|(name, change)| {
        let mut disk = disk(name, name, 10 * GIB);
        change(&mut disk);
        disk
    });
    let error = refused(&node, &machine(&node, disks.to_vec()), &policy());
    insta::assert_snapshot!(shown(&error));
    // Naming one helps only where the person may know better.
    for disk in &disks {
        let id = DiskId::Serial(disk.kernel_name.clone());
        let named = Policy { mapping: [(DeviceKey::disk(0), id)].into_iter().collect(), ..policy() };
        let machine = machine(&node, disks.to_vec());
        match disk.kernel_name.as_str() {
            "boot medium" | "read-only" | "san" => drop(refused(&node, &machine, &named)),
            _ => drop(planned(&node, &machine, &named)),
        }
    }
}

#[test]
fn mappings_that_make_no_sense_are_refused() {
    let node = uefi_node();
    let machine = machine(&node, vec![disk("sda", "A", 10 * GIB), disk("sdb", "B", 10 * GIB)]);
    let with = |pairs: &[(&str, &str)]| {
        let pair = |(key, serial): &(&str, &str)| (key.parse().unwrap(), DiskId::Serial((*serial).into()));
        shown(&refused(&node, &machine, &Policy { mapping: pairs.iter().map(pair).collect(), ..policy() }))
    };
    let told = [with(&[("disk9", "A")]), with(&[("disk0", "Z")]), with(&[("disk0", "A"), ("disk1", "A")])];
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn a_device_of_which_nothing_was_captured_is_lost_only_on_purpose() {
    let mut node = uefi_node();
    node.volumes.retain(|volume| volume.name.as_str() != "srv-data");
    let machine = machine(&node, vec![disk("sda", "OLD1", 4 * GIB), disk("sdb", "OLD2", 8 * GIB)]);
    insta::assert_snapshot!(shown(&refused(&node, &machine, &policy())));
    let accept_loss = ["disk1-p1".parse().unwrap()].into_iter().collect();
    let plan = planned(&node, &machine, &Policy { accept_loss, ..policy() });
    assert!(plan.findings.iter().any(|f| f.code == "accepted-loss" && f.severity == Severity::Warning));
}

#[test]
fn what_this_version_cannot_restore_is_said_before_the_machine_is_looked_at() {
    let none = |node: &Node| machine(node, vec![]);
    let mut whole = Node::new();
    let key = whole.disk("OLD1", 4 * GIB, SectorSize::B512);
    whole.spec.layout.devices[0].content = Content::Filesystem { filesystem: ext4(1, 4 * GIB, None) };
    let mut mbr = Node::new();
    mbr.disk("OLD1", 4 * GIB, SectorSize::B512);
    let table = PartitionTable::Mbr(Mbr { disk_signature: 1, partitions: vec![] });
    mbr.spec.layout.devices[0].content = Content::Table { table };
    let told = [&whole, &mbr, &Node::new()].map(|node| shown(&refused(node, &none(node), &policy())));
    assert_eq!(key, DeviceKey::disk(0));
    insta::assert_snapshot!(told.join("\n\n"));
}
