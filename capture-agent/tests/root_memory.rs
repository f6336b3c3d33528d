//! A capture in little memory. Needs root and a memory control group.

mod support;

use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use capture_agent::CaptureOptions;
use support::{TestRepository, root_volume};

const LIMIT_BYTES: u64 = 256 << 20;

/// Set in the child that captures: the directory it captures.
const CHILD: &str = "RERACK_TEST_CAPTURE";

/// A control group of its own with the limit, removed when dropped.
struct Group(PathBuf);

impl Group {
    /// `None` where there is none to be had.
    fn new() -> Option<Self> {
        let name = format!("rerack-test-{}", std::process::id());
        let (first, limits): (_, &[(&str, u64)]) = if Path::new("/sys/fs/cgroup/memory").exists() {
            ("/sys/fs/cgroup/memory", &[("memory.limit_in_bytes", LIMIT_BYTES)])
        } else {
            fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory").ok()?;
            ("/sys/fs/cgroup", &[("memory.max", LIMIT_BYTES), ("memory.swap.max", 0)])
        };
        let group = Self(Path::new(first).join(name));
        fs::create_dir(&group.0).ok()?;
        for (file, value) in limits {
            fs::write(group.0.join(file), value.to_string()).ok()?;
        }
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn random_file(path: &Path, bytes: u64) {
    let mut random = File::open("/dev/urandom").unwrap().take(bytes);
    io::copy(&mut random, &mut File::create(path).unwrap()).unwrap();
}

/// What cannot be compressed or found twice takes the most memory: whole packs of it.
fn fill(node: &Path) {
    for number in 0..4 {
        random_file(&node.join(format!("large {number}")), 70 << 20);
    }
    for number in 0..300 {
        random_file(&node.join(format!("medium {number}")), 400_000);
    }
    fs::create_dir(node.join("many")).unwrap();
    for number in 0..10_000 {
        fs::write(node.join(format!("many/file {number} with a name of some length")), number.to_string()).unwrap();
    }
}

#[test]
fn a_capture_fits_into_256_mebibytes() {
    if let Some(node) = std::env::var_os(CHILD) {
        return capture_as_child(Path::new(&node));
    }
    let Some(group) = Some(Group::new).filter(|_| rustix::process::geteuid().is_root()).and_then(|new| new()) else {
        eprintln!("skipped: a memory control group needs root");
        return;
    };
    // In memory that is not the child's: a disk would be busy for long with making and removing it.
    let node = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    fill(node.path());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_capture_fits_into_256_mebibytes", "--nocapture"])
        .env(CHILD, node.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    fs::write(group.0.join("cgroup.procs"), child.id().to_string()).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(child.wait().unwrap().success(), "the child was killed, or its capture failed");
}

fn capture_as_child(node: &Path) {
    // Only from here on is the limit in force.
    io::stdin().lock().read_line(&mut String::new()).unwrap();
    let repository = TestRepository::new();
    let threads = 8.try_into().unwrap();
    let options = CaptureOptions { threads, ..CaptureOptions::default() };
    let report = repository.capture(&[root_volume(node)], &options).unwrap();
    assert!(report.uploaded_bytes.get() > 380 << 20, "{report:?}");
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().to_owned();
    println!("most memory at once: {peak}, {:?} for {}", report.elapsed, report.uploaded_bytes);
    let kib: u64 = peak.trim_end_matches(" kB").parse().unwrap();
    assert!(kib << 10 < LIMIT_BYTES, "{peak}");
}
