//! A repository directory on this machine, such as a mounted disk.

use std::path::Path;

use bundle::Hash;
use bundle::pack::Pack;
use bundle::placement::Placement;
use bundle::repository::{
    ROOT_KEY_PATH, Repository, RepositoryError, RepositoryInfo, SignedManifest, VerifiedPack, VerifiedSnapshot,
};
use bundle::sign::RootKey;
use bundle::trust::{NodeCertificate, NodeSecret, Pin};
use node_model::{NodeName, SnapshotId};
use tokio::runtime::Runtime;

use super::{Sink, SinkError};

/// A repository in a directory. Whoever may write its root key may commit to it.
#[derive(Debug)]
pub struct DirectorySink {
    runtime: Runtime,
    repository: Repository,
    root: RootKey,
    certificate: NodeCertificate,
    /// Where all chunks lie; grows with each pack.
    placement: std::sync::RwLock<Placement>,
}

impl DirectorySink {
    /// Opens the repository in `directory` for this node, whose root key lies in it. A node that it does not know yet
    /// gets a certificate.
    pub fn open(directory: &Path, node: &NodeName, secret: &NodeSecret) -> Result<Self, SinkError> {
        let root = RootKey::read_file(&directory.join(ROOT_KEY_PATH))?;
        Self::open_with(directory, node, secret, root)
    }

    /// As [`open`](Self::open), with a root key from elsewhere.
    pub fn open_with(directory: &Path, node: &NodeName, secret: &NodeSecret, root: RootKey) -> Result<Self, SinkError> {
        let runtime = super::server::runtime()?;
        let public_key = secret.signing_key().public();
        let opened = runtime.block_on(async {
            let repository = Repository::open_directory(directory, &Pin::LocalDirectory).await?;
            let certificate = match repository.certificate(node).await {
                Err(RepositoryError::UnknownNode { .. }) => {
                    let id = repository.info().repository;
                    let new = NodeCertificate::new(id, node.clone(), public_key, jiff::Timestamp::now());
                    repository.put_certificate(&new, &root).await?;
                    new
                }
                known => known?,
            };
            let placement = repository.load_placement().await?.placement;
            Ok::<_, RepositoryError>((repository, certificate, placement))
        });
        let (repository, certificate, placement) = opened?;
        if certificate.public_key != public_key {
            return Err(SinkError::OtherNodeKey { node: node.clone() });
        }
        Ok(Self { runtime, repository, root, certificate, placement: placement.into() })
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    fn placement(&self) -> std::sync::RwLockReadGuard<'_, Placement> {
        self.placement.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Sink for DirectorySink {
    fn info(&self) -> &RepositoryInfo {
        self.repository.info()
    }

    fn node(&self) -> &NodeName {
        &self.certificate.node
    }

    fn latest(&self) -> Result<Option<SnapshotId>, SinkError> {
        let listing = self.runtime.block_on(self.repository.snapshots(self.node()))?;
        Ok(listing.snapshots.last().map(|summary| summary.snapshot.clone()))
    }

    fn missing_chunks(&self, chunks: &[Hash]) -> Result<Vec<bool>, SinkError> {
        let placement = self.placement();
        Ok(chunks.iter().map(|chunk| !placement.contains(chunk)).collect())
    }

    fn put_pack(&self, pack: Pack) -> Result<(), SinkError> {
        let pack = VerifiedPack::verify(pack.name, pack.bytes.into())?;
        self.runtime.block_on(self.repository.put_pack(&pack))?;
        let mut placement = self.placement.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        placement.add_pack(pack.name(), pack.index());
        Ok(())
    }

    fn put_list(&self, name: Hash, segment: Vec<u8>) -> Result<(), SinkError> {
        Ok(self.runtime.block_on(self.repository.put_list(&name, segment.into()))?)
    }

    fn put_catalog(&self, name: Hash, segment: Vec<u8>) -> Result<(), SinkError> {
        Ok(self.runtime.block_on(self.repository.put_catalog(&name, segment.into()))?)
    }

    fn commit(&self, _id: &SnapshotId, manifest: Vec<u8>, signature: Vec<u8>) -> Result<VerifiedSnapshot, SinkError> {
        let signed = SignedManifest::verify(manifest, signature, &self.certificate)?;
        let placement = self.placement();
        let placed = |chunk: &Hash| placement.contains(chunk);
        let now = jiff::Timestamp::now();
        Ok(self.runtime.block_on(self.repository.commit(&signed, placed, &self.root, now))?)
    }
}
