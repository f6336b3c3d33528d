//! Nodes of several shapes onto named targets, a repository without a server, and what programs read. Needs root.

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use node_model::{Bytes, DiskIdentity, Inventory, InventoryDisk, SectorSize, Transport};
use serde_json::Value;

use support::{Attached, Bench, Ended, MountedHere, NODE, Parts, can_run, read_at, sfdisk, tool, write_at};

fn json(ended: Ended) -> Value {
    serde_json::from_str(&ended.with_code(0)).unwrap()
}

/// Captures these images into the repository's directory, without a server.
fn capture(bench: &Bench, images: &[(&str, u32)]) -> Value {
    if !bench.path("node.json").exists() {
        // The first start of a server makes the repository.
        let server = support::Served::start(bench);
        bench.rerack(&["node", "add", NODE, "--url", &server.url, "-o", "node.json"]).with_code(0);
    }
    let disks: Vec<Attached> =
        images.iter().map(|(image, sector_size)| Attached::new(&bench.path(image), *sector_size)).collect();
    let mut arguments = vec!["capture", "--node-file", "node.json", "--dir", "repo", "--json"];
    for disk in &disks {
        arguments.extend(["--disk", &disk.device]);
    }
    json(bench.rerack(&arguments))
}

/// An image with one ext4 filesystem at 1 MiB, which holds the given file.
fn one_filesystem(bench: &Bench, image: &str, sector_size: u32, mebibytes: u64, (path, content): (&str, &[u8])) {
    bench.blank_image(image, mebibytes);
    let first = (1 << 20) / sector_size;
    let script = format!(
        "label: gpt\nsector-size: {sector_size}\n\
         1: start={first}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name=\"{image}\"\n"
    );
    // sfdisk takes the sector size from the device.
    let bare = tool("losetup", &["--find", "--show", "-b", &sector_size.to_string(), &bench.text_path(image)]);
    sfdisk(Path::new(bare.trim()), &script);
    tool("losetup", &["--detach", bare.trim()]);
    let disk = Attached::new(&bench.path(image), sector_size);
    tool("mkfs.ext4", &["-q", &disk.partition(1)]);
    bench.mounted(&disk.partition(1), "rw", |at| {
        fs::create_dir_all(at.join(path).parent().unwrap()).unwrap();
        fs::write(at.join(path), content).unwrap();
    });
}

fn digest(plan: &Value) -> String {
    let plan: restore_plan::Plan = serde_json::from_value(plan.clone()).unwrap();
    plan.digest()
}

#[test]
fn a_disk_with_blocks_of_4096_bytes_comes_back_on_another_one() {
    if !can_run() {
        return;
    }
    let bench = Bench::new();
    one_filesystem(&bench, "node.img", 4096, 64, ("etc/hostname", b"web-03\n"));
    capture(&bench, &[("node.img", 4096)]);
    bench.blank_image("new.img", 96);
    let target = ["--target", "new.img", "--sector-size", "4096"];
    let plan = json(bench.rerack(&[&["plan", NODE, "--json"], &target[..]].concat()));
    let confirm = digest(&plan);
    bench.rerack(&[&["restore", NODE, "--confirm", &confirm], &target[..]].concat()).with_code(0);
    bench.rerack(&["compare", NODE, "--image", "new.img"]).with_code(0);
    assert_eq!(&read_at(&bench.path("new.img"), 4096, 8), b"EFI PART", "the header is in the second block");
    let (old, new) = (Attached::new(&bench.path("node.img"), 4096), Attached::new(&bench.path("new.img"), 4096));
    tool("sfdisk", &["--verify", &new.device]);
    let ids = |disk: &Attached| tool("sfdisk", &["--part-uuid", &disk.device, "1"]);
    assert_eq!(ids(&old), ids(&new));
}

