//! Disks, partitions and mounts on real loop devices. Needs root.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use linux_io::blockdev::{BlockDevError, ClaimedDisk, Disk};
use linux_io::gpt;
use linux_io::loopdev::{LoopDevice, LoopOptions};
use linux_io::mount::{MountError, MountOptions, Mounted};
use linux_io::partitions::{self, DeviceNode, PartitionError, PartitionPlace};
use linux_io::runner::Tool;
use node_model::{Bytes, Gpt, Guid, Lba, SectorSize, Transport};

/// Whether loop devices may be used here; if not, says so.
fn may_use_loop_devices() -> bool {
    let allowed = nix::unistd::geteuid().is_root() && Path::new("/dev/loop-control").exists();
    if !allowed {
        eprintln!("skipped: loop devices need root");
    }
    allowed
}

/// A disk of `mebibytes` on a loop device; both go when it does.
struct TestDisk {
    claimed: Option<ClaimedDisk>,
    device: Option<LoopDevice>,
    directory: tempfile::TempDir,
}

impl TestDisk {
    fn new(mebibytes: u64, sector_size: SectorSize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("disk.img");
        File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        let device = LoopDevice::attach(&image, LoopOptions { sector_size, read_only: false }).unwrap();
        Self { claimed: None, device: Some(device), directory }
    }

    fn path(&self) -> PathBuf {
        self.device.as_ref().unwrap().path().to_owned()
    }

    fn claim(&mut self) -> &ClaimedDisk {
        let disk = Disk::open(&self.path()).unwrap();
        let planned = disk.identity().clone();
        self.claimed = Some(disk.into_idle().unwrap().claim(&planned).unwrap());
        self.claimed.as_ref().unwrap()
    }
}

impl Drop for TestDisk {
    fn drop(&mut self) {
        if let Some(claimed) = self.claimed.take() {
            let _ = partitions::withdraw(&claimed);
        }
        self.device.take();
    }
}

#[test]
fn a_loop_device_is_identified_by_the_file_behind_it() {
    if !may_use_loop_devices() {
        return;
    }
    for sector_size in [SectorSize::B512, SectorSize::B4096] {
        let disk = TestDisk::new(4, sector_size);
        let through_loop = Disk::open(&disk.path()).unwrap();
        assert_eq!(through_loop.identity().transport, Transport::Loop);
        assert_eq!(through_loop.sector_size(), sector_size);
        assert_eq!(through_loop.size(), Bytes::mib(4));

        let image = disk.directory.path().join("disk.img");
        let file = Disk::open_with(&image, sector_size, &linux_io::Roots::live()).unwrap();
        assert!(file.identity().is_same_disk(through_loop.identity()), "one disk by two ways");

        let BlockDevError::Busy { held_by, .. } = file.into_idle().unwrap_err() else {
            panic!("its loop device uses it")
        };
        assert!(held_by[0].reason.starts_with("attached as loop"), "{held_by:?}");
    }
}

#[test]
fn a_file_that_is_attached_twice_is_in_use() {
    if !may_use_loop_devices() {
        return;
    }
    let disk = TestDisk::new(4, SectorSize::B512);
    let second = LoopDevice::attach(&disk.directory.path().join("disk.img"), LoopOptions::default()).unwrap();
    let first = disk.path().file_name().unwrap().to_string_lossy().into_owned();
    let BlockDevError::Busy { held_by, .. } = Disk::open(second.path()).unwrap().into_idle().unwrap_err() else {
        panic!("what is mounted from the one would be destroyed through the other")
    };
    assert_eq!(held_by[0].reason, format!("attached as {first}"));
    drop(second);
    Disk::open(&disk.path()).unwrap().into_idle().unwrap();
}

#[test]
fn a_loop_device_takes_its_partitions_along() {
    if !may_use_loop_devices() {
        return;
    }
    let mut disk = TestDisk::new(4, SectorSize::B512);
    let place = PartitionPlace { number: 7, start: Bytes::mib(1), length: Bytes::mib(2) };
    let known = partitions::announce(disk.claim(), &[place]).unwrap();
    let node = PathBuf::from("/sys/class/block").join(&known[0].kernel_name);
    assert!(node.exists());
    disk.claimed = None;
    disk.device.take().unwrap().detach().unwrap();
    assert!(!node.exists(), "else it shows in whatever is attached next");
}

