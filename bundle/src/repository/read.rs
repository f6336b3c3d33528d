//! Reading a repository. Nothing leaves here unchecked.

use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use node_model::{NodeName, SnapshotId, VolumeKind, VolumeName};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::{ObjectName, Repository, RepositoryError, SnapshotError, SnapshotParts, VerifiedSnapshot};
use crate::Hash;
use crate::document::SIGNED_DOCUMENT_BYTES_MAX;
use crate::limits::SEGMENT_BYTES_MAX;
use crate::list::{self, ListError, ListRow};
use crate::manifest::{MANIFEST_BYTES_MAX, ManifestVolume};
use crate::pack::PackIndex;
use crate::placement::ChunkPlace;
use crate::receipt::Receipt;
use crate::sign::SIGNATURE_BYTES_MAX;

/// How many small objects are asked for at once. A local directory does not care; an object store's latency does.
const READS_AT_ONCE: usize = 16;
/// How many segments of a list are under way at once: at most 16 MiB.
const LIST_READS_AT_ONCE: usize = 4;

/// What the receipt says of a snapshot, without its manifest having been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSummary {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its place among the node's.
    pub sequence: u64,
    /// When the server received it.
    pub received_at: Timestamp,
    /// Hash of its manifest.
    pub manifest: Hash,
}

/// A snapshot whose receipt is there but cannot be used.
#[derive(Debug)]
pub struct DamagedSnapshot {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// What is wrong.
    pub error: RepositoryError,
}

/// The committed snapshots of a node.
#[derive(Debug, Default)]
pub struct SnapshotListing {
    /// Those with a good receipt, by sequence, the newest last.
    pub snapshots: Vec<SnapshotSummary>,
    /// Those without, so that they do not silently vanish from lists.
    pub damaged: Vec<DamagedSnapshot>,
}

impl Repository {
    /// The nodes that have a certificate or a snapshot, ascending.
    pub async fn nodes(&self) -> Result<Vec<NodeName>, RepositoryError> {
        let certificates = self.list_below("nodes").await?;
        let named = certificates.objects.iter().filter_map(|meta| meta.location.filename()?.strip_suffix(".json"));
        let with_snapshots = self.list_below("snapshots").await?;
        let below = with_snapshots.common_prefixes.iter().filter_map(Path::filename);
        let mut nodes: Vec<NodeName> = named.chain(below).filter_map(|name| name.parse().ok()).collect();
        nodes.sort();
        nodes.dedup();
        Ok(nodes)
    }

    /// The committed snapshots of `node`. A node without any has an empty listing; whether the node exists at all is
    /// not asked.
    pub async fn snapshots(&self, node: &NodeName) -> Result<SnapshotListing, RepositoryError> {
        let below = self.list_below(&format!("snapshots/{node}")).await?;
        let ids: Vec<SnapshotId> =
            below.common_prefixes.iter().filter_map(|prefix| prefix.filename()?.parse().ok()).collect();
        let receipts: Vec<_> = stream::iter(ids)
            .map(|snapshot| async move {
                let receipt = self.receipt(node, &snapshot).await;
                (snapshot, receipt)
            })
            .buffered(READS_AT_ONCE)
            .collect()
            .await;
        let mut listing = SnapshotListing::default();
        for (snapshot, receipt) in receipts {
            match receipt {
                Ok(Receipt { sequence, received_at, manifest, .. }) => {
                    listing.snapshots.push(SnapshotSummary { snapshot, sequence, received_at, manifest });
                }
                // Without a receipt it was never committed: an upload that runs, or one that was given up.
                Err(RepositoryError::UnknownSnapshot { .. }) => {}
                Err(error) => listing.damaged.push(DamagedSnapshot { snapshot, error }),
            }
        }
        listing.snapshots.sort_by_key(|summary| summary.sequence);
        Ok(listing)
    }

    /// The newest snapshot of `node`, by sequence.
    pub async fn latest(&self, node: &NodeName) -> Result<SnapshotSummary, RepositoryError> {
        let newest = self.snapshots(node).await?.snapshots.pop();
        match newest {
            Some(summary) => Ok(summary),
            None if self.nodes().await?.contains(node) => Err(RepositoryError::NoSnapshot { node: node.clone() }),
            None => Err(RepositoryError::UnknownNode { node: node.clone() }),
        }
    }

    /// One snapshot, verified from its receipt down to its manifest.
    pub async fn load(&self, node: &NodeName, snapshot: &SnapshotId) -> Result<VerifiedSnapshot, RepositoryError> {
        let parts = self.snapshot_parts(node, snapshot).await?;
        VerifiedSnapshot::verify(parts, self.info(), node, snapshot)
            .map_err(|source| snapshot_error(node, snapshot, source))
    }

