//! Why something could not be done with a repository.

use std::io;
use std::path::PathBuf;

use node_model::{NodeName, SnapshotId, VolumeName};

use crate::Hash;
use crate::catalog::CatalogError;
use crate::document::DocumentError;
use crate::frame::FrameError;
use crate::list::ListError;
use crate::pack::PackError;
use crate::repository::{InfoError, ObjectName, SnapshotError};
use crate::sign::{KeyId, RandomnessError};

/// Why something could not be done with a repository.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The store failed.
    #[error("cannot {action} {object}")]
    Store {
        /// `read`, `write` or `list`.
        action: &'static str,
        /// The object or the prefix.
        object: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// The directory failed.
    #[error("cannot {action} {path}")]
    Directory {
        /// What was tried.
        action: &'static str,
        /// The directory or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no repository.
    #[error("{place} holds no repository: it has no repository.json")]
    NotARepository {
        /// Where it was looked for.
        place: String,
    },
    /// There is a repository already.
    #[error("{place} holds a repository already")]
    AlreadyARepository {
        /// Where one should have been made.
        place: String,
    },
    /// `repository.json` is not accepted.
    #[error(transparent)]
    Info(#[from] InfoError),
    /// No random bytes for a new repository's id.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// An object is missing.
    #[error("{0} is missing")]
    Missing(ObjectName),
    /// An object has other bytes than its name says.
    #[error("{object} is damaged: its bytes have the hash {found}")]
    Damaged {
        /// The object.
        object: ObjectName,
        /// The hash of its bytes.
        found: Hash,
    },
    /// An object is shorter or longer than it must be.
    #[error("{object} has {found} bytes and should have {expected}")]
    WrongLength {
        /// The object.
        object: ObjectName,
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// An object has more bytes than may be read.
    #[error("{object} has {found} bytes; at most {max} are read")]
    TooLarge {
        /// The object.
        object: ObjectName,
        /// Bytes it has.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// A pack is not one, or not the one it should be.
    #[error("{object} cannot be used")]
    Pack {
        /// The pack or its placement.
        object: ObjectName,
        /// Why.
        source: Box<PackError>,
    },
    /// A chunk's frame does not give the chunk.
    #[error("chunk {chunk} in packs/{pack} is damaged", pack = pack.to_string())]
    Chunk {
        /// The chunk.
        chunk: Hash,
        /// The pack.
        pack: Hash,
        /// How.
        source: Box<FrameError>,
    },
    /// A chunk lies in no pack.
    #[error("chunk {chunk} is missing: it lies in no pack")]
    ChunkMissing {
        /// The chunk.
        chunk: Hash,
    },
    /// A chunk list is not one.
    #[error("the chunk list of volume {volume} cannot be used")]
    List {
        /// The volume.
        volume: VolumeName,
        /// Why.
        source: ListError,
    },
    /// A segment that should be a list's is not.
    #[error("{object} is no list segment")]
    ListSegment {
        /// The object.
        object: ObjectName,
        /// Why.
        source: ListError,
    },
    /// A catalog segment cannot be read.
    #[error("{object} is no catalog segment")]
    Catalog {
        /// The object.
        object: ObjectName,
        /// Why.
        source: Box<CatalogError>,
    },
    /// A list adds up to another length than the volume has.
    #[error("the chunk list of volume {volume} adds up to {found} bytes; the manifest says {expected}")]
    ListLength {
        /// The volume.
        volume: VolumeName,
        /// What the manifest says.
        expected: u64,
        /// What the rows say.
        found: u64,
    },
    /// A node's certificate is not accepted.
    #[error("the certificate of {node} is not accepted")]
    Certificate {
        /// The node.
        node: NodeName,
        /// Why.
        source: DocumentError,
    },
    /// The certificate is another node's or another repository's.
    #[error("nodes/{node}.json is not the certificate of {node} in this repository")]
    ForeignCertificate {
        /// The node.
        node: NodeName,
    },
    /// Nothing is known of a node.
    #[error("there is no node {node} in this repository")]
    UnknownNode {
        /// The node.
        node: NodeName,
    },
    /// A node has no snapshot yet.
    #[error("{node} has no snapshot yet")]
    NoSnapshot {
        /// The node.
        node: NodeName,
    },
    /// A node has no such snapshot.
    #[error("{node} has no snapshot {snapshot}")]
    UnknownSnapshot {
        /// The node.
        node: NodeName,
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// A snapshot has no such volume.
    #[error("snapshot {snapshot} of {node} has no volume {volume}; it has {present}")]
    UnknownVolume {
        /// The node.
        node: NodeName,
        /// The snapshot.
        snapshot: SnapshotId,
        /// The volume.
        volume: VolumeName,
        /// The volumes it has, comma-separated.
        present: String,
    },
    /// A snapshot cannot be trusted or read.
    #[error("snapshot {snapshot} of {node} cannot be used")]
    Snapshot {
        /// The node.
        node: NodeName,
        /// The snapshot.
        snapshot: SnapshotId,
        /// Why.
        source: Box<SnapshotError>,
    },
    /// Another snapshot was committed under this id.
    #[error("{node} has a snapshot {snapshot} already, and it is another one")]
    SnapshotExists {
        /// The node.
        node: NodeName,
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// The root key at hand is not the repository's.
    #[error("the root key {found} is not this repository's, which is {expected}")]
    OtherRootKey {
        /// The repository's.
        expected: KeyId,
        /// The one at hand.
        found: KeyId,
    },
}

impl RepositoryError {
    /// What an operator can do about it, where something can be done.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Store { action: "write", .. } => {
                "check that the repository's filesystem is writable and has room; nothing was acknowledged"
            }
            Self::Store { .. } | Self::Directory { .. } => {
                "check that the repository's directory is mounted and that this user may read it"
            }
            Self::NotARepository { .. } => "name the directory that `rerack serve` was started with",
            Self::AlreadyARepository { .. } => "open it instead of making a new one",
            Self::Info(error) => return Some(error.hint()),
            Self::Certificate { source, .. } => return Some(source.hint()),
            Self::Snapshot { source, .. } => return Some(source.hint()),
            Self::Missing(ObjectName::Placement(_)) => "it is rebuilt from its pack by `rerack verify --repair`",
            Self::Missing(_)
            | Self::Damaged { .. }
            | Self::WrongLength { .. }
            | Self::TooLarge { .. }
            | Self::Pack { .. }
            | Self::Chunk { .. }
            | Self::ChunkMissing { .. }
            | Self::List { .. }
            | Self::ListSegment { .. }
            | Self::Catalog { .. }
            | Self::ListLength { .. } => {
                "run `rerack verify` to learn which snapshots it affects; copy the object back from a mirror, or \
                 choose another snapshot"
            }
            Self::UnknownNode { .. } | Self::UnknownSnapshot { .. } | Self::UnknownVolume { .. } => {
                "`rerack list` shows what there is"
            }
            Self::NoSnapshot { .. } => "run `rerack capture` on the node",
            Self::SnapshotExists { .. } => "capture again: every capture draws a new id",
            Self::ForeignCertificate { .. } => "write the node's certificate anew with `rerack node add`",
            Self::OtherRootKey { .. } => "use the key in the server's directory of this repository",
            Self::Randomness(_) => return None,
        };
        Some(hint.to_owned())
    }

    /// Whether the object it speaks of is simply not there, as opposed to damaged or out of reach.
    pub fn is_missing(&self) -> bool {
        matches!(
            self,
            Self::Missing(_)
                | Self::ChunkMissing { .. }
                | Self::NotARepository { .. }
                | Self::UnknownNode { .. }
                | Self::UnknownSnapshot { .. }
                | Self::NoSnapshot { .. }
        )
    }
}
