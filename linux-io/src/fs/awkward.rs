//! A tree of everything that is awkward to bring back, for tests of this crate and of those above it.
//!
//! It is made by path and by hand, not by the code that the tests look at.

use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, CWD, FileType, IFlags, Mode, OFlags, Timespec, Timestamps, XattrFlags, ioctl_getflags, ioctl_setflags,
    lsetxattr, makedev, mkdirat, mknodat, open, openat, utimensat,
};
use rustix::io::Errno;

/// Attributes: names with values.
type Attributes<'a> = &'a [(&'a str, &'a [u8])];

/// Data in a sparse file: where it lies, and how much.
type Data<'a> = &'a [(u64, usize)];

/// Which parts of the tree the filesystem below, or the right of the caller, did not allow.
pub type LeftOut = Vec<String>;

/// Fills the empty directory `root`. Needs root. What the filesystem lacks (attributes of a namespace, flags) is left
/// out and named in the result; a filesystem like ext4 leaves out nothing.
pub fn build(root: &Path) -> io::Result<LeftOut> {
    let mut left_out = LeftOut::new();
    names(root)?;
    contents(root)?;
    sparse(root)?;
    nodes(root)?;
    links(root)?;
    owners_and_modes(root)?;
    attributes(root, &mut left_out)?;
    deep(root)?;
    times(root)?;
    flags(root, &mut left_out)?;
    Ok(left_out)
}

/// Takes away the flags by which [`build`]'s files resist removal.
pub fn unlock(root: &Path) -> io::Result<()> {
    for name in ["flags/immutable", "flags/append", "flags/immutable-directory"] {
        if let Ok(file) = File::open(root.join(name)) {
            set_flags(&file, IFlags::IMMUTABLE | IFlags::APPEND, false)?;
        }
    }
    Ok(())
}

/// Bytes that neither compress to nothing nor repeat, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn directory(root: &Path, name: &str) -> io::Result<PathBuf> {
    let path = root.join(name);
    fs::create_dir_all(&path)?;
    Ok(path)
}

fn names(root: &Path) -> io::Result<()> {
    let at = directory(root, "names")?;
    let long = [b'n'; 255];
    let odd: [&[u8]; 12] = [
        b"not utf-8 \xff\xfe\x80",
        b"new\nline",
        b"tab\tand \x01 control",
        b"--force",
        b" leading space",
        b"trailing space ",
        b"back\\slash",
        b"quote'\"`$(true)",
        b"...",
        b"a-sibling",
        b"star*?[x]",
        &long,
    ];
    for (index, name) in odd.iter().enumerate() {
        fs::write(at.join(std::ffi::OsStr::from_bytes(name)), format!("file {index}"))?;
    }
    // Sorted as whole paths, `a-sibling` would come between `a` and its child.
    fs::create_dir(at.join("a"))?;
    fs::write(at.join("a/child"), "child")?;
    fs::write(at.join("a.txt"), "text")?;
    fs::create_dir(at.join("empty directory"))?;
    fs::create_dir(at.join(std::ffi::OsStr::from_bytes(b"directory \xc3\x28")))?;
    fs::write(at.join(std::ffi::OsStr::from_bytes(b"directory \xc3\x28/inside")), "inside")
}

fn contents(root: &Path) -> io::Result<()> {
    let at = directory(root, "contents")?;
    for size in [0usize, 1, 511, 512, 513, 4095, 4096, 4097, 262_143, 262_144, 262_145, 4 << 20, (4 << 20) + 1] {
        fs::write(at.join(format!("{size:07} bytes")), noise(size as u64, size))?;
    }
    fs::write(at.join("eleven mebibytes"), noise(11, (11 << 20) + 77))?;
    // The same content twice is stored once.
    fs::write(at.join("twin one"), noise(12, 600_000))?;
    fs::write(at.join("twin two"), noise(12, 600_000))?;
    fs::write(at.join("zeros without a hole"), vec![0; 300_000])
}

