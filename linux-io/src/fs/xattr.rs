//! Extended attributes of any inode, by descriptor.

use std::os::fd::{AsRawFd, BorrowedFd};

use node_model::XattrList;
use rustix::buffer::spare_capacity;
use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
use rustix::io::Errno;

use super::FsError;

/// Most bytes of attribute names of one inode; the kernel's own bound.
const NAMES_BYTES_MAX: usize = 64 << 10;

/// Most bytes of one attribute's value; the kernel's own bound.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// Attributes that show the same data as another one, or that the kernel computes: XFS lists the raw form of ACLs
/// beside `system.posix_acl_*`.
const NOT_KEPT: [&[u8]; 2] = [b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT"];

/// The path by which calls that take none but a path reach a descriptor's inode, whatever its kind: the link leads to
/// the inode itself, so that even a symbolic link is not followed.
pub(crate) fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// All attributes of an inode, ascending by name. None where the filesystem has no attributes.
pub(crate) fn read_all(fd: BorrowedFd<'_>, path: &[u8]) -> Result<XattrList, FsError> {
    let mut xattrs = XattrList::new();
    let by_path = proc_path(fd);
    for name in list(&by_path, path)? {
        if NOT_KEPT.contains(&name.as_slice()) {
            continue;
        }
        // The value may grow between two calls; then it is asked for with the largest buffer there can be.
        for capacity in [256, VALUE_BYTES_MAX] {
            let mut value = Vec::with_capacity(capacity);
            match getxattr(&by_path, &name[..], spare_capacity(&mut value)) {
                Ok(_) => {}
                Err(Errno::RANGE) if capacity < VALUE_BYTES_MAX => continue,
                // Removed since it was listed.
                Err(Errno::NODATA) => break,
                Err(errno) => return Err(failed("read", &name, path, errno)),
            }
            xattrs.push((name, value));
            break;
        }
    }
    xattrs.sort();
    Ok(xattrs)
}

/// The names of an inode's attributes.
fn list(by_path: &str, path: &[u8]) -> Result<Vec<Vec<u8>>, FsError> {
    let mut names = Vec::new();
    for capacity in [1024, NAMES_BYTES_MAX] {
        names = Vec::with_capacity(capacity);
        match listxattr(by_path, spare_capacity(&mut names)) {
            Ok(_) => break,
            Err(Errno::RANGE) if capacity < NAMES_BYTES_MAX => {}
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(errno) => return Err(FsError::io("list the extended attributes of", path, errno)),
        }
    }
    Ok(names.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

/// Makes an inode's attributes equal to `wanted`: what it inherited from its directory's default ACL is removed,
/// except labels of a security module, which cannot be.
pub(crate) fn apply_all(fd: BorrowedFd<'_>, wanted: &XattrList, path: &[u8]) -> Result<(), FsError> {
    let by_path = proc_path(fd);
    for name in list(&by_path, path)? {
        let kept = NOT_KEPT.contains(&name.as_slice()) || name == b"security.selinux";
        if kept || wanted.iter().any(|(wanted, _)| *wanted == name) {
            continue;
        }
        match removexattr(&by_path, &name[..]) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(errno) => return Err(failed("remove", &name, path, errno)),
        }
    }
    for (name, value) in wanted {
        setxattr(&by_path, &name[..], value, XattrFlags::empty()).map_err(|errno| failed("set", name, path, errno))?;
    }
    Ok(())
}

fn failed(action: &'static str, name: &[u8], path: &[u8], errno: Errno) -> FsError {
    FsError::Xattr {
        action,
        name: String::from_utf8_lossy(name).into_owned(),
        path: super::path::display(path),
        source: errno.into(),
    }
}
