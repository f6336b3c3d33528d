//! Finding out what is wrong before it matters. A scrub needs no key that is secret, changes nothing, and goes on after
//! whatever it finds.

use std::collections::HashSet;
use std::fmt;

use futures::{StreamExt, stream};
use node_model::{NodeName, SnapshotId, VolumeName};

use crate::Hash;
use crate::catalog;
use crate::frame::Decompressor;
use crate::pack::{self, PackError};
use crate::placement::{LoadedPlacement, PackObject, Placement};
use crate::repository::{ObjectName, Repository, RepositoryError, VerifiedSnapshot};

/// Packs that are read and decoded at once.
const PACKS_AT_ONCE: usize = 2;
/// Chunks of one snapshot that are read and decoded at once.
const CHUNKS_AT_ONCE: usize = 8;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Signatures, lists, that catalogs are there, that packs have the length their indexes say, and that every chunk is
    /// placed. Reads no chunk.
    Quick,
    /// All of that, and every byte decoded and hashed.
    Full,
}

/// Something that is wrong.
#[derive(Debug)]
pub enum Finding {
    /// An object is missing, damaged or not trusted.
    Object {
        /// Where it was met: a snapshot, or the repository.
        at: Location,
        /// What is wrong.
        error: RepositoryError,
    },
    /// Chunks that a volume is made of cannot be had. One finding for each volume, however many chunks it lost.
    LostChunks {
        /// The snapshot.
        node: NodeName,
        /// The snapshot.
        snapshot: SnapshotId,
        /// The volume.
        volume: VolumeName,
        /// How many different chunks.
        count: usize,
        /// The first of them in the order of the stream.
        first: Hash,
    },
    /// A pack's placement object is missing or wrong; the pack itself is good.
    PlacementLost {
        /// The pack.
        pack: Hash,
    },
    /// A placement object has no pack. Harmless by itself, but the pack was there once.
    PlacementStale {
        /// The pack.
        pack: Hash,
    },
}

/// Where a finding was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Not in any one snapshot.
    Repository,
    /// In this snapshot.
    Snapshot(NodeName, SnapshotId),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository => f.write_str("repository"),
            Self::Snapshot(node, snapshot) => write!(f, "{node}@{snapshot}"),
        }
    }
}

impl fmt::Display for Finding {
    /// The whole finding in a line, causes included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object { at, error } => {
                write!(f, "{at}: {error}")?;
                let mut source = std::error::Error::source(error);
                while let Some(cause) = source {
                    write!(f, ": {cause}")?;
                    source = cause.source();
                }
                Ok(())
            }
            Self::LostChunks { node, snapshot, volume, count: 1, first } => {
                write!(f, "{node}@{snapshot}: chunk {first} of volume {volume} is missing or damaged")
            }
            Self::LostChunks { node, snapshot, volume, count, first } => write!(
                f,
                "{node}@{snapshot}: {count} chunks of volume {volume} are missing or damaged, the first is {first}"
            ),
            Self::PlacementLost { pack } => write!(f, "repository: the placement of pack {pack} is missing or wrong"),
            Self::PlacementStale { pack } => write!(f, "repository: placement/{pack} has no pack"),
        }
    }
}

impl Finding {
    /// What an operator can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Object { error, .. } => match error.hint() {
                Some(hint) if hint.starts_with("run `rerack verify`") => {
                    Some("copy the object back from a mirror, or capture the node again while it lives".into())
                }
                hint => hint,
            },
            Self::LostChunks { .. } => Some(
                "this snapshot cannot be restored: copy the pack back from a mirror, or capture the node again while \
                 it lives"
                    .into(),
            ),
            Self::PlacementLost { .. } | Self::PlacementStale { .. } => {
                Some("nothing is lost: `rerack verify --repair` writes placement anew from the packs".into())
            }
        }
    }

    /// Whether data or trust is lost, as opposed to something that can be made again from what is there.
    pub fn is_loss(&self) -> bool {
        !matches!(self, Self::PlacementLost { .. } | Self::PlacementStale { .. })
    }
}

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checked {
    /// Committed snapshots.
    pub snapshots: u64,
    /// Packs.
    pub packs: u64,
    /// Different chunks: those in packs for a scrub, those referred to for one snapshot.
    pub chunks: u64,
    /// Stored bytes that were read and hashed.
    pub bytes: u64,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// What is wrong, in the order in which it was met.
    pub findings: Vec<Finding>,
    /// What was looked at.
    pub checked: Checked,
}

