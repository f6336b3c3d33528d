//! A small tree with everything awkward in it, and a volume made of it.

// Each test program uses a part of this.
#![allow(dead_code)]

use bundle::catalog::{CatalogEntry, CatalogWriter, SourceStamp};
use bundle::cut::{ChunkHashes, CutVolume, RawChunk, VolumeCutter, is_large};
use bundle::frame::{LEVEL_DEFAULT, compress};
use bundle::list::{ListRow, read_list};
use bundle::node_model::{DeviceNumber, Entry, EntryKind, Extent, Timestamp};
use bundle::{Hash, frame};

/// Whether all these programs are installed; says which one is not.
pub(crate) fn have(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| {
        let version = if **program == "mkfs.ext4" { "-V" } else { "--version" };
        std::process::Command::new(program).arg(version).output().is_err()
    });
    if let Some(program) = missing {
        println!("skipped: {program} is not installed");
    }
    missing.is_none()
}

/// The cut key of every test.
pub(crate) const CUT_KEY: [u8; 32] = *b"the cut key of rerack's tests...";

/// An entry with the bytes stored of it.
pub(crate) type Item = (Entry, Vec<u8>);

/// An entry of no particular interest.
pub(crate) fn entry(path: &[u8], kind: EntryKind) -> Entry {
    let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    let mtime = Timestamp { secs: 1_700_000_000, nanos: 0 };
    Entry { path: path.to_vec(), kind, mode, uid: 0, gid: 0, mtime, xattrs: vec![], flags: 0, project_id: 0 }
}

/// A dense file.
pub(crate) fn file(path: &[u8], content: &[u8]) -> Item {
    (entry(path, EntryKind::File { size: content.len() as u64, sparse: None }), content.to_vec())
}

/// A sparse file with these extents, and bytes for them.
pub(crate) fn sparse(path: &[u8], size: u64, extents: &[(u64, u64)]) -> Item {
    let extents: Vec<Extent> = extents.iter().map(|&(offset, length)| Extent { offset, length }).collect();
    let entry = entry(path, EntryKind::File { size, sparse: Some(extents) });
    let content = noise(path, entry.stored_bytes() as usize);
    (entry, content)
}

/// Bytes that do not compress and that no implementation can get wrong.
pub(crate) fn noise(seed: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(seed).finalize_xof().fill(&mut bytes);
    bytes
}

/// A POSIX ACL as the kernel keeps it: owner, one named user, group, mask, others.
pub(crate) fn acl(user: u32, permissions: u16) -> Vec<u8> {
    let nobody = u32::MAX;
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, allowed, id) in
        [(1_u16, 6_u16, nobody), (2, permissions, user), (4, 4, nobody), (0x10, 6, nobody), (0x20, 4, nobody)]
    {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&allowed.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    acl
}

