//! Trees read, written again and compared on real filesystems. Needs root.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use linux_io::fs::scratch::ScratchFilesystem;
use linux_io::fs::{
    Comparison, EntryInfo, Excludes, FsError, RootWriter, Visit, Walker, awkward, compare_roots, open_bare_root,
    open_root, stream_order,
};
use linux_io::mount::{MountOptions, Mounted};
use node_model::{Entry, EntryKind};

fn walk(root: &Path, excludes: Excludes) -> Vec<Visit> {
    Walker::new(open_root(root).unwrap(), excludes).unwrap().map(|visit| visit.unwrap()).collect()
}

fn entries(root: &Path) -> Vec<EntryInfo> {
    let keep = |visit| match visit {
        Visit::Entry(info) => Some(*info),
        _ => None,
    };
    walk(root, Excludes::default()).into_iter().filter_map(keep).collect()
}

fn compare(expected: &Path, found: &Path) -> Comparison {
    compare_roots(open_root(expected).unwrap(), open_root(found).unwrap(), Excludes::default()).unwrap()
}

/// The bytes a stream would carry for a file.
fn packed(info: &EntryInfo) -> Vec<u8> {
    let EntryKind::File { size, sparse } = &info.entry.kind else { panic!("no file") };
    let whole = vec![node_model::Extent { offset: 0, length: *size }];
    let mut bytes = Vec::new();
    for extent in sparse.as_ref().unwrap_or(&whole) {
        let start = bytes.len();
        bytes.resize(start + extent.length as usize, 0);
        info.content.as_ref().unwrap().read_exact_at(&mut bytes[start..], extent.offset).unwrap();
    }
    bytes
}

/// Writes a tree again the way a restore does: entries in any order, by several threads, large files in pieces.
fn copy(from: &Path, to: &Path) {
    let mut all = entries(from);
    // Neither in stream order nor sorted: multiplication by an odd number shuffles the ordinals.
    let shuffled = |index: usize| index.wrapping_mul(0x9e37_79b1) & 0xffff_ffff;
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|&index| shuffled(index));
    let writer = RootWriter::open(to).unwrap();
    std::thread::scope(|scope| {
        for part in order.chunks(order.len() / 3 + 1) {
            let (writer, all) = (writer.clone(), &all);
            scope.spawn(move || part.iter().for_each(|&index| write_one(&writer, &all[index])));
        }
    });
    for info in all.iter().filter(|info| matches!(info.entry.kind, EntryKind::Hardlink { .. })) {
        writer.link(&info.entry).unwrap();
    }
    all.reverse();
    for info in &all {
        writer.finish(&info.entry).unwrap();
    }
    writer.sync().unwrap();
}

fn write_one(writer: &RootWriter, info: &EntryInfo) {
    let entry = &info.entry;
    match &entry.kind {
        EntryKind::Hardlink { .. } => {}
        EntryKind::File { .. } if entry.stored_bytes() < 256 << 10 => {
            writer.write_file(entry, &packed(info)).unwrap();
        }
        EntryKind::File { .. } => {
            let bytes = packed(info);
            writer.begin_file(entry).unwrap();
            // As after a crash: the file is there, and is taken up again.
            let file = writer.resume_file(entry).unwrap();
            let mut pieces: Vec<(usize, &[u8])> = bytes.chunks(300_001).enumerate().collect();
            pieces.reverse();
            for (index, piece) in pieces {
                file.write_packed_at(index as u64 * 300_001, piece).unwrap();
            }
            let mut back = vec![0; bytes.len()];
            file.read_packed_at(0, &mut back).unwrap();
            assert!(back == bytes, "{} reads back", entry.display_path());
            file.finish().unwrap();
        }
        _ => writer.make(entry).unwrap(),
    }
}

fn assert_equal(comparison: &Comparison) {
    let list: Vec<String> = comparison.differences.iter().map(|d| d.to_string().chars().take(300).collect()).collect();
    assert!(comparison.is_equal(), "{}", list.join("\n"));
}

/// Copies the awkward tree from one filesystem to another and compares them.
fn awkward_tree_survives(fstype: &str, mkfs_arguments: &[&str], lacks: &[&str]) {
    let Some(source) = ScratchFilesystem::new(fstype, 400, mkfs_arguments) else { return };
    let Some(target) = ScratchFilesystem::new(fstype, 400, mkfs_arguments) else { return };
    let left_out = awkward::build(&source.root()).unwrap();
    for missing in &left_out {
        assert!(lacks.iter().any(|lack| missing.contains(lack)), "{fstype} should have {missing}");
    }
    copy(&source.root(), &target.root());
    let comparison = compare(&source.root(), &target.root());
    assert_equal(&comparison);
    let counts = (comparison.entry_count, comparison.file_count, comparison.content_bytes >> 20);
    assert!(counts.0 > 280 && counts.1 > 150 && counts.2 > 16, "{counts:?}");
    // Written over what is there, as a restore that was cut off does, it comes out the same.
    awkward::unlock(&target.root()).unwrap();
    copy(&source.root(), &target.root());
    assert_equal(&compare(&source.root(), &target.root()));
    awkward::unlock(&target.root()).unwrap();
    awkward::unlock(&source.root()).unwrap();
}

