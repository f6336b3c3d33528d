//! Loop devices: files as disks.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use node_model::SectorSize;

use crate::partitions;

const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CLR_FD: libc::Ioctl = 0x4C01;
const LO_FLAGS_READ_ONLY: u32 = 1;
/// The kernel detaches it when nothing has it open: after a program that was killed, too.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// Between asking for a free device and taking it another process may take it. This many lost races in a row mean
/// something else is wrong.
const ATTACH_ATTEMPTS_MAX: u32 = 64;

/// A file attached to a loop device, until dropped or until this program ends, however it ends. The kernel is not
/// asked to look for partitions.
#[derive(Debug)]
pub struct LoopDevice {
    /// `None` once it is detached.
    file: Option<File>,
    path: PathBuf,
}

/// How a file is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopOptions {
    /// The logical block size that the device shows.
    pub sector_size: SectorSize,
    /// Whether the device refuses writes.
    pub read_only: bool,
}

impl Default for LoopOptions {
    fn default() -> Self {
        Self { sector_size: SectorSize::B512, read_only: false }
    }
}

/// Why a loop device could not be attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// Attaching failed.
    #[error("{} cannot be attached to a loop device", file.display())]
    Attach {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Detaching failed.
    #[error("loop device {} cannot be detached", device.display())]
    Detach {
        /// The device.
        device: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl LoopDevice {
    /// Attaches `file` to a free device.
    pub fn attach(file: &Path, options: LoopOptions) -> Result<Self, LoopError> {
        attach(file, options).map_err(|source| LoopError::Attach { file: file.to_owned(), source })
    }

    /// Its node, `/dev/loopN`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Detaches it now and says whether that worked. Partitions announced on it are forgotten; while something is
    /// mounted from it, the kernel detaches only after that is gone.
    pub fn detach(mut self) -> Result<(), LoopError> {
        self.clear().map_err(|source| LoopError::Detach { device: self.path.clone(), source })
    }

    fn clear(&mut self) -> io::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        // They would stay on the free device, and show in whatever is attached to it next. One that is mounted stays.
        let _ = partitions::forget_all(&file, &sysfs(&self.path));
        // SAFETY: LOOP_CLR_FD takes no argument; the descriptor is open.
        check(unsafe { libc::ioctl(file.as_raw_fd(), LOOP_CLR_FD, 0) }).map(|_| ())
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            tracing::warn!(device = %self.path.display(), %error, "loop device stays attached");
        }
    }
}

/// `struct loop_info64`, with the members that are always zero here left as bytes.
#[repr(C)]
struct LoopInfo64 {
    before: [u64; 5],
    numbers: [u32; 3],
    flags: u32,
    names: [u8; 64 + 64 + 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

fn attach(path: &Path, options: LoopOptions) -> io::Result<LoopDevice> {
    let backing = OpenOptions::new().read(true).write(!options.read_only).open(path)?;
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    let config = LoopConfig {
        fd: u32::try_from(backing.as_raw_fd()).map_err(io::Error::other)?,
        block_size: options.sector_size.get() as u32,
        info: LoopInfo64 {
            before: [0; 5],
            numbers: [0; 3],
            flags: LO_FLAGS_AUTOCLEAR | if options.read_only { LO_FLAGS_READ_ONLY } else { 0 },
            names: [0; 160],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    for _ in 0..ATTACH_ATTEMPTS_MAX {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument; the descriptor is open.
        let number = check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE, 0) })?;
        let node = PathBuf::from(format!("/dev/loop{number}"));
        let device =
            OpenOptions::new().read(true).write(!options.read_only).custom_flags(libc::O_CLOEXEC).open(&node)?;
        // SAFETY: `config` is a `struct loop_config` as the kernel defines it (checked by size in a test) and lives
        // through the call.
        match check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &config) }) {
            Ok(_) => {
                let attached = LoopDevice { file: Some(device), path: node };
                // Whoever had the device before may have been killed.
                if let Some(file) = &attached.file {
                    partitions::forget_all(file, &sysfs(&attached.path))?;
                }
                return Ok(attached);
            }
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

/// The directory in sysfs of a device node.
fn sysfs(node: &Path) -> PathBuf {
    Path::new("/sys/class/block").join(node.file_name().unwrap_or_default())
}

/// The last error for a negative result of a system call.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_size_the_kernel_gives_them() {
        assert_eq!(size_of::<LoopInfo64>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = LoopDevice::attach(Path::new("/nowhere/disk.img"), LoopOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), "/nowhere/disk.img cannot be attached to a loop device");
    }
}