    /// The three objects of a snapshot as they are stored, for a client that verifies them itself.
    pub async fn snapshot_parts(
        &self,
        node: &NodeName,
        snapshot: &SnapshotId,
    ) -> Result<SnapshotParts, RepositoryError> {
        let key = || (node.clone(), snapshot.clone());
        let name = |make: fn(NodeName, SnapshotId) -> ObjectName| make(key().0, key().1);
        let receipt = match self.get_document(&name(ObjectName::Receipt)).await {
            Err(RepositoryError::Missing(_)) => {
                return Err(RepositoryError::UnknownSnapshot { node: node.clone(), snapshot: snapshot.clone() });
            }
            receipt => receipt?,
        };
        let signature = self.get_bounded(&name(ObjectName::Signature), SIGNATURE_BYTES_MAX as u64).await?;
        let manifest = self.get_bounded(&name(ObjectName::Manifest), MANIFEST_BYTES_MAX as u64).await?;
        Ok(SnapshotParts { manifest: manifest.into(), signature: signature.into(), receipt: receipt.into() })
    }

    pub(super) async fn receipt(&self, node: &NodeName, snapshot: &SnapshotId) -> Result<Receipt, RepositoryError> {
        let bytes = match self.get_document(&ObjectName::Receipt(node.clone(), snapshot.clone())).await {
            Err(RepositoryError::Missing(_)) => {
                return Err(RepositoryError::UnknownSnapshot { node: node.clone(), snapshot: snapshot.clone() });
            }
            bytes => bytes?,
        };
        let receipt = Receipt::unseal(&bytes, self.root_key())
            .map_err(|error| snapshot_error(node, snapshot, SnapshotError::Receipt(error)))?;
        let place = (&receipt.repository, &receipt.node, &receipt.snapshot);
        if place != (&self.info().repository, node, snapshot) {
            let found = format!("{}/{} in {}", receipt.node, receipt.snapshot, receipt.repository);
            let expected = format!("{node}/{snapshot} in {}", self.info().repository);
            let elsewhere = SnapshotError::Elsewhere { document: "the receipt", what: "snapshot", expected, found };
            return Err(snapshot_error(node, snapshot, elsewhere));
        }
        Ok(receipt)
    }

    /// One segment of a chunk list, compared with its name.
    pub async fn list_segment(&self, name: &Hash) -> Result<Bytes, RepositoryError> {
        self.get_named(&ObjectName::List(*name), name).await
    }

    /// One segment of a catalog, compared with its name.
    pub async fn catalog_segment(&self, name: &Hash) -> Result<Bytes, RepositoryError> {
        self.get_named(&ObjectName::Catalog(*name), name).await
    }

    /// The whole chunk list of a volume, checked as a restore will check it: its segments follow on each other, its
    /// rows make a stream of the volume's kind, and they add up to the stream's length.
    pub async fn chunk_list(&self, volume: &ManifestVolume) -> Result<Vec<ListRow>, RepositoryError> {
        let wrong = |source| RepositoryError::List { volume: volume.volume.name.clone(), source };
        let expected = volume.volume.stream_bytes.get();
        let mut segments = stream::iter(volume.lists.clone())
            .map(|segment| async move { self.list_segment(&segment).await })
            .buffered(LIST_READS_AT_ONCE);
        let (mut rows, mut found): (Vec<ListRow>, u64) = (Vec::new(), 0);
        // A manifest may name one segment thousands of times: what does not follow is not gathered.
        while let Some(bytes) = segments.try_next().await? {
            let segment = list::read_segment(&bytes).map_err(wrong)?;
            if segment.first_row != rows.len() as u64 {
                return Err(wrong(ListError::Segment { why: "it does not follow on the one before it" }));
            }
            found += segment.rows.iter().map(|row| u64::from(row.content_len)).sum::<u64>();
            rows.extend(segment.rows);
        }
        if found != expected {
            return Err(RepositoryError::ListLength { volume: volume.volume.name.clone(), expected, found });
        }
        match &volume.volume.volume {
            VolumeKind::Files { entry_count, .. } => list::check_files(&rows, *entry_count),
            VolumeKind::Raw { length_bytes, .. } => list::check_raw(&rows, length_bytes.get()),
        }
        .map_err(wrong)?;
        Ok(rows)
    }

    /// Bytes of a pack. They are as they are stored: whoever decodes them compares the chunks with their hashes.
    pub async fn pack_range(&self, pack: &Hash, range: Range<u64>) -> Result<Bytes, RepositoryError> {
        let object = ObjectName::Pack(*pack);
        let bytes =
            self.store.get_range(&object.path(), range.clone()).await.map_err(|source| read_error(&object, source))?;
        let (expected, found) = (range.end - range.start, bytes.len() as u64);
        if expected == found { Ok(bytes) } else { Err(RepositoryError::WrongLength { object, expected, found }) }
    }

