//! The real `zstd`, GNU `tar` and `bsdtar` restore a volume, each as well as it can. What each brings back is the table
//! in `docs/format.md`, which this test keeps true.
//!
//! Needs root and a loop device; `RERACK_BLESS=1` writes the table anew.

mod common;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use bundle::node_model::{DeviceNumber, Entry, EntryKind};
use common::{Item, awkward, build, have};

/// How each tool is told to restore all it can.
const GNU_TAR: [&str; 8] = [
    "tar",
    "--extract",
    "--preserve-permissions",
    "--numeric-owner",
    "--xattrs",
    "--xattrs-include=*",
    "--zstd",
    "--file",
];
const BSDTAR: [&str; 8] = ["bsdtar", "-x", "-p", "--numeric-owner", "--acls", "--xattrs", "--fflags", "-f"];

/// The rows of the table, in its order.
const FEATURES: [&str; 27] = [
    "content of files",
    "directories, symlinks, device nodes, FIFOs",
    "hardlinks",
    "permission bits, setuid, setgid, sticky",
    "owner and group",
    "owner and group above 2097151",
    "modification time with nanoseconds",
    "modification time of directories",
    "modification time of symlinks",
    "modification time before 1970",
    "names of 255 bytes, deep paths, long link targets",
    "names with blanks, quotes, line feeds, leading dashes",
    "names that are not UTF-8",
    "long names that are not UTF-8",
    "content of sparse files",
    "holes of sparse files",
    "`user.*` attributes",
    "`user.*` attributes with `=` or `%` in the name",
    "attribute values with line feeds and zero bytes",
    "`trusted.*` attributes",
    "`security.*` attributes",
    "attributes of symlinks",
    "capabilities",
    "access ACLs",
    "default ACLs",
    "flags that have a name (`chattr`: `A`, `d`, `i`)",
    "project id and its inheritance",
];

/// A small ext4 filesystem on a loop device, gone when dropped.
struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-I", "256"]).arg(&image));
        let scratch = Self { directory };
        fs::create_dir(scratch.root()).unwrap();
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(scratch.root()));
        scratch
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.root()).status();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What one tool made of the volume: for each feature, how many things had it and in how many it came back.
type Restored = BTreeMap<&'static str, (usize, Vec<String>)>;

fn restore_with(tool: &[&str], archive: &Path, items: &[Item]) -> Restored {
    let scratch = Scratch::new();
    let root = scratch.root().join("restored");
    fs::create_dir(&root).unwrap();
    // A tool that cannot restore something says so and fails; what counts is what is there afterwards.
    let output = Command::new(tool[0])
        .args(&tool[1..])
        .arg(archive)
        .arg("-C")
        .arg(&root)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    print!("{} said:\n{}", tool[0], String::from_utf8_lossy(&output.stderr));
    let mut restored = Restored::new();
    for item in items {
        for (feature, came_back) in compare(&root, item) {
            let (total, missing) = restored.entry(feature).or_default();
            *total += 1;
            if !came_back {
                missing.push(item.0.display_path());
            }
        }
    }
    restored
}