#[test]
fn two_disks_take_the_places_that_a_person_gives_them() {
    if !can_run() {
        return;
    }
    let bench = Bench::new();
    one_filesystem(&bench, "a.img", 512, 64, ("etc/hostname", b"web-03\n"));
    one_filesystem(&bench, "b.img", 512, 64, ("records", &linux_io::fs::awkward::noise(5, 2 << 20)));
    capture(&bench, &[("a.img", 512), ("b.img", 512)]);
    for image in ["new-a.img", "new-b.img"] {
        bench.blank_image(image, 64);
    }
    let targets = ["--target", "new-a.img", "--target", "new-b.img"];
    let complaint = bench.rerack(&[&["plan", NODE], &targets[..]].concat()).complaint(1);
    assert!(complaint.contains("hint: say which one with `--map disk0=PATH`"), "{complaint}");

    let twice = ["--map", "disk0=new-a.img", "--map", "disk1=new-a.img"];
    let complaint = bench.rerack(&[&["plan", NODE], &targets[..], &twice].concat()).complaint(1);
    assert!(complaint.contains("would take the place of both disk0 and disk1"), "{complaint}");

    // The second target for the first disk: only the map decides.
    let mapped = [&targets[..], &["--map", "disk0=new-b.img", "--map", "disk1=new-a.img"]].concat();
    let confirm = digest(&json(bench.rerack(&[&["plan", NODE, "--json"], &mapped[..]].concat())));
    bench.rerack(&[&["restore", NODE, "--confirm", &confirm], &mapped[..]].concat()).with_code(0);
    for (disk, old, new) in [("disk0", "a.img", "new-b.img"), ("disk1", "b.img", "new-a.img")] {
        bench.rerack(&["compare", NODE, "--image", new, "--disk", disk]).with_code(0);
        let name = |image: &str| tool("sfdisk", &["--part-label", &bench.text_path(image), "1"]);
        assert_eq!((name(old), name(new)), (format!("{old}\n"), format!("{old}\n")));
    }
    let attached = tool("losetup", &["--list", "--noheadings", "--output", "BACK-FILE"]);
    assert!(!attached.contains(bench.directory.path().to_str().unwrap()), "nothing stays attached: {attached}");
}

#[test]
fn a_node_is_captured_beside_a_mounted_copy_of_it() {
    if !can_run() {
        return;
    }
    let bench = Bench::new();
    bench.build_node(Parts::RootAndXfs);
    // A name of its own, so that no other test is in the way.
    let node = Attached::new(&bench.path("node.img"), 512);
    tool("xfs_admin", &["-U", "generate", &node.partition(2)]);
    drop(node);
    tool("cp", &["--sparse=always", &bench.text_path("node.img"), &bench.text_path("copy.img")]);
    let copy = Attached::new(&bench.path("copy.img"), 512);
    let mounted = MountedHere::new(&copy.partition(2), "rw", &bench.path("mounted"));
    let captured = capture(&bench, &[("node.img", 512)]);
    drop(mounted);
    assert_eq!(captured["volumes"].as_array().unwrap().len(), 4, "{captured}");
}

