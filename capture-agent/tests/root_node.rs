//! A node scanned on a loop device and captured. Needs root.

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use bundle::testing::{node_name, node_secret};
use capture_agent::{CaptureError, CaptureOptions, CaptureRequest, FilesRoot, SourceKind, capture, sources};
use linux_io::Roots;
use linux_io::blockdev::{ClaimedDisk, Disk};
use linux_io::gpt;
use linux_io::loopdev::{LoopDevice, LoopOptions};
use linux_io::mount::{MountOptions, Mounted};
use linux_io::partitions::{self, PartitionPlace};
use linux_io::runner::Tool;
use linux_io::scan::{self, NodeOptions, NodeScan, Unsupported};
use node_model::{Bytes, Gpt, GptPartition, Guid, HexBytes, Lba, SectorSize, VolumeKind};
use support::TestRepository;

const DISK_MIB: u64 = 192;
const SECTOR: SectorSize = SectorSize::B512;
const LINUX: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";
/// Number, type, first mebibyte, mebibytes: BIOS boot, root, a filesystem that is not mounted.
const PARTITIONS: [(u32, &str, u64, u64); 3] =
    [(14, "21686148-6449-6e6f-744e-656564454649", 1, 1), (1, LINUX, 2, 64), (3, LINUX, 66, 64)];

/// A node on a loop device: its root mounted, its data not.
struct TestNode {
    mounted: Option<Mounted>,
    claimed: Option<ClaimedDisk>,
    device: Option<LoopDevice>,
    directory: tempfile::TempDir,
}

impl TestNode {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("disk.img");
        File::create(&image).unwrap().set_len(DISK_MIB << 20).unwrap();
        let device = LoopDevice::attach(&image, LoopOptions { sector_size: SECTOR, read_only: false }).unwrap();
        let disk = Disk::open(device.path()).unwrap();
        let identity = disk.identity().clone();
        let claimed = disk.into_idle().unwrap().claim(&identity).unwrap();
        gpt::write(&claimed, &table()).unwrap();
        let blocks = (DISK_MIB << 20) / SECTOR.get();
        claimed.write_at(&gpt::protective_mbr(&[0xEB; 440], blocks, SECTOR), 0).unwrap();
        claimed.write_at(b"the core image of a boot loader", 1 << 20).unwrap();
        claimed.flush().unwrap();
        let place = |&(number, _, start, length): &(u32, &str, u64, u64)| PartitionPlace {
            number,
            start: Bytes::mib(start),
            length: Bytes::mib(length),
        };
        partitions::announce(&claimed, &PARTITIONS.iter().map(place).collect::<Vec<_>>()).unwrap();
        let mut node = Self { mounted: None, claimed: Some(claimed), device: Some(device), directory };
        for (number, file) in [(3, "a file of the data"), (1, "etc-of-the-root")] {
            let partition = node.partition(number);
            Tool::from_argv(["mkfs.ext4", "-q"]).unwrap().arg(&partition).run().unwrap();
            fs::create_dir_all(node.root()).unwrap();
            let mounted = Mounted::new(&partition, &node.root(), "ext4", MountOptions::default()).unwrap();
            fs::write(node.root().join(file), file).unwrap();
            if number == 1 {
                node.mounted = Some(mounted);
            } else {
                mounted.unmount().unwrap();
            }
        }
        node
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn disk(&self) -> &Path {
        self.device.as_ref().unwrap().path()
    }

    fn partition(&self, number: u32) -> PathBuf {
        PathBuf::from(format!("{}p{number}", self.disk().display()))
    }

    fn scan(&self) -> NodeScan {
        let options = NodeOptions { disks: vec![self.disk().to_owned()], ..NodeOptions::default() };
        scan::node(&Roots::live_below(&self.root()), &options).unwrap()
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.mounted.take();
        if let Some(claimed) = self.claimed.take() {
            let _ = partitions::withdraw(&claimed);
        }
        self.device.take();
    }
}