#[test]
fn a_claimed_disk_is_written_read_zeroed_and_bounded() {
    if !may_use_loop_devices() {
        return;
    }
    let mut disk = TestDisk::new(4, SectorSize::B512);
    let claimed = disk.claim();
    claimed.write_at(&[7; 8192], 4096).unwrap();
    claimed.flush().unwrap();
    claimed.zero(4096..6144).unwrap();
    claimed.drop_cache().unwrap();
    let mut read = [1; 8192];
    claimed.read_at(&mut read, 4096).unwrap();
    assert!(read[..2048].iter().all(|&byte| byte == 0) && read[2048..].iter().all(|&byte| byte == 7));

    let beyond = claimed.write_at(&[0; 512], (4 << 20) - 511).unwrap_err();
    assert!(matches!(beyond, BlockDevError::OutOfRange { .. }), "{beyond}");
}

#[test]
fn fault_43_a_disk_that_is_not_the_planned_one_cannot_be_claimed() {
    if !may_use_loop_devices() {
        return;
    }
    let (planned, other) = (TestDisk::new(4, SectorSize::B512), TestDisk::new(4, SectorSize::B512));
    let planned = Disk::open(&planned.path()).unwrap().identity().clone();
    let idle = Disk::open(&other.path()).unwrap().into_idle().unwrap();
    let error = idle.claim(&planned).unwrap_err();
    assert!(matches!(error, BlockDevError::IdentityChanged { .. }), "{error}");
    assert_eq!(error.hint().unwrap(), "nothing was written to it; scan the machine again and make a new plan");
}

#[test]
fn fault_15_a_partition_that_the_kernel_knows_otherwise_by_now_is_found() {
    if !may_use_loop_devices() {
        return;
    }
    let mut disk = TestDisk::new(8, SectorSize::B512);
    let claimed = disk.claim();
    let place = |start: u64| PartitionPlace { number: 1, start: Bytes(start << 20), length: Bytes(1 << 20) };
    let known = partitions::announce(claimed, &[place(1)]).unwrap().remove(0);
    partitions::check(claimed, &known).unwrap();
    partitions::announce(claimed, &[place(3)]).unwrap();
    let moved = partitions::check(claimed, &known).unwrap_err();
    assert!(matches!(moved, PartitionError::NotShown { number: 1, .. }), "{moved}");
    partitions::withdraw(claimed).unwrap();
    partitions::check(claimed, &known).unwrap_err();
}

#[test]
fn announced_partitions_hold_filesystems_and_make_the_disk_busy() {
    if !may_use_loop_devices() {
        return;
    }
    for sector_size in [SectorSize::B512, SectorSize::B4096] {
        let mut disk = TestDisk::new(40, sector_size);
        let path = disk.path();
        let claimed = disk.claim();
        let places = [
            PartitionPlace { number: 14, start: Bytes::mib(1), length: Bytes::mib(4) },
            PartitionPlace { number: 1, start: Bytes::mib(5), length: Bytes::mib(32) },
        ];
        let hold = claimed.hold().unwrap();
        assert!(matches!(claimed.hold(), Err(BlockDevError::Busy { .. })), "held once");
        partitions::announce(claimed, &places[..1]).unwrap();
        let known = partitions::announce(claimed, &places).unwrap();
        drop(hold);
        assert_eq!(known.iter().map(|p| p.place).collect::<Vec<_>>(), places);
        assert_eq!(partitions::list(claimed).unwrap().len(), 2, "what was announced before is forgotten");

        let directory = tempfile::tempdir().unwrap();
        let node = DeviceNode::create(directory.path(), "target", known[1].device).unwrap();
        Tool::new("mkfs.ext4").args(["-q", "-F"]).arg(node.path()).run().unwrap();
        let target = directory.path().join("mnt");
        fs::create_dir(&target).unwrap();
        let options = MountOptions { no_suid: true, no_dev: true, ..MountOptions::default() };
        let mounted = Mounted::new(node.path(), &target, "ext4", options).unwrap();
        fs::write(target.join("file"), "content").unwrap();

        let BlockDevError::Busy { held_by, .. } = Disk::open(&path).unwrap().into_idle().unwrap_err() else {
            panic!("a partition is mounted")
        };
        assert_eq!(held_by[0].device, known[1].kernel_name);
        assert_eq!(held_by[0].reason, format!("mounted at {}", target.display()));
        let not_whole = Disk::open(&Path::new("/dev").join(&known[1].kernel_name)).unwrap_err();
        assert!(matches!(not_whole, BlockDevError::NotADisk { .. }), "{not_whole}");

        mounted.unmount().unwrap();
        assert_eq!(Disk::open(&path).unwrap().held_by().unwrap(), []);
        partitions::withdraw(claimed).unwrap();
        assert_eq!(partitions::list(claimed).unwrap(), []);
    }
}

