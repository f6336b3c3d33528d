//! One inode, read by descriptor.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use node_model::{Entry, EntryKind};
use rustix::fs::{FileType, Mode, OFlags, open, openat, readlinkat};
use rustix::io::Errno;

use super::extents::{FileExtents, data_extents};
use super::inode_flags::{KEPT_FLAGS, UNKEPT_FLAGS, read_flags, read_project};
use super::status::Status;
use super::{FsError, xattr};

/// What stands at a name.
#[derive(Debug)]
pub enum Found {
    /// Something that an entry describes.
    Entry(Box<EntryInfo>),
    /// A socket, which streams leave out: the program that listens makes it again.
    Socket,
}

/// An entry as read from a filesystem, with what its source says beyond it.
#[derive(Debug)]
pub struct EntryInfo {
    /// The entry.
    pub entry: Entry,
    /// The status it was made from. A content read afterwards belongs to it if a later status shows no change.
    pub status: Status,
    /// The content, for a regular file that is not another name of one met before.
    pub content: Option<File>,
    /// Flags it has that the entry does not keep; see [`UNKEPT_FLAGS`].
    pub lost_flags: u32,
    /// Whether it has holes in more pieces than an entry records, and so is described as dense.
    pub too_many_extents: bool,
}

/// Reads what stands at `name` in the open directory `parent`; `path` becomes the entry's. Nothing is followed, and
/// nothing but regular files and directories is opened.
pub fn read_entry(parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Found, FsError> {
    Node::open(parent, name, path)?.read(path)
}

/// Reads what stands at `path` below the open directory `root`, following nothing on the way.
pub fn find_entry(root: BorrowedFd<'_>, path: &[u8]) -> Result<Found, FsError> {
    super::path::check(path)?;
    let handle = super::path::open_beneath(root, path, OFlags::PATH)
        .map_err(|errno| super::path::refused("find", path, errno))?;
    Node::of(handle, path)?.read(path)
}

/// Reads the entry of an open regular file again: for a file that changed while it was read. The file's own
/// descriptor is used, so it is the same file even if its name leads elsewhere by now.
pub fn reread_file(file: &File, path: &[u8]) -> Result<EntryInfo, FsError> {
    let status = Status::of_file(file, path)?;
    let mut info = describe_open(file.as_fd(), status, path)?;
    info.content = Some(file.try_clone().map_err(|e| FsError::io("duplicate the descriptor of", path, e))?);
    Ok(info)
}

/// An inode held by a descriptor that only names it.
pub(crate) struct Node {
    pub(crate) handle: OwnedFd,
    pub(crate) status: Status,
}

impl Node {
    /// Takes hold of what stands at `name`, without opening it.
    pub(crate) fn open(parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Self, FsError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat(parent, name, flags, Mode::empty()).map_err(|errno| FsError::io("find", path, errno))?;
        Self::of(handle, path)
    }

    /// Looks at an inode already held.
    pub(crate) fn of(handle: OwnedFd, path: &[u8]) -> Result<Self, FsError> {
        let status = Status::of(&handle).map_err(|errno| FsError::io("read the status of", path, errno))?;
        Ok(Self { handle, status })
    }

    /// Opens this very inode for reading.
    pub(crate) fn open_for_reading(&self, path: &[u8]) -> Result<OwnedFd, FsError> {
        let directory =
            if self.status.file_type() == FileType::Directory { OFlags::DIRECTORY } else { OFlags::empty() };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | directory;
        let by_path = xattr::proc_path(self.handle.as_fd());
        // Only the owner and root may leave access times alone.
        match open(&by_path, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => open(&by_path, flags, Mode::empty()),
            other => other,
        }
        .map_err(|errno| FsError::io("open", path, errno))
    }

    /// Reads everything an entry holds.
    pub(crate) fn read(self, path: &[u8]) -> Result<Found, FsError> {
        let kind = match self.status.file_type() {
            FileType::RegularFile => {
                let file = File::from(self.open_for_reading(path)?);
                let mut info = describe_open(file.as_fd(), self.status, path)?;
                info.content = Some(file);
                return Ok(Found::Entry(Box::new(info)));
            }
            FileType::Directory => {
                let directory = self.open_for_reading(path)?;
                return describe_open(directory.as_fd(), self.status, path).map(Box::new).map(Found::Entry);
            }
            FileType::Socket => return Ok(Found::Socket),
            FileType::Symlink => {
                let target = readlinkat(&self.handle, c"", Vec::new())
                    .map_err(|errno| FsError::io("read the symbolic link", path, errno))?;
                EntryKind::Symlink { target: target.into_bytes() }
            }
            FileType::CharacterDevice => EntryKind::CharDevice(self.status.rdev),
            FileType::BlockDevice => EntryKind::BlockDevice(self.status.rdev),
            FileType::Fifo => EntryKind::Fifo,
            FileType::Unknown => {
                let unknown = std::io::Error::other("its type is unknown");
                return Err(FsError::io("describe", path, unknown));
            }
        };
        let mut info = EntryInfo::new(path, kind, self.status);
        info.entry.xattrs = xattr::read_all(self.handle.as_fd(), path)?;
        Ok(Found::Entry(Box::new(info)))
    }
}

impl EntryInfo {
    /// An entry with what the status alone says.
    pub(crate) fn new(path: &[u8], kind: EntryKind, status: Status) -> Self {
        let entry = Entry {
            path: path.to_vec(),
            kind,
            mode: status.permissions(),
            uid: status.uid,
            gid: status.gid,
            mtime: status.mtime,
            xattrs: Vec::new(),
            flags: 0,
            project_id: 0,
        };
        Self { entry, status, content: None, lost_flags: 0, too_many_extents: false }
    }
}

/// Describes a regular file or directory that is open for reading.
fn describe_open(fd: BorrowedFd<'_>, status: Status, path: &[u8]) -> Result<EntryInfo, FsError> {
    let mut too_many_extents = false;
    let kind = if status.file_type() == FileType::Directory {
        EntryKind::Directory
    } else {
        let extents = data_extents(fd, status.size).map_err(|error| FsError::io("find the holes of", path, error))?;
        too_many_extents = extents == FileExtents::TooMany;
        let sparse = match extents {
            FileExtents::Sparse(extents) => Some(extents),
            FileExtents::Dense | FileExtents::TooMany => None,
        };
        EntryKind::File { size: status.size, sparse }
    };
    let mut info = EntryInfo::new(path, kind, status);
    info.entry.xattrs = xattr::read_all(fd, path)?;
    let flags = read_flags(fd, path)?;
    info.entry.flags = flags & KEPT_FLAGS;
    info.lost_flags = flags & UNKEPT_FLAGS;
    info.entry.project_id = read_project(fd, path)?;
    info.too_many_extents = too_many_extents;
    Ok(info)
}
