//! The layout tree: disks, what stands on them, and what that holds.
//!
//! Devices are a flat list with keys, because arrays and volume groups have several parents: a tree of boxes would
//! not hold them.

use serde::{Deserialize, Serialize};

use crate::{Bytes, DeviceKey, DiskIdentity, Filesystem, PartitionTable, SectorSize, Swap};

/// All block devices of a node that rerack describes, parents before children.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Layout {
    /// The devices.
    pub devices: Vec<Device>,
}

/// One block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name in this layout.
    pub key: DeviceKey,
    /// Size.
    pub size_bytes: Bytes,
    /// What it is.
    pub device: DeviceKind,
    /// What it holds.
    pub content: Content,
}

/// What a block device is, and on what it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum DeviceKind {
    /// A whole disk.
    Disk {
        /// What makes it this disk.
        identity: DiskIdentity,
        /// Its logical sector size.
        sector_size_bytes: SectorSize,
        /// Its name in the kernel when it was captured, for people only.
        kernel_name: String,
    },
    /// A partition; its place is in its disk's table.
    Partition {
        /// The disk.
        disk: DeviceKey,
        /// Number in that disk's table.
        number: u32,
    },
}

/// What a block device holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Content {
    /// Nothing that is recognised.
    Unknown,
    /// A partition table.
    Table {
        /// The table.
        table: PartitionTable,
    },
    /// A filesystem.
    Filesystem {
        /// The filesystem.
        filesystem: Filesystem,
    },
    /// A swap area.
    Swap {
        /// The area.
        swap: Swap,
    },
    /// Bytes that are kept as they are, such as a BIOS boot partition.
    Raw,
}

impl Layout {
    /// The device named `key`.
    pub fn get(&self, key: &DeviceKey) -> Option<&Device> {
        self.devices.iter().find(|device| device.key == *key)
    }

    /// The whole disks, in order.
    pub fn disks(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(|device| matches!(device.device, DeviceKind::Disk { .. }))
    }

    /// The filesystems with the devices that hold them.
    pub fn filesystems(&self) -> impl Iterator<Item = (&Device, &Filesystem)> {
        self.devices.iter().filter_map(|device| match &device.content {
            Content::Filesystem { filesystem } => Some((device, filesystem)),
            _ => None,
        })
    }
}
