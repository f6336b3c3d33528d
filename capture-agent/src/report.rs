//! What a capture did.

use std::fmt;
use std::time::Duration;

use bundle::Hash;
use linux_io::fs::describe_flags;
use node_model::{Bytes, SnapshotId, VolumeName};

/// Warnings kept; more are only counted.
const WARNINGS_MAX: usize = 10_000;

/// A committed capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureReport {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its place in the repository's order.
    pub sequence: u64,
    /// Hash of its manifest.
    pub manifest: Hash,
    /// The volumes, in the manifest's order.
    pub volumes: Vec<VolumeReport>,
    /// Bytes of content read.
    pub read_bytes: Bytes,
    /// Chunks cut.
    pub chunk_count: u64,
    /// Chunks that the repository did not have of this node, and that were uploaded.
    pub new_chunk_count: u64,
    /// Bytes of packs uploaded.
    pub uploaded_bytes: Bytes,
    /// How long it took.
    pub elapsed: Duration,
    /// What the operator should know, in the order it was met.
    pub warnings: Vec<Warning>,
    /// Warnings beyond those.
    pub unlisted_warning_count: u64,
}

/// One volume of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeReport {
    /// Its name.
    pub name: VolumeName,
    /// Entries; none in a raw volume.
    pub entry_count: u64,
    /// Bytes of its stream.
    pub stream_bytes: Bytes,
    /// Files that were listed and gone before they could be read.
    pub vanished_count: u64,
    /// Sockets left out.
    pub skipped_socket_count: u64,
}

/// Something about the snapshot that the operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The absolute path in the node, or the device.
    pub path: String,
    /// What about it.
    pub kind: WarningKind,
}

/// What a warning is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WarningKind {
    /// It changed each time it was read; what is kept is a mixture.
    Changed,
    /// It could not be read, and this was accepted.
    Unreadable {
        /// Why not.
        error: String,
    },
    /// It has flags that a restore cannot bring back.
    LostFlags {
        /// The flags, as the kernel numbers them.
        flags: u32,
    },
    /// Its holes are in too many pieces: it is kept without them.
    StoredDense,
    /// Something is mounted over it.
    Covered,
    /// A partition that holds nothing known; its bytes are not kept.
    NotCaptured,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.kind {
            WarningKind::Changed => write!(f, "{path} changed while it was read, and is kept as it was read"),
            WarningKind::Unreadable { error } => write!(f, "{path} is left out: {error}"),
            WarningKind::LostFlags { flags } => {
                write!(f, "{path} has the flags {}, which a restore cannot set", describe_flags(*flags))
            }
            WarningKind::StoredDense => write!(f, "{path} has holes in too many pieces, and is kept without them"),
            WarningKind::Covered => write!(f, "{path} is left out: something is mounted over it"),
            WarningKind::NotCaptured => write!(f, "{path} holds nothing that is known; its bytes are not kept"),
        }
    }
}

/// Warnings, bounded.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    pub(crate) listed: Vec<Warning>,
    pub(crate) unlisted_count: u64,
}

impl Warnings {
    pub(crate) fn push(&mut self, path: String, kind: WarningKind) {
        if self.listed.len() < WARNINGS_MAX {
            self.listed.push(Warning { path, kind });
        } else {
            self.unlisted_count += 1;
        }
    }
}
