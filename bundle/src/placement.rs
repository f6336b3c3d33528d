//! Where chunks lie: chunk -> (pack, offset, stored length).
//!
//! Placement is a convenience and never trusted: each `placement/<pack>` is a copy of the index at that pack's end, and
//! all of it can be rebuilt from the packs. A wrong placement can make a read fail, never give wrong bytes.

use std::collections::HashMap;
use std::ops::Range;

use futures::{StreamExt, stream};

use crate::Hash;
use crate::limits::PACK_BYTES_MAX;
use crate::pack::{self, PackError, PackIndex, TRAILER_BYTES};
use crate::repository::{ObjectName, Repository, RepositoryError};

const READS_AT_ONCE: usize = 16;

/// Where one chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlace {
    /// The pack.
    pub pack: Hash,
    /// Where in it the frame begins.
    pub offset: u64,
    /// Bytes of the frame.
    pub stored_len: u32,
    /// Bytes of the content.
    pub content_len: u32,
}

impl ChunkPlace {
    /// The bytes of the pack that are the frame.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.stored_len)
    }
}

/// Where all chunks of a repository, or of a snapshot, lie. It takes about 60 bytes of memory for each chunk.
#[derive(Debug, Clone, Default)]
pub struct Placement {
    packs: Vec<Hash>,
    chunks: HashMap<Hash, PlaceInPack>,
}

/// A place with its pack by number; packs are at most 80 MiB, so offsets fit 32 bits.
#[derive(Debug, Clone, Copy)]
struct PlaceInPack {
    pack: u32,
    offset: u32,
    stored_len: u32,
    content_len: u32,
}

const _: () = assert!(PACK_BYTES_MAX <= u32::MAX as u64);

impl Placement {
    /// Knows of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what `index` says of `pack`. A chunk that lies elsewhere already stays there.
    pub fn add_pack(&mut self, pack: Hash, index: &PackIndex) {
        let number = self.packs.len() as u32;
        self.packs.push(pack);
        for row in index.rows() {
            let (stored_len, content_len) = (row.stored_len, row.content_len);
            let place = PlaceInPack { pack: number, offset: row.offset as u32, stored_len, content_len };
            self.chunks.entry(row.hash).or_insert(place);
        }
    }

    /// Knows of these places.
    pub fn from_places(places: impl IntoIterator<Item = (Hash, ChunkPlace)>) -> Self {
        let mut placement = Self::new();
        let mut numbers: HashMap<Hash, u32> = HashMap::new();
        for (chunk, ChunkPlace { pack, offset, stored_len, content_len }) in places {
            let pack = *numbers.entry(pack).or_insert_with(|| {
                placement.packs.push(pack);
                placement.packs.len() as u32 - 1
            });
            let place = PlaceInPack { pack, offset: offset as u32, stored_len, content_len };
            placement.chunks.entry(chunk).or_insert(place);
        }
        placement
    }

    /// Where `chunk` lies.
    pub fn locate(&self, chunk: &Hash) -> Option<ChunkPlace> {
        self.chunks.get(chunk).map(|place| ChunkPlace {
            pack: self.packs[place.pack as usize],
            offset: place.offset.into(),
            stored_len: place.stored_len,
            content_len: place.content_len,
        })
    }

    /// Whether `chunk` lies in any pack.
    pub fn contains(&self, chunk: &Hash) -> bool {
        self.chunks.contains_key(chunk)
    }

    /// The packs, in the order in which they were added.
    pub fn packs(&self) -> &[Hash] {
        &self.packs
    }

    /// How many chunks are known.
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Whether no chunk is known.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

/// A pack that is in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackObject {
    /// Its name.
    pub name: Hash,
    /// Its length.
    pub bytes: u64,
}

/// What became of reading a repository's placement.
#[derive(Debug, Default)]
pub struct LoadedPlacement {
    /// Where chunks lie, in good packs.
    pub placement: Placement,
    /// The good packs with their lengths, ascending by name.
    pub packs: Vec<PackObject>,
    /// Packs whose placement object was missing or wrong and was read from the pack instead.
    pub from_packs: Vec<Hash>,
    /// Placement objects without a pack.
    pub stale: Vec<Hash>,
    /// What is wrong with packs that could not be used at all.
    pub problems: Vec<RepositoryError>,
}

/// What [`Repository::rebuild_placement`] did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RebuiltPlacement {
    /// Placement objects written anew.
    pub written: usize,
    /// Placement objects without a pack that were removed.
    pub removed: usize,
}

impl Repository {
    /// The packs that are there, ascending by name. Objects below `packs/` that are no pack's are passed over.
    pub async fn packs(&self) -> Result<Vec<PackObject>, RepositoryError> {
        let mut packs: Vec<PackObject> = self
            .objects_below("packs")
            .await?
            .iter()
            .filter_map(|meta| Some(PackObject { name: ObjectName::parse_pack(&meta.location)?, bytes: meta.size }))
            .collect();
        packs.sort();
        Ok(packs)
    }

