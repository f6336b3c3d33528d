//! What an entry must be like, whoever it comes from.

use node_model::{Entry, EntryKind, Extent};

use super::TarError;
use crate::limits::{FILE_BYTES_MAX, PATH_BYTES_MAX, SPARSE_EXTENTS_MAX};

/// The kernel's `XATTR_NAME_MAX`.
const XATTR_NAME_BYTES_MAX: usize = 255;
/// The kernel's `XATTR_SIZE_MAX`.
const XATTR_VALUE_BYTES_MAX: usize = 64 << 10;
/// Seven octal digits, which is what a tar header has; Linux has 12 bits of major and 20 of minor number.
const DEVICE_NUMBER_MAX: u32 = 0o7_777_777;

/// Checks an entry: its path stays below the root, its numbers are in range, its lists in order. Everything that is
/// written has passed this, and everything that is read from a tar stream or a catalog.
pub fn check_entry(entry: &Entry) -> Result<(), TarError> {
    fault(entry).map_or(Ok(()), |why| Err(TarError::Entry { path: entry.display_path(), why }))
}

fn fault(entry: &Entry) -> Option<&'static str> {
    if entry.path.is_empty() {
        if entry.kind != EntryKind::Directory {
            return Some("only a directory can be the root");
        }
    } else if let Some(why) = path_fault(&entry.path) {
        return Some(why);
    }
    if entry.mode > 0o7777 {
        return Some("its mode has more than twelve bits");
    }
    if entry.mtime.nanos >= 1_000_000_000 {
        return Some("its time has more nanoseconds than a second");
    }
    for (name, value) in &entry.xattrs {
        if name.is_empty() || name.len() > XATTR_NAME_BYTES_MAX || name.contains(&0) {
            return Some("an extended attribute has a name that none can have");
        }
        if value.len() > XATTR_VALUE_BYTES_MAX {
            return Some("an extended attribute is longer than 64 KiB");
        }
    }
    if !entry.xattrs.is_sorted_by(|a, b| a.0 < b.0) {
        return Some("its extended attributes are not ascending by name");
    }
    match &entry.kind {
        EntryKind::File { size, .. } if *size > FILE_BYTES_MAX => Some("it is larger than a file can be"),
        EntryKind::File { size, sparse: Some(extents) } => extents_fault(*size, extents),
        EntryKind::Hardlink { target } => path_fault(target).map(|_| "it links to a path that cannot be one"),
        EntryKind::Symlink { target } if target.is_empty() || target.len() > PATH_BYTES_MAX || target.contains(&0) => {
            Some("its link target cannot be one")
        }
        EntryKind::CharDevice(n) | EntryKind::BlockDevice(n)
            if n.major > DEVICE_NUMBER_MAX || n.minor > DEVICE_NUMBER_MAX =>
        {
            Some("its device number is out of range")
        }
        _ => None,
    }
}

fn path_fault(path: &[u8]) -> Option<&'static str> {
    if path.len() > PATH_BYTES_MAX {
        return Some("its path is longer than 64 KiB");
    }
    if path.contains(&0) {
        return Some("its path contains a zero byte");
    }
    let leads_out = |name: &[u8]| matches!(name, b"" | b"." | b"..");
    path.split(|&b| b == b'/').any(leads_out).then_some("its path has an empty, `.` or `..` component")
}

fn extents_fault(size: u64, extents: &[Extent]) -> Option<&'static str> {
    if extents.len() > SPARSE_EXTENTS_MAX {
        return Some("it has more extents than a sparse file may have");
    }
    let mut free_from = 0;
    for (index, extent) in extents.iter().enumerate() {
        let Some(end) = extent.offset.checked_add(extent.length).filter(|&end| end <= size) else {
            return Some("an extent ends beyond the file");
        };
        // Two that touch would be one.
        if extent.length == 0 || extent.offset < free_from || (index > 0 && extent.offset == free_from) {
            return Some("its extents are empty, not ascending, or touch");
        }
        free_from = end;
    }
    None
}
