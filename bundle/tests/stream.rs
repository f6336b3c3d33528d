//! Entries go into a volume and come out of it again.

mod common;

use bundle::catalog::{CatalogError, read_catalog, read_segment};
use bundle::cut::{CutError, RawChunk, Stopped, VolumeCutter};
use bundle::limits::CHUNK_BYTES_MAX;
use bundle::list::ChunkKind;
use bundle::node_model::{Entry, EntryKind, Extent, Timestamp};
use bundle::tar::{Content, Reader, TarError, encode_header};
use bundle::{Hash, tar};
use common::{Built, Item, awkward, build, entry, file, have, noise, sparse};
use proptest::prelude::*;

/// Reads a volume back from its chunks alone.
fn read_back(built: &Built) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for (row, chunk) in built.rows.iter().zip(&built.chunks) {
        match row.kind {
            ChunkKind::Tar => {
                assert_eq!(row.entry, items.len() as u64);
                for item in Reader::new(chunk) {
                    let item = item.unwrap();
                    let content = if let Content::Here(content) = item.content { content.to_vec() } else { vec![] };
                    items.push((item.entry, content));
                }
            }
            ChunkKind::Data => {
                let (entry, content) = &mut items[row.entry as usize];
                assert_eq!(row.packed_offset, content.len() as u64);
                content.extend_from_slice(chunk);
                content.truncate(entry.stored_bytes() as usize);
            }
            ChunkKind::End => assert_eq!(chunk[..], tar::END),
            ChunkKind::Map => panic!("a files volume has no map"),
        }
    }
    items
}

#[test]
fn the_awkward_tree_comes_back_from_its_chunks() {
    let items = awkward();
    let built = build(&items);
    assert_eq!(read_back(&built), items);
    assert_eq!(built.volume.entry_count, items.len() as u64);
    assert_eq!(built.volume.stream_bytes, built.tar().len() as u64);
    assert!(built.chunks.iter().all(|chunk| chunk.len() % tar::BLOCK_BYTES == 0));
}

#[test]
fn the_catalog_says_where_each_entry_is() {
    let items = awkward();
    let built = build(&items);
    let segments = built.catalog.iter().cloned().map(Ok::<_, CatalogError>);
    let entries: Vec<_> = read_catalog(segments).collect::<Result<_, _>>().unwrap();
    assert_eq!(entries, built.entries);
    for (read, (entry, content)) in entries.iter().zip(&items) {
        let placed = &read.placed;
        let row = placed.first_row as usize;
        let mut reader = Reader::starting_at(&built.chunks[row], placed.offset_in_chunk);
        let item = reader.next().unwrap().unwrap();
        assert_eq!(item.entry, *entry);
        let data_rows = &built.rows[row + 1..][..placed.data_row_count as usize];
        assert!(data_rows.iter().all(|data| data.kind == ChunkKind::Data && data.entry == placed.ordinal));
        assert_eq!(data_rows.is_empty(), item.content != Content::InDataChunks);
        let is_file = matches!(entry.kind, EntryKind::File { .. });
        assert_eq!(placed.content_hash, is_file.then(|| Hash::of(content)));
    }
}

#[test]
fn equal_trees_are_cut_alike_and_a_change_stays_where_it_is() {
    let mut items = vec![(entry(b"", EntryKind::Directory), vec![])];
    for number in 0..2000 {
        let path = format!("file-{number:04}");
        items.push(file(path.as_bytes(), &noise(path.as_bytes(), 20_000)));
    }
    let before = build(&items);
    let (count, bytes) = (before.chunks.len() as u64, before.volume.stream_bytes);
    assert!(bytes / count > 700_000, "{bytes} bytes in {count} chunks");
    assert_eq!(before.rows, build(&items).rows);

    items.insert(1000, file(b"file-0998-new", b"new"));
    let after = build(&items);
    let known: std::collections::HashSet<Hash> = before.rows.iter().map(|row| row.hash).collect();
    let new = after.rows.iter().filter(|row| !known.contains(&row.hash)).count();
    assert!((1..=2).contains(&new), "{new} chunks are new");
}

