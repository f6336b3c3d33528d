//! The commit: after it, and not before, a snapshot exists.

use jiff::Timestamp;
use object_store::PutMode;

use super::{ObjectName, Repository, RepositoryError, SignedManifest, SnapshotParts, VerifiedSnapshot, directory};
use crate::Hash;
use crate::receipt::Receipt;
use crate::sign::RootKey;

impl Repository {
    /// Commits a snapshot: checks that every object and chunk it refers to is there, then writes manifest, signature
    /// and, last, the receipt. All is durable when this returns.
    ///
    /// `is_placed` says whether a chunk may be referred to: whether it lies in a durable pack and, on a server, belongs
    /// to this node. The same manifest may be committed again, for a client that did not hear the answer; it gets the
    /// receipt it had.
    pub async fn commit(
        &self,
        signed: &SignedManifest,
        is_placed: impl Fn(&Hash) -> bool + Sync,
        root: &RootKey,
        received_at: Timestamp,
    ) -> Result<VerifiedSnapshot, RepositoryError> {
        self.check_root(root)?;
        let manifest = signed.manifest();
        for volume in &manifest.volumes {
            for row in self.chunk_list(volume).await? {
                if !is_placed(&row.hash) {
                    return Err(RepositoryError::ChunkMissing { chunk: row.hash });
                }
            }
            for segment in &volume.catalogs {
                self.catalog_segment(segment).await?;
            }
        }
        let _here = self.committing.lock().await;
        let _everywhere = match self.directory() {
            Some(path) => Some(directory::lock_commits(path).await?),
            None => None,
        };
        if let Some(present) = self.committed_already(signed).await? {
            return Ok(present);
        }
        let receipt = Receipt {
            format: Receipt::FORMAT,
            requires: Vec::new(),
            repository: self.info().repository,
            node: manifest.node.clone(),
            node_key: *signed.node_key(),
            snapshot: manifest.snapshot.clone(),
            manifest: signed.manifest_hash(),
            sequence: self.next_sequence(signed).await?,
            received_at,
        };
        self.write_snapshot(signed, receipt.seal(root)).await
    }

    async fn write_snapshot(
        &self,
        signed: &SignedManifest,
        receipt: Vec<u8>,
    ) -> Result<VerifiedSnapshot, RepositoryError> {
        let (node, snapshot) = (&signed.manifest().node, &signed.manifest().snapshot);
        let parts = SnapshotParts {
            manifest: signed.manifest_bytes().to_vec(),
            signature: signed.signature_bytes().to_vec(),
            receipt: receipt.clone(),
        };
        // What will be acknowledged must be what any reader will accept.
        let verified = VerifiedSnapshot::verify(parts.clone(), self.info(), node, snapshot).map_err(|source| {
            RepositoryError::Snapshot { node: node.clone(), snapshot: snapshot.clone(), source: source.into() }
        })?;
        let name = |make: fn(_, _) -> ObjectName| make(node.clone(), snapshot.clone());
        // An earlier attempt may have left a manifest without a receipt: it was never a snapshot.
        self.put(&name(ObjectName::Manifest), parts.manifest.into(), PutMode::Overwrite).await?;
        self.put(&name(ObjectName::Signature), parts.signature.into(), PutMode::Overwrite).await?;
        self.put(&name(ObjectName::Receipt), receipt.into(), PutMode::Create).await?;
        Ok(verified)
    }

    /// The snapshot, if this very manifest was committed before. Another one under the same id is refused: what was
    /// acknowledged is never replaced.
    async fn committed_already(&self, signed: &SignedManifest) -> Result<Option<VerifiedSnapshot>, RepositoryError> {
        let (node, snapshot) = (&signed.manifest().node, &signed.manifest().snapshot);
        match self.load(node, snapshot).await {
            Ok(present) if present.manifest_hash() == signed.manifest_hash() => Ok(Some(present)),
            Ok(_) => Err(RepositoryError::SnapshotExists { node: node.clone(), snapshot: snapshot.clone() }),
            Err(RepositoryError::UnknownSnapshot { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn next_sequence(&self, signed: &SignedManifest) -> Result<u64, RepositoryError> {
        let listing = self.snapshots(&signed.manifest().node).await?;
        let highest = listing.snapshots.last().map_or(0, |summary| summary.sequence);
        // A damaged receipt may have held the highest number: leave room for each.
        Ok(highest + listing.damaged.len() as u64 + 1)
    }
}
