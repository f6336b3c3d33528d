//! Files that are awkward to capture and restore.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, lchown, symlink},
        net::UnixListener,
    },
    path::Path,
};

use rustix::fs::{
    AtFlags, CWD, FileType, IFlags, Mode, Timespec, Timestamps, XattrFlags, ioctl_getflags, ioctl_setflags, lsetxattr,
    makedev, mknodat, utimensat,
};

use crate::Error;

/// Plants one of each kind of awkward file below `dir`, which is made. Needs root and a filesystem that keeps them.
///
/// Extended attributes of every namespace with newlines and zero bytes in them, access and default ACLs, capabilities,
/// setuid, device nodes, a FIFO, a socket, hardlinks across directories, sparse and empty files, names of 255 bytes,
/// names that are no UTF-8 and that look like options, deep paths, times before 1970 and to the nanosecond, large ids,
/// inode flags.
pub fn plant_awkward_files(dir: &Path) -> Result<(), Error> {
    make_dir(dir)?;
    plant_names(&dir.join("names"))?;
    plant_attributes(&dir.join("attributes"))?;
    plant_nodes(&dir.join("nodes"))?;
    plant_links(&dir.join("links"))?;
    plant_content(&dir.join("content"))?;
    plant_owners_and_modes(&dir.join("owners"))?;
    plant_times(&dir.join("times"))?;
    plant_flags(&dir.join("flags"))
}

fn plant_names(dir: &Path) -> Result<(), Error> {
    make_dir(dir)?;
    let names: [&[u8]; 8] = [
        &[b'n'; 255],
        b"not-utf8-\xff\xfe",
        b"line\nfeed",
        b"--force",
        b" space ",
        b"back\\slash",
        b"*",
        "ü日本".as_bytes(),
    ];
    for name in names {
        write(&dir.join(OsStr::from_bytes(name)), name)?;
    }
    // Deeper than the 255 bytes of a ustar header, shallower than PATH_MAX.
    let mut deep = dir.to_path_buf();
    for level in 0..40 {
        deep.push(format!("a-directory-at-level-{level:02}"));
    }
    make_dir(&deep)?;
    write(&deep.join("bottom"), b"deep")
}

fn plant_attributes(dir: &Path) -> Result<(), Error> {
    make_dir(dir)?;
    let file = dir.join("every-namespace");
    write(&file, b"attributes")?;
    set_attribute(&file, "user.plain", b"value")?;
    set_attribute(&file, "user.newline", b"one\ntwo\n")?;
    set_attribute(&file, "user.zero", b"a\0b\0")?;
    set_attribute(&file, "user.empty", b"")?;
    set_attribute(&file, "user.a=b", b"an equals sign in the name")?;
    set_attribute(&file, "trusted.secret", b"\xff\n\0")?;
    set_attribute(&file, "security.rerack", b"custom")?;
    set_attribute(dir, "user.on-a-directory", b"yes")?;
    let link = dir.join("link");
    symlink("every-namespace", &link).map_err(Error::file("link", &link))?;
    set_attribute(&link, "trusted.on-a-symlink", b"yes")?;

    let capable = dir.join("capable");
    write(&capable, b"#!/bin/true\n")?;
    // VFS_CAP_REVISION_2, effective: cap_net_raw and cap_net_bind_service.
    let capability = [0x0200_0001_u32, 1 << 13 | 1 << 10, 0, 0, 0].map(u32::to_le_bytes).concat();
    set_attribute(&capable, "security.capability", &capability)?;

    let shared = dir.join("default-acl");
    make_dir(&shared)?;
    set_attribute(&shared, "system.posix_acl_access", &acl(7))?;
    set_attribute(&shared, "system.posix_acl_default", &acl(5))
}