#[test]
fn a_large_file_is_cut_by_content_from_its_first_byte() {
    let content = noise(b"very large", 13_000_001);
    let root = (entry(b"", EntryKind::Directory), vec![]);
    let one = build(&[root.clone(), file(b"name", &content)]);
    let two = build(&[root.clone(), file(b"before", b"something"), file(b"renamed", &content)]);
    let data = |built: &Built| -> Vec<Hash> {
        built.rows.iter().filter(|row| row.kind == ChunkKind::Data).map(|row| row.hash).collect()
    };
    assert!(data(&one).len() > 4);
    assert_eq!(data(&one), data(&two));

    let grown = build(&[root.clone(), file(b"name", &[&content[..], b"appended"].concat())]);
    let same = data(&one).iter().zip(data(&grown)).filter(|(a, b)| **a == *b).count();
    assert!(same >= data(&one).len() - 1, "only the tail of a log that grew is new");

    let whole = build(&[root, file(b"name", &content[..CHUNK_BYTES_MAX as usize])]);
    assert_eq!(data(&whole).len(), 1, "up to 4 MiB a file is one chunk");
}

#[test]
fn a_large_file_that_is_given_up_leaves_nothing() {
    let root = entry(b"", EntryKind::Directory);
    let (large, content) = file(b"large", &noise(b"large", 5_000_000));
    let sink = |_: RawChunk| Ok(());
    let mut cutter = VolumeCutter::new([0; 32], sink);
    cutter.push(&root, b"", false).unwrap();
    let mut first_try = cutter.begin_large(&large).unwrap();
    first_try.write(&content).unwrap();
    first_try.abort();
    let mut second_try = cutter.begin_large(&large).unwrap();
    second_try.write(&content[..4_500_000]).unwrap();
    drop(second_try);
    let mut third_try = cutter.begin_large(&large).unwrap();
    assert!(matches!(third_try.write(&[&content[..], b"x"].concat()), Err(CutError::ContentLength { .. })));
    third_try.write(&content).unwrap();
    let placed = third_try.commit(false).unwrap();
    assert_eq!(placed.ordinal, 1);
    let volume = cutter.finish().unwrap();

    let straight = build(&[(root, vec![]), (large, content)]);
    let lengths = |rows: &[bundle::cut::PendingRow]| rows.iter().map(|row| row.content_len).collect::<Vec<_>>();
    assert_eq!(lengths(&volume.rows), lengths(&straight.volume.rows));
    assert_eq!(volume.entry_count, 2);
}

#[test]
fn a_file_that_shrank_is_padded_and_flagged() {
    let (large, content) = file(b"large", &noise(b"large", 9_000_000));
    let mut chunks = Vec::new();
    let mut cutter = VolumeCutter::new([0; 32], |chunk: RawChunk| {
        chunks.push(chunk);
        Ok(())
    });
    cutter.push(&entry(b"", EntryKind::Directory), b"", false).unwrap();
    let mut half = cutter.begin_large(&large).unwrap();
    half.write(&content[..4_000_000]).unwrap();
    assert!(matches!(half.commit(false), Err(CutError::ContentLength { found: 4_000_000, .. })));

    let mut half = cutter.begin_large(&large).unwrap();
    half.write(&content[..4_000_000]).unwrap();
    let placed = half.commit(true).unwrap();
    let volume = cutter.finish().unwrap();
    let mut expected = content[..4_000_000].to_vec();
    expected.resize(9_000_000, 0);
    assert!(placed.changed);
    assert_eq!(placed.content_hash, Some(Hash::of(&expected)));
    let data: Vec<_> = volume.rows.iter().filter(|row| row.kind == ChunkKind::Data).collect();
    assert!(data.iter().all(|row| row.flags.changed));
    let stored: Vec<u8> = data.iter().flat_map(|row| chunks[row.ticket.0 as usize].content.clone()).collect();
    assert_eq!(stored[..9_000_000], expected);
}

