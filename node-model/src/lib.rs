//! The words of rerack, and nothing that touches a machine: units, disks, the layout tree, what a node was
//! ([`NodeSpec`]) and what a machine has ([`Inventory`]).
//!
//! Every type here is plain data. Those that reach a manifest are part of the bundle format: their JSON is pinned
//! by golden files, and a change that alters it is a change of the format.

mod boot;
mod disk;
mod entry;
mod filesystem;
mod hex;
mod ids;
mod inventory;
mod layout;
mod network;
mod spec;
mod table;
mod units;
mod volume;

pub use boot::{BootChain, EfiBootEntry, Firmware};
pub use disk::{BackingFile, DiskId, DiskIdentity, Transport};
pub use entry::{DeviceNumber, Entry, EntryKind, Extent, Timestamp, XattrList};
pub use filesystem::{ExtDetails, ExtFlavor, FatBits, Filesystem, FilesystemDetails, Swap, VfatDetails, XfsDetails};
pub use hex::HexBytes;
pub use ids::{DeviceKey, Guid, InvalidId, MacAddress, NodeName, SnapshotId, VolumeName};
pub use inventory::{HeldBy, Inventory, InventoryDisk, Signature};
pub use layout::{Content, Device, DeviceKind, Layout};
pub use network::{ConfigFile, NetworkBackend, NetworkInterface, NetworkSpec};
pub use spec::{Hardware, MachineIdentity, Mount, NodeSpec, OsRelease, PciDevice};
pub use table::{Gpt, GptPartition, Mbr, MbrPartition, PartitionTable};
pub use units::{Bytes, Lba, SectorSize, UnknownSectorSize};
pub use volume::{Consistency, Volume, VolumeKind};
