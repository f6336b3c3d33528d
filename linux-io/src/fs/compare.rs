//! Compares a filesystem with what it should be, byte for byte.

use std::cmp::Ordering;
use std::error::Error;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::iter::Peekable;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use node_model::{Entry, EntryKind, Extent, Timestamp, XattrList};

use super::{Difference, DifferenceKind, EntryInfo, Excludes, FsError, Visit, Walker, describe_flags, stream_order};

/// Differences kept; more are only counted.
const DIFFERENCES_MAX: usize = 10_000;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// Extents are compared after rounding to the largest block size a filesystem here has: where holes lie within a
/// block is not a filesystem's to say.
const BLOCK_BYTES: u64 = 4096;

/// A path as it should be.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The entry.
    pub entry: Entry,
    /// For a regular file, the hash of its content as the comparison's hash function computes it; `None` leaves the
    /// content uncompared.
    pub content_hash: Option<[u8; 32]>,
    /// Bytes of storage it took where it was captured, if known; else its stored bytes stand for them.
    pub allocated: Option<u64>,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Paths compared.
    pub entry_count: u64,
    /// Regular files whose content was read and compared.
    pub file_count: u64,
    /// Bytes of content read.
    pub content_bytes: u64,
    /// The differences, in stream order.
    pub differences: Vec<Difference>,
    /// Differences beyond those listed.
    pub unlisted_count: u64,
}

/// Computes the hash by which contents are compared, reading a file where the entry says that it holds data.
pub type ContentHash<'a> = &'a dyn Fn(&Entry, &File) -> io::Result<[u8; 32]>;

/// Compares the filesystem below `root` with `expected`, which must be in stream order. Sockets are not compared.
/// Everything but access, change and birth times and inode numbers is: type, mode, owner, size, modification time,
/// attributes with ACLs and capabilities, flags, project id, link groups, device numbers, link targets, content,
/// holes and allocation.
///
/// `hash` must be the function that made the expected content hashes; see [`hash_packed`].
pub fn compare<E: From<FsError>>(
    expected: impl IntoIterator<Item = Result<Expected, E>>,
    root: OwnedFd,
    excludes: Excludes,
    hash: ContentHash<'_>,
) -> Result<Comparison, E> {
    let mut expected = expected.into_iter().peekable();
    let mut found = Walker::new(root, excludes)?
        .filter(|visit| !matches!(visit, Ok(Visit::Socket { .. } | Visit::Vanished { .. })));
    let mut result = Comparison::default();
    for visit in &mut found {
        let visit = match visit {
            Ok(visit) => visit,
            Err(error) => {
                let (path, error) = (b"".to_vec(), chain(&error));
                result.push(&path, DifferenceKind::Unreadable { error });
                continue;
            }
        };
        let path = match &visit {
            Visit::Entry(info) => info.entry.path.clone(),
            Visit::Covered { path } | Visit::Socket { path } | Visit::Vanished { path } => path.clone(),
        };
        let is_expected = skip_missing(&mut expected, &path, &mut result)?;
        match visit {
            Visit::Entry(info) if is_expected => {
                if let Some(wanted) = expected.next().transpose()? {
                    result.entry_count += 1;
                    compare_entry(&wanted, &info, hash, &mut result);
                }
            }
            Visit::Covered { .. } if is_expected => {
                expected.next();
                result.push(&path, DifferenceKind::Covered);
            }
            _ => result.push(&path, DifferenceKind::Extra),
        }
    }
    for rest in expected {
        result.push(&rest?.entry.path, DifferenceKind::Missing);
    }
    Ok(result)
}

/// Reports all that is expected before `path` as missing, and says whether `path` itself is expected.
fn skip_missing<E>(
    expected: &mut Peekable<impl Iterator<Item = Result<Expected, E>>>,
    path: &[u8],
    result: &mut Comparison,
) -> Result<bool, E> {
    loop {
        let order = match expected.peek() {
            Some(Ok(wanted)) => stream_order(&wanted.entry.path, path),
            Some(Err(_)) => Ordering::Less,
            None => return Ok(false),
        };
        match order {
            Ordering::Less => {
                if let Some(missing) = expected.next().transpose()? {
                    result.push(&missing.entry.path, DifferenceKind::Missing);
                }
            }
            Ordering::Equal => return Ok(true),
            Ordering::Greater => return Ok(false),
        }
    }
}

