//! Files: from the chunks of a volume to a mounted filesystem.
//!
//! Chunks come in any order and from several threads. Small files come whole, inside their tar chunk. A large file is
//! made by whichever thread meets its first piece, and finished by the one that writes its last.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bundle::Hash;
use bundle::catalog::CatalogEntry;
use bundle::list::{ChunkKind, ListRow};
use bundle::tar::{Content, Reader, TarError};
use linux_io::fs::{FileWriter, FsError, RootWriter};
use node_model::{EntryKind, VolumeName};
use tokio::runtime::Handle;

use super::meter::Meter;
use super::pipeline::{Notice, PipelineError, PipelineOptions, Sink, run};
use super::reads::Want;
use super::reuse::Reuse;
use super::source::SnapshotSource;
use super::volume::{CatalogReadError, Piece, ProvenVolume};

/// What mkfs puts into every ext filesystem.
const LOST_AND_FOUND: &[u8] = b"lost+found";

/// What a chunk of a files volume is for.
#[derive(Debug, Clone)]
enum Target {
    /// Whole entries.
    Tar,
    /// A piece of a large file.
    Data { file: Arc<LargeFile>, packed_offset: u64 },
}

/// A file whose content is in data chunks.
#[derive(Debug)]
struct LargeFile {
    catalog: CatalogEntry,
    /// Pieces that are not written yet.
    remaining: AtomicU64,
    writer: Mutex<Option<Arc<FileWriter>>>,
    /// Whether a file from an interrupted run is gone on with.
    resumed: bool,
}

impl LargeFile {
    fn new(catalog: CatalogEntry, pieces: u64, resumed: Option<FileWriter>) -> Self {
        let is_resumed = resumed.is_some();
        let writer = Mutex::new(resumed.map(Arc::new));
        Self { catalog, remaining: AtomicU64::new(pieces), writer, resumed: is_resumed }
    }

    /// The open file, made if this is the first piece.
    fn writer(&self, root: &RootWriter) -> Result<Arc<FileWriter>, FsError> {
        let mut writer = self.writer.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(writer) = &*writer {
            return Ok(writer.clone());
        }
        let made = Arc::new(root.begin_file(&self.catalog.entry)?);
        *writer = Some(made.clone());
        Ok(made)
    }

    /// Counts a piece as written and finishes the file with the last one. Says whether it was the last.
    fn piece_done(&self, writer: &FileWriter) -> Result<bool, FsError> {
        if self.remaining.fetch_sub(1, Ordering::AcqRel) != 1 {
            return Ok(false);
        }
        writer.finish()?;
        // The descriptor is given back now, not when the window that planned the reads is forgotten.
        self.writer.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        Ok(true)
    }
}

/// Why a chunk could not be written as files.
#[derive(Debug, thiserror::Error)]
pub enum FilesWriteError {
    /// The filesystem refused.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The chunk has the right hash and is no tar chunk all the same.
    #[error("a chunk of the volume is malformed")]
    Tar(#[from] TarError),
}

/// Why a volume of files could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The data could not be brought to the disk.
    #[error("volume `{volume}` cannot be restored")]
    Pipeline {
        /// The volume.
        volume: VolumeName,
        /// Why.
        source: Box<PipelineError<FilesWriteError, CatalogReadError>>,
    },
    /// The catalog could not be read.
    #[error(transparent)]
    Catalog(#[from] CatalogReadError),
    /// What an interrupted run left cannot be looked at.
    #[error("what an interrupted restore left cannot be looked at")]
    Tree {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The filesystem refused.
    #[error("volume `{volume}` cannot be restored")]
    Fs {
        /// The volume.
        volume: VolumeName,
        /// Why.
        source: FsError,
    },
}

struct FilesSink<'a> {
    root: Mutex<RootWriter>,
    meter: &'a Meter,
}

impl Sink<Target> for FilesSink<'_> {
    type Error = FilesWriteError;
    type Worker = RootWriter;