fn table() -> Gpt {
    let partition = |&(number, kind, start, length): &(u32, &str, u64, u64)| GptPartition {
        number,
        type_guid: kind.parse().unwrap(),
        guid: Guid([number as u8; 16]),
        first_lba: Lba(start << 11),
        last_lba: Lba(((start + length) << 11) - 1),
        attributes: 0,
        name_utf16le: HexBytes(Vec::new()),
    };
    let mut partitions: Vec<_> = PARTITIONS.iter().map(partition).collect();
    partitions.sort_by_key(|partition| partition.number);
    Gpt {
        disk_guid: Guid([0xD1; 16]),
        first_usable_lba: Lba(34),
        last_usable_lba: Lba((DISK_MIB << 11) - 34),
        entry_count: 128,
        entry_size: 128,
        partitions,
    }
}

fn may_use_loop_devices() -> bool {
    let allowed = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
    if !allowed {
        eprintln!("skipped: loop devices need root");
    }
    allowed
}

#[test]
fn a_scanned_node_becomes_a_snapshot_of_all_its_volumes() {
    if !may_use_loop_devices() {
        return;
    }
    let node = TestNode::new();
    let scan = node.scan();
    let found = sources(&scan).unwrap();
    let names: Vec<&str> = found.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["disk0-boot-code", "disk0-p14-bios-boot", "root", "disk0-p3"]);
    assert!(matches!(&found[2].kind, SourceKind::Files(FilesRoot::Mounted { shown, .. }) if shown == "/"));
    assert!(
        matches!(&found[3].kind, SourceKind::Files(FilesRoot::Unmounted { device, .. }) if *device == node.partition(3))
    );

    let repository = TestRepository::new();
    let secret = node_secret(&node_name());
    let request = CaptureRequest {
        spec: &scan.spec,
        sources: &found,
        key: &secret.signing_key(),
        options: &CaptureOptions::default(),
    };
    let report = capture(&request, &repository.sink(), &|_| {}).unwrap();
    assert_eq!(report.warnings, []);
    let snapshot = repository.snapshot(&report);
    assert_eq!(snapshot.stream("disk0-boot-code"), [0xEB; 440]);
    let core = snapshot.stream("disk0-p14-bios-boot");
    assert!(core.len() == 1 << 20 && core.starts_with(b"the core image of a boot loader"));
    let has = |volume: &str, path: &[u8]| snapshot.catalog(volume).iter().any(|entry| entry.entry.path == path);
    assert!(has("root", b"etc-of-the-root") && has("disk0-p3", b"a file of the data"));
    let manifest = snapshot.snapshot.manifest();
    assert_eq!(manifest.spec, scan.spec);
    assert!(matches!(manifest.volumes[0].volume.volume, VolumeKind::Raw { offset_bytes: Bytes(0), .. }));
    // A filesystem that was read without being mounted was not written to.
    let again = capture(&request, &repository.sink(), &|_| {}).unwrap();
    assert_eq!(again.new_chunk_count, 0);
}

#[test]
fn a_node_with_what_cannot_be_restored_is_refused_by_all_its_names() {
    if !may_use_loop_devices() {
        return;
    }
    let node = TestNode::new();
    let mut scan = node.scan();
    let unsupported = |device: &str, what: &str| Unsupported { device: device.into(), what: what.into() };
    scan.unsupported = vec![
        unsupported("dm-0", "an LVM logical volume, mounted at /srv"),
        unsupported("sdb", "a member of a Linux RAID"),
    ];
    let error = sources(&scan).unwrap_err();
    assert!(matches!(error, CaptureError::Unsupported(_)));
    insta::assert_snapshot!(
        format!("{error}\nhint: {}", error.hint().unwrap()),
        @r"
    this node cannot be captured: dm-0 is an LVM logical volume, mounted at /srv; sdb is a member of a Linux RAID
    hint: this version restores GPT disks with ext2, ext3, ext4, xfs, vfat and swap; move the data, or wait for a version that knows this layout
    "
    );
    scan.unsupported.clear();
    for device in &mut scan.devices {
        (device.node, device.mounted_at) = (None, Vec::new());
    }
    let error = sources(&scan).unwrap_err();
    insta::assert_snapshot!(
        format!("{error}\nhint: {}", error.hint().unwrap()),
        @r"
    the filesystem on disk0-p1 is not mounted, and the kernel does not know its partition
    hint: mount it, or announce the disk's partitions with `partx -a`
    "
    );
}