    /// A whole pack, as it is stored.
    pub async fn pack(&self, pack: &Hash) -> Result<Bytes, RepositoryError> {
        self.get_bounded(&ObjectName::Pack(*pack), crate::limits::PACK_BYTES_MAX).await
    }

    /// The content of one chunk, compared with its hash.
    pub async fn chunk(&self, chunk: &Hash, place: &ChunkPlace) -> Result<Vec<u8>, RepositoryError> {
        let frame = self.pack_range(&place.pack, place.range()).await?;
        crate::frame::decompress_exact(&frame, place.content_len, chunk).map_err(|source| RepositoryError::Chunk {
            chunk: *chunk,
            pack: place.pack,
            source: source.into(),
        })
    }

    /// The copy of a pack's index.
    pub(crate) async fn placement(&self, pack: &Hash) -> Result<PackIndex, RepositoryError> {
        let object = ObjectName::Placement(*pack);
        let bytes = self.get_bounded(&object, crate::pack::INDEX_BYTES_MAX as u64).await?;
        PackIndex::decode(&bytes).map_err(|source| RepositoryError::Pack { object, source: source.into() })
    }

    /// Whether an object is there, without reading it.
    pub(crate) async fn must_exist(&self, object: &ObjectName) -> Result<(), RepositoryError> {
        self.store.head(&object.path()).await.map(drop).map_err(|source| read_error(object, source))
    }

    /// Every object below a prefix, in no order.
    pub(crate) async fn objects_below(&self, prefix: &'static str) -> Result<Vec<ObjectMeta>, RepositoryError> {
        self.store.list(Some(&Path::from(prefix))).try_collect().await.map_err(|source| RepositoryError::Store {
            action: "list",
            object: prefix.to_owned(),
            source,
        })
    }

    /// Removes an object that is worth nothing: only placement is ever removed here.
    pub(crate) async fn remove_placement(&self, pack: &Hash) -> Result<(), RepositoryError> {
        let object = ObjectName::Placement(*pack);
        self.store.delete(&object.path()).await.map_err(|source| RepositoryError::Store {
            action: "remove",
            object: object.to_string(),
            source,
        })
    }

    async fn list_below(&self, prefix: &str) -> Result<object_store::ListResult, RepositoryError> {
        match self.store.list_with_delimiter(Some(&Path::from(prefix))).await {
            Err(object_store::Error::NotFound { .. }) => Ok(object_store::ListResult {
                common_prefixes: vec![],
                objects: vec![],
                extensions: Default::default(),
            }),
            found => {
                found.map_err(|source| RepositoryError::Store { action: "list", object: prefix.to_owned(), source })
            }
        }
    }

    pub(super) async fn get_document(&self, object: &ObjectName) -> Result<Bytes, RepositoryError> {
        self.get_bounded(object, SIGNED_DOCUMENT_BYTES_MAX as u64).await
    }

    async fn get_named(&self, object: &ObjectName, name: &Hash) -> Result<Bytes, RepositoryError> {
        let bytes = self.get_bounded(object, SEGMENT_BYTES_MAX.into()).await?;
        let found = Hash::of(&bytes);
        if found == *name { Ok(bytes) } else { Err(RepositoryError::Damaged { object: object.clone(), found }) }
    }

    /// A whole object, unless it is larger than `max`: that is known before its bytes are read.
    async fn get_bounded(&self, object: &ObjectName, max: u64) -> Result<Bytes, RepositoryError> {
        let found = self.store.get(&object.path()).await.map_err(|source| read_error(object, source))?;
        if found.meta.size > max {
            return Err(RepositoryError::TooLarge { object: object.clone(), found: found.meta.size, max });
        }
        found.bytes().await.map_err(|source| read_error(object, source))
    }
}

impl VerifiedSnapshot {
    /// The volume named `name`.
    pub fn volume(&self, name: &VolumeName) -> Result<&ManifestVolume, RepositoryError> {
        let manifest = self.manifest();
        manifest.volume(name).ok_or_else(|| RepositoryError::UnknownVolume {
            node: manifest.node.clone(),
            snapshot: manifest.snapshot.clone(),
            volume: name.clone(),
            present: manifest.volumes.iter().map(|v| v.volume.name.to_string()).collect::<Vec<_>>().join(", "),
        })
    }
}

fn snapshot_error(node: &NodeName, snapshot: &SnapshotId, source: SnapshotError) -> RepositoryError {
    RepositoryError::Snapshot { node: node.clone(), snapshot: snapshot.clone(), source: source.into() }
}

fn read_error(object: &ObjectName, source: object_store::Error) -> RepositoryError {
    match source {
        object_store::Error::NotFound { .. } => RepositoryError::Missing(object.clone()),
        source => RepositoryError::Store { action: "read", object: object.to_string(), source },
    }
}
