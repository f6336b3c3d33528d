//! What objects are called.

use std::fmt;

use node_model::{NodeName, SnapshotId};
use object_store::path::Path;

use crate::Hash;

/// An object of a repository. It displays as its path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectName {
    /// The facts of the repository.
    Repository,
    /// A node's certificate.
    Certificate(NodeName),
    /// A snapshot's manifest.
    Manifest(NodeName, SnapshotId),
    /// The signature of a snapshot's manifest.
    Signature(NodeName, SnapshotId),
    /// A snapshot's receipt.
    Receipt(NodeName, SnapshotId),
    /// A segment of a chunk list.
    List(Hash),
    /// A segment of a catalog.
    Catalog(Hash),
    /// A pack.
    Pack(Hash),
    /// The copy of a pack's index.
    Placement(Hash),
}

impl ObjectName {
    /// Its path in the store.
    pub fn path(&self) -> Path {
        Path::from(self.to_string())
    }

    /// The pack whose path this is, if it is one's.
    pub(crate) fn parse_pack(path: &Path) -> Option<Hash> {
        let hash = path.filename()?.parse().ok()?;
        (Self::Pack(hash).path() == *path).then_some(hash)
    }

    /// The hash that the last part of a path is, if it is one.
    pub(crate) fn parse_hash(path: &Path) -> Option<Hash> {
        path.filename()?.parse().ok()
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository => f.write_str("repository.json"),
            Self::Certificate(node) => write!(f, "nodes/{node}.json"),
            Self::Manifest(node, id) => write!(f, "snapshots/{node}/{id}/manifest.json"),
            Self::Signature(node, id) => write!(f, "snapshots/{node}/{id}/manifest.sig"),
            Self::Receipt(node, id) => write!(f, "snapshots/{node}/{id}/receipt.json"),
            Self::List(hash) => write!(f, "lists/{hash}"),
            Self::Catalog(hash) => write!(f, "catalogs/{hash}"),
            Self::Pack(hash) => {
                let name = hash.to_string();
                write!(f, "packs/{}/{name}", &name[..2])
            }
            Self::Placement(hash) => write!(f, "placement/{hash}"),
        }
    }
}