#[test]
fn fault_48_a_foreign_signature_is_erased_only_if_it_is_named_with_its_disk() {
    if !can_run() {
        return;
    }
    let bench = Bench::with_snapshot_of(Parts::Root);
    bench.blank_image("new.img", 200);
    // A physical volume as `pvcreate` labels it: sector 1, its header behind it.
    let mut label = [0; 512];
    label[..8].copy_from_slice(b"LABELONE");
    label[8..16].copy_from_slice(&1_u64.to_le_bytes());
    label[20..24].copy_from_slice(&32_u32.to_le_bytes());
    label[24..32].copy_from_slice(b"LVM2 001");
    label[32..64].copy_from_slice(b"Zz0fKq8sY3b1XcW5vN7mP2rT4uJ6hG9d");
    let crc = lvm_crc(&label[20..]);
    label[16..20].copy_from_slice(&crc.to_le_bytes());
    write_at(&bench.path("new.img"), 512, &label);

    let untouched = bench.sha256("new.img");
    let complaint = bench.rerack(&["plan", NODE, "--target", "new.img"]).complaint(1);
    let allow = complaint.rsplit('`').nth(1).unwrap_or_else(|| panic!("a hint names the option: {complaint}"));
    let (option, value) = allow.split_once(' ').unwrap();
    assert!(value.ends_with("=LVM2_member"), "{complaint}");
    let other = value.replace("LVM2_member", "zfs_member");
    bench.rerack(&["plan", NODE, "--target", "new.img", option, &other]).complaint(1);
    assert_eq!(bench.sha256("new.img"), untouched);

    let plan = json(bench.rerack(&["plan", NODE, "--target", "new.img", option, value, "--json"]));
    let confirm = digest(&plan);
    bench.rerack(&["restore", NODE, "--target", "new.img", "--confirm", &confirm]).complaint(1);
    assert_eq!(bench.sha256("new.img"), untouched, "consent to a plan is no leave to erase what is foreign");
    bench.rerack(&["restore", NODE, "--target", "new.img", option, value, "--confirm", &confirm]).with_code(0);
    bench.rerack(&["compare", NODE, "--image", "new.img"]).with_code(0);
    let kinds = tool("blkid", &["--probe", "--output", "export", &bench.text_path("new.img")]);
    assert!(!kinds.contains("LVM2"), "{kinds}");
}