impl Report {
    /// Whether nothing at all is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl Repository {
    /// Checks everything: all packs, then every snapshot of every node. `progress` hears after each pack and snapshot.
    /// An error means that the store could not even be listed.
    pub async fn scrub(
        &self,
        depth: Depth,
        mut progress: impl FnMut(&Checked) + Send,
    ) -> Result<Report, RepositoryError> {
        let LoadedPlacement { placement, packs, from_packs, stale, problems } =
            self.load_placement_from_packs().await?;
        let mut report = Report::default();
        report.checked.chunks = placement.len() as u64;
        let object = |error| Finding::Object { at: Location::Repository, error };
        report.findings.extend(problems.into_iter().map(object));
        report.findings.extend(from_packs.into_iter().map(|pack| Finding::PlacementLost { pack }));
        report.findings.extend(stale.into_iter().map(|pack| Finding::PlacementStale { pack }));
        let mut damaged = HashSet::new();
        if depth == Depth::Full {
            let mut examined = stream::iter(packs)
                .map(|pack| async move { (pack, self.examine_pack(&pack).await) })
                .buffered(PACKS_AT_ONCE);
            while let Some((pack, examined)) = examined.next().await {
                damaged.extend(examined.damaged);
                report.findings.extend(examined.error.map(object));
                report.checked.packs += 1;
                report.checked.bytes += pack.bytes;
                progress(&report.checked);
            }
        } else {
            report.checked.packs = packs.len() as u64;
        }
        for node in self.nodes().await? {
            match self.certificate(&node).await {
                // Snapshots outlive certificates: a receipt names the key.
                Ok(_) | Err(RepositoryError::UnknownNode { .. }) => {}
                Err(error) => report.findings.push(object(error)),
            }
            let listing = self.snapshots(&node).await?;
            for lost in listing.damaged {
                let at = Location::Snapshot(node.clone(), lost.snapshot);
                report.findings.push(Finding::Object { at, error: lost.error });
            }
            for summary in listing.snapshots {
                self.examine_snapshot(&node, &summary.snapshot, depth, &placement, &damaged, &mut report).await;
                report.checked.snapshots += 1;
                progress(&report.checked);
            }
        }
        Ok(report)
    }

    /// Checks one snapshot: everything that a restore of it will need.
    pub async fn check_snapshot(
        &self,
        node: &NodeName,
        snapshot: &SnapshotId,
        depth: Depth,
        placement: &Placement,
    ) -> Report {
        let mut report = Report { checked: Checked { snapshots: 1, ..Checked::default() }, ..Report::default() };
        let mut damaged = HashSet::new();
        if let Ok(verified) = self.load(node, snapshot).await {
            let chunks = self.chunks_of(&verified).await;
            report.checked.chunks = chunks.len() as u64;
            if depth == Depth::Full {
                damaged = self.damaged_among(chunks, placement, &mut report.checked).await;
            }
        }
        self.examine_snapshot(node, snapshot, depth, placement, &damaged, &mut report).await;
        report
    }

    async fn examine_snapshot(
        &self,
        node: &NodeName,
        snapshot: &SnapshotId,
        depth: Depth,
        placement: &Placement,
        damaged: &HashSet<Hash>,
        report: &mut Report,
    ) {
        let at = Location::Snapshot(node.clone(), snapshot.clone());
        let object = |error| Finding::Object { at: at.clone(), error };
        let verified = match self.load(node, snapshot).await {
            Ok(verified) => verified,
            Err(error) => return report.findings.push(object(error)),
        };
        for volume in &verified.manifest().volumes {
            match self.chunk_list(volume).await {
                Ok(rows) => {
                    let mut lost = HashSet::new();
                    let mut first = None;
                    for row in &rows {
                        let place = placement.locate(&row.hash);
                        let good = place.is_some_and(|place| place.content_len == row.content_len)
                            && !damaged.contains(&row.hash);
                        if !good && lost.insert(row.hash) {
                            first.get_or_insert(row.hash);
                        }
                    }
                    report.findings.extend(first.map(|first| Finding::LostChunks {
                        node: node.clone(),
                        snapshot: snapshot.clone(),
                        volume: volume.volume.name.clone(),
                        count: lost.len(),
                        first,
                    }));
                }
                Err(error) => report.findings.push(object(error)),
            }
            for segment in &volume.catalogs {
                if let Err(error) = self.examine_catalog(segment, depth).await {
                    report.findings.push(object(error));
                }
            }
        }
    }

