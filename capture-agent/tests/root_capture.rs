//! Captures of real filesystems into a repository directory. Needs root.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::Mutex;

use bundle::testing::{node_name, node_secret, some_spec};
use capture_agent::{
    CaptureError, CaptureOptions, CaptureProgress, CaptureReport, CaptureRequest, SourceKind, Stage, VolumeSource,
    WarningKind, capture,
};
use linux_io::fs::scratch::ScratchFilesystem;
use linux_io::fs::{Excludes, awkward, compare, compare_roots, hash_packed, open_root};
use node_model::{Bytes, DeviceKey, EntryKind, VolumeKind};
use support::{FailingSink, TestRepository, capture_into, root_volume, untar};

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: private views of mounts need root");
    }
    root
}

/// The warnings about files. The test node's BIOS boot partition has no volume here.
fn warned(report: &CaptureReport) -> Vec<String> {
    report.warnings.iter().filter(|w| w.kind != WarningKind::NotCaptured).map(ToString::to_string).collect()
}

#[test]
fn everything_awkward_is_captured_and_a_second_capture_stores_nothing() {
    let Some(source) = ScratchFilesystem::new("ext4", 400, &["-q", "-b", "4096", "-I", "256"]) else { return };
    awkward::build(&source.root()).unwrap();
    let repository = TestRepository::new();
    let sources = [root_volume(&source.root())];
    let first = repository.capture(&sources, &CaptureOptions::default()).unwrap();
    assert_eq!(warned(&first), [""; 0]);
    assert!(first.new_chunk_count > 30 && first.new_chunk_count < first.chunk_count, "{first:?}");
    assert_eq!(first.volumes[0].skipped_socket_count, 1);

    let second = repository.capture(&sources, &CaptureOptions::default()).unwrap();
    assert_eq!((second.new_chunk_count, second.uploaded_bytes), (0, Bytes(0)));
    assert_eq!(second.sequence, first.sequence + 1);

    let snapshot = repository.snapshot(&second);
    assert_eq!(snapshot.snapshot.manifest().previous.as_ref(), Some(&first.snapshot));
    let VolumeKind::Files { entry_count, file_count, .. } = snapshot.volume("root").volume.volume else {
        panic!("a files volume")
    };
    assert_eq!(entry_count, second.volumes[0].entry_count);
    let catalog = snapshot.catalog("root");
    let files = catalog.iter().filter(|entry| matches!(entry.entry.kind, EntryKind::File { .. })).count();
    assert_eq!((catalog.len() as u64, files as u64), (entry_count, file_count));
    // What the catalog says is what is there, byte for byte.
    let found = open_root(&source.root()).unwrap();
    let hash = |entry: &node_model::Entry, file: &File| hash_packed(entry, file);
    let comparison = compare(snapshot.expected("root"), found, Excludes::default(), &hash).unwrap();
    assert!(comparison.is_equal(), "{:#?}", comparison.differences);
    awkward::unlock(&source.root()).unwrap();
}

#[test]
fn gnu_tar_brings_a_captured_volume_back() {
    let options = ["-q", "-b", "4096", "-I", "256"];
    let Some(source) = ScratchFilesystem::new("ext4", 400, &options) else { return };
    let Some(target) = ScratchFilesystem::new("ext4", 400, &options) else { return };
    awkward::build(&source.root()).unwrap();
    let repository = TestRepository::new();
    let report = repository.capture(&[root_volume(&source.root())], &CaptureOptions::default()).unwrap();
    let stream = repository.snapshot(&report).stream("root");
    assert_eq!(stream.len() as u64, report.volumes[0].stream_bytes.get());
    let complaints = untar(stream, &target.root());
    // It cannot make what no single call can name, and knows no flags; it says so of both.
    for line in complaints.lines() {
        let known = [
            "File name too long",
            "implausibly old",
            "Ignoring unknown extended header keyword",
            "in the future",
            "previous errors",
        ];
        let about_depth = line.contains("ddddd");
        assert!(about_depth || known.iter().any(|known| line.contains(known)), "{line}");
    }
    let (expected, found) = (open_root(&source.root()).unwrap(), open_root(&target.root()).unwrap());
    let comparison = compare_roots(expected, found, Excludes::default()).unwrap();
    let too_long = |path: &[u8]| path.len() >= 4000 && path.starts_with(b"deep 0 ");
    let others: Vec<_> = comparison.differences.iter().filter(|d| d.what() != "flags" && !too_long(&d.path)).collect();
    assert!(others.is_empty(), "{others:#?}");
    assert!(comparison.entry_count > 200, "{}", comparison.entry_count);
    awkward::unlock(&source.root()).unwrap();
}

