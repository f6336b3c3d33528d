//! One filesystem, read into a stream.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bundle::Hash;
use bundle::catalog::{CatalogEntry, CatalogError, CatalogWriter, Placed, SourceStamp};
use bundle::cut::{ChunkSink, CutError, CutVolume, VolumeCutter, is_large};
use linux_io::fs::{EntryInfo, Excludes, FsError, Status, Visit, Walker, reread_file};
use node_model::{Entry, EntryKind, Extent, Timestamp, VolumeName};

use crate::error::{CaptureError, Unreadable, chain};
use crate::progress::Counters;
use crate::report::{WarningKind, Warnings};
use crate::sink::{Sink, SinkError};

/// How often a file that changes while it is read is read again before it is kept as it is.
const REREADS_MAX: u32 = 3;

/// Kernels may stamp all changes within one tick alike, so a file that changed this recently could change again
/// without a trace. It is left to settle before it is read.
const TICK: Duration = Duration::from_millis(20);

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// Unreadable files named in the error.
const UNREADABLE_LISTED_MAX: usize = 100;

/// What one filesystem gave.
pub(crate) struct FilesVolume {
    pub(crate) cut: CutVolume,
    pub(crate) catalogs: Vec<Hash>,
    pub(crate) file_count: u64,
    pub(crate) content_bytes: u64,
    pub(crate) vanished_count: u64,
    pub(crate) skipped_socket_count: u64,
}

/// What reading a filesystem needs besides it.
pub(crate) struct FilesReader<'a> {
    pub(crate) volume: &'a VolumeName,
    /// Absolute path of the filesystem's root in the node, without the last slash: what warnings begin with.
    pub(crate) prefix: &'a str,
    pub(crate) accept_unreadable: &'a [String],
    pub(crate) sink: &'a dyn Sink,
    pub(crate) counters: &'a Counters,
    pub(crate) warnings: &'a mut Warnings,
}

/// A file that could not be stored.
enum FileError {
    /// It cannot be read: this concerns the file alone.
    Unreadable(FsError),
    /// The stream cannot go on.
    Cut(CutError),
}

impl From<CutError> for FileError {
    fn from(error: CutError) -> Self {
        Self::Cut(error)
    }
}

