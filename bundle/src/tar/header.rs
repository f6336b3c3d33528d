//! Writing: one entry's PAX header, where it needs one, its ustar header, and a sparse file's map.

use ::tar::{EntryType, Header};
use node_model::{Entry, EntryKind, Timestamp};

use super::pax::Records;
use super::{BLOCK_BYTES, TarError, check_entry, padded, sparse};
use crate::limits::PAX_BYTES_MAX;

/// The largest owner that seven octal digits hold.
const ID_MAX: u32 = 0o7_777_777;
/// The largest size and time that eleven octal digits hold.
const LONG_MAX: u64 = 0o77_777_777_777;

/// Everything that stands before the entry's content in the stream: a whole number of blocks. A PAX header is written
/// only for what the ustar header cannot hold.
pub fn encode_header(entry: &Entry) -> Result<Vec<u8>, TarError> {
    check_entry(entry)?;
    let map = match &entry.kind {
        EntryKind::File { size, sparse: Some(extents) } => sparse::encode(*size, extents),
        _ => Vec::new(),
    };
    let (ustar, records) = headers(entry, map.len() as u64);
    let records = records.encode();
    if records.len() > PAX_BYTES_MAX {
        return Err(TarError::TooMuchMetadata { path: entry.display_path(), bytes: records.len() });
    }
    let mut out = Vec::with_capacity(3 * BLOCK_BYTES + records.len() + map.len());
    if !records.is_empty() {
        out.extend_from_slice(pax_header(records.len() as u64).as_bytes());
        out.extend_from_slice(&records);
        out.resize(padded(out.len() as u64) as usize, 0);
    }
    out.extend_from_slice(ustar.as_bytes());
    out.extend_from_slice(&map);
    Ok(out)
}

/// The header that announces PAX records. It says nothing of the entry, so that it is the same for all.
fn pax_header(size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    set_name(&mut header, b"././@PaxHeader");
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}

fn headers(entry: &Entry, map_len: u64) -> (Header, Records) {
    let mut header = Header::new_ustar();
    let mut records = Records {
        xattrs: entry.xattrs.clone(),
        flags: entry.flags,
        project_id: entry.project_id,
        ..Records::default()
    };
    set_path(&mut header, &mut records, entry);
    header.set_mode(entry.mode);
    header.set_uid(entry.uid.min(ID_MAX).into());
    header.set_gid(entry.gid.min(ID_MAX).into());
    records.uid = (entry.uid > ID_MAX).then_some(entry.uid);
    records.gid = (entry.gid > ID_MAX).then_some(entry.gid);

    let whole_seconds = u64::try_from(entry.mtime.secs).ok().filter(|&secs| secs <= LONG_MAX);
    header.set_mtime(whole_seconds.unwrap_or(0));
    let is_exact = whole_seconds.is_some() && entry.mtime.nanos == 0;
    records.mtime = (!is_exact).then_some(entry.mtime);

    let size = map_len + entry.stored_bytes();
    header.set_size(size.min(LONG_MAX));
    records.size = (size > LONG_MAX).then_some(size);
    set_kind(&mut header, &mut records, &entry.kind);

    let names = [records.path.as_ref(), records.linkpath.as_ref(), records.sparse.as_ref().map(|(name, _)| name)];
    records.binary_names = names.into_iter().flatten().any(|name| std::str::from_utf8(name).is_err());
    header.set_cksum();
    (header, records)
}

fn set_path(header: &mut Header, records: &mut Records, entry: &Entry) {
    let mut path = if entry.path.is_empty() { b".".to_vec() } else { entry.path.clone() };
    if entry.kind == EntryKind::Directory {
        path.push(b'/');
    }
    if let EntryKind::File { size, sparse: Some(_) } = &entry.kind {
        // A program that does not know sparse files shall not take map and data for the file.
        set_name(header, &[b"GNUSparseFile.0/", &path[..path.len().min(84)]].concat());
        records.sparse = Some((path, *size));
    } else if let Some((prefix, name)) = split(&path) {
        set_name(header, name);
        if let Some(ustar) = header.as_ustar_mut() {
            ustar.prefix[..prefix.len()].copy_from_slice(prefix);
        }
    } else {
        set_name(header, &path[..path.len().min(100)]);
        records.path = Some(path);
    }
}

/// How ustar holds a path: up to 100 bytes as they are, longer ones divided at the first slash that leaves the right
/// lengths.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((&[], path));
    }
    let from = path.len() - 101;
    let slash = (from..path.len().min(156)).find(|&at| path[at] == b'/')?;
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    (!prefix.is_empty() && !name.is_empty()).then_some((prefix, name))
}

fn set_name(header: &mut Header, name: &[u8]) {
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.name[..name.len()].copy_from_slice(name);
    }
}

fn set_kind(header: &mut Header, records: &mut Records, kind: &EntryKind) {
    let (entry_type, target, device) = match kind {
        EntryKind::File { .. } => (EntryType::Regular, None, None),
        EntryKind::Hardlink { target } => (EntryType::Link, Some(target), None),
        EntryKind::Directory => (EntryType::Directory, None, None),
        EntryKind::Symlink { target } => (EntryType::Symlink, Some(target), None),
        EntryKind::CharDevice(number) => (EntryType::Char, None, Some(number)),
        EntryKind::BlockDevice(number) => (EntryType::Block, None, Some(number)),
        EntryKind::Fifo => (EntryType::Fifo, None, None),
    };
    header.set_entry_type(entry_type);
    let Some(ustar) = header.as_ustar_mut() else { return };
    if let Some(target) = target {
        let fits = target.len().min(100);
        ustar.linkname[..fits].copy_from_slice(&target[..fits]);
        records.linkpath = (target.len() > 100).then(|| target.clone());
    }
    if let Some(number) = device {
        ustar.set_device_major(number.major);
        ustar.set_device_minor(number.minor);
    }
}

/// The time that a ustar header without a PAX record says.
pub(super) fn whole_second(secs: u64) -> Option<Timestamp> {
    (secs <= LONG_MAX).then_some(Timestamp { secs: secs as i64, nanos: 0 })
}