/// Compares two trees.
pub fn compare_roots(expected: OwnedFd, found: OwnedFd, excludes: Excludes) -> Result<Comparison, FsError> {
    let expected = Walker::new(expected, excludes.clone())?.filter_map(|visit| match visit {
        Ok(Visit::Entry(info)) => Some(expect(*info)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    compare(expected, found, excludes, &|entry, file| hash_packed(entry, file))
}

/// What another tree must equal to equal this entry.
fn expect(info: EntryInfo) -> Result<Expected, FsError> {
    let hash = info.content.as_ref().map(|file| hash_packed(&info.entry, file)).transpose();
    let content_hash = hash.map_err(|error| FsError::io("read", &info.entry.path, error))?;
    Ok(Expected { entry: info.entry, content_hash, allocated: Some(info.status.allocated) })
}

/// Compares one path that was found with what it should be; see [`compare`].
pub fn compare_found(expected: &Expected, found: &EntryInfo, hash: ContentHash<'_>) -> Vec<Difference> {
    let mut result = Comparison::default();
    compare_entry(expected, found, hash, &mut result);
    result.differences
}

/// The BLAKE3 hash of a file's stored content: the bytes of its extents one after another, holes left out.
pub fn hash_packed(entry: &Entry, file: &File) -> io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES.min(entry.stored_bytes().max(1) as usize)];
    for extent in extents_of(entry) {
        read_extent(file, extent, &mut buffer, |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
    }
    Ok(*hasher.finalize().as_bytes())
}

/// The stretches of a file that its entry stores.
fn extents_of(entry: &Entry) -> Vec<Extent> {
    match &entry.kind {
        EntryKind::File { sparse: Some(extents), .. } => extents.clone(),
        EntryKind::File { size, sparse: None } => vec![Extent { offset: 0, length: *size }],
        _ => Vec::new(),
    }
}

/// Reads one stretch of a file piece by piece.
fn read_extent(
    file: &File,
    extent: Extent,
    buffer: &mut [u8],
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut done = 0;
    while done < extent.length {
        let length = (extent.length - done).min(buffer.len() as u64) as usize;
        file.read_exact_at(&mut buffer[..length], extent.offset + done)?;
        each(&buffer[..length])?;
        done += length as u64;
    }
    Ok(())
}

/// Compares one path, present on both sides.
fn compare_entry(wanted: &Expected, info: &EntryInfo, hash: ContentHash<'_>, result: &mut Comparison) {
    let (expected, found) = (&wanted.entry, &info.entry);
    let path = &expected.path;
    if kind_name(&expected.kind) != kind_name(&found.kind) {
        return result.value(path, "type", kind_name(&expected.kind), kind_name(&found.kind));
    }
    if let (EntryKind::Hardlink { target: expected }, EntryKind::Hardlink { target: found }) =
        (&expected.kind, &found.kind)
    {
        // All else is the file's own, and was compared under its first name.
        return result.differ(path, "first name", &text(expected), &text(found));
    }
    result.differ(path, "mode", &format!("{:04o}", expected.mode), &format!("{:04o}", found.mode));
    result.differ(path, "uid", &expected.uid, &found.uid);
    result.differ(path, "gid", &expected.gid, &found.gid);
    result.differ(path, "mtime", &time(expected.mtime), &time(found.mtime));
    result.differ(path, "project id", &expected.project_id, &found.project_id);
    if expected.flags != found.flags {
        result.value(path, "flags", &describe_flags(expected.flags), &describe_flags(found.flags));
    }
    compare_xattrs(path, &expected.xattrs, &found.xattrs, result);
    match (&expected.kind, &found.kind) {
        (EntryKind::Symlink { target: expected }, EntryKind::Symlink { target: found }) => {
            result.differ(path, "link target", &text(expected), &text(found));
        }
        (EntryKind::CharDevice(expected), EntryKind::CharDevice(found))
        | (EntryKind::BlockDevice(expected), EntryKind::BlockDevice(found)) => {
            let number = |n: &node_model::DeviceNumber| format!("{}:{}", n.major, n.minor);
            result.differ(path, "device number", &number(expected), &number(found));
        }
        (EntryKind::File { size: expected_size, .. }, EntryKind::File { size: found_size, .. }) => {
            if expected_size == found_size {
                compare_content(wanted, info, hash, result);
            } else {
                result.differ(path, "size", expected_size, found_size);
            }
        }
        _ => {}
    }
}

fn compare_xattrs(path: &[u8], expected: &XattrList, found: &XattrList, result: &mut Comparison) {
    let value = |list: &XattrList, name: &[u8]| {
        let value = list.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        value.map_or_else(|| "absent".to_owned(), |value| format!("0x{}", node_model::HexBytes(value)))
    };
    let mut names: Vec<&Vec<u8>> = expected.iter().chain(found).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    for name in names {
        let what = format!("xattr {}", String::from_utf8_lossy(name));
        result.differ(path, &what, &value(expected, name), &value(found, name));
    }
}

fn compare_content(wanted: &Expected, info: &EntryInfo, hash: ContentHash<'_>, result: &mut Comparison) {
    let (entry, path) = (&wanted.entry, &wanted.entry.path);
    let (holes_expected, holes_found) = (rounded(&extents_of(entry)), rounded(&extents_of(&info.entry)));
    if holes_expected != holes_found {
        result.value(path, "holes", &extents_text(&holes_expected), &extents_text(&holes_found));
    }
    let allocated = wanted.allocated.unwrap_or_else(|| entry.stored_bytes());
    let bound = allocated + allocated / 20 + (64 << 10);
    if info.status.allocated > bound {
        result.value(path, "allocation", &format!("at most {bound}"), &info.status.allocated.to_string());
    }
    let (Some(expected), Some(file)) = (wanted.content_hash, &info.content) else { return };
    match hash(entry, file).and_then(|found| Ok((found, has_data_outside(entry, &info.entry, file)?))) {
        Ok((found, outside)) => {
            result.file_count += 1;
            result.content_bytes += entry.stored_bytes();
            let hex = |hash: [u8; 32]| node_model::HexBytes(hash.to_vec()).to_string();
            result.differ(path, "content", &hex(expected), &hex(found));
            if outside {
                result.value(path, "content", "zero in its holes", "not zero");
            }
        }
        Err(error) => result.push(path, DifferenceKind::Unreadable { error: error.to_string() }),
    }
}

/// Whether a file holds anything but zeros where its entry has holes.
fn has_data_outside(expected: &Entry, found: &Entry, file: &File) -> io::Result<bool> {
    let EntryKind::File { sparse: Some(kept), .. } = &expected.kind else { return Ok(false) };
    let mut buffer = vec![0; READ_BYTES];
    let mut outside = false;
    for extent in extents_of(found) {
        let (mut at, end) = (extent.offset, extent.offset + extent.length);
        let first = kept.partition_point(|k| k.offset + k.length <= at);
        for covered in kept[first..].iter().take_while(|k| k.offset < end).chain([&Extent { offset: end, length: 0 }]) {
            let length = covered.offset.saturating_sub(at);
            read_extent(file, Extent { offset: at, length }, &mut buffer, |bytes| {
                outside |= bytes.iter().any(|&byte| byte != 0);
                Ok(())
            })?;
            at = at.max(covered.offset + covered.length);
        }
    }
    Ok(outside)
}

/// Extents grown to whole blocks and joined where they touch.
fn rounded(extents: &[Extent]) -> Vec<Extent> {
    let mut blocks: Vec<Extent> = Vec::new();
    for extent in extents.iter().filter(|extent| extent.length > 0) {
        let start = extent.offset / BLOCK_BYTES * BLOCK_BYTES;
        let end = (extent.offset + extent.length).next_multiple_of(BLOCK_BYTES);
        match blocks.last_mut() {
            Some(last) if last.offset + last.length >= start => last.length = end - last.offset,
            _ => blocks.push(Extent { offset: start, length: end - start }),
        }
    }
    blocks
}

fn extents_text(extents: &[Extent]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = extents.iter().take(SHOWN).map(|e| format!("{}+{}", e.offset, e.length)).collect();
    match extents.len() {
        0 => "no data".to_owned(),
        n if n > SHOWN => format!("data at {} and {} more", shown.join(" "), n - SHOWN),
        _ => format!("data at {}", shown.join(" ")),
    }
}

fn kind_name(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File { .. } => "regular file",
        EntryKind::Hardlink { .. } => "another name of an earlier file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink { .. } => "symbolic link",
        EntryKind::CharDevice(_) => "character device",
        EntryKind::BlockDevice(_) => "block device",
        EntryKind::Fifo => "FIFO",
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn time(time: Timestamp) -> String {
    format!("{}.{:09}", time.secs, time.nanos)
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl Comparison {
    /// Whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty() && self.unlisted_count == 0
    }

    fn push(&mut self, path: &[u8], kind: DifferenceKind) {
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(Difference { path: path.to_vec(), kind });
        } else {
            self.unlisted_count += 1;
        }
    }

    fn value(&mut self, path: &[u8], what: &str, expected: &str, found: &str) {
        let (what, expected, found) = (what.to_owned(), expected.to_owned(), found.to_owned());
        self.push(path, DifferenceKind::Value { what, expected, found });
    }

    fn differ<T: PartialEq + Display>(&mut self, path: &[u8], what: &str, expected: &T, found: &T) {
        if expected != found {
            self.value(path, what, &expected.to_string(), &found.to_string());
        }
    }
}