impl FilesReader<'_> {
    /// Reads the filesystem below `root`, and stores its catalog.
    pub(crate) fn read(
        &mut self,
        root: OwnedFd,
        excludes: Excludes,
        cut_key: [u8; 32],
        level: i32,
        chunks: impl ChunkSink,
    ) -> Result<FilesVolume, CaptureError> {
        let in_volume = |source| CaptureError::Volume { volume: self.volume.clone(), source };
        let mut walker = Walker::new(root, excludes).map_err(in_volume)?;
        let mut cutter = VolumeCutter::new(cut_key, chunks);
        let mut catalog = CatalogWriter::new(level).map_err(|source| self.catalog_error(source))?;
        let (mut catalogs, mut unreadable, mut unreadable_count) = (Vec::new(), Vec::new(), 0);
        let (mut file_count, mut content_bytes, mut vanished_count, mut sockets) = (0, 0, 0, 0);
        while let Some(visit) = walker.next() {
            let outcome = match visit {
                Ok(Visit::Entry(info)) => self.store(&mut cutter, *info, &mut walker),
                Ok(Visit::Socket { .. }) => {
                    sockets += 1;
                    continue;
                }
                Ok(Visit::Vanished { .. }) => {
                    vanished_count += 1;
                    continue;
                }
                Ok(Visit::Covered { path }) => {
                    self.warnings.push(self.absolute(&path), WarningKind::Covered);
                    continue;
                }
                Err(error) => Err(FileError::Unreadable(error)),
            };
            let entry = match outcome {
                Ok(entry) => entry,
                Err(FileError::Cut(source)) => return Err(self.cut_error(source)),
                Err(FileError::Unreadable(error)) => {
                    if let Some(file) = self.reject(&error) {
                        unreadable_count += 1;
                        if unreadable.len() < UNREADABLE_LISTED_MAX {
                            unreadable.push(file);
                        }
                    }
                    continue;
                }
            };
            if let EntryKind::File { size, .. } = entry.entry.kind {
                file_count += 1;
                content_bytes += size;
            }
            self.counters.add(&self.counters.entries, 1);
            let segment = catalog.push(&entry).map_err(|source| self.catalog_error(source))?;
            self.store_segment(segment, &mut catalogs)?;
        }
        if unreadable_count > 0 {
            return Err(CaptureError::Unreadable { files: unreadable, count: unreadable_count });
        }
        let segment = catalog.finish().map_err(|source| self.catalog_error(source))?;
        self.store_segment(segment, &mut catalogs)?;
        let cut = cutter.finish().map_err(|source| self.cut_error(source))?;
        let skipped_socket_count = sockets;
        Ok(FilesVolume { cut, catalogs, file_count, content_bytes, vanished_count, skipped_socket_count })
    }

    /// Puts one entry into the stream, read again if it changes meanwhile.
    fn store<S: ChunkSink>(
        &mut self,
        cutter: &mut VolumeCutter<S>,
        mut info: EntryInfo,
        walker: &mut Walker,
    ) -> Result<CatalogEntry, FileError> {
        let placed = match info.content.take() {
            Some(file) => match self.store_file(cutter, &mut info, &file) {
                Err(FileError::Unreadable(error)) => {
                    // Its next name, if it has one, must not refer to what is not there.
                    walker.forget(&info);
                    return Err(FileError::Unreadable(error));
                }
                placed => placed?,
            },
            None => cutter.push(&info.entry, &[], false)?,
        };
        let lost_flags = (info.lost_flags != 0).then_some(WarningKind::LostFlags { flags: info.lost_flags });
        let kinds = [
            placed.changed.then_some(WarningKind::Changed),
            lost_flags,
            info.too_many_extents.then_some(WarningKind::StoredDense),
        ];
        for kind in kinds.into_iter().flatten() {
            self.warnings.push(self.absolute(&info.entry.path), kind);
        }
        let source = SourceStamp { inode: info.status.inode, ctime: info.status.ctime };
        Ok(CatalogEntry { entry: info.entry, source, placed })
    }

    /// Puts one regular file into the stream.
    fn store_file<S: ChunkSink>(
        &self,
        cutter: &mut VolumeCutter<S>,
        info: &mut EntryInfo,
        file: &File,
    ) -> Result<Placed, FileError> {
        for reread in 0.. {
            let path = &info.entry.path;
            // A change within the tick of the last one would leave no trace, so the file is left to settle first.
            let mut restless = changed_just_now(info.status.ctime);
            if restless {
                std::thread::sleep(TICK);
                *info = reread_file(file, path).map_err(FileError::Unreadable)?;
                restless = changed_just_now(info.status.ctime);
            }
            let last = reread == REREADS_MAX;
            let is_changed = |complete: bool| {
                let after = Status::of_file(file, &info.entry.path).map_err(FileError::Unreadable)?;
                Ok::<_, FileError>(!complete || restless || info.status.content_changed(&after))
            };
            if is_large(&info.entry) {
                let mut large = cutter.begin_large(&info.entry)?;
                let complete = self.read_stored(file, &info.entry, |bytes| large.write(bytes))?;
                match is_changed(complete)? {
                    changed if last || !changed => return Ok(large.commit(changed)?),
                    _ => large.abort(),
                }
            } else {
                let mut content = Vec::with_capacity(info.entry.stored_bytes() as usize);
                let complete = self.read_stored(file, &info.entry, |bytes| {
                    content.extend_from_slice(bytes);
                    Ok(())
                })?;
                let changed = is_changed(complete)?;
                if last || !changed {
                    content.resize(info.entry.stored_bytes() as usize, 0);
                    return Ok(cutter.push(&info.entry, &content, changed)?);
                }
            }
            *info = reread_file(file, &info.entry.path).map_err(FileError::Unreadable)?;
        }
        unreachable!("the last reading is kept")
    }

    /// Reads what the stream stores of a file, and says whether all of it was there. What is missing at the end of an
    /// extent that is not the last one is given as zeros, so that later extents keep their place.
    fn read_stored(
        &self,
        file: &File,
        entry: &Entry,
        mut each: impl FnMut(&[u8]) -> Result<(), CutError>,
    ) -> Result<bool, FileError> {
        let dense;
        let extents: &[Extent] = match &entry.kind {
            EntryKind::File { sparse: Some(extents), .. } => extents,
            EntryKind::File { size, sparse: None } => {
                dense = [Extent { offset: 0, length: *size }];
                &dense
            }
            _ => &[],
        };
        let mut buffer = vec![0; READ_BYTES.min(entry.stored_bytes().max(1) as usize)];
        let mut complete = true;
        for extent in extents {
            let mut done = 0;
            while done < extent.length {
                let want = (extent.length - done).min(buffer.len() as u64) as usize;
                let got = match file.read_at(&mut buffer[..want], extent.offset + done) {
                    Ok(got) => got,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(FileError::Unreadable(unreadable(entry, error))),
                };
                if got == 0 {
                    complete = false;
                    buffer[..want].fill(0);
                }
                let given = if got == 0 { want } else { got };
                each(&buffer[..given])?;
                done += given as u64;
                self.counters.add(&self.counters.read_bytes, got as u64);
            }
        }
        Ok(complete)
    }

    /// Notes a file that cannot be read as a warning if that was accepted; else it is the caller's to report.
    fn reject(&mut self, error: &FsError) -> Option<Unreadable> {
        let path = format!("{}{}", self.prefix, error.path());
        let error = chain(error);
        if self.accept_unreadable.contains(&path) {
            self.warnings.push(path, WarningKind::Unreadable { error });
            return None;
        }
        Some(Unreadable { path, error })
    }

    fn store_segment(&self, segment: Option<Vec<u8>>, catalogs: &mut Vec<Hash>) -> Result<(), SinkError> {
        let Some(segment) = segment else { return Ok(()) };
        let name = Hash::of(&segment);
        self.sink.put_catalog(name, segment)?;
        catalogs.push(name);
        Ok(())
    }

    fn absolute(&self, path: &[u8]) -> String {
        format!("{}/{}", self.prefix, String::from_utf8_lossy(path))
    }

    fn cut_error(&self, source: CutError) -> CaptureError {
        CaptureError::Cut { volume: self.volume.clone(), source }
    }

    fn catalog_error(&self, source: CatalogError) -> CaptureError {
        CaptureError::Catalog { volume: self.volume.clone(), source }
    }
}

fn unreadable(entry: &Entry, source: io::Error) -> FsError {
    FsError::Io { action: "read", path: entry.display_path(), source }
}

/// Whether a time is now, as far as a kernel's clock of file times can tell.
fn changed_just_now(time: Timestamp) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = |secs: i128, nanos: u32| secs * 1_000_000_000 + i128::from(nanos);
    let age = nanos(now.as_secs().into(), now.subsec_nanos()) - nanos(time.secs.into(), time.nanos);
    age.unsigned_abs() < TICK.as_nanos()
}
