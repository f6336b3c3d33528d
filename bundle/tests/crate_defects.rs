//! What the crates below get wrong, and that it is right here. When one of these fails, a crate's own behaviour has
//! come back into the format. All such tests of the workspace are named `defect_of_CRATE_...`.

mod common;

use bundle::node_model::{DeviceNumber, Entry, EntryKind, Timestamp, XattrList};
use bundle::tar::{Content, Reader, encode_header};
use common::{Item, awkward, build, entry, file, sparse};

/// The entry as it comes out of the header it is written as.
fn through_tar(entry: &Entry) -> Entry {
    let header = encode_header(entry).unwrap();
    let item = Reader::new(&header).next().unwrap().unwrap();
    assert!(matches!(item.content, Content::Here(&[]) | Content::InDataChunks));
    item.entry
}

#[test]
fn defect_of_tar_a_device_node_stays_one() {
    let device = entry(b"sda", EntryKind::BlockDevice(DeviceNumber { major: 8, minor: 0 }));
    assert_eq!(through_tar(&device), device);
}

#[test]
fn defect_of_tar_attributes_keep_their_line_feeds() {
    let mut holder = file(b"file", b"").0;
    holder.xattrs = vec![(b"user.lines".to_vec(), b"one\ntwo\n\n".to_vec()), (b"user.plain".to_vec(), b"x".to_vec())];
    assert_eq!(through_tar(&holder), holder);
}

#[test]
fn defect_of_tar_directories_and_symlinks_have_attributes() {
    let xattrs: XattrList = vec![(b"security.selinux".to_vec(), b"system_u:object_r:etc_t:s0\0".to_vec())];
    for kind in [EntryKind::Directory, EntryKind::Symlink { target: b"target".to_vec() }] {
        let holder = Entry { xattrs: xattrs.clone(), ..entry(b"holder", kind) };
        assert_eq!(through_tar(&holder), holder);
    }
}

#[test]
fn defect_of_tar_times_keep_their_nanoseconds_and_zero_stays() {
    for (secs, nanos) in [(0, 0), (0, 1), (1, 999_999_999), (-1, 1)] {
        let mut timed = file(b"file", b"").0;
        timed.mtime = Timestamp { secs, nanos };
        assert_eq!(through_tar(&timed), timed);
    }
}

#[test]
fn defect_of_tar_sparse_files_of_pax_are_read() {
    let (holes, content) = sparse(b"holes", 1 << 30, &[(4096, 4096), (1 << 29, 10)]);
    let chunk = build(&[(entry(b"", EntryKind::Directory), vec![]), (holes.clone(), content.clone())]).chunks.concat();
    let item = Reader::new(&chunk).nth(1).unwrap().unwrap();
    assert_eq!((item.entry, item.content), (holes, Content::Here(&content[..])));
}

#[test]
fn defect_of_tar_hardlinks_are_links() {
    let links = |items: &[Item]| items.iter().filter(|(e, _)| matches!(e.kind, EntryKind::Hardlink { .. })).count();
    let tree = awkward();
    assert!(links(&tree) > 0);
    let archive = build(&tree).tar();
    let typed = |kind: ::tar::EntryType| {
        let mut archive = ::tar::Archive::new(&archive[..]);
        archive.entries().unwrap().filter(|entry| entry.as_ref().unwrap().header().entry_type() == kind).count()
    };
    assert_eq!(typed(::tar::EntryType::Link), links(&tree));
}
