//! A filesystem of its own on a loop device, for tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use node_model::SectorSize;

use crate::loopdev::{LoopDevice, LoopOptions};
use crate::mount::{MountOptions, Mounted};
use crate::runner::Tool;

/// A freshly made filesystem, mounted; it is unmounted and gone when this value is, after a panic too.
#[derive(Debug)]
pub struct ScratchFilesystem {
    mounted: Option<Mounted>,
    device: Option<LoopDevice>,
    directory: PathBuf,
}

impl ScratchFilesystem {
    /// A filesystem of `mebibytes`, made by `mkfs.FSTYPE` with further arguments. `None`, with the reason printed,
    /// where loop devices are not allowed.
    ///
    /// # Panics
    /// If it cannot be made although it should be possible: a test cannot go on.
    pub fn new(fstype: &str, mebibytes: u64, mkfs_arguments: &[&str]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            eprintln!("skipped: loop devices need root");
            return None;
        }
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("rerack-scratch-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(directory.join("root")).expect("a directory for the scratch filesystem");
        let mut scratch = Self { mounted: None, device: None, directory };
        let image = scratch.directory.join("image");
        File::create(&image).and_then(|file| file.set_len(mebibytes << 20)).expect("an image file");
        let options = LoopOptions { sector_size: SectorSize::B512, read_only: false };
        let device = LoopDevice::attach(&image, options).expect("a loop device");
        let mkfs = Tool::new(format!("mkfs.{fstype}")).args(mkfs_arguments).arg(device.path());
        mkfs.run().expect("mkfs works");
        let target = scratch.directory.join("root");
        let mounted = Mounted::new(device.path(), &target, fstype, MountOptions::default()).expect("it mounts");
        (scratch.device, scratch.mounted) = (Some(device), Some(mounted));
        Some(scratch)
    }

    /// Where it is mounted.
    pub fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// The loop device it is on.
    ///
    /// # Panics
    /// Never after [`new`](Self::new).
    pub fn device(&self) -> &Path {
        self.device.as_ref().expect("attached for as long as it lives").path()
    }
}

impl Drop for ScratchFilesystem {
    fn drop(&mut self) {
        self.mounted.take();
        self.device.take();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
