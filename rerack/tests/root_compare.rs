//! `rerack compare` finds a change in each single thing that a snapshot keeps of a file, and nothing else. Needs root.

mod support;

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, IFlags, Mode, Timespec, Timestamps, XattrFlags, fallocate, ioctl_getflags,
    ioctl_setflags, lremovexattr, lsetxattr, makedev, mknodat, utimensat,
};
use support::{Attached, Bench, NODE, Parts, can_run, tool};

/// A path below the tree of awkward files, what is done to it, and what the comparison must call it.
type Change = (&'static str, fn(&Path), &'static [&'static str]);

const CHANGES: [Change; 38] = [
    ("contents/0000511 bytes", |p| fs::remove_file(p).unwrap(), &["missing"]),
    ("names/empty directory", |p| fs::remove_dir(p).unwrap(), &["missing"]),
    ("names/new", |p| fs::write(p, "new").unwrap(), &["extra"]),
    ("nodes/fifo", |p| anew(p, |p| fs::write(p, "").unwrap()), &["type"]),
    ("nodes/large numbers", |p| anew(p, |p| node(p, FileType::BlockDevice, 511, 200_000)), &["type"]),
    ("nodes/null", |p| anew(p, |p| node(p, FileType::CharacterDevice, 1, 5)), &["device number"]),
    ("nodes/block", |p| anew(p, |p| node(p, FileType::BlockDevice, 258, 70_000)), &["device number"]),
    ("links/dangling", |p| anew(p, elsewhere), &["link target"]),
    // Another file of the same content, owner and time where there was a second name.
    ("links/second", |p| anew(p, |p| fs::write(p, "several names").unwrap()), &["type"]),
    // A second name where there was another file of the same content.
    ("contents/twin two", |p| anew(p, |p| fs::hard_link(p.with_file_name("twin one"), p).unwrap()), &["type"]),
    ("links/large second", |p| anew(p, |p| fs::hard_link(p.with_file_name("first"), p).unwrap()), &["first name"]),
    ("owners/setuid", |p| mode(p, 0o755), &["mode"]),
    ("owners/sticky directory", |p| mode(p, 0o777), &["mode"]),
    ("names/a.txt", |p| lchown(p, Some(9), None).unwrap(), &["uid"]),
    ("links/symbolic long", |p| lchown(p, Some(9), None).unwrap(), &["uid"]),
    ("names/...", |p| lchown(p, None, Some(9)).unwrap(), &["gid"]),
    ("times/nanoseconds", |p| touch(p, 1_234_567_890, 123_456_790), &["mtime"]),
    ("times/long before 1970", |p| touch(p, -1_000_000_000, 2), &["mtime"]),
    ("times/directory", |p| touch(p, 1_000_000_000, 6), &["mtime"]),
    ("times/symbolic", |p| touch(p, -77, 78), &["mtime"]),
    ("contents/0000513 bytes", |p| write(p, 513, b"!"), &["size"]),
    ("contents/eleven mebibytes", |p| write(p, 5_000_000, b"!"), &["content"]),
    // Data where a hole was.
    ("sparse/hole inside", |p| write(p, 1 << 20, b"!"), &["content", "holes"]),
    ("sparse/one hole", |p| write(p, 0, &[0; 1 << 20]), &["allocation", "holes"]),
    ("contents/zeros without a hole", punch, &["holes"]),
    // One block more than 262144 bytes and 5 % and 64 KiB, and one block less.
    ("contents/0262144 bytes", |p| allocate(p, 84 * 4096), &["allocation"]),
    ("contents/0262143 bytes", |p| allocate(p, 83 * 4096), &[]),
    ("attributes/values", |p| attribute(p, "user.nul", b"a\0c\0"), &["xattr user.nul"]),
    ("attributes/large", |p| attribute(p, "user.new", b""), &["xattr user.new"]),
    ("attributes/odd names", |p| lremovexattr(p, "user.a=b").unwrap(), &["xattr user.a=b"]),
    ("attributes/trusted", |p| attribute(p, "trusted.rerack", b"only"), &["xattr trusted.rerack"]),
    ("attributes/security", |p| attribute(p, "security.rerack", b""), &["xattr security.rerack"]),
    ("attributes/symbolic", |p| lremovexattr(p, "trusted.on-a-link").unwrap(), &["xattr trusted.on-a-link"]),
    ("attributes/acl", |p| lremovexattr(p, ACCESS).unwrap(), &["xattr system.posix_acl_access"]),
    (
        "attributes/directory with default acl",
        |p| lremovexattr(p, "system.posix_acl_default").unwrap(),
        &["xattr system.posix_acl_default"],
    ),
    ("attributes/capability", |p| lremovexattr(p, "security.capability").unwrap(), &["xattr security.capability"]),
    ("flags/immutable", |p| unflag(p, IFlags::IMMUTABLE), &["flags"]),
    ("flags/no dump directory", |p| unflag(p, IFlags::NODUMP), &["flags"]),
];

const ACCESS: &str = "system.posix_acl_access";

#[test]
fn a_comparison_finds_each_single_change_and_no_other() {
    if !can_run() {
        return;
    }
    let bench = Bench::with_snapshot_of(Parts::RootAndXfs);
    tool("cp", &["--sparse=always", &bench.text_path("node.img"), &bench.text_path("changed.img")]);
    assert_eq!(differences(&bench, 0), [""; 0], "a copy of the disk is what was captured");

    let mut expected = Vec::new();
    let disk = Attached::new(&bench.path("changed.img"), 512);
    bench.mounted(&disk.partition(3), "rw", |root| {
        for (path, change, whats) in CHANGES {
            let at = root.join("awkward").join(path);
            keeping_times(at.parent().unwrap(), || match whats {
                ["content" | "holes" | "size" | "allocation", ..] | [] => keeping_times(&at, || change(&at)),
                _ => change(&at),
            });
            expected.extend(whats.iter().map(|what| format!("awkward/{path}: {what}")));
        }
    });
    // Ext4 has project ids only where it was made with them.
    bench.mounted(&disk.partition(2), "nouuid", |root| {
        tool("chattr", &["-p", "77", root.join("empty").to_str().unwrap()]);
    });
    expected.push("empty: project id".to_owned());
    drop(disk);
    expected.sort();
    assert_eq!(differences(&bench, 3), expected);
}

#[test]
fn a_mounted_root_is_compared_with_one_volume() {
    if !can_run() {
        return;
    }
    let bench = Bench::with_snapshot_of(Parts::Root);
    let listed = bench.rerack(&["list", NODE, "--json"]).with_code(0);
    let id =
        listed.split("\"snapshot\":").nth(1).and_then(|rest| rest.split('"').nth(1)).expect("a snapshot").to_owned();
    let named = format!("{NODE}@{id}");
    let disk = Attached::new(&bench.path("node.img"), 512);
    bench.mounted(&disk.partition(3), "rw", |root| {
        let compare = |snapshot: &str, volume: &str| {
            bench.rerack(&["compare", snapshot, root.to_str().unwrap(), "--volume", volume])
        };
        let report = compare(&named, "disk0-p3").with_code(0);
        assert!(report.contains("compared: 0 differences, 0 excepted"), "{report}");
        fs::write(root.join("etc/hostname"), "web-04\n").unwrap();
        let report = compare(NODE, "disk0-p3").with_code(3);
        assert!(
            report.contains("/etc/hostname: content is ") && report.contains("/etc/hostname: mtime is "),
            "{report}"
        );
        let complaint = compare(NODE, "root").complaint(1);
        assert!(complaint.contains("no volume of files named `root`") && complaint.contains("hint: "), "{complaint}");
    });
}

#[test]
fn what_the_rescue_script_unpacks_lacks_only_what_gnu_tar_cannot_restore() {
    if !can_run() {
        return;
    }
    let bench = Bench::with_snapshot_of(Parts::RootAndXfs);
    bench.blank_image("rescued.img", 300);
    tool("mkfs.ext4", &["-q", "-b", "4096", "-I", "256", &bench.text_path("rescued.img")]);
    let disk = Attached::without_partitions(&bench.path("rescued.img"), 512);
    bench.mounted(&disk.device, "rw", |root| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rescue.sh");
        let mut rescue = Command::new("sh");
        rescue.arg(script).arg(bench.path("repo")).args(["extract", NODE, "latest", "disk0-p3"]).arg(root);
        let said = rescue.env("LC_ALL", "C.UTF-8").output().unwrap();
        // It fails, because tar cannot make what is deeper than any one call can name; the rest is there.
        let complaint = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(!said.status.success() && complaint.contains("tar did not unpack everything"), "{complaint}");

        let arguments = ["compare", NODE, root.to_str().unwrap(), "--volume", "disk0-p3", "--json"];
        let report: serde_json::Value = serde_json::from_str(&bench.rerack(&arguments).with_code(3)).unwrap();
        assert!(report["path_count"].as_u64().unwrap() > 200, "hardly anything was unpacked");
        for difference in report["differences"].as_array().unwrap() {
            let (path, what) = (difference["path"].as_str().unwrap(), difference["what"].as_str().unwrap());
            let is_too_deep = path.len() >= 4000 && path.starts_with("awkward/deep 0 ");
            assert!(what == "flags" || is_too_deep, "{difference}");
        }
    });
}

/// What `rerack compare` finds on the image, if it ends with `code`.
fn differences(bench: &Bench, code: i32) -> Vec<String> {
    let report = bench.rerack(&["compare", NODE, "--image", "changed.img", "--json"]).with_code(code);
    let volumes = report.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let text = |difference: &serde_json::Value, key: &str| difference[key].as_str().unwrap().to_owned();
    let mut found: Vec<String> = volumes
        .flat_map(|volume| volume["differences"].as_array().unwrap().clone())
        .map(|difference| format!("{}: {}", text(&difference, "path"), text(&difference, "what")))
        .collect();
    found.sort();
    found
}

/// Does something to a file or directory whose modification time nobody shall notice.
fn keeping_times(path: &Path, change: impl FnOnce()) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    change();
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(modified)).unwrap();
}

