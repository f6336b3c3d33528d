//! Captures of files that are written meanwhile. Needs root.

mod support;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bundle::Hash;
use capture_agent::{CaptureOptions, CaptureReport, WarningKind};
use linux_io::fs::awkward::noise;
use support::{TestRepository, root_volume, untar};

/// Small steady numbers, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Everything a file ever was, by one writer's record: from when at the earliest, and what.
type Versions = Vec<(Instant, Hash)>;

/// When a capture ran.
type Span = (Instant, Instant);

/// Whether the file was this at some moment of the span.
fn was(versions: &Versions, content: Hash, (begin, end): Span) -> bool {
    versions.iter().enumerate().any(|(index, (from, hash))| {
        // A version may last until the writer has noted the one after the next.
        let until = versions.get(index + 2).map(|(next, _)| *next);
        *hash == content && *from <= end && until.is_none_or(|until| until >= begin)
    })
}

/// Whether the file changed in the span.
fn changed(versions: &Versions, (begin, end): Span) -> bool {
    versions.iter().skip(1).any(|(from, _)| (begin..=end).contains(from))
}

/// Writes, truncates and extends a file at random, as fsx does, and records the content after each single call.
fn fsx(path: &Path, bytes_max: u64, pause_us: u64, stop: &AtomicBool) -> Versions {
    // A file that begins whole stays whole, so that there is always much to read of it.
    let truncates = fs::metadata(path).unwrap().len() == 0;
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut model = fs::read(path).unwrap();
    let mut versions = vec![(Instant::now(), Hash::of(&model))];
    let mut dice = Dice(bytes_max);
    while !stop.load(Ordering::Relaxed) {
        let before = Instant::now();
        let (offset, length) = (dice.below(bytes_max), dice.below(bytes_max / 8).min(20_000) as usize + 1);
        if truncates && dice.below(8) == 0 {
            file.set_len(offset).unwrap();
            model.resize(offset as usize, 0);
        } else {
            let bytes = noise(dice.below(1 << 40), length);
            file.write_all_at(&bytes, offset).unwrap();
            model.resize(model.len().max(offset as usize + length), 0);
            model[offset as usize..][..length].copy_from_slice(&bytes);
        }
        versions.push((before, Hash::of(&model)));
        std::thread::sleep(std::time::Duration::from_micros(dice.below(pause_us)));
    }
    versions
}

/// Appends a line to a log now and then; the log is always some number of whole lines.
fn append(path: &Path, stop: &AtomicBool) {
    let mut log = OpenOptions::new().append(true).create(true).open(path).unwrap();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        log.write_all(format!("{number:08} a line that says nothing new\n").as_bytes()).unwrap();
        number += 1;
        std::thread::sleep(std::time::Duration::from_millis(3));
    }
}

fn warned(report: &CaptureReport) -> HashSet<String> {
    report.warnings.iter().filter(|w| w.kind == WarningKind::Changed).map(|w| w.path.clone()).collect()
}

