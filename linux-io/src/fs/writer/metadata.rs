//! An entry's metadata, put on an inode held by descriptor.

use std::os::fd::BorrowedFd;

use node_model::{Entry, EntryKind, Timestamp};
use rustix::fs::{Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, chmod, chownat, utimensat};

use super::{SELF, by_path};
use crate::fs::{FsError, Status, path, xattr};

/// Puts owner, mode, attributes and times on an inode, in this order: a change of owner clears setuid bits and
/// capabilities, and ACLs are checked against the mode.
pub(super) fn apply(fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), FsError> {
    let at = &entry.path;
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    chownat(fd, c"", Some(uid), Some(gid), SELF).map_err(|errno| FsError::io("set the owner of", at, errno))?;
    if !matches!(entry.kind, EntryKind::Symlink { .. }) {
        let mode = Mode::from_raw_mode(entry.mode & 0o7777);
        // A descriptor that only names an inode cannot be given to fchmod.
        chmod(by_path(fd), mode).map_err(|errno| FsError::io("set the mode of", at, errno))?;
    }
    xattr::apply_all(fd, &entry.xattrs, at)?;
    utimensat(fd, c"", &times(entry.mtime), SELF).map_err(|errno| FsError::io("set the times of", at, errno))
}

fn times(mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.secs, tv_nsec: i64::from(mtime.nanos) },
    }
}

/// Refuses to put an entry's metadata on something of another kind.
pub(super) fn expect_kind(status: &Status, entry: &Entry) -> Result<(), FsError> {
    use rustix::fs::FileType;
    let (expected, name) = match entry.kind {
        EntryKind::File { .. } => (FileType::RegularFile, "regular file"),
        EntryKind::Directory => (FileType::Directory, "directory"),
        EntryKind::Symlink { .. } => (FileType::Symlink, "symbolic link"),
        EntryKind::CharDevice(_) => (FileType::CharacterDevice, "character device"),
        EntryKind::BlockDevice(_) => (FileType::BlockDevice, "block device"),
        EntryKind::Fifo => (FileType::Fifo, "FIFO"),
        // A link has no metadata of its own.
        EntryKind::Hardlink { .. } => return Ok(()),
    };
    if status.file_type() == expected {
        Ok(())
    } else {
        Err(FsError::Changed { path: path::display(&entry.path), expected: name })
    }
}
