//! What goes wrong on a real machine.

use std::io;

use linux_io::blockdev::BlockDevError;
use linux_io::fs::FsError;
use linux_io::gpt::GptError;
use linux_io::mount::MountError;
use linux_io::partitions::PartitionError;
use linux_io::runner::RunError;
use linux_io::superblock::SuperblockError;
use node_model::{DeviceKey, VolumeName};

use crate::data::{CatalogReadError, FilesError};
use crate::raw::RawError;

/// Why a step could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The plan names a device or volume that it does not describe.
    #[error("the plan names `{0}`, which it does not describe")]
    Unknown(String),
    /// A step came before what it needs.
    #[error("{device} is not {needed}")]
    OutOfOrder {
        /// The device.
        device: DeviceKey,
        /// What it should be: `mounted`, `announced`, `claimed`.
        needed: &'static str,
    },
    /// A disk could not be used.
    #[error(transparent)]
    Disk(#[from] BlockDevError),
    /// The partition table could not be written.
    #[error(transparent)]
    Table(#[from] GptError),
    /// The kernel does not know the partitions.
    #[error(transparent)]
    Partitions(#[from] PartitionError),
    /// A program failed.
    #[error(transparent)]
    Tool(#[from] RunError),
    /// A superblock could not be read back.
    #[error("what was made on {device} cannot be read back")]
    Superblock {
        /// The device.
        device: DeviceKey,
        /// Why.
        source: SuperblockError,
    },
    /// A filesystem or swap area is not as it should be.
    #[error("what was made on {device} differs from what was captured: {}", differences.join("; "))]
    Unlike {
        /// The device.
        device: DeviceKey,
        /// How.
        differences: Vec<String>,
    },
    /// A mount failed.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A private directory or device node could not be made.
    #[error("the working directory {path} cannot be used")]
    Workspace {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Files could not be restored.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A file could not be read or written.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A raw volume could not be read.
    #[error(transparent)]
    Raw(#[from] RawError),
    /// The catalog could not be read.
    #[error(transparent)]
    Catalog(#[from] CatalogReadError),
    /// What was written reads back otherwise.
    #[error("volume `{volume}` reads back otherwise than it was written: {} differences, such as {}", count, examples.join("; "))]
    ReadBack {
        /// The volume.
        volume: VolumeName,
        /// How many differences.
        count: u64,
        /// Some of them.
        examples: Vec<String>,
    },
    /// A partition table reads back otherwise.
    #[error("the partition table of {disk} reads back otherwise than it was written: {why}")]
    TableReadBack {
        /// The disk.
        disk: DeviceKey,
        /// What is wrong.
        why: String,
    },
    /// A first block reads back otherwise; it was zeroed again.
    #[error("the first block of {disk} reads back otherwise than it was written")]
    BootSectorReadBack {
        /// The disk.
        disk: DeviceKey,
    },
    /// The plan says of a disk what this disk does not bear out.
    #[error("{device}: the plan has {planned}, and the disk has {found}")]
    NotAsPlanned {
        /// The disk.
        device: DeviceKey,
        /// What was planned.
        planned: String,
        /// What is there.
        found: String,
    },
}

impl StepError {
    /// What an operator can do about it.
    pub fn hint(&self) -> String {
        let own = match self {
            Self::Disk(error) => error.hint(),
            Self::Table(error) => error.hint(),
            Self::Partitions(error) => error.hint(),
            Self::Tool(error) => error.hint(),
            Self::Mount(error) => error.hint(),
            Self::Fs(error) | Self::Files(FilesError::Fs { source: error, .. }) => error.hint().map(str::to_owned),
            Self::ReadBack { .. } | Self::TableReadBack { .. } | Self::BootSectorReadBack { .. } => {
                Some("the disk or the memory is faulty; replace it and restore again".to_owned())
            }
            _ => None,
        };
        own.unwrap_or_else(|| "start the restore again; what is right already is kept".to_owned())
    }
}
