//! Where a capture goes.

mod directory;
mod server;

pub use directory::DirectorySink;
pub use server::ServerSink;

use bundle::Hash;
use bundle::pack::{Pack, PackError};
use bundle::repository::{InfoError, RepositoryError, RepositoryInfo, SnapshotError, VerifiedSnapshot};
use bundle::sign::RandomnessError;
use node_model::{NodeName, SnapshotId};
use server_api::ClientError;

/// A repository as a capturing node sees it. Calls block; several threads make them at once.
pub trait Sink: Sync {
    /// What holds for everything in the repository.
    fn info(&self) -> &RepositoryInfo;

    /// The node that is captured.
    fn node(&self) -> &NodeName;

    /// The node's newest snapshot.
    fn latest(&self) -> Result<Option<SnapshotId>, SinkError>;

    /// For each chunk, whether the node has yet to upload it.
    fn missing_chunks(&self, chunks: &[Hash]) -> Result<Vec<bool>, SinkError>;

    /// Stores a pack; all its chunks are durable when this returns.
    fn put_pack(&self, pack: Pack) -> Result<(), SinkError>;

    /// Stores a segment of a chunk list durably.
    fn put_list(&self, name: Hash, segment: Vec<u8>) -> Result<(), SinkError>;

    /// Stores a segment of a catalog durably.
    fn put_catalog(&self, name: Hash, segment: Vec<u8>) -> Result<(), SinkError>;

    /// Commits the snapshot. When this returns it exists, and its receipt has been checked.
    fn commit(&self, id: &SnapshotId, manifest: Vec<u8>, signature: Vec<u8>) -> Result<VerifiedSnapshot, SinkError>;
}

/// Why a repository does not take something.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The server refused, or cannot be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The directory refused.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The repository's own description is not accepted.
    #[error(transparent)]
    Info(#[from] InfoError),
    /// A pack made here is wrong.
    #[error("a pack is not what it should be")]
    Pack(#[from] PackError),
    /// The receipt does not hold.
    #[error("the server's receipt is not accepted")]
    Receipt(#[from] SnapshotError),
    /// The manifest's own key or certificate is wrong.
    #[error("the certificate of node {node} is for another key than this node file's")]
    OtherNodeKey {
        /// The node.
        node: NodeName,
    },
    /// The root key of the directory cannot be used.
    #[error(transparent)]
    RootKey(#[from] bundle::trust::RootKeyFileError),
    /// The server answered with something else than asked for.
    #[error("the server answered {found} chunks for {asked}")]
    OtherCount {
        /// Chunks asked for.
        asked: usize,
        /// Chunks answered.
        found: usize,
    },
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// The threads that speak to the server could not be started.
    #[error("the network threads cannot be started")]
    Threads(#[source] std::io::Error),
}

impl SinkError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Client(error) => error.hint(),
            Self::Repository(error) => error.hint(),
            Self::Info(error) => Some(error.hint()),
            Self::Receipt(error) => Some(error.hint()),
            Self::RootKey(error) => Some(error.hint().to_owned()),
            Self::OtherNodeKey { node } => {
                Some(format!("use the node file that `rerack node add {node}` wrote last for this repository"))
            }
            _ => None,
        }
    }
}
