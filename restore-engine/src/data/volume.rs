//! One volume of a snapshot, ready to be read: its chunk list, where the chunks lie, and its catalog.

use std::sync::Arc;

use bundle::Hash;
use bundle::catalog::{self, CatalogEntry, CatalogError};
use bundle::list::{ChunkKind, ListRow};
use node_model::VolumeName;
use tokio::runtime::Handle;

use super::reads::Place;
use super::source::{SnapshotSource, SourceError};

/// Says where a chunk lies.
pub type Locate = Arc<dyn Fn(&Hash) -> Option<Place> + Send + Sync>;

/// A volume whose chunk list has been read and checked, and whose every chunk has a place.
#[derive(Clone)]
pub struct ProvenVolume {
    /// Its name.
    pub name: VolumeName,
    /// Its chunks, in stream order.
    pub rows: Arc<[ListRow]>,
    /// The segments of its catalog; none for a raw volume.
    pub catalogs: Vec<Hash>,
    /// Where its chunks lie.
    pub locate: Locate,
}

/// Why a catalog cannot be gone through.
#[derive(Debug, thiserror::Error)]
pub enum CatalogReadError {
    /// A segment could not be read.
    #[error("a catalog segment of volume `{volume}` cannot be read")]
    Source {
        /// The volume.
        volume: VolumeName,
        /// What the source said.
        source: SourceError,
    },
    /// A segment is damaged although its hash is right.
    #[error("the catalog is damaged")]
    Catalog(#[from] CatalogError),
    /// Catalog and chunk list contradict each other.
    #[error("volume `{volume}`: catalog and chunk list do not fit each other: {why}")]
    Contradiction {
        /// The volume.
        volume: VolumeName,
        /// What is wrong.
        why: &'static str,
    },
}

impl CatalogReadError {
    /// Whether it may work by itself later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Source { source: SourceError::Passing { .. }, .. })
    }
}

impl ProvenVolume {
    /// Bytes of content of all chunks.
    pub fn content_bytes(&self) -> u64 {
        self.rows.iter().map(|row| u64::from(row.content_len)).sum()
    }

    /// Its catalog's entries in stream order, one segment in memory at a time.
    pub fn entries<'a>(
        &'a self,
        source: &'a dyn SnapshotSource,
        runtime: &'a Handle,
    ) -> impl Iterator<Item = Result<CatalogEntry, CatalogReadError>> + 'a {
        catalog::read_catalog(self.catalogs.iter().map(move |name| {
            let segment = runtime.block_on(source.catalog(name));
            segment
                .map(|bytes| bytes.to_vec())
                .map_err(|source| CatalogReadError::Source { volume: self.name.clone(), source })
        }))
    }

    /// The tar and data rows together with the entries whose headers each tar row holds.
    pub fn pieces<'a>(
        &'a self,
        source: &'a dyn SnapshotSource,
        runtime: &'a Handle,
    ) -> impl Iterator<Item = Result<Piece, CatalogReadError>> + 'a {
        let mut entries = self.entries(source, runtime).peekable();
        let mut rows = (0..).zip(self.rows.iter().copied());
        let contradiction = |why| CatalogReadError::Contradiction { volume: self.name.clone(), why };
        std::iter::from_fn(move || {
            loop {
                let (number, row): (u64, ListRow) = rows.next()?;
                match row.kind {
                    ChunkKind::Data => return Some(Ok(Piece { number, row, entries: Vec::new() })),
                    ChunkKind::End => continue,
                    ChunkKind::Map => return Some(Err(contradiction("a volume of files has an extent map"))),
                    ChunkKind::Tar => {}
                }
                let mut held = Vec::new();
                while let Some(next) =
                    entries.next_if(|entry| entry.as_ref().map_or(true, |entry| entry.placed.first_row == number))
                {
                    match next {
                        Ok(entry) => held.push(entry),
                        Err(error) => return Some(Err(error)),
                    }
                }
                if held.is_empty() {
                    return Some(Err(contradiction("a tar chunk holds no entry of the catalog")));
                }
                return Some(Ok(Piece { number, row, entries: held }));
            }
        })
    }
}

/// One row of a chunk list with what the catalog says of it.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Number of the row.
    pub number: u64,
    /// The row.
    pub row: ListRow,
    /// For a tar row, the entries whose headers it holds.
    pub entries: Vec<CatalogEntry>,
}
