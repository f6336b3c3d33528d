//! What a snapshot holds of one device's bytes.

use serde::{Deserialize, Serialize};

use crate::{Bytes, DeviceKey, VolumeName};

/// One volume of a snapshot: where its bytes came from and how many there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name within the snapshot.
    pub name: VolumeName,
    /// The layout's device it was read from.
    pub device: DeviceKey,
    /// What it is.
    pub volume: VolumeKind,
    /// How still the source was.
    pub consistency: Consistency,
    /// Bytes of the whole stream, padding included.
    pub stream_bytes: Bytes,
}

/// The kind of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum VolumeKind {
    /// One filesystem as a tar stream.
    Files {
        /// Entries of all kinds.
        entry_count: u64,
        /// Regular files among them.
        file_count: u64,
        /// Sum of the regular files' sizes, each hardlinked file once.
        content_bytes: Bytes,
        /// Sockets that were left out.
        skipped_socket_count: u64,
    },
    /// A small region, byte for byte.
    Raw {
        /// Where on the device it begins.
        offset_bytes: Bytes,
        /// Its length.
        length_bytes: Bytes,
    },
}

/// How still a source was while it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// Read while the node ran.
    Live,
    /// The filesystem was frozen or not mounted.
    Frozen,
    /// Read from a snapshot.
    Snapshot,
}