/// `cap_net_raw=ep` as the kernel keeps it, revision 2.
pub(crate) fn capability() -> Vec<u8> {
    [0x0200_0001_u32, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Everything awkward, in the order of the stream: paths below the root, siblings in bytewise order.
pub(crate) fn awkward() -> Vec<Item> {
    let mut items = vec![(entry(b"", EntryKind::Directory), vec![])];
    items[0].0.mtime = Timestamp { secs: 1_600_000_000, nanos: 1 };
    items.extend(links_and_devices());
    items.extend(metadata());
    items.extend(names());
    items.extend(sparse_files());
    items.push(file(b"z-large", &noise(b"large", 300_001)));
    items
}

fn links_and_devices() -> Vec<Item> {
    let plain = |path: &[u8], kind| (entry(path, kind), vec![]);
    let mut link = entry(b"a/symlink", EntryKind::Symlink { target: b"../e/nowhere".to_vec() });
    link.mode = 0o777;
    link.uid = 1000;
    link.mtime = Timestamp { secs: 1_000_000_000, nanos: 123_456_789 };
    link.xattrs = vec![(b"trusted.on-link".to_vec(), b"value".to_vec())];
    let mut long_link = entry(b"a/symlink-long", EntryKind::Symlink { target: b"x/".repeat(200) });
    long_link.mode = 0o777;
    let mut setuid = file(b"a/setuid", b"#!/bin/sh\n");
    setuid.0.mode = 0o6755;
    setuid.0.uid = 1000;
    setuid.0.gid = 1001;
    let mut directory = plain(b"a", EntryKind::Directory);
    directory.0.mode = 0o3775;
    directory.0.mtime = Timestamp { secs: 1_500_000_000, nanos: 987_654_321 };
    vec![
        directory,
        plain(b"a/block", EntryKind::BlockDevice(DeviceNumber { major: 259, minor: 1_048_575 })),
        plain(b"a/char", EntryKind::CharDevice(DeviceNumber { major: 1, minor: 3 })),
        file(b"a/empty", b""),
        plain(b"a/fifo", EntryKind::Fifo),
        setuid,
        (link, vec![]),
        (long_link, vec![]),
        plain(b"b", EntryKind::Directory),
        plain(b"b/hardlink", EntryKind::Hardlink { target: b"a/setuid".to_vec() }),
    ]
}

fn metadata() -> Vec<Item> {
    let with = |path: &[u8], xattrs: &[(&[u8], &[u8])]| {
        let mut item = file(path, path);
        item.0.xattrs = xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        item
    };
    let mut capable = with(b"c/capability", &[(b"security.capability", &capability())]);
    capable.0.mode = 0o755;
    let mut access_acl = with(b"c/acl-access", &[(b"system.posix_acl_access", &acl(1234, 6))]);
    access_acl.0.mode = 0o664;
    let mut default_acl = (entry(b"c/acl-default", EntryKind::Directory), vec![]);
    default_acl.0.xattrs = vec![(b"system.posix_acl_default".to_vec(), acl(1234, 4))];
    let mut before_1970 = file(b"c/before-1970", b"old");
    before_1970.0.mtime = Timestamp { secs: -86_401, nanos: 250_000_000 };
    let mut half_second = file(b"c/before-1970-by-half", b"old");
    half_second.0.mtime = Timestamp { secs: -1, nanos: 500_000_000 };
    let mut flagged = file(b"c/flags-nodump", b"flags");
    flagged.0.flags = 0x40 | 0x80;
    let mut immutable = file(b"c/flags-immutable", b"flags");
    immutable.0.flags = 0x10;
    let mut large_owner = file(b"c/large-owner", b"owner");
    (large_owner.0.uid, large_owner.0.gid) = (4_000_000_000, 2_097_152);
    let mut project = file(b"c/project", b"project");
    (project.0.project_id, project.0.flags) = (77, 0x2000_0000);
    vec![
        (entry(b"c", EntryKind::Directory), vec![]),
        access_acl,
        default_acl,
        file(b"c/acl-default/no-acl", b"inherits nothing"),
        before_1970,
        half_second,
        capable,
        immutable,
        flagged,
        large_owner,
        project,
        with(b"c/xattr-odd-value", &[(b"user.odd", b"line\nfeed\0zero\n12 path=/etc/shadow\n")]),
        with(b"c/xattr-security", &[(b"security.rerack", b"value")]),
        with(b"c/xattr-trusted", &[(b"trusted.rerack", b"value")]),
        with(b"c/xattr-user", &[(b"user.empty", b""), (b"user.plain", b"value")]),
        with(b"c/xattr-user-equals", &[(b"user.a=b%c", b"value")]),
    ]
}

fn names() -> Vec<Item> {
    let deep = b"d/deep-".to_vec();
    let deep = [&deep[..], &b"e".repeat(90)].concat();
    let deeper = [&deep[..], b"/", &b"f".repeat(200)].concat();
    let latin1 = [&b"d/long-latin1-\xe4"[..], &b"-".repeat(120)].concat();
    let mut items = vec![
        (entry(b"d", EntryKind::Directory), vec![]),
        file(b"d/ space and \"quotes\" and \\", b"name"),
        file(b"d/-rf", b"name"),
        (entry(&deep, EntryKind::Directory), vec![]),
        (entry(&deeper, EntryKind::Directory), vec![]),
        file(&[&deeper[..], b"/leaf"].concat(), b"deep"),
        file(b"d/latin1-\xe4", b"name"),
        file(b"d/line\nfeed", b"name"),
        file(&latin1, b"name"),
        file(&[&b"d/"[..], &b"n".repeat(255)].concat(), b"name"),
        file("d/\u{fc}tf8".as_bytes(), b"name"),
        file(&[&b"d/"[..], "\u{fc}".repeat(100).as_bytes()].concat(), b"name"),
    ];
    items[1..].sort_by(|a, b| a.0.path.cmp(&b.0.path));
    items
}

fn sparse_files() -> Vec<Item> {
    vec![
        (entry(b"s", EntryKind::Directory), vec![]),
        sparse(b"s/all-hole", 1 << 20, &[]),
        sparse(b"s/hole-at-end", 1 << 20, &[(0, 4096)]),
        sparse(b"s/hole-at-start", 1 << 20, &[((1 << 20) - 4096, 4096)]),
        sparse(b"s/large", 64 << 20, &[(4096, 200_704), (1 << 20, 400 << 10), (32 << 20, 8192)]),
        sparse(b"s/odd-end", 100_001, &[(0, 4096), (98_304, 1697)]),
    ]
}

/// A volume, cut, with its chunks in the order of the stream.
pub(crate) struct Built {
    /// What the cutter said.
    pub(crate) volume: CutVolume,
    /// The chunks in list order.
    pub(crate) chunks: Vec<Vec<u8>>,
    /// The list's segments.
    pub(crate) list: Vec<Vec<u8>>,
    /// The list's rows.
    pub(crate) rows: Vec<ListRow>,
    /// The catalog's entries.
    pub(crate) entries: Vec<CatalogEntry>,
    /// The catalog's segments.
    pub(crate) catalog: Vec<Vec<u8>>,
}

impl Built {
    /// The tar stream.
    pub(crate) fn tar(&self) -> Vec<u8> {
        self.chunks.concat()
    }

    /// The frames of all chunks, one after another: the `.tar.zst`.
    pub(crate) fn tar_zst(&self) -> Vec<u8> {
        self.chunks.iter().flat_map(|chunk| compress(chunk, frame::LEVEL_DEFAULT).unwrap()).collect()
    }
}

/// Cuts the items, in this order.
pub(crate) fn build(items: &[Item]) -> Built {
    let mut given: Vec<RawChunk> = Vec::new();
    let mut cutter = VolumeCutter::new(CUT_KEY, |chunk: RawChunk| {
        given.push(chunk);
        Ok(())
    });
    let mut entries = Vec::new();
    for (number, (entry, content)) in items.iter().enumerate() {
        let placed = if is_large(entry) {
            let mut large = cutter.begin_large(entry).unwrap();
            content.chunks(100_000).for_each(|piece| large.write(piece).unwrap());
            large.commit(false).unwrap()
        } else {
            cutter.push(entry, content, false).unwrap()
        };
        let source = SourceStamp { inode: 12 + number as u64, ctime: Timestamp { secs: 1_700_000_001, nanos: 7 } };
        entries.push(CatalogEntry { entry: entry.clone(), source, placed });
    }
    let volume = cutter.finish().unwrap();
    let mut hashes = ChunkHashes::new();
    for chunk in &given {
        hashes.set(chunk.ticket, Hash::of(&chunk.content));
    }
    let list = volume.list_segments(&hashes).unwrap();
    let rows = read_list(list.iter().map(Vec::as_slice)).unwrap();
    given.sort_by_key(|chunk| chunk.ticket);
    let chunks = volume.rows.iter().map(|row| given[row.ticket.0 as usize].content.clone()).collect();
    let mut writer = CatalogWriter::new(LEVEL_DEFAULT).unwrap();
    let mut catalog: Vec<Vec<u8>> = entries.iter().filter_map(|entry| writer.push(entry).unwrap()).collect();
    catalog.extend(writer.finish().unwrap());
    Built { volume, chunks, list, rows, entries, catalog }
}
