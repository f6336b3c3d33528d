//! Images, loop devices and mounts of a bench. All of them go when dropped; mounts are seen by the bench alone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::command;

/// Gives this process mounts of its own, so that none outlives it, however it ends.
pub(super) fn private_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("mounts need root")?;
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .context("mounts cannot be made private")
}

/// Detaches what a bench that was killed left attached.
pub(super) fn detach_below(folder: &Path) -> Result<()> {
    let listed = command::output(&["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"])?;
    for (device, file) in listed.lines().filter_map(|line| line.trim().split_once(char::is_whitespace)) {
        if Path::new(file.trim()).starts_with(folder) {
            drop(Attached { device: device.to_owned() });
        }
    }
    Ok(())
}

/// Makes an image of zeros that takes no space yet, in the place of whatever had the name.
pub(super) fn blank_image(path: &Path, bytes: u64) -> Result<()> {
    let _ = fs::remove_file(path);
    let made = File::create(path).and_then(|file| file.set_len(bytes));
    made.with_context(|| format!("cannot make {}", path.display()))
}

/// The path as an argument of a program.
pub(super) fn text(path: &Path) -> &str {
    path.to_str().expect("a bench names its paths itself")
}

/// An image on a loop device.
pub(super) struct Attached {
    /// The device.
    pub(super) device: String,
}

impl Attached {
    pub(super) fn new(image: &Path) -> Result<Self> {
        let device = command::output(&["losetup", "--find", "--show", text(image)])?.trim().to_owned();
        // The kernel may remember partitions of what was attached to this device before.
        command::succeeds(&["partx", "--delete", &device]);
        Ok(Self { device })
    }

    /// The image with its partitions announced.
    pub(super) fn with_partitions(image: &Path) -> Result<Self> {
        let attached = Self::new(image)?;
        command::output(&["partx", "--add", &attached.device])?;
        Ok(attached)
    }

    pub(super) fn partition(&self, number: u32) -> String {
        format!("{}p{number}", self.device)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        command::succeeds(&["partx", "--delete", &self.device]);
        command::succeeds(&["losetup", "--detach", &self.device]);
    }
}

/// Something mounted.
pub(super) struct Mounted {
    /// Where.
    pub(super) at: PathBuf,
}

impl Mounted {
    pub(super) fn new(device: &str, options: &str, at: &Path) -> Result<Self> {
        fs::create_dir_all(at).with_context(|| format!("cannot make {}", at.display()))?;
        command::output(&["mount", "-o", options, device, text(at)])?;
        Ok(Self { at: at.to_owned() })
    }

    /// A filesystem in memory on which device nodes work.
    pub(super) fn memory(at: &Path) -> Result<Self> {
        fs::create_dir_all(at).with_context(|| format!("cannot make {}", at.display()))?;
        command::output(&["mount", "-t", "tmpfs", "-o", "size=80%,mode=700", "tmpfs", text(at)])?;
        Ok(Self { at: at.to_owned() })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        command::succeeds(&["umount", text(&self.at)]);
    }
}

/// The filesystems a bench can be run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Filesystem {
    Ext4,
    Xfs,
    Btrfs,
}

impl Filesystem {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Makes the filesystem on `device`. ext4 is made whole at once: what the kernel would make up for later would
    /// fall into somebody's turn.
    pub(super) fn make(self, device: &str) -> Result<()> {
        let argv: &[&str] = match self {
            Self::Ext4 => &["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", device],
            Self::Xfs => &["mkfs.xfs", "-q", "-f", device],
            Self::Btrfs => &["mkfs.btrfs", "-q", "-f", device],
        };
        command::output(argv).map(drop)
    }
}

/// A filesystem made anew on a loop device over a file in memory: what everybody restores to.
pub(super) struct Target {
    // Fields are dropped in this order.
    pub(super) mounted: Option<Mounted>,
    pub(super) disk: Attached,
    image: PathBuf,
}

impl Target {
    /// An empty disk of `bytes` below `memory`.
    pub(super) fn blank(memory: &Path, bytes: u64) -> Result<Self> {
        let image = memory.join("target.img");
        blank_image(&image, bytes)?;
        Ok(Self { mounted: None, disk: Attached::new(&image)?, image })
    }

    /// The same with an empty filesystem on it, mounted.
    pub(super) fn formatted(memory: &Path, bytes: u64, filesystem: Filesystem) -> Result<Self> {
        let mut target = Self::blank(memory, bytes)?;
        filesystem.make(&target.disk.device)?;
        let mounted = Mounted::new(&target.disk.device, "rw", &memory.join("target"))?;
        // ext filesystems are made with a directory that no set holds.
        let _ = fs::remove_dir(mounted.at.join("lost+found"));
        target.mounted = Some(mounted);
        Ok(target)
    }

    /// Where it is mounted.
    pub(super) fn root(&self) -> &Path {
        &self.mounted.as_ref().expect("a formatted target is mounted").at
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.mounted.take();
        // Memory comes back as soon as the loop device has let go.
        let _ = fs::remove_file(&self.image);
    }
}