fn sparse(root: &Path) -> io::Result<()> {
    let at = directory(root, "sparse")?;
    // (name, size, where data lies)
    let files: [(&str, u64, Data<'_>); 7] = [
        ("one hole", 1 << 20, &[]),
        ("one huge hole", 1 << 40, &[]),
        ("hole first", 1 << 20, &[((1 << 20) - 5000, 5000)]),
        ("hole last", 1 << 20, &[(0, 5000)]),
        ("hole inside", 3 << 20, &[(0, 4096), (2 << 20, 1 << 20)]),
        ("many holes", 8 << 20, &[]),
        ("far data", (1 << 33) + 123, &[(1 << 32, 100_000), (1 << 33, 123)]),
    ];
    for (name, size, data) in files {
        let file = File::create(at.join(name))?;
        file.set_len(size)?;
        for &(offset, length) in data {
            file.write_all_at(&noise(offset + 1, length), offset)?;
        }
        if name == "many holes" {
            for offset in (0..size).step_by(16 << 10) {
                file.write_all_at(&noise(offset + 1, 4096), offset)?;
            }
        }
    }
    Ok(())
}

fn nodes(root: &Path) -> io::Result<()> {
    let at = directory(root, "nodes")?;
    let mode = Mode::from_raw_mode(0o640);
    mknodat(CWD, at.join("null"), FileType::CharacterDevice, mode, makedev(1, 3))?;
    mknodat(CWD, at.join("large numbers"), FileType::CharacterDevice, mode, makedev(511, 200_000))?;
    mknodat(CWD, at.join("block"), FileType::BlockDevice, mode, makedev(259, 70_000))?;
    mknodat(CWD, at.join("fifo"), FileType::Fifo, mode, 0)?;
    chown(at.join("fifo"), Some(7), Some(8))?;
    UnixListener::bind(at.join("socket")).map(drop)
}

fn links(root: &Path) -> io::Result<()> {
    let at = directory(root, "links")?;
    let other = directory(root, "names/other names")?;
    fs::write(at.join("first"), "several names")?;
    fs::hard_link(at.join("first"), at.join("second"))?;
    fs::hard_link(at.join("first"), other.join("across directories"))?;
    fs::write(at.join("large first"), noise(21, 700_000))?;
    fs::hard_link(at.join("large first"), at.join("large second"))?;
    symlink("first", at.join("symbolic"))?;
    symlink("/nowhere/at all", at.join("dangling"))?;
    symlink("../../../../etc", at.join("leading out"))?;
    symlink(std::ffi::OsStr::from_bytes(b"not utf-8 \xff"), at.join("symbolic not utf-8"))?;
    symlink("x".repeat(1000), at.join("symbolic long"))?;
    fs::hard_link(at.join("symbolic"), at.join("symbolic second name"))?;
    lchown(at.join("dangling"), Some(12), Some(34))?;
    mknodat(CWD, at.join("fifo"), FileType::Fifo, Mode::RUSR, 0)?;
    fs::hard_link(at.join("fifo"), at.join("fifo second name"))
}

fn owners_and_modes(root: &Path) -> io::Result<()> {
    let at = directory(root, "owners")?;
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755), ("sticky", 0o1644), ("none", 0), ("all", 0o7777)] {
        fs::write(at.join(name), name)?;
        chown(at.join(name), Some(1000), Some(1001))?;
        fs::set_permissions(at.join(name), Permissions::from_mode(mode))?;
    }
    for id in [65_534, 2_097_151, 2_097_152, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe] {
        let path = at.join(format!("id {id:010}"));
        fs::write(&path, "")?;
        chown(&path, Some(id), Some(id - 1))?;
    }
    for (name, mode) in [("setgid directory", 0o2775), ("sticky directory", 0o1777), ("closed directory", 0)] {
        fs::create_dir(at.join(name))?;
        fs::write(at.join(name).join("inside"), name)?;
        chown(at.join(name), Some(3), Some(4))?;
        fs::set_permissions(at.join(name), Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// A POSIX ACL as its attribute holds it: version 2, then (tag, permissions, id).
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn attributes(root: &Path, left_out: &mut LeftOut) -> io::Result<()> {
    let at = directory(root, "attributes")?;
    const ANYONE: u32 = u32::MAX;
    let access = acl(&[(1, 6, ANYONE), (2, 7, 1234), (4, 4, ANYONE), (8, 5, 77), (16, 7, ANYONE), (32, 0, ANYONE)]);
    let default = acl(&[(1, 7, ANYONE), (2, 5, 99), (4, 5, ANYONE), (16, 5, ANYONE), (32, 1, ANYONE)]);
    // cap_net_bind_service and cap_net_raw, effective and permitted, revision 2.
    let capability = [&0x0200_0001u32.to_le_bytes()[..], &0x2400u32.to_le_bytes(), &[0; 12]].concat();
    let large = noise(31, 2000);
    let files: [(&str, Attributes<'_>); 8] = [
        ("values", &[("user.line", b"one\ntwo\n"), ("user.nul", b"a\0b\0"), ("user.empty", b""), ("user.x", b"\xff")]),
        ("odd names", &[("user.a=b", b"equals"), ("user.50%", b"percent"), ("user.%3D", b"escape"), ("user.ü", b"u")]),
        ("large", &[("user.large", &large)]),
        ("trusted", &[("trusted.rerack", b"only root\nsees\0it")]),
        ("security", &[("security.rerack", b"label")]),
        ("capability", &[("security.capability", &capability)]),
        ("acl", &[("system.posix_acl_access", &access), ("user.beside", b"an acl")]),
        ("both", &[("user.both", b"1"), ("trusted.both", b"2"), ("security.both", b"3")]),
    ];
    for (name, attributes) in files {
        let path = at.join(name);
        fs::write(&path, name)?;
        chown(&path, Some(5), Some(6))?;
        set(&path, attributes, left_out)?;
    }
    let with_default = directory(&at, "directory with default acl")?;
    fs::write(with_default.join("made before"), "inherits nothing")?;
    set(&with_default, &[("system.posix_acl_default", &default), ("user.directory", b"\n\0")], left_out)?;
    fs::write(with_default.join("made after"), "inherits")?;
    symlink("values", at.join("symbolic"))?;
    set(&at.join("symbolic"), &[("trusted.on-a-link", b"value"), ("security.on-a-link", b"v\n")], left_out)?;
    mknodat(CWD, at.join("fifo"), FileType::Fifo, Mode::RUSR, 0)?;
    set(&at.join("fifo"), &[("trusted.on-a-fifo", b"value")], left_out)?;
    mknodat(CWD, at.join("device"), FileType::CharacterDevice, Mode::RUSR, makedev(1, 5))?;
    set(&at.join("device"), &[("security.on-a-device", b"value")], left_out)
}

fn set(path: &Path, attributes: Attributes<'_>, left_out: &mut LeftOut) -> io::Result<()> {
    for (name, value) in attributes {
        match lsetxattr(path, *name, value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(errno @ (Errno::OPNOTSUPP | Errno::NOSPC | Errno::PERM | Errno::RANGE)) => {
                left_out.push(format!("{name} of {}: {errno}", path.display()));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// A path longer than any one call takes, and deeper than the number of directories a walk holds open.
fn deep(root: &Path) -> io::Result<()> {
    let mut at: OwnedFd = open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for level in 0..90 {
        let name = format!("deep {level} {}", "d".repeat(60));
        mkdirat(&at, &name, Mode::RWXU)?;
        at = openat(&at, &name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let mut file = File::from(openat(&at, "zz after its sibling", flags, Mode::RUSR)?);
        write!(file, "level {level}")?;
    }
    Ok(())
}

fn times(root: &Path) -> io::Result<()> {
    let at = directory(root, "times")?;
    let cases = [
        ("zero", 0, 0),
        ("nanoseconds", 1_234_567_890, 123_456_789),
        ("last nanosecond", 1_500_000_000, 999_999_999),
        ("before 1970", -1, 500_000_000),
        ("long before 1970", -1_000_000_000, 1),
        ("after 2038", 3_000_000_000, 42),
        ("after 2106", 5_000_000_000, 7),
    ];
    for (name, secs, nanos) in cases {
        fs::write(at.join(name), name)?;
        touch(&at.join(name), secs, nanos)?;
    }
    symlink("zero", at.join("symbolic"))?;
    touch(&at.join("symbolic"), -77, 77)?;
    let inside = directory(&at, "directory")?;
    fs::write(inside.join("inside"), "a directory's time outlasts its children's making")?;
    touch(&inside, 1_000_000_000, 5)?;
    let day = Duration::from_secs(86_400);
    File::open(&at)?.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + day))
}

fn touch(path: &Path, secs: i64, nanos: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: secs, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn flags(root: &Path, left_out: &mut LeftOut) -> io::Result<()> {
    let at = directory(root, "flags")?;
    let files = [
        ("immutable", IFlags::IMMUTABLE),
        ("append", IFlags::APPEND),
        ("no dump and no atime", IFlags::NODUMP | IFlags::NOATIME),
        ("sync", IFlags::SYNC),
        ("second name of immutable", IFlags::empty()),
    ];
    for (name, _) in files.iter().take(4) {
        fs::write(at.join(name), name)?;
    }
    fs::hard_link(at.join("immutable"), at.join("second name of immutable"))?;
    for name in ["immutable-directory", "no dump directory"] {
        fs::create_dir(at.join(name))?;
        fs::write(at.join(name).join("inside"), name)?;
    }
    let directories = [("no dump directory", IFlags::NODUMP), ("immutable-directory", IFlags::IMMUTABLE)];
    for (name, flags) in files.into_iter().take(4).chain(directories) {
        if let Err(error) = set_flags(&File::open(at.join(name))?, flags, true) {
            left_out.push(format!("flags of {name}: {error}"));
        }
    }
    Ok(())
}

fn set_flags(file: &File, flags: IFlags, on: bool) -> io::Result<()> {
    let now = ioctl_getflags(file)?;
    Ok(ioctl_setflags(file, if on { now | flags } else { now.difference(flags) })?)
}
