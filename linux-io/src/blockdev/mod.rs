//! Disks as handles that are earned: a [`Disk`] can be read; shown to be unused it becomes an [`IdleDisk`]; compared
//! with what a plan names it becomes a [`ClaimedDisk`], which alone can be written.
//!
//! All of it works for block devices and for regular files that stand for disks.

mod claimed;
mod error;
mod identity;
mod usage;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use node_model::{Bytes, DeviceNumber, DiskIdentity, HeldBy, SectorSize};

pub use claimed::{ClaimedDisk, ExclusiveHold};
pub use error::BlockDevError;
pub use identity::sysfs_identity;
pub use usage::holders_of;
pub(crate) use usage::parse_number;

use crate::Roots;

/// Something whose bytes can be read by offset.
pub trait ReadAt {
    /// Fills `buffer` from `offset`, or fails.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok();
        let bytes = from.and_then(|from| self.get(from..from.checked_add(buffer.len())?));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A disk opened for reading, its identity known.
#[derive(Debug)]
pub struct Disk {
    file: File,
    path: PathBuf,
    roots: Roots,
    /// Device number; `None` for a regular file.
    number: Option<DeviceNumber>,
    identity: DiskIdentity,
    sector_size: SectorSize,
}

impl Disk {
    /// Opens a whole block device or a regular file. Of a regular file the sector size is taken to be 512 bytes.
    pub fn open(path: &Path) -> Result<Self, BlockDevError> {
        Self::open_with(path, SectorSize::B512, &Roots::live())
    }

    /// The same, with the sector size that a regular file shall have.
    pub fn open_with(path: &Path, file_sector_size: SectorSize, roots: &Roots) -> Result<Self, BlockDevError> {
        let failed = |source| BlockDevError::Open { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).custom_flags(libc::O_CLOEXEC).open(path).map_err(failed)?;
        let (number, identity, sector_size) = identify(&file, path, file_sector_size, roots)?;
        Ok(Self { file, path: path.to_owned(), roots: roots.clone(), number, identity, sector_size })
    }

    /// What makes it this disk.
    pub fn identity(&self) -> &DiskIdentity {
        &self.identity
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its device number; `None` for a regular file.
    pub fn number(&self) -> Option<DeviceNumber> {
        self.number
    }

    /// Its capacity.
    pub fn size(&self) -> Bytes {
        self.identity.size_bytes
    }

    /// Its logical sector size.
    pub fn sector_size(&self) -> SectorSize {
        self.sector_size
    }

    /// The trees through which it was identified.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// How errors name it: its strongest identifier and its path.
    pub fn describe(&self) -> String {
        describe(&self.identity, &self.path)
    }

    /// What uses it now: mounts, swap, md, device-mapper, loop devices on it.
    pub fn held_by(&self) -> Result<Vec<HeldBy>, BlockDevError> {
        usage::held_by(self.number, &self.file, &self.path, &self.roots)
            .map_err(|source| BlockDevError::Usage { disk: self.describe(), source })
    }

    /// The same disk, shown to be used by nothing.
    pub fn into_idle(self) -> Result<IdleDisk, BlockDevError> {
        let held_by = self.held_by()?;
        if !held_by.is_empty() {
            return Err(BlockDevError::Busy { disk: self.describe(), held_by });
        }
        // The kernel's own answer covers users that show nowhere else.
        drop(claimed::hold(&self.path, self.number.is_some()).map_err(|source| self.exclusive_error(source))?);
        Ok(IdleDisk(self))
    }

    fn exclusive_error(&self, source: io::Error) -> BlockDevError {
        match source.raw_os_error() {
            Some(libc::EBUSY | libc::EWOULDBLOCK) => {
                let reason = "held exclusively by the kernel or another program".to_owned();
                let held = HeldBy { device: self.path.display().to_string(), reason };
                BlockDevError::Busy { disk: self.describe(), held_by: vec![held] }
            }
            _ => BlockDevError::Open { path: self.path.clone(), source },
        }
    }
}

impl ReadAt for Disk {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.file, buffer, offset)
    }
}

/// A disk that nothing uses.
#[derive(Debug)]
pub struct IdleDisk(Disk);

impl IdleDisk {
    /// The disk.
    pub fn disk(&self) -> &Disk {
        &self.0
    }

    /// Opens it for writing, after comparing it once more with the identity that the plan names.
    pub fn claim(self, planned: &DiskIdentity) -> Result<ClaimedDisk, BlockDevError> {
        ClaimedDisk::open(self.0, planned)
    }
}

fn describe(identity: &DiskIdentity, path: &Path) -> String {
    let id = identity.stable_ids().first().map(ToString::to_string);
    let id = id.unwrap_or_else(|| "without a stable identifier".to_owned());
    format!("{id} ({})", path.display())
}

/// What the kernel knows of an open disk.
fn identify(
    file: &File,
    path: &Path,
    file_sector_size: SectorSize,
    roots: &Roots,
) -> Result<(Option<DeviceNumber>, DiskIdentity, SectorSize), BlockDevError> {
    let failed = |source| BlockDevError::Open { path: path.to_owned(), source };
    let metadata = file.metadata().map_err(failed)?;
    if metadata.file_type().is_file() {
        let identity = identity::of_file(path, &metadata).map_err(failed)?;
        return Ok((None, identity, file_sector_size));
    }
    if !metadata.file_type().is_block_device() {
        return Err(BlockDevError::NotADisk { path: path.to_owned() });
    }
    let number = device_number(metadata.rdev());
    let size = Bytes(block_ioctl_u64(file, BLKGETSIZE64).map_err(failed)?);
    let sector_bytes = u64::from(block_ioctl_u32(file, libc::BLKSSZGET).map_err(failed)?);
    let sector_size = SectorSize::try_from(sector_bytes)
        .map_err(|source| BlockDevError::SectorSize { path: path.to_owned(), source })?;
    let identity = identity::of_block_device(number, size, roots)
        .map_err(|source| BlockDevError::Identify { path: path.to_owned(), source })?
        .ok_or_else(|| BlockDevError::NotADisk { path: path.to_owned() })?;
    Ok((Some(number), identity, sector_size))
}

/// Splits a `dev_t`.
pub(crate) fn device_number(dev: u64) -> DeviceNumber {
    DeviceNumber { major: libc::major(dev), minor: libc::minor(dev) }
}

/// `_IOR(0x12, 114, size_t)`.
const BLKGETSIZE64: libc::Ioctl = 0x8008_1272_u32 as libc::Ioctl;

fn block_ioctl_u64(file: &File, request: libc::Ioctl) -> io::Result<u64> {
    let mut value = 0_u64;
    // SAFETY: the requests passed here (BLKGETSIZE64) store one u64 at the pointer, which is valid and aligned.
    crate::loopdev::check(unsafe { libc::ioctl(file.as_raw_fd(), request, &mut value) })?;
    Ok(value)
}

fn block_ioctl_u32(file: &File, request: libc::Ioctl) -> io::Result<u32> {
    let mut value = 0_u32;
    // SAFETY: the requests passed here (BLKSSZGET) store one int at the pointer, which is valid and aligned.
    crate::loopdev::check(unsafe { libc::ioctl(file.as_raw_fd(), request, &mut value) })?;
    Ok(value)
}
