//! What lies on a device, as `blkid` recognises it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use crate::runner::{RunError, Tool};

/// `blkid`: nothing was found.
const EXIT_NOTHING: i32 = 2;
/// `blkid`: several things were found, and it will not choose.
const EXIT_AMBIVALENT: i32 = 8;
/// A disk that is dying answers late; one that has not after this is not worth waiting for.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Where nothing is found, this much at both ends must be readable: every superblock that `blkid` knows lies there.
const ENDS_BYTES: u64 = 1 << 20;

/// Why what lies on a device is not known.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// `blkid` failed.
    #[error(transparent)]
    Tool(#[from] RunError),
    /// The device does not let itself be read. To `blkid` that is the same as a device with nothing on it.
    #[error("it cannot be read at byte {offset}")]
    Unreadable {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
}

impl ProbeError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Tool(error) => error.hint(),
            Self::Unreadable { .. } => Some("the disk may be failing: see the kernel log, and replace it".to_owned()),
        }
    }
}

/// One thing found on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// `ext4`, `LVM2_member`, `gpt`, ….
    pub(super) kind: String,
    pub(super) uuid: Option<String>,
    pub(super) label: Option<String>,
    /// Whether it is a partition table.
    pub(super) is_table: bool,
}

/// Looks at `length` bytes of `device` from `offset`.
pub(super) fn probe(device: &Path, offset: u64, length: u64) -> Result<Vec<Found>, ProbeError> {
    let blkid = |usage: Option<&str>| {
        let mut tool = Tool::new("blkid").args(["-p", "-o", "udev"]).time_limit(TIME_LIMIT);
        tool = tool.args(["-O", &offset.to_string(), "-S", &length.to_string()]);
        if let Some(usage) = usage {
            tool = tool.args(["-u", usage]);
        }
        tool.arg(device).accept_exit(EXIT_NOTHING).accept_exit(EXIT_AMBIVALENT).run()
    };
    let output = blkid(None)?;
    if output.exit == EXIT_NOTHING {
        read_ends(device, offset, length)?;
    }
    if output.exit != EXIT_AMBIVALENT {
        return Ok(parse(&output.text()));
    }
    // Asked for one family at a time it names them all.
    let mut found = Vec::new();
    for usage in ["filesystem", "raid", "crypto", "other"] {
        let output = blkid(Some(usage))?;
        if output.exit == EXIT_AMBIVALENT {
            found.push(Found { kind: format!("several {usage} signatures"), uuid: None, label: None, is_table: false });
        }
        found.extend(parse(&output.text()));
    }
    found.dedup();
    Ok(found)
}

/// Reads both ends of what was probed, to tell nothing from nothing that could be read.
fn read_ends(device: &Path, offset: u64, length: u64) -> Result<(), ProbeError> {
    let at = |offset| move |source| ProbeError::Unreadable { offset, source };
    let file = File::open(device).map_err(at(offset))?;
    let piece = length.min(ENDS_BYTES);
    let mut bytes = vec![0; piece as usize];
    for start in [offset, offset + (length - piece)] {
        file.read_exact_at(&mut bytes, start).map_err(at(start))?;
    }
    Ok(())
}

fn parse(text: &str) -> Vec<Found> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(decode).filter(|value| !value.is_empty())
    };
    let mut found = Vec::new();
    if let Some(kind) = value("ID_FS_TYPE") {
        let (uuid, label) = (value("ID_FS_UUID_ENC"), value("ID_FS_LABEL_ENC"));
        found.push(Found { kind, uuid, label, is_table: false });
    }
    if let Some(kind) = value("ID_PART_TABLE_TYPE") {
        found.push(Found { kind, uuid: value("ID_PART_TABLE_UUID"), label: None, is_table: true });
    }
    found
}

/// Undoes the `\x20` of blkid's `_ENC` values.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = text.get(at..at + 4).and_then(|part| part.strip_prefix("\\x"));
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 4;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn labels_and_tables_are_read_from_what_blkid_prints() {
        let text = "ID_FS_LABEL=EFI_SYS\nID_FS_LABEL_ENC=EFI\\x20SYS\nID_FS_UUID=AB\nID_FS_UUID_ENC=AB\nID_FS_TYPE=vfat\nID_PART_TABLE_TYPE=dos\n";
        let found = parse(text);
        assert_eq!(found[0].label.as_deref(), Some("EFI SYS"));
        assert_eq!((found[1].kind.as_str(), found[1].is_table), ("dos", true));
        assert_eq!(decode("r\\xc3\\xb6t \\x \\x4"), "röt \\x \\x4");
    }

    #[test]
    fn a_device_that_cannot_be_read_is_not_taken_for_an_empty_one() {
        const SIZE: u64 = 4 << 20;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        fs::File::create(&path).unwrap().set_len(SIZE).unwrap();
        assert_eq!(probe(&path, 0, SIZE).unwrap(), []);
        // What ends early fails as a defect does: the read is short.
        let error = probe(&path, 0, SIZE + 512).unwrap_err();
        assert!(
            matches!(error, ProbeError::Unreadable { offset, .. } if offset == SIZE + 512 - ENDS_BYTES),
            "{error:?}"
        );
    }

    #[test]
    fn several_signatures_on_one_device_are_all_named() {
        const SIZE: u64 = 320 << 20;
        let directory = tempfile::tempdir().unwrap();
        let image = |name: &str| {
            let path = directory.path().join(name);
            fs::File::create(&path).unwrap().set_len(SIZE).unwrap();
            path
        };
        let (ext, both) = (image("ext"), image("both"));
        assert_eq!(probe(&both, 0, SIZE).unwrap(), []);
        Tool::new("mkfs.ext4").arg("-q").arg(&ext).run().unwrap();
        Tool::new("mkfs.xfs").arg("-q").arg(&both).run().unwrap();
        // XFS keeps nothing by which it is recognised where ext4 has its superblock.
        let mut superblock = [0; 1024];
        fs::File::open(&ext).unwrap().read_exact_at(&mut superblock, 1024).unwrap();
        fs::OpenOptions::new().write(true).open(&both).unwrap().write_all_at(&superblock, 1024).unwrap();
        let kinds: Vec<_> = probe(&both, 0, SIZE).unwrap().into_iter().map(|found| found.kind).collect();
        assert_eq!(kinds, ["several filesystem signatures"], "blkid names neither, and we must not believe it empty");
    }
}