    async fn examine_catalog(&self, segment: &Hash, depth: Depth) -> Result<(), RepositoryError> {
        let object = ObjectName::Catalog(*segment);
        if depth == Depth::Quick {
            return self.must_exist(&object).await;
        }
        let bytes = self.catalog_segment(segment).await?;
        match catalog::read_segment(&bytes) {
            Ok(_) => Ok(()),
            Err(source) => Err(RepositoryError::Catalog { object, source: source.into() }),
        }
    }

    async fn chunks_of(&self, snapshot: &VerifiedSnapshot) -> HashSet<Hash> {
        let mut chunks = HashSet::new();
        for volume in &snapshot.manifest().volumes {
            // A list that cannot be read is a finding of its own, made elsewhere.
            chunks.extend(self.chunk_list(volume).await.unwrap_or_default().iter().map(|row| row.hash));
        }
        chunks
    }

    async fn damaged_among(
        &self,
        chunks: HashSet<Hash>,
        placement: &Placement,
        checked: &mut Checked,
    ) -> HashSet<Hash> {
        let placed: Vec<_> = chunks.into_iter().filter_map(|chunk| Some((chunk, placement.locate(&chunk)?))).collect();
        checked.bytes += placed.iter().map(|(_, place)| u64::from(place.stored_len)).sum::<u64>();
        stream::iter(placed)
            .map(|(chunk, place)| async move { self.chunk(&chunk, &place).await.is_err().then_some(chunk) })
            .buffered(CHUNKS_AT_ONCE)
            .filter_map(|damaged| async move { damaged })
            .collect()
            .await
    }

    /// Reads and decodes a whole pack.
    async fn examine_pack(&self, pack: &PackObject) -> ExaminedPack {
        let name = pack.name;
        let object = ObjectName::Pack(name);
        let bytes = match self.pack(&name).await {
            Ok(bytes) => bytes,
            Err(error) => {
                let damaged = self.placement(&name).await.map(|index| hashes(&index)).unwrap_or_default();
                return ExaminedPack { damaged, error: Some(error) };
            }
        };
        let examine = move || {
            let Err(source) = pack::verify(&bytes, &name) else { return ExaminedPack::default() };
            let damaged = pack::read_index(&bytes).map(|index| damaged_chunks(&bytes, &index)).unwrap_or_default();
            ExaminedPack { damaged, error: Some(pack_error(object, source)) }
        };
        match tokio::task::spawn_blocking(examine).await {
            Ok(examined) => examined,
            Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
        }
    }
}

#[derive(Default)]
struct ExaminedPack {
    damaged: Vec<Hash>,
    error: Option<RepositoryError>,
}

fn pack_error(object: ObjectName, source: PackError) -> RepositoryError {
    match source {
        PackError::WrongName { found, .. } => RepositoryError::Damaged { object, found },
        source => RepositoryError::Pack { object, source: source.into() },
    }
}

fn hashes(index: &pack::PackIndex) -> Vec<Hash> {
    index.rows().iter().map(|row| row.hash).collect()
}

/// The chunks of a damaged pack that are damaged themselves: most are not, and snapshots without them are whole.
fn damaged_chunks(bytes: &[u8], index: &pack::PackIndex) -> Vec<Hash> {
    let mut decompressor = Decompressor::new();
    let mut is_damaged = |row: &pack::PackRow| {
        let frame = &bytes[row.offset as usize..][..row.stored_len as usize];
        decompressor.decompress_exact(frame, row.content_len, &row.hash).is_err()
    };
    index.rows().iter().filter(|row| is_damaged(row)).map(|row| row.hash).collect()
}