#[test]
fn defect_of_gpt_the_backup_is_written_before_the_primary() {
    if !may_use_loop_devices() {
        return;
    }
    // In a thread, because the namespace is the thread's own.
    std::thread::spawn(|| {
        linux_io::mount::private_namespace().unwrap();
        let directory = tempfile::tempdir().unwrap();
        // Room for one page: the first piece that is written does not fit, and whatever is second is never tried.
        linux_io::mount::mount_virtual("tmpfs", directory.path(), nix::mount::MsFlags::empty(), "size=4k").unwrap();
        let path = directory.path().join("disk.img");
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        let disk = Disk::open_with(&path, SectorSize::B512, &linux_io::Roots::live()).unwrap();
        let planned = disk.identity().clone();
        let claimed = disk.into_idle().unwrap().claim(&planned).unwrap();
        let (entry_count, entry_size) = (128, 128);
        let (first_usable_lba, last_usable_lba) = (Lba(34), Lba(2014));
        let disk_guid = Guid([0xD1; 16]);
        let table = Gpt { disk_guid, first_usable_lba, last_usable_lba, entry_count, entry_size, partitions: vec![] };
        gpt::write(&claimed, &table).unwrap_err();
        drop(claimed);
        let written: Vec<u64> = fs::File::open(&path).map(|file| data_of(&file)).unwrap();
        assert!(!written.is_empty() && written.iter().all(|start| *start > 1 << 19), "{written:?}");
        nix::mount::umount(directory.path()).unwrap();
    })
    .join()
    .unwrap();
}

/// Where each stretch of data of the file begins.
fn data_of(file: &File) -> Vec<u64> {
    use rustix::fs::{SeekFrom, seek};
    let mut starts = Vec::new();
    let mut at = 0;
    while let Ok(start) = seek(file, SeekFrom::Data(at)) {
        starts.push(start);
        at = seek(file, SeekFrom::Hole(start)).unwrap();
    }
    starts
}

#[test]
fn defect_of_sys_mount_no_type_is_guessed_and_nothing_is_unmounted_by_odd_flags() {
    if !may_use_loop_devices() {
        return;
    }
    let disk = TestDisk::new(40, SectorSize::B512);
    Tool::new("mkfs.ext4").args(["-q", "-F"]).arg(disk.path()).run().unwrap();
    let target = disk.directory.path().join("mnt");
    fs::create_dir(&target).unwrap();
    let is_mounted = || fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&*target.to_string_lossy());

    // Without a type the crate tries all that the kernel knows, and ext4 would be found.
    for other in ["vfat", "none", ""] {
        let refused = Mounted::new(&disk.path(), &target, other, MountOptions::default()).unwrap_err();
        assert!(matches!(refused, MountError::Mount { .. }), "{other}: {refused}");
        assert!(!is_mounted(), "{other}");
    }

    let mounted = Mounted::new(&disk.path(), &target, "ext4", MountOptions::default()).unwrap();
    assert!(is_mounted());
    // Its NOFOLLOW is a flag of open(2), which umount2(2) does not know. Ours unmounts with none.
    let odd = sys_mount::unmount(&target, sys_mount::UnmountFlags::NOFOLLOW).unwrap_err();
    assert_eq!(odd.raw_os_error(), Some(libc::EINVAL));
    mounted.unmount().unwrap();
    assert!(!is_mounted());
}