/// An ACL that also names user 1234 and group 70000: owner rwx, the named ones `named`, group and others r-x.
fn acl(named: u16) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 6] = [
        (0x01, 7, NOBODY),
        (0x02, named, 1234),
        (0x04, 5, NOBODY),
        (0x08, named, 70_000),
        (0x10, 7, NOBODY),
        (0x20, 5, NOBODY),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn plant_nodes(dir: &Path) -> Result<(), Error> {
    make_dir(dir)?;
    let mode = Mode::from_raw_mode(0o640);
    let kinds = [
        ("character", FileType::CharacterDevice, makedev(1, 3)),
        ("block", FileType::BlockDevice, makedev(259, 0x12345)),
        ("fifo", FileType::Fifo, 0),
    ];
    for (name, kind, device) in kinds {
        let path = dir.join(name);
        mknodat(CWD, &path, kind, mode, device).map_err(|error| Error::file("make", &path)(error.into()))?;
    }
    // A socket's path may have 107 bytes only, the mounted tree may lie deeper.
    let short = tempfile::tempdir().map_err(Error::file("make", std::env::temp_dir()))?;
    let link = short.path().join("d");
    symlink(dir, &link).map_err(Error::file("link", &link))?;
    UnixListener::bind(link.join("socket")).map(drop).map_err(Error::file("bind", dir))
}

fn plant_links(dir: &Path) -> Result<(), Error> {
    for sub in ["one", "two"] {
        make_dir(&dir.join(sub))?;
    }
    let first = dir.join("one/first");
    write(&first, b"three names, one file")?;
    for other in ["two/second", "third"] {
        fs::hard_link(&first, dir.join(other)).map_err(Error::file("link", dir.join(other)))?;
    }
    let long = format!("/{}", "long-target/".repeat(80));
    for (name, target) in [("dangling", "nowhere"), ("absolute", "/etc/passwd"), ("up", "../../.."), ("long", &long)] {
        symlink(target, dir.join(name)).map_err(Error::file("link", dir.join(name)))?;
    }
    // Two names of one symlink.
    fs::hard_link(dir.join("dangling"), dir.join("dangling-too")).map_err(Error::file("link", dir))
}

fn plant_content(dir: &Path) -> Result<(), Error> {
    make_dir(dir)?;
    write(&dir.join("empty"), b"")?;
    let noise: Vec<u8> = (0_u32..90_000).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    write(&dir.join("noise"), &noise)?;
    let sparse = |name: &str, pieces: &[u64], end: u64| {
        let path = dir.join(name);
        let mut file = File::create(&path).map_err(Error::file("create", &path))?;
        file.set_len(end).map_err(Error::file("size", &path))?;
        for at in pieces {
            file.seek(SeekFrom::Start(*at)).map_err(Error::file("seek in", &path))?;
            file.write_all(&noise[..8192]).map_err(Error::file("write", &path))?;
        }
        Ok(())
    };
    sparse("all-hole", &[], 64 << 20)?;
    sparse("hole-first", &[1 << 20], (1 << 20) + 8192)?;
    sparse("hole-last", &[0], 5 << 20)?;
    sparse("many-holes", &[65_536, 1 << 20, 9 << 20, 300 << 20], 1 << 30)
}

fn plant_owners_and_modes(dir: &Path) -> Result<(), Error> {
    make_dir(dir)?;
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755), ("sticky", 0o1777), ("none", 0), ("all", 0o7777)] {
        let path = dir.join(name);
        write(&path, name.as_bytes())?;
        // Changing the owner clears setuid, so the mode comes last.
        lchown(&path, Some(2_000_000_001), Some(3_000_000_002)).map_err(Error::file("give away", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(Error::file("set the mode of", &path))?;
    }
    Ok(())
}

fn plant_times(dir: &Path) -> Result<(), Error> {
    make_dir(dir)?;
    for (name, seconds, nanoseconds) in [
        ("before-1970", -86_400_i64, 123_456_789),
        ("just-before-1970", -1, 999_999_999),
        ("zero", 0, 0),
        ("one-nanosecond", 1_600_000_000, 1),
        ("in-2038", 2_147_483_647, 999_999_999),
    ] {
        let path = dir.join(name);
        write(&path, name.as_bytes())?;
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        utimensat(CWD, &path, &Timestamps { last_access: time, last_modification: time }, AtFlags::empty())
            .map_err(|error| Error::file("set the time of", &path)(error.into()))?;
    }
    Ok(())
}

fn plant_flags(dir: &Path) -> Result<(), Error> {
    make_dir(dir)?;
    for (name, flags) in [("immutable", IFlags::IMMUTABLE), ("append", IFlags::APPEND), ("nodump", IFlags::NODUMP)] {
        let path = dir.join(name);
        write(&path, name.as_bytes())?;
        let file = File::open(&path).map_err(Error::file("open", &path))?;
        ioctl_getflags(&file)
            .and_then(|now| ioctl_setflags(&file, now | flags))
            .map_err(|error| Error::file("flag", &path)(error.into()))?;
    }
    Ok(())
}

fn make_dir(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::file("make", path))
}

fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    fs::write(path, content).map_err(Error::file("write", path))
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) -> Result<(), Error> {
    lsetxattr(path, name, value, XattrFlags::empty())
        .map_err(|error| Error::file("set an attribute of", path)(error.into()))
}
