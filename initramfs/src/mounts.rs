//! The file systems that an initramfs needs, and the check that this is one.

use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

/// `RAMFS_MAGIC` of the kernel's `uapi/linux/magic.h`, which nix does not name.
const RAMFS_MAGIC: i128 = 0x8584_58f6;

/// Why this program must not go on.
#[derive(Debug, thiserror::Error)]
pub enum NotInInitramfs {
    /// Another process is PID 1.
    #[error("this is process {0}, not process 1: it runs in the restore environment only")]
    NotFirst(u32),
    /// `/` is a disk.
    #[error("/ is not an initramfs: this program would take over a running system")]
    RealRoot,
    /// `/` cannot be looked at.
    #[error("cannot look at /")]
    Unknown(#[source] io::Error),
}

/// Refuses to go on anywhere but as PID 1 on a root that lives in memory.
///
/// # Errors
/// See [`NotInInitramfs`].
pub fn assert_initramfs() -> Result<(), NotInInitramfs> {
    let pid = std::process::id();
    if pid != 1 {
        return Err(NotInInitramfs::NotFirst(pid));
    }
    let root = statfs("/").map_err(|error| NotInInitramfs::Unknown(error.into()))?;
    // The number's type differs between C libraries; both fit into this one.
    let is_ramfs = i128::from(root.filesystem_type().0) == RAMFS_MAGIC;
    if is_ramfs || root.filesystem_type() == TMPFS_MAGIC { Ok(()) } else { Err(NotInInitramfs::RealRoot) }
}

/// Mounts what the kernel offers. Returns what could not be mounted, in words; most of it can be done without.
pub fn mount_all() -> Vec<String> {
    let strict = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    let devices = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let memory = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let mut failed = Vec::new();
    let mut one = |kind: &str, place: &str, flags, options: &str| {
        let done = std::fs::create_dir_all(place)
            .and_then(|()| mount(Some(kind), place, Some(kind), flags, Some(options)).map_err(io::Error::from));
        match done {
            Err(error) if error.raw_os_error() != Some(nix::libc::EBUSY) => {
                failed.push(format!("cannot mount {kind} at {place}: {error}"));
            }
            _ => {}
        }
    };
    one("proc", "/proc", strict, "");
    one("sysfs", "/sys", strict, "");
    one("devtmpfs", "/dev", MsFlags::MS_NOSUID, "mode=0755");
    one("devpts", "/dev/pts", devices, "ptmxmode=0666,mode=0620,gid=5");
    one("tmpfs", "/dev/shm", memory, "mode=1777");
    one("tmpfs", "/run", memory, "mode=0755");
    one("tmpfs", "/tmp", memory, "mode=1777");
    if is_uefi() {
        one("efivarfs", "/sys/firmware/efi/efivars", strict, "");
    }
    failed
}

/// Whether the firmware is UEFI.
fn is_uefi() -> bool {
    Path::new("/sys/firmware/efi").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_of_an_initramfs_nothing_is_begun() {
        let error = assert_initramfs().unwrap_err();
        assert!(matches!(error, NotInInitramfs::NotFirst(pid) if pid == std::process::id()), "{error}");
    }
}
