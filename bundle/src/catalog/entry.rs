//! One entry of a catalog segment as bytes.

use node_model::{DeviceNumber, Entry, EntryKind, Extent, Timestamp};

use super::{CatalogEntry, Placed, SourceStamp};
use crate::Hash;
use crate::limits::{CHUNK_BYTES_MAX, PATH_BYTES_MAX, PAX_BYTES_MAX, SPARSE_EXTENTS_MAX};
use crate::wire::{Input, put_bytes, put_number, put_signed};

/// No entry is shorter: it has at least this many numbers.
pub(super) const BYTES_MIN: usize = 17;

const KIND_FILE: u8 = 0;
const KIND_SPARSE: u8 = 1;
const KIND_HARDLINK: u8 = 2;
const KIND_DIRECTORY: u8 = 3;
const KIND_SYMLINK: u8 = 4;
const KIND_CHAR: u8 = 5;
const KIND_BLOCK: u8 = 6;
const KIND_FIFO: u8 = 7;
const FLAG_CHANGED: u8 = 1;

/// What an entry's encoding leans on: the entry before it in the segment.
#[derive(Debug, Default)]
pub(super) struct Previous {
    pub(super) path: Vec<u8>,
    pub(super) first_row: u64,
}

pub(super) fn encode(out: &mut Vec<u8>, entry: &CatalogEntry, previous: &Previous) {
    let CatalogEntry { entry, source, placed } = entry;
    let shared = entry.path.iter().zip(&previous.path).take_while(|(a, b)| a == b).count();
    put_number(out, shared as u64);
    put_bytes(out, &entry.path[shared..]);
    out.push(kind_byte(&entry.kind));
    out.push(if placed.changed { FLAG_CHANGED } else { 0 });
    for number in [entry.mode, entry.uid, entry.gid] {
        put_number(out, number.into());
    }
    put_time(out, entry.mtime);
    put_number(out, entry.flags.into());
    put_number(out, entry.project_id.into());
    put_number(out, source.inode);
    put_time(out, source.ctime);
    put_number(out, entry.xattrs.len() as u64);
    for (name, value) in &entry.xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
    put_number(out, placed.first_row.saturating_sub(previous.first_row));
    put_number(out, placed.offset_in_chunk.into());
    put_kind(out, &entry.kind);
    if matches!(entry.kind, EntryKind::File { .. }) {
        put_number(out, placed.data_row_count);
        let hash = placed.content_hash.unwrap_or_else(|| Hash::of(b""));
        out.extend_from_slice(hash.as_bytes());
    }
}

const fn kind_byte(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::File { sparse: None, .. } => KIND_FILE,
        EntryKind::File { sparse: Some(_), .. } => KIND_SPARSE,
        EntryKind::Hardlink { .. } => KIND_HARDLINK,
        EntryKind::Directory => KIND_DIRECTORY,
        EntryKind::Symlink { .. } => KIND_SYMLINK,
        EntryKind::CharDevice(_) => KIND_CHAR,
        EntryKind::BlockDevice(_) => KIND_BLOCK,
        EntryKind::Fifo => KIND_FIFO,
    }
}

fn put_kind(out: &mut Vec<u8>, kind: &EntryKind) {
    match kind {
        EntryKind::File { size, sparse } => {
            put_number(out, *size);
            let Some(extents) = sparse else { return };
            put_number(out, extents.len() as u64);
            let mut end = 0;
            for extent in extents {
                put_number(out, extent.offset - end);
                put_number(out, extent.length);
                end = extent.offset + extent.length;
            }
        }
        EntryKind::Hardlink { target } | EntryKind::Symlink { target } => put_bytes(out, target),
        EntryKind::CharDevice(number) | EntryKind::BlockDevice(number) => {
            put_number(out, number.major.into());
            put_number(out, number.minor.into());
        }
        EntryKind::Directory | EntryKind::Fifo => {}
    }
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    put_signed(out, time.secs);
    put_number(out, time.nanos.into());
}

pub(super) fn decode(input: &mut Input<'_>, ordinal: u64, previous: &Previous) -> Option<CatalogEntry> {
    let shared = usize::try_from(input.number()?).ok()?;
    let mut path = previous.path.get(..shared)?.to_vec();
    path.extend_from_slice(input.bytes(PATH_BYTES_MAX)?);
    let kind = input.byte()?;
    let changed = match input.byte()? {
        0 => false,
        FLAG_CHANGED => true,
        _ => return None,
    };
    let (mode, uid, gid) = (input.small()?, input.small()?, input.small()?);
    let mtime = take_time(input)?;
    let (flags, project_id) = (input.small()?, input.small()?);
    let source = SourceStamp { inode: input.number()?, ctime: take_time(input)? };
    let xattr_count = usize::try_from(input.number()?).ok()?;
    let mut xattrs = Vec::new();
    for _ in 0..xattr_count {
        xattrs.push((input.bytes(PAX_BYTES_MAX)?.to_vec(), input.bytes(PAX_BYTES_MAX)?.to_vec()));
    }
    let first_row = previous.first_row.checked_add(input.number()?)?;
    let offset_in_chunk = input.small().filter(|&offset| offset < CHUNK_BYTES_MAX)?;
    let kind = take_kind(input, kind)?;
    let (data_row_count, content_hash) = match kind {
        EntryKind::File { .. } => (input.number()?, Some(Hash::from_bytes(input.array()?))),
        _ => (0, None),
    };
    Some(CatalogEntry {
        entry: Entry { path, kind, mode, uid, gid, mtime, xattrs, flags, project_id },
        source,
        placed: Placed { ordinal, first_row, offset_in_chunk, data_row_count, content_hash, changed },
    })
}

fn take_kind(input: &mut Input<'_>, kind: u8) -> Option<EntryKind> {
    Some(match kind {
        KIND_FILE => EntryKind::File { size: input.number()?, sparse: None },
        KIND_SPARSE => {
            let size = input.number()?;
            let count = usize::try_from(input.number()?).ok().filter(|&count| count <= SPARSE_EXTENTS_MAX)?;
            let mut extents = Vec::new();
            let mut end = 0_u64;
            for _ in 0..count {
                let extent = Extent { offset: end.checked_add(input.number()?)?, length: input.number()? };
                end = extent.offset.checked_add(extent.length)?;
                extents.push(extent);
            }
            EntryKind::File { size, sparse: Some(extents) }
        }
        KIND_HARDLINK => EntryKind::Hardlink { target: input.bytes(PATH_BYTES_MAX)?.to_vec() },
        KIND_DIRECTORY => EntryKind::Directory,
        KIND_SYMLINK => EntryKind::Symlink { target: input.bytes(PATH_BYTES_MAX)?.to_vec() },
        KIND_CHAR => EntryKind::CharDevice(take_device(input)?),
        KIND_BLOCK => EntryKind::BlockDevice(take_device(input)?),
        KIND_FIFO => EntryKind::Fifo,
        _ => return None,
    })
}

fn take_device(input: &mut Input<'_>) -> Option<DeviceNumber> {
    Some(DeviceNumber { major: input.small()?, minor: input.small()? })
}

fn take_time(input: &mut Input<'_>) -> Option<Timestamp> {
    let (secs, nanos) = (input.signed()?, input.small()?);
    (nanos < 1_000_000_000).then_some(Timestamp { secs, nanos })
}