#[test]
fn what_does_not_fit_the_stream_is_refused_by_name() {
    let mut cutter = VolumeCutter::new([0; 32], |_: RawChunk| Ok(()));
    let (small, content) = file(b"small", b"content");
    assert!(matches!(cutter.push(&small, &content, false), Err(CutError::RootMissing { .. })));
    cutter.push(&entry(b"", EntryKind::Directory), b"", false).unwrap();
    let (large, large_content) = file(b"large", &noise(b"large", 300_000));
    let mut fat = small.clone();
    fat.xattrs = (0..20).map(|i| (format!("user.{i:02}").into_bytes(), vec![b'x'; 60_000])).collect();
    let errors = [
        cutter.push(&small, b"short", false).unwrap_err(),
        cutter.push(&large, &large_content, false).unwrap_err(),
        cutter.begin_large(&small).err().unwrap(),
        cutter.push(&fat, &content, false).unwrap_err(),
        cutter.push(&file(b"a/../b", b"").0, b"", false).unwrap_err(),
    ];
    let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn a_sink_that_stops_stops_the_cutter() {
    let mut cutter = VolumeCutter::new([0; 32], |_: RawChunk| Err(Stopped));
    cutter.push(&entry(b"", EntryKind::Directory), b"", false).unwrap();
    assert_eq!(cutter.finish(), Err(CutError::Stopped(Stopped)));
}

#[test]
fn the_largest_header_fits_into_one_chunk() {
    // The most extents, at the farthest offsets, and nearly a mebibyte of attributes.
    let far = i64::MAX as u64 - 65_536 * 2;
    let extents = (0..65_536).map(|i| Extent { offset: far + 2 * i, length: 1 }).collect();
    let mut fat = entry(b"fat", EntryKind::File { size: i64::MAX as u64, sparse: Some(extents) });
    fat.xattrs = (0..17).map(|i| (format!("user.{i:02}").into_bytes(), noise(b"x", 61_000))).collect();
    let root = (entry(b"", EntryKind::Directory), vec![]);
    let content = noise(b"fat", 65_536);
    let items = [root, (fat, content)];
    let built = build(&items);
    assert_eq!(read_back(&built), items);
    assert_eq!(built.entries[1], read_segment(built.catalog.last().unwrap()).unwrap().entries.pop().unwrap());
}

#[test]
fn only_the_canonical_spelling_of_a_header_is_read() {
    let canonical = encode_header(&file(b"name", b"content").0).unwrap();
    let with = |at: usize, byte: u8| {
        let mut header = canonical.clone();
        header[at] = byte;
        // The checksum is made right again.
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:07o}").as_bytes());
        header[155] = 0;
        header.extend_from_slice(&[0; 512]);
        Reader::new(&header).next().unwrap().map(|item| item.entry.path)
    };
    assert_eq!(with(0, b'm').unwrap(), b"mame");
    for (at, byte, why) in [
        (0, b'/', "an absolute path"),
        (265, b'r', "a user name"),
        (500, b'x', "bytes behind the prefix"),
        (105, b' ', "a space in a number"),
        (156, b'7', "another type"),
        (156, b'g', "a global header"),
        (263, b'1', "another version"),
    ] {
        assert!(with(at, byte).is_err(), "{why}");
    }
    let mut dirty_padding = [&canonical[..], b"content", &[0; 505]].concat();
    assert!(Reader::new(&dirty_padding).next().unwrap().is_ok());
    dirty_padding[1023] = 1;
    assert!(Reader::new(&dirty_padding).next().unwrap().is_err());
}

#[test]
fn fault_36_a_path_that_leads_out_of_the_root_is_never_read() {
    for path in ["../etc/passwd", "/etc/passwd", "a/../../b", "a//b", "a/./b", "..", "."] {
        // The crate writes whatever it is told to.
        let mut header = ::tar::Header::new_ustar();
        header.as_ustar_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(::tar::EntryType::Regular);
        for set in [::tar::Header::set_size, ::tar::Header::set_mtime, ::tar::Header::set_uid, ::tar::Header::set_gid] {
            set(&mut header, 0);
        }
        header.set_mode(0o644);
        header.set_cksum();
        let read = Reader::new(header.as_bytes()).next().unwrap();
        assert!(matches!(read, Err(TarError::Malformed { .. })), "{path}");
        assert!(encode_header(&file(path.as_bytes(), b"").0).is_err(), "{path}");
        let link = entry(b"link", EntryKind::Hardlink { target: path.as_bytes().to_vec() });
        assert!(encode_header(&link).is_err(), "hardlink to {path}");
    }
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>().prop_map(|b| if b == 0 || b == b'/' { b'_' } else { b }), 1..=130)
        .prop_filter("not a name", |name| name != b"." && name != b"..")
}

