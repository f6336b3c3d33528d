//! Proves before the first write that every byte of a snapshot can be had.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bundle::Hash;
use bundle::list::{self, ChunkKind, ListError};
use bundle::manifest::ManifestVolume;
use bundle::repository::VerifiedSnapshot;
use node_model::{VolumeKind, VolumeName};
use tokio::runtime::Handle;

use crate::data::{CatalogReadError, Locate, Place, ProvenVolume, SnapshotSource, SourceError};

/// Chunks that an error names; more are counted.
const NAMED_MAX: usize = 5;

/// A snapshot of which every segment was read and checked, and every chunk lies in a pack that is there.
#[derive(Clone)]
pub struct ProvenSnapshot {
    /// The snapshot.
    pub snapshot: Arc<VerifiedSnapshot>,
    volumes: BTreeMap<VolumeName, ProvenVolume>,
}

/// Why a snapshot cannot be restored, whatever the machine.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// A segment could not be read.
    #[error("a segment of volume `{volume}` cannot be read")]
    Segment {
        /// The volume.
        volume: VolumeName,
        /// What the source said.
        source: SourceError,
    },
    /// A chunk list is damaged.
    #[error("the chunk list of volume `{volume}` is damaged")]
    List {
        /// The volume.
        volume: VolumeName,
        /// How.
        source: ListError,
    },
    /// A chunk list contradicts the manifest.
    #[error("the chunk list of volume `{volume}` does not fit the manifest: {why}")]
    Contradiction {
        /// The volume.
        volume: VolumeName,
        /// What is wrong.
        why: String,
    },
    /// A catalog is damaged or does not fit.
    #[error("the catalog of volume `{volume}` cannot be used")]
    Catalog {
        /// The volume.
        volume: VolumeName,
        /// Why.
        source: CatalogReadError,
    },
    /// Chunks are nowhere.
    #[error("volume `{volume}`: {count} of its chunks are missing, such as {}", names(examples))]
    MissingChunks {
        /// The volume.
        volume: VolumeName,
        /// How many.
        count: usize,
        /// Some of them.
        examples: Vec<Hash>,
    },
    /// A pack is not there.
    #[error("pack {pack} is missing")]
    MissingPack {
        /// The pack.
        pack: Hash,
    },
    /// A pack is shorter than what should lie in it.
    #[error("pack {pack} is {found} bytes long; {needed} are needed")]
    ShortPack {
        /// The pack.
        pack: Hash,
        /// Bytes that it must have at least.
        needed: u64,
        /// Bytes that it has.
        found: u64,
    },
}

impl ProofError {
    /// What an operator can do about it.
    pub fn hint(&self) -> &'static str {
        if self.is_passing() {
            return "try again";
        }
        "run `rerack verify` on the server, and restore an older snapshot"
    }

    /// Whether it may work by itself later: nothing is wrong with the snapshot, its source did not deliver.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Segment { source, .. } => matches!(source, SourceError::Passing { .. }),
            Self::Catalog { source, .. } => source.is_passing(),
            _ => false,
        }
    }
}

fn names(chunks: &[Hash]) -> String {
    chunks.iter().map(Hash::to_string).collect::<Vec<_>>().join(", ")
}

/// What is known of where things lie.
pub struct Whereabouts<'a> {
    /// Says where a chunk lies.
    pub locate: Locate,
    /// Bytes that a pack has; `None` for one that is not there.
    pub pack_bytes: &'a dyn Fn(&Hash) -> Option<u64>,
}

/// Reads every segment of `snapshot`, checks that they fit each other and the manifest, and that every chunk lies in
/// a pack that is there and long enough.
///
/// # Errors
/// The first thing that is not as it must be.
pub fn prove(
    snapshot: Arc<VerifiedSnapshot>,
    source: &dyn SnapshotSource,
    whereabouts: &Whereabouts<'_>,
    runtime: &Handle,
) -> Result<ProvenSnapshot, ProofError> {
    let mut volumes = BTreeMap::new();
    // How long each pack must be at least.
    let mut packs: HashMap<Hash, u64> = HashMap::new();
    for volume in &snapshot.manifest().volumes {
        let proven = prove_volume(volume, source, whereabouts, runtime)?;
        for place in proven.rows.iter().filter_map(|row| (whereabouts.locate)(&row.hash)) {
            let end = place.offset.saturating_add(u64::from(place.stored_len));
            let needed = packs.entry(place.pack).or_default();
            *needed = end.max(*needed);
        }
        volumes.insert(proven.name.clone(), proven);
    }
    for (pack, needed) in packs {
        match (whereabouts.pack_bytes)(&pack) {
            None => return Err(ProofError::MissingPack { pack }),
            Some(found) if found < needed => return Err(ProofError::ShortPack { pack, needed, found }),
            Some(_) => {}
        }
    }
    Ok(ProvenSnapshot { snapshot, volumes })
}

