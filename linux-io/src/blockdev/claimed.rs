//! The one handle through which a disk is written.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use node_model::{Bytes, DeviceNumber, DiskIdentity, SectorSize};

use super::{BlockDevError, Disk, ReadAt, describe, identify};
use crate::Roots;
use crate::loopdev::check;

/// How many zero bytes are written in one call where the device has no faster way.
const ZERO_PIECE_BYTES: usize = 1 << 20;

/// `_IO(0x12, 127)`.
const BLKZEROOUT: libc::Ioctl = 0x127f;
/// `_IO(0x12, 97)`.
const BLKFLSBUF: libc::Ioctl = 0x1261;

/// A disk opened for writing, which has been shown to be idle and to be the one that a plan names.
#[derive(Debug)]
pub struct ClaimedDisk {
    file: File,
    idle: Disk,
    planned: DiskIdentity,
}

/// While it lives, nobody else can open the disk exclusively: no mkfs on it or its partitions, no mount of them.
#[derive(Debug)]
pub struct ExclusiveHold(#[expect(dead_code, reason = "held, not used")] File);

impl ClaimedDisk {
    pub(super) fn open(idle: Disk, planned: &DiskIdentity) -> Result<Self, BlockDevError> {
        let failed = |source| BlockDevError::Open { path: idle.path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_CLOEXEC);
        let file = options.open(&idle.path).map_err(failed)?;
        let claimed = Self { file, planned: planned.clone(), idle };
        claimed.check_identity()?;
        Ok(claimed)
    }

    /// Reads the identity of the opened device again and compares it with the plan's. To be called right before the
    /// first write and before each program that is let loose on the disk.
    pub fn check_identity(&self) -> Result<(), BlockDevError> {
        let path = self.path();
        let (number, found, sector_size) = identify(&self.file, path, self.idle.sector_size, &self.idle.roots)?;
        let same_device = number == self.idle.number && sector_size == self.idle.sector_size;
        if same_device && found.is_same_disk(&self.planned) {
            return Ok(());
        }
        let planned = format!("{}, {}", describe(&self.planned, path), self.planned.size_bytes);
        let found = format!("{}, {}", describe(&found, path), found.size_bytes);
        Err(BlockDevError::IdentityChanged { planned, found })
    }

    /// What makes it this disk.
    pub fn identity(&self) -> &DiskIdentity {
        &self.idle.identity
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.idle.path
    }

    /// Its device number; `None` for a regular file.
    pub fn number(&self) -> Option<DeviceNumber> {
        self.idle.number
    }

    /// Its capacity.
    pub fn size(&self) -> Bytes {
        self.idle.size()
    }

    /// Its logical sector size.
    pub fn sector_size(&self) -> SectorSize {
        self.idle.sector_size
    }

    /// How errors name it.
    pub fn describe(&self) -> String {
        self.idle.describe()
    }

    /// The trees through which it was identified.
    pub fn roots(&self) -> &Roots {
        &self.idle.roots
    }

    /// Writes all of `bytes` at byte `offset`.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), BlockDevError> {
        self.check_range(offset, bytes.len() as u64)?;
        self.file.write_all_at(bytes, offset).map_err(|source| self.failed("write", offset, source))
    }

    /// Reads all of `buffer` from byte `offset`.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), BlockDevError> {
        self.check_range(offset, buffer.len() as u64)?;
        FileExt::read_exact_at(&self.file, buffer, offset).map_err(|source| self.failed("read", offset, source))
    }

    /// Makes all that was written durable. A failure is final: what was written before may be lost, and a second
    /// flush that succeeds would not bring it back.
    pub fn flush(&self) -> Result<(), BlockDevError> {
        self.file.sync_all().map_err(|source| self.failed("flush", 0, source))
    }

    /// Makes `range` read as zeros.
    pub fn zero(&self, range: Range<u64>) -> Result<(), BlockDevError> {
        let length = range.end.saturating_sub(range.start);
        self.check_range(range.start, length)?;
        if length == 0 || self.zero_by_kernel(&range).is_ok() {
            return Ok(());
        }
        let zeros = vec![0; ZERO_PIECE_BYTES.min(length as usize)];
        let mut at = range.start;
        while at < range.end {
            let piece = (range.end - at).min(zeros.len() as u64);
            self.write_at(&zeros[..piece as usize], at)?;
            at += piece;
        }
        Ok(())
    }

    fn zero_by_kernel(&self, range: &Range<u64>) -> io::Result<()> {
        match self.number() {
            Some(_) => self.range_ioctl(BLKZEROOUT, range),
            None => self.punch(range),
        }
    }

    /// Forgets what the kernel has cached of the disk, so that the next read comes from the medium. To be called
    /// after [`Self::flush`].
    pub fn drop_cache(&self) -> Result<(), BlockDevError> {
        if self.number().is_some() {
            // SAFETY: BLKFLSBUF takes no argument; the descriptor is open.
            check(unsafe { libc::ioctl(self.file.as_raw_fd(), BLKFLSBUF, 0) })
                .map_err(|source| self.failed("flush", 0, source))?;
        }
        rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed)
            .map_err(|errno| self.failed("flush", 0, errno.into()))
    }

    /// Keeps others from using the disk while its tables are written. Programs that make filesystems on its
    /// partitions, and the mounts of them, need it released.
    pub fn hold(&self) -> Result<ExclusiveHold, BlockDevError> {
        hold(self.path(), self.number().is_some()).map_err(|source| self.idle.exclusive_error(source))
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn failed(&self, what: &'static str, offset: u64, source: io::Error) -> BlockDevError {
        BlockDevError::Io { disk: self.describe(), what, offset, source }
    }

    fn check_range(&self, offset: u64, length: u64) -> Result<(), BlockDevError> {
        let size = self.size().get();
        if offset.checked_add(length).is_some_and(|end| end <= size) {
            return Ok(());
        }
        Err(BlockDevError::OutOfRange { disk: self.describe(), offset, length, size })
    }

    fn range_ioctl(&self, request: libc::Ioctl, range: &Range<u64>) -> io::Result<()> {
        let argument = [range.start, range.end - range.start];
        // SAFETY: BLKZEROOUT reads two u64 at the pointer, which is valid and aligned.
        check(unsafe { libc::ioctl(self.file.as_raw_fd(), request, argument.as_ptr()) }).map(|_| ())
    }

    fn punch(&self, range: &Range<u64>) -> io::Result<()> {
        use rustix::fs::FallocateFlags;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.file, flags, range.start, range.end - range.start)?)
    }
}

impl ReadAt for ClaimedDisk {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.file, buffer, offset)
    }
}

/// Opens a device with `O_EXCL`, or takes the lock that stands for it on a file.
pub(super) fn hold(path: &Path, is_device: bool) -> io::Result<ExclusiveHold> {
    let flags = if is_device { libc::O_EXCL | libc::O_CLOEXEC } else { libc::O_CLOEXEC };
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    if !is_device {
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    }
    Ok(ExclusiveHold(file))
}