    /// Reads where all chunks lie. A missing or wrong placement object costs two small reads of its pack; a pack that
    /// has not the length its index says is a problem and holds nothing.
    pub async fn load_placement(&self) -> Result<LoadedPlacement, RepositoryError> {
        self.load_placement_from(IndexSource::Placement).await
    }

    /// As [`Self::load_placement`], believing the packs only: a placement object that says something else than its
    /// pack's index counts as wrong. This is how a scrub looks.
    pub async fn load_placement_from_packs(&self) -> Result<LoadedPlacement, RepositoryError> {
        self.load_placement_from(IndexSource::Pack).await
    }

    async fn load_placement_from(&self, believed: IndexSource) -> Result<LoadedPlacement, RepositoryError> {
        let packs = self.packs().await?;
        let indexes: Vec<_> = stream::iter(packs.clone())
            .map(|pack| async move { (pack, self.index_of(&pack, believed).await) })
            .buffered(READS_AT_ONCE)
            .collect()
            .await;
        let mut loaded = LoadedPlacement::default();
        for (pack, index) in indexes {
            match index {
                Ok((index, source)) => {
                    loaded.placement.add_pack(pack.name, &index);
                    loaded.packs.push(pack);
                    if source == IndexSource::Pack {
                        loaded.from_packs.push(pack.name);
                    }
                }
                Err(problem) => loaded.problems.push(problem),
            }
        }
        let objects = self.objects_below("placement").await?;
        let named = objects.iter().filter_map(|meta| ObjectName::parse_hash(&meta.location));
        loaded.stale = named.filter(|name| packs.binary_search_by_key(name, |pack| pack.name).is_err()).collect();
        Ok(loaded)
    }

    /// Writes the placement objects that are missing or wrong, and removes those that have no pack.
    pub async fn rebuild_placement(&self) -> Result<RebuiltPlacement, RepositoryError> {
        let loaded = self.load_placement_from_packs().await?;
        let mut rebuilt = RebuiltPlacement::default();
        for pack in loaded.packs.iter().filter(|pack| loaded.from_packs.contains(&pack.name)) {
            let index = self.index_in_pack(pack).await?;
            self.put_placement(&pack.name, &index).await?;
            rebuilt.written += 1;
        }
        for pack in &loaded.stale {
            self.remove_placement(pack).await?;
            rebuilt.removed += 1;
        }
        Ok(rebuilt)
    }

    /// What a pack holds, from its placement object, or from the pack itself where that is missing or wrong.
    pub async fn pack_index(&self, pack: &PackObject) -> Result<PackIndex, RepositoryError> {
        self.index_of(pack, IndexSource::Placement).await.map(|(index, _)| index)
    }

    /// The index of a pack, and whether it had to be taken from the pack because its placement object is of no use.
    async fn index_of(
        &self,
        pack: &PackObject,
        believed: IndexSource,
    ) -> Result<(PackIndex, IndexSource), RepositoryError> {
        let placement = self.placement(&pack.name).await.ok();
        match (believed, placement) {
            (IndexSource::Placement, Some(index)) if index.pack_bytes() == pack.bytes => {
                Ok((index, IndexSource::Placement))
            }
            (_, placement) => {
                let index = self.index_in_pack(pack).await?;
                let agrees = placement.is_some_and(|placement| placement == index);
                Ok((index, if agrees { IndexSource::Placement } else { IndexSource::Pack }))
            }
        }
    }

    /// The index at the end of a pack, which must say the length that the pack has.
    pub(crate) async fn index_in_pack(&self, pack: &PackObject) -> Result<PackIndex, RepositoryError> {
        let object = ObjectName::Pack(pack.name);
        let failed = |source: PackError| RepositoryError::Pack { object: object.clone(), source: source.into() };
        let trailer_at = pack
            .bytes
            .checked_sub(TRAILER_BYTES as u64)
            .ok_or_else(|| failed(PackError::Index { why: "the pack is too short to have one" }))?;
        let trailer = self.pack_range(&pack.name, trailer_at..pack.bytes).await?;
        let trailer: &[u8; TRAILER_BYTES] = trailer[..].try_into().expect("pack_range gives what was asked for");
        let content_len = pack::index_content_len(trailer).map_err(failed)? as u64;
        let content_at = pack
            .bytes
            .checked_sub(content_len)
            .ok_or_else(|| failed(PackError::Index { why: "it is longer than the pack" }))?;
        let content = self.pack_range(&pack.name, content_at..pack.bytes).await?;
        let index = PackIndex::decode(&content).map_err(failed)?;
        match index.pack_bytes() {
            expected if expected == pack.bytes => Ok(index),
            expected => Err(RepositoryError::WrongLength { object, expected, found: pack.bytes }),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IndexSource {
    Placement,
    Pack,
}
