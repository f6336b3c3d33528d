//! What `statx` says of an inode.

use std::fs::File;
use std::os::fd::AsFd;

use node_model::{DeviceNumber, Timestamp};
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp, statx};
use rustix::io::Errno;

use super::FsError;

/// What was asked of an inode, in one call, so that all of it belongs to one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Type bits and permission bits.
    pub raw_mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Bytes of storage allocated.
    pub allocated: u64,
    /// Number of names.
    pub nlink: u32,
    /// Inode number.
    pub inode: u64,
    /// Last modification of the content.
    pub mtime: Timestamp,
    /// Last change of anything.
    pub ctime: Timestamp,
    /// Birth, where the filesystem records it: it tells a new inode from the one that had its number before.
    pub btime: Option<Timestamp>,
    /// The device a device node stands for.
    pub rdev: DeviceNumber,
    /// The mount it was reached through.
    pub mount_id: u64,
    /// The filesystem it is on.
    pub filesystem: DeviceNumber,
}

impl Status {
    /// Of the inode that a descriptor holds.
    pub(crate) fn of(fd: impl AsFd) -> Result<Self, Errno> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
        let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
        statx(fd, c"", flags, mask).map(|raw| Self::from_raw(&raw))
    }

    /// Of an open file; `path` is for the error.
    pub fn of_file(file: &File, path: &[u8]) -> Result<Self, FsError> {
        Self::of(file).map_err(|errno| FsError::io("read the status of", path, errno))
    }

    fn from_raw(raw: &Statx) -> Self {
        let born = raw.stx_mask & StatxFlags::BTIME.bits() != 0;
        Self {
            raw_mode: u32::from(raw.stx_mode),
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            size: raw.stx_size,
            allocated: raw.stx_blocks * 512,
            nlink: raw.stx_nlink,
            inode: raw.stx_ino,
            mtime: timestamp(raw.stx_mtime),
            ctime: timestamp(raw.stx_ctime),
            btime: born.then(|| timestamp(raw.stx_btime)),
            rdev: DeviceNumber { major: raw.stx_rdev_major, minor: raw.stx_rdev_minor },
            mount_id: raw.stx_mnt_id,
            filesystem: DeviceNumber { major: raw.stx_dev_major, minor: raw.stx_dev_minor },
        }
    }

    /// Its type.
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.raw_mode)
    }

    /// Permission bits with setuid, setgid and sticky.
    pub fn permissions(&self) -> u32 {
        self.raw_mode & 0o7777
    }

    /// Whether the content may have changed between `self` and the `later` status of the same file.
    pub fn content_changed(&self, later: &Self) -> bool {
        (self.inode, self.size, self.mtime, self.ctime) != (later.inode, later.size, later.mtime, later.ctime)
    }
}

fn timestamp(raw: StatxTimestamp) -> Timestamp {
    Timestamp { secs: raw.tv_sec, nanos: raw.tv_nsec }
}
