//! Looking at a machine: what it has ([`inventory()`]), and what the node that runs on it is ([`node()`]).
//!
//! Nothing is assembled, mounted or written by a scan.

mod bus;
mod disks;
mod files;
mod inventory;
mod layout;
mod machine;
mod network;
mod node;
mod signatures;

use std::io;
use std::path::PathBuf;

use node_model::DeviceKey;

pub use inventory::{InventoryOptions, inventory};
pub use machine::{firmware, hardware, machine_identity, machine_name};
pub use network::network_interfaces;
pub use node::{LiveDevice, NodeOptions, NodeScan, Unsupported, node};
pub use signatures::ProbeError;

use crate::blockdev::BlockDevError;
use crate::gpt::GptError;

/// Why a scan failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// What the kernel shows of itself could not be read.
    #[error("{} cannot be read", path.display())]
    Kernel {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A disk that was named could not be opened.
    #[error(transparent)]
    Disk(#[from] BlockDevError),
    /// The signatures on a disk could not be looked for.
    #[error("signatures on {device} cannot be looked for")]
    Signatures {
        /// The device.
        device: String,
        /// Why.
        source: ProbeError,
    },
    /// A partition table could not be read.
    #[error("the partition table of {device} is of no use")]
    Table {
        /// The disk.
        device: String,
        /// Why.
        source: GptError,
    },
    /// A configuration file is longer than any that a person would write.
    #[error("{path} has more than {bytes_max} bytes")]
    FileTooLong {
        /// Its path in the node.
        path: String,
        /// How many it may have.
        bytes_max: u64,
    },
    /// No disk of the node was found.
    #[error("no disk holds a mounted filesystem, swap or a boot partition")]
    NoDisk,
}

impl ScanError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Disk(error) => error.hint(),
            Self::Signatures { source, .. } => source.hint(),
            Self::Table { source, .. } => source.hint(),
            Self::FileTooLong { path, .. } => Some(format!("shorten {path} or move it away")),
            Self::NoDisk => Some("name the node's disks: --disk /dev/...".to_owned()),
            Self::Kernel { .. } => None,
        }
    }
}

/// For `map_err`: which part of the kernel's view could not be read.
fn kernel(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ScanError {
    let path = path.into();
    move |source| ScanError::Kernel { path, source }
}

/// The key of the partition `number` of the disk `disk`, or of the disk itself.
fn key_of(disk: &DeviceKey, number: Option<u32>) -> DeviceKey {
    number.map_or_else(|| disk.clone(), |number| DeviceKey::partition(disk, number))
}