#[test]
fn what_is_warned_of_changed_and_what_is_not_is_as_it_once_was() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: private views of mounts need root");
        return;
    }
    let node = tempfile::tempdir().unwrap();
    let path = |name: &str| node.path().join(name);
    for number in 0..300 {
        fs::write(path(&format!("quiet {number:03}")), noise(number, 1000 * number as usize)).unwrap();
    }
    // Name, most bytes, longest pause: reading the last one takes longer than it ever rests.
    let busy: Vec<(PathBuf, u64, u64)> = [
        ("busy small", 20_000, 30_000),
        ("m busy", 200_000, 30_000),
        ("r busy", 100, 3_000),
        ("y busy large", 3_000_000, 30_000),
        ("z never at rest", 16_000_000, 100),
    ]
    .map(|(name, bytes_max, pause_us)| (path(name), bytes_max, pause_us))
    .to_vec();
    for (path, ..) in &busy {
        fs::write(path, b"").unwrap();
    }
    fs::write(path("z never at rest"), noise(1, 16_000_000)).unwrap();
    let stop = AtomicBool::new(false);
    let repository = TestRepository::new();
    let mut versions: BTreeMap<String, Versions> = BTreeMap::new();
    let mut reports = Vec::new();
    std::thread::scope(|scope| {
        let writers: Vec<_> = busy
            .iter()
            .map(|(path, bytes_max, pause_us)| {
                let stop = &stop;
                (path, scope.spawn(move || fsx(path, *bytes_max, *pause_us, stop)))
            })
            .collect();
        scope.spawn(|| append(&path("log"), &stop));
        for _ in 0..6 {
            let begin = Instant::now();
            let report = repository.capture(&[root_volume(node.path())], &CaptureOptions::default()).unwrap();
            reports.push((report, (begin, Instant::now())));
        }
        stop.store(true, Ordering::Relaxed);
        for (path, writer) in writers {
            let name = format!("/{}", path.file_name().unwrap().to_str().unwrap());
            versions.insert(name, writer.join().unwrap());
        }
    });
    let final_log = fs::read(path("log")).unwrap();
    let mut warned_at_all = 0;
    for (report, span) in &reports {
        let warned = warned(report);
        warned_at_all += warned.len();
        for path in &warned {
            // The log grows every few milliseconds.
            let really = path == "/log" || versions.get(path).is_some_and(|versions| changed(versions, *span));
            assert!(really, "{path} did not change while it was captured");
        }
        let snapshot = repository.snapshot(report);
        let stream = snapshot.stream("root");
        assert_eq!(stream.len() as u64, report.volumes[0].stream_bytes.get(), "with changed files it is still whole");
        let restored = tempfile::tempdir().unwrap();
        assert_eq!(untar(stream, restored.path()), "");
        for entry in snapshot.catalog("root") {
            let path = entry.entry.display_path();
            assert_eq!(entry.placed.changed, warned.contains(&path), "{path}");
            if warned.contains(&path) || path == "/" {
                continue;
            }
            let content = fs::read(restored.path().join(&path[1..])).unwrap();
            if path == "/log" {
                assert!(final_log.starts_with(&content), "the log is the beginning of what it became");
                assert!(content.is_empty() || content.ends_with(b"\n"), "and has whole lines");
            } else if let Some(versions) = versions.get(&path) {
                let was = was(versions, Hash::of(&content), *span);
                assert!(was, "{path} was not like this while it was captured, and there is no warning");
            } else {
                assert!(content == fs::read(node.path().join(&path[1..])).unwrap(), "{path} did not change");
            }
        }
    }
    assert!(warned_at_all > 0, "nothing changed while it was read: nothing was tested");
}

#[test]
fn a_second_capture_stores_at_most_the_changed_files_and_4_mebibytes_for_each() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: private views of mounts need root");
        return;
    }
    let node = tempfile::tempdir().unwrap();
    let path = |name: &str| node.path().join(name);
    fs::create_dir(path("logs")).unwrap();
    for number in 0..2000 {
        fs::write(path(&format!("file {number}")), noise(number, 20_000)).unwrap();
    }
    for number in 0..3 {
        fs::write(path(&format!("large {number}")), noise(7000 + number, 40 << 20)).unwrap();
    }
    fs::write(path("logs/log"), noise(8000, 500_000)).unwrap();
    let repository = TestRepository::new();
    let capture = || repository.capture(&[root_volume(node.path())], &CaptureOptions::default()).unwrap();
    let first = capture();
    assert!(first.uploaded_bytes.get() > 2000 * 20_000 + (120 << 20));

    // What a running node does between two captures, and the bytes of the files it changes; a directory is a file too.
    type Change = (&'static str, u64, u64, fn(&Path));
    let changes: [Change; 5] = [
        ("one small file", 1, 20_000, |at| fs::write(at.join("file 1000"), noise(9999, 20_000)).unwrap()),
        ("a log that grew", 1, 510_000, |at| {
            let mut log = OpenOptions::new().append(true).open(at.join("logs/log")).unwrap();
            log.write_all(&noise(8001, 10_000)).unwrap();
        }),
        ("a few bytes in a large file", 1, 40 << 20, |at| {
            let file = OpenOptions::new().write(true).open(at.join("large 1")).unwrap();
            file.write_all_at(b"a few bytes", 20 << 20).unwrap();
        }),
        ("a file more and a file less", 3, 20_000, |at| {
            fs::write(at.join("logs/new"), noise(8002, 20_000)).unwrap();
            fs::remove_file(at.join("file 7")).unwrap();
        }),
        ("nothing", 0, 0, |_| {}),
    ];
    for (case, files, bytes, change) in changes {
        change(node.path());
        let again = capture();
        let stored = again.uploaded_bytes.get();
        assert!(stored <= bytes + files * (4 << 20), "{case}: {stored} bytes were stored: {again:?}");
        assert_eq!(stored > 0, files > 0, "{case}: {again:?}");
        // Of a large file only what is around the change is stored again.
        assert!(stored < 13 << 20, "{case}: {stored} bytes were stored: {again:?}");
    }
}