/// LVM's CRC: the usual polynomial with another start and no final inversion.
fn lvm_crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xf597_a6cf, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn programs_read_what_every_command_found() {
    if !can_run() {
        return;
    }
    let bench = Bench::new();
    bench.build_node(Parts::Root);
    let first = capture(&bench, &[("node.img", 512)]);
    let second = capture(&bench, &[("node.img", 512)]);
    assert_eq!((&first["sequence"], &second["sequence"]), (&1.into(), &2.into()));
    assert!(first["new_chunk_count"].as_u64() > Some(0) && second["new_chunk_count"] == 0, "{first} {second}");

    let listed = json(bench.rerack(&["list", "--json"]));
    let ids: Vec<&Value> =
        listed[0]["snapshots"].as_array().unwrap().iter().map(|snapshot| &snapshot["snapshot"]).collect();
    assert_eq!(ids, [&first["snapshot"], &second["snapshot"]]);

    bench.blank_image("new.img", 200);
    let older = format!("{NODE}@{}", first["snapshot"].as_str().unwrap());
    let plan = json(bench.rerack(&["plan", &older, "--target", "new.img", "--json"]));
    let confirm = digest(&plan);
    let restored = json(bench.rerack(&["restore", &older, "--target", "new.img", "--confirm", &confirm, "--json"]));
    assert_eq!((&restored["snapshot"], restored["plan"].as_str()), (&first["snapshot"], Some(&confirm[..])));
    let stages: Vec<&str> =
        restored["timeline"].as_array().unwrap().iter().map(|row| row["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["layout", "data", "verify", "boot-chain"]);

    let equal = json(bench.rerack(&["compare", NODE, "--image", "new.img", "--json"]));
    assert_eq!((&equal["volume"], &equal["difference_count"]), (&"disk0-p3".into(), &0.into()));
    change_the_hostname(&bench);
    let different = bench.rerack(&["compare", NODE, "--image", "new.img", "--json"]).with_code(3);
    let different: Value = serde_json::from_str(&different).unwrap();
    assert_eq!(different["differences"][0]["path"], "etc/hostname", "{different}");
    assert_eq!(different["differences"][0]["what"], "content", "{different}");

    assert_eq!(bench.rerack(&["arms"]).with_code(0), "no arms\n", "having none is no fault");
    let armed = json(bench.rerack(&["arm", NODE, "--json"]));
    assert_eq!(armed["code"].as_str().unwrap().len(), "XXXX-XXXX-XXXX-XXXX-XXXX".len());
    assert_eq!(json(bench.rerack(&["arms", "--json"]))[0]["id"], armed["arm"]);
}

#[test]
fn a_plan_is_made_for_the_machine_that_a_file_describes() {
    if !can_run() {
        return;
    }
    let bench = Bench::with_snapshot_of(Parts::Root);
    let mut machine: Inventory = serde_json::from_value(json(bench.rerack(&["inventory", "--json"]))).unwrap();
    machine.disks = vec![InventoryDisk {
        identity: DiskIdentity {
            wwn: None,
            nguid: None,
            eui64: None,
            serial: Some("ELSEWHERE1".to_owned()),
            backing: None,
            model: None,
            transport: Transport::Scsi,
            size_bytes: Bytes::gib(1),
        },
        kernel_name: "sdq".to_owned(),
        bus_path: Some("pci-0000:00:02.0".to_owned()),
        sector_size_bytes: SectorSize::B512,
        removable: false,
        read_only: false,
        boot_medium: false,
        held_by: Vec::new(),
        signatures: Vec::new(),
        named_explicitly: false,
    }];
    let describe = |machine: &Inventory| {
        fs::write(bench.path("machine.json"), serde_json::to_vec(machine).unwrap()).unwrap();
    };
    describe(&machine);
    let plan = json(bench.rerack(&["plan", NODE, "--inventory", "machine.json", "--json"]));
    let plan: restore_plan::Plan = serde_json::from_value(plan).unwrap();
    let serials: Vec<_> = plan.targets.iter().map(|target| target.identity.serial.as_deref()).collect();
    assert_eq!(serials, [Some("ELSEWHERE1")], "the file's disk, which this machine has not");

    machine.disks[0].identity.size_bytes = Bytes::mib(64);
    describe(&machine);
    let refused = bench.rerack(&["plan", NODE, "--inventory", "machine.json"]).complaint(1);
    assert!(refused.contains("ELSEWHERE1"), "{refused}");
}

/// Changes bytes of a file behind the filesystem's back, where only its content shows it.
fn change_the_hostname(bench: &Bench) {
    let image = fs::File::options().read(true).write(true).open(bench.path("new.img")).unwrap();
    let whole = fs::read(bench.path("new.img")).unwrap();
    let content = format!("{NODE}\n\0\0\0\0\0\0\0\0");
    let places: Vec<usize> =
        (0..whole.len() - 512).step_by(512).filter(|at| whole[*at..].starts_with(content.as_bytes())).collect();
    assert!(!places.is_empty());
    for at in places {
        image.write_all_at(b"db", at as u64).unwrap();
    }
}

#[test]
fn fault_19_what_is_lost_of_placement_is_made_again_from_the_packs() {
    if !can_run() {
        return;
    }
    let bench = Bench::with_snapshot_of(Parts::Root);
    assert_eq!(json(bench.rerack(&["verify", "--json"]))["findings"], Value::Array(Vec::new()));
    fs::remove_dir_all(bench.path("repo/placement")).unwrap();
    let found = bench.rerack(&["verify", "--quick", "--json"]).with_code(3);
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["findings"][0]["loss"], false, "{found}");
    assert!(found["findings"][0]["hint"].as_str().unwrap().contains("`rerack verify --repair`"), "{found}");
    bench.rerack(&["verify", "--repair"]).with_code(0);
    assert_eq!(json(bench.rerack(&["verify", "--json"]))["findings"], Value::Array(Vec::new()));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    if !can_run() {
        return;
    }
    let bench = Bench::with_snapshot_of(Parts::Root);
    bench.blank_image("new.img", 200);
    let mut command = bench.command(&["plan", NODE, "--target", "new.img"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "", "it ends as other tools do");

    // A restore goes on: a disk half restored helps nobody.
    let confirm = digest(&json(bench.rerack(&["plan", NODE, "--target", "new.img", "--json"])));
    let mut command: Command = bench.command(&["restore", NODE, "--target", "new.img", "--confirm", &confirm]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    bench.rerack(&["compare", NODE, "--image", "new.img"]).with_code(0);
}
