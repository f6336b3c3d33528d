//! The root descriptor below which everything happens.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::FsError;

/// Opens a directory as a root, with whatever is mounted below it.
pub fn open_root(path: &Path) -> Result<OwnedFd, FsError> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| FsError::io("open", trimmed(path), errno))
}

/// Opens a directory as a root of its own, bare: what is mounted on top of directories below it is not there, and
/// what those mounts hide is. The view is private to the descriptor; nobody else sees a mount. Needs root.
pub fn open_bare_root(path: &Path) -> Result<OwnedFd, FsError> {
    open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
        .map_err(|errno| FsError::io("take a private view of", trimmed(path), errno))
}

/// The path without the slash that errors put in front.
fn trimmed(path: &Path) -> &[u8] {
    let bytes = path.as_os_str().as_bytes();
    bytes.strip_prefix(b"/").unwrap_or(bytes)
}
