//! Paths of entries: checked, split and opened below a root without ever leaving it.

use std::cmp::Ordering;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::FsError;

/// Longest piece of a path handed to the kernel at once; it takes at most 4095 bytes.
const PIECE_BYTES_MAX: usize = 3072;

/// Longest name the kernel accepts.
const NAME_BYTES_MAX: usize = 255;

/// Longest path accepted: far deeper than any program can use, yet bounded.
const PATH_BYTES_MAX: usize = 1 << 16;

/// How every path below a root is resolved: beneath it, through no symbolic link, into no other mount.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// The path as people see it.
pub(crate) fn display(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// Compares two paths in the order of a tar stream: depth first, siblings bytewise by name.
pub fn stream_order(a: &[u8], b: &[u8]) -> Ordering {
    // A slash sorts before every byte a name can hold, so that a directory's children follow it before its siblings.
    let rank = |&byte: &u8| if byte == b'/' { 0u16 } else { u16::from(byte) + 1 };
    a.iter().map(rank).cmp(b.iter().map(rank))
}

/// Splits a path into its parent and its last name; the root has none.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Refuses a path that an honest stream cannot contain. The empty path, which is the root, is accepted.
pub(crate) fn check(path: &[u8]) -> Result<(), FsError> {
    let refuse = |why| Err(FsError::HostileName { path: String::from_utf8_lossy(path).into_owned(), why });
    if path.len() > PATH_BYTES_MAX {
        let path = String::from_utf8_lossy(&path[..NAME_BYTES_MAX]).into_owned();
        return Err(FsError::HostileName { path, why: "it is longer than 65,536 bytes" });
    }
    if path.is_empty() {
        return Ok(());
    }
    if path.contains(&0) {
        return refuse("it contains a NUL");
    }
    if path[0] == b'/' {
        return refuse("it is absolute");
    }
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" => return refuse("it contains an empty name"),
            b"." | b".." => return refuse("it contains `.` or `..`"),
            long if long.len() > NAME_BYTES_MAX => return refuse("it contains a name longer than 255 bytes"),
            _ => {}
        }
    }
    Ok(())
}

/// Opens `path` below `root`; the empty path opens the root itself anew.
pub(crate) fn open_beneath(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    open_in_pieces(root, path, flags | OFlags::NOFOLLOW, Mode::empty())
}

/// Opens `path` below `root`, in pieces that the kernel accepts.
fn open_in_pieces(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let mut held: Option<OwnedFd> = None;
    let mut rest = path;
    loop {
        let at = held.as_ref().map_or(root, AsFd::as_fd);
        if rest.len() <= PIECE_BYTES_MAX {
            let last: &[u8] = if rest.is_empty() { b"." } else { rest };
            return again(|| openat2(at, last, flags | OFlags::CLOEXEC, mode, RESOLVE));
        }
        let cut = rest[..PIECE_BYTES_MAX].iter().rposition(|&byte| byte == b'/').ok_or(Errno::NAMETOOLONG)?;
        let way = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let next = again(|| openat2(at, &rest[..cut], way, Mode::empty(), RESOLVE))?;
        held = Some(next);
        rest = &rest[cut + 1..];
    }
}

/// `openat2` gives up with EAGAIN when a rename elsewhere might have moved things while it looked; trying again is
/// what it asks for. The number is bounded so that a program that renames for ever cannot hold us for ever.
pub(crate) fn again<T>(mut open: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    const TRIES_MAX: usize = 1000;
    let mut result = open();
    for _ in 1..TRIES_MAX {
        match result {
            Err(Errno::AGAIN | Errno::INTR) => result = open(),
            _ => break,
        }
    }
    result
}

/// Creates the file `name` in the directory `parent`; it must not exist.
pub(crate) fn create_in(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    again(|| openat2(parent, name, flags, Mode::RUSR | Mode::WUSR, RESOLVE))
}

/// The typed error for a refusal met on the way to `path`.
pub(crate) fn refused(action: &'static str, path: &[u8], errno: Errno) -> FsError {
    match errno {
        Errno::XDEV | Errno::LOOP => FsError::LeadsOut { path: display(path) },
        other => FsError::io(action, path, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_no_honest_stream_contains_are_refused() {
        for bad in [&b"/etc"[..], b"..", b"a/../b", b"a//b", b"a/", b"./a", b"a\0b", &[b'x'; 256], &vec![b'x'; 70_000]]
        {
            assert!(check(bad).is_err(), "{}", String::from_utf8_lossy(&bad[..bad.len().min(40)]));
        }
        for good in [&b""[..], b"a", b"a/b", b"...", b"a/..b", b"\xff\xfe/\n", &[b'x'; 255]] {
            assert!(check(good).is_ok(), "{}", String::from_utf8_lossy(good));
        }
    }

    #[test]
    fn children_come_before_later_siblings_whatever_bytes_names_hold() {
        let sorted: [&[u8]; 7] = [b"", b"a", b"a/\x01", b"a/z", b"a\x01", b"a-b", b"ab"];
        for pair in sorted.windows(2) {
            assert_eq!(stream_order(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(stream_order(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
    }
}
