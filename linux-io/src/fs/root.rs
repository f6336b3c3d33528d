//! The root descriptor below which everything happens.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, open_tree,
};

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

/// Mounts the filesystem on `device` read-only, for nobody but the descriptor returned, which is its root; the mount
/// ends with it. A journal is not replayed, so nothing is written.
pub fn open_unmounted(device: &Path, fstype: &str) -> Result<OwnedFd, FsError> {
    let mount = || -> Result<OwnedFd, Errno> {
        let context = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", device)?;
        fsconfig_set_flag(&context, "ro")?;
        match fstype {
            "ext2" | "ext3" | "ext4" => fsconfig_set_flag(&context, "noload")?,
            "xfs" => {
                fsconfig_set_flag(&context, "norecovery")?;
                // A copy of it may be mounted: the node's own disk while its image is read, or the other way round.
                fsconfig_set_flag(&context, "nouuid")?;
            }
            _ => {}
        }
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    mount().map_err(|errno| FsError::io("mount read-only", trimmed(device), errno))
}

/// The path without the slash that errors put in front.
fn trimmed(path: &Path) -> &[u8] {
    let bytes = path.as_os_str().as_bytes();
    bytes.strip_prefix(b"/").unwrap_or(bytes)
}