fn any_path() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any_name(), 1..4).prop_map(|names| names.join(&b'/'))
}

fn any_kind() -> impl Strategy<Value = EntryKind> {
    let number =
        || (0u32..4096, 0u32..1 << 20).prop_map(|(major, minor)| bundle::node_model::DeviceNumber { major, minor });
    let extents = prop::collection::vec((1u64..1 << 40, 1u64..5000), 0..20).prop_map(|gaps| {
        let mut end = 0;
        let extent = |(gap, length)| {
            let extent = Extent { offset: end + gap, length };
            end += gap + length;
            extent
        };
        gaps.into_iter().map(extent).collect::<Vec<_>>()
    });
    prop_oneof![
        (0u64..3000).prop_map(|size| EntryKind::File { size, sparse: None }),
        (extents, 0u64..1000).prop_map(|(extents, tail)| {
            let end = extents.last().map_or(0, |last| last.offset + last.length);
            EntryKind::File { size: end + tail, sparse: Some(extents) }
        }),
        any_path().prop_map(|target| EntryKind::Hardlink { target }),
        Just(EntryKind::Directory),
        any_path().prop_map(|target| EntryKind::Symlink { target }),
        number().prop_map(EntryKind::CharDevice),
        number().prop_map(EntryKind::BlockDevice),
        Just(EntryKind::Fifo),
    ]
}

prop_compose! {
    fn any_entry()(
        path in any_path(), kind in any_kind(), mode in 0u32..0o10000, uid in any::<u32>(), gid in any::<u32>(),
        secs in prop_oneof![any::<i64>(), -10i64..10, Just(0o77_777_777_777), Just(0o100_000_000_000)],
        nanos in prop_oneof![Just(0u32), 0u32..1_000_000_000],
        xattrs in prop::collection::btree_map(
            prop::collection::vec(1u8..=255, 1..40), prop::collection::vec(any::<u8>(), 0..200), 0..4),
        flags in prop_oneof![Just(0u32), any::<u32>()], project_id in prop_oneof![Just(0u32), any::<u32>()],
    ) -> Entry {
        let mtime = Timestamp { secs, nanos };
        Entry { path, kind, mode, uid, gid, mtime, xattrs: xattrs.into_iter().collect(), flags, project_id }
    }
}

