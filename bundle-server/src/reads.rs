//! What one snapshot may read: where its chunks lie, and which ranges of packs they cover.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bundle::Hash;
use bundle::node_model::{NodeName, SnapshotId};
use server_api::{PlacedChunk, PlacedPack, SnapshotPlacement};

use crate::ServerError;
use crate::server::{Server, SharedIndex};

/// Chunks looked up together, between which others may use the index.
const LOOKUPS_AT_ONCE: usize = 16_384;
/// Snapshots remembered: a restore asks for one many times.
const REMEMBERED_MAX: usize = 16;

/// What one snapshot may read.
#[derive(Debug)]
pub(crate) struct SnapshotReads {
    placement: SnapshotPlacement,
    /// For each pack, the ranges covered by the snapshot's chunks: ascending, neighbours joined.
    covered: HashMap<Hash, Vec<Range<u64>>>,
    missing: Vec<Hash>,
}

impl SnapshotReads {
    pub(crate) async fn build(
        server: &Server,
        index: &SharedIndex,
        node: &NodeName,
        snapshot: &SnapshotId,
    ) -> Result<Self, ServerError> {
        let snapshot = server.repository.load(node, snapshot).await?;
        let mut chunks: Vec<Hash> = Vec::new();
        for volume in &snapshot.manifest().volumes {
            chunks.extend(server.repository.chunk_list(volume).await?.iter().map(|row| row.hash));
        }
        chunks.sort_unstable();
        chunks.dedup();

        let mut builder = Builder::default();
        for batch in chunks.chunks(LOOKUPS_AT_ONCE) {
            let batch = batch.to_vec();
            let (batch, places) = index.run(move |index| index.places(&batch).map(|places| (batch, places))).await??;
            for (chunk, place) in batch.into_iter().zip(places) {
                builder.add(chunk, place);
            }
        }
        let names = builder.packs.clone();
        let lengths =
            index.run(move |index| names.iter().map(|pack| index.pack(pack)).collect::<Result<Vec<_>, _>>()).await??;
        let lengths = lengths.into_iter().map(|pack| pack.map_or(0, |pack| pack.length_bytes)).collect();
        Ok(builder.finish(lengths))
    }

    pub(crate) fn placement(&self) -> &SnapshotPlacement {
        &self.placement
    }

    /// Chunks that lie nowhere.
    pub(crate) fn missing(&self) -> &[Hash] {
        &self.missing
    }

    /// Whether every byte of the range belongs to a chunk of the snapshot.
    pub(crate) fn covers(&self, pack: &Hash, range: &Range<u64>) -> bool {
        self.covered.get(pack).is_some_and(|covered| is_covered(covered, range))
    }
}

#[derive(Debug, Default)]
struct Builder {
    packs: Vec<Hash>,
    positions: HashMap<Hash, u32>,
    placed: Vec<PlacedChunk>,
    missing: Vec<Hash>,
}

impl Builder {
    fn add(&mut self, chunk: Hash, place: Option<crate::chunks::ChunkPlace>) {
        let Some(place) = place else {
            self.missing.push(chunk);
            return;
        };
        let next = self.packs.len() as u32;
        let pack = *self.positions.entry(place.pack).or_insert_with(|| {
            self.packs.push(place.pack);
            next
        });
        let (offset, stored_len, content_len) = (place.offset, place.stored_len, place.content_len);
        self.placed.push(PlacedChunk { hash: chunk, pack, offset, stored_len, content_len });
    }

    fn finish(mut self, lengths: Vec<u64>) -> SnapshotReads {
        let mut covered: HashMap<Hash, Vec<Range<u64>>> = HashMap::new();
        for chunk in &self.placed {
            let range = chunk.offset..chunk.offset + u64::from(chunk.stored_len);
            covered.entry(self.packs[chunk.pack as usize]).or_default().push(range);
        }
        for ranges in covered.values_mut() {
            *ranges = joined(std::mem::take(ranges));
        }
        let packs: Vec<PlacedPack> =
            self.packs.iter().zip(&lengths).map(|(&hash, &length_bytes)| PlacedPack { hash, length_bytes }).collect();
        // A place outside its pack can only come from a damaged index; such a chunk counts as missing.
        let (good, bad): (Vec<_>, Vec<_>) = self
            .placed
            .into_iter()
            .partition(|chunk| chunk.offset + u64::from(chunk.stored_len) <= packs[chunk.pack as usize].length_bytes);
        self.missing.extend(bad.iter().map(|chunk| chunk.hash));
        let placement = SnapshotPlacement::new(packs, good).unwrap_or_else(|error| {
            tracing::warn!(%error, "the chunk index gives places that cannot be");
            SnapshotPlacement::default()
        });
        SnapshotReads { placement, covered, missing: self.missing }
    }
}

/// The ranges in order, with those joined that touch.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

fn is_covered(covered: &[Range<u64>], range: &Range<u64>) -> bool {
    let after = covered.partition_point(|candidate| candidate.start <= range.start);
    let Some(candidate) = after.checked_sub(1).map(|index| &covered[index]) else { return false };
    range.start < range.end && range.end <= candidate.end
}

/// The reads of the snapshots asked for of late. A snapshot never changes and packs are never moved while the server
/// runs, so what is remembered stays true.
#[derive(Debug, Default)]
pub(crate) struct RememberedReads {
    latest: Mutex<Vec<Remembered>>,
}

type Slot = Arc<tokio::sync::OnceCell<Arc<SnapshotReads>>>;

#[derive(Debug)]
struct Remembered {
    node: NodeName,
    snapshot: SnapshotId,
    slot: Slot,
}

impl RememberedReads {
    /// The reads of a snapshot; many who ask at once wait for one who builds them.
    pub(crate) async fn get(
        &self,
        server: &Server,
        index: &SharedIndex,
        node: &NodeName,
        snapshot: &SnapshotId,
    ) -> Result<Arc<SnapshotReads>, ServerError> {
        let slot = self.slot(node, snapshot);
        let build = || async { SnapshotReads::build(server, index, node, snapshot).await.map(Arc::new) };
        let reads = slot.get_or_try_init(build).await.map(Arc::clone)?;
        if !reads.missing.is_empty() {
            // What is missing now may be uploaded again.
            self.forget(node, snapshot);
        }
        Ok(reads)
    }

    fn forget(&self, node: &NodeName, snapshot: &SnapshotId) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.retain(|known| known.node != *node || known.snapshot != *snapshot);
    }

    fn slot(&self, node: &NodeName, snapshot: &SnapshotId) -> Slot {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let at = latest.iter().position(|known| known.node == *node && known.snapshot == *snapshot);
        let known = at.map(|index| latest.remove(index)).unwrap_or_else(|| Remembered {
            node: node.clone(),
            snapshot: snapshot.clone(),
            slot: Slot::default(),
        });
        let slot = Arc::clone(&known.slot);
        latest.insert(0, known);
        latest.truncate(REMEMBERED_MAX);
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_may_join_neighbours_but_bridge_no_gap() {
        let covered = joined(vec![200..300, 0..100, 100..150]);
        assert_eq!(covered, [0..150, 200..300]);
        for good in [0..1, 0..150, 99..101, 200..300, 299..300] {
            assert!(is_covered(&covered, &good), "{good:?}");
        }
        for bad in [0..151, 149..201, 150..151, 199..200, 300..301, 250..301, 20..20, 0..u64::MAX] {
            assert!(!is_covered(&covered, &bad), "{bad:?}");
        }
    }
}