#[test]
fn everything_awkward_survives_on_ext4() {
    awkward_tree_survives("ext4", &["-q", "-b", "4096", "-I", "256"], &[]);
}

#[test]
fn everything_awkward_survives_on_ext4_with_small_blocks() {
    awkward_tree_survives("ext4", &["-q", "-b", "1024"], &["user.large"]);
}

#[test]
fn everything_awkward_survives_on_xfs() {
    awkward_tree_survives("xfs", &["-q"], &[]);
}

#[test]
fn a_walk_is_in_stream_order_and_survives_depth() {
    let Some(source) = ScratchFilesystem::new("ext4", 400, &["-q"]) else { return };
    awkward::build(&source.root()).unwrap();
    let all = entries(&source.root());
    for pair in all.windows(2) {
        assert!(stream_order(&pair[0].entry.path, &pair[1].entry.path).is_lt());
    }
    let deepest = all.iter().map(|info| info.entry.path.iter().filter(|&&b| b == b'/').count()).max();
    assert_eq!(deepest, Some(90));
    let found = walk(&source.root(), Excludes::default());
    let sockets: Vec<_> = found.iter().filter(|visit| matches!(visit, Visit::Socket { .. })).collect();
    assert!(matches!(sockets[..], [Visit::Socket { path }] if path == b"nodes/socket"));
    let link = |path: &str| all.iter().find(|info| info.entry.path == path.as_bytes()).unwrap().entry.kind.clone();
    assert_eq!(link("links/second"), EntryKind::Hardlink { target: b"links/first".to_vec() });
    assert_eq!(link("names/other names/across directories"), EntryKind::Hardlink { target: b"links/first".to_vec() });
    assert_eq!(link("links/symbolic second name"), EntryKind::Hardlink { target: b"links/symbolic".to_vec() });
    assert!(
        matches!(link("sparse/one huge hole"), EntryKind::File { sparse: Some(extents), .. } if extents.is_empty())
    );
    assert!(matches!(link("contents/zeros without a hole"), EntryKind::File { sparse: None, .. }));
    awkward::unlock(&source.root()).unwrap();
}

#[test]
fn a_walk_neither_enters_what_is_mounted_nor_misses_what_it_hides() {
    let Some(outer) = ScratchFilesystem::new("ext4", 32, &["-q"]) else { return };
    let Some(inner) = ScratchFilesystem::new("ext4", 32, &["-q"]) else { return };
    fs::create_dir(outer.root().join("mnt")).unwrap();
    fs::write(outer.root().join("mnt/hidden"), "below the mount").unwrap();
    fs::write(inner.root().join("foreign"), "on the mount").unwrap();
    let mounted = Mounted::new(inner.device(), &outer.root().join("mnt"), "ext4", MountOptions::default()).unwrap();
    let seen = walk(&outer.root(), Excludes::new([&b"lost+found"[..]]));
    assert!(matches!(&seen[..], [Visit::Entry(_), Visit::Covered { path }] if path == b"mnt"), "{seen:?}");
    let bare = Walker::new(open_bare_root(&outer.root()).unwrap(), Excludes::default()).unwrap();
    let paths: Vec<Vec<u8>> = bare
        .filter_map(|visit| match visit.unwrap() {
            Visit::Entry(info) => Some(info.entry.path),
            _ => None,
        })
        .collect();
    assert_eq!(paths, [&b""[..], b"lost+found", b"mnt", b"mnt/hidden"]);
    mounted.unmount().unwrap();
}

#[test]
fn reading_leaves_access_times_alone() {
    let Some(source) = ScratchFilesystem::new("ext4", 32, &["-q"]) else { return };
    let file = source.root().join("file");
    fs::write(&file, "content").unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    File::open(&file).unwrap().set_times(fs::FileTimes::new().set_accessed(long_ago)).unwrap();
    assert_equal(&compare(&source.root(), &source.root()));
    assert_eq!(fs::metadata(&file).unwrap().accessed().unwrap(), long_ago);
}

/// One thing changed in a copy: the change, and what the comparison must call it.
type Change = (&'static str, fn(&Path), &'static str);

