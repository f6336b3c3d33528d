//! The kernel's tables of mounts and swap areas.

use std::io;
use std::path::Path;

use node_model::DeviceNumber;

use crate::roots::read_bounded;

/// Machines with many containers have mount tables of a few hundred kilobytes.
pub const MOUNT_TABLE_BYTES_MAX: u64 = 64 << 20;

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// The mount's own id.
    pub id: u64,
    /// Device number of the filesystem, as `st_dev` shows it.
    pub device: DeviceNumber,
    /// Which directory of the filesystem is mounted: `/` but for bind mounts and the like.
    pub root: String,
    /// Where.
    pub target: String,
    /// Options of the mount and of the filesystem, joined, without repeats.
    pub options: String,
    /// Filesystem type.
    pub fstype: String,
    /// What is mounted, as the mount call named it.
    pub source: String,
}

/// The mounts of this process's namespace, in the order they were made.
pub fn mounts(proc: &Path) -> io::Result<Vec<MountEntry>> {
    let bytes = read_bounded(&proc.join("self/mountinfo"), MOUNT_TABLE_BYTES_MAX)?;
    Ok(parse_mountinfo(&String::from_utf8_lossy(&bytes)))
}

/// The paths of the active swap areas: devices and files.
pub fn swaps(proc: &Path) -> io::Result<Vec<String>> {
    match read_bounded(&proc.join("swaps"), MOUNT_TABLE_BYTES_MAX) {
        Ok(bytes) => Ok(parse_swaps(&String::from_utf8_lossy(&bytes))),
        // A kernel without swap has no such file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn parse_mountinfo(text: &str) -> Vec<MountEntry> {
    text.lines().filter_map(parse_mount).collect()
}

fn parse_mount(line: &str) -> Option<MountEntry> {
    // The number of optional fields before the lone `-` varies.
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ');
    let id = before.next()?.parse().ok()?;
    let (major, minor) = before.nth(1)?.split_once(':')?;
    let (root, target, options) = (before.next()?, before.next()?, before.next()?);
    let mut after = after.split(' ');
    let (fstype, source) = (after.next()?, after.next()?);
    Some(MountEntry {
        id,
        device: DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? },
        root: unescape(root),
        target: unescape(target),
        options: join_options(options, after.next().unwrap_or("")),
        fstype: unescape(fstype),
        source: unescape(source),
    })
}

fn join_options(mount: &str, filesystem: &str) -> String {
    let mut joined: Vec<&str> = Vec::new();
    for option in mount.split(',').chain(filesystem.split(',')) {
        // A read-only mount of a writable filesystem says `ro` first and `rw` of the superblock then.
        let contradicted = option == "rw" && joined.contains(&"ro");
        if !option.is_empty() && !contradicted && !joined.contains(&option) {
            joined.push(option);
        }
    }
    joined.join(",")
}

fn parse_swaps(text: &str) -> Vec<String> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(unescape).collect()
}

/// Octal escapes as the kernel writes them for blanks and backslashes.
fn unescape(field: &str) -> String {
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 4).filter(|d| d.iter().all(|b| matches!(b, b'0'..=b'7')));
        match (bytes[at], digits) {
            (b'\\', Some(d)) => {
                plain.push(((d[0] & 3) << 6) | ((d[1] - b'0') << 3) | (d[2] - b'0'));
                at += 4;
            }
            (byte, _) => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_whatever_optional_fields_it_has() {
        let text = "36 35 98:0 /mnt1 /mnt\\040two\\134 rw,noatime master:1 shared:7 - ext4 /dev/root rw,errors=continue\n\
                    27 1 254:1 / / ro,relatime - xfs /dev/vda1 rw,attr2,inode64";
        let mounts = parse_mountinfo(text);
        assert_eq!(
            mounts[0],
            MountEntry {
                id: 36,
                device: DeviceNumber { major: 98, minor: 0 },
                root: "/mnt1".into(),
                target: "/mnt two\\".into(),
                options: "rw,noatime,errors=continue".into(),
                fstype: "ext4".into(),
                source: "/dev/root".into(),
            }
        );
        assert_eq!(mounts[1].options, "ro,relatime,attr2,inode64");
    }

    #[test]
    fn lines_that_make_no_sense_are_left_out() {
        assert_eq!(parse_mountinfo("nonsense\n1 2 x:y / / rw - a b c\n\n"), []);
    }

    #[test]
    fn swap_areas_are_named_by_their_first_column() {
        let text =
            "Filename\t\t\t\tType\t\tSize\tUsed\tPriority\n/dev/vda3 partition 1 0 -2\n/swap\\040file file 1 0 -3\n";
        assert_eq!(parse_swaps(text), ["/dev/vda3", "/swap file"]);
    }
}
