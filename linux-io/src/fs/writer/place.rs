//! The place where an entry is written: its parent directories, and what stood there before.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use super::RootWriter;
use crate::fs::FsError;
use crate::fs::path::{check, open_beneath, refused};

impl RootWriter {
    /// The directory an entry lies in, made if missing and remembered for the next entry.
    pub(super) fn parent(&self, path: &[u8]) -> Result<Arc<OwnedFd>, FsError> {
        if let Some((last, fd)) = &*self.last_parent.borrow()
            && last == path
        {
            return Ok(Arc::clone(fd));
        }
        let fd = Arc::new(self.directory(path)?);
        *self.last_parent.borrow_mut() = Some((path.to_vec(), Arc::clone(&fd)));
        Ok(fd)
    }

    /// Opens a directory, and makes it and those above it if they are missing.
    pub(super) fn directory(&self, path: &[u8]) -> Result<OwnedFd, FsError> {
        check(path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match open_beneath(self.root.as_fd(), path, flags) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(|errno| refused("open the directory", path, errno)),
        }
        let mut held = open_beneath(self.root.as_fd(), b"", flags).map_err(|errno| refused("open", b"", errno))?;
        for name in path.split(|&byte| byte == b'/') {
            // Closed to everybody until it gets its own mode.
            match mkdirat(&held, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(refused("make the directory", path, errno)),
            }
            held =
                open_beneath(held.as_fd(), name, flags).map_err(|errno| refused("open the directory", path, errno))?;
        }
        Ok(held)
    }

    /// Removes what stands at `path` with all below it; nothing there is fine. What is mounted below is left alone,
    /// as an error.
    pub fn remove(&self, path: &[u8]) -> Result<(), FsError> {
        check(path)?;
        let (parent_path, name) = crate::fs::path::split(path);
        if name.is_empty() {
            return Err(FsError::HostileName { path: "/".into(), why: "the root cannot be removed" });
        }
        *self.last_parent.borrow_mut() = None;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let parent = match open_beneath(self.root.as_fd(), parent_path, flags) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(|errno| refused("find", path, errno))?,
        };
        remove_in(parent.as_fd(), name, path)
    }
}

/// Removes what stands at `name` so that something else can: anything but a directory.
pub(super) fn clear(parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<(), FsError> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(refused("replace", path, errno)),
    }
}

/// Removes a tree. Its depth is bounded by that of paths, and each level is emptied before it is left.
fn remove_in(parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<(), FsError> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(refused("remove", path, errno)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let refuse = |errno| refused("remove", path, errno);
    let directory = openat(parent, name, flags, Mode::empty()).map_err(refuse)?;
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(8 << 10);
    let mut entries = RawDir::new(&directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let name = entry.map_err(refuse)?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    for child in names {
        let child_path = [path, b"/", &child].concat();
        remove_in(directory.as_fd(), &child, &child_path)?;
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(refuse)
}
