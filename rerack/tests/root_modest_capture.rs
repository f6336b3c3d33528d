//! A capture takes little from the node that it runs on. Needs root, and for its memory a control group.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::{Attached, Bench, Parts, Served, can_run};

const LIMIT_BYTES: u64 = 256 << 20;

/// A control group of its own that allows 256 MiB and no swap, removed when dropped.
struct Group(PathBuf);

impl Group {
    /// `None` where there is none to be had. Version 1 where that is mounted, else version 2.
    fn new() -> Option<Self> {
        let name = format!("rerack-modest-{}", std::process::id());
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
        // Version 1 counts swap only on some kernels.
        let _ = fs::write(group.0.join("memory.memsw.limit_in_bytes"), LIMIT_BYTES.to_string());
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// How nice each thread of a process is, and its place in line for disks.
fn priorities(process: u32) -> BTreeSet<(i64, String)> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return BTreeSet::new() };
    let of_thread = |thread: std::io::Result<fs::DirEntry>| {
        let thread = thread.ok()?;
        let stat = fs::read_to_string(thread.path().join("stat")).ok()?;
        // After the name in parentheses, which may hold anything, the 17th field.
        let nice = stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()?;
        let ionice = Command::new("ionice").arg("-p").arg(thread.file_name()).output().ok()?;
        let io = String::from_utf8_lossy(&ionice.stdout).trim().to_owned();
        (ionice.status.success() && !io.is_empty()).then_some((nice, io))
    };
    threads.filter_map(of_thread).collect()
}

#[test]
fn a_capture_fits_into_256_mebibytes_and_stands_behind_others() {
    if !can_run() {
        return;
    }
    let Some(group) = Group::new() else {
        eprintln!("skipped: no memory control group is to be had here");
        return;
    };
    let bench = Bench::new();
    bench.build_node(Parts::LargeRoot);
    let server = Served::start(&bench);
    bench.add_node(&server);
    let disk = Attached::new(&bench.path("node.img"), 512);

    // The shell joins the group, so that all of the command runs in it.
    let join = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.0.display());
    let mut command = Command::new("sh");
    command.args(["-c", &join, "sh", env!("CARGO_BIN_EXE_rerack"), "capture", "--node-file", "node.json"]);
    command.args(["--server", &server.url, "--disk", &disk.device]).current_dir(bench.directory.path());
    let mut capture = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut seen, mut peak) = (BTreeSet::new(), String::new());
    while capture.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(100));
        let process = format!("/proc/{}", capture.id());
        // Before it has threads it may not have come to lower anything.
        if fs::read_dir(format!("{process}/task")).is_ok_and(|threads| threads.count() > 1) {
            seen.extend(priorities(capture.id()));
        }
        let status = fs::read_to_string(format!("{process}/status")).unwrap_or_default();
        peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map_or(peak, |peak| peak.trim().to_owned());
    }
    let output = capture.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {out}{err}", output.status);
    println!("most memory at once: {peak}\n{out}");
    assert!(out.contains("web-03@") && out.contains("(number 1)"), "{out}");
    let kib: u64 = peak.trim_end_matches(" kB").parse().unwrap();
    assert!(kib << 10 < LIMIT_BYTES, "{peak}");
    assert!(!seen.is_empty() && seen.iter().all(|(nice, io)| *nice >= 10 && io == "best-effort: prio 7"), "{seen:?}");
}

#[test]
fn a_person_at_a_terminal_sees_how_far_the_capture_is_and_a_pipe_gets_plain_lines() {
    if !can_run() {
        return;
    }
    let bench = Bench::new();
    bench.build_node(Parts::RootWithMuch);
    let server = Served::start(&bench);
    bench.add_node(&server);
    let disk = Attached::new(&bench.path("node.img"), 512);
    let arguments = ["capture", "--node-file", "node.json", "--server", &server.url, "--disk", &disk.device];
    let capture = bench.command(&arguments);
    let words = std::iter::once(capture.get_program()).chain(capture.get_args());
    let line: Vec<&str> = words.map(|word| word.to_str().unwrap()).collect();
    let mut on_a_terminal = Command::new("script");
    on_a_terminal.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]);
    on_a_terminal.current_dir(bench.directory.path()).env("TERM", "xterm").stdin(Stdio::null());
    let ended = on_a_terminal.output().unwrap();
    let shown = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{shown}");
    // Which stages are seen depends on how fast the machine is; that some of the work is seen as done does not.
    let is_bar = |part: &str| part.contains("[#") && part.contains("%  ") && part.contains(" MiB of ");
    assert!(shown.split('\r').any(is_bar), "{shown}");
    assert!(shown.contains("web-03@"), "the result comes after it: {shown}");

    let ended = bench.command(&arguments).output().unwrap();
    let piped = [ended.stdout, ended.stderr].concat();
    assert!(ended.status.success() && !piped.contains(&b'\r') && !piped.contains(&0x1b));
}
