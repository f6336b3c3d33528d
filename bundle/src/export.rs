//! A volume's bytes in order, for the escape hatch: `.tar.zst` as the frames lie in the packs, or decoded.
//!
//! Every chunk is decoded and compared with its hash before it is handed out, in either form. What the list refers to
//! is located before the first byte goes out, so that a missing chunk is an error and not half a file.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::Hash;
use crate::frame::Decompressor;
use crate::list::ListRow;
use crate::manifest::ManifestVolume;
use crate::placement::Placement;
use crate::repository::{Repository, RepositoryError};

/// Stored bytes of one read, and content it may decode to: long enough to stream, short enough that the runs under
/// way stay within some tens of megabytes even where everything compresses to nothing.
const RUN_STORED_BYTES_MAX: u64 = 8 << 20;
const RUN_CONTENT_BYTES_MAX: u64 = 16 << 20;
/// Runs read and decoded at once.
const RUNS_AT_ONCE: usize = 3;

/// In which form a volume is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportForm {
    /// The frames as they are stored: a `.tar.zst` for a files volume, a `.zst` for a raw one.
    Compressed,
    /// Their content: a `.tar`, or the raw bytes.
    Decoded,
}

/// The bytes of a volume, in order. It ends after [`VolumeStream::len_bytes`] bytes or with an error.
pub struct VolumeStream {
    inner: BoxStream<'static, Result<Bytes, RepositoryError>>,
    len_bytes: u64,
}

impl VolumeStream {
    /// How many bytes come.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Writes all of it, and says how many bytes that were. The output is flushed, not made durable.
    pub async fn write_to<W: AsyncWrite + Unpin>(mut self, output: &mut W) -> Result<u64, ExportError> {
        let mut written = 0;
        while let Some(bytes) = self.inner.try_next().await? {
            output.write_all(&bytes).await.map_err(ExportError::Output)?;
            written += bytes.len() as u64;
        }
        output.flush().await.map_err(ExportError::Output)?;
        Ok(written)
    }
}

impl Stream for VolumeStream {
    type Item = Result<Bytes, RepositoryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next_unpin(context)
    }
}

/// Why a volume was not written out.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The repository did not give it.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The output did not take it.
    #[error("cannot write the exported volume")]
    Output(#[source] io::Error),
}

impl ExportError {
    /// What an operator can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Repository(error) => error.hint(),
            Self::Output(_) => Some("check that the output has room and that whoever reads it still does".into()),
        }
    }
}

/// A chunk within a run.
#[derive(Debug, Clone, Copy)]
struct Piece {
    chunk: Hash,
    /// Where in the run's bytes its frame begins.
    at: usize,
    stored_len: u32,
    content_len: u32,
}

/// Chunks that follow on each other both in the list and in a pack: one read.
#[derive(Debug)]
struct Run {
    pack: Hash,
    range: Range<u64>,
    content_bytes: u64,
    pieces: Vec<Piece>,
}

impl Repository {
    /// The bytes of a volume. `placement` may be the whole repository's or hold the snapshot's chunks only.
    pub async fn export(
        &self,
        volume: &ManifestVolume,
        placement: &Placement,
        form: ExportForm,
    ) -> Result<VolumeStream, RepositoryError> {
        let rows = self.chunk_list(volume).await?;
        let runs = plan_reads(&rows, placement)?;
        let len_bytes = match form {
            ExportForm::Compressed => runs.iter().map(|run| run.range.end - run.range.start).sum(),
            ExportForm::Decoded => volume.volume.stream_bytes.get(),
        };
        let repository = Arc::new(self.clone());
        let inner = stream::iter(runs)
            .map(move |run| {
                let repository = repository.clone();
                async move { read_run(&repository, run, form).await }
            })
            .buffered(RUNS_AT_ONCE)
            .map_ok(|pieces| stream::iter(pieces.into_iter().map(Ok)))
            .try_flatten()
            .boxed();
        Ok(VolumeStream { inner, len_bytes })
    }
}

fn plan_reads(rows: &[ListRow], placement: &Placement) -> Result<Vec<Run>, RepositoryError> {
    let mut runs: Vec<Run> = Vec::new();
    for row in rows {
        let place = placement.locate(&row.hash).ok_or(RepositoryError::ChunkMissing { chunk: row.hash })?;
        let mut piece = Piece { chunk: row.hash, at: 0, stored_len: place.stored_len, content_len: row.content_len };
        match runs.last_mut().filter(|run| {
            run.pack == place.pack
                && run.range.end == place.offset
                && place.range().end - run.range.start <= RUN_STORED_BYTES_MAX
                && run.content_bytes + u64::from(row.content_len) <= RUN_CONTENT_BYTES_MAX
        }) {
            Some(run) => {
                piece.at = (run.range.end - run.range.start) as usize;
                run.range.end = place.range().end;
                run.content_bytes += u64::from(row.content_len);
                run.pieces.push(piece);
            }
            None => runs.push(Run {
                pack: place.pack,
                range: place.range(),
                content_bytes: row.content_len.into(),
                pieces: vec![piece],
            }),
        }
    }
    Ok(runs)
}

async fn read_run(repository: &Repository, run: Run, form: ExportForm) -> Result<Vec<Bytes>, RepositoryError> {
    let stored = repository.pack_range(&run.pack, run.range.clone()).await?;
    let decoding = tokio::task::spawn_blocking(move || decode_run(&run, &stored, form));
    match decoding.await {
        Ok(pieces) => pieces,
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
}

fn decode_run(run: &Run, stored: &Bytes, form: ExportForm) -> Result<Vec<Bytes>, RepositoryError> {
    let mut decompressor = Decompressor::new();
    let decode = |piece: &Piece| {
        let frame = stored.slice(piece.at..piece.at + piece.stored_len as usize);
        let content = decompressor
            .decompress_exact(&frame, piece.content_len, &piece.chunk)
            .map_err(|source| RepositoryError::Chunk { chunk: piece.chunk, pack: run.pack, source: source.into() })?;
        Ok(match form {
            ExportForm::Compressed => frame,
            ExportForm::Decoded => content.into(),
        })
    };
    run.pieces.iter().map(decode).collect()
}