#[test]
fn raw_regions_and_several_filesystems_become_volumes_of_one_snapshot() {
    if !is_root() {
        return;
    }
    let node = tempfile::tempdir().unwrap();
    fs::write(node.path().join("disk"), awkward::noise(1, 6 << 20)).unwrap();
    fs::create_dir(node.path().join("files")).unwrap();
    fs::write(node.path().join("files/hello"), "hello").unwrap();
    let disk = DeviceKey::disk(0);
    let raw = |name: &str, device: &DeviceKey, base: u64, length: u64| VolumeSource {
        name: name.parse().unwrap(),
        device: device.clone(),
        kind: SourceKind::Raw {
            path: node.path().join("disk"),
            base_bytes: Bytes(base),
            offset_bytes: Bytes(0),
            length_bytes: Bytes(length),
        },
    };
    let sources = [
        raw("boot", &disk, 0, 440),
        raw("bios", &DeviceKey::partition(&disk, 1), 1 << 20, 1 << 20),
        root_volume(&node.path().join("files")),
    ];
    let repository = TestRepository::new();
    let report = repository.capture(&sources, &CaptureOptions::default()).unwrap();
    let snapshot = repository.snapshot(&report);
    let bytes = fs::read(node.path().join("disk")).unwrap();
    assert_eq!(snapshot.stream("boot"), bytes[..440]);
    assert_eq!(snapshot.stream("bios"), bytes[1 << 20..2 << 20]);
    assert_eq!(snapshot.catalog("root").last().unwrap().entry.path, b"hello");
}

#[test]
fn what_is_excluded_is_not_there_and_what_is_mounted_over_is() {
    let Some(source) = ScratchFilesystem::new("ext4", 32, &["-q"]) else { return };
    let root = source.root();
    for path in ["keep/kept", "tmp/gone", "var/cache/apt/gone", "mnt/hidden"] {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), path).unwrap();
    }
    let Some(over) = ScratchFilesystem::new("ext4", 32, &["-q"]) else { return };
    let mount = linux_io::mount::MountOptions::default();
    let mounted = linux_io::mount::Mounted::new(over.device(), &root.join("mnt"), "ext4", mount).unwrap();
    let excludes = ["/tmp/*", "/var/cache/apt", "/lost+found"].map(str::to_owned).to_vec();
    let repository = TestRepository::new();
    let options = CaptureOptions { excludes, ..CaptureOptions::default() };
    let report = repository.capture(&[root_volume(&root)], &options).unwrap();
    mounted.unmount().unwrap();
    let paths: Vec<String> =
        repository.snapshot(&report).catalog("root").iter().map(|entry| entry.entry.display_path()).collect();
    assert_eq!(paths, ["/", "/keep", "/keep/kept", "/mnt", "/mnt/hidden", "/tmp", "/var", "/var/cache"]);
}