    fn worker(&self) -> RootWriter {
        self.root.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn write(&self, root: &mut RootWriter, target: &Target, content: &[u8]) -> Result<(), FilesWriteError> {
        match target {
            Target::Tar => write_entries(root, content, self.meter),
            Target::Data { file, packed_offset } => {
                let writer = file.writer(root)?;
                // The last piece is padded to whole blocks.
                let stored = file.catalog.entry.stored_bytes();
                let length = stored.saturating_sub(*packed_offset).min(content.len() as u64);
                writer.write_packed_at(*packed_offset, &content[..length as usize])?;
                if file.piece_done(&writer)? {
                    self.meter.files(1);
                }
                Ok(())
            }
        }
    }
}

/// Writes what a tar chunk holds whole. Hardlinks wait for the files they name, large files for their data chunks.
fn write_entries(root: &RootWriter, content: &[u8], meter: &Meter) -> Result<(), FilesWriteError> {
    for item in Reader::new(content) {
        let item = item?;
        match (&item.entry.kind, item.content) {
            (EntryKind::Hardlink { .. }, _) | (_, Content::InDataChunks) => {}
            (EntryKind::File { .. }, Content::Here(content)) => {
                root.write_file(&item.entry, content)?;
                meter.files(1);
            }
            _ => root.make(&item.entry)?,
        }
    }
    Ok(())
}

/// How a volume of files is restored.
pub struct FilesRestore<'a> {
    /// The volume.
    pub volume: &'a ProvenVolume,
    /// Where it is read from.
    pub source: &'a dyn SnapshotSource,
    /// Runs what waits for sockets.
    pub runtime: &'a Handle,
    /// How the pipeline runs.
    pub options: &'a PipelineOptions,
    /// Counts.
    pub meter: &'a Meter,
    /// Told of what goes on.
    pub notify: &'a (dyn Fn(Notice) + Sync),
}

impl FilesRestore<'_> {
    /// Writes the whole volume below `root`, then flushes the filesystem. With `reuse`, what an interrupted run left
    /// there is kept where reading and hashing shows that it is right.
    ///
    /// # Errors
    /// The first failure; the filesystem is then incomplete, and may be gone on with.
    pub fn run(&self, root: &RootWriter, reuse: Option<&Reuse>) -> Result<(), FilesError> {
        if reuse.is_some() {
            self.unlock(root)?;
        }
        let sink = FilesSink { root: Mutex::new(root.clone()), meter: self.meter };
        let wants = Wants::new(self, root.clone(), reuse);
        run(self.source, wants, &sink, self.options, self.meter, self.notify, self.runtime)
            .map_err(|source| FilesError::Pipeline { volume: self.volume.name.clone(), source: Box::new(source) })?;
        match reuse {
            Some(reuse) => self.remove_extras(root, reuse)?,
            None => self.remove_unwanted_lost_and_found(root)?,
        }
        self.link_and_finish(root)
    }

    fn failed(&self, source: FsError) -> FilesError {
        FilesError::Fs { volume: self.volume.name.clone(), source }
    }

    /// Takes off the flags that an interrupted run put on already: nothing could be replaced otherwise.
    fn unlock(&self, root: &RootWriter) -> Result<(), FilesError> {
        for entry in self.volume.entries(self.source, self.runtime) {
            let CatalogEntry { entry, .. } = entry?;
            if entry.flags != 0 {
                root.unlock(&entry.path).map_err(|source| self.failed(source))?;
            }
        }
        Ok(())
    }

    /// Removes what an interrupted run, or a program it ran, left and the volume does not hold.
    fn remove_extras(&self, root: &RootWriter, reuse: &Reuse) -> Result<(), FilesError> {
        let expected = self.volume.entries(self.source, self.runtime).map(|entry| entry.map(|held| held.entry.path));
        for path in reuse.extras(expected)? {
            root.remove(&path).map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    /// A new ext filesystem has a directory that the captured one may have lost.
    fn remove_unwanted_lost_and_found(&self, root: &RootWriter) -> Result<(), FilesError> {
        for entry in self.volume.entries(self.source, self.runtime) {
            if entry?.entry.path == LOST_AND_FOUND {
                return Ok(());
            }
        }
        root.remove(LOST_AND_FOUND).map_err(|source| self.failed(source))
    }

    /// What must come after all content: hardlinks, then the metadata of directories and all flags.
    fn link_and_finish(&self, root: &RootWriter) -> Result<(), FilesError> {
        let failed = |source| self.failed(source);
        for entry in self.volume.entries(self.source, self.runtime) {
            let CatalogEntry { entry, .. } = entry?;
            if matches!(entry.kind, EntryKind::Hardlink { .. }) {
                root.link(&entry).map_err(failed)?;
            }
        }
        for entry in self.volume.entries(self.source, self.runtime) {
            root.finish(&entry?.entry).map_err(failed)?;
        }
        root.sync().map_err(failed)
    }
}

/// Goes through the volume and says which chunks are wanted.
struct Wants<'a, I> {
    pieces: I,
    volume: &'a ProvenVolume,
    meter: &'a Meter,
    root: RootWriter,
    reuse: Option<&'a Reuse>,
    /// The large file whose pieces come next.
    large: Option<Arc<LargeFile>>,
    ready: VecDeque<Want<Target>>,
}

