//! Mounting and unmounting.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::MsFlags;
use sys_mount::{Mount as SysMount, MountFlags, Unmount, UnmountFlags};

/// How long a mount that is busy is waited for: a scanner or an indexer lets go by itself.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);

/// How a device is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountOptions<'a> {
    /// Refuse writes.
    pub read_only: bool,
    /// Honour no setuid bit and no capability.
    pub no_suid: bool,
    /// Let no device node be opened.
    pub no_dev: bool,
    /// Run no program from it.
    pub no_exec: bool,
    /// Keep access times as they are.
    pub no_atime: bool,
    /// What only this type of filesystem understands, such as `norecovery`; empty for nothing.
    pub data: &'a str,
}

/// A mount of ours, undone when dropped. It is never undone lazily: a filesystem that is still busy would go on being
/// written after everybody believes it is complete.
#[derive(Debug)]
pub struct Mounted {
    mount: Option<SysMount>,
    target: PathBuf,
}

/// Why mounting or unmounting failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// Mounting failed.
    #[error("{source_path} cannot be mounted at {} as {fstype}", target.display())]
    Mount {
        /// What.
        source_path: String,
        /// Where.
        target: PathBuf,
        /// As what.
        fstype: String,
        /// Why.
        source: io::Error,
    },
    /// Unmounting failed.
    #[error("{} cannot be unmounted", target.display())]
    Unmount {
        /// Where.
        target: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No mount namespace of one's own could be had.
    #[error("a mount namespace of its own is not allowed")]
    Namespace {
        /// Why.
        source: io::Error,
    },
}

impl MountError {
    /// Whether this kernel does not know the type of filesystem.
    pub fn is_unknown_filesystem(&self) -> bool {
        matches!(self, Self::Mount { source, .. } if source.raw_os_error() == Some(libc::ENODEV))
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Mount { fstype, source, .. } if source.raw_os_error() == Some(libc::ENODEV) => {
                Some(format!("this kernel knows no {fstype}; load its module"))
            }
            Self::Unmount { target, source } if source.raw_os_error() == Some(libc::EBUSY) => {
                Some(format!("something still uses {}: see `fuser -m {}`", target.display(), target.display()))
            }
            Self::Namespace { .. } => Some("run it as root".to_owned()),
            _ => None,
        }
    }
}

impl Mounted {
    /// Mounts the device `source`, which holds a filesystem of type `fstype`, at the existing directory `target`.
    pub fn new(source: &Path, target: &Path, fstype: &str, options: MountOptions<'_>) -> Result<Self, MountError> {
        let flags = [
            (options.read_only, MountFlags::RDONLY),
            (options.no_suid, MountFlags::NOSUID),
            (options.no_dev, MountFlags::NODEV),
            (options.no_exec, MountFlags::NOEXEC),
            (options.no_atime, MountFlags::NOATIME),
        ];
        let flags = flags.iter().filter(|(wanted, _)| *wanted).fold(MountFlags::empty(), |all, (_, flag)| all | *flag);
        let mut builder = SysMount::builder().fstype(fstype).flags(flags);
        if !options.data.is_empty() {
            builder = builder.data(options.data);
        }
        let mount = builder.mount(source, target).map_err(|cause| MountError::Mount {
            source_path: source.display().to_string(),
            target: target.to_owned(),
            fstype: fstype.to_owned(),
            source: cause,
        })?;
        Ok(Self { mount: Some(mount), target: target.to_owned() })
    }

    /// Mounts the tree below `source` a second time at the existing directory `target`, without what is mounted on
    /// top of it, read-only.
    pub fn bind_read_only(source: &Path, target: &Path) -> Result<Self, MountError> {
        let failed = |source_error: io::Error| MountError::Mount {
            source_path: source.display().to_string(),
            target: target.to_owned(),
            fstype: "a bind mount".to_owned(),
            source: source_error,
        };
        let mount = SysMount::builder().fstype("none").flags(MountFlags::BIND).mount(source, target).map_err(failed)?;
        let mounted = Self { mount: Some(mount), target: target.to_owned() };
        // A bind mount takes its flags only when remounted, and must repeat those that the source is locked to.
        let locked = nix::sys::statvfs::statvfs(target).map_err(|errno| failed(errno.into()))?.flags();
        let kept = [
            (nix::sys::statvfs::FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
            (nix::sys::statvfs::FsFlags::ST_NODEV, MsFlags::MS_NODEV),
            (nix::sys::statvfs::FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        ];
        let kept =
            kept.iter().filter(|(flag, _)| locked.contains(*flag)).fold(MsFlags::empty(), |all, (_, f)| all | *f);
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOATIME | kept;
        nix::mount::mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
            .map_err(|errno| failed(errno.into()))?;
        Ok(mounted)
    }

    /// Where it is mounted.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Writes out what is cached and unmounts it, waiting a little for what still uses it.
    pub fn unmount(mut self) -> Result<(), MountError> {
        self.undo().map_err(|source| MountError::Unmount { target: self.target.clone(), source })
    }

    fn undo(&mut self) -> io::Result<()> {
        let Some(mount) = self.mount.take() else { return Ok(()) };
        let deadline = Instant::now() + BUSY_WAIT_MAX;
        loop {
            match mount.unmount(UnmountFlags::empty()) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                other => return other,
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.undo() {
            tracing::warn!(target = %self.target.display(), %error, "mount stays");
        }
    }
}

/// Gives the calling thread a mount namespace of its own, from which nothing spreads to others: mounts made by it
/// are seen by it, its later threads and its children alone, and end with them. What others unmount goes here, too, where
/// they share their mounts: a disk that somebody takes out meanwhile must not be held by a copy of its mount.
pub fn private_namespace() -> Result<(), MountError> {
    let failed = |errno: nix::Error| MountError::Namespace { source: errno.into() };
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(failed)?;
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).map_err(failed)
}

/// Mounts a filesystem that has no device, such as `proc`, at `target`, for good.
pub fn mount_virtual(fstype: &str, target: &Path, flags: MsFlags, data: &str) -> Result<(), MountError> {
    let data = Some(data).filter(|data| !data.is_empty());
    nix::mount::mount(Some(fstype), target, Some(fstype), flags, data).map_err(|errno| MountError::Mount {
        source_path: fstype.to_owned(),
        target: target.to_owned(),
        fstype: fstype.to_owned(),
        source: errno.into(),
    })
}