proptest! {
    #[test]
    fn every_entry_survives_its_header_and_the_catalog(entries in prop::collection::vec(any_entry(), 1..8)) {
        let mut items: Vec<Item> = vec![(entry(b"", EntryKind::Directory), vec![])];
        items.extend(entries.into_iter().map(|entry| {
            let content = noise(&entry.path, entry.stored_bytes() as usize);
            (entry, content)
        }));
        let built = build(&items);
        prop_assert_eq!(read_back(&built), items);
        let mut read = Vec::new();
        for segment in &built.catalog {
            read.extend(read_segment(segment).unwrap().entries);
        }
        prop_assert_eq!(read, built.entries);
    }

    #[test]
    fn fault_35_damaged_chunks_are_errors_or_valid_entries(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let built = AWKWARD.with(|built| built.clone());
        let mut chunk = built.concat();
        for (at, byte) in picks {
            let at = at.index(chunk.len());
            chunk[at] = byte;
        }
        if let Some(cut) = cut {
            chunk.truncate(cut.index(chunk.len()));
        }
        for item in Reader::new(&chunk) {
            let Ok(item) = item else { break };
            prop_assert!(encode_header(&item.entry).is_ok());
        }
    }

    #[test]
    fn fault_35_damaged_catalogs_and_lists_are_errors_or_valid(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let built = build(&[
            (entry(b"", EntryKind::Directory), vec![]), sparse(b"s", 1 << 20, &[(0, 4096)]), file(b"t", b"content"),
        ]);
        let damage = |mut bytes: Vec<u8>| {
            for (at, byte) in &picks {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes
        };
        // The frame has no checksum, so damage reaches the content too.
        let content = zstd::bulk::decompress(&built.catalog[0], 4 << 20).unwrap();
        let frame = bundle::frame::compress(&damage(content), 1).unwrap();
        for bytes in [frame, damage(built.catalog[0].clone())] {
            if let Ok(segment) = read_segment(&bytes) {
                prop_assert!(segment.entries.iter().all(|read| tar::check_entry(&read.entry).is_ok()));
            }
        }
        let _ = bundle::list::read_segment(&damage(built.list[0].clone()));
    }
}

thread_local! {
    /// The tar chunks of the awkward tree, made once.
    static AWKWARD: Vec<Vec<u8>> = {
        let built = build(&awkward());
        let is_tar = |kind| kind == ChunkKind::Tar;
        built.chunks.iter().zip(&built.rows).filter(|(_, row)| is_tar(row.kind)).map(|(c, _)| c.clone()).collect()
    };
}

#[test]
fn the_real_zstd_and_tars_read_the_frames_one_after_another() {
    use std::process::Command;
    if !have(&["zstd", "tar", "bsdtar"]) {
        return;
    }
    let items = awkward();
    let built = build(&items);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("volume.tar.zst");
    std::fs::write(&path, built.tar_zst()).unwrap();
    let output = |command: &mut Command| {
        let output = command.env("LC_ALL", "C.UTF-8").output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let decoded = output(Command::new("zstd").args(["-d", "-c", "-q"]).arg(&path));
    assert!(decoded == built.tar(), "zstd -d gives another stream");

    // Both escape line feeds in names here, so each entry is one line.
    for mut list in [Command::new("tar"), Command::new("bsdtar")] {
        if list.get_program() == "tar" {
            list.arg("--quoting-style=escape");
        }
        let listing = output(list.arg("-tf").arg(&path));
        let lines: Vec<&[u8]> = listing.trim_ascii_end().split(|&byte| byte == b'\n').collect();
        assert_eq!(lines.len(), items.len(), "{list:?}");
        assert_eq!(lines[0], b"./");
        assert_eq!(lines[lines.len() - 1], b"z-large");
    }
}

#[test]
fn the_largest_pax_header_is_read_by_the_real_tars() {
    if !have(&["tar", "bsdtar"]) {
        return;
    }
    let mut fat = entry(b"fat", EntryKind::Fifo);
    fat.xattrs = (0..16).map(|i| (format!("user.{i:02}").into_bytes(), noise(b"x", 65_000))).collect();
    let mut room = bundle::limits::PAX_BYTES_MAX - (encode_header(&fat).unwrap().len() - 1024);
    // What the last attribute's record needs besides its value, and the padding that was counted as records.
    room -= 36 + 512;
    fat.xattrs.push((b"user.99".to_vec(), vec![b'y'; room]));
    let header = encode_header(&fat).unwrap();
    assert!(header.len() > (1 << 20) - 1024, "{}", header.len());

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("volume.tar");
    std::fs::write(&path, build(&[(entry(b"", EntryKind::Directory), vec![]), (fat, vec![])]).tar()).unwrap();
    for tar in ["tar", "bsdtar"] {
        let output = std::process::Command::new(tar).arg("-tf").arg(&path).output().unwrap();
        assert!(output.status.success(), "{tar}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, b"./\nfat\n", "{tar}");
    }
}

#[test]
fn the_cuts_of_a_large_file_do_not_depend_on_how_it_comes() {
    let (large, content) = file(b"large", &noise(b"pieces", 9_500_001));
    let rows = |piece: usize| {
        let mut cutter = VolumeCutter::new([0; 32], |_: RawChunk| Ok(()));
        cutter.push(&entry(b"", EntryKind::Directory), b"", false).unwrap();
        let mut writing = cutter.begin_large(&large).unwrap();
        content.chunks(piece).for_each(|bytes| writing.write(bytes).unwrap());
        writing.commit(false).unwrap();
        cutter.finish().unwrap().rows
    };
    let whole = rows(content.len());
    for piece in [4097, 1 << 20, (4 << 20) - 1, 4 << 20, (4 << 20) + 1] {
        assert_eq!(rows(piece), whole, "in pieces of {piece}");
    }
}