#[test]
fn a_comparison_notices_each_single_change() {
    let Some(source) = ScratchFilesystem::new("ext4", 400, &["-q"]) else { return };
    awkward::build(&source.root()).unwrap();
    awkward::unlock(&source.root()).unwrap();
    let keep_time = |path: &Path, change: &dyn Fn(&Path)| {
        let modified = fs::metadata(path).unwrap().modified().unwrap();
        change(path);
        File::open(path).unwrap().set_times(fs::FileTimes::new().set_modified(modified)).unwrap();
    };
    let rewrite = |path: &Path, offset: u64, bytes: &[u8]| {
        keep_time(path, &|path| {
            File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
        });
    };
    // Functions without captures, so that each line below is one change to one path.
    let changes: [Change; 14] = [
        ("contents/0000513 bytes", |p| fs::remove_file(p).unwrap(), "missing"),
        ("contents/new", |p| fs::write(p, "new").unwrap(), "extra"),
        ("owners/all", |p| fs::set_permissions(p, fs::Permissions::from_mode(0o6777)).unwrap(), "mode"),
        ("times/directory", |p| chown(p, Some(9), None).unwrap(), "uid"),
        ("times/directory", |p| chown(p, None, Some(9)).unwrap(), "gid"),
        ("times/zero", |p| touch(p, Duration::from_nanos(1)), "mtime"),
        ("nodes/fifo", |p| replace(p, |p| fs::write(p, "").unwrap()), "type"),
        ("links/dangling", |p| replace(p, |p| symlink("/elsewhere", p).unwrap()), "link target"),
        ("nodes/null", |p| replace(p, |p| node(p, 1, 5)), "device number"),
        ("links/second", |p| replace(p, |p| fs::write(p, "several names").unwrap()), "type"),
        ("attributes/values", |p| set_xattr(p, "user.nul", b"a\0c\0"), "xattr user.nul"),
        ("attributes/acl", |p| remove_xattr(p, "system.posix_acl_access"), "xattr system.posix_acl_access"),
        ("attributes/capability", |p| remove_xattr(p, "security.capability"), "xattr security.capability"),
        ("flags/sync", |p| set_flags(p, rustix::fs::IFlags::empty()), "flags"),
    ];
    for (path, change, what) in changes {
        let Some(target) = ScratchFilesystem::new("ext4", 400, &["-q"]) else { return };
        copy(&source.root(), &target.root());
        change(&target.root().join(path));
        assert_notices(&compare(&source.root(), &target.root()), path, what);
    }
    let Some(target) = ScratchFilesystem::new("ext4", 400, &["-q"]) else { return };
    copy(&source.root(), &target.root());
    rewrite(&target.root().join("contents/eleven mebibytes"), 5_000_000, b"!");
    rewrite(&target.root().join("sparse/hole inside"), 1 << 20, b"!");
    rewrite(&target.root().join("contents/zeros without a hole"), 0, b"\0");
    keep_time(&target.root().join("sparse/one hole"), &|path| fs::write(path, vec![0; 1 << 20]).unwrap());
    keep_time(&target.root().join("contents/0000001 bytes"), &|path| fs::write(path, "ab").unwrap());
    let comparison = compare(&source.root(), &target.root());
    assert_notices(&comparison, "contents/eleven mebibytes", "content");
    assert_notices(&comparison, "sparse/hole inside", "holes");
    assert_notices(&comparison, "sparse/hole inside", "content");
    assert_notices(&comparison, "sparse/one hole", "holes");
    assert_notices(&comparison, "sparse/one hole", "allocation");
    assert_notices(&comparison, "contents/0000001 bytes", "size");
    assert!(!comparison.differences.iter().any(|d| d.path == b"contents/zeros without a hole"));
}

fn assert_notices(comparison: &Comparison, path: &str, what: &str) {
    let noticed = |d: &linux_io::fs::Difference| d.path == path.as_bytes() && d.what() == what;
    assert!(comparison.differences.iter().any(noticed), "{what} of {path} in {:#?}", comparison.differences);
}

fn replace(path: &Path, make: fn(&Path)) {
    fs::remove_file(path).unwrap();
    make(path);
}

fn touch(path: &Path, since_1970: Duration) {
    let times = fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + since_1970);
    File::open(path).unwrap().set_times(times).unwrap();
}

