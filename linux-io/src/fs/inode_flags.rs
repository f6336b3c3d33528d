//! Inode flags (`chattr`) and project ids.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::ioctl::{Getter, Setter, ioctl, opcode};

use super::FsError;

/// Flags with their `chattr` letters, as `FS_IOC_GETFLAGS` numbers them.
const LETTERS: [(u32, char); 15] = [
    (SECURE_DELETE, 's'),
    (UNDELETE, 'u'),
    (COMPRESS, 'c'),
    (SYNC, 'S'),
    (IMMUTABLE, 'i'),
    (APPEND, 'a'),
    (NO_DUMP, 'd'),
    (NO_ATIME, 'A'),
    (NO_COMPRESS, 'm'),
    (JOURNAL_DATA, 'j'),
    (NO_TAIL, 't'),
    (DIR_SYNC, 'D'),
    (TOP_DIR, 'T'),
    (NO_COW, 'C'),
    (PROJECT_INHERIT, 'P'),
];

const SECURE_DELETE: u32 = 0x1;
const UNDELETE: u32 = 0x2;
const COMPRESS: u32 = 0x4;
const SYNC: u32 = 0x8;
const IMMUTABLE: u32 = 0x10;
const APPEND: u32 = 0x20;
const NO_DUMP: u32 = 0x40;
const NO_ATIME: u32 = 0x80;
const NO_COMPRESS: u32 = 0x400;
const ENCRYPT: u32 = 0x800;
const JOURNAL_DATA: u32 = 0x4000;
const NO_TAIL: u32 = 0x8000;
const DIR_SYNC: u32 = 0x1_0000;
const TOP_DIR: u32 = 0x2_0000;
const VERITY: u32 = 0x10_0000;
const NO_COW: u32 = 0x80_0000;
const DAX: u32 = 0x200_0000;
const PROJECT_INHERIT: u32 = 0x2000_0000;
const CASEFOLD: u32 = 0x4000_0000;

/// The flags that are kept: those a person sets by `chattr` and that mean the same on a new filesystem.
///
/// Left out are those that say how the filesystem stores the inode (`e` extents, `I` hashed directory, `N` inline
/// data, huge file, compressed blocks, dirty): they follow from how it is made and what is written. `x` (DAX) depends
/// on the hardware below. See [`UNKEPT_FLAGS`] for what cannot be kept.
pub const KEPT_FLAGS: u32 = SECURE_DELETE
    | UNDELETE
    | COMPRESS
    | SYNC
    | IMMUTABLE
    | APPEND
    | NO_DUMP
    | NO_ATIME
    | NO_COMPRESS
    | JOURNAL_DATA
    | NO_TAIL
    | DIR_SYNC
    | TOP_DIR
    | NO_COW
    | PROJECT_INHERIT;

/// Flags that mean something to their owner and yet are lost: `E` (fscrypt: without its key the names and content
/// read are ciphertext or nothing), `V` (fs-verity: sealed by its own program), `F` (case-folding: can only be set on
/// an empty directory) and `x` (DAX). Capture warns of each file that has one.
pub const UNKEPT_FLAGS: u32 = ENCRYPT | VERITY | CASEFOLD | DAX;

/// The flags as `lsattr` writes them: their letters.
pub fn describe_flags(flags: u32) -> String {
    let unkept = [(ENCRYPT, 'E'), (VERITY, 'V'), (CASEFOLD, 'F'), (DAX, 'x')];
    let letters = LETTERS.iter().chain(&unkept).filter(|(bit, _)| flags & bit != 0);
    letters.map(|(_, letter)| letter).collect()
}

/// `struct fsxattr` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FsXattr {
    xflags: u32,
    extent_size: u32,
    extent_count: u32,
    project_id: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

const GET_XATTR: rustix::ioctl::Opcode = opcode::read::<FsXattr>(b'X', 31);
const SET_XATTR: rustix::ioctl::Opcode = opcode::write::<FsXattr>(b'X', 32);

/// Whether the kernel said that this filesystem has no such thing.
fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS)
}

/// All flags of an open file or directory, kept or not. None where the filesystem has none.
pub(crate) fn read_flags(fd: BorrowedFd<'_>, path: &[u8]) -> Result<u32, FsError> {
    match rustix::fs::ioctl_getflags(fd) {
        Ok(flags) => Ok(flags.bits()),
        Err(errno) if is_unsupported(errno) => Ok(0),
        Err(errno) => Err(FsError::io("read the flags of", path, errno)),
    }
}

/// Sets the kept flags of an open file or directory, and leaves the others as they are.
pub(crate) fn write_flags(fd: BorrowedFd<'_>, flags: u32, path: &[u8]) -> Result<(), FsError> {
    let now = read_flags(fd, path)?;
    let wanted = (now & !KEPT_FLAGS) | (flags & KEPT_FLAGS);
    if now == wanted {
        return Ok(());
    }
    let wanted = rustix::fs::IFlags::from_bits_retain(wanted);
    rustix::fs::ioctl_setflags(fd, wanted).map_err(|errno| FsError::io("set the flags of", path, errno))
}

fn read_fsxattr(fd: BorrowedFd<'_>) -> Result<FsXattr, Errno> {
    // SAFETY: FS_IOC_FSGETXATTR writes one `struct fsxattr`, whose layout `FsXattr` has; its opcode carries the size.
    unsafe { ioctl(fd, Getter::<GET_XATTR, FsXattr>::new()) }
}

/// The project id of an open file or directory: 0 where the filesystem has none.
pub(crate) fn read_project(fd: BorrowedFd<'_>, path: &[u8]) -> Result<u32, FsError> {
    match read_fsxattr(fd) {
        Ok(xattr) => Ok(xattr.project_id),
        Err(errno) if is_unsupported(errno) => Ok(0),
        Err(errno) => Err(FsError::io("read the project id of", path, errno)),
    }
}

/// Sets the project id of an open file or directory. A filesystem without projects accepts none but 0.
pub(crate) fn write_project(fd: BorrowedFd<'_>, project_id: u32, path: &[u8]) -> Result<(), FsError> {
    if read_project(fd, path)? == project_id {
        return Ok(());
    }
    let set = |errno| FsError::io("set the project id of", path, errno);
    let mut xattr = read_fsxattr(fd).map_err(set)?;
    xattr.project_id = project_id;
    // SAFETY: FS_IOC_FSSETXATTR reads one `struct fsxattr`, as above.
    unsafe { ioctl(fd, Setter::<SET_XATTR, FsXattr>::new(xattr)) }.map_err(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_flags_are_those_with_a_letter_and_none_that_is_lost() {
        let lettered = LETTERS.iter().fold(0, |all, (bit, _)| all | bit);
        assert_eq!(lettered, KEPT_FLAGS);
        assert_eq!(KEPT_FLAGS & UNKEPT_FLAGS, 0);
        assert_eq!(describe_flags(IMMUTABLE | APPEND | CASEFOLD), "iaF");
    }
}
