//! What makes a disk this disk and no other.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Bytes;

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// A paravirtual disk.
    Virtio,
    /// NVM Express, local or over a fabric.
    Nvme,
    /// SATA.
    Ata,
    /// SAS or another local SCSI host.
    Scsi,
    /// USB.
    Usb,
    /// SD or eMMC.
    Mmc,
    /// A LUN reached over a network or a fabric.
    San,
    /// A loop device.
    Loop,
    /// A regular file used as a disk.
    File,
    /// Anything else.
    Other,
}

/// The file that is, or lies behind, a disk: what identifies loop devices and image files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BackingFile {
    /// Absolute path.
    pub path: String,
    /// Inode number within its filesystem.
    pub inode: u64,
}

/// One stable identifier of a disk. Kernel names (`sda`) are none: they change from boot to boot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum DiskId {
    /// World wide name, as `naa.5000c500a1b2c3d4` or `eui.…`, lower case.
    Wwn(String),
    /// NVMe namespace globally unique identifier, 32 hexadecimal digits.
    Nguid(String),
    /// NVMe EUI-64, 16 hexadecimal digits.
    Eui64(String),
    /// Serial number as the disk reports it, trimmed.
    Serial(String),
    /// `path#inode` of the backing file.
    Backing(String),
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, value) = match self {
            Self::Wwn(v) => ("wwn", v),
            Self::Nguid(v) => ("nguid", v),
            Self::Eui64(v) => ("eui64", v),
            Self::Serial(v) => ("serial", v),
            Self::Backing(v) => ("file", v),
        };
        write!(f, "{kind} {value}")
    }
}

/// Everything by which a disk can be told from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DiskIdentity {
    /// World wide name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// NVMe namespace globally unique identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nguid: Option<String>,
    /// NVMe EUI-64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eui64: Option<String>,
    /// Serial number, trimmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The backing file of a loop device or image file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing: Option<BackingFile>,
    /// Model name, trimmed; for people, never for matching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How it is attached; for people and for eligibility, never for matching.
    pub transport: Transport,
    /// Capacity.
    pub size_bytes: Bytes,
}

impl DiskIdentity {
    /// The stable identifiers this disk has, strongest first. Empty for a disk that cannot be told from another
    /// one of its size.
    pub fn stable_ids(&self) -> Vec<DiskId> {
        let backing = self.backing.as_ref().map(|b| DiskId::Backing(format!("{}#{}", b.path, b.inode)));
        [
            self.wwn.clone().map(DiskId::Wwn),
            self.nguid.clone().map(DiskId::Nguid),
            self.eui64.clone().map(DiskId::Eui64),
            self.serial.clone().map(DiskId::Serial),
            backing,
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Whether `other` is the same disk: the same size, at least one stable identifier in common, and none in
    /// contradiction.
    pub fn is_same_disk(&self, other: &Self) -> bool {
        fn contradicts<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
            matches!((a, b), (Some(a), Some(b)) if a != b)
        }
        let theirs = other.stable_ids();
        self.size_bytes == other.size_bytes
            && self.stable_ids().iter().any(|id| theirs.contains(id))
            && !contradicts(&self.wwn, &other.wwn)
            && !contradicts(&self.nguid, &other.nguid)
            && !contradicts(&self.eui64, &other.eui64)
            && !contradicts(&self.serial, &other.serial)
            && !contradicts(&self.backing, &other.backing)
    }

    /// How people see the disk: its model, its strongest identifier and its size.
    pub fn describe(&self) -> String {
        let id = self.stable_ids().first().map_or_else(|| "no stable identifier".to_owned(), DiskId::to_string);
        match &self.model {
            Some(model) => format!("{model}, {id}, {}", self.size_bytes),
            None => format!("{id}, {}", self.size_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(wwn: Option<&str>, serial: Option<&str>, size: u64) -> DiskIdentity {
        DiskIdentity {
            wwn: wwn.map(str::to_owned),
            nguid: None,
            eui64: None,
            serial: serial.map(str::to_owned),
            backing: None,
            model: None,
            transport: Transport::Scsi,
            size_bytes: Bytes(size),
        }
    }

    #[test]
    fn a_disk_is_itself_by_two_things_at_once() {
        let one = disk(Some("naa.1"), Some("S1"), 1000);
        assert!(one.is_same_disk(&disk(Some("naa.1"), None, 1000)));
        assert!(!one.is_same_disk(&disk(Some("naa.1"), None, 1001)), "another size");
        assert!(!one.is_same_disk(&disk(Some("naa.2"), Some("S1"), 1000)), "contradicting identifier");
        assert!(!one.is_same_disk(&disk(None, None, 1000)), "no identifier");
        assert!(!disk(None, None, 1000).is_same_disk(&disk(None, None, 1000)), "size alone is nothing");
    }
}