/// The features that an item has, and whether each came back.
fn compare(root: &Path, (entry, content): &Item) -> Vec<(&'static str, bool)> {
    let path = root.join(OsStr::from_bytes(&entry.path));
    let Ok(found) = fs::symlink_metadata(&path) else { return vec![(name_feature(entry), false)] };
    let mut features = vec![(name_feature(entry), true)];
    match &entry.kind {
        EntryKind::File { sparse: None, .. } => {
            features.push(("content of files", fs::read(&path).is_ok_and(|read| read == *content)));
        }
        EntryKind::File { size, sparse: Some(extents) } => {
            let mut expected = vec![0; *size as usize];
            let mut rest = &content[..];
            for extent in extents {
                let (now, later) = rest.split_at(extent.length as usize);
                expected[extent.offset as usize..][..now.len()].copy_from_slice(now);
                rest = later;
            }
            features.push(("content of sparse files", fs::read(&path).is_ok_and(|read| read == expected)));
            let allocated = found.blocks() * 512;
            features.push(("holes of sparse files", allocated <= content.len() as u64 + (64 << 10)));
        }
        EntryKind::Hardlink { target } => {
            let target = fs::symlink_metadata(root.join(OsStr::from_bytes(target)));
            features.push(("hardlinks", target.is_ok_and(|target| target.ino() == found.ino())));
            return features;
        }
        other => features.push(("directories, symlinks, device nodes, FIFOs", is_kind(&path, &found, other))),
    }
    compare_metadata(&mut features, &found, entry);
    for (name, value) in &entry.xattrs {
        features.push((xattr_feature(entry, name), xattr(&path, name).is_some_and(|found| found == *value)));
    }
    if entry.path == b"c/acl-default/no-acl" {
        features.push(("access ACLs", xattr(&path, b"system.posix_acl_access").is_none()));
    }
    if entry.flags & 0xd0 != 0 {
        let flags = rustix::fs::ioctl_getflags(fs::File::open(&path).unwrap()).unwrap().bits();
        let feature = "flags that have a name (`chattr`: `A`, `d`, `i`)";
        features.push((feature, flags & 0xd0 == entry.flags & 0xd0));
    }
    if entry.project_id != 0 {
        // A kernel without quotas gives no project id, and no tool sets one.
        let line = Command::new("lsattr").arg("-p").arg(&path).output().unwrap().stdout;
        features.push(("project id and its inheritance", line.trim_ascii_start().starts_with(b"77 ")));
    }
    features
}

fn compare_metadata(features: &mut Vec<(&'static str, bool)>, found: &Metadata, entry: &Entry) {
    let is_symlink = matches!(entry.kind, EntryKind::Symlink { .. });
    if !is_symlink {
        features.push(("permission bits, setuid, setgid, sticky", found.mode() & 0o7777 == entry.mode));
    }
    let is_large = entry.uid > 0o7_777_777 || entry.gid > 0o7_777_777;
    let owner = if is_large { "owner and group above 2097151" } else { "owner and group" };
    features.push((owner, (found.uid(), found.gid()) == (entry.uid, entry.gid)));
    let time = match entry.kind {
        _ if entry.mtime.secs < 0 => "modification time before 1970",
        EntryKind::Directory => "modification time of directories",
        EntryKind::Symlink { .. } => "modification time of symlinks",
        _ => "modification time with nanoseconds",
    };
    features.push((time, (found.mtime(), found.mtime_nsec()) == (entry.mtime.secs, entry.mtime.nanos.into())));
}

fn name_feature(entry: &Entry) -> &'static str {
    let is_text = std::str::from_utf8(&entry.path).is_ok();
    let target_len = if let EntryKind::Symlink { target } = &entry.kind { target.len() } else { 0 };
    let is_long = entry.path.len() > 100 || target_len > 100;
    let is_odd = entry.path.iter().any(|byte| b" \"\\\n".contains(byte)) || entry.path.ends_with(b"/-rf");
    match (is_text, is_long) {
        (true, true) => "names of 255 bytes, deep paths, long link targets",
        (false, true) => "long names that are not UTF-8",
        (false, false) => "names that are not UTF-8",
        (true, false) if is_odd => "names with blanks, quotes, line feeds, leading dashes",
        (true, false) if matches!(entry.kind, EntryKind::File { .. }) => "content of files",
        (true, false) => "directories, symlinks, device nodes, FIFOs",
    }
}