impl<'a> Wants<'a, ()> {
    fn new(
        restore: &'a FilesRestore<'a>,
        root: RootWriter,
        reuse: Option<&'a Reuse>,
    ) -> Wants<'a, impl Iterator<Item = Result<Piece, CatalogReadError>> + 'a> {
        Wants {
            pieces: restore.volume.pieces(restore.source, restore.runtime),
            volume: restore.volume,
            meter: restore.meter,
            root,
            reuse,
            large: None,
            ready: VecDeque::new(),
        }
    }
}

impl<I> Wants<'_, I> {
    fn want(&self, row: &ListRow, target: Target) -> Result<Want<Target>, CatalogReadError> {
        let place = (self.volume.locate)(&row.hash).ok_or_else(|| self.contradiction("a chunk has no place"))?;
        Ok(Want { hash: row.hash, content_len: row.content_len, place, target })
    }

    fn contradiction(&self, why: &'static str) -> CatalogReadError {
        CatalogReadError::Contradiction { volume: self.volume.name.clone(), why }
    }

    /// Takes in one row: what it wants, if anything, is put where it is ready.
    fn take(&mut self, piece: Piece) -> Result<(), CatalogReadError> {
        if piece.row.kind == ChunkKind::Data {
            return self.take_data(&piece);
        }
        let in_place = self.reuse.is_some_and(|reuse| reuse.holds_all(&piece.entries));
        if in_place {
            self.meter.reused(u64::from(piece.row.content_len));
            self.meter.files(piece.entries.iter().filter(|held| is_whole_file(held)).count() as u64);
        } else {
            let want = self.want(&piece.row, Target::Tar)?;
            self.ready.push_back(want);
        }
        self.large = piece.entries.into_iter().next_back().filter(|last| last.placed.data_row_count > 0).map(|last| {
            let pieces = last.placed.data_row_count;
            let resumed = self.reuse.and_then(|_| self.root.resume_file(&last.entry).ok());
            Arc::new(LargeFile::new(last, pieces, resumed))
        });
        Ok(())
    }

    fn take_data(&mut self, piece: &Piece) -> Result<(), CatalogReadError> {
        let large = self.large.clone().filter(|large| large.catalog.placed.ordinal == piece.row.entry);
        let large = large.ok_or_else(|| self.contradiction("a data chunk belongs to no large file"))?;
        let packed_offset = piece.row.packed_offset;
        if large.resumed && holds(&large, &piece.row) {
            self.meter.reused(u64::from(piece.row.content_len));
            let writer = large.writer(&self.root);
            // A failure to finish shows again, with its path, when the file is verified.
            if let Ok(true) = writer.and_then(|writer| large.piece_done(&writer)) {
                self.meter.files(1);
            }
            return Ok(());
        }
        let want = self.want(&piece.row, Target::Data { file: large, packed_offset })?;
        self.ready.push_back(want);
        Ok(())
    }
}

fn is_whole_file(held: &CatalogEntry) -> bool {
    matches!(held.entry.kind, EntryKind::File { .. }) && held.placed.data_row_count == 0
}

/// Whether a resumed file has the right bytes where the row's chunk belongs.
fn holds(large: &LargeFile, row: &ListRow) -> bool {
    let writer = large.writer.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
    let Some(writer) = writer else { return false };
    let stored = large.catalog.entry.stored_bytes();
    let length = stored.saturating_sub(row.packed_offset).min(u64::from(row.content_len));
    let mut content = vec![0; row.content_len as usize];
    // Zeros that were only reserved are still to be written: they would be found as a hole.
    matches!(writer.is_data_at(row.packed_offset, length), Ok(true))
        && writer.read_packed_at(row.packed_offset, &mut content[..length as usize]).is_ok()
        && Hash::of(&content) == row.hash
}

impl<I: Iterator<Item = Result<Piece, CatalogReadError>>> Iterator for Wants<'_, I> {
    type Item = Result<Want<Target>, CatalogReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(want) = self.ready.pop_front() {
                return Some(Ok(want));
            }
            match self.pieces.next()? {
                Ok(piece) => {
                    if let Err(error) = self.take(piece) {
                        return Some(Err(error));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
