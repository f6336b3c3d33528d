//! Receipts: the server's word that a snapshot is whole and durable. A receipt's appearance is the commit.

use jiff::Timestamp;
use node_model::{NodeName, SnapshotId};
use serde::{Deserialize, Serialize};

use crate::Hash;
use crate::document::{self, DocumentError, Requirement, RootSigned};
use crate::repository::RepositoryId;
use crate::sign::{PublicKey, RootKey, SignContext};

/// What the server says of one snapshot, signed by the root key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Format of this document: 1.
    pub format: u32,
    /// What a reader must know.
    #[serde(default)]
    pub requires: Vec<Requirement>,
    /// The repository.
    pub repository: RepositoryId,
    /// The node.
    pub node: NodeName,
    /// The node's key, under which the manifest's signature was checked. With it, three objects are enough to verify a
    /// snapshot, whatever became of the node's certificate.
    pub node_key: PublicKey,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// BLAKE3 of the manifest's bytes.
    pub manifest: Hash,
    /// The snapshot's place among the node's, strictly increasing: the newest is the highest.
    pub sequence: u64,
    /// When the server received it, by the server's clock.
    pub received_at: Timestamp,
}

impl RootSigned for Receipt {
    const WHAT: &'static str = "the receipt";
    const CONTEXT: SignContext = SignContext::Receipt;
    const FORMAT: u32 = 1;
}

impl Receipt {
    /// The newest format of receipts.
    pub const FORMAT: u32 = <Self as RootSigned>::FORMAT;

    /// The receipt as a document signed by the root.
    pub fn seal(&self, root: &RootKey) -> Vec<u8> {
        document::seal(self, root)
    }

    /// Reads a receipt that `root` must have signed.
    pub fn unseal(bytes: &[u8], root: &PublicKey) -> Result<Self, DocumentError> {
        document::unseal(bytes, root)
    }
}