#[test]
fn a_file_that_cannot_be_read_stops_the_capture_unless_its_loss_is_accepted() {
    // The kernel lets nobody read this file, not even root.
    let at = Path::new("/proc/sys/net/ipv4/route");
    if !is_root() || File::open(at.join("flush")).is_ok() || !at.join("flush").exists() {
        eprintln!("skipped: no file here that root cannot read");
        return;
    }
    let repository = TestRepository::new();
    let error = repository.capture(&[root_volume(at)], &CaptureOptions::default()).unwrap_err();
    let CaptureError::Unreadable { files, count: 1 } = &error else { panic!("{error:?}") };
    assert_eq!(files[0].path, "/flush");
    assert_eq!(error.to_string(), "1 file could not be read: cannot open /flush: Permission denied (os error 13)");
    assert!(error.hint().unwrap().contains("--accept-unreadable '/flush'"));
    assert_eq!(repository.sink().inner_latest(), None, "nothing was committed");

    let options = CaptureOptions { accept_unreadable: vec!["/flush".into()], ..CaptureOptions::default() };
    let report = repository.capture(&[root_volume(at)], &options).unwrap();
    assert_eq!(warned(&report), ["/flush is left out: cannot open /flush: Permission denied (os error 13)"]);
    assert!(repository.snapshot(&report).catalog("root").iter().all(|entry| entry.entry.path != b"flush"));
}

/// What a sink's node has.
trait Latest {
    fn inner_latest(&self) -> Option<node_model::SnapshotId>;
}

impl Latest for capture_agent::sink::DirectorySink {
    fn inner_latest(&self) -> Option<node_model::SnapshotId> {
        capture_agent::Sink::latest(self).unwrap()
    }
}

#[test]
fn a_failure_at_any_call_ends_the_capture_without_a_snapshot() {
    if !is_root() {
        return;
    }
    let node = tempfile::tempdir().unwrap();
    for number in 0..40 {
        fs::write(node.path().join(format!("file {number}")), awkward::noise(number, 300_000)).unwrap();
    }
    let sources = [root_volume(node.path())];
    let mut calls = 0;
    loop {
        let repository = TestRepository::new();
        let sink = repository.sink();
        let failing = FailingSink::new(&sink, calls);
        match capture_into(&failing, &sources, &CaptureOptions::default()) {
            Err(error) => {
                assert!(matches!(error, CaptureError::Sink(_)), "call {calls}: {error:?}");
                assert!(!*failing.committed.lock().unwrap());
                assert_eq!(sink.inner_latest(), None);
            }
            Ok(_) => break,
        }
        calls += 1;
    }
    assert!(calls >= 5, "questions, a pack, a catalog, a list and the commit were counted: {calls}");
}

#[test]
fn progress_only_grows_and_ends_done() {
    if !is_root() {
        return;
    }
    let node = tempfile::tempdir().unwrap();
    fs::write(node.path().join("large"), awkward::noise(9, 30 << 20)).unwrap();
    let repository = TestRepository::new();
    let told: Mutex<Vec<CaptureProgress>> = Mutex::default();
    let (spec, secret) = (some_spec(), node_secret(&node_name()));
    let (options, sources) = (CaptureOptions::default(), [root_volume(node.path())]);
    let request = CaptureRequest { spec: &spec, sources: &sources, key: &secret.signing_key(), options: &options };
    let report = capture(&request, &repository.sink(), &|now| told.lock().unwrap().push(now.clone())).unwrap();
    let told = told.into_inner().unwrap();
    for pair in told.windows(2) {
        assert!(pair[0].read_bytes <= pair[1].read_bytes && pair[0].uploaded_bytes <= pair[1].uploaded_bytes);
    }
    let last = told.last().unwrap();
    assert_eq!((&last.stage, last.read_bytes), (&Stage::Done, Bytes(30 << 20)));
    assert!(last.expected_bytes > Bytes(0) && last.uploaded_bytes == report.uploaded_bytes);
}

#[test]
fn equal_captures_make_equal_packs_whatever_thread_was_first() {
    if !is_root() {
        return;
    }
    let node = tempfile::tempdir().unwrap();
    for number in 0..60 {
        let file = File::create(node.path().join(format!("file {number}"))).unwrap();
        file.write_all_at(&awkward::noise(number, 200_000 + number as usize * 30_000), 0).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
    }
    let packs = |threads: usize| {
        let repository = TestRepository::new();
        let options = CaptureOptions { threads: threads.try_into().unwrap(), ..CaptureOptions::default() };
        repository.capture(&[root_volume(node.path())], &options).unwrap();
        let sink = repository.sink();
        repository.runtime.block_on(sink.repository().packs()).unwrap()
    };
    assert_eq!(packs(1), packs(7));
}