/// Puts something else in a path's place: with its owner, mode and time, so that only what it is differs.
fn anew(path: &Path, make: fn(&Path)) {
    use std::os::unix::fs::MetadataExt;
    let was = fs::symlink_metadata(path).unwrap();
    fs::remove_file(path).unwrap();
    make(path);
    if fs::symlink_metadata(path).unwrap().nlink() > 1 {
        return;
    }
    lchown(path, Some(was.uid()), Some(was.gid())).unwrap();
    if !was.is_symlink() {
        mode(path, was.mode() & 0o7777);
    }
    touch(path, was.mtime(), was.mtime_nsec());
}

fn elsewhere(path: &Path) {
    symlink("/elsewhere", path).unwrap();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn node(path: &Path, kind: FileType, major: u32, minor: u32) {
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), makedev(major, minor)).unwrap();
}

fn touch(path: &Path, secs: i64, nanos: i64) {
    let time = Timespec { tv_sec: secs, tv_nsec: nanos as _ };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn write(path: &Path, offset: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn punch(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 8192, 8192).unwrap();
}

/// Storage beyond the file's end.
fn allocate(path: &Path, bytes: u64) {
    let file = File::options().write(true).open(path).unwrap();
    fallocate(&file, FallocateFlags::KEEP_SIZE, 0, bytes).unwrap();
}

fn attribute(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn unflag(path: &Path, flags: IFlags) {
    let file = File::open(path).unwrap();
    ioctl_setflags(&file, ioctl_getflags(&file).unwrap().difference(flags)).unwrap();
}