fn prove_volume(
    volume: &ManifestVolume,
    source: &dyn SnapshotSource,
    whereabouts: &Whereabouts<'_>,
    runtime: &Handle,
) -> Result<ProvenVolume, ProofError> {
    let name = volume.volume.name.clone();
    let segments = volume
        .lists
        .iter()
        .map(|list| runtime.block_on(source.list(list)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| ProofError::Segment { volume: name.clone(), source })?;
    let rows = list::read_list(segments.iter().map(|segment| &segment[..]))
        .map_err(|source| ProofError::List { volume: name.clone(), source })?;
    let contradiction = |why: String| ProofError::Contradiction { volume: name.clone(), why };
    let found: u64 = rows.iter().map(|row| u64::from(row.content_len)).sum();
    let said = volume.volume.stream_bytes.get();
    if found != said {
        return Err(contradiction(format!("it adds up to {found} bytes instead of {said}")));
    }
    let is_files = matches!(volume.volume.volume, VolumeKind::Files { .. });
    if is_files && rows.last().is_none_or(|last| last.kind != ChunkKind::End) {
        return Err(contradiction("it does not end with the end of a tar stream".to_owned()));
    }
    let lost: Vec<Hash> = rows
        .iter()
        .filter(|row| row.kind != ChunkKind::End && (whereabouts.locate)(&row.hash).is_none())
        .map(|row| row.hash)
        .collect();
    if !lost.is_empty() {
        let examples = lost.iter().copied().take(NAMED_MAX).collect();
        return Err(ProofError::MissingChunks { volume: name, count: lost.len(), examples });
    }
    let catalogs = volume.catalogs.clone();
    let proven = ProvenVolume { name, rows: rows.into(), catalogs, locate: whereabouts.locate.clone() };
    if is_files {
        for piece in proven.pieces(source, runtime) {
            piece.map_err(|source| ProofError::Catalog { volume: proven.name.clone(), source })?;
        }
    }
    Ok(proven)
}

impl ProvenSnapshot {
    /// One volume of it.
    pub fn volume(&self, name: &VolumeName) -> Option<&ProvenVolume> {
        self.volumes.get(name)
    }

    /// All volumes.
    pub fn volumes(&self) -> impl Iterator<Item = &ProvenVolume> {
        self.volumes.values()
    }
}

/// A place as the repository's own placement gives it.
impl From<bundle::placement::ChunkPlace> for Place {
    fn from(place: bundle::placement::ChunkPlace) -> Self {
        Self { pack: place.pack, offset: place.offset, stored_len: place.stored_len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_deliver_is_not_taken_for_a_damaged_snapshot() {
        let volume: VolumeName = "root".parse().unwrap();
        let passing = || SourceError::Passing { from: "the server".to_owned(), why: "connection reset".to_owned() };
        let lasting = || SourceError::Lasting { from: "the server".to_owned(), why: "no such list".to_owned() };
        let of_catalog = |source| ProofError::Catalog {
            volume: volume.clone(),
            source: CatalogReadError::Source { volume: volume.clone(), source },
        };
        let of_list = |source| ProofError::Segment { volume: volume.clone(), source };
        for error in [of_catalog(passing()), of_list(passing())] {
            assert!(error.is_passing() && error.hint() == "try again", "{error}");
        }
        for error in [of_catalog(lasting()), of_list(lasting()), ProofError::MissingPack { pack: Hash::of(b"pack") }] {
            assert!(!error.is_passing() && error.hint().contains("rerack verify"), "{error}");
        }
    }
}