#[test]
fn a_private_node_can_be_opened_even_if_its_directory_forbids_devices() {
    if !may_use_loop_devices() {
        return;
    }
    let disk = TestDisk::new(4, SectorSize::B512);
    let number = Disk::open(&disk.path()).unwrap().number().unwrap();
    std::thread::spawn(move || {
        linux_io::mount::private_namespace().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let flags = nix::mount::MsFlags::MS_NODEV;
        linux_io::mount::mount_virtual("tmpfs", directory.path(), flags, "").unwrap();
        let name = format!("test-{}", std::process::id());
        let node = DeviceNode::create(directory.path(), &name, number).unwrap();
        assert_eq!(Disk::open(node.path()).unwrap().size(), Bytes::mib(4));
        let path = node.path().to_owned();
        drop(node);
        assert!(!path.exists());
        nix::mount::umount(directory.path()).unwrap();
    })
    .join()
    .unwrap();
}

#[test]
fn a_namespace_of_its_own_keeps_what_it_mounts_and_lets_go_of_what_others_unmount() {
    if !may_use_loop_devices() {
        return;
    }
    use nix::mount::{MsFlags, mount, umount};
    let is_mounted = |path: &Path| {
        let seen = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        seen.lines().any(|line| line.split(' ').nth(4) == Some(&*path.to_string_lossy()))
    };
    // In a thread, because the namespace is the thread's own.
    std::thread::spawn(move || {
        linux_io::mount::private_namespace().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let shared = directory.path();
        linux_io::mount::mount_virtual("tmpfs", shared, MsFlags::empty(), "").unwrap();
        mount(None::<&str>, shared, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
        let (theirs, ours) = (shared.join("theirs"), shared.join("ours"));
        fs::create_dir(&theirs).unwrap();
        fs::create_dir(&ours).unwrap();
        linux_io::mount::mount_virtual("tmpfs", &theirs, MsFlags::empty(), "").unwrap();
        let (go_on, wait) = std::sync::mpsc::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let inner = std::thread::spawn({
            let (theirs, ours) = (theirs.clone(), ours.clone());
            move || {
                linux_io::mount::private_namespace().unwrap();
                linux_io::mount::mount_virtual("tmpfs", &ours, MsFlags::empty(), "").unwrap();
                assert!(is_mounted(&theirs) && is_mounted(&ours));
                tell.send(()).unwrap();
                wait.recv().unwrap();
                assert!(!is_mounted(&theirs), "what was unmounted elsewhere is held");
                umount(&ours).unwrap();
            }
        });
        told.recv().unwrap();
        assert!(!is_mounted(&ours), "others see it");
        umount(&theirs).unwrap();
        go_on.send(()).unwrap();
        inner.join().unwrap();
        umount(shared).unwrap();
    })
    .join()
    .unwrap();
}

#[test]
fn a_read_only_bind_shows_what_lies_below_other_mounts() {
    if !may_use_loop_devices() {
        return;
    }
    // In a thread, because the namespace is the thread's own.
    std::thread::spawn(|| {
        linux_io::mount::private_namespace().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (source, below, view) =
            (directory.path().join("s"), directory.path().join("s/below"), directory.path().join("v"));
        fs::create_dir_all(&below).unwrap();
        fs::create_dir(&view).unwrap();
        fs::write(below.join("hidden"), "1").unwrap();
        linux_io::mount::mount_virtual("tmpfs", &below, nix::mount::MsFlags::empty(), "").unwrap();
        assert!(!below.join("hidden").exists());
        let bound = Mounted::bind_read_only(&source, &view).unwrap();
        assert_eq!(fs::read(view.join("below/hidden")).unwrap(), b"1");
        assert!(fs::write(view.join("below/hidden"), "2").is_err(), "read-only");
        bound.unmount().unwrap();
        let seen_outside = Command::new("cat").arg(format!("/proc/{}/mountinfo", std::process::id())).output().unwrap();
        let seen_outside = String::from_utf8_lossy(&seen_outside.stdout).into_owned();
        assert!(!seen_outside.contains(&*below.to_string_lossy()), "others do not see it");
        nix::mount::umount(&below).unwrap();
    })
    .join()
    .unwrap();
}
