//! A whole small node on a loop device, scanned. Needs root.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use linux_io::Roots;
use linux_io::blockdev::{ClaimedDisk, Disk};
use linux_io::gpt;
use linux_io::loopdev::{LoopDevice, LoopOptions};
use linux_io::mount::{MountOptions, Mounted};
use linux_io::partitions::{self, PartitionPlace};
use linux_io::runner::Tool;
use linux_io::scan::{self, InventoryOptions, NodeOptions, NodeScan};
use linux_io::superblock::{self, Described, SuperblockKind};
use node_model::{
    Bytes, Content, DeviceKind, FilesystemDetails, Gpt, GptPartition, Guid, HexBytes, Lba, PartitionTable, SectorSize,
};

const MIB: u64 = 1 << 20;
const LINUX: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";
/// Number, type, first mebibyte, mebibytes: BIOS boot, ESP, swap, root, data; the numbers have gaps.
const PARTITIONS: [(u32, &str, u64, u64); 5] = [
    (14, "21686148-6449-6e6f-744e-656564454649", 1, 1),
    (15, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", 2, 40),
    (3, "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", 42, 16),
    (1, LINUX, 58, 64),
    (2, LINUX, 122, 320),
];
const DISK_BYTES: u64 = 448 * MIB;

fn may_use_loop_devices() -> bool {
    let allowed = nix::unistd::geteuid().is_root() && Path::new("/dev/loop-control").exists();
    if !allowed {
        eprintln!("skipped: loop devices need root");
    }
    allowed
}

fn table(sector: SectorSize) -> Gpt {
    let blocks = DISK_BYTES / sector.get();
    let table_blocks = (128 * 128_u64).div_ceil(sector.get());
    let partition = |&(number, kind, start, length): &(u32, &str, u64, u64)| GptPartition {
        number,
        type_guid: kind.parse().unwrap(),
        guid: Guid([number as u8; 16]),
        first_lba: Lba(start * MIB / sector.get()),
        last_lba: Lba((start + length) * MIB / sector.get() - 1),
        attributes: 0,
        name_utf16le: HexBytes(format!("part {number}").encode_utf16().flat_map(u16::to_le_bytes).collect()),
    };
    let mut partitions: Vec<_> = PARTITIONS.iter().map(partition).collect();
    partitions.sort_by_key(|partition| partition.number);
    Gpt {
        disk_guid: Guid([0xD1; 16]),
        first_usable_lba: Lba(2 + table_blocks),
        last_usable_lba: Lba(blocks - 2 - table_blocks),
        entry_count: 128,
        entry_size: 128,
        partitions,
    }
}

/// A node: its disk with everything on it, its root and data mounted below `root`.
struct TestNode {
    mounts: Vec<Mounted>,
    claimed: Option<ClaimedDisk>,
    device: Option<LoopDevice>,
    directory: tempfile::TempDir,
}

impl TestNode {
    fn new(sector_size: SectorSize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("disk.img");
        File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
        let device = LoopDevice::attach(&image, LoopOptions { sector_size, read_only: false }).unwrap();
        let disk = Disk::open(device.path()).unwrap();
        let identity = disk.identity().clone();
        let claimed = disk.into_idle().unwrap().claim(&identity).unwrap();
        let mut node = Self { mounts: Vec::new(), claimed: None, device: Some(device), directory };
        gpt::write(&claimed, &table(sector_size)).unwrap();
        claimed.write_at(&gpt::protective_mbr(&[0xEB; 440], DISK_BYTES / sector_size.get(), sector_size), 0).unwrap();
        let place = |&(number, _, start, length): &(u32, &str, u64, u64)| PartitionPlace {
            number,
            start: Bytes::mib(start),
            length: Bytes::mib(length),
        };
        claimed.flush().unwrap();
        partitions::announce(&claimed, &PARTITIONS.iter().map(place).collect::<Vec<_>>()).unwrap();
        node.claimed = Some(claimed);
        node.make_filesystems();
        node
    }

    fn partition(&self, number: u32) -> PathBuf {
        PathBuf::from(format!("{}p{number}", self.device().display()))
    }

    fn device(&self) -> &Path {
        self.device.as_ref().unwrap().path()
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn make_filesystems(&mut self) {
        let make = |argv: &[&str], number| {
            Tool::from_argv(argv).unwrap().arg(self.partition(number)).run().unwrap();
        };
        make(&["mkfs.vfat", "-n", "ESP", "-i", "C0FFEE00"], 15);
        make(&["mkswap", "-q", "-L", "swap"], 3);
        make(&["mkfs.ext4", "-q", "-L", "root"], 1);
        make(&["mkfs.xfs", "-q", "-L", "data"], 2);
        let root = self.root();
        fs::create_dir(&root).unwrap();
        self.mounts.push(Mounted::new(&self.partition(1), &root, "ext4", MountOptions::default()).unwrap());
        for directory in ["etc/network", "srv/data"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::write(root.join("etc/os-release"), "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian 12\"\n").unwrap();
        fs::write(root.join("etc/fstab"), "LABEL=root / ext4 defaults 0 1\n").unwrap();
        fs::write(root.join("etc/hostname"), "web-03\n").unwrap();
        fs::write(root.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
        fs::write(root.join("etc/network/interfaces"), "auto lo\n").unwrap();
        let data = root.join("srv/data");
        self.mounts.push(Mounted::new(&self.partition(2), &data, "xfs", MountOptions::default()).unwrap());
        fs::write(data.join("file"), vec![1; 3 << 20]).unwrap();
    }

    fn scan(&self, disk: &Path, sector_size: SectorSize) -> NodeScan {
        let options = NodeOptions { disks: vec![disk.to_owned()], file_sector_size: sector_size };
        scan::node(&Roots::live_below(&self.root()), &options).unwrap()
    }

    fn unmount(&mut self) {
        while let Some(mount) = self.mounts.pop() {
            mount.unmount().unwrap();
        }
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        while let Some(mount) = self.mounts.pop() {
            drop(mount);
        }
        if let Some(claimed) = self.claimed.take() {
            let _ = partitions::withdraw(&claimed);
        }
        self.device.take();
    }
}

fn content<'a>(scan: &'a NodeScan, key: &str) -> &'a Content {
    let device = scan.spec.layout.devices.iter().find(|device| device.key.as_str() == key);
    &device.unwrap_or_else(|| panic!("{key} in {:?}", scan.spec.layout)).content
}

#[test]
fn a_running_node_is_described_whole() {
    if !may_use_loop_devices() {
        return;
    }
    for sector_size in [SectorSize::B512, SectorSize::B4096] {
        let node = TestNode::new(sector_size);
        let scan = node.scan(node.device(), sector_size);
        assert_eq!(scan.unsupported, []);
        assert_eq!(scan.warnings, Vec::<String>::new());
        let spec = &scan.spec;
        let keys: Vec<_> = spec.layout.devices.iter().map(|device| device.key.as_str()).collect();
        assert_eq!(keys, ["disk0", "disk0-p1", "disk0-p2", "disk0-p3", "disk0-p14", "disk0-p15"]);
        assert_eq!(*content(&scan, "disk0"), Content::Table { table: PartitionTable::Gpt(table(sector_size)) });
        let DeviceKind::Disk { sector_size_bytes, identity, .. } = &spec.layout.devices[0].device else { panic!() };
        assert_eq!(*sector_size_bytes, sector_size);
        assert!(identity.backing.is_some());

        let filesystem = |key| match content(&scan, key) {
            Content::Filesystem { filesystem } => filesystem,
            other => panic!("{key}: {other:?}"),
        };
        let labels = ["disk0-p1", "disk0-p2", "disk0-p15"].map(|key| filesystem(key).label.clone().unwrap());
        assert_eq!(labels, ["root", "data", "ESP"]);
        assert_eq!(filesystem("disk0-p15").uuid, "C0FF-EE00");
        assert!(filesystem("disk0-p2").used_bytes > Bytes::mib(3), "counted where it is mounted");
        assert_eq!(*content(&scan, "disk0-p14"), Content::Raw);
        let Content::Swap { swap } = content(&scan, "disk0-p3") else { panic!() };
        assert_eq!((swap.label.as_deref(), swap.size_bytes), (Some("swap"), Bytes::mib(16)));

        let mounts: Vec<_> =
            spec.mounts.iter().map(|mount| (mount.target.as_str(), mount.device.as_ref().unwrap().as_str())).collect();
        assert_eq!(mounts, [("/", "disk0-p1"), ("/srv/data", "disk0-p2")]);
        let data = scan.device(&"disk0-p2".parse().unwrap()).unwrap();
        assert_eq!(data.mounted_at, [node.root().join("srv/data")]);
        assert_eq!((data.start, data.length), (Bytes::mib(122), Bytes::mib(320)));
        assert_eq!(data.node.as_deref(), Some(&*node.partition(2)));

        assert_eq!((spec.os.id.as_str(), spec.os.version_id.as_deref()), ("debian", Some("12")));
        assert_eq!(spec.identity.hostname.as_deref(), Some("web-03"));
        assert_eq!(spec.identity.machine_id.as_deref(), Some("0123456789abcdef0123456789abcdef"));
        assert_eq!(spec.fstab.as_ref().unwrap().content.0, b"LABEL=root / ext4 defaults 0 1\n");
        assert_eq!(spec.network.files[0].path, "/etc/network/interfaces");
        assert!(!spec.boot.kernel_cmdline.is_empty());
        let text = serde_json::to_string(spec).unwrap();
        assert_eq!(serde_json::from_str::<node_model::NodeSpec>(&text).unwrap(), *spec);
    }
}

#[test]
fn an_image_file_is_described_as_its_loop_device_is() {
    if !may_use_loop_devices() {
        return;
    }
    let mut node = TestNode::new(SectorSize::B4096);
    node.unmount();
    let (by_loop, by_file) = (
        node.scan(node.device(), SectorSize::B4096),
        node.scan(&node.directory.path().join("disk.img"), SectorSize::B4096),
    );
    let contents = |scan: &NodeScan| {
        scan.spec.layout.devices.iter().map(|d| (d.key.clone(), d.content.clone())).collect::<Vec<_>>()
    };
    assert_eq!(contents(&by_loop), contents(&by_file));
    assert_eq!(by_file.unsupported, []);
    assert!(
        by_file.devices[1].node.is_none() && by_file.devices[1].start == Bytes::mib(58),
        "read at its place in the file"
    );
}

#[test]
fn what_cannot_be_captured_yet_is_named() {
    if !may_use_loop_devices() {
        return;
    }
    let mut node = TestNode::new(SectorSize::B512);
    node.unmount();
    Tool::new("mkfs.ext4").args(["-q", "-F", "-O", "bigalloc"]).arg(node.partition(2)).run().unwrap();
    // The head of a LUKS2 header.
    let claimed = node.claimed.as_ref().unwrap();
    claimed.zero(58 * MIB..60 * MIB).unwrap();
    let mut luks = vec![0; 4096];
    luks[..8].copy_from_slice(b"LUKS\xba\xbe\x00\x02");
    luks[8..16].copy_from_slice(&16384_u64.to_be_bytes());
    luks[168..204].copy_from_slice(b"12345678-1234-1234-1234-123456789abc");
    claimed.write_at(&luks, 58 * MIB).unwrap();
    claimed.flush().unwrap();
    let scan = node.scan(node.device(), SectorSize::B512);
    let said: Vec<String> = scan.unsupported.iter().map(|unsupported| unsupported.what.clone()).collect();
    assert_eq!(said, ["a LUKS container", "an ext4 filesystem with clusters (bigalloc)"]);
    let name = node.partition(1).file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(scan.unsupported[0].device, name);
}

#[test]
fn what_was_changed_while_mounted_is_seen_by_the_next_scan() {
    if !may_use_loop_devices() {
        return;
    }
    let node = TestNode::new(SectorSize::B512);
    node.scan(node.device(), SectorSize::B512);
    Tool::new("tune2fs").args(["-L", "renamed"]).arg(node.partition(1)).run().unwrap();
    let scan = node.scan(node.device(), SectorSize::B512);
    let Content::Filesystem { filesystem } = content(&scan, "disk0-p1") else { panic!() };
    assert_eq!(filesystem.label.as_deref(), Some("renamed"));
}

#[test]
fn a_disk_without_block_zero_still_bears_a_table() {
    if !may_use_loop_devices() {
        return;
    }
    let mut node = TestNode::new(SectorSize::B512);
    node.unmount();
    let claimed = node.claimed.as_ref().unwrap();
    claimed.zero(0..512).unwrap();
    claimed.flush().unwrap();
    partitions::withdraw(claimed).unwrap();
    let options = InventoryOptions { named: vec![node.device().to_owned()], ..InventoryOptions::default() };
    let inventory = scan::inventory(&Roots::live(), &options).unwrap();
    let disk = inventory.disks.iter().find(|disk| disk.named_explicitly).unwrap();
    let kinds: Vec<_> = disk.signatures.iter().map(|signature| signature.kind.as_str()).collect();
    assert_eq!(kinds, ["gpt", "ext4", "xfs", "swap", "vfat"]);

    let scan = node.scan(node.device(), SectorSize::B512);
    assert_eq!(scan.unsupported[0].what, "a disk without a partition table", "nothing a running node has");
}

#[test]
fn an_inventory_shows_what_lies_on_a_named_disk_and_who_holds_it() {
    if !may_use_loop_devices() {
        return;
    }
    let node = TestNode::new(SectorSize::B512);
    let options = InventoryOptions { named: vec![node.device().to_owned()], ..InventoryOptions::default() };
    let inventory = scan::inventory(&Roots::live(), &options).unwrap();
    let disk = inventory.disks.iter().find(|disk| disk.named_explicitly).unwrap();
    let found: Vec<_> = disk.signatures.iter().map(|s| (s.kind.as_str(), s.offset_bytes.get() / MIB)).collect();
    assert_eq!(found, [("gpt", 0), ("ext4", 58), ("xfs", 122), ("swap", 42), ("vfat", 2)]);
    let reasons: Vec<_> = disk.held_by.iter().map(|held| held.reason.as_str()).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(
        !scan::inventory(&Roots::live(), &InventoryOptions::default())
            .unwrap()
            .disks
            .iter()
            .any(|d| d.named_explicitly)
    );
}

#[test]
fn an_image_file_that_carries_our_volume_label_is_the_boot_medium() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("boot.iso");
    let mut bytes = vec![0; 1 << 20];
    bytes[0x8000..0x8006].copy_from_slice(b"\x01CD001");
    bytes[0x8006] = 1;
    bytes[0x8028..0x8048].copy_from_slice(b"RERACK                          ");
    bytes[0x8800..0x8806].copy_from_slice(b"\xffCD001");
    fs::write(&image, bytes).unwrap();
    let options = InventoryOptions { named: vec![image], ..InventoryOptions::default() };
    let inventory = scan::inventory(&Roots::live(), &options).unwrap();
    let disk = inventory.disks.iter().find(|disk| disk.named_explicitly).unwrap();
    assert!(disk.boot_medium, "{:?}", disk.signatures);
}

#[test]
fn use_does_not_change_what_mkfs_decided() {
    if !may_use_loop_devices() {
        return;
    }
    let mut node = TestNode::new(SectorSize::B512);
    node.unmount();
    let read = |number, kind| match superblock::read(&File::open(node.partition(number)).unwrap(), kind).unwrap() {
        Described::Filesystem(filesystem) => filesystem.details,
        Described::Swap(swap) => panic!("{swap:?}"),
    };
    for (number, mkfs, fstype, kind) in
        [(1, "mkfs.ext4", "ext4", SuperblockKind::Ext), (2, "mkfs.xfs", "xfs", SuperblockKind::Xfs)]
    {
        let force = if fstype == "xfs" { "-f" } else { "-F" };
        Tool::new(mkfs).args(["-q", force]).arg(node.partition(number)).run().unwrap();
        let fresh: FilesystemDetails = read(number, kind);
        let target = node.directory.path().join("mnt");
        fs::create_dir_all(&target).unwrap();
        let mounted = Mounted::new(&node.partition(number), &target, fstype, MountOptions::default()).unwrap();
        let file = target.join("file");
        File::create(&file).unwrap().set_len(5 << 30).unwrap();
        Tool::new("setfattr").args(["-n", "user.a", "-v", "b"]).arg(&file).run().unwrap();
        Tool::new("sync").run().unwrap();
        assert_eq!(read(number, kind), fresh, "{fstype} while it is mounted");
        mounted.unmount().unwrap();
        assert_eq!(read(number, kind), fresh, "{fstype} afterwards");
    }
}
