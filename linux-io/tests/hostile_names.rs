//! Streams that try to write, link or change something outside the directory they are restored into.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use linux_io::fs::{FsError, RootWriter};
use node_model::{Entry, EntryKind, Extent, Timestamp};
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// What must stay as it is.
const VICTIMS: [&str; 2] = ["outside/victim", "outside/deep/victim"];

/// A root to write into, beside something that must stay as it is.
struct Yard {
    directory: tempfile::TempDir,
    writer: RootWriter,
}

impl Yard {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        fs::create_dir_all(directory.path().join("outside/deep")).unwrap();
        for victim in VICTIMS {
            fs::write(directory.path().join(victim), "untouched").unwrap();
            fs::set_permissions(directory.path().join(victim), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let writer = RootWriter::open(&directory.path().join("root")).unwrap();
        Self { directory, writer }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    fn assert_outside_untouched(&self) {
        for (directory, names) in [("outside", &["deep", "victim"][..]), ("outside/deep", &["victim"])] {
            let found = fs::read_dir(self.directory.path().join(directory)).unwrap();
            let mut found: Vec<_> = found.map(|entry| entry.unwrap().file_name()).collect();
            found.sort();
            assert_eq!(found, names);
        }
        for victim in VICTIMS.map(|victim| self.directory.path().join(victim)) {
            let status = fs::metadata(&victim).unwrap();
            assert_eq!((status.nlink(), status.mode() & 0o7777), (1, 0o600));
            assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        }
        let beside: Vec<_> = fs::read_dir(self.directory.path()).unwrap().collect();
        assert_eq!(beside.len(), 2);
    }
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        kind,
        mode: 0o666,
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        mtime: Timestamp { secs: 1, nanos: 0 },
        xattrs: Vec::new(),
        flags: 0,
        project_id: 0,
    }
}

fn file(path: &str) -> Entry {
    entry(path, EntryKind::File { size: 4, sparse: None })
}

fn link_to(path: &str, target: &str) -> Entry {
    entry(path, EntryKind::Hardlink { target: target.as_bytes().to_vec() })
}

#[test]
fn fault_36_names_that_lead_out_are_refused_by_every_operation() {
    let yard = Yard::new();
    for path in ["../outside/victim", "/outside/victim", "a/../../outside/victim", "..", "a//b", ".", "a/.", "/", ""] {
        let refused = |result: Result<(), FsError>, what: &str| {
            assert!(matches!(result, Err(FsError::HostileName { .. })), "{what} of {path:?}: {result:?}");
        };
        refused(yard.writer.write_file(&file(path), b"evil"), "file");
        refused(yard.writer.link(&link_to("innocent", path)), "link target");
        refused(yard.writer.link(&link_to(path, "innocent")), "link");
        refused(yard.writer.make(&entry(path, EntryKind::Fifo)), "node");
        refused(yard.writer.make(&entry(path, EntryKind::Symlink { target: b"x".to_vec() })), "symbolic link");
        refused(yard.writer.remove(path.as_bytes()), "removal");
        if !path.is_empty() {
            refused(yard.writer.make(&entry(path, EntryKind::Directory)), "directory");
            refused(yard.writer.finish(&entry(path, EntryKind::Directory)), "metadata");
            refused(yard.writer.resume_file(&file(path)).map(drop), "resumed file");
        }
    }
    yard.assert_outside_untouched();
}

#[test]
fn fault_36_a_symbolic_link_is_never_a_way() {
    let yard = Yard::new();
    for (name, target) in
        [("relative", b"../outside".to_vec()), ("absolute", yard.outside().into_os_string().into_encoded_bytes())]
    {
        yard.writer.make(&entry(name, EntryKind::Symlink { target })).unwrap();
        let child = format!("{name}/victim");
        let leads_out = |result: Result<(), FsError>, what: &str| {
            assert!(matches!(result, Err(FsError::LeadsOut { .. } | FsError::Io { .. })), "{what}: {result:?}");
        };
        leads_out(yard.writer.write_file(&file(&child), b"evil"), "file");
        leads_out(yard.writer.make(&entry(&child, EntryKind::Directory)), "directory");
        leads_out(yard.writer.make(&entry(&format!("{name}/new"), EntryKind::Fifo)), "node");
        leads_out(yard.writer.link(&link_to("stolen", &child)), "link target");
        leads_out(yard.writer.resume_file(&file(&child)).map(drop), "resumed file");
        leads_out(yard.writer.apply_metadata(&file(&child)), "metadata");
        leads_out(yard.writer.remove(child.as_bytes()), "removal");
    }
    // A link at the last name is replaced, not followed; its own metadata is set, not its target's.
    yard.writer.make(&entry("last", EntryKind::Symlink { target: b"../outside/victim".to_vec() })).unwrap();
    assert!(matches!(yard.writer.resume_file(&file("last")), Err(FsError::Changed { .. })));
    assert!(matches!(yard.writer.apply_metadata(&file("last")), Err(FsError::Changed { .. })));
    yard.writer.write_file(&file("last"), b"mine").unwrap();
    assert_eq!(fs::read(yard.root().join("last")).unwrap(), b"mine");
    yard.assert_outside_untouched();
}

#[test]
fn fault_36_an_existing_file_is_replaced_and_never_written_through() {
    let yard = Yard::new();
    fs::hard_link(yard.outside().join("victim"), yard.root().join("planted")).unwrap();
    assert!(matches!(yard.writer.resume_file(&file("planted")), Err(FsError::Changed { .. })));
    yard.writer.write_file(&file("planted"), b"mine").unwrap();
    assert_eq!(fs::read(yard.root().join("planted")).unwrap(), b"mine");
    yard.assert_outside_untouched();
}

#[test]
fn fault_36_content_cannot_go_beyond_what_the_entry_says() {
    let yard = Yard::new();
    let beyond = |result: Result<(), FsError>| assert!(matches!(result, Err(FsError::BeyondEnd { .. })), "{result:?}");
    beyond(yard.writer.write_file(&file("long"), b"five!"));
    beyond(yard.writer.write_file(&file("short"), b"th"));
    let writer = yard.writer.begin_file(&file("file")).unwrap();
    beyond(writer.write_packed_at(3, b"ab"));
    beyond(writer.write_packed_at(u64::MAX, b"ab"));
    let sparse = |extents: &[(u64, u64)]| {
        let extents = extents.iter().map(|&(offset, length)| Extent { offset, length }).collect();
        entry("sparse", EntryKind::File { size: 100, sparse: Some(extents) })
    };
    for wrong in [&[(0, 101)][..], &[(50, 10), (40, 5)], &[(0, 10), (5, 10)], &[(u64::MAX, 2)], &[(10, u64::MAX)]] {
        let result = yard.writer.begin_file(&sparse(wrong));
        assert!(matches!(result, Err(FsError::HostileName { .. })), "{wrong:?}");
    }
    let writer = yard.writer.begin_file(&sparse(&[(10, 5), (15, 0), (90, 10)])).unwrap();
    writer.write_packed_at(0, b"first-and-last!").unwrap();
    beyond(writer.write_packed_at(15, b"!"));
    let written = fs::read(yard.root().join("sparse")).unwrap();
    assert_eq!(
        (&written[10..15], &written[90..], written[15..90].iter().max()),
        (&b"first"[..], &b"-and-last!"[..], Some(&0))
    );
}

#[test]
fn fault_36_a_thread_that_swaps_directories_for_links_gains_nothing() {
    let yard = Yard::new();
    let stop = AtomicBool::new(false);
    let (root, outside) = (yard.root(), yard.outside());
    fs::create_dir_all(root.join("way/deep")).unwrap();
    symlink(&outside, root.join("trap")).unwrap();
    let (mut written, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // `way` is by turns a directory and a link that leads out; it is never missing.
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, root.join("way"), CWD, root.join("trap"), RenameFlags::EXCHANGE).unwrap();
            }
        });
        for round in 0..20_000 {
            // A fresh clone each time: none remembers the directory.
            let writer = RootWriter::open(&root).unwrap();
            let path = "way/deep/victim";
            let result = match round % 4 {
                0 => writer.write_file(&file(path), b"evil"),
                1 => writer.make(&entry("way/deep/new", EntryKind::Fifo)),
                2 => writer.apply_metadata(&file(path)),
                _ => writer.remove(path.as_bytes()),
            };
            match result {
                Ok(()) => written += 1,
                Err(FsError::LeadsOut { .. }) => refused += 1,
                // What the writer made a moment ago is in the other directory now.
                Err(_) => {}
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(written > 100 && refused > 100, "{written} written, {refused} refused: hardly anything was tested");
    yard.assert_outside_untouched();
}
