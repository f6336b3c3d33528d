//! Looking at every stored byte, beside a running server, and noting when each pack was seen to be good.

use std::collections::HashSet;

use bundle::node_model::{NodeName, SnapshotId};
use bundle::repository::{ObjectName, RepositoryError};
use bundle::verify::{Checked, Depth, Finding, Report};
use bundle::{Hash, pack};

use crate::ServerError;
use crate::reads::SnapshotReads;
use crate::server::Server;

/// What hashing all packs of a snapshot found.
#[derive(Debug, Default)]
pub struct RehashedSnapshot {
    /// Packs that are as they should be.
    pub good_packs: usize,
    /// Bytes of them.
    pub good_bytes: u64,
    /// What is wrong, for each pack that is not.
    pub problems: Vec<RepositoryError>,
    /// Chunks of the snapshot that lie in no pack.
    pub missing_chunks: Vec<Hash>,
}

impl RehashedSnapshot {
    /// Whether all of the snapshot can be restored.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty() && self.missing_chunks.is_empty()
    }
}

impl Server {
    /// Checks the whole repository. Packs that were hashed and found good are noted with the time, which a restore is
    /// told before it erases anything.
    pub async fn verify(&self, depth: Depth, progress: impl FnMut(&Checked) + Send) -> Result<Report, ServerError> {
        let before = self.repository.packs().await?;
        let report = self.repository.scrub(depth, progress).await?;
        let index = self.open_index().await?;
        if depth == Depth::Full {
            let bad: HashSet<Hash> = report.findings.iter().filter_map(pack_of).collect();
            let good: Vec<Hash> = before.iter().map(|pack| pack.name).filter(|pack| !bad.contains(pack)).collect();
            let now = self.now();
            index.run(move |index| index.set_verified(&good, now)).await??;
        }
        Ok(report)
    }

    /// Hashes every byte of every pack that a snapshot needs, as `rerack arm` does before a restore relies on them,
    /// and notes when. It works beside a running server.
    pub async fn rehash_snapshot(
        &self,
        node: &NodeName,
        snapshot: &SnapshotId,
    ) -> Result<RehashedSnapshot, ServerError> {
        let index = self.open_index().await?;
        let reads = SnapshotReads::build(self, &index, node, snapshot).await?;
        let mut found = RehashedSnapshot { missing_chunks: reads.missing().to_vec(), ..Default::default() };
        let mut good = Vec::new();
        for pack in reads.placement().packs() {
            match self.rehash_pack(pack.hash).await {
                Ok(bytes) => {
                    good.push(pack.hash);
                    found.good_bytes += bytes;
                }
                Err(problem) => found.problems.push(problem),
            }
        }
        found.good_packs = good.len();
        let now = self.now();
        index.run(move |index| index.set_verified(&good, now)).await??;
        Ok(found)
    }

    async fn rehash_pack(&self, name: Hash) -> Result<u64, RepositoryError> {
        let bytes = self.repository.pack(&name).await?;
        let length = bytes.len() as u64;
        let object = bundle::repository::ObjectName::Pack(name);
        match tokio::task::spawn_blocking(move || pack::verify(&bytes, &name)).await {
            Ok(Ok(_)) => Ok(length),
            Ok(Err(source)) => Err(RepositoryError::Pack { object, source: Box::new(source) }),
            Err(_) => Err(RepositoryError::Missing(object)),
        }
    }
}

/// The pack that a finding speaks of.
fn pack_of(finding: &Finding) -> Option<Hash> {
    let Finding::Object { error, .. } = finding else { return None };
    match error {
        RepositoryError::Chunk { pack, .. } => Some(*pack),
        RepositoryError::Missing(object)
        | RepositoryError::Damaged { object, .. }
        | RepositoryError::WrongLength { object, .. }
        | RepositoryError::TooLarge { object, .. }
        | RepositoryError::Pack { object, .. } => match object {
            ObjectName::Pack(pack) => Some(*pack),
            _ => None,
        },
        _ => None,
    }
}
