//! What a machine has.

use serde::{Deserialize, Serialize};

use crate::{Bytes, DiskIdentity, Firmware, Hardware, MachineIdentity, NetworkInterface, SectorSize};

/// What a scan of a machine found: the input of planning besides the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// By what the machine can be recognised.
    pub identity: MachineIdentity,
    /// Its firmware.
    pub firmware: Firmware,
    /// Hardware that matters at boot.
    pub hardware: Hardware,
    /// Its disks.
    pub disks: Vec<InventoryDisk>,
    /// Its physical network interfaces.
    pub interfaces: Vec<NetworkInterface>,
}

/// One disk of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryDisk {
    /// What makes it this disk.
    pub identity: DiskIdentity,
    /// Its name in the kernel now, for screens only.
    pub kernel_name: String,
    /// Path by which it hangs on its bus, such as `pci-0000:00:04.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus_path: Option<String>,
    /// Logical sector size.
    pub sector_size_bytes: SectorSize,
    /// Whether the medium can be taken out.
    pub removable: bool,
    /// Whether the device refuses writes.
    pub read_only: bool,
    /// Whether this machine was started from it.
    pub boot_medium: bool,
    /// What uses it or its partitions now; empty for an idle disk.
    pub held_by: Vec<HeldBy>,
    /// Signatures found on it and on its partitions.
    pub signatures: Vec<Signature>,
    /// Whether a person or a command line named this disk as a target. Loop devices and image files are eligible
    /// only then.
    pub named_explicitly: bool,
}

/// One use of a disk that forbids writing to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBy {
    /// The kernel name of the disk or partition held.
    pub device: String,
    /// Why, in words: `mounted at /srv`, `swap`, `held by md127`.
    pub reason: String,
}

/// Something recognisable that lies on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The kernel name of the disk or partition it was found on.
    pub device: String,
    /// What blkid calls it: `ext4`, `LVM2_member`, `gpt`.
    pub kind: String,
    /// UUID, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Label, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Where the device it was found on begins, counted from the start of the disk.
    pub offset_bytes: Bytes,
}