fn xattr_feature(entry: &Entry, name: &[u8]) -> &'static str {
    match (&entry.kind, name) {
        (EntryKind::Symlink { .. }, _) => "attributes of symlinks",
        (_, b"system.posix_acl_access") => "access ACLs",
        (_, b"system.posix_acl_default") => "default ACLs",
        (_, b"security.capability") => "capabilities",
        (_, b"user.odd") => "attribute values with line feeds and zero bytes",
        (_, name) if name.contains(&b'=') => "`user.*` attributes with `=` or `%` in the name",
        (_, name) if name.starts_with(b"trusted.") => "`trusted.*` attributes",
        (_, name) if name.starts_with(b"security.") => "`security.*` attributes",
        _ => "`user.*` attributes",
    }
}

fn is_kind(path: &Path, found: &Metadata, kind: &EntryKind) -> bool {
    let of_type = found.file_type();
    let number = || DeviceNumber { major: rustix::fs::major(found.rdev()), minor: rustix::fs::minor(found.rdev()) };
    match kind {
        EntryKind::Directory => of_type.is_dir(),
        EntryKind::Symlink { target } => fs::read_link(path).is_ok_and(|read| read.as_os_str().as_bytes() == target),
        EntryKind::CharDevice(device) => of_type.is_char_device() && number() == *device,
        EntryKind::BlockDevice(device) => of_type.is_block_device() && number() == *device,
        EntryKind::Fifo => of_type.is_fifo(),
        EntryKind::File { .. } | EntryKind::Hardlink { .. } => of_type.is_file(),
    }
}

fn xattr(path: &Path, name: &[u8]) -> Option<Vec<u8>> {
    let mut value = vec![0; 64 << 10];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

/// One cell: `yes`, `no`, or how much of it.
fn cell(restored: &Restored, feature: &str) -> String {
    let (total, missing) = restored.get(feature).unwrap_or_else(|| panic!("nothing has the feature {feature}"));
    match missing.len() {
        0 => "yes".to_owned(),
        lost if lost == *total => "no".to_owned(),
        lost => format!("{} of {total}", total - lost),
    }
}

#[test]
fn gnu_tar_and_bsdtar_restore_what_the_table_says() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: restoring owners and mounting a filesystem need root");
        return;
    }
    if !have(&["zstd", "tar", "bsdtar", "mkfs.ext4", "lsattr"]) {
        return;
    }
    let items = awkward();
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("volume.tar.zst");
    fs::write(&archive, build(&items).tar_zst()).unwrap();
    let gnu = restore_with(&GNU_TAR, &archive, &items);
    let bsd = restore_with(&BSDTAR, &archive, &items);

    let version = |tool: &str| run(Command::new(tool).arg("--version")).lines().next().unwrap_or_default().to_owned();
    let gnu_version = version("tar").rsplit(' ').next().unwrap_or_default().to_owned();
    let bsd_version = version("bsdtar").split(' ').nth(1).unwrap_or_default().to_owned();
    let mut table = format!("| | GNU tar {gnu_version} | bsdtar {bsd_version} |\n|---|---|---|\n");
    for feature in FEATURES {
        table += &format!("| {feature} | {} | {} |\n", cell(&gnu, feature), cell(&bsd, feature));
    }
    println!("{table}\nGNU tar lost: {gnu:#?}\nbsdtar lost: {bsd:#?}");
    check_document(&table);
}

/// The table between its marks in the document. Where the tools are of other versions than those the document was
/// written with, only its claims that something is restored are held against them.
fn check_document(table: &str) {
    const BEGIN: &str = "<!-- table of real tools: begin -->\n";
    const END: &str = "<!-- table of real tools: end -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format.md");
    let document = fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    if std::env::var_os("RERACK_BLESS").is_some() {
        fs::write(&path, [before, BEGIN, table, END, after].concat()).unwrap();
        return;
    }
    if written.lines().next() == table.lines().next() {
        assert_eq!(written, table, "docs/format.md does not say what the tools do");
        return;
    }
    for (claim, found) in written.lines().zip(table.lines()).skip(2) {
        for (claim, found) in claim.split('|').zip(found.split('|')) {
            assert!(claim.trim() != "yes" || found.trim() == "yes", "docs/format.md claims too much: {found}");
        }
    }
}