fn node(path: &Path, major: u32, minor: u32) {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    mknodat(CWD, path, FileType::CharacterDevice, Mode::from_raw_mode(0o640), makedev(major, minor)).unwrap();
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

fn remove_xattr(path: &Path, name: &str) {
    rustix::fs::removexattr(path, name).unwrap();
}

fn set_flags(path: &Path, flags: rustix::fs::IFlags) {
    let file = File::open(path).unwrap();
    let extents = rustix::fs::ioctl_getflags(&file).unwrap() & rustix::fs::IFlags::from_bits_retain(0x8_0000);
    rustix::fs::ioctl_setflags(&file, flags | extents).unwrap();
}

#[test]
fn project_ids_survive_where_the_filesystem_has_them() {
    // Ext4 has them only where the kernel has quotas, XFS always.
    let Some(source) = ScratchFilesystem::new("xfs", 300, &["-q"]) else { return };
    let Some(target) = ScratchFilesystem::new("xfs", 300, &["-q"]) else { return };
    let writer = RootWriter::open(&source.root()).unwrap();
    let entry = |path: &[u8], kind| Entry {
        path: path.to_vec(),
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: node_model::Timestamp { secs: 1, nanos: 2 },
        xattrs: Vec::new(),
        // P: what is made below inherits the project.
        flags: 0x2000_0000,
        project_id: 4711,
    };
    writer.make(&entry(b"directory", EntryKind::Directory)).unwrap();
    writer.finish(&entry(b"directory", EntryKind::Directory)).unwrap();
    fs::write(source.root().join("directory/inherits"), "project 4711").unwrap();
    copy(&source.root(), &target.root());
    assert_equal(&compare(&source.root(), &target.root()));
    let found = entries(&target.root());
    let inherits = found.iter().find(|info| info.entry.path == b"directory/inherits").unwrap();
    assert_eq!(inherits.entry.project_id, 4711);
}

#[test]
fn what_a_default_acl_bequeathed_is_taken_away_again() {
    let Some(target) = ScratchFilesystem::new("ext4", 32, &["-q"]) else { return };
    let Some(source) = ScratchFilesystem::new("ext4", 32, &["-q"]) else { return };
    awkward_acl(&target.root());
    fs::create_dir(source.root().join("d")).unwrap();
    fs::write(source.root().join("d/plain"), "plain").unwrap();
    copy(&source.root(), &target.root());
    assert_equal(&compare(&source.root(), &target.root()));
}

/// A root directory that gives an ACL to all that is made in it.
fn awkward_acl(root: &Path) {
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, u32::MAX), (2, 7, 99), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)];
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        value.extend(id.to_le_bytes());
    }
    set_xattr(root, "system.posix_acl_default", &value);
    assert!(!root.as_os_str().as_bytes().is_empty());
}

/// A regular file's entry, as a stream would bring it.
fn regular(size: u64, sparse: Option<Vec<node_model::Extent>>) -> Entry {
    Entry {
        path: b"large".to_vec(),
        kind: EntryKind::File { size, sparse },
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime: node_model::Timestamp { secs: 1, nanos: 0 },
        xattrs: Vec::new(),
        flags: 0,
        project_id: 0,
    }
}

#[test]
fn fault_03_a_file_of_another_size_is_made_anew_and_not_gone_on_with() {
    let Some(target) = ScratchFilesystem::new("ext4", 64, &[]) else { return };
    let writer = RootWriter::open(&target.root()).unwrap();
    let entry = regular(1 << 20, None);
    for size in [(1 << 20) - 1, (1 << 20) + 1, 0] {
        File::create(target.root().join("large")).unwrap().set_len(size).unwrap();
        let refused = writer.resume_file(&entry).unwrap_err();
        assert!(matches!(refused, FsError::Changed { .. }), "{size} bytes: {refused}");
        writer.begin_file(&entry).unwrap();
        writer.resume_file(&entry).unwrap();
    }
}

#[test]
fn fault_03_a_file_with_data_in_a_hole_is_made_anew() {
    let Some(target) = ScratchFilesystem::new("ext4", 64, &[]) else { return };
    let writer = RootWriter::open(&target.root()).unwrap();
    let kept = node_model::Extent { offset: 1 << 20, length: 100_000 };
    let entry = regular(4 << 20, Some(vec![kept]));
    writer.begin_file(&entry).unwrap().write_packed_at(0, &vec![7; 100_000]).unwrap();
    writer.resume_file(&entry).unwrap();
    for stray in [0, (1 << 20) + 104_000, (4 << 20) - 1] {
        let file = File::options().write(true).open(target.root().join("large")).unwrap();
        file.write_all_at(&[0], stray).unwrap();
        assert!(writer.resume_file(&entry).is_err(), "a byte at {stray}");
        writer.begin_file(&entry).unwrap().write_packed_at(0, &vec![7; 100_000]).unwrap();
    }
}

#[test]
fn zeros_that_were_only_reserved_are_no_data_yet() {
    let Some(target) = ScratchFilesystem::new("ext4", 64, &[]) else { return };
    let writer = RootWriter::open(&target.root()).unwrap();
    let file = writer.begin_file(&regular(1 << 20, None)).unwrap();
    assert!(!file.is_data_at(0, 1 << 20).unwrap());
    file.write_packed_at(0, &vec![0; 512 << 10]).unwrap();
    assert!(file.is_data_at(0, 512 << 10).unwrap(), "zeros that were written are data");
    assert!(!file.is_data_at(0, (512 << 10) + 4096).unwrap());
}
